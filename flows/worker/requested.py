"""Forecasts of bars that a gateway's clients sent: from requests to outcomes.

Jobs of one poll are one call of the model; if that call refuses, each is asked alone,
so that one client's bars cannot spoil another's.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
import numpy as np

from flows.checkpoints.models import open_forecaster
from flows.wiring import Workplace
from lab.arrays import FloatArray
from lab.bars.calendars import known_ts, positions
from lab.bars.series import Series
from lab.bars.timeframes import to_instant, to_moment
from lab.errors import CheckpointError, ForecastError, LabError
from lab.forecasters._base import Forecast, Forecaster, ForecastRequest, ModelForecaster
from lakehouse.errors import LakehouseError

_MAX_DETAIL: Final = 500  # characters
log = logging.getLogger("alphalake.worker")

Opener = Callable[[str, Workplace], Forecaster]
Reason = Literal["unfit", "no-model", "broken"]


class Bars(msgspec.Struct, frozen=True):
    """Columns of bars."""

    ts: list[datetime]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float | None] | None = None


class Request(msgspec.Struct, frozen=True):
    """What a client asked, checked and filled in by the gateway."""

    ohlcv: Bars
    events: list[list[float]] | None
    pred_len: int
    model: str
    symbol: str
    timeframe: str
    calendar: str
    asset_class: str
    n_samples: int
    seed: int


class Job(msgspec.Struct, frozen=True):
    """A request and its number."""

    id: str
    request: Request


class Batch(msgspec.Struct, frozen=True):
    """Jobs of one poll: one model, timeframe, length, sample count and seed."""

    jobs: list[Job]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a job has no forecast.

    Attributes
    ----------
    reason : str
        `unfit` bars, `no-model` here, or `broken`: the model failed.
    detail : str
        In words, for the client.
    """

    reason: Reason
    detail: str


Outcome = tuple[Forecast | Refusal, bool]


def forecast_jobs(
    requests: Sequence[Request],
    workplace: Workplace,
    opener: Opener = open_forecaster,
) -> list[Outcome]:
    """Forecast requests of one model, timeframe, length, sample count and seed.

    Parameters
    ----------
    requests : sequence
        As the gateway hands them out together.
    workplace : Workplace
        Whose models are opened.
    opener : callable
        From a model's name and the workplace to its forecaster.

    Returns
    -------
    list of (Forecast or Refusal, bool)
        In the order of `requests`, with whether the model made use of the events.

    Notes
    -----
    Point in time: a request's decision time is when its newest bar was known; it holds
    no later bar.
    """
    model = open_model(requests[0].model, workplace, opener)
    if isinstance(model, Refusal):
        return [(model, False) for _ in requests]
    prepared = [_prepared(one, model) for one in requests]
    ready = [one for one in prepared if isinstance(one, ForecastRequest)]
    made = iter(_made(model, ready, requests[0]))
    return [
        (one, False)
        if isinstance(one, Refusal)
        else (next(made), one.events is not None)
        for one in prepared
    ]


def open_model(name: str, workplace: Workplace, opener: Opener) -> Forecaster | Refusal:
    """Open a model, or say why it is not here."""
    try:
        return opener(name, workplace)
    except (LabError, LakehouseError, ImportError, OSError, RuntimeError) as error:
        return _refusal("no-model", error)


def encode_outcome(outcome: Outcome) -> bytes:
    """Return what is posted for a job, as JSON."""
    found, is_conditioned = outcome
    if isinstance(found, Refusal):
        return msgspec.json.encode(
            {"status": "failed", "reason": found.reason, "detail": found.detail}
        )
    samples = found.samples
    paths = None if samples is None else [_short(path) for path in samples]
    return msgspec.json.encode(
        {
            "status": "done",
            "model_name": found.model_name,
            "model_version": found.model_version,
            "as_of": found.as_of,
            "last_ts": found.last_ts,
            "last_close": found.last_close,
            "target_ts": [to_moment(ts) for ts in found.target_ts],
            "p10": found.p10.tolist(),
            "p50": found.p50.tolist(),
            "p90": found.p90.tolist(),
            "samples": paths,
            "seed": found.seed,
            "is_contaminated": found.is_contaminated,
            "is_conditioned": is_conditioned,
        }
    )


