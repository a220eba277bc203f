"""How large a position is: by risk, never more than the book.

An instrument's share of the book is one over its risk, as known on the row, refreshed
once a calendar week: daily changes of an estimate are not worth their costs. Shares add
up to at most 1 over the instruments that have one, whether held or not, so that opening
one position does not move the others.
"""

from typing import Final

import numpy as np

from lab.arrays import AnyArray, FloatArray, IntArray, TimeArray
from lab.sleeves import rolling
from lab.sleeves.own_bars import RISK_BARS, OwnBars, Prices

MAX_SHARE: Final = 0.2
"""No instrument's share is larger, unless there are fewer than ten."""

_WEEK_DAYS: Final = 7
_MONDAY: Final = 4  # 1970-01-05, in days since 1970
_YEAR_DAYS: Final = 365.25


def first_rows(ts: TimeArray, *, days: int = _WEEK_DAYS) -> IntArray:
    """Return the first row of each row's calendar week, shape (n_obs,).

    Parameters
    ----------
    ts : ndarray of shape (n_obs,), datetime64[us]
        Times of the rows, increasing.
    days : int
        Length of the period; periods are counted from Monday, 5 January 1970, UTC.

    Notes
    -----
    Point in time: where a period begins does not depend on where the rows do.
    """
    day = ts.astype("datetime64[D]").astype(np.int64)
    return first_of_runs((day - _MONDAY) // days)


def first_of_runs(label: AnyArray) -> IntArray:
    """Return the first row of each run of equal labels, shape (n_obs,)."""
    row = np.arange(len(label))
    is_new = np.append(True, label[1:] != label[:-1])[: len(label)]
    return np.asarray(np.maximum.accumulate(np.where(is_new, row, 0)), dtype=np.int64)


def refreshed(values: FloatArray, ts: TimeArray) -> FloatArray:
    """Return each column's first number of the calendar week; NaN where it is NaN.

    Parameters
    ----------
    values : ndarray of shape (n_obs, n_assets), float64
        NaN where there is none.
    ts : ndarray of shape (n_obs,), datetime64[us]
        Times of the rows.

    Notes
    -----
    Point in time: row t uses rows of its week up to t.
    """
    held, week = _weekly(values, ts)
    return np.where(np.isfinite(values), held[week], np.nan)


def inverse_shares(
    risk: FloatArray, ts: TimeArray, *, cap: float = MAX_SHARE
) -> FloatArray:
    """Return shares in proportion to one over the risk, refreshed weekly.

    Parameters
    ----------
    risk : ndarray of shape (n_obs, n_assets), float64
        Positive; NaN where the instrument takes no part.
    ts : ndarray of shape (n_obs,), datetime64[us]
        Times of the rows.
    cap : float
        Largest share; what is cut off is not given to others. Not below 2/n of the n
        instruments that take part: twice an equal part.

    Returns
    -------
    ndarray of shape (n_obs, n_assets), float64
        At least 0, rows add up to at most 1.
    """
    held, week = _weekly(risk, ts)
    inverse = np.where(np.isfinite(risk), (1.0 / held)[week], 0.0)
    total = inverse.sum(axis=1, keepdims=True)
    shares = np.divide(inverse, total, out=np.zeros_like(inverse), where=total > 0.0)
    n_live = np.count_nonzero(inverse, axis=1)[:, None]
    limit = np.maximum(cap, 2.0 / np.maximum(n_live, 1))
    return np.asarray(np.minimum(shares, limit))


def sized(panel: Prices, signal: FloatArray, *, cap: float = MAX_SHARE) -> FloatArray:
    """Return weights: a signal times each instrument's inverse-volatility share.

    Parameters
    ----------
    panel : AlignedPanel or OwnBars
        Prices.
    signal : ndarray of shape (n_obs, n_assets), float64
        In [-1, 1].
    cap : float
        As in `inverse_shares`.

    Returns
    -------
    ndarray of shape (n_obs, n_assets), float64

    Notes
    -----
    Point in time: row t uses bars up to t.
    """
    bars = OwnBars.of(panel)
    return signal * inverse_shares(bars.risk, bars.panel.ts, cap=cap)


def targeted(panel: Prices, weights: FloatArray, *, target: float) -> FloatArray:
    """Scale weights down where the book of the recent past was riskier than `target`.

    The book's volatility is that of the weights decided a row before, over the rows of
    `RISK_BARS`; the scale is refreshed weekly and never above 1.

    Parameters
    ----------
    panel : AlignedPanel or OwnBars
        Prices.
    weights : ndarray of shape (n_obs, n_assets), float64
        To be scaled.
    target : float
        A year.

    Returns
    -------
    ndarray of shape (n_obs, n_assets), float64

    Notes
    -----
    Point in time: row t uses rows up to t.

    References
    ----------
    .. [1] Moreira & Muir (2017), Volatility-Managed Portfolios, J. of Finance 72(4).
    """
    bars = OwnBars.of(panel)
    moves = np.where(bars.has_bar, bars.spread(np.expm1(bars.growth)), 0.0)
    book = (np.nan_to_num(rolling.lagged(weights, 1)) * moves).sum(axis=1)
    ts = bars.panel.ts
    window = RISK_BARS[bars.panel.timeframe]
    days = ts.astype("datetime64[us]").astype(np.float64) / 86_400e6
    elapsed = days - rolling.lagged(days, window)
    variance = rolling.rolling_sum(np.square(book), window) / elapsed * _YEAR_DAYS
    risk = np.sqrt(np.where(variance > 0.0, variance, np.nan))
    scale = np.minimum(1.0, np.nan_to_num(target / risk, nan=1.0))
    return weights * scale[first_rows(ts), None]


def _weekly(values: FloatArray, ts: TimeArray) -> tuple[FloatArray, IntArray]:
    # Each week's first number of each column, and each row's week. The number may be of
    # a later row than one that has none; a row that has one is never before it.
    n_obs = len(values)
    starts, week = np.unique(first_rows(ts), return_inverse=True)
    if n_obs == 0:
        return values, week
    row = np.where(np.isfinite(values), np.arange(n_obs)[:, None], n_obs)
    first = np.minimum.reduceat(row, starts, axis=0)
    held = np.take_along_axis(values, np.minimum(first, n_obs - 1), axis=0)
    return np.where(first < n_obs, held, np.nan), week
