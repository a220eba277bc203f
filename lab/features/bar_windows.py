"""Which stretch of time a bar answers for.

A bar answers for what happened after the bar before it on the calendar ended and before
it ends itself: `[known of the bar before, known)`. Around the clock that is the bar's
own hour or day. Where a market was closed in between, the first bar after the pause
answers for it: the US inflation figure of 08:30 in New York belongs to the first bar of
an exchange that opens at 09:30, and what came on a Saturday to Monday's bar. So it is,
for up to four days, where the row before is not the bar before on the calendar: the
symbol pauses within its market's hours, or bars are missing.
"""

from typing import Final, NamedTuple

import numpy as np

from lab.arrays import TimeArray
from lab.bars.calendars import known_ts, positions
from lab.bars.schedules import schedule
from lab.bars.timeframes import step

_LONGEST_PAUSE: Final = 4 * step("1d")


class BarWindows(NamedTuple):
    """Stretches of time, one a bar; every array has shape (n_obs,), datetime64[us].

    Attributes
    ----------
    ts : ndarray
        Bar opens.
    start, end : ndarray
        The stretch [start, end); `end` is when the bar is known.
    """

    ts: TimeArray
    start: TimeArray
    end: TimeArray


def bar_windows(ts: TimeArray, *, timeframe: str, calendar: str) -> BarWindows:
    """Return the stretch of time that each bar answers for.

    Parameters
    ----------
    ts : ndarray of shape (n_obs,), datetime64[us]
        Bar opens, increasing.
    timeframe : str
        `1h` or `1d`.
    calendar : str
        Of the symbol.

    Raises
    ------
    BarsError
        If the calendar or the timeframe is unknown.

    Notes
    -----
    Point in time: depends on the calendar, the bar and the row before it; the first row
    on the calendar and the bar alone.
    """
    opens = ts.astype("datetime64[us]")
    end = known_ts(opens, timeframe=timeframe, calendar=calendar)
    start = calendar_starts(opens, timeframe=timeframe, calendar=calendar)
    paused = np.maximum(end[:-1], opens[1:] - _LONGEST_PAUSE)
    start[1:] = np.minimum(start[1:], paused)
    return BarWindows(opens, start, end)


def calendar_starts(ts: TimeArray, *, timeframe: str, calendar: str) -> TimeArray:
    """Return when the bar before each one on the calendar is known.

    Parameters
    ----------
    ts : ndarray of shape (n_obs,), datetime64[us]
        Bar opens. Where one is off the calendar's grid its own open is returned.
    timeframe, calendar : str
        Of the symbol.

    Raises
    ------
    BarsError
        If the calendar or the timeframe is unknown.
    """
    place = positions(ts, timeframe=timeframe, calendar=calendar)
    before = schedule(calendar, timeframe).known[np.maximum(place - 1, 0)]
    return np.where(place > 0, before, ts)
