"""What following a forecast's direction would have earned, before costs."""

import numpy as np

from lab.arrays import BoolArray, FloatArray, IntArray
from lab.errors import ScoringError


def sharpe_ratio(returns: FloatArray, *, periods_per_year: float) -> float | None:
    """Return the annualised Sharpe ratio of non-overlapping returns.

    Mean over sample standard deviation, times the root of the periods a year. None for
    fewer than two returns or returns that do not vary.

    Parameters
    ----------
    returns : ndarray of shape (n_periods,), float64
        Returns of one period each.
    periods_per_year : float
        For forecasts over `horizon` bars: bars a year / horizon.

    Raises
    ------
    ScoringError
        If `periods_per_year` is not positive.

    References
    ----------
    .. [1] Sharpe (1994), The Sharpe ratio, J. Portfolio Management 21, 49-58.
    """
    if not periods_per_year > 0:
        raise ScoringError(f"periods per year {periods_per_year}: must be positive")
    if len(returns) < 2:
        return None
    deviation = float(np.std(returns, ddof=1))
    if deviation == 0:
        return None
    return float(np.mean(returns)) / deviation * float(np.sqrt(periods_per_year))


def hit_rate(predicted: IntArray, actual: IntArray) -> float | None:
    """Return the share of right directions; flat ones on either side do not count.

    Parameters
    ----------
    predicted, actual : ndarray of shape (n_obs,), int64
        Signs: 1 up, -1 down, 0 flat.
    """
    counts: BoolArray = (predicted != 0) & (actual != 0)
    if not counts.any():
        return None
    return float(np.mean(predicted[counts] == actual[counts]))
