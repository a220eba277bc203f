"""Every Prefect flow, imported together."""

from typing import Any, Final

from prefect.flows import Flow

from flows.batches import forecast_batch
from flows.forecast import forecast, forecast_baselines, forecast_ensemble
from flows.heartbeat import heartbeat
from flows.ingest import ingest_calendar, ingest_ohlcv
from flows.maintain import maintain
from flows.publish import publish
from flows.resign import resign
from flows.score import score_signals
from flows.sleeve_export import sleeve_returns_export
from flows.train import FLOWS as TRAINING

FLOWS: Final[tuple[Flow[..., Any], ...]] = (
    ingest_ohlcv,
    ingest_calendar,
    forecast,
    forecast_baselines,
    forecast_batch,
    forecast_ensemble,
    score_signals,
    sleeve_returns_export,
    publish,
    resign,
    heartbeat,
    maintain,
    *TRAINING.values(),
)
