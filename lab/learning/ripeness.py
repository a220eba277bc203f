"""Which rows are settled as a whole: of the newest, what is known first is not the rest.

A loss is taken in days where a gain is held for weeks, so among rows that were decided
lately those with a label are mostly losses (length bias of right-censored rows).
"""

from typing import Final

import numpy as np

from lab.arrays import BoolArray, TimeArray
from lab.errors import TrainingError

_GAIN: Final = 1
_LOSS: Final = 19
"""One open row is made up for by 19 that are settled: 95 %."""


def ripe_rows(decided: TimeArray, is_settled: BoolArray) -> int:
    """Return how many rows, from the first, are settled as a whole.

    Parameters
    ----------
    decided : ndarray of shape (n_rows,), datetime64
        When each row was decided, not decreasing; open rows belong among them.
    is_settled : ndarray of shape (n_rows,), bool
        Whether its label is known.

    Returns
    -------
    int
        Number of rows decided up to the newest moment such that of every stretch of
        rows that ends there at least 95 % are settled; 0 if there is none. Rows of one
        moment stay together.

    Raises
    ------
    TrainingError
        If the lengths differ or the times fall.

    Notes
    -----
    The share over all history would not do: a few weeks of open rows are no 5 % of
    years, and yet most of the newest weeks. The sum of (settled - 95 %) over the rows
    of every stretch that ends at the moment is not negative exactly where the running
    sum is at its maximum, 0 before the first row included.

    Point in time: needs what was known at one moment, of rows decided by then. Rows
    left out wait until more of their time are settled.

    References
    ----------
    .. [1] Cox (1969), Some sampling problems in technology, in: New Developments in
       Survey Sampling: length-biased sampling.
    """
    if len(decided) != len(is_settled):
        raise TrainingError("ripe rows: times and labels of one length")
    if bool((decided[1:] < decided[:-1]).any()):
        raise TrainingError("ripe rows: rows are not in the order of time")
    if len(decided) == 0:
        return 0
    # Settled less 95 %, in twentieths: sums are exact.
    surplus = np.cumsum(np.where(is_settled, _GAIN, -_LOSS))
    is_last = np.append(decided[1:] > decided[:-1], True)
    sums, stops = surplus[is_last], np.flatnonzero(is_last) + 1
    best = int(sums.max())
    return int(stops[sums == best][-1]) if best >= 0 else 0
