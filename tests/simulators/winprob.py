"""A published win-probability model and requests to it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from flows.wiring import Workplace
from lab.learning.bundle import build_bundle
from lab.learning.calibration import Platt
from lab.learning.config import TrainingConfig
from lab.learning.feature_sets import ORDER_FEATURES
from lab.learning.learners import MODEL_FILES, fit_learner
from lab.learning.schema import FeatureSchema
from lakehouse.schema.catalogue import table_spec
from tests.simulators.artefacts import NOW
from tests.simulators.gateway import GatewayProcess
from tests.simulators.published import PublishedLake

NAMES = ORDER_FEATURES.names


def rows(n: int, *, seed: int = 7, n_features: int = len(NAMES)) -> np.ndarray:
    """Feature rows of the market the model was trained on."""
    return np.random.default_rng(seed).normal(size=(n, n_features)).round(6)


def trained(
    learner: str = "xgboost",
    *,
    names: tuple[str, ...] = NAMES,
    n_rows: int = 2000,
    n_trees: int = 200,
    seed: int = 7,
) -> dict[str, bytes]:
    """The files of a small model of a planted signal; whole depth, quick to train."""
    config = TrainingConfig(model=learner, n_estimators=n_trees, max_depth=4, seed=seed)
    features = rows(n_rows, seed=seed, n_features=len(names))
    rng = np.random.default_rng(seed + 1)
    labels = (features[:, 0] - features[:, 1] + rng.normal(size=n_rows) > 0).astype(
        np.float64
    )
    model = fit_learner(config, features, labels, np.ones(n_rows))
    return build_bundle(
        config,
        model,
        schema=FeatureSchema.fit(names, features),
        calibrator=Platt.fit(model.scores(features), labels),
        reference=b"profile",
    )


def artefact(files: dict[str, bytes], *, version: str = "v1", **changes) -> pa.Table:
    """The row of `artefact_winprob` of a model's files; `changes` replace columns."""
    learner = json.loads(files["config.json"])["config"]["model"]
    row = {
        "model_name": "winprob",
        "version": version,
        "learner": learner,
        "model": files[MODEL_FILES[learner]],
        "calibrator": files["calibrator.json"].decode(),
        "schema": files["schema.json"].decode(),
        "config": files["config.json"].decode(),
        "metrics": "{}",
        "runtime_weight": 0.0,
        "trained_until": NOW,
        "run_id": "run",
        **changes,
    }
    schema = table_spec("artefact_winprob").to_arrow()
    return pa.Table.from_pylist([row], schema=schema)


def named(values: np.ndarray, names: tuple[str, ...] = NAMES) -> list[dict]:
    """Rows as objects by feature."""
    return [dict(zip(names, row, strict=True)) for row in values.tolist()]


@dataclass(frozen=True)
class _Published:
    root: str
    trust: Path


@contextmanager
def serving(workplace: Workplace) -> Iterator[str]:
    """Serve a workplace by a gateway process at its own time; gives the address."""
    lake = _Published(workplace.root, workplace.keys / "root.json")
    now = workplace.clock.now().isoformat()
    with serving_lake(lake, workplace.state, "--now", now) as gateway:
        yield gateway.url


@contextmanager
def serving_lake(
    lake: PublishedLake | _Published, state: Path, *options: str
) -> Iterator[GatewayProcess]:
    """Serve a published lake without a rate limit."""
    gateway = GatewayProcess(lake, state, "--rate-limit", "0", *options)
    try:
        gateway.until("/health/ready", lambda answer: answer.status_code == 200)
        yield gateway
    finally:
        gateway.stop()
