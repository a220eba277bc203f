"""Cross-validation of rows whose labels look ahead: purged k-fold and its combinations.

Rules:

- A label belongs to the rows from its own to its `label_ends`. A training row stays only
  if none of its label's rows is one that a test label looks at.
- An embargo drops further training rows after the end of each test block's labels.
- Folds are runs of consecutive rows; their lengths differ by at most one.

This cuts rows; it fits nothing.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from lab.arrays import BoolArray, IntArray
from lab.errors import ValidationError
from lab.validation.overfitting import block_edges


@dataclass(frozen=True, slots=True)
class Split:
    """One way to train and test.

    Attributes
    ----------
    train, test : ndarray of shape (n_train,) and (n_test,), int64
        Sorted row numbers; disjoint.
    groups : tuple of int
        Which folds are tested.
    """

    train: IntArray
    test: IntArray
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CombinatorialSplits:
    """All splits of a combinatorial purged cross-validation, and its backtest paths.

    Attributes
    ----------
    splits : tuple of Split
        In the order of `itertools.combinations` of the groups.
    paths : ndarray of shape (n_paths, n_groups), int64
        Which split's test rows a path takes for each group: every path covers every
        row once, and every group of every split is in one path.
    edges : ndarray of shape (n_groups + 1,), int64
        Rows at which groups begin, and `n_obs`.
    """

    splits: tuple[Split, ...]
    paths: IntArray
    edges: IntArray

    @property
    def n_paths(self) -> int:
        """Number of complete out-of-sample paths."""
        return len(self.paths)


def purged_k_fold(
    n_obs: int,
    n_folds: int,
    *,
    label_ends: IntArray | int = 0,
    embargo: int = 0,
) -> tuple[Split, ...]:
    """Cut rows into folds; test on each, train on what cannot have seen it.

    Parameters
    ----------
    n_obs : int
        Rows in the order of time.
    n_folds : int
        2 to `n_obs`.
    label_ends : ndarray of shape (n_obs,), int64, or int, default 0
        Last row that each row's label looks at; one number is how many rows further.
        A label may look beyond the last row.
    embargo : int, rows, default 0
        Training rows dropped after the last row that a test label looks at.

    Returns
    -------
    tuple of Split
        One a fold, in the order of time.

    Raises
    ------
    ValidationError
        If the folds do not fit, a label ends before its row, the embargo is negative,
        or purging leaves nothing to train on.

    Notes
    -----
    Point in time: a training row after the test block is of its future. It shares no
    row of a label with it; that is what this can promise, walk-forward promises more.

    References
    ----------
    .. [1] López de Prado (2018), Advances in Financial Machine Learning, ch. 7.
    """
    edges, ends = _prepare(n_obs, n_folds, label_ends, embargo)
    return tuple(_split((fold,), edges, ends, embargo) for fold in range(n_folds))


def combinatorial_purged(
    n_obs: int,
    n_groups: int,
    n_tested: int,
    *,
    label_ends: IntArray | int = 0,
    embargo: int = 0,
) -> CombinatorialSplits:
    """Test on every choice of `n_tested` of the groups; join the tests to whole paths.

    Parameters
    ----------
    n_obs : int
        Rows in the order of time.
    n_groups : int
        Runs of rows.
    n_tested : int
        Tested at a time, 1 to `n_groups` - 1.
    label_ends, embargo
        As in `purged_k_fold`, around every tested group.

    Returns
    -------
    CombinatorialSplits
        C(n_groups, n_tested) splits and C(n_groups - 1, n_tested - 1) paths.

    Raises
    ------
    ValidationError
        As `purged_k_fold`; also if there would be more than 20,000 splits.

    References
    ----------
    .. [1] López de Prado (2018), Advances in Financial Machine Learning, ch. 12.
    """
    edges, ends = _prepare(n_obs, n_groups, label_ends, embargo)
    if not 1 <= n_tested < n_groups:
        raise ValidationError(f"{n_tested} of {n_groups} groups tested: 1 or more left")
    n_splits = math.comb(n_groups, n_tested)
    if n_splits > 20_000:
        raise ValidationError(f"{n_splits} splits: 20000 at most")
    splits = tuple(
        _split(groups, edges, ends, embargo)
        for groups in combinations(range(n_groups), n_tested)
    )
    tested: list[list[int]] = [[] for _ in range(n_groups)]
    for number, split in enumerate(splits):
        for group in split.groups:
            tested[group].append(number)
    return CombinatorialSplits(splits, np.array(tested, dtype=np.int64).T, edges)


def _prepare(
    n_obs: int, n_folds: int, label_ends: IntArray | int, embargo: int
) -> tuple[IntArray, IntArray]:
    if not 2 <= n_folds <= n_obs:
        raise ValidationError(f"{n_folds} folds of {n_obs} rows: 2 up to one a row")
    if embargo < 0:
        raise ValidationError(f"embargo {embargo}: 0 rows or more")
    rows = np.arange(n_obs, dtype=np.int64)
    ends = rows + label_ends if isinstance(label_ends, int) else label_ends
    if ends.shape != (n_obs,):
        raise ValidationError(f"label_ends of shape {ends.shape}, not ({n_obs},)")
    early = np.flatnonzero(ends < rows)
    if len(early):
        raise ValidationError(f"label of row {early[0]} ends before it")
    return block_edges(n_obs, n_folds), ends


def _split(
    groups: tuple[int, ...], edges: IntArray, ends: IntArray, embargo: int
) -> Split:
    rows = np.arange(len(ends), dtype=np.int64)
    is_test: BoolArray = np.zeros(len(ends), dtype=np.bool_)
    is_free: BoolArray = np.ones(len(ends), dtype=np.bool_)
    for first, stop in _runs(groups, edges):
        is_test[first:stop] = True
        last = int(ends[first:stop].max())
        is_free &= (ends < first) | (rows > last + embargo)
    train = np.flatnonzero(is_free & ~is_test)
    if len(train) == 0:
        raise ValidationError(
            f"test of groups {', '.join(map(str, groups))}: purging leaves no rows to"
            " train on"
        )
    return Split(train, np.flatnonzero(is_test), groups)


def _runs(groups: tuple[int, ...], edges: IntArray) -> list[tuple[int, int]]:
    # Neighbouring groups are one block.
    runs: list[tuple[int, int]] = []
    for group in groups:
        first, stop = int(edges[group]), int(edges[group + 1])
        if runs and runs[-1][1] == first:
            first = runs.pop()[0]
        runs.append((first, stop))
    return runs
