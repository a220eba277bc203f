"""How large a position is: by risk, never more than the book.

An instrument's share of the book is one over its risk, as known on the row, refreshed
once a calendar week: daily changes of an estimate are not worth their costs. Shares add
up to at most 1 over the instruments that have one, whether held or not, so that opening
one position does not move the others.
"""

from typing import Final

import numpy as np

from lab.arrays import AnyArray, FloatArray, IntArray, TimeArray
from lab.backtest.panel import AlignedPanel
from lab.sleeves import rolling
from lab.sleeves.own_bars import OwnBars

RISK_BARS: Final = {"1d": 60, "1h": 480}
"""Bars over which volatility is measured, by timeframe."""

MAX_SHARE: Final = 0.2
"""No instrument's share is larger, unless there are fewer than five."""

_WEEK_DAYS: Final = 7
_MONDAY: Final = 4  # 1970-01-05, in days since 1970
_YEAR_DAYS: Final = 365.25


def volatility(
    panel: AlignedPanel, *, lookback: int | None = None, bars: OwnBars | None = None
) -> FloatArray:
    """Return the volatility of the price a square root of a day.

    Squared log returns of the last `lookback` own bars, summed, over the days they
    took: instruments that trade 7 hours or 24 are comparable. The mean is taken as 0.

    Parameters
    ----------
    panel : AlignedPanel
        Prices.
    lookback : int, bars
        `RISK_BARS` of the timeframe if not given.
    bars : OwnBars, optional
        Of the panel, where at hand.

    Returns
    -------
    ndarray of shape (n_obs, n_assets), float64
        Positive; NaN with too short a history, on a price that never moved, and where
        the newest bar is too old.

    Notes
    -----
    Point in time: row t uses bars up to t.

    References
    ----------
    .. [1] J.P. Morgan/Reuters (1996), RiskMetrics Technical Document, 4th ed.
    """
    bars = bars or OwnBars.of(panel)
    window = lookback or RISK_BARS[panel.timeframe]
    square = bars.total(np.square(bars.growth), window)
    days = bars.total(bars.step_days, window)
    is_known = (square > 0.0) & (days > 0.0)
    variance = np.divide(square, days, out=np.full_like(square, np.nan), where=is_known)
    return bars.spread(np.sqrt(variance), missing=np.nan)


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
    n_obs = len(values)
    if n_obs == 0:
        return values
    row = np.arange(n_obs)[:, None]
    is_known = np.isfinite(values)
    newest = np.maximum.accumulate(np.where(is_known, row, -1), axis=0)
    before = np.vstack([np.full_like(newest[:1], -1), newest[:-1]])
    is_fresh = is_known & (before < first_rows(ts)[:, None])
    source = np.maximum.accumulate(np.where(is_fresh, row, 0), axis=0)
    held = np.take_along_axis(values, source, axis=0)
    return np.where(is_known, held, np.nan)


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
        Largest share; what is cut off is not given to others. Not below 1/n of the n
        instruments that take part.

    Returns
    -------
    ndarray of shape (n_obs, n_assets), float64
        At least 0, rows add up to at most 1.
    """
    inverse = np.nan_to_num(1.0 / refreshed(risk, ts), nan=0.0)
    total = inverse.sum(axis=1, keepdims=True)
    shares = np.divide(inverse, total, out=np.zeros_like(inverse), where=total > 0.0)
    n_live = np.count_nonzero(inverse, axis=1)[:, None]
    limit = np.maximum(cap, 1.0 / np.maximum(n_live, 1))
    return np.asarray(np.minimum(shares, limit))


def sized(
    panel: AlignedPanel, signal: FloatArray, *, cap: float = MAX_SHARE
) -> FloatArray:
    """Return weights: a signal times each instrument's inverse-volatility share.

    Parameters
    ----------
    panel : AlignedPanel
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
    return signal * inverse_shares(volatility(panel), panel.ts, cap=cap)


def targeted(panel: AlignedPanel, weights: FloatArray, *, target: float) -> FloatArray:
    """Scale weights down where the book of the recent past was riskier than `target`.

    The book's volatility is that of the weights decided a row before, over the rows of
    `RISK_BARS`; the scale is refreshed weekly and never above 1.

    Parameters
    ----------
    panel : AlignedPanel
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
    window = RISK_BARS[panel.timeframe]
    days = panel.ts.astype("datetime64[us]").astype(np.float64) / 86_400e6
    elapsed = days - rolling.lagged(days, window)
    variance = rolling.rolling_sum(np.square(book), window) / elapsed * _YEAR_DAYS
    risk = np.sqrt(np.where(variance > 0.0, variance, np.nan))
    scale = np.minimum(1.0, np.nan_to_num(target / risk, nan=1.0))
    return weights * scale[first_rows(panel.ts), None]
