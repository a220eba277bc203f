"""Models of forward returns: trained, registered and kept, from bars of a lake."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flows.bodies.bar_predictions import run_predict_bars
from flows.bodies.ingest import ingest_bars
from flows.bodies.model_registry import load_files, read_registry
from flows.bodies.train_gbm import run_train_gbm
from flows.runs import Outcome
from flows.wiring import open_workplace
from lab.learning.bundle import load_predictor
from lab.learning.feature_sets import BAR_FEATURES
from lakehouse.errors import InputError, RefusedError
from tests.flows.conftest import run_plainly

pytestmark = pytest.mark.xdist_group("gbm")

CONFIG = {
    "n_estimators": 15,
    "learning_rate": 0.1,
    "train_period_days": 200,
    "min_rows": 300,
    "min_leaf_rows": 20,
}
N_DAYS = 518
# The last bar is known at the fixture's now.


def write_reversals(path: Path) -> None:
    """Write three instruments whose weeks turn round: a fall is followed by a rise."""
    rng = np.random.default_rng(0)
    lines = ["symbol,ts,open,high,low,close,volume"]
    days = np.datetime64("2017-05-01") + np.arange(N_DAYS)
    for symbol in ("C0", "C1", "C2"):
        level = np.zeros(N_DAYS)
        for day in range(1, N_DAYS):
            level[day] = 0.8 * level[day - 1] + 0.02 * rng.standard_normal()
        close = 100.0 * np.exp(level)
        opens = np.concatenate([[100.0], close[:-1]])
        for day, o, c in zip(days, opens, close, strict=True):
            prices = f"{o:.6f},{max(o, c):.6f},{min(o, c):.6f},{c:.6f}"
            lines.append(f"{symbol},{day}T00:00:00Z,{prices},1")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def bars(workplace, tmp_path: Path):
    write_reversals(tmp_path / "bars.csv")
    run_plainly(
        "ingest-ohlcv",
        ingest_bars,
        source="files",
        path=str(tmp_path / "bars.csv"),
        timeframe="1d",
        options={"asset_class": "crypto"},
    )
    return workplace


def train(**parameters) -> Outcome:
    return run_plainly("train-gbm", run_train_gbm, **({"config": CONFIG} | parameters))


def rows(table: str) -> list[dict]:
    return open_workplace().lake.read(table).to_pylist()


def test_a_booster_finds_the_reversals_and_is_staged_once_however_often_trained(bars):
    train()
    train()
    registry = read_registry(bars.lake)
    version = registry.challenger("gbm-1d")
    assert version is not None
    assert version.metrics["skill"] > 0.05
    assert [row["event"] for row in rows("model_events")] == ["register"]
    predictor = load_predictor(load_files(bars.lake, version))
    assert predictor.schema_sha256 == BAR_FEATURES.sha256
    assert version.manifest["importance"]["gain"]
    told = rows("model_predictions")
    assert len({row["subject_id"] for row in told}) == len(told) > 600
    assert {row["origin"] for row in told} == {"out_of_fold"}
    assert all(row["as_of"] < row["settled_at"] for row in told)
    table = np.array([row["features"] for row in told], dtype=np.float64)
    assert table.shape[1] == len(BAR_FEATURES.names)
    decisions = [row for row in rows("decision_records") if "gbm" in row["agent_id"]]
    assert json.loads(decisions[0]["output"])["version"] == version.version


def test_a_version_is_registered_once_its_out_of_fold_rows_are_there(bars):
    """Of no version that is compared may a kill have cut the rows off."""
    train()
    (event,) = rows("model_events")
    told = len(rows("model_predictions"))
    schema = bars.lake.read("model_events").schema
    broken = pa.Table.from_pylist([event | {"seq": event["seq"] + 1}], schema=schema)
    bars.lake.append("model_events", broken, window="broken")
    with pytest.raises(RefusedError, match="model_events"):
        train(config=None)
    kept = rows("model_predictions")
    assert len(kept) > told
    assert len({row["version"] for row in kept}) == 2


def test_out_of_fold_rows_earn_their_move_less_costs(bars):
    train()
    for row in rows("model_predictions")[:200]:
        assert row["costs"] == pytest.approx(0.002)
        assert np.sign(row["prediction"]) * row["label"] > 0 or row["outcome"] < 0


def test_a_ridge_over_three_boosters_is_one_model(bars):
    train(learner="ridge", config=CONFIG | {"n_estimators": 8})
    version = read_registry(bars.lake).versions("gbm-1d")[0]
    files = load_files(bars.lake, version)
    assert {"model.ubj", "model.cbm", "model.txt", "model.json"} <= set(files)
    assert version.manifest["learner"] == "ridge"
    assert load_predictor(files).names == BAR_FEATURES.names


def test_a_version_that_is_not_staged_says_what_was_asked(bars):
    line = train(config=CONFIG | {"cost_bps": 1000.0}).message
    assert "registered, not staged (sharpe_ratio >= 0 is asked)" in line
    assert read_registry(bars.lake).challenger("gbm-1d") is None


def test_what_cannot_be_trained_is_refused_and_leaves_the_registry_as_it_was(bars):
    with pytest.raises(InputError, match="learner 'forest': one of xgboost"):
        train(learner="forest")
    with pytest.raises(InputError, match="timeframe '4h': one of 1d, 1h"):
        train(timeframe="4h")
    with pytest.raises(InputError, match="objective = 'classification': regression"):
        train(config={"objective": "classification"})
    with pytest.raises(InputError, match="unknown depth"):
        train(config={"depth": 3})
    with pytest.raises(RefusedError, match=r"NEEDS_MORE_DATA: .* 5000 are needed"):
        train(config=CONFIG | {"min_rows": 5000})
    assert rows("model_events") == rows("model_versions") == []


def test_bars_after_the_moment_change_nothing(bars):
    moment = "2018-07-01T00:00:00+00:00"
    train(as_of=moment)
    (version,) = read_registry(bars.lake).versions("gbm-1d")
    assert version.manifest["cutoff"] <= moment
    assert all(
        row["settled_at"].isoformat() <= moment for row in rows("model_predictions")
    )


def predict(**parameters) -> Outcome:
    return run_plainly("predict-bars", run_predict_bars, **parameters)


def told(origin: str) -> list[dict]:
    return [row for row in rows("model_predictions") if row["origin"] == origin]


def test_new_bars_are_predicted_once_and_settled_when_their_week_has_passed(bars):
    train(as_of="2018-09-01T00:00:00+00:00")
    first = predict()
    made = told("replay") + told("live")
    assert len(made) == first.counts["bars_predicted"] > 60
    (version,) = read_registry(bars.lake).versions("gbm-1d")
    assert all(row["as_of"].isoformat() >= version.manifest["cutoff"] for row in made)
    # Only the newest bar was news: the older ones were caught up.
    assert {row["as_of"].isoformat() for row in told("live")} == {
        "2018-10-01T00:00:00+00:00"
    }
    assert {row["settled_at"] for row in made} == {None}
    second = predict()
    assert second.counts.get("bars_predicted", 0) == 0
    assert 30 < second.counts["predictions_settled"] < len(made)
    for row in told("replay"):
        if row["settled_at"] is not None:
            assert row["settled_at"] > row["as_of"]
            is_right = np.sign(row["score"]) == np.sign(row["label"])
            assert is_right or row["outcome"] < 0
    assert {row["settled_at"] for row in told("live")} == {None}


def test_without_a_version_in_use_nothing_is_predicted(bars):
    assert "no version in use" in predict().message
    assert rows("model_predictions") == []
