"""What a policy is shown beside: buy-and-hold, equal weight, phase37."""

from typing import Final

import numpy as np

from lab.arrays import FloatArray
from lab.errors import PolicyError
from lab.policy.days import SleeveDays
from lab.policy.rewards import EARNS_AFTER, Book

BASELINE: Final = "phase37"


def weighted(
    days: SleeveDays, weights: FloatArray, *, rows: range, cost_bps: float
) -> FloatArray:
    """Return the net returns of fixed weights, brought back to them every day.

    Parameters
    ----------
    days : SleeveDays
        Returns.
    weights : ndarray of shape (n_sleeves,), float64
        Summing to 1 at most.
    rows : range
        Rows of decisions, as in `lab.policy.evaluate.walk`.
    cost_bps : float
        Cost of one unit of turnover.

    Returns
    -------
    ndarray of shape (n,), float64
        Of the days `EARNS_AFTER` after the rows, as far as there are any.
    """
    stop = min(rows.stop, days.n_days - EARNS_AFTER)
    book = Book(len(days.sleeves), cost_bps=cost_bps)
    earned = [
        book.earn(weights, days.net[row + EARNS_AFTER])[0]
        for row in range(rows.start, stop)
    ]
    return np.array(earned)


def equal_weight(days: SleeveDays, *, rows: range, cost_bps: float) -> FloatArray:
    """Return the net returns of all sleeves alike.

    Parameters
    ----------
    days, rows, cost_bps
        As in `weighted`.
    """
    shares = np.full(len(days.sleeves), 1.0 / len(days.sleeves))
    return weighted(days, shares, rows=rows, cost_bps=cost_bps)


def baseline(days: SleeveDays, *, rows: range, cost_bps: float) -> FloatArray:
    """Return the net returns of the locked baseline alone.

    Parameters
    ----------
    days, rows, cost_bps
        As in `weighted`.

    Raises
    ------
    PolicyError
        If it is not among the sleeves.
    """
    if BASELINE not in days.sleeves:
        raise PolicyError(f"{BASELINE} has no returns: a policy is measured by it")
    shares = np.zeros(len(days.sleeves))
    shares[days.sleeves.index(BASELINE)] = 1.0
    return weighted(days, shares, rows=rows, cost_bps=cost_bps)


def buy_and_hold(market: FloatArray, *, rows: range, cost_bps: float) -> FloatArray:
    """Return the returns of a market bought on the first day and never traded again.

    Parameters
    ----------
    market : ndarray of shape (n_days,), float64
        The market's simple returns on the days; NaN, before its first bar, earns 0.
    rows, cost_bps
        As in `weighted`.
    """
    stop = min(rows.stop, len(market) - EARNS_AFTER)
    earned = np.nan_to_num(market[rows.start + EARNS_AFTER : stop + EARNS_AFTER])
    if len(earned):
        earned[0] -= cost_bps * 1e-4
    return np.asarray(earned, dtype=np.float64)
