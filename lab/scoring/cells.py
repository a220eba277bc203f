"""Whether coverage holds in every cell: symbol × horizon × model.

Outcomes of overlapping forecasts go together, so a cell's error is judged by blocks: the
standard error of a share whose terms are added up block by block before they are squared.
"""

from dataclasses import dataclass

import numpy as np

from lab.arrays import BoolArray, FloatArray, IntArray
from lab.errors import ScoringError


@dataclass(frozen=True, slots=True)
class CoverageCheck:
    """How far a share of covered outcomes is from what was promised.

    Attributes
    ----------
    n_obs, n_blocks : int
        Outcomes, and blocks of them that do not overlap.
    coverage : float
        Share covered.
    standard_error : float
        Of that share, if the promise holds.
    """

    n_obs: int
    n_blocks: int
    coverage: float
    standard_error: float

    def distance(self, *, promised: float = 0.8) -> float:
        """Return how many standard errors the share lies from the promise."""
        return abs(self.coverage - promised) / self.standard_error


def check_coverage(
    is_covered: BoolArray, block: IntArray, *, promised: float = 0.8
) -> CoverageCheck:
    """Return the share covered and its block standard error.

    The error is that of a mean of terms that depend on each other within a block and
    not between: the root of the sum of squared block sums of ``covered − promised``,
    over their number. It is not taken smaller than that of independent outcomes,
    ``sqrt(promised (1 − promised) / n_obs)``: a few blocks that happen to agree prove
    nothing.

    Parameters
    ----------
    is_covered : ndarray of shape (n_obs,), bool
        Of one cell.
    block : ndarray of shape (n_obs,), int64
        Outcomes with equal numbers overlap; at least a horizon long.
    promised : float, default 0.8
        Share that should be covered.

    Raises
    ------
    ScoringError
        If there are no outcomes, or shapes differ.

    References
    ----------
    .. [1] Liang and Zeger (1986), Longitudinal data analysis using generalized linear
       models, Biometrika 73, 13-22: the variance of sums of clusters.
    """
    n_obs = len(is_covered)
    if n_obs == 0 or block.shape != (n_obs,):
        raise ScoringError(
            f"coverage: {n_obs} outcomes and {len(block)} block numbers given"
        )
    excess: FloatArray = is_covered.astype(np.float64) - promised
    _, place = np.unique(block, return_inverse=True)
    sums = np.bincount(place, excess)
    clustered = float(np.sqrt(sums @ sums)) / n_obs
    independent = float(np.sqrt(promised * (1 - promised) / n_obs))
    return CoverageCheck(
        n_obs=n_obs,
        n_blocks=len(sums),
        coverage=float(is_covered.mean()),
        standard_error=max(clustered, independent),
    )
