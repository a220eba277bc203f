"""The baseline that every model has to beat: no drift, today's volatility.

Log returns of the recent past are divided by the volatility expected at their time,
resampled in blocks, multiplied by the volatility expected now and summed. Volatility
returns from its present to its usual level over the horizon. The mean log return of
the paths is zero at every step; what the median says about direction is skewness only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from lab.arrays import FloatArray, IntArray
from lab.bars.targets import Targets, forecast_targets
from lab.bars.timeframes import to_moment
from lab.errors import ForecastError
from lab.forecasters._base import Forecast, Series
from lab.forecasters.paths import (
    N_PATHS,
    band,
    check_request,
    drift_free_paths,
    filtered_returns,
    model_version,
    request_generator,
    stationary_indices,
    thinned,
    volatility_path,
)

CODE_VERSION: Final = "1"


@dataclass(frozen=True, slots=True)
class NaiveParameters:
    """Settings of the naive forecaster, in bars.

    Attributes
    ----------
    context : int
        Bars looked at.
    min_context : int
        Fewest bars accepted.
    mean_block : float
        Expected block length of the bootstrap.
    half_life_1h, half_life_1d : float
        Half-life of the volatility estimate, by timeframe.
    return_half_life : float
        Half-life of volatility's return to its usual level.
    """

    context: int = 1000
    min_context: int = 100
    mean_block: float = 10.0
    half_life_1h: float = 48.0
    half_life_1d: float = 11.0
    return_half_life: float = 60.0

    def half_life(self, timeframe: str) -> float:
        """Return the half-life of the volatility estimate."""
        return self.half_life_1h if timeframe == "1h" else self.half_life_1d


class NaiveForecaster:
    """Volatility-scaled, drift-free stationary-block bootstrap of log returns.

    Parameters
    ----------
    parameters : NaiveParameters, optional
        Settings; they enter the version.

    References
    ----------
    .. [1] Politis and Romano (1994), The stationary bootstrap, JASA 89, 1303-1313.
    """

    name = "naive"

    def __init__(self, parameters: NaiveParameters | None = None) -> None:
        self.parameters = parameters or NaiveParameters()
        self.version = model_version(CODE_VERSION, self.parameters)
        self.min_context = self.parameters.min_context
        self.context = self.parameters.context

    def forecast(
        self,
        series: Sequence[Series],
        *,
        as_of: datetime,
        horizon: int,
        n_samples: int = 20,
        seed: int = 0,
    ) -> list[Forecast]:
        """Forecast the next `horizon` closes of each series, in the order given.

        Parameters
        ----------
        series : sequence of Series
            Bars after `as_of` are not read.
        as_of : datetime
            Decision time, aware.
        horizon : int, bars
            Targets per series.
        n_samples : int, default 20
            Paths to return, 0 to 400; the quantiles come from 400 paths in any case.
        seed : int, default 0
            Seed of the request.

        Raises
        ------
        ForecastError
            If a series is too short or a number is out of range.

        Notes
        -----
        Point in time: only bars with `known_ts <= as_of`.
        """
        check_request(horizon=horizon, n_samples=n_samples, seed=seed)
        return [
            self._forecast_one(one, as_of, horizon, n_samples, seed) for one in series
        ]

    def _forecast_one(
        self, series: Series, as_of: datetime, horizon: int, n_samples: int, seed: int
    ) -> Forecast:
        known = known_context(series, as_of, self.context, self.min_context)
        targets = forecast_targets(
            series.until(as_of).ts,
            as_of=as_of,
            horizon=horizon,
            timeframe=known.timeframe,
            calendar=known.calendar,
        )
        rng = request_generator(
            model=f"{self.name} {self.version}",
            symbol=known.symbol,
            timeframe=known.timeframe,
            as_of=as_of,
            seed=seed,
        )
        steps = self._simulate(known, targets, rng)
        paths = drift_free_paths(steps, float(known.close[-1]))[:, targets.n_missed :]
        p10, p50, p90 = band(paths)
        return Forecast(
            symbol=known.symbol,
            timeframe=known.timeframe,
            model_name=self.name,
            model_version=self.version,
            as_of=as_of,
            known_ts=as_of,
            last_ts=to_moment(known.ts[-1]),
            last_close=float(known.close[-1]),
            target_ts=targets.target_ts,
            p10=p10,
            p50=p50,
            p90=p90,
            samples=thinned(paths, n_samples),
            seed=seed,
        )

    def _simulate(
        self, series: Series, targets: Targets, rng: np.random.Generator
    ) -> FloatArray:
        # Log returns of paths, (n_paths, n_steps).
        returns, _ = log_returns(series)
        return resampled(returns, len(targets.path_ts), self.parameters, series, rng)


def known_context(
    series: Series, as_of: datetime, context: int, min_context: int
) -> Series:
    """Return the last `context` bars of `series` known at `as_of`.

    Raises
    ------
    ForecastError
        If fewer than `min_context` bars are known.

    Notes
    -----
    Point in time: only bars with `known_ts <= as_of`.
    """
    known = series.until(as_of)
    if known.n_obs < min_context:
        raise ForecastError(
            f"{series.symbol} {series.timeframe}: {known.n_obs} bars known as of"
            f" {as_of.isoformat()}, {min_context} needed"
        )
    return known.part(slice(max(0, known.n_obs - context), known.n_obs))


def log_returns(series: Series) -> tuple[FloatArray, IntArray]:
    """Return a series' log returns without breaks, and the rows they end at.

    Returns
    -------
    returns : ndarray of shape (n_returns,), float64
    rows : ndarray of shape (n_returns,), int64
    """
    rows = 1 + np.flatnonzero(~series.is_break[1:]).astype(np.int64)
    return np.log(series.close[rows] / series.close[rows - 1]), rows


def resampled(
    returns: FloatArray,
    n_steps: int,
    parameters: NaiveParameters,
    series: Series,
    rng: np.random.Generator,
) -> FloatArray:
    """Return bootstrap paths of log returns at the volatility expected now.

    Returns
    -------
    ndarray of shape (n_paths, n_steps), float64
    """
    residuals, current, usual = filtered_returns(
        returns, half_life=parameters.half_life(series.timeframe)
    )
    rows = stationary_indices(
        rng,
        len(residuals),
        n_paths=N_PATHS,
        n_steps=n_steps,
        mean_block=parameters.mean_block,
    )
    volatility = volatility_path(
        current, usual, n_steps=n_steps, half_life=parameters.return_half_life
    )
    return np.asarray(residuals[rows] * volatility)
