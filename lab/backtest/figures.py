"""What a series of returns amounts to, per year and at its worst.

Everything is annualised by the observations that were seen: their number over the time
between the first and the last, never an assumed number of trading days.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from lab.arrays import FloatArray, IntArray, TimeArray
from lab.backtest.panel import AlignedPanel
from lab.errors import BacktestError

_DAY: Final = np.timedelta64(86_400_000_000, "us")
_YEAR: Final = np.timedelta64(31_557_600_000_000, "us")  # 365.25 days
_SHARE: Final = 0.01  # of a bar's value that a book may trade


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one series of returns; None where a figure is not defined.

    Attributes
    ----------
    sharpe : float or None
        Mean over sample standard deviation, annualised; None without spread.
    sortino : float or None
        Mean over the root mean square of the negative returns, annualised; None
        without a loss.
    calmar : float or None
        Annual return over the largest drawdown; None without a drawdown.
    max_drawdown : float
        Largest fall from a peak of the compounded equity, as a positive share.
    return_net : float
        Compounded over the whole series.
    annual_return : float or None
        The growth rate a year that gives it; None for fewer than two observations.
    volatility : float or None
        Sample standard deviation, annualised.
    turnover : float or None
        Times the book was turned over a year; None if not given.
    exposure : float or None
        Mean of the sum of absolute weights; None if not given.
    trades : int or None
        None if not given.
    n_obs : int
        Observations.
    capacity : float or None
        Book size beyond which its largest holding takes more than 1 % of a bar, see
        `book_capacity`.
    """

    sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown: float
    return_net: float
    annual_return: float | None
    volatility: float | None
    turnover: float | None
    exposure: float | None
    trades: int | None
    n_obs: int
    capacity: float | None


def figures(
    returns: FloatArray,
    ts: TimeArray,
    *,
    turnover: FloatArray | None = None,
    exposure: FloatArray | None = None,
    trades: IntArray | None = None,
    capacity: float | None = None,
) -> Figures:
    """Return the figures of a series.

    Parameters
    ----------
    returns : ndarray of shape (n_obs,), float64
        Simple returns of the book, net or gross as the caller chose.
    ts : ndarray of shape (n_obs,), datetime64[us]
        When, increasing.
    turnover, exposure : ndarray of shape (n_obs,), float64, optional
        Of each observation.
    trades : ndarray of shape (n_obs,), int64, optional
        Of each observation.
    capacity : float, optional
        Passed through.

    Raises
    ------
    BacktestError
        If there are no returns, one is not finite, or lengths differ.

    Notes
    -----
    Point in time: describes what has happened; it is not known before the last row is.

    References
    ----------
    .. [1] Sharpe (1994), The Sharpe ratio, J. Portfolio Management 21, 49-58.
    .. [2] Sortino and Price (1994), Performance measurement in a downside risk
       framework, J. Investing 3, 59-64.
    .. [3] Young (1991), Calmar ratio: a smoother tool, Futures 20(1), 40.
    """
    _check(returns, ts)
    per_year = observations_per_year(ts)
    equity = np.cumprod(np.maximum(1.0 + returns, 0.0))
    final, mean = float(equity[-1]), float(np.mean(returns))
    deviation = _deviation(returns)
    downside = float(np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2)))
    worst = float(max_drawdown(returns))
    root = None if per_year is None else float(np.sqrt(per_year))
    annual = None if per_year is None else final ** (per_year / len(returns)) - 1.0
    return Figures(
        sharpe=_ratio(mean, deviation, root),
        sortino=_ratio(mean, downside, root),
        calmar=_ratio(annual, worst, 1.0),
        max_drawdown=worst,
        return_net=final - 1.0,
        annual_return=annual,
        volatility=None if root is None else deviation * root,
        turnover=None
        if turnover is None or per_year is None
        else float(np.mean(turnover)) * per_year,
        exposure=None if exposure is None else float(np.mean(exposure)),
        trades=None if trades is None else int(np.sum(trades)),
        n_obs=len(returns),
        capacity=capacity,
    )


def max_drawdown(returns: FloatArray) -> FloatArray:
    """Return the largest fall from a peak of the compounded equity, a positive share.

    Parameters
    ----------
    returns : ndarray of shape (n_obs,) or (n_obs, n), float64
        Simple returns; one of -1 or less is the end of the equity.

    Returns
    -------
    ndarray of shape () or (n,), float64
        Between 0 and 1; the equity of 1 before the first row counts as a peak.
    """
    equity = np.cumprod(np.maximum(1.0 + returns, 0.0), axis=0)
    peak = np.maximum(np.maximum.accumulate(equity, axis=0), 1.0)
    return np.asarray((1.0 - equity / peak).max(axis=0), dtype=np.float64)


def observations_per_year(ts: TimeArray) -> float | None:
    """Return how many observations a year were seen; None for fewer than two.

    The steps between the first and the last over the time between them.

    Parameters
    ----------
    ts : ndarray of shape (n_obs,), datetime64[us]
        Increasing.
    """
    if len(ts) < 2:
        return None
    return float((len(ts) - 1) * (_YEAR / (ts[-1] - ts[0])))


def book_capacity(panel: AlignedPanel, positions: FloatArray) -> float | None:
    """Return the book size beyond which a bar is too small for its largest holding.

    For each instrument held: 1 % of the median of volume times close over its bars, by
    the largest absolute target weight; the smallest of them, in the currency of the
    prices. None if nothing is held, or for one that is held volume is unknown: NaN or
    zero throughout, as feeds of currencies and indices have it.

    Parameters
    ----------
    panel : AlignedPanel
        Bars.
    positions : ndarray of shape (n_obs, n_assets), float64
        Target weights.

    Notes
    -----
    Point in time: an estimate over the whole panel, for reports alone.
    """
    largest = np.abs(positions).max(axis=0)
    sizes = []
    for column in np.flatnonzero(largest > 0):
        value = panel.volume[:, column] * panel.close[:, column]
        known = value[np.isfinite(value)]
        if len(known) == 0 or not np.any(known > 0):
            return None
        sizes.append(_SHARE * float(np.median(known)) / float(largest[column]))
    return min(sizes) if sizes else None


def _check(returns: FloatArray, ts: TimeArray) -> None:
    if returns.ndim != 1 or len(returns) == 0 or len(returns) != len(ts):
        raise BacktestError(
            f"figures: returns of shape {returns.shape} and {len(ts)} times"
        )
    if not np.isfinite(returns).all():
        row = int(np.argmin(np.isfinite(returns)))
        raise BacktestError(f"figures: return {returns[row]} at {ts[row]}")


def _deviation(returns: FloatArray) -> float:
    # 0 too where the spread is only the rounding of equal returns.
    if len(returns) < 2 or np.ptp(returns) <= 1e-12 * np.abs(returns).max():
        return 0.0
    return float(np.std(returns, ddof=1))


def _ratio(value: float | None, by: float, times: float | None) -> float | None:
    if value is None or times is None or by <= 0:
        return None
    return value / by * times
