"""Moving-average cross: long while the fast average is above the slow one."""

from dataclasses import dataclass
from typing import ClassVar

from lab.arrays import FloatArray
from lab.errors import SleeveError
from lab.sleeves._base import Sleeve, ranged
from lab.sleeves.own_bars import OwnBars, Prices
from lab.sleeves.signals import average_cross
from lab.sleeves.sizing import sized


@dataclass(frozen=True)
class MovingAverageCross(Sleeve):
    """Hold each instrument on the side of its fast average, with a band around none.

    Attributes
    ----------
    fast, slow : int, bars
        Lengths of the averages; `slow` at least twice `fast`.
    band : float
        Gap at which a position begins, in standard deviations of `slow` bars; it ends
        when the averages meet.

    References
    ----------
    .. [1] Brock, Lakonishok & LeBaron (1992), Simple Technical Trading Rules and the
       Stochastic Properties of Stock Returns, J. of Finance 47(5).
    """

    sleeve_id: ClassVar[str] = "moving-average-cross"

    fast: int = ranged(30, 2, 1000, tried=(10, 30, 60))
    slow: int = ranged(150, 4, 5000, tried=(60, 150, 300))
    band: float = ranged(0.1, 0.0, 3.0, tried=(0.1,))

    def check(self) -> None:
        """Refuse averages of nearly one length.

        Raises
        ------
        SleeveError
            If `slow` is below twice `fast`.
        """
        if self.slow < 2 * self.fast:
            raise SleeveError(
                f"{self.sleeve_id}: slow = {self.slow}: at least twice fast = {self.fast}"
            )

    def positions(self, panel: Prices) -> FloatArray:
        """Return target weights, see `Sleeve.positions`."""
        bars = OwnBars.of(panel)
        signal = average_cross(bars, fast=self.fast, slow=self.slow, band=self.band)
        return sized(bars, signal)
