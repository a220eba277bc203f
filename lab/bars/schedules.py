"""When a market's bars open, close and become known, as sorted arrays.

Three kinds of calendar:

- `24x7`: every hour and every day, UTC.
- `fx`: from Sunday 17:00 to Friday 17:00 in New York (21:00 or 22:00 UTC, with its
  daylight saving). Daily bars are the UTC days Monday to Friday; the short Sunday bar
  that many feeds deliver is not on this grid. Holidays are not modelled.
- an exchange's MIC, e.g. `XNYS`: sessions, early closes and lunch breaks as
  `exchange_calendars` knows them. Hourly bars are the UTC hours that overlap a session.

Arrays reach from 1990 to 2040 whatever the date is today, are made once per process
and are read-only.
"""

import warnings
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Final

import numpy as np

from lab.arrays import AnyArray, IntArray, TimeArray
from lab.bars.timeframes import step
from lab.errors import CalendarError

FIRST_DATE: Final = date(1990, 1, 1)
LAST_DATE: Final = date(2040, 12, 31)
_HOUR: Final = step("1h")
_DAY: Final = step("1d")
_NEW_YORK: Final = "America/New_York"


@dataclass(frozen=True, slots=True)
class Sessions:
    """When a market is open.

    Attributes
    ----------
    dates : ndarray of shape (n_sessions,), datetime64[us]
        Session dates at 00:00; for `24x7` and `fx`, the dates of daily bars.
    closes : ndarray of shape (n_sessions,), datetime64[us]
        When the daily bar of that date is known, UTC.
    starts, ends : ndarray of shape (n_spans,), datetime64[us]
        Open spans [start, end), UTC, disjoint and in order.
    timezone : str
        IANA name of the market's local time.
    """

    dates: TimeArray
    closes: TimeArray
    starts: TimeArray
    ends: TimeArray
    timezone: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """Bars of one calendar and timeframe.

    Attributes
    ----------
    opens : ndarray of shape (n_bars,), datetime64[us]
        Bar opens, UTC, increasing.
    known : ndarray of shape (n_bars,), datetime64[us]
        When each bar is known, increasing.
    slots : ndarray of shape (n_bars,), int64
        Local time of the week: 24 × weekday (Monday 0) + hour; hour 0 for daily bars.
    """

    opens: TimeArray
    known: TimeArray
    slots: IntArray


@lru_cache(maxsize=64)
def sessions(calendar: str) -> Sessions:
    """Return the sessions of `calendar`.

    Raises
    ------
    CalendarError
        If the calendar is not `24x7`, `fx` or a known exchange.
    """
    if calendar == "24x7":
        days = _dates()
        return _frozen_sessions(days, days + _DAY, days[:1], days[-1:] + _DAY, "UTC")
    if calendar == "fx":
        days = _dates()
        days = days[_weekday(days) < 5]
        starts, ends = _fx_weeks()
        return _frozen_sessions(days, days + _DAY, starts, ends, _NEW_YORK)
    return _exchange_sessions(calendar)


@lru_cache(maxsize=128)
def schedule(calendar: str, timeframe: str) -> Schedule:
    """Return the bars of `calendar` at `timeframe`.

    Raises
    ------
    CalendarError
        If the calendar is unknown.
    BarsError
        If the timeframe is unknown.
    """
    length = step(timeframe)
    market = sessions(calendar)
    if timeframe == "1d":
        slots = _weekday(market.dates) * 24
        return _frozen_schedule(market.dates, market.closes, slots)
    opens = _hours_overlapping(market.starts, market.ends)
    slots = _local_slots(opens, market.timezone)
    return _frozen_schedule(opens, opens + length, slots)


def _dates() -> TimeArray:
    first, last = np.datetime64(FIRST_DATE, "D"), np.datetime64(LAST_DATE, "D")
    return np.arange(first, last + 1).astype("datetime64[us]")


def _weekday(days: TimeArray) -> IntArray:
    # 1970-01-01 was a Thursday; Monday is 0.
    return (days.astype("datetime64[D]").astype(np.int64) + 3) % 7


