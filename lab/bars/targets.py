"""Which bars a forecast is about: the next ones, as this symbol really trades.

A calendar says when a market may trade; a contract on it may pause daily or skip a
day that the calendar has. So a slot of the local week counts as traded only if the
symbol's own recent bars filled it. That uses past bars alone.
"""

from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from lab.arrays import BoolArray, TimeArray
from lab.bars.schedules import LAST_DATE, Schedule, schedule
from lab.bars.timeframes import step, to_instant
from lab.errors import CalendarError

_WEEK: Final = 7 * step("1d")
_OBSERVED: Final = 6 * _WEEK
_MIN_OBSERVED: Final = 2 * _WEEK
_SLOTS: Final = 7 * 24

OBSERVED_BARS: Final = MappingProxyType({"1h": 6 * _SLOTS, "1d": 6 * 7})
"""Most bars that six weeks can hold: what a forecaster has to be given, however few of
them its model looks at, for its targets to be those of every other one."""

MAX_MISSED: Final = MappingProxyType({"1h": 24, "1d": 5})
"""Bars that may be missing at the end of a series before it is too stale to forecast."""


class Targets(NamedTuple):
    """Bars to forecast.

    Attributes
    ----------
    path_ts : ndarray of shape (n_missed + horizon,), datetime64[us]
        Opens of the bars from the series' last one to the last target.
    n_missed : int
        How many of them are finished at the decision time: the series is late, so a
        path has to cross them first.
    """

    path_ts: TimeArray
    n_missed: int

    @property
    def target_ts(self) -> TimeArray:
        """Opens of the first `horizon` bars that are not finished."""
        return self.path_ts[self.n_missed :]


def forecast_targets(
    ts: TimeArray,
    *,
    as_of: datetime | np.datetime64,
    horizon: int,
    timeframe: str,
    calendar: str,
) -> Targets:
    """Return the next `horizon` bars after a series, seen from `as_of`.

    Parameters
    ----------
    ts : ndarray of shape (n_obs,), datetime64[us]
        Opens of the symbol's known bars, increasing, at least one; the last six weeks
        of them, if there are as many, whatever part of them a model looks at.
    as_of : datetime or datetime64
        Decision time, UTC.
    horizon : int, bars
        How many.
    timeframe, calendar : str
        Of the symbol.

    Raises
    ------
    CalendarError
        If the calendar is unknown or ends before the horizon.

    Notes
    -----
    Point in time: the symbol's slots are taken from the six weeks up to `ts[-1]`.
    """
    bars = schedule(calendar, timeframe)
    traded = traded_slots(ts, bars)
    start = int(np.searchsorted(bars.opens, ts[-1], side="right"))
    current = int(np.searchsorted(bars.known, to_instant(as_of), side="right"))
    n_missed = int(np.count_nonzero(traded[bars.slots[start:current]]))
    n_steps = n_missed + horizon
    stop = max(start, current) + horizon
    while True:
        chosen = np.flatnonzero(traded[bars.slots[start:stop]])
        if len(chosen) >= n_steps:
            return Targets(bars.opens[start + chosen[:n_steps]], n_missed)
        if stop >= len(bars.opens):
            raise CalendarError(f"calendar {calendar!r} ends in {LAST_DATE.year}")
        stop += 2 * horizon + _SLOTS


def traded_slots(ts: TimeArray, bars: Schedule) -> BoolArray:
    """Return which slots of the local week a symbol trades.

    A slot counts if the last six weeks of `ts` filled it at least half as often as the
    best-filled slot. With under two weeks of bars, every slot of the calendar counts.

    Returns
    -------
    ndarray of shape (168,), bool
        By local weekday (Monday first) and hour.
    """
    begin = max(ts[-1] - _OBSERVED, ts[0])
    if ts[-1] - begin < _MIN_OBSERVED:
        return np.ones(_SLOTS, dtype=np.bool_)
    first, stop = np.searchsorted(bars.opens, [begin, ts[-1] + step("1h")])
    slots = bars.slots[first:stop]
    recent = ts[np.searchsorted(ts, begin) :]
    is_filled = np.isin(bars.opens[first:stop], recent, assume_unique=True)
    expected = np.bincount(slots, minlength=_SLOTS)
    filled = np.bincount(slots[is_filled], minlength=_SLOTS)
    rate = np.where(expected > 0, filled / np.maximum(expected, 1), 1.0)
    best = rate[expected > 0].max(initial=0.0)
    return np.asarray(rate >= 0.5 * best, dtype=np.bool_)
