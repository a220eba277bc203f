"""What a choice earned: net of costs, less for drawdown; and the book that earns it.

A choice made on row t rests on what was known when row t was; it is traded at the close
of row t + 1 and earns from row t + 2 on (`EARNS_AFTER`). Sleeves' rows are marked from
close to close, so earning row t + 1 as well would trade at the close that was decided on.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from lab.arrays import FloatArray
from lab.errors import PolicyError

EARNS_AFTER: Final = 2
"""Rows from the decision to the first return that it earns."""

HOLD_DAYS: Final = 5
"""Rows for which a choice is kept, a week of trading: regimes and sleeves that lead do
not change from day to day, and moving between them costs."""

BPS: Final = 1e-4
_RUIN: Final = 1e-9


@dataclass(frozen=True, slots=True)
class RewardRules:
    """How a choice is rewarded.

    Attributes
    ----------
    cost_bps : float
        Cost of one unit of turnover between sleeves, beside the sleeves' own costs. A
        sleeve's book is at most its share, and nothing is netted between sleeves: an
        upper bound of what moving costs.
    drawdown_penalty : float
        Reward lost per unit by which the drawdown grows. Chance alone makes a book's
        drawdown grow by about 0.07 of its daily deviation a day in an episode: at 0.1
        it takes an annual Sharpe ratio of about 0.1 to be worth leaving cash.
    scale : float
        What one unit of reward is, as a daily return.

    Raises
    ------
    PolicyError
        If a value is not finite, is negative, or the scale is 0.
    """

    cost_bps: float = 10.0
    drawdown_penalty: float = 0.1
    scale: float = 0.01

    def __post_init__(self) -> None:
        """Refuse rules that reward nothing."""
        values = (self.cost_bps, self.drawdown_penalty, self.scale)
        if not all(math.isfinite(one) and one >= 0 for one in values) or not self.scale:
            raise PolicyError(f"reward rules {values}: finite, >= 0, scale above 0")

    def reward(self, net: float, drawdown_growth: float) -> float:
        """Return the reward of one row.

        Parameters
        ----------
        net : float
            Return of the book after costs.
        drawdown_growth : float
            How much its drawdown grew by it; a smaller drawdown is no reward.
        """
        grown = math.log(max(1.0 + net, _RUIN))
        lost = self.drawdown_penalty * max(drawdown_growth, 0.0)
        return (grown - lost) / self.scale


class Book:
    """A book of sleeves: what is held, what it earned, how far it is under its peak.

    Parameters
    ----------
    n_sleeves : int
        Sleeves.
    cost_bps : float
        Cost of one unit of turnover.
    """

    def __init__(self, n_sleeves: int, *, cost_bps: float) -> None:
        self._cost = cost_bps * BPS
        self._held: FloatArray = np.zeros(n_sleeves)
        self._equity = self._peak = 1.0
        self._under = 0.0  # drawdown after the newest row earned
        self.drawdown = 0.0
        """Drawdown that is known when the next choice is made: one row older."""

    def earn(
        self, target: FloatArray, returns: FloatArray, ease: float = 1.0
    ) -> tuple[float, float]:
        """Trade to `target`, hold it for one row; return net return and turnover.

        Parameters
        ----------
        target : ndarray of shape (n_sleeves,), float64
            Weights, summing to 1 at most.
        returns : ndarray of shape (n_sleeves,), float64
            The sleeves' returns on the row that it earns.
        ease : float
            Share of the cost that is charged.
        """
        turnover = float(np.abs(target - self._held).sum())
        net = max(float(target @ returns) - self._cost * ease * turnover, -1.0)
        self.drawdown = self._under
        self._equity = max(self._equity * (1.0 + net), 0.0)
        self._peak = max(self._peak, self._equity)
        self._under = 1.0 - self._equity / self._peak
        self._held = target * (1.0 + returns) / max(1.0 + net, _RUIN)
        return net, turnover

    @property
    def growth(self) -> float:
        """By how much the newest row grew the drawdown; negative if it shrank."""
        return self._under - self.drawdown
