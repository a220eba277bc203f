"""Registered models to try the registry with: small, but real files and figures."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from flows.bodies.model_registry import Bound, ModelVersion, enter_model
from flows.runs import Run
from flows.wiring import open_workplace
from lakehouse.schema.lifecycle import MODEL_PREDICTIONS

FIRST_DAY = datetime(2018, 3, 1, 14, tzinfo=UTC)


def new_run(flow: str = "train-winprob", run_id: str | None = None) -> Run:
    return Run(open_workplace(), flow, run_id or f"{flow}-1")


def ridge(name: str) -> bytes:
    return json.dumps({"name": name, "slopes": [0.1, 0.2]}).encode()


def enter(
    name: str,
    *,
    model: str = "winprob",
    auc: float = 0.6,
    run: Run | None = None,
    files: Mapping[str, bytes] | None = None,
    **card: Any,
) -> ModelVersion:
    """Register a version that is Staging from an AUC of 0.5 on."""
    return enter_model(
        new_run() if run is None else run,
        model_name=model,
        files={"model.json": ridge(name)} if files is None else files,
        card={"cutoff": "2018-09-01T00:00:00+00:00", "config": {"model": "ridge"}}
        | card,
        metrics={"auc": auc, "brier": 0.24, "unknown": float("nan")},
        who="tester",
        why=f"trained {name}",
        evidence={"rows": 400},
        thresholds=[Bound("auc", at_least=0.5)],
    )


def predictions(
    version: ModelVersion,
    outcomes: Sequence[float],
    *,
    origin: str = "out_of_fold",
    probability: float = 0.55,
    a_day: int = 4,
    first: datetime = FIRST_DAY,
    prefix: str = "order",
) -> None:
    """Store settled predictions, `a_day` of them a day, one subject each."""
    rows = []
    for place, outcome in enumerate(outcomes):
        as_of = first + timedelta(days=place // a_day, minutes=place % a_day)
        rows.append(
            {
                "model_name": version.model_name,
                "version": version.version,
                "origin": origin,
                "subject_id": f"{prefix}-{place:05d}",
                "symbol": "AAA",
                "timeframe": "1h",
                "as_of": as_of,
                "prediction": probability,
                "score": 0.2,
                "features": [0.0],
                "schema_sha256": "0" * 64,
                "is_novel": False,
                "label": float(place % 2),
                "outcome": float(outcome),
                "costs": 0.0,
                "settled_at": as_of + timedelta(hours=5),
                "run_id": "r",
            }
        )
    table = pa.Table.from_pylist(rows, schema=MODEL_PREDICTIONS.to_arrow())
    window = f"test/{version.model_name}/{version.version}/{origin}/{prefix}"
    open_workplace().lake.append("model_predictions", table, window=window)


def noise(seed: int, n_rows: int = 400, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.01, n_rows)


def train_for_ever(names: Sequence[str]) -> None:
    """Register one version after the other and say each that is done."""
    run = new_run(run_id="killed")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for name in names:
        sys.stdout.write(f"{enter(name, run=run).version}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    train_for_ever(sys.argv[1:])
