"""Donchian breakout: follow a close beyond the closes of many bars."""

from dataclasses import dataclass
from typing import ClassVar

from lab.arrays import FloatArray
from lab.sleeves._base import Sleeve, ranged
from lab.sleeves.own_bars import OwnBars, Prices
from lab.sleeves.signals import breakout
from lab.sleeves.sizing import sized


@dataclass(frozen=True)
class DonchianBreakout(Sleeve):
    """Go with a break of the channel until the other side of a shorter one breaks.

    Attributes
    ----------
    entry : int, bars
        Length of the channel whose break opens a position.
    exit_share : float
        Length of the channel whose break ends it, as a share of `entry`.

    References
    ----------
    .. [1] Faith (2007), Way of the Turtle: Donchian's channels of 20/10 and 55/20.
    """

    sleeve_id: ClassVar[str] = "donchian-breakout"

    entry: int = ranged(55, 2, 5000, tried=(20, 55, 120, 250))
    exit_share: float = ranged(0.5, 0.05, 1.0, tried=(0.5, 1.0))

    def positions(self, panel: Prices) -> FloatArray:
        """Return target weights, see `Sleeve.positions`."""
        bars = OwnBars.of(panel)
        leave = max(1, round(self.entry * self.exit_share))
        return sized(bars, breakout(bars, entry=self.entry, leave=leave))
