"""What following a model's forecasts means; one file each names the model."""

from dataclasses import dataclass

from lab.arrays import FloatArray
from lab.backtest.context import HORIZONS
from lab.errors import SleeveError
from lab.sleeves._base import Sleeve, ranged
from lab.sleeves.own_bars import OwnBars, Prices
from lab.sleeves.signals import forecast_side
from lab.sleeves.sizing import inverse_shares


@dataclass(frozen=True)
class Follower(Sleeve):
    """Take the side of a model's median, the more the narrower its band.

    Attributes
    ----------
    threshold : float
        Move of the median at which a position begins, as a share of the width of the
        band from p10 to p90; it ends when the median turns.
    """

    threshold: float = ranged(0.1, 0.0, 2.0, tried=(0.05, 0.1, 0.2, 0.4))

    def span(self) -> int:
        """Return how many rows a position may live on: the longest horizon followed."""
        return max(HORIZONS.values())

    def positions(self, panel: Prices) -> FloatArray:
        """Return target weights, see `Sleeve.positions`.

        Raises
        ------
        SleeveError
            If the panel has no forecasts of the model.
        """
        bars = OwnBars.of(panel)
        grid = bars.panel.forecasts.get(self.needs)
        if grid is None:
            raise SleeveError(
                f"{self.sleeve_id}: the panel has no {self.needs} forecasts"
            )
        side = forecast_side(grid, threshold=self.threshold)
        return side * inverse_shares(grid.width, bars.panel.ts)
