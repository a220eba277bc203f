"""Volatility-targeted trend: three speeds of trend, less of it in rough times."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lab.arrays import FloatArray
from lab.sleeves._base import Sleeve, ranged
from lab.sleeves.own_bars import OwnBars, Prices
from lab.sleeves.signals import trend
from lab.sleeves.sizing import sized, targeted

_LENGTHS = (1, 3, 12)


@dataclass(frozen=True)
class VolatilityTargetedTrend(Sleeve):
    """Trends of 1, 3 and 12 periods, the book scaled down to a volatility.

    Attributes
    ----------
    period : int, bars
        Shortest of the three lookbacks: about a month of daily bars.
    target : float
        Volatility of the book a year, never reached by borrowing.

    References
    ----------
    .. [1] Hurst, Ooi & Pedersen (2017), A Century of Evidence on Trend-Following
       Investing, J. of Portfolio Management 44(1).
    .. [2] Moreira & Muir (2017), Volatility-Managed Portfolios, J. of Finance 72(4).
    """

    sleeve_id: ClassVar[str] = "volatility-targeted-trend"

    period: int = ranged(20, 2, 400, tried=(20, 40, 80))
    target: float = ranged(0.03, 0.001, 1.0, tried=(0.015, 0.03))

    def positions(self, panel: Prices) -> FloatArray:
        """Return target weights, see `Sleeve.positions`."""
        bars = OwnBars.of(panel)
        each = [
            trend(bars, lookback=self.period * length, threshold=0.5)
            for length in _LENGTHS
        ]
        weights = sized(bars, np.sum(each, axis=0) / len(each))
        return targeted(bars, weights, target=self.target)
