"""Looking up releases for many rows at once, each row with what it may know."""

import numpy as np

from lab.arrays import BoolArray, FloatArray, TimeArray
from lab.bars.timeframes import step
from lab.features.bar_windows import BarWindows
from lab.features.releases import Figures, Occurrences


def is_inside(
    releases: Occurrences, rows: BarWindows, knowledge: TimeArray
) -> BoolArray:
    """Return whether an announced release comes in each row's stretch of time.

    Parameters
    ----------
    releases : Occurrences
        Releases of one kind.
    rows : BarWindows of n_rows
        Stretches of time.
    knowledge : ndarray of shape (n_rows,), datetime64[us]
        Until when each row knows.

    Returns
    -------
    ndarray of shape (n_rows,), bool

    Notes
    -----
    Point in time: a release counts if its date was announced by the row's knowledge.
    """
    first = np.searchsorted(releases.ts, rows.start)
    stop = np.searchsorted(releases.ts, rows.end)
    found = np.zeros(len(rows.ts), dtype=np.bool_)
    for k in range(int((stop - first).max())):
        row = np.minimum(first + k, len(releases.ts) - 1)
        found |= (first + k < stop) & (releases.announced[row] <= knowledge)
    return found


def newest_inside(
    figures: Figures, rows: BarWindows, knowledge: TimeArray
) -> FloatArray:
    """Return the newest figure that came out in each row's stretch; 0 if none did.

    Parameters
    ----------
    figures : Figures
        Of one kind of release.
    rows, knowledge
        As in `is_inside`.

    Returns
    -------
    ndarray of shape (n_rows,), float64

    Notes
    -----
    Point in time: only figures known by the row's knowledge.
    """
    first = np.searchsorted(figures.known, rows.start)
    stop = np.minimum(
        np.searchsorted(figures.known, rows.end),
        np.searchsorted(figures.known, knowledge, side="right"),
    )
    if len(figures.known) == 0:
        return np.zeros(len(rows.ts))
    newest = figures.value[np.maximum(stop, 1) - 1]
    return np.where(stop > first, newest, 0.0)


def days_to(
    releases: Occurrences, rows: BarWindows, knowledge: TimeArray, *, period: float
) -> FloatArray:
    """Return sine and cosine of the days to the next announced release.

    Parameters
    ----------
    releases : Occurrences
        Releases of one kind.
    rows, knowledge
        As in `is_inside`.
    period : float, days
        Where the circle closes; more days count as this many.

    Returns
    -------
    ndarray of shape (n_rows, 2), float64
        Of 2π·min(d, period)/period, d from the bar's open, at least 0; both 0 where no
        release is announced.

    Notes
    -----
    Point in time: the next release is the first one from the start of the row's stretch
    on whose date was announced by the row's knowledge.
    """
    pair = np.zeros((len(rows.ts), 2))
    n_releases = len(releases.ts)
    if n_releases == 0:
        return pair
    # Dates are announced in order but for those that came unscheduled: step over
    # what a row does not know of, as long as a later one was announced by then.
    earliest = np.minimum.accumulate(releases.announced[::-1])[::-1]
    row = np.searchsorted(releases.ts, rows.start)
    while True:
        place = np.minimum(row, n_releases - 1)
        has_any = (row < n_releases) & (earliest[place] <= knowledge)
        to_skip = has_any & (releases.announced[place] > knowledge)
        if not to_skip.any():
            break
        row = row + to_skip
    days = (releases.ts[place] - rows.ts) / step("1d")
    angle = 2.0 * np.pi * np.clip(days, 0.0, period) / period
    pair[has_any, 0] = np.sin(angle[has_any])
    pair[has_any, 1] = np.cos(angle[has_any])
    return pair
