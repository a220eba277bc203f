"""Every Prefect flow, imported together."""

from typing import Any, Final

from prefect.flows import Flow

from flows.batches import forecast_batch
from flows.compare import compare, promote, rollback
from flows.drift import drift
from flows.evolve import evolve
from flows.forecast import forecast, forecast_baselines, forecast_ensemble
from flows.heartbeat import heartbeat
from flows.ingest import ingest_calendar, ingest_ohlcv
from flows.leaks import leaks, null_battery
from flows.lifecycle import gates, sleeve_lifecycle
from flows.load_predictions import load_predictions
from flows.maintain import maintain
from flows.paper import paper
from flows.predict_bars import predict_bars
from flows.publish import publish
from flows.resign import resign
from flows.retrain import retrain
from flows.score import score_signals
from flows.sleeve_export import sleeve_returns_export
from flows.train import FLOWS as TRAINING
from flows.train_models import train_gbm, train_winprob
from flows.train_policy import train_policy
from flows.tune import tune
from flows.walkforward import walk_forward

FLOWS: Final[tuple[Flow[..., Any], ...]] = (
    ingest_ohlcv,
    ingest_calendar,
    forecast,
    forecast_baselines,
    forecast_batch,
    forecast_ensemble,
    score_signals,
    walk_forward,
    evolve,
    gates,
    sleeve_lifecycle,
    sleeve_returns_export,
    leaks,
    null_battery,
    paper,
    train_winprob,
    train_gbm,
    train_policy,
    predict_bars,
    load_predictions,
    tune,
    drift,
    retrain,
    compare,
    promote,
    rollback,
    publish,
    resign,
    heartbeat,
    maintain,
    *TRAINING.values(),
)
