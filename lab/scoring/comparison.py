"""Whether one forecast errs less than another: the Diebold-Mariano test, and many at once.

Overlapping forecasts have dependent errors, so the variance of a mean difference holds
the autocovariances of all overlapping pairs (rectangular kernel: lags up to h − 1 when
there is a forecast every bar), with the small-sample factor of Harvey, Leybourne and
Newbold. Their t distribution gets the degrees of freedom of the non-overlapping blocks
(each at least one horizon long) and not of all forecasts: far in the tail, where many
comparisons are decided, n − 1 degrees would reject up to nine times too often.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import stdtr

from lab.arrays import AnyArray, FloatArray, IntArray
from lab.errors import ScoringError
from lab.scoring.segments import Segments, counted, ratio

MIN_FORECASTS: Final = 30
MIN_BLOCKS: Final = 10
"""Below either, a comparison is not judged: the test's size is not known to hold."""


@dataclass(frozen=True, slots=True)
class Comparisons:
    """One-sided tests of "the mean difference is not above zero", one a group.

    Attributes
    ----------
    mean : ndarray of shape (n_groups,), float64
        Mean difference; NaN without rows.
    error : ndarray of shape (n_groups,), float64
        Its HAC standard error; NaN below two rows.
    statistic, p_value : ndarray of shape (n_groups,), float64
        The corrected statistic and its p-value; NaN where not judged.
    n_obs, n_blocks, n_lags : ndarray of shape (n_groups,), int64
        Differences, those of them that do not overlap, and the longest overlap.
    """

    mean: FloatArray
    error: FloatArray
    statistic: FloatArray
    p_value: FloatArray
    n_obs: IntArray
    n_blocks: IntArray
    n_lags: IntArray


def compare(differences: FloatArray, rows: Segments) -> Comparisons:
    """Test in each group whether the reference's loss exceeds the forecast's.

    Parameters
    ----------
    differences : ndarray of shape (n_rows,), float64
        Loss of the reference minus loss of the forecast: positive is better.
    rows : Segments
        Group, decision time and end of each.

    Notes
    -----
    A group is judged from `MIN_FORECASTS` differences and `MIN_BLOCKS` blocks on. Where
    the rectangular kernel gives no positive variance, Bartlett weights do (Harvey et
    al., section 2). Differences that are all zero have the p-value 1: nothing speaks
    for the forecast. Point in time: only outcomes that were given; the caller leaves
    out what was not known yet.

    References
    ----------
    .. [1] Diebold and Mariano (1995), Comparing predictive accuracy, JBES 13, 253-263.
    .. [2] Harvey, Leybourne and Newbold (1997), Testing the equality of prediction mean
       squared errors, Int. J. Forecasting 13, 281-291, eq. 8 and 9.
    """
    n_obs = rows.count()
    mean = rows.mean(differences)
    overlaps = rows.overlaps()
    n_lags = _largest(overlaps, rows)
    deviations = differences - mean[rows.group]
    # Differences that are equal but for the rounding of their mean do not vary.
    is_flat = _largest(np.abs(deviations), rows) <= 1e-12 * np.abs(mean)
    deviations = np.where(is_flat[rows.group], 0.0, deviations)
    variance = mean_variance(deviations, rows, overlaps, n_lags)
    n_blocks = counted(rows.group[rows.blocks()], rows.n_groups)
    is_judged = (n_obs >= MIN_FORECASTS) & (n_blocks >= MIN_BLOCKS)
    error = np.sqrt(np.where(n_obs > 1, variance, np.nan))
    factor = harvey_factor(n_obs, n_lags + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(is_judged & (error > 0), factor * mean / error, np.nan)
    p_value = stdtr(np.maximum(n_blocks - 1, 1), -statistic)
    is_same = is_judged & (error == 0) & (mean == 0)
    p_value = np.where(is_same, 1.0, p_value)
    return Comparisons(mean, error, statistic, p_value, n_obs, n_blocks, n_lags)


def harvey_factor(n_obs: IntArray, horizon: IntArray) -> FloatArray:
    """Return Harvey, Leybourne and Newbold's factor of the Diebold-Mariano statistic.

    ``√((n + 1 − 2 h + h (h − 1) / n) / n)``, where `h` counts forecasts: one more than
    the lags of the variance. Zero where the series is shorter than two horizons allow.

    References
    ----------
    .. [1] Harvey, Leybourne and Newbold (1997), Int. J. Forecasting 13, 281-291, eq. 8.
    """
    n = np.maximum(np.asarray(n_obs, dtype=np.float64), 1.0)
    inside = (n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n
    return np.sqrt(np.maximum(inside, 0.0))


def mean_variance(
    deviations: FloatArray, rows: Segments, overlaps: IntArray, n_lags: IntArray
) -> FloatArray:
    """Return the HAC variance of each group's mean.

    Parameters
    ----------
    deviations : ndarray of shape (n_rows,), float64
        Values minus their group's mean.
    rows : Segments
        Where each belongs.
    overlaps : ndarray of shape (n_rows,), int64
        From `Segments.overlaps`: pairs that count.
    n_lags : ndarray of shape (n_groups,), int64
        Longest overlap of each group, for the fallback.

    Returns
    -------
    ndarray of shape (n_groups,), float64
        Never negative; NaN without rows.
    """
    total = np.square(deviations)
    reach = np.arange(len(deviations))
    for lag in range(1, int(overlaps.max(initial=0)) + 1):
        reach = reach[overlaps[reach] >= lag]
        total[reach] += 2 * deviations[reach] * deviations[reach + lag]
    squares = np.asarray(rows.count(), dtype=np.float64) ** 2
    variance = ratio(rows.sum(total), squares)
    starts = np.cumsum(rows.count()) - rows.count()
    varies = _largest(np.abs(deviations), rows) > 0
    for group in np.flatnonzero((variance <= 0) & varies):
        start, n_obs = starts[group], rows.count()[group]
        own = deviations[start : start + n_obs]
        variance[group] = _bartlett(own, int(n_lags[group])) / n_obs**2
    return variance


def benjamini_hochberg(p_values: FloatArray) -> FloatArray:
    """Return adjusted p-values: the false discovery rate at which each is rejected.

    Parameters
    ----------
    p_values : ndarray of shape (n_tests,), float64
        NaN is no test: it neither counts nor gets a value.

    Raises
    ------
    ScoringError
        If a value is not between 0 and 1.

    References
    ----------
    .. [1] Benjamini and Hochberg (1995), Controlling the false discovery rate, JRSS B
       57, 289-300.
    """
    adjusted = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(np.isfinite(p_values))
    if len(tested) == 0:
        return adjusted
    p = p_values[tested]
    if p.min() < 0 or p.max() > 1:
        raise ScoringError("p-values: allowed are 0 to 1")
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    monotone = np.minimum.accumulate(scaled[::-1])[::-1]
    adjusted[tested[order]] = np.minimum(monotone, 1.0)
    return adjusted


def _bartlett(deviations: FloatArray, n_lags: int) -> float:
    total = float(deviations @ deviations)
    for lag in range(1, min(n_lags, len(deviations) - 1) + 1):
        weight = 1.0 - lag / (n_lags + 1)
        total += 2 * weight * float(deviations[lag:] @ deviations[:-lag])
    return max(total, 0.0)


def _largest(values: AnyArray, rows: Segments) -> AnyArray:
    # Of values that are zero or more.
    largest = np.zeros(rows.n_groups, dtype=values.dtype)
    np.maximum.at(largest, rows.group, values)
    return largest
