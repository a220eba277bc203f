"""What a forecaster takes and gives.

Rules of the contract, tested for every registered model:

- **No look-ahead.** `forecast` uses bars with `known_ts <= as_of` only, whatever else
  the series holds (`Series.until` cuts it).
- **Seeded.** The same series, `as_of`, `horizon` and `seed` give bit-equal quantiles.
- **Alone or together.** A symbol's forecast does not depend on the other series of the
  call, on their order, or on `n_samples`.

Nothing here reads tables or a clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from lab.arrays import AnyArray, FloatArray, TimeArray
from lab.bars.series import Series
from lab.bars.timeframes import to_instant
from lab.errors import ForecastError
from lakehouse.schema.forecasts import QUANTILE_LEVELS

__all__ = [
    "Forecast",
    "ForecastRequest",
    "ForecastSkip",
    "Forecaster",
    "ModelForecaster",
    "Series",
]


@dataclass(frozen=True, slots=True)
class Forecast:
    """A forecast of one symbol's closes.

    Attributes
    ----------
    symbol, timeframe, model_name, model_version : str
        What was forecast and by what.
    as_of, known_ts : datetime
        Decision time, aware UTC. `known_ts` equals `as_of`: nothing later went in.
    last_ts : datetime
        Open of the newest bar the model saw.
    last_close : float
        Its close, the forecast's starting point.
    target_ts : ndarray of shape (horizon,), datetime64[us]
        Opens of the forecast bars.
    p10, p50, p90 : ndarray of shape (horizon,), float64
        Quantiles of each target close, in the quote currency.
    samples : ndarray of shape (n_samples, horizon), float32, or None
        Paths of closes; None for quantile models or when none were asked for.
    seed : int
        Seed of the request.
    is_contaminated : bool
        Whether the window lies before the model's training cut-off.
    event_context : str or None
        JSON of the releases scheduled within the horizon, as announced by `as_of`;
        whether the model was conditioned on them is the model's affair.
    quantiles : ndarray of shape (21, horizon), float32, or None
        Quantiles at `lakehouse.schema.forecasts.QUANTILE_LEVELS`, for models that give
        them; CRPS is taken from them where there are no samples.
    """

    symbol: str
    timeframe: str
    model_name: str
    model_version: str
    as_of: datetime
    known_ts: datetime
    last_ts: datetime
    last_close: float
    target_ts: TimeArray
    p10: FloatArray
    p50: FloatArray
    p90: FloatArray
    samples: AnyArray | None
    seed: int
    is_contaminated: bool = False
    event_context: str | None = None
    quantiles: AnyArray | None = None

    def __post_init__(self) -> None:
        """Refuse anything that is not a forecast of positive prices."""
        problem = _shape_problem(self) or _value_problem(self) or _grid_problem(self)
        if problem:
            raise ForecastError(
                f"forecast of {self.symbol} {self.timeframe} by {self.model_name}"
                f" as of {self.as_of.isoformat()}: {problem}"
            )

    @property
    def horizon(self) -> int:
        """Number of forecast bars."""
        return len(self.target_ts)


class ForecastSkip(NamedTuple):
    """A symbol that was not forecast, and why, in words."""

    symbol: str
    reason: str


class Forecaster(Protocol):
    """A model that forecasts closes.

    Attributes
    ----------
    name, version : str
        `version` changes whenever the code or its parameters do.
    min_context : int
        Bars a series must have.
    context : int
        Bars the model looks at; older ones change nothing.
    """

    @property
    def name(self) -> str:
        """Name in the registry."""

    @property
    def version(self) -> str:
        """Version of code, parameters and weights."""

    @property
    def min_context(self) -> int:
        """Fewest bars it works with."""

    @property
    def context(self) -> int:
        """Most bars it looks at."""

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

        Raises
        ------
        ForecastError
            If a series cannot be forecast; `lab.forecasters.batches.forecast_panel`
            sorts those out first.
        """
        ...


