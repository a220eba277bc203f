"""Whether a window differs from its reference by more than dependence explains.

Rows of reference and window are cut into blocks of consecutive moments, and whole
blocks change sides. Two statistics per series, both of ranks, so that one wild value
decides nothing: Anderson and Darling's distance between the two distributions (with a
term for the share of missing values), and a CUSUM of the window's rank scores from its
end backwards, which sees a change that begins inside the window. A series' p-value is
twice the smaller of the two.

Blocks cannot be long enough for strong dependence in short windows: of 300 rows there
are few blocks left. What the blocks miss is added back: every permuted statistic is
inflated by the ratio of the variance that a mean over the whole window has, to the one
that means of blocks show: at the series' own persistence, or at that of its blocks'
means or spreads, whichever asks for more.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from lab.arrays import FloatArray, IntArray
from lab.drift.profile import ReferenceProfile, take_stretches
from lab.errors import DriftError

PERMUTATIONS: Final = 5_000
MAX_ROWS: Final = 5_000
_PER_TEST: Final = 100
_CELLS: Final = 16
_LEAST_BLOCKS: Final = 12
_MOST_BLOCKS: Final = 160
_MOST_PERSISTENT: Final = 0.995
_AFTER: Final = 1_000_000  # stretches of the window are numbered from here


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of several series in time order.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_series), float64
        NaN is missing.
    moments : ndarray of shape (n_rows,), int64
        Not decreasing within a stretch; rows of one moment stay together.
    stretch : ndarray of shape (n_rows,), int64
        Contiguous stretches, numbered in order; blocks never cross them.
    """

    values: FloatArray
    moments: IntArray
    stretch: IntArray


@dataclass(frozen=True, slots=True)
class Permuted:
    """What the permutations say of each series.

    Attributes
    ----------
    p_values : ndarray of shape (n_series,), float64
        Twice the smaller of the two statistics' p-values, at most 1.
    distance_p, cusum_p : ndarray of shape (n_series,), float64
        Of Anderson and Darling's distance, and of the CUSUM.
    cusum : ndarray of shape (n_series,), float64
        Largest sum of rank scores over the newest part of the window, from its newest
        sixth to all of it, over the root of that part's rows.
    since : ndarray of shape (n_series,), int64
        First moment of that part.
    null_psi : ndarray of shape (n_series,), float64
        Chi-square distance per degree of freedom that the permutations show on average.
    persistence : ndarray of shape (n_series,), float64
        First autocorrelation of the moments' mean rank scores.
    inflation : ndarray of shape (n_series,), float64
        By which the variances of permuted statistics were multiplied.
    block : int
        Moments per block.
    n_permutations : int
        Permutations drawn.
    n_rows : int
        Rows they were drawn on.
    """

    p_values: FloatArray
    distance_p: FloatArray
    cusum_p: FloatArray
    cusum: FloatArray
    since: IntArray
    null_psi: FloatArray
    persistence: FloatArray
    inflation: FloatArray
    block: int
    n_permutations: int
    n_rows: int


