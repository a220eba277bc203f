"""Compiled passes of the drift statistics.

Compiled code is kept on disk until this file changes, so nothing here may call a
compiled function of another file. Sums run in a fixed order: equal inputs give equal
bits.
"""

# ruff: noqa: PLR0917 - arrays go by position

from typing import Final

import numpy as np
from numba import njit

from lab.arrays import AnyArray, FloatArray, IntArray

_compiled = njit(cache=True, fastmath=False, nogil=True, error_model="numpy")
_NEAR: Final = 8  # steps taken one by one before a search doubles them
_SHORTEST: Final = 6  # a change is looked for in the newest sixth of a window or more


@_compiled
def _advance(values: FloatArray, start: int, limit: float, is_right: int) -> int:
    # Rows from `start` on that are below the limit, or at it if `is_right`.
    n = len(values)
    position = start
    for _ in range(_NEAR):
        if position >= n:
            return n
        value = values[position]
        if value > limit or (value == limit and not is_right):
            return position
        position += 1
    low, stride = position, 1
    while position < n and (
        values[position] < limit or (is_right and values[position] == limit)
    ):
        low = position + 1
        position += stride
        stride *= 2
    high = min(position, n)
    while low < high:
        middle = (low + high) // 2
        value = values[middle]
        if value < limit or (is_right and value == limit):
            low = middle + 1
        else:
            high = middle
    return low


@_compiled
def ks_sorted(reference: FloatArray, current: FloatArray) -> float:
    """Return the two-sample KS statistic of two sorted samples.

    Between two values of `current` only the reference's distribution function rises, so
    the largest distance is at one of them or just below it.
    """
    n, m = len(reference), len(current)
    largest = 0.0
    position, k = 0, 0
    while k < m:
        value = current[k]
        last = k + 1
        while last < m and current[last] == value:
            last += 1
        position = _advance(reference, position, value, 0)
        below = abs(k / m - position / n)
        position = _advance(reference, position, value, 1)
        here = abs(last / m - position / n)
        largest = max(largest, below, here)
        k = last
    return largest


@_compiled
def count_cells(
    codes: AnyArray, block: IntArray, n_blocks: int, n_cells: int
) -> FloatArray:
    """Count cells by block.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_series), int8
        Cell of each value.
    block : ndarray of shape (n_rows,), int64
        Block of each row.
    n_blocks, n_cells : int
        How many of each.

    Returns
    -------
    ndarray of shape (n_blocks, n_series, n_cells), float64
    """
    n_rows, n_series = codes.shape
    counts = np.zeros((n_blocks, n_series, n_cells))
    for t in range(n_rows):
        for s in range(n_series):
            counts[block[t], s, codes[t, s]] += 1.0
    return counts


@_compiled
def _distances(
    chosen: FloatArray, total: FloatArray, n_known_cells: int
) -> tuple[float, float]:
    # Anderson and Darling's distance over the cells' edges with one more term for
    # missing values, and the chi-square distance of the cells.
    known_a, known = 0.0, 0.0
    for j in range(n_known_cells):
        known_a += chosen[j]
        known += total[j]
    known_b = known - known_a
    missing_a = chosen[n_known_cells]
    missing = total[n_known_cells]
    n_a, n = known_a + missing_a, known + missing
    n_b = n - n_a
    far, chi = 0.0, 0.0
    if known_a > 0.0 and known_b > 0.0:
        below_a, below = 0.0, 0.0
        for j in range(n_known_cells):
            if total[j] == 0.0:
                continue
            share = total[j] / known
            gap = chosen[j] / known_a - (total[j] - chosen[j]) / known_b
            chi += gap * gap / share
            below_a += chosen[j]
            below += total[j]
            h = below / known
            if h < 1.0 - 1e-12:
                gap = below_a / known_a - (below - below_a) / known_b
                far += share * gap * gap / (h * (1.0 - h))
        far *= known_a * known_b / known
    if missing > 0.0 and missing < n:
        h = missing / n
        gap = missing_a / n_a - (missing - missing_a) / n_b
        far += n_a * n_b / n * gap * gap / (h * (1.0 - h))
    return far, chi


