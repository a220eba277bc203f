"""How good a single-valued forecast is: scaled errors and directions."""

import numpy as np

from lab.arrays import FloatArray, IntArray
from lab.errors import ScoringError


def naive_scale(close: FloatArray) -> float:
    """Return the mean absolute one-step change: MASE's denominator.

    Parameters
    ----------
    close : ndarray of shape (n_obs,), float64
        Closes known when the forecast was made.

    Raises
    ------
    ScoringError
        If there are fewer than two closes.

    References
    ----------
    .. [1] Hyndman and Koehler (2006), Another look at measures of forecast accuracy,
       Int. J. Forecasting 22, 679-688.
    """
    if len(close) < 2:
        raise ScoringError(f"scale: {len(close)} closes given, at least 2 are needed")
    return float(np.abs(np.diff(close)).mean())


def mase(forecast: FloatArray, actual: FloatArray, close: FloatArray) -> float:
    """Return the mean absolute scaled error.

    Parameters
    ----------
    forecast, actual : ndarray of shape (n_obs,), float64
        Point forecasts and outcomes.
    close : ndarray of shape (n_history,), float64
        In-sample closes.

    Raises
    ------
    ScoringError
        If the history is too short or never changes.

    References
    ----------
    .. [1] Hyndman and Koehler (2006), Int. J. Forecasting 22, 679-688.
    """
    scale = naive_scale(close)
    if scale == 0:
        raise ScoringError("scale: the closes never change")
    return float(np.abs(actual - forecast).mean() / scale)


def direction(start: FloatArray, end: FloatArray) -> IntArray:
    """Return the sign of each move: 1 up, -1 down, 0 flat."""
    return np.sign(end - start).astype(np.int64)


def skill(loss: FloatArray, reference_loss: FloatArray) -> float | None:
    """Return ``1 − Σ loss / Σ reference``: 1 is perfect, 0 no better than the reference.

    None where the reference never errs.

    References
    ----------
    .. [1] Murphy (1988), Skill scores based on the mean square error and their
       relationships to the correlation coefficient, Mon. Weather Rev. 116, 2417-2424.
    """
    reference = float(np.sum(reference_loss))
    return None if reference == 0 else 1.0 - float(np.sum(loss)) / reference
