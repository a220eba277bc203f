"""Figures of many groups at once: rows sorted by group, one pass over all of them."""

from dataclasses import dataclass

import numpy as np

from lab.arrays import AnyArray, BoolArray, FloatArray, IntArray, TimeArray
from lab.errors import ScoringError


@dataclass(frozen=True, slots=True)
class Segments:
    """Rows of many groups, sorted by group and, inside a group, by decision time.

    Attributes
    ----------
    group : ndarray of shape (n_rows,), int64
        Group of each row, from 0.
    n_groups : int
        Groups; some may have no rows.
    order : ndarray of shape (n_rows,), int64
        Rank of a row's decision time among all decision times.
    closed : ndarray of shape (n_rows,), int64
        Rank of the first decision time at which the row's outcome was known.
    """

    group: IntArray
    n_groups: int
    order: IntArray
    closed: IntArray

    @classmethod
    def of(
        cls, group: IntArray, n_groups: int, *, as_of: TimeArray, known: TimeArray
    ) -> "Segments":
        """Describe rows by their decision times and when their outcomes were known.

        Raises
        ------
        ScoringError
            If rows are not sorted by group, then by decision time.
        """
        moments, order = np.unique(as_of, return_inverse=True)
        order = order.astype(np.int64)
        step = np.diff(group)
        if bool(np.any((step < 0) | ((step == 0) & (np.diff(order) < 0)))):
            raise ScoringError("rows must be sorted by group, then by decision time")
        closed = np.searchsorted(moments, known, side="left").astype(np.int64)
        return cls(group, n_groups, order, closed)

    def keep(self, chosen: BoolArray) -> "Segments":
        """Return the rows where `chosen` is true; groups keep their numbers."""
        return Segments(
            self.group[chosen], self.n_groups, self.order[chosen], self.closed[chosen]
        )

    def count(self) -> IntArray:
        """Return the rows of each group."""
        return counted(self.group, self.n_groups)

    def sum(self, values: AnyArray) -> FloatArray:
        """Return the sum of `values` over each group."""
        return summed(values, self.group, self.n_groups)

    def mean(self, values: AnyArray) -> FloatArray:
        """Return the mean of `values` over each group; NaN without rows."""
        return ratio(self.sum(values), self.count())

    def overlaps(self) -> IntArray:
        """Return how many later rows of the same group were decided before a row closed.

        Forecasts overlap when one is made before the other's outcome is known; their
        errors are then dependent. With a forecast every bar over `h` bars it is h − 1.
        """
        width = int(max(self.order.max(initial=0), self.closed.max(initial=0))) + 1
        place = self.group * width + self.order
        stop = np.searchsorted(place, self.group * width + self.closed, side="left")
        later = stop - np.arange(len(place)) - 1
        return np.asarray(np.maximum(later, 0), dtype=np.int64)

    def blocks(self) -> BoolArray:
        """Return a largest set of rows of which no two overlap: the first, then the next free."""
        following = np.arange(1, len(self.group) + 1) + self.overlaps()
        if bool(np.all(following == np.arange(1, len(self.group) + 1))):
            return np.ones(len(self.group), dtype=np.bool_)
        # A jump may not leave its group: each group starts afresh.
        ends = np.cumsum(self.count())[self.group]
        hops = np.minimum(following, ends).tolist()
        chosen, at, n_rows = [], 0, len(hops)
        while at < n_rows:
            chosen.append(at)
            at = hops[at]
        is_chosen = np.zeros(n_rows, dtype=np.bool_)
        is_chosen[chosen] = True
        return is_chosen


def ratio(numerator: AnyArray, denominator: AnyArray) -> FloatArray:
    """Return the quotient; NaN where the denominator is zero."""
    over = np.asarray(denominator, dtype=np.float64)
    safe = np.where(over == 0, 1.0, over)
    return np.where(over == 0, np.nan, numerator / safe)


def summed(values: AnyArray, group: IntArray, n_groups: int) -> FloatArray:
    """Return the sum of `values` over each group."""
    total = np.bincount(group, weights=values, minlength=n_groups)
    return np.asarray(total, dtype=np.float64)


def counted(group: IntArray, n_groups: int) -> IntArray:
    """Return the rows of each group."""
    return np.asarray(np.bincount(group, minlength=n_groups), dtype=np.int64)


def mean_of_known(values: FloatArray, group: IntArray, n_groups: int) -> FloatArray:
    """Return the mean of the finite `values` of each group; NaN where none is."""
    is_known = np.isfinite(values)
    total = summed(np.where(is_known, values, 0.0), group, n_groups)
    return ratio(total, counted(group[is_known], n_groups))
