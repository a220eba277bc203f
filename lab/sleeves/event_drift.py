"""Event drift: prices go on in the direction of a surprise for a while."""

from dataclasses import dataclass
from typing import ClassVar

from lab.arrays import FloatArray
from lab.sleeves._base import Sleeve, ranged
from lab.sleeves.own_bars import OwnBars, Prices
from lab.sleeves.signals import surprise_drift
from lab.sleeves.sizing import sized


@dataclass(frozen=True)
class EventDrift(Sleeve):
    """Hold an instrument for some bars in the direction of its newest large surprise.

    Attributes
    ----------
    hold : int, bars
        How long; the next large surprise begins anew.
    threshold : float
        Size of a large surprise, in standard deviations of those before it.

    References
    ----------
    .. [1] Andersen, Bollerslev, Diebold & Vega (2003), Micro Effects of Macro
       Announcements, American Economic Review 93(1).
    .. [2] Bernard & Thomas (1989), Post-Earnings-Announcement Drift, J. of Accounting
       Research 27.
    """

    sleeve_id: ClassVar[str] = "event-drift"

    hold: int = ranged(5, 1, 500, tried=(2, 5, 10, 20))
    threshold: float = ranged(1.0, 0.1, 3.0, tried=(0.5, 1.5))

    def span(self) -> int:
        """Return how many rows a position may live on: as long as it is held."""
        return self.hold

    def positions(self, panel: Prices) -> FloatArray:
        """Return target weights, see `Sleeve.positions`."""
        bars = OwnBars.of(panel)
        signal = surprise_drift(bars, hold=self.hold, threshold=self.threshold)
        return sized(bars, signal)
