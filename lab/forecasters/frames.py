"""Forecasts as rows of `ml_predictions`."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from lab.forecasters._base import Forecast
from lakehouse.schema.forecasts import ML_PREDICTIONS


def prediction_id(
    *,
    symbol: str,
    timeframe: str,
    model_name: str,
    model_version: str,
    as_of: datetime,
    seed: int,
) -> str:
    """Return the identity of a forecast: 32 hexadecimal digits.

    Horizon and number of samples do not enter: the same request with a longer horizon
    has the same identity and a different content.
    """
    parts = [
        symbol,
        timeframe,
        model_name,
        model_version,
        as_of.astimezone(UTC).isoformat(timespec="microseconds"),
        seed,
    ]
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def predictions_table(
    forecasts: Sequence[Forecast], *, generated_at: datetime, run_id: str
) -> pa.Table:
    """Return forecasts as rows of `ml_predictions`.

    Parameters
    ----------
    forecasts : sequence of Forecast
        One row each, in this order.
    generated_at : datetime
        Clock time of the forecast, aware.
    run_id : str
        The run that made them.

    Returns
    -------
    pyarrow.Table
        With the schema of `ml_predictions`; no rows for no forecasts.
    """
    rows = [_row(forecast, generated_at, run_id) for forecast in forecasts]
    return pa.Table.from_pylist(rows, schema=ML_PREDICTIONS.to_arrow())


def _row(forecast: Forecast, generated_at: datetime, run_id: str) -> dict[str, object]:
    return {
        "prediction_id": prediction_id(
            symbol=forecast.symbol,
            timeframe=forecast.timeframe,
            model_name=forecast.model_name,
            model_version=forecast.model_version,
            as_of=forecast.as_of,
            seed=forecast.seed,
        ),
        "symbol": forecast.symbol,
        "timeframe": forecast.timeframe,
        "model_name": forecast.model_name,
        "model_version": forecast.model_version,
        "generated_at": generated_at,
        "as_of": forecast.as_of,
        "known_ts": forecast.known_ts,
        "last_close": forecast.last_close,
        "last_ts": forecast.last_ts,
        "target_ts": forecast.target_ts.astype("datetime64[us]"),
        "p10": forecast.p10,
        "p50": forecast.p50,
        "p90": forecast.p90,
        "samples": None
        if forecast.samples is None
        else list(np.asarray(forecast.samples, dtype=np.float32)),
        "quantiles": None
        if forecast.quantiles is None
        else list(np.asarray(forecast.quantiles, dtype=np.float32)),
        "seed": forecast.seed,
        "event_context": forecast.event_context,
        "is_contaminated": forecast.is_contaminated,
        "run_id": run_id,
    }
