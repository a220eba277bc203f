"""phase37: the locked baseline that every candidate is measured against.

One portfolio of fixed sleeves with fixed weights: a year's momentum, the 50/200 cross,
the turtles' 55/20 channel, relative strength of a year less its last month, and a little
of Bollinger's 20 bars; on hourly bars the same in weeks instead of months. The parameters
are the books', none is fitted, and nothing may change: `LOCKED_HASH` is the SHA-256 of
all parts, their parameters and weights, and a test compares them. Whoever wants another
baseline gives it another name.
"""

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final

import numpy as np

from lab.arrays import FloatArray
from lab.backtest.panel import AlignedPanel
from lab.sleeves._base import Sleeve
from lab.sleeves.bollinger_reversion import BollingerReversion
from lab.sleeves.cross_sectional_momentum import CrossSectionalMomentum
from lab.sleeves.donchian_breakout import DonchianBreakout
from lab.sleeves.moving_average_cross import MovingAverageCross
from lab.sleeves.own_bars import OwnBars
from lab.sleeves.time_series_momentum import TimeSeriesMomentum

RUNTIME_WEIGHT: Final = 1.0
"""Share of the book that the baseline trades."""

PARTS: Final = MappingProxyType(
    {
        "1d": (
            (0.30, TimeSeriesMomentum(lookback=250, threshold=0.5)),
            (0.25, MovingAverageCross(fast=50, slow=200, band=0.1)),
            (0.20, DonchianBreakout(entry=55, exit_share=0.35)),
            (0.15, CrossSectionalMomentum(lookback=250, skip=20, share=0.3)),
            (0.10, BollingerReversion(lookback=20, width=2.0)),
        ),
        "1h": (
            (0.30, TimeSeriesMomentum(lookback=2000, threshold=0.5)),
            (0.25, MovingAverageCross(fast=240, slow=960, band=0.1)),
            (0.20, DonchianBreakout(entry=500, exit_share=0.35)),
            (0.15, CrossSectionalMomentum(lookback=2000, skip=120, share=0.3)),
            (0.10, BollingerReversion(lookback=120, width=2.0)),
        ),
    }
)
"""Weight and sleeve of each part, by timeframe; the weights add up to 1."""

LOCKED_HASH: Final = "775e1b62611dab548a49b9ea99cca3189dbd2020668b54cb7431474406b2db96"
"""Content hash of the baseline. It does not change."""


@dataclass(frozen=True)
class Phase37(Sleeve):
    """The locked blend; it has no parameter."""

    sleeve_id: ClassVar[str] = "phase37"

    def positions(self, panel: AlignedPanel) -> FloatArray:
        """Return target weights, see `Sleeve.positions`."""
        bars = OwnBars.of(panel)
        blend = np.zeros(panel.close.shape)
        for weight, part in PARTS[panel.timeframe]:
            blend += weight * part.positions(bars)
        return blend

    @property
    def configuration(self) -> str:
        """Canonical JSON of the parts, their parameters and weights."""
        parts = {
            timeframe: [
                {
                    "weight": weight,
                    "sleeve": part.sleeve_id,
                    "parameters": part.parameters,
                }
                for weight, part in blend
            ]
            for timeframe, blend in PARTS.items()
        }
        content = {"sleeve": self.sleeve_id, "parts": parts, "weight": RUNTIME_WEIGHT}
        return json.dumps(content, sort_keys=True, separators=(",", ":"))
