"""Sample paths by resampling, and what is read off them.

The pieces that the baselines share: a generator per request and symbol, the stationary
bootstrap, a volatility filter, quantiles that do not under-cover, thinning.
"""

import hashlib
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from lab.arrays import AnyArray, FloatArray, IntArray
from lab.errors import ForecastError

N_PATHS: Final = 400
"""Paths drawn inside a model, whatever number of samples is asked for."""

_LEVELS: Final = np.array([0.1, 0.5, 0.9])
_WARM_UP: Final = 20


def request_generator(
    *, model: str, symbol: str, timeframe: str, as_of: datetime, seed: int
) -> np.random.Generator:
    """Return the generator of one symbol in one request.

    It depends on nothing but its arguments, so a symbol's draws are the same alone, in
    a batch and in any order.
    """
    moment = as_of.astimezone(UTC).isoformat(timespec="microseconds")
    name = "\x1f".join((model, symbol, timeframe, moment))
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:16], "big")])


def model_version(code: str, parameters: Any) -> str:
    """Return `code`, raised by hand, and a hash of the frozen parameters."""
    values = sorted(asdict(parameters).items())
    return f"{code}+{hashlib.sha256(repr(values).encode()).hexdigest()[:8]}"


def check_request(*, horizon: int, n_samples: int, seed: int) -> None:
    """Refuse a request that no model can answer.

    Raises
    ------
    ForecastError
        If a number is out of range.
    """
    if not 1 <= horizon <= 1000:
        raise ForecastError(f"horizon {horizon}: allowed are 1 to 1000 bars")
    if not 0 <= n_samples <= N_PATHS:
        raise ForecastError(f"samples {n_samples}: allowed are 0 to {N_PATHS}")
    if not 0 <= seed < 2**63:
        raise ForecastError(f"seed {seed}: allowed are 0 to {2**63 - 1}")


def stationary_indices(
    rng: np.random.Generator,
    n_obs: int,
    *,
    n_paths: int,
    n_steps: int,
    mean_block: float,
) -> IntArray:
    """Return row numbers of a stationary bootstrap.

    Blocks start anywhere, wrap around the end and have geometric lengths.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all draws.
    n_obs : int
        Rows to draw from.
    n_paths, n_steps : int
        Shape of the answer.
    mean_block : float, rows
        Expected block length, 1 or more.

    Returns
    -------
    ndarray of shape (n_paths, n_steps), int64

    References
    ----------
    .. [1] Politis and Romano (1994), The stationary bootstrap, JASA 89, 1303-1313.
    """
    starts = rng.integers(n_obs, size=(n_paths, n_steps))
    is_start = rng.random((n_paths, n_steps)) < 1.0 / mean_block
    is_start[:, 0] = True
    steps = np.arange(n_steps)
    begun = np.maximum.accumulate(np.where(is_start, steps, 0), axis=1)
    rows: IntArray = np.take_along_axis(starts, begun, axis=1) + (steps - begun)
    return rows % n_obs


def filtered_returns(
    returns: FloatArray, *, half_life: float
) -> tuple[FloatArray, float, float]:
    """Divide returns by the volatility expected the bar before.

    Parameters
    ----------
    returns : ndarray of shape (n_obs,), float64
        Log returns, oldest first, more than 20.
    half_life : float, bars
        Of the exponentially weighted mean of squared returns.

    Returns
    -------
    residuals : ndarray of shape (n_obs - 20,), float64
        Standardised, with mean zero.
    current : float
        Volatility per bar expected for the next bar.
    usual : float
        Root mean square of all returns.

    Notes
    -----
    Point in time: each residual is divided by what was known one bar earlier.

    References
    ----------
    .. [1] J.P. Morgan (1996), RiskMetrics technical document, ch. 5.
    .. [2] Barone-Adesi, Giannopoulos and Vosper (1999), VaR without correlations for
       portfolios of derivative securities, J. Futures Markets 19, 583-602.
    """
    import polars as pl

    centred = returns - returns.mean()
    usual = float(np.sqrt(np.mean(centred**2)))
    if usual < 1e-12:
        return np.zeros(len(returns) - _WARM_UP), 0.0, 0.0
    weighted = pl.Series(centred**2).ewm_mean(half_life=half_life).to_numpy()
    # A stretch of unchanged prices must not make the next move a hundred sigmas.
    volatility = np.sqrt(np.maximum(weighted, (0.2 * usual) ** 2))
    residuals = centred[_WARM_UP:] / volatility[_WARM_UP - 1 : -1]
    return residuals - residuals.mean(), float(volatility[-1]), usual


def volatility_path(
    current: float, usual: float, *, n_steps: int, half_life: float
) -> FloatArray:
    """Return volatility per bar as it returns from `current` to `usual`.

    The variance closes half the distance every `half_life` bars.

    Returns
    -------
    ndarray of shape (n_steps,), float64
    """
    weight = 0.5 ** (np.arange(n_steps) / half_life)
    return np.asarray(np.sqrt(usual**2 + weight * (current**2 - usual**2)))


def drift_free_paths(steps: FloatArray, last_close: float) -> FloatArray:
    """Return price paths whose mean log return is zero at every step.

    Parameters
    ----------
    steps : ndarray of shape (n_paths, n_steps), float64
        Log returns.
    last_close : float
        Where all paths start.

    Returns
    -------
    ndarray of shape (n_paths, n_steps), float64
    """
    returns = np.cumsum(steps - steps.mean(axis=0), axis=1)
    return np.asarray(last_close * np.exp(returns))


def band(paths: FloatArray) -> FloatArray:
    """Return the 10, 50 and 90 % quantiles of paths, each step by itself.

    Weibull's plotting position: numpy's default makes an 80 % band cover too little.

    Returns
    -------
    ndarray of shape (3, n_steps), float64

    References
    ----------
    .. [1] Hyndman and Fan (1996), Sample quantiles in statistical packages, type 6.
    """
    n_paths = len(paths)
    ordered = np.sort(np.ascontiguousarray(paths.T), axis=1)
    place = np.clip(_LEVELS * (n_paths + 1) - 1, 0, n_paths - 1)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, n_paths - 1)
    weight = place - low
    below, above = ordered[:, low], ordered[:, high]
    return np.asarray((below + weight * (above - below)).T)


def thinned(paths: FloatArray, n_samples: int) -> AnyArray | None:
    """Return `n_samples` of the paths, evenly spaced; None for zero.

    The paths are exchangeable, so any choice made without looking at them is fair.

    Returns
    -------
    ndarray of shape (n_samples, n_steps), float32, or None
    """
    if n_samples == 0:
        return None
    rows = np.arange(n_samples) * len(paths) // n_samples
    return paths[rows].astype(np.float32)
