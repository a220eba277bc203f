"""Whether probabilities mean what they say: PIT histograms and calibration errors."""

from typing import Final

import numpy as np
from scipy.special import chdtrc

from lab.arrays import FloatArray, IntArray
from lab.scoring.segments import ratio

N_BINS: Final = 10


def pit_histograms(
    pit: FloatArray, n_samples: IntArray, group: IntArray, n_groups: int
) -> FloatArray:
    """Return how many outcomes fell into each tenth of their forecast.

    A forecast of M samples knows the outcome's rank only: it counts evenly over its
    rank's interval, which is 1 / (M + 1) wide. Counting its middle would fill some
    tenths more than others for a perfect forecaster (20 samples: 14 % in the sixth).

    Parameters
    ----------
    pit : ndarray of shape (n_rows,), float64
        Share of the forecast below the outcome, the middle of its rank's interval.
    n_samples : ndarray of shape (n_rows,), int64
        Samples behind it; 0 where it came from quantiles.
    group : ndarray of shape (n_rows,), int64
        Group of each row.
    n_groups : int
        Groups.

    Returns
    -------
    ndarray of shape (n_groups, 10), float64
        Rows sum to the group's rows.

    References
    ----------
    .. [1] Czado, Gneiting and Held (2009), Predictive model assessment for count data,
       Biometrics 65, 1254-1261: the nonrandomised PIT.
    """
    width = np.where(n_samples > 0, 1.0 / (n_samples + 1), 0.0)
    low = pit - width / 2
    safe = np.where(width > 0, width, 1.0)
    below = np.zeros((n_groups, N_BINS + 1))
    for edge in range(N_BINS + 1):
        # The last bin is closed: an outcome at 1 belongs to it.
        border = edge / N_BINS if edge < N_BINS else np.inf
        spread = np.clip((border - low) / safe, 0.0, 1.0)
        share = np.where(width > 0, spread, pit < border)
        below[:, edge] = np.bincount(group, weights=share, minlength=n_groups)
    return np.maximum(np.diff(below, axis=1), 0.0)


def pit_chi_square(histograms: FloatArray) -> FloatArray:
    """Return Pearson's statistic of each histogram against equal tenths; NaN if empty.

    References
    ----------
    .. [1] Diebold, Gunther and Tay (1998), Evaluating density forecasts, Int. Economic
       Review 39, 863-883.
    """
    expected = histograms.sum(axis=1) / N_BINS
    return ratio(np.square(histograms - expected[:, None]).sum(axis=1), expected)


def pit_p_values(
    statistic: FloatArray, n_obs: IntArray, n_blocks: IntArray
) -> FloatArray:
    """Return the probability of such a statistic if calibrated.

    Overlapping forecasts count as their non-overlapping blocks: the statistic is shrunk
    by n_blocks / n_obs before it meets the chi-square distribution of 9 degrees.

    Parameters
    ----------
    statistic : ndarray of shape (n_groups,), float64
        From `pit_chi_square`.
    n_obs, n_blocks : ndarray of shape (n_groups,), int64
        Forecasts, and those of them that do not overlap.
    """
    shrunk = statistic * ratio(n_blocks, n_obs)
    return np.asarray(chdtrc(N_BINS - 1, shrunk))


def pit_error(histograms: FloatArray) -> FloatArray:
    """Return the mean distance of the tenths' shares from 0.1; NaN if empty."""
    share = ratio(histograms, histograms.sum(axis=1)[:, None])
    return np.asarray(np.abs(share - 1 / N_BINS).mean(axis=1))


def quantile_error(shares: FloatArray, levels: FloatArray) -> FloatArray:
    """Return the mean distance between nominal levels and observed shares.

    Parameters
    ----------
    shares : ndarray of shape (n_groups, n_levels), float64
        Outcomes at or below each quantile.
    levels : ndarray of shape (n_levels,), float64
        What they should be.

    References
    ----------
    .. [1] Kuleshov, Fenner and Ermon (2018), Accurate uncertainties for deep learning
       using calibrated regression, ICML.
    """
    return np.asarray(np.abs(shares - levels).mean(axis=1))
