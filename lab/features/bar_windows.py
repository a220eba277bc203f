"""Which stretch of time a bar answers for.

A bar answers for what happened after the bar before it on the calendar ended and before
it ends itself: `[known of the bar before, known)`. Around the clock that is the bar's
own hour or day. Where a market was closed in between, the first bar after the pause
answers for it: the US inflation figure of 08:30 in New York belongs to the first bar of
an exchange that opens at 09:30, and what came on a Saturday to Monday's bar.
"""

from typing import NamedTuple

import numpy as np

from lab.arrays import TimeArray
from lab.bars.calendars import known_ts, positions
from lab.bars.schedules import schedule


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
        Bar opens, any order. A bar off the calendar's grid answers for itself alone.
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
    Point in time: depends on the calendar and the bar alone, not on other bars.
    """
    opens = ts.astype("datetime64[us]")
    place = positions(opens, timeframe=timeframe, calendar=calendar)
    before = schedule(calendar, timeframe).known[np.maximum(place - 1, 0)]
    end = known_ts(opens, timeframe=timeframe, calendar=calendar)
    return BarWindows(opens, np.where(place > 0, before, opens), end)
