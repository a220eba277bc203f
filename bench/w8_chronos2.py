"""W8, Chronos-2: what our forecaster and our flow add to the model's own time.

A model of the published size (120 M parameters, random weights) forecasts 23 series of
400 bars, 120 steps ahead, three ways in turn: the package's `predict_quantiles` on
prepared inputs, our forecaster on the same series, and the whole flow that reads a lake
and appends the forecasts. Ratios of CPU-seconds, same threads, medians; the model is
loaded once before. All three must give the same quantiles before a time counts.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from bench.measure import fresh_process, resident_mb
from lakehouse.schema.forecasts import QUANTILE_LEVELS

CONTEXT = 400
HORIZON = 120
N_SERIES = 23
REPEATS = 5
BAND = [QUANTILE_LEVELS.index(level) for level in (0.1, 0.5, 0.9)]
NOW = datetime(2023, 10, 2, 12, tzinfo=UTC)
NEWEST = datetime(2023, 9, 12, 12, tzinfo=UTC)
"""Three days before one of the market's 23 instruments is delisted."""

LIMIT = 1.10
PUBLISHED = {
    "d_model": 768,
    "d_kv": 64,
    "d_ff": 3072,
    "n_layers": 12,
    "n_heads": 12,
    "patch": 16,
    "length": 8192,
    "n_patches": 64,
}


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of a call, s."""
    start = time.process_time()
    work()
    return time.process_time() - start


def make_checkpoint(folder: Path, seed: int) -> None:
    """Write a model of the published size with random weights."""
    import torch

    from flows.checkpoints.build_chronos2 import write
    from lab.forecasters.chronos2_weights import (
        Chronos2Shape,
        new_pipeline,
        write_pipeline,
    )

    pipeline = new_pipeline(Chronos2Shape(**PUBLISHED), seed=seed)
    head = pipeline.model.output_patch_embedding
    generator = torch.Generator().manual_seed(seed)
    for layer in (head.output_layer, head.residual_layer):
        torch.nn.init.normal_(layer.weight, std=1e-3, generator=generator)
    card = {"cutoff": None, "context": CONTEXT, "takes_events": False}
    write(folder, write_pipeline(pipeline), card)


def fill_lake(seed: int) -> object:
    """Ingest the synthetic market's hours."""
    from flows.bodies.ingest import ingest_bars
    from flows.runs import execute
    from flows.wiring import open_workplace

    workplace = open_workplace()
    execute(
        "ingest-ohlcv",
        ingest_bars,
        workplace=workplace,
        parameters={
            "source": "synthetic",
            "timeframe": "1h",
            "options": {"seed": str(seed % 1000), "years": "0.4"},
        },
    )
    return workplace


