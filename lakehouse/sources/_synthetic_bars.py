"""Hourly bars under given daily closes, and daily bars over these.

Each day's return is spread over its open hours: the releases land in their hour, the
rest follows a bridge whose variance is shared out by hour of day. Highs and lows are
drawn from the extremes of a Brownian path between the hour's open and close. Draws are
made a month at a time from a generator keyed by seed and month, so any window can be
made without what came before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import groupby

import numpy as np

from lakehouse.sources._synthetic_days import DailyPath
from lakehouse.sources._synthetic_market import (
    COLUMNS,
    ORIGIN,
    BoolArray,
    FloatArray,
    decimals,
    hour_weights,
)

_N_COLUMNS = len(COLUMNS)
_OPENING_GAP = 0.5
_MONTH_SHAPE = (31, 24, _N_COLUMNS)


@dataclass(frozen=True, slots=True)
class Grid:
    """Hourly bars of some days, every column and hour, traded or not.

    Attributes
    ----------
    first : date
        First day.
    is_open : ndarray of shape (n_days, 24, K), bool
        Whether there is a bar.
    open, high, low, close, volume : ndarray of shape (n_days, 24, K), float64
        Meaningful where `is_open`.
    """

    first: date
    is_open: BoolArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray


def hourly_grids(path: DailyPath, first: date, last: date, seed: int) -> Iterator[Grid]:
    """Yield the bars of each month from `first` to `last`, both included.

    Parameters
    ----------
    path : DailyPath
        Must reach `last`.
    first, last : date
        `first` is the first of a month.
    seed : int
        The market's seed.
    """
    start, stop = (first - ORIGIN).days, (last - ORIGIN).days + 1
    numbers = range(start, stop)
    jumps: dict[int, list[tuple[int, int, float]]] = {}
    for day, hour, column, move in path.jumps:
        if start <= day < stop:
            jumps.setdefault(day, []).append((hour, column, move))
    months = groupby(numbers, lambda n: (path.days[n].year, path.days[n].month))
    for (year, month), group in months:
        days = list(group)
        yield _month_grid(
            path,
            days[0],
            len(days),
            jumps=jumps,
            key=[seed, 10_000 + year * 12 + month],
        )


def _month_grid(
    path: DailyPath,
    start: int,
    n_days: int,
    *,
    jumps: dict[int, list[tuple[int, int, float]]],
    key: list[int],
) -> Grid:
    rng = np.random.Generator(np.random.Philox(key=key))
    noise, crowd = rng.standard_normal((2, *_MONTH_SHAPE))[:, :n_days]
    luck = rng.random((2, *_MONTH_SHAPE))[:, :n_days]
    span = slice(start, start + n_days)
    is_open = path.hours[span]
    share = is_open * hour_weights()
    total = share.sum(axis=1, keepdims=True)
    share = np.divide(share, total, out=np.zeros_like(share), where=total > 0)
    sudden = np.zeros_like(share)
    for offset in range(n_days):
        for hour, column, move in jumps.get(start + offset, ()):
            sudden[offset, hour, column] += move
    sigma = np.sqrt(share) * path.volatility[span][:, None, :]
    steps = sigma * noise
    rest = path.returns[span] - sudden.sum(axis=1) - steps.sum(axis=1)
    steps += share * rest[:, None, :] + sudden
    level = path.close[span][:, None, :]
    close = level + np.cumsum(steps, axis=1)
    close = _pin(close, path, span, is_open)
    was_open = _shifted(is_open, opens_after=start > 0 and path.hours[start - 1, -1])
    before = np.concatenate([level, close[:, :-1]], axis=1)
    # Half of a session's first move happens before it opens.
    open_ = before + np.where(was_open, 0.0, _OPENING_GAP) * steps
    high, low = _extremes(open_, close, sigma, luck)
    has_volume = np.array([column.has_volume for column in COLUMNS])
    volume = np.where(
        has_volume, 1e4 * share * 24 * np.exp(0.5 * crowd + 40 * np.abs(steps)), np.nan
    )
    return Grid(
        path.days[start],
        is_open,
        open=_rounded(open_),
        high=_rounded(high),
        low=_rounded(low),
        close=_rounded(close),
        volume=_cents(volume),
    )


def _pin(
    close: FloatArray, path: DailyPath, span: slice, is_open: BoolArray
) -> FloatArray:
    """Make the last bar of each day close exactly where the day does."""
    n_after = np.cumsum(is_open[:, ::-1], axis=1)[:, ::-1]
    is_last = is_open & (n_after == 1)
    end = path.close[span.start + 1 : span.stop + 1][:, None, :]
    return np.where(is_last, end, close)


def _shifted(is_open: BoolArray, *, opens_after: BoolArray | bool) -> BoolArray:
    """Return whether the hour before each hour traded."""
    shifted = np.empty_like(is_open)
    shifted[:, 1:] = is_open[:, :-1]
    shifted[1:, 0] = is_open[:-1, -1]
    shifted[0, 0] = opens_after
    return shifted


def _extremes(
    open_: FloatArray, close: FloatArray, sigma: FloatArray, luck: FloatArray
) -> tuple[FloatArray, FloatArray]:
    move = close - open_
    spread = -2.0 * sigma**2 * np.log1p(-luck)
    up = 0.5 * (move + np.sqrt(move**2 + spread[0]))
    down = 0.5 * (move - np.sqrt(move**2 + spread[1]))
    high = np.maximum(open_ + up, np.maximum(open_, close))
    low = np.minimum(open_ + down, np.minimum(open_, close))
    return high, low


def _rounded(level: FloatArray) -> FloatArray:
    scale = 10.0 ** decimals()
    prices: FloatArray = np.maximum(np.round(np.exp(level) * scale), 1.0) / scale
    return prices


def _cents(volume: FloatArray) -> FloatArray:
    rounded: FloatArray = np.round(volume * 100.0) / 100.0
    return rounded


def daily_grid(grid: Grid) -> Grid:
    """Aggregate hourly bars to one bar per UTC day, at hour 0; shape (n_days, 1, K)."""
    n_after = np.cumsum(grid.is_open[:, ::-1], axis=1)[:, ::-1]
    n_before = np.cumsum(grid.is_open, axis=1)
    is_first = grid.is_open & (n_before == 1)
    is_last = grid.is_open & (n_after == 1)

    def only(values: FloatArray, where: BoolArray) -> FloatArray:
        chosen: FloatArray = np.where(where, values, 0.0).sum(axis=1, keepdims=True)
        return chosen

    return Grid(
        grid.first,
        np.logical_or.reduce(grid.is_open, axis=1, keepdims=True),
        only(grid.open, is_first),
        np.where(grid.is_open, grid.high, -np.inf).max(axis=1, keepdims=True),
        np.where(grid.is_open, grid.low, np.inf).min(axis=1, keepdims=True),
        only(grid.close, is_last),
        _cents(only(grid.volume, grid.is_open)),
    )