def _short(path: Any) -> list[float]:
    # The shortest decimals that are the same float32.
    return [float(str(value)) for value in path]


def _prepared(request: Request, model: Forecaster) -> ForecastRequest | Refusal:
    try:
        series = _series(request)
        _check_grid(series)
        if series.n_obs < model.min_context:
            raise ForecastError(
                f"{series.n_obs} bars, model {model.name} needs {model.min_context}"
            )
        known = known_ts(
            series.ts[-1:], timeframe=series.timeframe, calendar=series.calendar
        )
        as_of = to_moment(known[0])
    except (LabError, ValueError, OverflowError) as error:
        return _refusal("unfit", error)
    return ForecastRequest(series, as_of, _events(request, series, model))


def _series(request: Request) -> Series:
    bars = request.ohlcv
    ts = np.array([to_instant(moment) for moment in bars.ts], "datetime64[us]")
    volume = [None] * len(ts) if bars.volume is None else bars.volume
    return Series(
        symbol=request.symbol,
        timeframe=request.timeframe,
        calendar=request.calendar,
        asset_class=request.asset_class,
        ts=ts,
        open=_floats(bars.open),
        high=_floats(bars.high),
        low=_floats(bars.low),
        close=_floats(bars.close),
        volume=_floats([np.nan if one is None else one for one in volume]),
    )


def _floats(values: Sequence[float]) -> FloatArray:
    return np.array(values, dtype=np.float64)


def _check_grid(series: Series) -> None:
    last = series.ts[-1:]
    row = positions(last, timeframe=series.timeframe, calendar=series.calendar)[0]
    if row < 0:
        raise ForecastError(
            f"last bar {to_moment(last[0]).isoformat()}: calendar {series.calendar!r}"
            f" has no {series.timeframe} bar there"
        )


def _events(request: Request, series: Series, model: Forecaster) -> Any:
    # The rows of the model's own context and of the targets.
    if request.events is None or not (
        isinstance(model, ModelForecaster) and model.takes_events
    ):
        return None
    n_rows = min(model.context, series.n_obs) + request.pred_len
    return np.array(request.events, dtype=np.float32)[-n_rows:]


def _made(
    model: Forecaster, ready: Sequence[ForecastRequest], like: Request
) -> list[Forecast | Refusal]:
    try:
        return list(_called(model, ready, like))
    except (LabError, *_FAILURES) as error:
        if len(ready) == 1:
            return [_blame(error)]
    found: list[Forecast | Refusal] = []
    for one in ready:
        try:
            found += _called(model, [one], like)
        except (LabError, *_FAILURES) as error:
            found.append(_blame(error))
    return found


def _called(
    model: Forecaster, ready: Sequence[ForecastRequest], like: Request
) -> list[Forecast]:
    if isinstance(model, ModelForecaster):
        return model.forecast_requests(
            ready, horizon=like.pred_len, n_samples=like.n_samples, seed=like.seed
        )
    return [
        model.forecast(
            [one.series],
            as_of=one.as_of,
            horizon=like.pred_len,
            n_samples=like.n_samples,
            seed=like.seed,
        )[0]
        for one in ready
    ]


# What numeric code raises on data that it was not made for.
_FAILURES: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def _blame(error: Exception) -> Refusal:
    if isinstance(error, CheckpointError):
        return _refusal("no-model", error)
    if isinstance(error, LabError):
        return _refusal("unfit", error)
    log.error("a forecast failed", exc_info=error)
    return Refusal("broken", f"{type(error).__name__}; the worker's log says more")


def _refusal(reason: Reason, error: Exception) -> Refusal:
    text = " ".join(str(error).split()) or type(error).__name__
    return Refusal(reason, text[:_MAX_DETAIL])
