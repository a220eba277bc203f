"""Whether a genome is something new: what it earned each day beside what others did.

Genomes are compared by what they do, not by how they are written: by the correlation of
their out-of-sample daily net returns. Correlations are signed, for the opposite of a bet
is another bet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lab.arrays import FloatArray, IntArray

MAX_CORRELATION: Final = 0.7
"""Above it two genomes are one bet."""

NEIGHBOURS: Final = 3
"""Novelty is measured against so many of the nearest."""

_FLAT: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Likeness:
    """How like others one series is.

    Attributes
    ----------
    max_correlation : float
        With the nearest; -1 where there is no other.
    nearest : int
        Which, -1 where there is none.
    novelty : float
        1 less the mean correlation with the `NEIGHBOURS` nearest: 0 is a copy, 2 the
        opposite; 1 where there is no other.
    """

    max_correlation: float
    nearest: int
    novelty: float


def standardised(returns: FloatArray) -> FloatArray:
    """Return series centred and of length one: their products are correlations.

    Parameters
    ----------
    returns : ndarray of shape (..., n_days), float64
        Daily returns; a series that never varies is all zeros in the result.
    """
    centred = returns - returns.mean(axis=-1, keepdims=True)
    length = np.sqrt(np.square(centred).sum(axis=-1, keepdims=True))
    varies = np.ptp(returns, axis=-1, keepdims=True) > _FLAT
    empty = np.zeros_like(centred)
    return np.asarray(np.divide(centred, length, out=empty, where=varies))


def likeness(series: FloatArray, others: Sequence[FloatArray]) -> Likeness:
    """Compare one series with others.

    Parameters
    ----------
    series : ndarray of shape (n_days,), float64
        Standardised.
    others : sequence of ndarray of shape (n_days,), float64
        Standardised.

    References
    ----------
    .. [1] Lehman & Stanley (2011), Abandoning Objectives: Evolution through the Search
       for Novelty Alone, Evolutionary Computation 19(2): distance to the k nearest.
    """
    if len(others) == 0:
        return Likeness(-1.0, -1, 1.0)
    # Not one product of matrices: its bits would depend on how many others there are.
    found = np.array([float((series * other).sum()) for other in others])
    found = np.clip(found, -1.0, 1.0)
    near = np.sort(found)[::-1][:NEIGHBOURS]
    nearest = int(np.argmax(found))
    return Likeness(float(found[nearest]), nearest, float(1.0 - near.mean()))


def distinct(
    order: IntArray, series: FloatArray, *, count: int, limit: float = MAX_CORRELATION
) -> list[int]:
    """Return the first `count` of an order that are no copies of one before.

    Parameters
    ----------
    order : ndarray of shape (n,), int64
        Rows, best first.
    series : ndarray of shape (n_rows, n_days), float64
        Standardised.
    count : int
        At most so many.
    limit : float
        Largest correlation.
    """
    kept: list[int] = []
    for row in order:
        if len(kept) == count:
            break
        others = [series[one] for one in kept]
        if likeness(series[row], others).max_correlation <= limit:
            kept.append(int(row))
    return kept
