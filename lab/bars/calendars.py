"""When a bar is known, which bars come next, and how much trading time has passed.

All times are UTC; arrays are `datetime64[us]`. The calendars are those of
`lab.bars.schedules`.
"""

from datetime import datetime, timedelta

import numpy as np

from lab.arrays import BoolArray, FloatArray, IntArray, TimeArray
from lab.bars.schedules import LAST_DATE, schedule, sessions
from lab.bars.timeframes import step, to_instant
from lab.errors import BarsError, CalendarError

_DAY = step("1d")
_YEAR = np.timedelta64(31_557_600_000_000, "us")  # 365.25 days
_MIN_SPAN = np.timedelta64(28 * 86_400_000_000, "us")


def known_ts(ts: TimeArray, *, timeframe: str, calendar: str) -> TimeArray:
    """Return when bars are known.

    An hourly bar is known at `ts + 1 h`; a daily bar at its session's close on an
    exchange calendar, at 24:00 UTC on `24x7` and `fx`, and at 24:00 UTC too on a date
    that is no session or lies outside the calendar's years.

    Parameters
    ----------
    ts : ndarray of shape (n_obs,), datetime64[us]
        Bar opens.
    timeframe : str
        `1h` or `1d`.
    calendar : str
        `24x7`, `fx` or an exchange MIC.

    Returns
    -------
    ndarray of shape (n_obs,), datetime64[us]
        Increasing wherever `ts` is.

    Raises
    ------
    CalendarError
        If the calendar is unknown.
    """
    end = ts + step(timeframe)
    if timeframe == "1h" or calendar in {"24x7", "fx"}:
        return end
    bars = schedule(calendar, timeframe)
    rows = np.minimum(np.searchsorted(bars.opens, ts), len(bars.opens) - 1)
    return np.where(bars.opens[rows] == ts, bars.known[rows], end)


def positions(ts: TimeArray, *, timeframe: str, calendar: str) -> IntArray:
    """Return each bar's number on the calendar's grid; -1 where it is not on it.

    Raises
    ------
    CalendarError
        If the calendar is unknown.
    """
    opens = schedule(calendar, timeframe).opens
    rows = np.minimum(np.searchsorted(opens, ts), len(opens) - 1)
    return np.where(opens[rows] == ts, rows, -1).astype(np.int64)


def trading_start(ts: TimeArray, *, timeframe: str, calendar: str) -> TimeArray:
    """Return when trading begins within bars: their open, or the session's if later.

    Raises
    ------
    CalendarError
        If the calendar is unknown.
    """
    market = sessions(calendar)
    span = np.searchsorted(market.ends, ts, side="right")
    start = np.maximum(ts, market.starts[np.minimum(span, len(market.starts) - 1)])
    return np.where(start < ts + step(timeframe), start, ts)


def next_opens(
    last_ts: datetime | np.datetime64, n: int, *, timeframe: str, calendar: str
) -> TimeArray:
    """Return the opens of the `n` bars after `last_ts` by the calendar alone.

    Raises
    ------
    CalendarError
        If the calendar is unknown or its years do not reach that far.
    """
    opens = schedule(calendar, timeframe).opens
    start = int(np.searchsorted(opens, to_instant(last_ts), side="right"))
    if start + n > len(opens):
        raise CalendarError(f"calendar {calendar!r} ends in {LAST_DATE.year}")
    return opens[start : start + n]


def is_open(moments: TimeArray, *, calendar: str) -> BoolArray:
    """Return whether the market is open at each moment (start included, end not)."""
    market = sessions(calendar)
    span = np.searchsorted(market.starts, moments, side="right") - 1
    is_open_then = (span >= 0) & (moments < market.ends[np.maximum(span, 0)])
    return np.asarray(is_open_then, dtype=np.bool_)


def elapsed_trading_time(
    start: datetime, end: datetime, calendar: str, *, timeframe: str = "1h"
) -> timedelta:
    """Return how much trading-calendar time lies between two moments.

    For `1h` the time in which the market was open. For `1d` the time that fell on
    dates with a daily bar, all 24 hours of them: from Friday 21:00 to Monday 21:00 on
    an exchange it is 24 h. A forecast is stale after 75 min (`1h`) or 26 h (`1d`) of it.

    Parameters
    ----------
    start, end : datetime
        Aware moments; zero is returned when `end` is not after `start`.
    calendar : str
        `24x7`, `fx` or an exchange MIC.
    timeframe : str, default "1h"
        Which of the two measures.

    Raises
    ------
    CalendarError
        If the calendar is unknown.
    """
    if timeframe == "1d":
        dates = sessions(calendar).dates
        spans = dates, dates + _DAY
    else:
        step(timeframe)
        spans = sessions(calendar).starts, sessions(calendar).ends
    elapsed = _time_inside(*spans, to_instant(end)) - _time_inside(
        *spans, to_instant(start)
    )
    return max(timedelta(0), timedelta(microseconds=elapsed))


def bars_per_year(ts: TimeArray, at: TimeArray | None = None) -> FloatArray:
    """Return the observed number of bars a year.

    Counts the bars of the 365.25 days up to and including each moment of `at`, or since
    the first bar where there is less history, but at least over 28 days.

    Parameters
    ----------
    ts : ndarray of shape (n_obs,), datetime64[us]
        Bar opens, increasing.
    at : ndarray of shape (n_moments,), datetime64[us], optional
        Bar opens to count up to; the last bar if not given.

    Returns
    -------
    ndarray of shape (n_moments,), float64

    Raises
    ------
    BarsError
        If there are no bars.

    Notes
    -----
    Point in time: bars after a moment of `at` do not enter its figure.
    """
    if len(ts) == 0:
        raise BarsError("bars per year: no bars given")
    moments = ts[-1:] if at is None else at
    last = np.searchsorted(ts, moments, side="right")
    first = np.searchsorted(ts, moments - _YEAR, side="right")
    # With k bars in a shorter history there are k - 1 steps over the observed span.
    is_short = ts[0] > moments - _YEAR
    span = np.where(is_short, np.maximum(moments - ts[0], _MIN_SPAN), _YEAR)
    counts = np.where(is_short, np.maximum(last - 1, 1), last - first)
    return np.asarray(counts * (_YEAR / span), dtype=np.float64)


def latest_panel_known_ts(
    ts: datetime | np.datetime64, *, timeframe: str, calendars: set[str]
) -> np.datetime64:
    """Return when the bars that open at `ts` are known on all calendars.

    A cross-asset decision on daily bars waits for the panel's latest close.
    """
    bar = np.array([to_instant(ts)])
    known = [known_ts(bar, timeframe=timeframe, calendar=name)[0] for name in calendars]
    if not known:
        raise BarsError("panel: no calendars given")
    return max(known)


def _time_inside(starts: TimeArray, ends: TimeArray, moment: np.datetime64) -> int:
    # Microseconds of the spans before `moment`.
    n_started = int(np.searchsorted(starts, moment, side="right"))
    if n_started == 0:
        return 0
    lengths = np.minimum(ends[:n_started], moment) - starts[:n_started]
    return int(lengths.astype(np.int64).sum())
