"""Retraining of a real model: one candidate a request, whoever is killed or comes twice."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.bodies.drift import run_drift
from flows.bodies.model_registry import read_registry
from flows.bodies.promotion import run_promote
from flows.bodies.retrain import LOOK_AGAIN, run_retrain
from flows.bodies.retrain_requests import read_requests
from flows.bodies.train_winprob import run_train_winprob
from flows.setup import set_up_trust
from flows.signals_out import COMPARE_DUE, last_told, model_resource
from flows.wiring import open_workplace
from lakehouse.clock import freeze_clock
from lakehouse.errors import RefusedError
from tests.flows.conftest import forget_settings, run_plainly
from tests.simulators.model_market import ModelMarket, live_through, model_market
from tests.simulators.places import Place, bare_environment

pytestmark = pytest.mark.xdist_group("retrain")
TRAINED, CHANGE, DRIFTED = 260, 266, 314
SETTINGS = {
    "n_estimators": 20,
    "max_depth": 2,
    "learning_rate": 0.1,
    "train_period_days": 90,
    "backtest_period_days": 15,
    "half_life_days": 15.0,
}


@pytest.fixture(scope="module")
def market() -> ModelMarket:
    return model_market(n_days=DRIFTED + 20, change=CHANGE)


@pytest.fixture(scope="module")
def drifted(market: ModelMarket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake whose champion has just been reported to drift."""
    folder = tmp_path_factory.mktemp("drifted")
    with pytest.MonkeyPatch.context() as patch:
        place = settled_in(folder, patch)
        set_up_trust(open_workplace())
        live_through(market, place.root, 0, TRAINED, origin="backfill")
        run_plainly("train-winprob", run_train_winprob, config=SETTINGS)
        [first] = versions()
        run_plainly("promote", run_promote, model="winprob", version=first, why="first")
        live_through(market, place.root, TRAINED, DRIFTED, origin="live")
        told = run_plainly("drift", run_drift, model="winprob").message
        assert "significant drift" in told
    forget_settings()
    return folder


