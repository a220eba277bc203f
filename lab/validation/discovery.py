"""Which of many tests are discoveries when a share of false ones is accepted."""

from dataclasses import dataclass

import numpy as np

from lab.arrays import BoolArray, FloatArray
from lab.errors import ValidationError
from lab.scoring.comparison import benjamini_hochberg as adjusted_p_values


@dataclass(frozen=True, slots=True)
class Discoveries:
    """Tests that stand at a false discovery rate.

    Attributes
    ----------
    adjusted : ndarray of shape (n_tests,), float64
        The rate at which each would be rejected; NaN where there was no test.
    is_discovery : ndarray of shape (n_tests,), bool
        Whether it is at the rate asked for.
    """

    adjusted: FloatArray
    is_discovery: BoolArray


def benjamini_hochberg(
    p_values: FloatArray, *, rate: float = 0.05, is_dependent: bool = False
) -> Discoveries:
    """Control the false discovery rate of many tests.

    Parameters
    ----------
    p_values : ndarray of shape (n_tests,), float64
        NaN is no test: it neither counts nor is one a discovery.
    rate : float, default 0.05
        Accepted share of false ones among the discoveries.
    is_dependent : bool, default False
        Hold the rate under any dependence, not only where tests are independent or move
        together, at the price of power: Benjamini and Yekutieli's factor Σ 1/k.

    Raises
    ------
    ValidationError
        If the rate is not between 0 and 1, or a p-value is not from 0 to 1.

    References
    ----------
    .. [1] Benjamini and Hochberg (1995), Controlling the false discovery rate, JRSS B
       57, 289-300.
    .. [2] Benjamini and Yekutieli (2001), The control of the false discovery rate under
       dependency, Annals of Statistics 29, 1165-1188.
    """
    if not 0 < rate < 1:
        raise ValidationError(f"false discovery rate {rate}: between 0 and 1")
    p = np.asarray(p_values, dtype=np.float64)
    tested = p[np.isfinite(p)]
    if np.isinf(p).any() or (
        len(tested) and not 0 <= tested.min() <= tested.max() <= 1
    ):
        raise ValidationError("p-values: 0 to 1, NaN for no test")
    adjusted = adjusted_p_values(p)
    if is_dependent and len(tested):
        # Before the cut at 1 the factor and the running minimum commute.
        factor = float(np.sum(1.0 / np.arange(1, len(tested) + 1)))
        adjusted = np.minimum(adjusted * factor, 1.0)
    with np.errstate(invalid="ignore"):
        return Discoveries(adjusted, adjusted <= rate)
