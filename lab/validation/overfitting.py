"""How often the best trial of one half of the time is below average in the other.

Combinatorially symmetric cross-validation: the rows are cut into blocks, every choice
of half of them is once in sample, and its complement out of sample. A Sharpe ratio over
any blocks needs three sums a block, so all splits are one product of a 0/1 matrix with
the blocks' sums, and each split's complement is another split's sample.
"""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from lab.arrays import BoolArray, FloatArray, IntArray
from lab.errors import ValidationError
from lab.validation.sharpe import is_constant

_PAIRS_AT_ONCE: Final = 64
"""Splits and their complements worked on together: they fit the cache."""


@dataclass(frozen=True, slots=True)
class Overfitting:
    """What became, out of sample, of the trial that was best in sample.

    Attributes
    ----------
    pbo : float
        Share of splits in which it ended in the lower half: the probability of
        backtest overfitting.
    logits : ndarray of shape (n_splits,), float64
        Log-odds of its relative rank out of sample; at most 0 in the lower half.
    chosen : ndarray of shape (n_splits,), int64
        Which trial was best in sample.
    in_sample, out_of_sample : ndarray of shape (n_splits,), float64
        Its Sharpe ratios, per observation.
    n_trials : int
        Trials that were ranked; constant ones are not.
    """

    pbo: float
    logits: FloatArray
    chosen: IntArray
    in_sample: FloatArray
    out_of_sample: FloatArray
    n_trials: int

    @property
    def degradation(self) -> float:
        """Slope of the Sharpe ratio out of sample on the one in sample."""
        spread = self.in_sample - self.in_sample.mean()
        square = float(spread @ spread)
        return float(spread @ self.out_of_sample) / square if square > 0 else 0.0

    @property
    def loss_probability(self) -> float:
        """Share of splits in which the chosen trial lost out of sample."""
        return float(np.mean(self.out_of_sample < 0))


def probability_of_backtest_overfitting(
    returns: FloatArray, *, n_blocks: int = 16
) -> Overfitting:
    """Estimate by CSCV how likely choosing by backtest chooses a below-average trial.

    Parameters
    ----------
    returns : ndarray of shape (n_obs, n_trials), float64
        Simple returns of every trial on the same rows, finite.
    n_blocks : int, default 16
        Even; the rows are cut into as many runs whose lengths differ by at most 1.

    Raises
    ------
    ValidationError
        If the number of blocks is odd or below 2, there are fewer than two rows a
        block, fewer than two trials vary, or a value is not finite.

    Notes
    -----
    Splits are in the order of `itertools.combinations`. The best in sample is the
    lowest index among equals; a trial that is constant in a half is never best there,
    and has the Sharpe ratio 0 when ranked. Equals share the mean of their ranks.
    Point in time: rows of the future choose for the past here; this judges a way of
    choosing, it is no forecast.

    References
    ----------
    .. [1] Bailey, Borwein, López de Prado and Zhu (2017), The probability of backtest
       overfitting, Journal of Computational Finance 20(4), 39-69.
    """
    _check(returns, n_blocks)
    varying = np.flatnonzero(~is_constant(np.ascontiguousarray(returns.T)))
    if len(varying) < 2:
        raise ValidationError(f"{len(varying)} trials that vary: 2 or more")
    sums = _block_sums(returns[:, varying], n_blocks)
    members = split_members(n_blocks)
    n_splits, n_pairs = len(members), len(members) // 2
    chosen = np.empty(n_splits, dtype=np.int64)
    ranks, inside, outside = np.empty((3, n_splits))
    for start in range(0, n_pairs, _PAIRS_AT_ONCE):
        rows = np.arange(start, min(start + _PAIRS_AT_ONCE, n_pairs))
        first = _sharpes(members[rows], sums)
        # The complement of the k-th combination is the k-th from the end.
        second = _sharpes(members[n_splits - 1 - rows], sums)
        for train, test, at in (
            (first, second, rows),
            (second, first, n_splits - 1 - rows),
        ):
            best, inside[at], outside[at], ranks[at] = _follow(train, test)
            chosen[at] = varying[best]
    relative = ranks / (len(varying) + 1)
    logits = np.log(relative / (1.0 - relative))
    # Half of an odd number of trials is rounding away from 0.
    is_lower = 2.0 * ranks <= len(varying) + 1
    return Overfitting(
        float(is_lower.mean()), logits, chosen, inside, outside, len(varying)
    )


