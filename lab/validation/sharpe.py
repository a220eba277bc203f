"""How sure a Sharpe ratio is, and how large one becomes by trying often.

Every Sharpe ratio here is per observation (a daily one for daily returns, ddof 1) and
every kurtosis is the plain fourth moment, 3 for a normal: an annual figure enters after
division by √(observations a year), an annual variance of Sharpe ratios after division
by the observations a year.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from lab.arrays import BoolArray, FloatArray
from lab.errors import ValidationError

_FEWEST = 2


@dataclass(frozen=True, slots=True)
class Moments:
    """What the Sharpe statistics need to know of one series.

    Attributes
    ----------
    n_obs : int
        Observations.
    mean, volatility : float
        Per observation; the volatility with ddof 1.
    sharpe : float
        Their ratio.
    skewness, kurtosis : float
        Standardised third and fourth moments (population), 0 and 3 for a normal.
    """

    n_obs: int
    mean: float
    volatility: float
    sharpe: float
    skewness: float
    kurtosis: float


def is_constant(returns: FloatArray) -> BoolArray:
    """Tell which series do not vary, but for rounding.

    Parameters
    ----------
    returns : ndarray of shape (..., n_obs), float64
        Series along the last axis.

    Returns
    -------
    ndarray of shape (...,), bool
        True for a series with a value that is no number too: its moments are not known.
    """
    if returns.shape[-1] == 0:
        return np.ones(returns.shape[:-1], dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        spread = returns.max(axis=-1) - returns.min(axis=-1)
        rounding = np.maximum(1e-9 * np.abs(returns).max(axis=-1), 1e-12)
        is_varying: BoolArray = spread > rounding
    return np.logical_not(is_varying)


def moments(returns: FloatArray) -> Moments:
    """Measure one series.

    Parameters
    ----------
    returns : ndarray of shape (n_obs,), float64
        Simple returns per observation.

    Raises
    ------
    ValidationError
        If there are fewer than two, one is no number, or they do not vary.
    """
    if returns.ndim != 1 or len(returns) < _FEWEST:
        raise ValidationError(f"returns of shape {returns.shape}: at least 2 in a row")
    if bool(is_constant(returns)):
        raise ValidationError("returns: finite and not all the same")
    mean = float(returns.mean())
    deviations = returns - mean
    squares = deviations * deviations
    n_obs = len(returns)
    variance = float(squares.sum()) / n_obs
    volatility = math.sqrt(variance * n_obs / (n_obs - 1))
    return Moments(
        n_obs=n_obs,
        mean=mean,
        volatility=volatility,
        sharpe=mean / volatility,
        skewness=float((squares * deviations).sum()) / n_obs / variance**1.5,
        kurtosis=float((squares * squares).sum()) / n_obs / variance**2,
    )


def probabilistic_sharpe(
    sharpe: float,
    n_obs: int,
    *,
    skewness: float = 0.0,
    kurtosis: float = 3.0,
    benchmark: float = 0.0,
) -> float:
    """Return the probability that the true Sharpe ratio is above a benchmark.

    Parameters
    ----------
    sharpe : float
        Estimated, per observation.
    n_obs : int
        Observations behind it.
    skewness, kurtosis : float
        Of the returns; the kurtosis of a normal is 3.
    benchmark : float, default 0
        Per observation.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValidationError
        With fewer than two observations, or moments that no distribution has.

    References
    ----------
    .. [1] Bailey and López de Prado (2012), The Sharpe ratio efficient frontier, Journal
       of Risk 15(2), 3-44, eq. 11.
    """
    error = _unit_error(sharpe, skewness, kurtosis) / math.sqrt(_freedom(n_obs))
    return float(ndtr((sharpe - benchmark) / error))


def minimum_track_record(
    sharpe: float,
    *,
    skewness: float = 0.0,
    kurtosis: float = 3.0,
    benchmark: float = 0.0,
    confidence: float = 0.95,
) -> float:
    """Return how many observations it takes to be sure of a Sharpe ratio.

    Returns
    -------
    float
        Observations at which `probabilistic_sharpe` reaches `confidence`, if the
        estimate stays; infinite when the Sharpe ratio is not above the benchmark.

    Raises
    ------
    ValidationError
        If the moments are of no distribution, or the confidence is not in (0.5, 1).

    References
    ----------
    .. [1] Bailey and López de Prado (2012), The Sharpe ratio efficient frontier, Journal
       of Risk 15(2), 3-44, eq. 13.
    """
    error = _unit_error(sharpe, skewness, kurtosis)
    if sharpe <= benchmark:
        return math.inf
    return 1.0 + (error * _z(confidence) / (sharpe - benchmark)) ** 2


def expected_maximum_sharpe(variance: float, n_trials: int) -> float:
    """Return the best Sharpe ratio to expect of that many trials without any skill.

    Parameters
    ----------
    variance : float
        Of the Sharpe ratios over the trials, per observation.
    n_trials : int
        Independent trials; 0 for one, whose expectation is 0.

    Raises
    ------
    ValidationError
        With no trial, or a negative variance.

    References
    ----------
    .. [1] Bailey and López de Prado (2014), The deflated Sharpe ratio, Journal of
       Portfolio Management 40(5), 94-107, eq. 1.
    """
    if n_trials < 1 or not variance >= 0:
        raise ValidationError(
            f"{n_trials} trials, variance {variance}: 1 or more, and 0 or more"
        )
    return math.sqrt(variance) * _unit_maximum(n_trials)


def deflated_sharpe(
    sharpe: float,
    n_obs: int,
    *,
    skewness: float,
    kurtosis: float,
    trial_variance: float,
    n_trials: int,
) -> float:
    """Return the probability that a Sharpe ratio is above what luck gives the best trial.

    Parameters
    ----------
    sharpe : float
        Of the selected trial, per observation.
    n_obs : int
        Observations behind it.
    skewness, kurtosis : float
        Of its returns; the kurtosis of a normal is 3.
    trial_variance : float
        Of the Sharpe ratios over all trials, per observation: an annual variance
        divided by the observations a year.
    n_trials : int
        Trials it was selected from.

    Returns
    -------
    float
        The probabilistic Sharpe ratio against `expected_maximum_sharpe`.

    Raises
    ------
    ValidationError
        As `probabilistic_sharpe` and `expected_maximum_sharpe`.

    References
    ----------
    .. [1] Bailey and López de Prado (2014), The deflated Sharpe ratio, Journal of
       Portfolio Management 40(5), 94-107, eq. 2.
    """
    return probabilistic_sharpe(
        sharpe,
        n_obs,
        skewness=skewness,
        kurtosis=kurtosis,
        benchmark=expected_maximum_sharpe(trial_variance, n_trials),
    )


def needed_sharpe(
    n_obs: int,
    *,
    skewness: float,
    kurtosis: float,
    benchmark: float,
    confidence: float = 0.95,
) -> float:
    """Return the Sharpe ratio whose probability against the benchmark is `confidence`.

    Returns
    -------
    float
        Per observation; infinite where no Sharpe ratio of that kurtosis is enough on so
        few observations.

    Raises
    ------
    ValidationError
        With fewer than two observations, or a confidence outside (0.5, 1).

    Notes
    -----
    The larger root of (SR − SR*)² (n − 1) = z² (1 − γ₃ SR + (γ₄ − 1) SR² / 4), which is
    eq. 11 of [1]_ solved for SR.

    References
    ----------
    .. [1] Bailey and López de Prado (2012), The Sharpe ratio efficient frontier, Journal
       of Risk 15(2), 3-44.
    """
    freedom, z2 = _freedom(n_obs), _z(confidence) ** 2
    a = freedom - z2 * (kurtosis - 1) / 4
    b = z2 * skewness - 2 * freedom * benchmark
    c = freedom * benchmark**2 - z2
    inside = b * b - 4 * a * c
    if a <= 0 or inside < 0:
        return math.inf
    return (-b + math.sqrt(inside)) / (2 * a)


def allowed_trials(
    sharpe: float,
    n_obs: int,
    *,
    skewness: float,
    kurtosis: float,
    trial_variance: float,
    confidence: float = 0.95,
) -> int | None:
    """Return the largest number of trials at which the deflated Sharpe ratio suffices.

    Returns
    -------
    int or None
        0 when even a single trial would not do; None when any number would.

    Raises
    ------
    ValidationError
        As `deflated_sharpe`.
    """
    error = _unit_error(sharpe, skewness, kurtosis) / math.sqrt(_freedom(n_obs))
    hurdle = sharpe - _z(confidence) * error
    if hurdle < 0:
        return 0
    most = 10**9
    if expected_maximum_sharpe(trial_variance, most) <= hurdle:
        return None
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        fits = expected_maximum_sharpe(trial_variance, middle) <= hurdle
        low, high = (middle, high) if fits else (low, middle)
    return low


def _unit_error(sharpe: float, skewness: float, kurtosis: float) -> float:
    # Standard error of a Sharpe ratio, times √(n − 1).
    inside = 1.0 - skewness * sharpe + (kurtosis - 1.0) / 4.0 * sharpe * sharpe
    if not inside > 0:
        raise ValidationError(
            f"skewness {skewness:g} and kurtosis {kurtosis:g} at a Sharpe ratio of"
            f" {sharpe:g}: no distribution has these"
        )
    return math.sqrt(inside)


def _unit_maximum(n_trials: int) -> float:
    # Of n independent standard normals.
    if n_trials == 1:
        return 0.0
    first = float(ndtri(1.0 - 1.0 / n_trials))
    second = float(ndtri(1.0 - 1.0 / (n_trials * math.e)))
    return (1.0 - np.euler_gamma) * first + np.euler_gamma * second


def _freedom(n_obs: int) -> int:
    if n_obs < _FEWEST:
        raise ValidationError(f"{n_obs} observations: at least {_FEWEST}")
    return n_obs - 1


def _z(confidence: float) -> float:
    if not 0.5 < confidence < 1:
        raise ValidationError(f"confidence {confidence}: between 0.5 and 1")
    return float(ndtri(confidence))
