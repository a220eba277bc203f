"""Losses of quantile forecasts. Lower is better; all are in the unit of the outcome."""

import numpy as np

from lab.arrays import FloatArray
from lab.errors import ScoringError


def pinball_loss(
    quantiles: FloatArray, levels: FloatArray, actual: FloatArray
) -> FloatArray:
    """Return the pinball (quantile) loss.

    ``level × (y − q)`` where the outcome lies above the quantile, else
    ``(1 − level) × (q − y)``.

    Parameters
    ----------
    quantiles : ndarray of shape (n_obs, n_levels), float64
        Forecast quantiles.
    levels : ndarray of shape (n_levels,), float64
        Their levels, between 0 and 1.
    actual : ndarray of shape (n_obs,), float64
        Outcomes.

    Returns
    -------
    ndarray of shape (n_obs, n_levels), float64

    Raises
    ------
    ScoringError
        If shapes do not match or a level is not between 0 and 1.

    References
    ----------
    .. [1] Koenker and Bassett (1978), Regression quantiles, Econometrica 46, 33-50.
    """
    check_quantiles(quantiles, levels, actual)
    error = actual[:, None] - quantiles
    return np.maximum(levels * error, (levels - 1) * error)


def weighted_quantile_loss(
    quantiles: FloatArray, levels: FloatArray, actual: FloatArray
) -> float:
    """Return the weighted quantile loss (WQL), without unit.

    Twice the pinball loss summed over outcomes, divided by the sum of absolute
    outcomes, averaged over levels.

    Parameters
    ----------
    quantiles : ndarray of shape (n_obs, n_levels), float64
        Forecast quantiles.
    levels : ndarray of shape (n_levels,), float64
        Their levels.
    actual : ndarray of shape (n_obs,), float64
        Outcomes.

    Raises
    ------
    ScoringError
        If shapes do not match, or all outcomes are zero.

    References
    ----------
    .. [1] Park, Maddix, Aubet, Kan, Gasthaus and Wang (2022), Learning quantile
       functions without quantile crossing, AISTATS; the definition of GluonTS.
    """
    total = float(np.abs(actual).sum())
    if total == 0:
        raise ScoringError("weighted quantile loss: all outcomes are zero")
    losses = pinball_loss(quantiles, levels, actual).sum(axis=0)
    return float(np.mean(2 * losses / total))


def check_quantiles(
    quantiles: FloatArray, levels: FloatArray, actual: FloatArray
) -> None:
    """Refuse quantiles, levels and outcomes that do not belong together.

    Raises
    ------
    ScoringError
        If shapes do not match, or levels do not increase between 0 and 1.
    """
    if quantiles.shape != (len(actual), len(levels)):
        raise ScoringError(
            f"quantiles have shape {quantiles.shape}, allowed is"
            f" ({len(actual)}, {len(levels)})"
        )
    bounds = np.concatenate([[0.0], levels, [1.0]])
    if not bool(np.all(bounds[1:] > bounds[:-1])):
        raise ScoringError(f"levels {levels.tolist()} must increase between 0 and 1")
