"""Cross-sectional momentum: long the strongest instruments, short the weakest."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lab.arrays import FloatArray
from lab.sleeves._base import Sleeve, ranged
from lab.sleeves.own_bars import OwnBars, Prices
from lab.sleeves.signals import relative_strength
from lab.sleeves.sizing import MAX_SHARE, inverse_shares


@dataclass(frozen=True)
class CrossSectionalMomentum(Sleeve):
    """Half of the book in the winners, half against the losers, chosen weekly.

    Attributes
    ----------
    lookback : int, bars
        Length of the past move, in its own standard deviations.
    skip : int, bars
        The newest bars, left out: the shortest moves revert.
    share : float
        Of the instruments on each side.

    References
    ----------
    .. [1] Jegadeesh & Titman (1993), Returns to Buying Winners and Selling Losers, J. of
       Finance 48(1).
    .. [2] Asness, Moskowitz & Pedersen (2013), Value and Momentum Everywhere, J. of
       Finance 68(3).
    """

    sleeve_id: ClassVar[str] = "cross-sectional-momentum"

    lookback: int = ranged(250, 5, 5000, tried=(60, 120, 250, 500))
    skip: int = ranged(5, 0, 500, tried=(5,))
    share: float = ranged(0.3, 0.05, 0.5, tried=(0.2, 0.33))

    def positions(self, panel: Prices) -> FloatArray:
        """Return target weights, see `Sleeve.positions`."""
        bars = OwnBars.of(panel)
        side = relative_strength(
            bars, lookback=self.lookback, skip=self.skip, share=self.share
        )
        risk = bars.risk
        legs = [
            inverse_shares(
                np.where(chosen, risk, np.nan), bars.panel.ts, cap=2 * MAX_SHARE
            )
            for chosen in (side > 0.0, side < 0.0)
        ]
        return 0.5 * (legs[0] - legs[1])
