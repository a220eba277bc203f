"""The drift flow over a real lake: a champion, its live predictions, its reports."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from flows.bodies.drift import run_drift
from flows.bodies.promotion import run_promote
from flows.signals_out import DRIFT_DETECTED
from flows.wiring import Workplace
from lab.drift.profile import ReferenceProfile
from lab.lifecycle.reaction import alarm_of
from lakehouse.errors import InputError, RefusedError
from lakehouse.schema.lifecycle import MODEL_PREDICTIONS
from tests.flows.conftest import run_plainly
from tests.simulators.models import enter, new_run

N_TRAINED = 1_200
FIRST = datetime(2018, 3, 1, tzinfo=UTC)
LIVE = datetime(2018, 8, 1, tzinfo=UTC)
HOURS = 2


def features_of(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 3))


@pytest.fixture
def champion(workplace: Workplace):
    """A winprob champion whose bundle keeps the profile of its training rows."""
    table = features_of(0, N_TRAINED)
    times = np.array([FIRST.replace(tzinfo=None)], "datetime64[us]") + np.arange(
        N_TRAINED
    ) * np.timedelta64(HOURS, "h")
    files = {
        "reference.arrow": ReferenceProfile.of(
            table, ["a", "b", "c"], times=times
        ).to_bytes(),
        "config.json": json.dumps({"config": {"objective": "classification"}}).encode(),
    }
    version = enter("watched", files=files)
    run_promote(new_run("promote"), model="winprob", version=version.version, why="t")
    store(workplace, version, table, FIRST, origin="out_of_fold")
    return version


def store(workplace, version, table, first, *, origin="live", settled_after=HOURS):
    rng = np.random.default_rng(len(table))
    rows = []
    for number, values in enumerate(table):
        as_of = first + timedelta(hours=HOURS * number)
        chance = float(1 / (1 + np.exp(-values[0])))
        label = float(rng.random() < chance)
        rows.append(
            {
                "model_name": "winprob",
                "version": version.version,
                "origin": origin,
                "subject_id": f"{origin}-{as_of.isoformat()}",
                "symbol": "AAA",
                "timeframe": "1h",
                "as_of": as_of,
                "prediction": chance,
                "score": float(values[0]),
                "features": [None if np.isnan(one) else float(one) for one in values],
                "schema_sha256": "0" * 64,
                "is_novel": False,
                "label": label,
                "outcome": 2 * label - 1 + 0.1 * float(rng.standard_normal()),
                "costs": 0.0,
                "settled_at": as_of + timedelta(hours=settled_after),
                "run_id": "r",
            }
        )
    workplace.lake.append(
        "model_predictions",
        pa.Table.from_pylist(rows, schema=MODEL_PREDICTIONS.to_arrow()),
        window=f"test/{version.version}/{origin}/{first.isoformat()}",
    )


def drift(**parameters):
    return run_plainly("drift", run_drift, **parameters)


def reports(workplace):
    return workplace.lake.read("drift_reports").to_pylist()


def told(workplace):
    names = workplace.lake.read("telemetry")["name"].to_pylist()
    return sum(name.startswith(DRIFT_DETECTED) for name in names)


def test_live_rows_like_the_training_rows_are_quiet(workplace, champion):
    store(workplace, champion, features_of(1, 500), LIVE)
    done = drift(model="winprob")
    assert "500 live rows, no drift" in done.message
    rows = reports(workplace)
    names = {row["feature"] for row in rows}
    assert {"a", "b", "c", "prediction", "accuracy", "profit_total"} <= names
    assert not any(row["is_alarm"] for row in rows)
    assert {row["window_end"] for row in rows} == {LIVE + timedelta(hours=HOURS * 499)}
    assert told(workplace) == 0
    records = workplace.lake.read("decision_records").to_pylist()
    [record] = [row for row in records if row["agent_id"] == "drift-detector"]
    assert json.loads(record["output"])["state"] == "quiet since 2018-09-11"


def test_a_shift_alarms_once_per_window_and_is_told_again_by_a_later_run(
    workplace, champion
):
    table = features_of(2, 600)
    table[:, 1] += 0.7
    store(workplace, champion, table, LIVE)
    done = drift()
    assert "b (mean +0.6" in done.message
    assert "in alarm since" in done.message
    rows = reports(workplace)
    alarm = alarm_of(rows)
    assert alarm is not None
    assert (alarm.inputs, alarm.performance) == (("b",), ())
    assert told(workplace) == 1
    assert "told again" in drift().message
    assert reports(workplace) == rows
    assert told(workplace) == 2
    values = workplace.lake.read("telemetry").to_pylist()
    assert any(
        row["name"] == "drift.winprob.psi.b" and row["value"] > 0.25 for row in values
    )


def test_a_quiet_day_after_an_alarm_is_told_as_such(workplace, champion):
    table = features_of(3, 600)
    table[:, 1] += 0.7
    store(workplace, champion, table, LIVE - timedelta(days=60))
    drift(as_of="2018-07-25")
    store(workplace, champion, features_of(4, 600), LIVE)
    done = drift()
    assert "no drift" in done.message
    ends = {row["window_end"] for row in reports(workplace)}
    assert len(ends) == 2


def test_backfilled_and_replayed_rows_never_count(workplace, champion):
    for origin in ("backfill", "replay"):
        store(workplace, champion, features_of(5, 400) + 3, LIVE, origin=origin)
    assert "no live predictions yet" in drift().message
    assert workplace.lake.version("drift_reports") is None


def test_few_rows_need_more_data_and_do_not_close_the_window(workplace, champion):
    store(workplace, champion, features_of(6, 299) + 3, LIVE)
    assert "NEEDS_MORE_DATA, 299 of 300 live rows" in drift().message
    assert workplace.lake.version("drift_reports") is None
    store(workplace, champion, features_of(7, 1) + 3, LIVE - timedelta(days=1))
    assert "alarm" in drift().message


def test_what_is_known_later_does_not_change_a_report(workplace, champion):
    end = LIVE + timedelta(hours=HOURS * 499)
    store(workplace, champion, features_of(8, 500), LIVE)
    drift(as_of=end.isoformat())
    before = reports(workplace)
    store(workplace, champion, features_of(9, 300) + 5, end + timedelta(hours=1))
    assert "reported already, no drift" in drift(as_of=end.isoformat()).message
    assert reports(workplace) == before


def test_labels_that_are_not_known_yet_are_estimated(workplace, champion):
    store(workplace, champion, features_of(10, 500), LIVE, settled_after=24 * 90)
    drift()
    found = {row["feature"]: row for row in reports(workplace)}
    assert "accuracy" not in found
    estimate = found["accuracy_estimate"]
    assert estimate["current_mean"] == pytest.approx(
        estimate["reference_mean"], abs=0.05
    )
    assert not estimate["is_alarm"]


def test_missing_values_are_missing_and_not_shifted(workplace, champion):
    table = features_of(11, 500)
    table[:, 2] = np.nan
    store(workplace, champion, table, LIVE)
    drift()
    found = {row["feature"]: row for row in reports(workplace)}
    assert found["c"]["is_alarm"]
    assert found["c"]["psi"] is None
    assert not found["b"]["is_alarm"]


@pytest.mark.usefixtures("workplace")
def test_models_that_cannot_be_watched_say_why():
    assert drift().message == "no model is registered: nothing to watch"
    enter("plain")
    assert drift().message == "winprob: no champion"
    version = enter("plain").version
    run_promote(new_run("promote"), model="winprob", version=version, why="t")
    assert "keeps no profile" in drift().message
    with pytest.raises(InputError, match="--model lost: not registered"):
        drift(model="lost")


def test_rows_of_another_schema_are_refused(workplace, champion):
    store(workplace, champion, features_of(12, 400)[:, :2], LIVE)
    with pytest.raises(RefusedError, match="3 columns"):
        drift()
