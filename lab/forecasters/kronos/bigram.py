"""A bigram over tokens: what a predictor has to beat before it has learned anything.

The next pair of tokens given the present pair, counted on training tokens. The coarse
token is predicted from the present pair, the fine one from the present pair and the
next coarse token; both back off to shorter contexts where counts are few.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from lab.arrays import FloatArray, IntArray
from lab.errors import TrainingError

_STRENGTHS: Final = (0.5, 2.0, 8.0, 32.0, 128.0, 512.0)


class TokenPairs(NamedTuple):
    """Tokens of windows.

    Attributes
    ----------
    s1, s2 : ndarray of shape (n_windows, n_tokens), int64
        Coarse and fine tokens.
    """

    s1: IntArray
    s2: IntArray


class CrossEntropy(NamedTuple):
    """Mean cross-entropies, nats: both tokens' mean, coarse, fine."""

    mean: float
    s1: float
    s2: float


@dataclass(frozen=True, slots=True)
class _Counts:
    # How often each outcome followed each context.
    n_outcomes: int
    keys: IntArray
    counts: IntArray
    contexts: IntArray
    totals: IntArray

    @classmethod
    def of(cls, context: IntArray, outcome: IntArray, n_outcomes: int) -> "_Counts":
        keys, counts = np.unique(context * n_outcomes + outcome, return_counts=True)
        contexts, totals = np.unique(context, return_counts=True)
        return cls(n_outcomes, keys, counts, contexts, totals)

    def chances(
        self, context: IntArray, outcome: IntArray, shorter: FloatArray, weight: float
    ) -> FloatArray:
        seen = _looked_up(self.keys, self.counts, context * self.n_outcomes + outcome)
        total = _looked_up(self.contexts, self.totals, context)
        chances: FloatArray = (seen + weight * shorter) / (total + weight)
        return chances


def bigram_cross_entropy(
    train: TokenPairs, validation: TokenPairs, *, n_s1: int, n_s2: int
) -> CrossEntropy:
    """Return the cross-entropy of bigrams fitted on `train`.

    The strength of the back-off is the one that is best on `train`'s last tenth, after
    counting the rest.

    Parameters
    ----------
    train, validation : TokenPairs
        Windows in the order of time.
    n_s1, n_s2 : int
        Sizes of the vocabularies.

    Raises
    ------
    TrainingError
        If there are too few windows to hold any out.

    Notes
    -----
    Point in time: nothing of `validation` enters the counts or the strength.
    """
    n_held = max(1, len(train.s1) // 10)
    if len(train.s1) <= n_held or len(validation.s1) == 0:
        raise TrainingError(
            f"bigram: {len(train.s1)} windows to count and {len(validation.s1)} to"
            " judge by; at least 2 and 1"
        )
    early, late = _part(train, slice(0, -n_held)), _part(train, slice(-n_held, None))
    found = []
    for is_coarse in (True, False):
        n = n_s1 if is_coarse else n_s2
        fitted = [
            _entropy(early, late, n, (n_s1, n_s2), weight, is_coarse=is_coarse)
            for weight in _STRENGTHS
        ]
        best = _STRENGTHS[int(np.argmin(fitted))]
        found.append(
            _entropy(train, validation, n, (n_s1, n_s2), best, is_coarse=is_coarse)
        )
    return CrossEntropy((found[0] + found[1]) / 2, found[0], found[1])


def _part(tokens: TokenPairs, rows: slice) -> TokenPairs:
    return TokenPairs(tokens.s1[rows], tokens.s2[rows])


def _entropy(
    train: TokenPairs,
    judged: TokenPairs,
    n: int,
    sizes: tuple[int, int],
    weight: float,
    *,
    is_coarse: bool,
) -> float:
    told, told_next = _contexts(train, sizes, is_coarse=is_coarse)
    asked, asked_next = _contexts(judged, sizes, is_coarse=is_coarse)
    chances = np.full(len(asked_next), 1.0 / n)
    for past, now in zip(told, asked, strict=True):
        counts = _Counts.of(past, told_next, n)
        chances = counts.chances(now, asked_next, chances, weight)
    return float(-np.log(chances).mean())


def _contexts(
    tokens: TokenPairs, sizes: tuple[int, int], *, is_coarse: bool
) -> tuple[Sequence[IntArray], IntArray]:
    # Contexts from the shortest to the longest, and what followed them.
    n_s1, n_s2 = sizes
    s1, s2 = tokens.s1[:, :-1].ravel(), tokens.s2[:, :-1].ravel()
    next1, next2 = tokens.s1[:, 1:].ravel(), tokens.s2[:, 1:].ravel()
    pair = s1 * n_s2 + s2
    if is_coarse:
        return (np.zeros_like(s1), s1, pair), next1
    return (next1, next1 * n_s2 + s2, pair * n_s1 + next1), next2


def _looked_up(keys: IntArray, values: IntArray, wanted: IntArray) -> FloatArray:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: FloatArray = np.where(keys[place] == wanted, values[place], 0).astype(float)
    return found