def split_members(n_blocks: int) -> BoolArray:
    """Return which blocks are in sample in each split, (n_splits, n_blocks)."""
    chosen = np.array(list(combinations(range(n_blocks), n_blocks // 2)))
    members = np.zeros((len(chosen), n_blocks), dtype=np.bool_)
    np.put_along_axis(members, chosen, values=True, axis=1)
    return members


def block_edges(n_obs: int, n_blocks: int) -> IntArray:
    """Return the rows at which blocks begin, and `n_obs`; lengths differ by at most 1."""
    return np.arange(n_blocks + 1, dtype=np.int64) * n_obs // n_blocks


@dataclass(frozen=True, slots=True)
class _BlockSums:
    # Of deviations from each trial's own mean: nothing is lost to cancellation.
    count: FloatArray  # (n_blocks,)
    total: FloatArray  # (n_blocks, n_trials)
    square: FloatArray  # (n_blocks, n_trials)
    mean: FloatArray  # (n_trials,)
    floor: FloatArray  # (n_trials,) sums of squares below it are rounding


def _block_sums(returns: FloatArray, n_blocks: int) -> _BlockSums:
    edges = block_edges(len(returns), n_blocks)
    mean = returns.mean(axis=0)
    total, square = np.empty((2, n_blocks, returns.shape[1]))
    for block in range(n_blocks):
        deviations = returns[edges[block] : edges[block + 1]] - mean
        total[block] = deviations.sum(axis=0)
        square[block] = np.einsum("ij,ij->j", deviations, deviations)
    count = np.diff(edges).astype(np.float64)
    return _BlockSums(count, total, square, mean, 1e-12 * square.sum(axis=0))


def _sharpes(members: BoolArray, sums: _BlockSums) -> FloatArray:
    # (n_splits, n_trials), NaN where constant.
    weights = members.astype(np.float64)
    n_obs = (weights @ sums.count)[:, None]
    total = weights @ sums.total
    square = weights @ sums.square
    total /= n_obs
    square -= n_obs * total * total
    square[square <= sums.floor] = np.nan
    square /= n_obs - 1.0
    np.sqrt(square, out=square)
    total += sums.mean
    total /= square
    return total


def _follow(
    train: FloatArray, test: FloatArray
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    # The best of each row of `train`, and where it ranks in `test`.
    best: IntArray = np.argmax(np.where(np.isnan(train), -np.inf, train), axis=1)
    rows = np.arange(len(best))
    ranked = np.where(np.isnan(test), 0.0, test)
    own = ranked[rows, best]
    below = np.count_nonzero(ranked < own[:, None], axis=1)
    equal = np.count_nonzero(ranked == own[:, None], axis=1)
    return best, train[rows, best], own, below + (equal + 1) / 2.0


def _check(returns: FloatArray, n_blocks: int) -> None:
    if n_blocks < 2 or n_blocks % 2:
        raise ValidationError(f"{n_blocks} blocks: an even number, 2 or more")
    if math.comb(n_blocks, n_blocks // 2) > 200_000:
        raise ValidationError(f"{n_blocks} blocks: 20 at most")
    if returns.ndim != 2 or len(returns) < 2 * n_blocks:
        raise ValidationError(
            f"returns of shape {returns.shape}: (n_obs, n_trials), 2 rows or more for"
            f" each of {n_blocks} blocks"
        )
    if not bool(np.isfinite(returns).all()):
        raise ValidationError("returns of trials: finite")
