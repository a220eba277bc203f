"""Bars that a calendar expects and a series does not have."""

from typing import NamedTuple

import numpy as np

from lab.arrays import TimeArray
from lab.bars.schedules import schedule


class Gap(NamedTuple):
    """A run of missing bars.

    Attributes
    ----------
    first, last : datetime64[us]
        Opens of the first and the last missing bar.
    n_missing : int
        Number of missing bars.
    """

    first: np.datetime64
    last: np.datetime64
    n_missing: int


def find_gaps(ts: TimeArray, *, timeframe: str, calendar: str) -> list[Gap]:
    """Return the runs of missing bars between the first and the last bar.

    Parameters
    ----------
    ts : ndarray of shape (n_obs,), datetime64[us]
        Bar opens, increasing. Bars off the calendar's grid fill nothing.
    timeframe, calendar : str
        Of the symbol.

    Returns
    -------
    list of Gap
        Oldest first.

    Raises
    ------
    CalendarError
        If the calendar is unknown.
    """
    if len(ts) == 0:
        return []
    opens = schedule(calendar, timeframe).opens
    first, stop = np.searchsorted(opens, [ts[0], ts[-1]])
    expected = opens[first:stop]
    missing = np.flatnonzero(~np.isin(expected, ts, assume_unique=True))
    if len(missing) == 0:
        return []
    runs = np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1)
    return [Gap(expected[run[0]], expected[run[-1]], len(run)) for run in runs]
