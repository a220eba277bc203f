"""The continuous ranked probability score, from sample paths or from quantiles.

For a point forecast it is the absolute error, so a model's CRPS can be held against
persistence's absolute error. Lower is better; unit of the outcome.
"""

import numpy as np

from lab.arrays import AnyArray, FloatArray
from lab.errors import ScoringError
from lab.scoring.quantile import pinball_loss


def crps_from_samples(samples: AnyArray, actual: FloatArray) -> FloatArray:
    """Return the fair CRPS of ensembles.

    ``mean |x_i − y| − Σ_ij |x_i − x_j| / (2 M (M − 1))``: its expectation is the CRPS of
    the distribution that the samples come from, whatever their number. It can be
    slightly negative.

    Parameters
    ----------
    samples : ndarray of shape (n_obs, n_samples), float
        Exchangeable draws, at least two per outcome.
    actual : ndarray of shape (n_obs,), float64
        Outcomes.

    Returns
    -------
    ndarray of shape (n_obs,), float64

    Raises
    ------
    ScoringError
        If shapes do not match or there are fewer than two samples.

    References
    ----------
    .. [1] Gneiting and Raftery (2007), Strictly proper scoring rules, prediction, and
       estimation, JASA 102, 359-378, eq. 21.
    .. [2] Ferro (2014), Fair scores for ensemble forecasts, QJRMS 140, 1917-1923.
    """
    if samples.ndim != 2 or len(samples) != len(actual):
        raise ScoringError(
            f"samples have shape {samples.shape}, allowed is ({len(actual)}, n_samples)"
        )
    n_samples = samples.shape[1]
    if n_samples < 2:
        raise ScoringError(f"samples: {n_samples} given, at least 2 are needed")
    ordered = np.sort(samples.astype(np.float64), axis=1)
    error = np.abs(ordered - actual[:, None]).mean(axis=1)
    # Σ_ij |x_i − x_j| = 2 Σ_i (2 i − M − 1) x_(i), i from 1.
    weights = 2.0 * np.arange(1, n_samples + 1) - n_samples - 1
    spread = ordered @ weights / (n_samples * (n_samples - 1))
    return np.asarray(error - spread)


def crps_from_quantiles(
    quantiles: FloatArray, levels: FloatArray, actual: FloatArray
) -> FloatArray:
    """Return the CRPS as twice the pinball loss integrated over levels.

    Each level stands for the levels nearer to it than to its neighbours: 0.1, 0.5 and
    0.9 have the weights 0.3, 0.4 and 0.3. Three levels are a coarse grid; the figure is
    exact for a point forecast.

    Parameters
    ----------
    quantiles : ndarray of shape (n_obs, n_levels), float64
        Forecast quantiles.
    levels : ndarray of shape (n_levels,), float64
        Their levels, increasing between 0 and 1.
    actual : ndarray of shape (n_obs,), float64
        Outcomes.

    Returns
    -------
    ndarray of shape (n_obs,), float64

    Raises
    ------
    ScoringError
        If shapes do not match or levels do not increase.

    References
    ----------
    .. [1] Laio and Tamea (2007), Verification tools for probabilistic forecasts of
       continuous hydrological variables, HESS 11, 1267-1277, eq. 5.
    """
    losses = pinball_loss(quantiles, levels, actual)
    borders = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    return np.asarray(2 * losses @ np.diff(borders))