def block_permutation(
    reference: ReferenceProfile,
    current: FloatArray,
    moments: IntArray,
    *,
    rng: np.random.Generator,
    n_tests: int | None = None,
) -> Permuted:
    """Test every series of a window against its reference.

    Parameters
    ----------
    reference : ReferenceProfile
        Its kept rows are permuted.
    current : ndarray of shape (n_obs, n_series), float64
        The window, in time order.
    moments : ndarray of shape (n_obs,), int64
        Of its rows, not decreasing.
    rng : numpy.random.Generator
        Draws the permutations.
    n_tests : int, optional
        Tests that share the report: with many, more permutations are drawn, so that a
        single one can still stand after Benjamini and Hochberg. The series' number if
        not given.

    Returns
    -------
    Permuted
        From 5,000 permutations or more on 5,000 rows or fewer.

    Raises
    ------
    DriftError
        If the shapes do not fit, or either side has fewer than 12 moments.

    Notes
    -----
    Point in time: knows the reference's rows and the window's, nothing else.

    References
    ----------
    .. [1] Anderson and Darling (1952), Asymptotic theory of certain goodness of fit
       criteria, Annals of Mathematical Statistics 23, 193-212.
    .. [2] Csörgő and Horváth (1997), Limit Theorems in Change-Point Analysis, ch. 2.
    .. [3] Kirch (2007), Block permutation principles for the change analysis of
       dependent data, Journal of Statistical Planning and Inference 137, 2453-2474.
    .. [4] Marriott and Pope (1954), Bias in the estimation of autocorrelations,
       Biometrika 41, 390-402.
    """
    from lab.drift.kernels import count_cells, permute_blocks

    n_series = len(reference.names)
    if current.ndim != 2 or current.shape[1] != n_series:
        raise DriftError(f"window of shape {current.shape}: {n_series} columns")
    before, after = _within_budget(reference, current, moments)
    pooled = np.concatenate([before.values, after.values])
    codes, rank_scores = _cells(pooled)
    lengths, phi = _persistence(before, after, _scored(codes, rank_scores))
    block = _block_length(lengths, float(phi.max(initial=0.0)))
    block_of, group = _blocks(before, after, block)
    n_blocks, n_drawn = len(group), int(np.count_nonzero(group >= _AFTER))
    counts = count_cells(codes, block_of, n_blocks, rank_scores.shape[1])
    scores = np.einsum("bsj,sj->bs", counts, rank_scores)
    sizes = np.bincount(block_of, minlength=n_blocks).astype(np.float64)
    inflation = _inflation(lengths, phi, block, n_blocks)
    # What is left between blocks: slow parts under noise, spells of large values.
    squares = np.einsum("bsj,sj->bs", counts, rank_scores**2)
    for sums in (scores, squares):
        inflation = np.maximum(
            inflation, _inflation(*_lag_one(sums / sizes[:, None], group), 1, n_blocks)
        )
    n = max(PERMUTATIONS, _PER_TEST * (n_series if n_tests is None else n_tests))
    reached, observed, chi, newest = permute_blocks(
        counts, scores, sizes, n_drawn, rng.random((n, n_drawn)), inflation
    )
    p = (1.0 + reached) / (1.0 + n)
    cells = np.count_nonzero(counts[:, :, :-1].sum(axis=0), axis=1)
    return Permuted(
        p_values=np.minimum(2.0 * p.min(axis=1), 1.0),
        distance_p=p[:, 0],
        cusum_p=p[:, 1],
        cusum=observed[:, 1],
        since=_since(after, block_of[-len(after.moments) :], newest),
        null_psi=chi / np.maximum(cells - 1, 1),
        persistence=phi,
        inflation=inflation,
        block=block,
        n_permutations=n,
        n_rows=len(pooled),
    )