@pytest.fixture
def place(
    drifted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A copy of that lake; this process works there."""
    shutil.copytree(drifted, tmp_path / "lab")
    yield settled_in(tmp_path / "lab", monkeypatch)
    forget_settings()


def settled_in(folder: Path, patch: pytest.MonkeyPatch) -> Place:
    place = Place(folder)
    patch.delenv("ALPHALAKE_NOW", raising=False)
    for name, value in place.environment.items():
        patch.setenv(name, value)
    forget_settings()
    return place


def versions() -> list[str]:
    found = read_registry(open_workplace().lake).versions("winprob")
    return [one.version for one in found]


def outcomes() -> list[Any]:
    found = read_requests(open_workplace().lake, "winprob")
    return [one.outcome and one.outcome["status"] for one in found]


def deliver(place: Place) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            str(Path(sys.executable).parent / "alphalake"),
            *("retrain", "--trigger", "drift"),
        ],
        env={**bare_environment(), **place.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_deliveries_at_one_moment_make_one_candidate(place: Place):
    both = [deliver(place), deliver(place)]
    said = [one.communicate(timeout=120)[0] for one in both]
    assert 0 in [one.returncode for one in both], said
    for one, text in zip(both, said, strict=True):
        assert one.returncode == 0 or "worked on by another process" in text
    assert outcomes() == ["trained"]
    assert len(versions()) == 2

    late = run_plainly("retrain", run_retrain, trigger="drift")
    assert "this request was answered" in late.message
    assert (outcomes(), len(versions())) == (["trained"], 2)


def test_a_candidate_has_the_champions_settings_and_waits_at_no_weight(place: Place):
    run_plainly("retrain", run_retrain, trigger="drift", seed=3)
    lake = open_workplace().lake
    registry = read_registry(lake)
    champion, candidate = registry.champion("winprob"), registry.challenger("winprob")
    assert champion is not None
    assert candidate is not None
    one, other = champion.manifest["config"], candidate.manifest["config"]
    assert other == {**one, "seed": 3}
    assert other["n_estimators"] == SETTINGS["n_estimators"]
    weights = lake.read("production_sleeve_set")["runtime_weight"].to_pylist()
    assert set(weights) == {0.0}
    training, asking = (
        next(row for row in lake.read("runs").to_pylist() if row["run_id"] == name)
        for name in (candidate.run_id, read_requests(lake, "winprob")[0].run_id)
    )
    assert (training["flow"], asking["flow"]) == ("train-winprob", "retrain")


@pytest.mark.parametrize(
    "wait_s",
    [
        0.0,
        *(
            pytest.param(s, marks=pytest.mark.full)
            for s in (0.3, 0.6, 1.0, 1.5, 2.0, 2.5, 3.0)
        ),
    ],
)
def test_a_training_killed_at_any_point_is_gone_on_with(place: Place, wait_s: float):
    before = versions()
    asking = deliver(place)
    deadline = time.monotonic() + 60
    training: list[psutil.Process] = []
    while not training and time.monotonic() < deadline:
        time.sleep(0.02)
        training = psutil.Process(asking.pid).children(recursive=True)
    time.sleep(wait_s)
    for one in training:
        with suppress(psutil.NoSuchProcess):  # it was done
            one.kill()
    asking.kill()
    asking.communicate()
    assert versions()[:1] == before
    assert len(versions()) <= 2
    psutil.wait_procs(training, timeout=10)

    run_plainly("retrain", run_retrain, trigger="drift")
    assert outcomes() == ["trained"]
    assert len(versions()) == 2


def test_the_schedule_answers_alarms_that_no_event_told_and_trains_what_is_due(
    place: Place, market: ModelMarket
):
    # The champion is older than a week, but the alarm's candidate is not.
    done = run_plainly("retrain", run_retrain, model=None, trigger="scheduled")
    assert done.message.startswith("winprob: winprob ")
    assert outcomes() == ["trained"]
    again = run_plainly("retrain", run_retrain, model=None, trigger="scheduled")
    due = market.moment(DRIFTED) + timedelta(days=7)
    assert again.message == f"nothing to train: winprob is due {due:%Y-%m-%d}"

    freeze_clock(place.root, due)
    run_plainly("retrain", run_retrain, model=None, trigger="scheduled")
    assert outcomes() == ["trained", "trained"]


def test_a_candidate_that_nobody_told_of_is_compared_once_a_week(
    place: Place, market: ModelMarket
):
    trained = market.moment(DRIFTED) + timedelta(days=8)  # the alarm is long past
    freeze_clock(place.root, trained)
    run_plainly("train-winprob", run_train_winprob, config=SETTINGS)
    resource = model_resource("winprob")
    for days in (0, 1, 6):
        freeze_clock(place.root, trained + timedelta(days=days))
        done = run_plainly("retrain", run_retrain, model=None, trigger="scheduled")
        assert done.message.startswith("nothing to train")
        told = last_told(open_workplace().lake, COMPARE_DUE, resource=resource)
        assert told == trained
    assert timedelta(days=7) == LOOK_AGAIN


def test_a_drift_that_lasts_is_trained_for_once(place: Place, market: ModelMarket):
    run_plainly("retrain", run_retrain, trigger="drift")
    live_through(market, place.root, DRIFTED, DRIFTED + 1, origin="live")
    told = run_plainly("drift", run_drift, model="winprob").message
    assert "significant drift" in told
    waits = run_plainly("retrain", run_retrain, trigger="drift")
    assert "trained for it on" in waits.message
    assert outcomes() == ["trained", "waiting"]
    reasons = open_workplace().lake.read("decision_records").to_pylist()
    actions = [
        json.loads(row["output"])["action"]
        for row in reasons
        if row["agent_id"] == "drift-reaction"
    ]
    assert sorted(actions) == ["retrain", "wait"]


def test_a_training_that_refuses_ends_its_request(place: Place, market: ModelMarket):
    early = market.moment(70).isoformat()
    asked = {"trigger": "manual", "window": "mine", "as_of": early}
    with pytest.raises(RefusedError, match="NEEDS_MORE_DATA"):
        run_plainly("retrain", run_retrain, **asked)
    again = run_plainly("retrain", run_retrain, **asked)
    assert "answered: train-winprob: NEEDS_MORE_DATA" in again.message
    assert outcomes() == ["refused"]
    assert len(versions()) == 1