@_compiled
def _drawn_sums(
    order: IntArray,
    s: int,
    counts: FloatArray,
    scores: FloatArray,
    sizes: FloatArray,
    chosen: FloatArray,
    grand: tuple[float, float],
) -> tuple[float, int]:
    # Adds up the cells of the drawn blocks. Returns the largest sum of scores over the
    # newest of them, each score less the mean of the blocks that were not drawn, over
    # the root of their rows; and with how many blocks it was reached.
    n_cells = counts.shape[2]
    for j in range(n_cells):
        chosen[j] = 0.0
    total_score, total_size = 0.0, 0.0
    for i in range(len(order)):
        b = order[i]
        for j in range(n_cells):
            chosen[j] += counts[b, s, j]
        total_score += scores[b, s]
        total_size += sizes[b]
    rest = (grand[0] - total_score) / (grand[1] - total_size)
    running, rows, largest, best = 0.0, 0.0, -1.0, len(order)
    for k in range(len(order)):
        b = order[len(order) - 1 - k]
        running += scores[b, s] - sizes[b] * rest
        rows += sizes[b]
        if k >= 1 and rows * _SHORTEST >= total_size:
            found = abs(running) / np.sqrt(rows)
            if found > largest:
                largest, best = found, k + 1
    return largest, best


@_compiled
def permute_blocks(
    counts: FloatArray,
    scores: FloatArray,
    sizes: FloatArray,
    n_drawn: int,
    uniforms: FloatArray,
    inflation: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray, IntArray]:
    """Permute blocks; the last `n_drawn` blocks are the current ones, in time order.

    Parameters
    ----------
    counts : ndarray of shape (n_blocks, n_series, n_cells), float64
        Values by cell; the last cell is of missing ones.
    scores : ndarray of shape (n_blocks, n_series), float64
        Sums of the rows' rank scores.
    sizes : ndarray of shape (n_blocks,), float64
        Rows of each block.
    n_drawn : int
        Current blocks.
    uniforms : ndarray of shape (n_permutations, n_drawn), float64
        Random numbers in [0, 1).
    inflation : ndarray of shape (n_series,), float64
        What the variance of a difference is to that between permuted blocks.

    Returns
    -------
    reached : ndarray of shape (n_series, 2), float64
        Permutations whose distance, and whose CUSUM, is at least the observed one.
    observed : ndarray of shape (n_series, 2), float64
        The observed distance and CUSUM.
    chi : ndarray of shape (n_series,), float64
        Mean chi-square distance of the permutations, inflated.
    newest : ndarray of shape (n_series,), int64
        Newest blocks of the window with which the observed CUSUM was reached.
    """
    n_blocks, n_series, n_cells = counts.shape
    total = np.zeros((n_series, n_cells))
    score = np.zeros(n_series)
    size = 0.0
    for b in range(n_blocks):
        size += sizes[b]
        for s in range(n_series):
            score[s] += scores[b, s]
            for j in range(n_cells):
                total[s, j] += counts[b, s, j]
    observed = np.empty((n_series, 2))
    reached = np.zeros((n_series, 2))
    chi = np.zeros(n_series)
    newest = np.empty(n_series, dtype=np.int64)
    chosen = np.empty(n_cells)
    order = np.arange(n_blocks - n_drawn, n_blocks)
    for s in range(n_series):
        grand = (score[s], size)
        found = _drawn_sums(order, s, counts, scores, sizes, chosen, grand)
        observed[s, 1], newest[s] = found
        observed[s, 0], _ = _distances(chosen, total[s], n_cells - 1)
    deck = np.arange(n_blocks)
    for p in range(len(uniforms)):
        for i in range(n_drawn):
            k = i + int(uniforms[p, i] * (n_blocks - i))
            deck[i], deck[k] = deck[k], deck[i]
        drawn = deck[:n_drawn]
        for s in range(n_series):
            grand = (score[s], size)
            cusum, _ = _drawn_sums(drawn, s, counts, scores, sizes, chosen, grand)
            far, gap = _distances(chosen, total[s], n_cells - 1)
            # A hair of slack: equal draws in another order must count as equal.
            if far * inflation[s] >= observed[s, 0] * (1.0 - 1e-9):
                reached[s, 0] += 1.0
            if cusum * np.sqrt(inflation[s]) >= observed[s, 1] * (1.0 - 1e-9):
                reached[s, 1] += 1.0
            chi[s] += gap
    return reached, observed, chi * inflation / len(uniforms), newest
