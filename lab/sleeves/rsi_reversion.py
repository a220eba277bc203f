"""RSI reversion: buy what fell too fast, sell what rose too fast."""

from dataclasses import dataclass
from typing import ClassVar

from lab.arrays import FloatArray
from lab.sleeves._base import Sleeve, ranged
from lab.sleeves.own_bars import OwnBars, Prices
from lab.sleeves.signals import index_reversion
from lab.sleeves.sizing import sized


@dataclass(frozen=True)
class RsiReversion(Sleeve):
    """Trade against an extreme of Wilder's index until it is back at 50.

    Attributes
    ----------
    period : int, bars
        Of Wilder's smoothing.
    edge : float, points
        Distance from 50 at which a position begins: 20 means below 30 and above 70.

    References
    ----------
    .. [1] Wilder (1978), New Concepts in Technical Trading Systems, section VI.
    """

    sleeve_id: ClassVar[str] = "rsi-reversion"

    period: int = ranged(14, 2, 1000, tried=(7, 14, 28))
    edge: float = ranged(20.0, 1.0, 49.0, tried=(15.0, 25.0))

    def positions(self, panel: Prices) -> FloatArray:
        """Return target weights, see `Sleeve.positions`."""
        bars = OwnBars.of(panel)
        return sized(bars, index_reversion(bars, period=self.period, edge=self.edge))