def _within_budget(
    reference: ReferenceProfile, current: FloatArray, moments: IntArray
) -> tuple[Rows, Rows]:
    # The window may take half of the budget, or what the reference leaves of it.
    n_reference = len(reference.rows)
    room = max(MAX_ROWS // 2, MAX_ROWS - n_reference)
    kept, stretch = take_stretches(moments, room)
    after = Rows(current[kept], moments[kept], stretch)
    share = min(1.0, (MAX_ROWS - len(kept)) / n_reference)
    before = Rows(reference.rows, reference.moments, reference.stretch)
    if share < 1.0:
        before = _trimmed(before, share)
    for name, rows in (("reference", before), ("window", after)):
        n = len(_moment_starts(rows))
        if n < _LEAST_BLOCKS:
            raise DriftError(f"{name}: {n} moments, at least {_LEAST_BLOCKS}")
    return before, after


def _trimmed(rows: Rows, share: float) -> Rows:
    # The newest part of every stretch, from a whole moment on.
    ends = np.append(np.flatnonzero(np.diff(rows.stretch)) + 1, len(rows.stretch))
    parts, first = [], 0
    for end in ends:
        start = end - int((end - first) * share)
        own = rows.moments[first:end]
        if (
            start < end
            and start > first
            and own[start - first - 1] == rows.moments[start]
        ):
            start = first + int(np.searchsorted(own, rows.moments[start], side="right"))
        parts.append(np.arange(start, end))
        first = int(end)
    kept = np.concatenate(parts)
    return Rows(rows.values[kept], rows.moments[kept], rows.stretch[kept])


def _cells(values: FloatArray) -> tuple[np.ndarray, FloatArray]:
    # Cells between pooled quantiles, the last of missing values, and their mid-ranks.
    n, n_series = values.shape
    codes = np.full((n, n_series), _CELLS, dtype=np.int8)
    scores = np.zeros((n_series, _CELLS + 1))
    for s in range(n_series):
        is_known = np.isfinite(values[:, s])
        known = np.sort(values[is_known, s])
        if not len(known):
            continue
        places = np.arange(1, _CELLS) * len(known) // _CELLS
        # A value that fills a cell has one of its own.
        edges, counts_at = np.unique(known[places], return_counts=True)
        edges = np.unique(np.append(edges, np.nextafter(edges[counts_at > 1], np.inf)))
        own = np.searchsorted(edges, values[is_known, s], side="right")
        codes[is_known, s] = own
        share = np.bincount(own, minlength=_CELLS) / len(known)
        scores[s, :_CELLS] = np.cumsum(share) - share / 2.0 - 0.5
    return codes, scores


def _scored(codes: np.ndarray, rank_scores: FloatArray) -> FloatArray:
    return np.take_along_axis(rank_scores, codes.T.astype(np.int64), axis=1).T


def _moment_starts(rows: Rows) -> IntArray:
    is_new = (np.diff(rows.moments) != 0) | (np.diff(rows.stretch) != 0)
    return np.append(0, np.flatnonzero(is_new) + 1)


@dataclass(frozen=True, slots=True)
class _Lengths:
    # Moments of every stretch of the reference and of the window.
    before: IntArray
    after: IntArray


def _persistence(
    before: Rows, after: Rows, scores: FloatArray
) -> tuple[_Lengths, FloatArray]:
    # Of the moments' mean scores.
    means, groups, first = [], [], 0
    for number, rows in enumerate((before, after)):
        own = scores[first : first + len(rows.moments)]
        first += len(own)
        starts = _moment_starts(rows)
        sizes = np.diff(np.append(starts, len(own)))
        means.append(np.add.reduceat(own, starts, axis=0) / sizes[:, None])
        groups.append(rows.stretch[starts] + number * _AFTER)
    return _lag_one(np.concatenate(means), np.concatenate(groups))


def _lag_one(means: FloatArray, group: IntArray) -> tuple[_Lengths, FloatArray]:
    # Every stretch about its own mean, so that drift itself is not persistence.
    names, sizes = np.unique(group, return_counts=True)
    product, square = np.zeros(means.shape[1]), np.zeros(means.shape[1])
    for name in names:
        part = means[group == name]
        part = part - part.mean(axis=0)
        product += np.sum(part[1:] * part[:-1], axis=0)
        square += np.sum(part * part, axis=0)
    phi = np.divide(product, square, out=np.zeros_like(product), where=square > 1e-12)
    phi += (1.0 + 3.0 * phi) * len(names) / len(means)
    lengths = _Lengths(sizes[names < _AFTER], sizes[names >= _AFTER])
    return lengths, np.clip(phi, 0.0, _MOST_PERSISTENT)


def _block_length(lengths: _Lengths, phi: float) -> int:
    # Long enough for the most persistent series, short enough to leave blocks to move.
    smaller = min(int(lengths.before.sum()), int(lengths.after.sum()))
    total = int(lengths.before.sum() + lengths.after.sum())
    wanted = math.ceil(5.0 * (1.0 + phi) / (1.0 - phi))
    least = math.ceil(total / _MOST_BLOCKS)
    most = smaller // _LEAST_BLOCKS
    return max(1, min(max(wanted, least), most))


def _blocks(before: Rows, after: Rows, block: int) -> tuple[IntArray, IntArray]:
    # Number of the block of every row, where a short rest joins the block before it;
    # and the stretch of every block.
    numbers, groups, n_blocks = [], [], 0
    for side, rows in enumerate((before, after)):
        starts = _moment_starts(rows)
        sizes = np.diff(np.append(starts, len(rows.moments)))
        stretch = rows.stretch[starts]
        own = []
        for k in np.unique(stretch):
            n = int(np.count_nonzero(stretch == k))
            whole = max(1, round(n / block))
            own.append(n_blocks + np.minimum(np.arange(n) // block, whole - 1))
            n_blocks += whole
            groups.append(np.full(whole, k + side * _AFTER))
        numbers.append(np.repeat(np.concatenate(own), sizes))
    return np.concatenate(numbers), np.concatenate(groups)


def _since(after: Rows, block_of: IntArray, newest: IntArray) -> IntArray:
    first = np.searchsorted(block_of, block_of[-1] + 1 - newest, side="left")
    found: IntArray = after.moments[first]
    return found


def _factor(phi: FloatArray, n: FloatArray) -> FloatArray:
    # n times the variance of a mean of n values of an AR(1), whose own variance is 1.
    tail: FloatArray = 2 * phi * (1 - phi**n) / (n * (1 - phi) ** 2)
    return (1 + phi) / (1 - phi) - tail


def _inflation(
    lengths: _Lengths, phi: FloatArray, block: int, n_blocks: int
) -> FloatArray:
    # Variance of a difference of means over the sides, to that which blocks show.
    def mean_variance(sides: IntArray) -> FloatArray:
        n = sides.astype(np.float64)[:, None]
        sums: FloatArray = np.sum(n * _factor(phi[None, :], n), axis=0)
        return sums / int(sides.sum()) ** 2

    a, b = int(lengths.before.sum()), int(lengths.after.sum())
    both = np.concatenate([lengths.before, lengths.after])
    true = mean_variance(lengths.before) + mean_variance(lengths.after)
    # Blocks vary about the mean of all of them, which varies too.
    between = _factor(phi, np.full_like(phi, block)) / block - mean_variance(both)
    shown = between * n_blocks / (n_blocks - 1) * block * (1 / a + 1 / b)
    least = 0.05 * true  # a pooled mean as uncertain as blocks are: nothing is known
    return np.maximum(true / np.maximum(shown, least), 1.0)
