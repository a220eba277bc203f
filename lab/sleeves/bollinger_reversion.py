"""Bollinger reversion: buy below the lower band, sell above the upper one."""

from dataclasses import dataclass
from typing import ClassVar

from lab.arrays import FloatArray
from lab.sleeves._base import Sleeve, ranged
from lab.sleeves.own_bars import OwnBars, Prices
from lab.sleeves.signals import band_reversion
from lab.sleeves.sizing import sized


@dataclass(frozen=True)
class BollingerReversion(Sleeve):
    """Trade against a close outside the bands until the price is back at the mean.

    Attributes
    ----------
    lookback : int, bars
        Of the mean and the standard deviation.
    width : float
        Standard deviations between mean and band.

    References
    ----------
    .. [1] Bollinger (2002), Bollinger on Bollinger Bands.
    """

    sleeve_id: ClassVar[str] = "bollinger-reversion"

    lookback: int = ranged(20, 3, 2000, tried=(20, 60, 120))
    width: float = ranged(2.0, 0.5, 5.0, tried=(1.5, 2.0, 2.5))

    def positions(self, panel: Prices) -> FloatArray:
        """Return target weights, see `Sleeve.positions`."""
        bars = OwnBars.of(panel)
        signal = band_reversion(bars, lookback=self.lookback, width=self.width)
        return sized(bars, signal)