class ForecastRequest(NamedTuple):
    """One series to forecast at one moment.

    Attributes
    ----------
    series : Series
        Already cut at `as_of`.
    as_of : datetime
        Decision time, aware.
    events : ndarray of shape (n_context + horizon, 20), float32, or None
        Rows of `lab.features.events.EventEncoder` for the last `n_context` bars of
        `series` (`n_context` is the smaller of the model's `context` and
        `series.n_obs`) and the target bars; None leaves the model unconditioned.
    event_context : str or None
        JSON of the releases behind `events`, copied into the forecast.
    """

    series: Series
    as_of: datetime
    events: AnyArray | None = None
    event_context: str | None = None


@runtime_checkable
class ModelForecaster(Forecaster, Protocol):
    """A forecaster with trained weights.

    Attributes
    ----------
    cutoff : datetime or None
        Newest moment its weights may know of; None where nobody knows.
    card : mapping
        What is known of the checkpoint: data, parameters, measures, sha256 per file.
    takes_events : bool
        Whether `ForecastRequest.events` changes its forecasts.

    Notes
    -----
    Point in time: a forecast whose `as_of` lies before `cutoff`, or whose cut-off is
    unknown, is marked `is_contaminated`.
    """

    @property
    def cutoff(self) -> datetime | None:
        """Newest moment the weights may know of."""

    @property
    def card(self) -> Mapping[str, object]:
        """What is known of the checkpoint."""

    @property
    def takes_events(self) -> bool:
        """Whether events change its forecasts."""

    def forecast_requests(
        self,
        requests: Sequence[ForecastRequest],
        *,
        horizon: int,
        n_samples: int = 20,
        seed: int = 0,
    ) -> list[Forecast]:
        """Forecast each request, in the order given, as one batch.

        A request's forecast does not depend on the others. Chunking to fit memory is
        the model's own affair.

        Raises
        ------
        ForecastError
            If a series cannot be forecast.
        """
        ...


def _shape_problem(forecast: Forecast) -> str | None:
    horizon = len(forecast.target_ts)
    if horizon == 0:
        return "no target bars"
    for name in ("p10", "p50", "p90"):
        if getattr(forecast, name).shape != (horizon,):
            return f"{name} must have shape ({horizon},)"
    samples = forecast.samples
    if samples is not None and (samples.ndim != 2 or samples.shape[1] != horizon):
        return f"samples must have shape (n_samples, {horizon})"
    if forecast.as_of.tzinfo is None or forecast.last_ts.tzinfo is None:
        return "as_of and last_ts must be aware of their time zone"
    return None


def _value_problem(forecast: Forecast) -> str | None:
    bands = np.stack([forecast.p10, forecast.p50, forecast.p90])
    if not bool(np.all(np.isfinite(bands) & (bands > 0))):
        return "quantiles must be finite and positive"
    if not bool(np.all(bands[:-1] <= bands[1:])):
        return "quantiles must satisfy p10 <= p50 <= p90"
    samples = forecast.samples
    if samples is not None and not bool(np.all(np.isfinite(samples) & (samples > 0))):
        return "samples must be finite and positive"
    if not (np.isfinite(forecast.last_close) and forecast.last_close > 0):
        return "last_close must be finite and positive"
    opens = np.append(to_instant(forecast.last_ts), forecast.target_ts)
    if not bool(np.all(opens[1:] > opens[:-1])):
        return "target_ts must increase from last_ts on"
    return None


def _grid_problem(forecast: Forecast) -> str | None:
    grid = forecast.quantiles
    if grid is None:
        return None
    shape = (len(QUANTILE_LEVELS), forecast.horizon)
    if grid.shape != shape:
        return f"the quantile grid must have shape {shape}"
    if not bool(np.all(np.isfinite(grid) & (grid > 0))):
        return "the quantile grid must be finite and positive"
    if not bool(np.all(grid[:-1] <= grid[1:])):
        return "the quantile grid must not fall from level to level"
    return None
