"""Whether forecast bands and distributions hold as often as they say."""

import numpy as np

from lab.arrays import AnyArray, BoolArray, FloatArray
from lab.errors import ScoringError


def is_covered(lower: FloatArray, upper: FloatArray, actual: FloatArray) -> BoolArray:
    """Return where the outcome lies inside the band, its borders included."""
    return np.asarray((lower <= actual) & (actual <= upper))


def winkler_score(
    lower: FloatArray, upper: FloatArray, actual: FloatArray, *, coverage: float = 0.8
) -> FloatArray:
    """Return the interval score of a central band; lower is better.

    The band's width, plus ``2 / (1 − coverage)`` times the distance to the outcome
    where it lies outside.

    Parameters
    ----------
    lower, upper : ndarray of shape (n_obs,), float64
        Borders of the band.
    actual : ndarray of shape (n_obs,), float64
        Outcomes.
    coverage : float, default 0.8
        What the band promises.

    Returns
    -------
    ndarray of shape (n_obs,), float64

    Raises
    ------
    ScoringError
        If `coverage` is not between 0 and 1.

    References
    ----------
    .. [1] Winkler (1972), A decision-theoretic approach to interval estimation, JASA
       67, 187-191.
    .. [2] Gneiting and Raftery (2007), JASA 102, 359-378, eq. 43.
    """
    if not 0 < coverage < 1:
        raise ScoringError(f"coverage {coverage}: allowed is between 0 and 1")
    missed = np.maximum(lower - actual, 0) + np.maximum(actual - upper, 0)
    return np.asarray(upper - lower + 2 / (1 - coverage) * missed)


def pit_from_samples(samples: AnyArray, actual: FloatArray) -> FloatArray:
    """Return the share of the forecast below the outcome, from samples.

    The outcome's rank among the samples, as the middle of its bin: ``(below + ½ equal +
    ½) / (M + 1)``. A calibrated forecast makes all M + 1 bins equally frequent.

    Parameters
    ----------
    samples : ndarray of shape (n_obs, n_samples), float
        Exchangeable draws.
    actual : ndarray of shape (n_obs,), float64
        Outcomes.

    Returns
    -------
    ndarray of shape (n_obs,), float64
        Strictly between 0 and 1.

    References
    ----------
    .. [1] Gneiting, Balabdaoui and Raftery (2007), Probabilistic forecasts, calibration
       and sharpness, JRSS B 69, 243-268.
    """
    below = (samples < actual[:, None]).sum(axis=1)
    equal = (samples == actual[:, None]).sum(axis=1)
    return np.asarray((below + 0.5 * equal + 0.5) / (samples.shape[1] + 1))


def pit_from_band(
    p10: FloatArray, p50: FloatArray, p90: FloatArray, actual: FloatArray
) -> FloatArray:
    """Return the share of the forecast below the outcome, from three quantiles.

    Linear between the quantiles; beyond them exponential tails that go on with the
    density of the adjoining half. Where a half of the band has no width, its outer side
    counts as wholly below or above.

    Parameters
    ----------
    p10, p50, p90 : ndarray of shape (n_obs,), float64
        Forecast quantiles, in order.
    actual : ndarray of shape (n_obs,), float64
        Outcomes.

    Returns
    -------
    ndarray of shape (n_obs,), float64
        Between 0 and 1.
    """
    lower = _half(p50 - actual, p50 - p10)
    upper = _half(actual - p50, p90 - p50)
    return np.where(actual < p50, 0.5 - lower, 0.5 + upper)


def _half(distance: FloatArray, width: FloatArray) -> FloatArray:
    # Probability between the median and a point `distance` outward, 0 to 0.5: 0.4 at
    # `width`, then 0.1 more in an exponential tail with the same density at the join.
    outward = np.maximum(distance, 0.0)
    has_width = width > 0
    ratio = np.where(has_width, outward / np.where(has_width, width, 1.0), 0.0)
    tail = 0.5 - 0.1 * np.exp(-4.0 * np.maximum(ratio - 1.0, 0.0))
    inside = np.where(ratio <= 1, 0.4 * ratio, tail)
    return np.where(has_width, inside, np.where(outward > 0, 0.5, 0.0))
