"""Whether the best of many trials is better than a benchmark, or only the luckiest.

Both tests resample all trials together, so that what they share stays shared. A p-value
is (1 + resamples at least as extreme) / (1 + resamples): never zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lab.arrays import FloatArray
from lab.errors import ValidationError
from lab.validation.bootstrap import draw_counts

_COLUMNS_AT_ONCE: Final = 128


@dataclass(frozen=True, slots=True)
class RealityCheck:
    """White's Reality Check of many trials against one benchmark.

    Attributes
    ----------
    means : ndarray of shape (n_models,), float64
        Mean excess return of each.
    maxima : ndarray of shape (n_boot,), float64
        Largest centred mean of each resample, rising.
    p_value : float
        Of the best trial.
    """

    means: FloatArray
    maxima: FloatArray
    p_value: float

    def p_of(self, mean: float) -> float:
        """Return the p-value of a mean, adjusted for having been picked from all."""
        return p_of(self.maxima, mean)

    @property
    def p_values(self) -> FloatArray:
        """Single-step adjusted p-values, shape (n_models,)."""
        return np.array([self.p_of(float(mean)) for mean in self.means])

    def needed_mean(self, p_value: float) -> float:
        """Return the mean above which the adjusted p-value is at most `p_value`."""
        n_boot = len(self.maxima)
        allowed = math.floor(p_value * (n_boot + 1) - 1 + 1e-9)
        return math.inf if allowed < 0 else float(self.maxima[n_boot - 1 - allowed])


@dataclass(frozen=True, slots=True)
class SuperiorAbility:
    """Hansen's test of superior predictive ability.

    Attributes
    ----------
    statistic : float
        Largest (studentised) √n mean, at least 0.
    lower, consistent, upper : float
        p-values: liberal bound, the test's own, conservative bound (the Reality Check's
        centring).
    """

    statistic: float
    lower: float
    consistent: float
    upper: float


def p_of(maxima: FloatArray, mean: float) -> float:
    """Return (1 + how many of the rising `maxima` are at least `mean`) / (1 + n)."""
    above = len(maxima) - int(np.searchsorted(maxima, mean, side="left"))
    return (1 + above) / (1 + len(maxima))


def reality_check(
    excess: FloatArray,
    *,
    n_boot: int = 1000,
    block: float,
    rng: np.random.Generator,
) -> RealityCheck:
    """Test that no trial's mean excess return is above zero.

    Parameters
    ----------
    excess : ndarray of shape (n_obs, n_models), float64
        Returns of every trial less the benchmark's, finite.
    n_boot : int
        Stationary resamples.
    block : float
        Mean block length.
    rng : numpy.random.Generator
        Randomness.

    Raises
    ------
    ValidationError
        If there is nothing to test, or a value is not finite.

    References
    ----------
    .. [1] White (2000), A reality check for data snooping, Econometrica 68, 1097-1126.
    """
    _check(excess)
    counts = draw_counts(len(excess), n_boot, block=block, rng=rng)
    return reality_check_of(excess, counts)


def reality_check_of(excess: FloatArray, counts: FloatArray) -> RealityCheck:
    """Do `reality_check` on resamples that were drawn before, shape (n_boot, n_obs)."""
    means = excess.mean(axis=0)
    n_models = len(means)
    no_shift, same_scale = np.zeros(n_models), np.ones(n_models)
    maxima = _maxima(excess, counts, [no_shift], same_scale)[0]
    maxima.sort()
    return RealityCheck(means, maxima, p_of(maxima, float(means.max())))


def superior_predictive_ability(
    excess: FloatArray,
    *,
    n_boot: int = 1000,
    block: float,
    rng: np.random.Generator,
    is_studentized: bool = True,
) -> SuperiorAbility:
    """Test as `reality_check` does, without the power that hopeless trials cost it.

    Parameters
    ----------
    excess, n_boot, block, rng
        As in `reality_check`.
    is_studentized : bool, default True
        Divide each mean by its standard error, as Hansen does. `arch.bootstrap.SPA`
        does not.

    Raises
    ------
    ValidationError
        As `reality_check`.

    References
    ----------
    .. [1] Hansen (2005), A test for superior predictive ability, JBES 23, 365-380.
    """
    _check(excess)
    counts = draw_counts(len(excess), n_boot, block=block, rng=rng)
    return superior_ability_of(
        excess, counts, block=block, is_studentized=is_studentized
    )


def superior_ability_of(
    excess: FloatArray,
    counts: FloatArray,
    *,
    block: float,
    is_studentized: bool = True,
) -> SuperiorAbility:
    """Do `superior_predictive_ability` on resamples that were drawn before."""
    n_obs = len(excess)
    means = excess.mean(axis=0)
    variance = long_run_variance(excess, block=block)
    error = np.sqrt(variance / n_obs)
    scale = np.ones_like(error)
    if is_studentized:
        scale = np.divide(1.0, error, out=np.zeros_like(error), where=error > 0)
    # Trials worse than this are left where they are: they cannot be the best.
    reach = math.sqrt(2.0 * math.log(math.log(max(n_obs, 3))))
    centre = np.where(means >= -reach * error, means, 0.0)
    centres = (np.maximum(means, 0.0), centre, means)
    shifts = [means - each for each in centres]
    maxima = np.maximum(_maxima(excess, counts, shifts, scale), 0.0)
    statistic = max(float((means * scale).max()), 0.0)
    is_beyond = np.count_nonzero(maxima >= statistic, axis=1)
    lower, consistent, upper = (1 + is_beyond) / (1 + len(counts))
    return SuperiorAbility(statistic, float(lower), float(consistent), float(upper))


def long_run_variance(series: FloatArray, *, block: float) -> FloatArray:
    """Return n times the variance of the mean under the stationary bootstrap.

    Parameters
    ----------
    series : ndarray of shape (n_obs, n_series), float64
        Finite.
    block : float
        Mean block length.

    Returns
    -------
    ndarray of shape (n_series,), float64
        Autocovariances of all lags i in Hansen's weights
        (1 − i/n) (1 − q)^i + (i/n) (1 − q)^(n − i), q = 1 / block; never negative.

    Notes
    -----
    The weights are even and repeat after n, so the weighted sum over all pairs of rows
    is a sum over the n frequencies of the series.

    References
    ----------
    .. [1] Politis and Romano (1994), The stationary bootstrap, JASA 89, lemma 1.
    """
    n_obs, n_series = series.shape
    lags = np.arange(n_obs)
    stay = 1.0 - 1.0 / block
    # The circular autocovariances at lag i hold the plain ones of i and n − i: together
    # they get the weight of i, once.
    powers = stay ** lags.astype(np.float64)
    kernel = (1.0 - lags / n_obs) * powers
    kernel[1:] += lags[1:] / n_obs * powers[:0:-1]
    weights = np.fft.rfft(kernel).real
    weights[1 : (n_obs + 1) // 2] *= 2.0
    variance = np.empty(n_series)
    for start in range(0, n_series, _COLUMNS_AT_ONCE):
        columns = slice(start, start + _COLUMNS_AT_ONCE)
        part = np.ascontiguousarray(series[:, columns].T)
        part -= part.mean(axis=1, keepdims=True)
        spectrum = np.fft.rfft(part, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        variance[columns] = power @ weights / n_obs**2
    return np.maximum(variance, 0.0)


def _maxima(
    excess: FloatArray,
    counts: FloatArray,
    shifts: Sequence[FloatArray],
    scale: FloatArray,
) -> FloatArray:
    # Largest (centred resampled mean + shift) · scale of each resample, one row a shift.
    n_obs, n_models = excess.shape
    maxima = np.full((len(shifts), len(counts)), -np.inf)
    for start in range(0, n_models, _COLUMNS_AT_ONCE):
        columns = slice(start, start + _COLUMNS_AT_ONCE)
        part = excess[:, columns]
        means = counts @ (part - part.mean(axis=0))
        means *= scale[columns] / n_obs
        for row, shift in enumerate(shifts):
            moved = means + shift[columns] * scale[columns]
            np.maximum(maxima[row], moved.max(axis=1), out=maxima[row])
    return maxima


def _check(excess: FloatArray) -> None:
    if excess.ndim != 2 or excess.shape[0] < 2 or excess.shape[1] < 1:
        raise ValidationError(
            f"excess returns of shape {excess.shape}: (n_obs, n_models), 2 rows or more"
        )
    if not bool(np.isfinite(excess).all()):
        raise ValidationError("excess returns: finite")