def measure(seed: int) -> dict[str, float]:
    """Measure in this process; the environment names an empty lake."""
    import torch

    from flows.bodies.forecast import forecast_closes
    from flows.checkpoints.models import open_forecaster
    from flows.runs import execute
    from lab.bars.panel import Panel
    from lab.forecasters.chronos2_inputs import log_levels

    workplace = fill_lake(seed)
    forecaster = open_forecaster("chronos2", workplace)
    bars = workplace.lake.read("ohlcv", filter=pc.field("timeframe") == "1h")
    panel = Panel.from_tables(bars, workplace.lake.read("instruments"), timeframe="1h")
    pipeline = forecaster._pipeline  # noqa: SLF001 - the model itself is the yardstick
    symbols = sorted(panel.series)[:N_SERIES]

    def series_at(moment: datetime) -> list:
        return panel.as_of(moment, context=CONTEXT, symbols=symbols)

    def model_alone(inputs: list) -> list:
        found, _ = pipeline.predict_quantiles(
            inputs, prediction_length=HORIZON, quantile_levels=pipeline.quantiles
        )
        return found

    def prepared(moment: datetime) -> list:
        return [
            torch.from_numpy(log_levels(one).astype(np.float32))
            for one in series_at(moment)
        ]

    def flow(moment: datetime) -> None:
        execute(
            "forecast",
            forecast_closes,
            workplace=workplace,
            parameters={
                "timeframe": "1h",
                "model": "chronos2",
                "symbols": symbols,
                "as_of": moment.isoformat(),
                "horizon": HORIZON,
            },
        )

    moments = [NEWEST - timedelta(hours=6 * k) for k in range(REPEATS + 1)]
    check_equal(moments[0], series_at, forecaster, model_alone(prepared(moments[0])))
    flow(moments[0])
    check_stored(
        workplace,
        forecaster.forecast(series_at(moments[0]), as_of=moments[0], horizon=HORIZON),
    )
    spent: dict[str, list[float]] = {"model": [], "forecaster": [], "flow": []}
    for moment in moments[1:]:
        inputs, series = prepared(moment), series_at(moment)
        spent["model"].append(cpu_seconds(lambda one=inputs: model_alone(one)))
        spent["forecaster"].append(
            cpu_seconds(
                lambda one=series, at=moment: forecaster.forecast(
                    one, as_of=at, horizon=HORIZON
                )
            )
        )
        spent["flow"].append(cpu_seconds(lambda at=moment: flow(at)))
    found = {name: statistics.median(values) for name, values in spent.items()}
    pairs = zip(spent["flow"], spent["model"], strict=True)
    found["flow_ratio"] = statistics.median(one / other for one, other in pairs)
    pairs = zip(spent["forecaster"], spent["model"], strict=True)
    found["forecaster_ratio"] = statistics.median(one / other for one, other in pairs)
    found["n_series"] = len(series_at(moments[0]))
    found["n_parameters"] = sum(one.numel() for one in pipeline.model.parameters())
    found["threads"] = torch.get_num_threads()
    found["rss_mb"] = resident_mb("VmHWM")
    return found


def check_equal(moment: datetime, series_at: Callable, forecaster, model: list) -> None:
    """Refuse forecasts that are not the model's own quantiles."""
    ours = forecaster.forecast(series_at(moment), as_of=moment, horizon=HORIZON)
    for one, quantiles in zip(ours, model, strict=True):
        changes = np.sort(quantiles[0].numpy().astype(float).T, axis=0)
        wanted = one.last_close * np.exp(changes[BAND])
        if not np.allclose([one.p10, one.p50, one.p90], wanted, rtol=1e-4):
            raise RuntimeError(f"{one.symbol}: not the model's quantiles")


def check_stored(workplace, forecasts: list) -> None:
    """Refuse a flow that stored something else."""
    rows = {
        row["symbol"]: row["p50"]
        for row in workplace.lake.latest("ml_predictions").to_pylist()
    }
    for one in forecasts:
        if not np.allclose(rows[one.symbol], one.p50, rtol=1e-4):
            raise RuntimeError(f"{one.symbol}: not what the forecaster gave")


def row_of(found: dict[str, float], name: str, what: str) -> dict:
    """Return one line of the table."""
    ratio = found[f"{name}_ratio"]
    size = f"{found['n_parameters'] / 1e6:.0f} M parameters"
    return {
        "work": "W8",
        "figure": f"Chronos-2 {size}, {found['n_series']:.0f} x {CONTEXT} bars x "
        f"{HORIZON} steps, {what}: {found[name]:.2f} CPU-s",
        "peer": f"predict_quantiles {found['model']:.2f} CPU-s",
        "ratio": round(ratio, 3),
        "target": f"<= {LIMIT} x the model",
        "limit": f"{LIMIT}",
        "fraction_of_limit": round(ratio / LIMIT, 3),
        "peak_rss_mb": round(found["rss_mb"]),
    }


def run(seed: int) -> list[dict]:
    """Run the contract; one row per figure."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_checkpoint(place / "model", seed)
        given = {
            "ALPHALAKE_ROOT": str(place / "root"),
            "ALPHALAKE_KEYS": str(place / "keys"),
            "ALPHALAKE_STATE": str(place / "state"),
            "ALPHALAKE_NOW": NOW.isoformat(),
            "ALPHALAKE_CHRONOS2": str(place / "model"),
            "ALPHALAKE_DEVICE": "cpu",
        }
        before = dict(os.environ)
        os.environ.update(given)
        try:
            found = fresh_process("bench.w8_chronos2", str(seed))
        finally:
            os.environ.clear()
            os.environ.update(before)
    return [
        row_of(found, "forecaster", "forecaster"),
        row_of(found, "flow", "flow with lake"),
    ]


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
