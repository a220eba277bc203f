"""Hour of the week: what has followed this hour for many weeks may follow it again.

On daily bars the hours are days of the week.
"""

from dataclasses import dataclass
from typing import ClassVar

from lab.arrays import FloatArray
from lab.sleeves._base import Sleeve, ranged
from lab.sleeves.own_bars import OwnBars, Prices
from lab.sleeves.signals import seasonality
from lab.sleeves.sizing import sized


@dataclass(frozen=True)
class HourOfWeek(Sleeve):
    """Take the side of the bar that came after this hour in the weeks before.

    Attributes
    ----------
    weeks : int
        Times that this hour came before.
    threshold : float
        Student's t that their mean must exceed.
    hurdle_bps : float
        Size that their mean must exceed too: in and out at 10 bps cost 20.

    References
    ----------
    .. [1] French (1980), Stock Returns and the Weekend Effect, J. of Financial
       Economics 8(1).
    .. [2] Heston, Korajczyk & Sadka (2010), Intraday Patterns in the Cross-Section of
       Stock Returns, J. of Finance 65(4).
    """

    sleeve_id: ClassVar[str] = "hour-of-week"

    weeks: int = ranged(26, 4, 520, tried=(26, 52))
    threshold: float = ranged(2.0, 0.0, 10.0, tried=(2.0, 3.0))
    hurdle_bps: float = ranged(20.0, 0.0, 1000.0, tried=(20.0,))

    def positions(self, panel: Prices) -> FloatArray:
        """Return target weights, see `Sleeve.positions`."""
        bars = OwnBars.of(panel)
        signal = seasonality(
            bars,
            weeks=self.weeks,
            threshold=self.threshold,
            hurdle_bps=self.hurdle_bps,
        )
        return sized(bars, signal)