def _fx_weeks() -> tuple[TimeArray, TimeArray]:
    import polars as pl

    days = _dates()

    def utc(weekday: int) -> TimeArray:
        local = days[_weekday(days) == weekday] + 17 * _HOUR
        column = pl.Series(local).dt.replace_time_zone(_NEW_YORK)
        return column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).to_numpy()

    starts, ends = utc(6), utc(4)
    ends = ends[ends > starts[0]]
    return starts[: len(ends)], ends


def _exchange_sessions(mic: str) -> Sessions:
    try:
        import exchange_calendars
    except ImportError as error:
        raise CalendarError(
            f"calendar {mic!r} needs the package exchange-calendars (extra `research`)"
        ) from error
    with warnings.catch_warnings():
        # It calls deprecated pandas functions; its answers are tested here.
        warnings.simplefilter("ignore")
        try:
            kind = type(exchange_calendars.get_calendar(mic))
        except exchange_calendars.errors.InvalidCalendarName as error:
            raise CalendarError(
                f"calendar {mic!r}: allowed are 24x7, fx and exchange MICs, e.g. XNYS"
            ) from error
        first, last = kind.bound_min(), kind.bound_max()
        market = exchange_calendars.get_calendar(
            mic,
            start=str(FIRST_DATE) if first is None else max(first, _stamp(FIRST_DATE)),
            end=str(LAST_DATE) if last is None else min(last, _stamp(LAST_DATE)),
        )
        table = market.schedule
        opens, closes = _utc(table["open"]), _utc(table["close"])
        breaks = _utc(table["break_start"]), _utc(table["break_end"])
        dates = market.sessions.to_numpy().astype("datetime64[us]")
    starts, ends = _spans(opens, closes, *breaks)
    return _frozen_sessions(dates, closes, starts, ends, str(market.tz))


def _stamp(day: date) -> Any:
    import pandas as pd

    return pd.Timestamp(day)


def _utc(column: Any) -> TimeArray:
    naive = column.dt.tz_convert(None).to_numpy()
    return np.asarray(naive, dtype="datetime64[us]")


def _spans(
    opens: TimeArray, closes: TimeArray, pauses: TimeArray, resumes: TimeArray
) -> tuple[TimeArray, TimeArray]:
    # A session with a lunch break is two spans.
    has_break = ~np.isnat(pauses)
    starts = np.concatenate([opens, resumes[has_break]])
    ends = np.concatenate([np.where(has_break, pauses, closes), closes[has_break]])
    order = np.argsort(starts, kind="stable")
    return starts[order], ends[order]


def _hours_overlapping(starts: TimeArray, ends: TimeArray) -> TimeArray:
    first = starts.astype("datetime64[h]").astype(np.int64)
    stop = -((-ends.astype(np.int64)) // int(_HOUR.astype(np.int64)))
    counts = stop - first
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    hours = np.unique(np.repeat(first, counts) + offsets)
    return hours.astype("datetime64[h]").astype("datetime64[us]")


def _local_slots(opens: TimeArray, timezone: str) -> IntArray:
    import polars as pl

    column = pl.Series(opens).dt.replace_time_zone("UTC").dt.convert_time_zone(timezone)
    weekday = column.dt.weekday().to_numpy().astype(np.int64) - 1
    hour = column.dt.hour().to_numpy().astype(np.int64)
    return np.asarray(weekday * 24 + hour)


def _frozen_sessions(
    dates: TimeArray, closes: TimeArray, starts: TimeArray, ends: TimeArray, zone: str
) -> Sessions:
    return Sessions(
        _read_only(dates),
        _read_only(closes),
        _read_only(starts),
        _read_only(ends),
        zone,
    )


def _frozen_schedule(opens: TimeArray, known: TimeArray, slots: IntArray) -> Schedule:
    return Schedule(_read_only(opens), _read_only(known), _read_only(slots))


def _read_only(array: AnyArray) -> AnyArray:
    array = array.copy()
    array.flags.writeable = False
    return array
