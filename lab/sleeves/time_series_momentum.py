"""Time-series momentum: what has risen rises on, what has fallen falls on."""

from dataclasses import dataclass
from typing import ClassVar

from lab.arrays import FloatArray
from lab.sleeves._base import Sleeve, ranged
from lab.sleeves.own_bars import OwnBars, Prices
from lab.sleeves.signals import trend
from lab.sleeves.sizing import sized


@dataclass(frozen=True)
class TimeSeriesMomentum(Sleeve):
    """Hold each instrument in the direction of its own past move, sized by risk.

    Attributes
    ----------
    lookback : int, bars
        Length of the past move.
    threshold : float
        Standard deviations it must exceed; the position ends when the move turns.

    References
    ----------
    .. [1] Moskowitz, Ooi & Pedersen (2012), Time Series Momentum, J. of Financial
       Economics 104(2).
    """

    sleeve_id: ClassVar[str] = "time-series-momentum"

    lookback: int = ranged(250, 5, 5000, tried=(60, 120, 250, 500))
    threshold: float = ranged(0.5, 0.0, 3.0, tried=(0.5, 1.0))

    def positions(self, panel: Prices) -> FloatArray:
        """Return target weights, see `Sleeve.positions`."""
        bars = OwnBars.of(panel)
        return sized(
            bars, trend(bars, lookback=self.lookback, threshold=self.threshold)
        )
