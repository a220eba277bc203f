"""Rank correlation of forecasts and outcomes, in many groups at once."""

import numpy as np

from lab.arrays import FloatArray, IntArray
from lab.scoring.segments import counted, summed


def rank_correlations(
    predicted: FloatArray, actual: FloatArray, group: IntArray, n_groups: int
) -> FloatArray:
    """Return Spearman's rank correlation in each group; ties get their mean rank.

    Parameters
    ----------
    predicted, actual : ndarray of shape (n_rows,), float64
        Forecast and realised returns.
    group : ndarray of shape (n_rows,), int64
        Group of each row, in any order.
    n_groups : int
        Groups.

    Returns
    -------
    ndarray of shape (n_groups,), float64
        NaN below three rows and where one side does not vary.

    References
    ----------
    .. [1] Spearman (1904), The proof and measurement of association between two things,
       Am. J. Psychology 15, 72-101.
    """
    n_rows = counted(group, n_groups)
    left = _centred_ranks(predicted, group, n_rows)
    right = _centred_ranks(actual, group, n_rows)
    squares = [summed(side * side, group, n_groups) for side in (left, right)]
    scale = np.sqrt(squares[0] * squares[1])
    is_known = (n_rows >= 3) & (scale > 0)
    safe = np.where(is_known, scale, 1.0)
    return np.where(is_known, summed(left * right, group, n_groups) / safe, np.nan)


def _centred_ranks(values: FloatArray, group: IntArray, n_rows: IntArray) -> FloatArray:
    # Mean ranks inside each group, minus the group's mean rank.
    order = np.lexsort((values, group))
    sorted_group, sorted_values = group[order], values[order]
    is_first = np.ones(len(values), dtype=np.bool_)
    is_first[1:] = (np.diff(sorted_group) != 0) | (np.diff(sorted_values) != 0)
    first = np.flatnonzero(is_first)
    run = np.cumsum(is_first) - 1
    last = np.append(first[1:], len(values)) - 1
    starts = np.cumsum(n_rows) - n_rows
    rank = (first[run] + last[run]) / 2 - starts[sorted_group]
    centred = np.empty(len(values))
    centred[order] = rank - (n_rows[sorted_group] - 1) / 2
    return centred
