"""The stationary bootstrap: resamples of dependent series in blocks of random length.

A resample enters every statistic here through how often it draws each row, so that the
means of all resamples of all series are one matrix product.
"""

import math
from typing import Final

import numpy as np

from lab.arrays import FloatArray, IntArray
from lab.errors import ValidationError

_RESAMPLES_AT_ONCE: Final = 128
"""Memory is bounded, and the draws do not depend on how many there are."""


def stationary_indices(
    n_obs: int, n_boot: int, *, block: float, rng: np.random.Generator
) -> IntArray:
    """Draw rows in blocks of geometric length that wrap around the end.

    Parameters
    ----------
    n_obs : int
        Rows of the series.
    n_boot : int
        Resamples.
    block : float
        Mean block length, at least 1 (independent draws).
    rng : numpy.random.Generator
        Randomness.

    Returns
    -------
    ndarray of shape (n_boot, n_obs), int64

    Raises
    ------
    ValidationError
        If there are no rows or resamples, or the block length is below 1.

    References
    ----------
    .. [1] Politis and Romano (1994), The stationary bootstrap, JASA 89, 1303-1313.
    """
    _check(n_obs, n_boot, block)
    parts = [
        _draw(n_obs, rows, block, rng) for rows in _batches(n_boot, _RESAMPLES_AT_ONCE)
    ]
    return np.concatenate(parts)


def draw_counts(
    n_obs: int, n_boot: int, *, block: float, rng: np.random.Generator
) -> FloatArray:
    """Return how often each stationary resample draws each row.

    Parameters
    ----------
    n_obs, n_boot, block, rng
        As in `stationary_indices`, whose draws these are.

    Returns
    -------
    ndarray of shape (n_boot, n_obs), float64
        Whole numbers; each row adds up to `n_obs`. `counts @ x / n_obs` are the means
        of the resamples of `x`.

    Raises
    ------
    ValidationError
        As `stationary_indices`.
    """
    _check(n_obs, n_boot, block)
    counts = np.empty((n_boot, n_obs))
    done = 0
    for n_rows in _batches(n_boot, _RESAMPLES_AT_ONCE):
        drawn = _draw(n_obs, n_rows, block, rng)
        drawn += np.arange(n_rows)[:, None] * n_obs
        found = np.bincount(drawn.ravel(), minlength=n_rows * n_obs)
        counts[done : done + n_rows] = found.reshape(n_rows, n_obs)
        done += n_rows
    return counts


def automatic_block_length(series: FloatArray) -> FloatArray:
    """Return the mean block length that suits each series' own dependence.

    Parameters
    ----------
    series : ndarray of shape (n_obs, n_series), float64
        Finite; at least 9 rows.

    Returns
    -------
    ndarray of shape (n_series,), float64
        At least 1 and at most min(3 √n, n / 3); 1 for a series that does not vary.

    Raises
    ------
    ValidationError
        If there are fewer rows.

    Notes
    -----
    The flat-top lag window ends at twice the lag that begins the first run of
    max(5, log₁₀ n) autocorrelations below 2 √(log₁₀ n / n).

    References
    ----------
    .. [1] Politis and White (2004), Automatic block-length selection for the dependent
       bootstrap, Econometric Reviews 23, 53-70.
    .. [2] Patton, Politis and White (2009), Correction, Econometric Reviews 28, 372-375.
    """
    n_obs = len(series)
    if series.ndim != 2 or n_obs < 9:
        raise ValidationError(
            f"series of shape {series.shape}: 9 rows or more, columns"
        )
    run = max(5, int(math.log10(n_obs)))
    n_lags = min(math.ceil(math.sqrt(n_obs)) + run, n_obs - 2)
    covariance, correlation = _autocovariances(series, n_lags)
    window = _window_lags(np.abs(correlation), run, n_obs)
    lags = np.arange(1, n_lags + 1)[:, None]
    taper = np.clip(2.0 * (1.0 - lags / window), 0.0, 1.0)
    slope = 2.0 * np.sum(taper * lags * covariance[1:], axis=0)
    spectrum = covariance[0] + 2.0 * np.sum(taper * covariance[1:], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        length = np.cbrt(slope**2 / spectrum**2 * n_obs)
    longest = math.ceil(min(3.0 * math.sqrt(n_obs), n_obs / 3.0))
    length = np.where(covariance[0] > 0, np.fmin(length, longest), 1.0)
    return np.maximum(length, 1.0)


def _autocovariances(series: FloatArray, n_lags: int) -> tuple[FloatArray, FloatArray]:
    # Rows are lags from 0; each correlation is scaled by the two parts it was taken of.
    n_obs = len(series)
    centred = np.ascontiguousarray((series - series.mean(axis=0)).T)
    squares = np.cumsum(centred**2, axis=1)
    covariance = np.empty((n_lags + 1, len(centred)))
    correlation = np.empty_like(covariance)
    for lag in range(n_lags + 1):
        product = np.einsum("ij,ij->i", centred[:, lag:], centred[:, : n_obs - lag])
        late = squares[:, -1] - squares[:, lag]
        scale = np.sqrt(late * squares[:, n_obs - lag - 2])
        covariance[lag] = product / n_obs
        correlation[lag] = np.divide(
            product, scale, out=np.zeros_like(product), where=scale > 0
        )
    return covariance, correlation


def _window_lags(correlation: FloatArray, run: int, n_obs: int) -> FloatArray:
    # Twice the lag that begins the first run of correlations that say nothing.
    n_lags = len(correlation) - 1
    is_small = correlation < 2.0 * math.sqrt(math.log10(n_obs) / n_obs)
    windows = np.lib.stride_tricks.sliding_window_view(is_small[:-1], run, axis=0)
    is_quiet = windows.all(axis=-1)
    first = np.where(is_quiet.any(axis=0), is_quiet.argmax(axis=0), n_lags)
    return np.minimum(2.0 * np.maximum(first, 1), n_lags)


def _draw(n_obs: int, n_boot: int, block: float, rng: np.random.Generator) -> IntArray:
    # Half the width of the results' numbers: these passes are bound by memory.
    shape = (n_boot, n_obs)
    steps = np.arange(n_obs, dtype=np.int32)
    is_start = rng.random(shape, dtype=np.float32) < 1.0 / block
    is_start[:, 0] = True
    starts = rng.integers(0, n_obs, size=shape, dtype=np.int32)
    newest = np.maximum.accumulate(np.where(is_start, steps, np.int32(0)), axis=1)
    drawn = np.take_along_axis(starts, newest, axis=1)
    drawn += steps - newest
    drawn[drawn >= n_obs] -= n_obs
    return drawn.astype(np.int64)


def _batches(total: int, size: int) -> list[int]:
    return [min(size, total - done) for done in range(0, total, size)]


def _check(n_obs: int, n_boot: int, block: float) -> None:
    if n_obs < 1 or n_boot < 1:
        raise ValidationError(f"{n_boot} resamples of {n_obs} rows: 1 or more of each")
    if not 1.0 <= block < math.inf:
        raise ValidationError(f"mean block length {block}: 1 or more")
