"""Requests to retrain: entered once, worked on by one process, told to whoever listens."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.compute as pc
import pytest

from flows.bodies.retrain_requests import (
    UnderWayError,
    close_request,
    enter_request,
    find_request,
    held,
    read_requests,
)
from flows.isolation import IsolatedRunError, Order, RunLostError, run_isolated
from flows.runs import Run
from flows.signals_out import DRIFT_DETECTED, announce, last_told, model_resource
from flows.wiring import Workplace, open_workplace
from lab.errors import LifecycleError
from lakehouse.errors import InputError, RefusedError
from tests.flows.conftest import run_plainly

TRAINING = "tests.simulators.trainings:body"


def order(ends: str, **parameters: str) -> Order:
    return Order("train-toy", TRAINING, TRAINING, {"ends": ends, **parameters})


def a_run(workplace: Workplace, name: str = "retrain-1") -> Run:
    return Run(workplace, "retrain", name)


def test_an_isolated_run_has_a_process_and_a_record_of_its_own(
    workplace: Workplace, tmp_path: Path
):
    noted = tmp_path / "pids"
    done = run_isolated(order("well", noted=str(noted)))
    assert done.message == "trained in train-toy"
    assert int(noted.read_text()) != os.getpid()
    [row] = workplace.lake.read("runs").to_pylist()
    assert (row["run_id"], row["status"]) == (done.run_id, "completed")


def test_what_a_run_refuses_or_breaks_on_comes_back_as_such(workplace: Workplace):
    with pytest.raises(RefusedError, match="NEEDS_MORE_DATA: 3 closed orders"):
        run_isolated(order("refused"))
    with pytest.raises(IsolatedRunError, match="no label varies"):
        run_isolated(order("failed"))
    statuses = workplace.lake.read("runs")["status"].to_pylist()
    assert sorted(statuses) == ["failed", "refused"]


@pytest.mark.usefixtures("workplace")
def test_a_run_that_is_killed_or_too_slow_is_told_as_lost():
    with pytest.raises(RunLostError, match="ended with status -9"):
        run_isolated(order("killed"))
    with pytest.raises(RunLostError, match="not ready after 1 s"):
        run_isolated(order("slowly"), timeout_s=1)


def test_a_request_is_entered_once_however_often_it_is_delivered(workplace: Workplace):
    same = {"model": "winprob", "trigger": "drift", "window": "2018-09-30"}
    first = enter_request(a_run(workplace), **same)
    again = enter_request(a_run(workplace, "retrain-2"), **same)
    assert again == first
    assert again.run_id == "retrain-1"
    other = enter_request(a_run(workplace), **{**same, "window": "2018-10-01"})
    assert {one.request_id for one in read_requests(workplace.lake, "winprob")} == {
        first.request_id,
        other.request_id,
    }


def test_an_answer_is_kept_with_its_request(workplace: Workplace):
    run = a_run(workplace)
    request = enter_request(run, model="winprob", trigger="manual", window="mine")
    assert request.outcome is None
    close_request(run, request, status="trained", versions=["v1"])
    found = find_request(open_workplace().lake, request.request_id)
    assert found is not None
    assert found.outcome == {"status": "trained", "versions": ["v1"]}
    again = enter_request(run, model="winprob", trigger="manual", window="mine")
    assert again == found


def test_an_unknown_trigger_enters_nothing(workplace: Workplace):
    with pytest.raises(LifecycleError, match="one of scheduled, drift, manual"):
        enter_request(a_run(workplace), model="winprob", trigger="x", window="y")
    assert workplace.lake.version("retrain_requests") is None


HOLDER = """
import sys
from pathlib import Path
from flows.bodies.retrain_requests import enter_request, held
from flows.isolation import run_isolated
from flows.runs import Run
from flows.wiring import open_workplace
from tests.flows.test_retrain import order
run = Run(open_workplace(), "retrain", "retrain-1")
request = enter_request(run, model="winprob", trigger="manual", window="mine")
with held(Path(sys.argv[1]), request) as lock:
    run_isolated(order("slowly", noted=sys.argv[2]), keep_open=[lock])
"""


def test_a_request_stays_held_while_the_training_of_a_killed_process_lives(
    workplace: Workplace, tmp_path: Path
):
    locks, noted = tmp_path / "locks", tmp_path / "pids"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(locks), str(noted)])
    deadline = time.monotonic() + 60
    while not noted.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    request = enter_request(
        a_run(workplace, "retrain-2"), model="winprob", trigger="manual", window="mine"
    )
    with pytest.raises(UnderWayError, match="another process"), held(locks, request):
        pass
    while time.monotonic() < deadline:
        try:
            with held(locks, request):
                break  # the training ended: whoever comes now goes on with it
        except UnderWayError:
            time.sleep(0.1)
    else:
        pytest.fail("the lock outlived the training")
    assert request.outcome is None


def test_what_is_told_is_a_row_once_and_an_event_only_on_a_server(workplace: Workplace):
    run, resource = a_run(workplace), model_resource("winprob")
    payload = {"model": "winprob", "window": "2018-09-30T00:00:00+00:00"}
    for _ in range(2):
        assert not announce(run, DRIFT_DETECTED, resource=resource, payload=payload)
    rows = workplace.lake.read(
        "telemetry", filter=pc.starts_with(pc.field("name"), DRIFT_DETECTED)
    ).to_pylist()
    [row] = rows
    assert row["name"] == "alphalake.drift.detected.model.winprob"
    labels = json.loads(row["labels"])
    assert labels["is_sent"] == "false"
    assert json.loads(labels["payload"]) == payload
    assert last_told(workplace.lake, DRIFT_DETECTED, resource=resource) == run.now
    other = model_resource("policy")
    assert last_told(workplace.lake, DRIFT_DETECTED, resource=other) is None
    assert not announce(run, DRIFT_DETECTED, resource=other, payload={})


def test_a_payload_that_is_not_json_is_refused(workplace: Workplace):
    with pytest.raises(InputError, match="payload is not JSON"):
        announce(
            a_run(workplace),
            DRIFT_DETECTED,
            resource=model_resource("winprob"),
            payload={"p_value": float("nan")},
        )


def test_retrain_refuses_what_it_cannot_answer(workplace: Workplace):
    from flows.bodies.retrain import run_retrain

    with pytest.raises(LifecycleError, match="one of scheduled, drift, manual"):
        run_plainly("retrain", run_retrain, trigger="x")
    with pytest.raises(InputError, match="--model m: one of winprob"):
        run_plainly("retrain", run_retrain, model="m")
    with pytest.raises(InputError, match="name the model"):
        run_plainly("retrain", run_retrain, model=None)
    with pytest.raises(RefusedError, match="no drift report alarms"):
        run_plainly("retrain", run_retrain, trigger="drift")
    with pytest.raises(RefusedError, match=r"report of 2018-09-01.* is not there"):
        run_plainly("retrain", run_retrain, trigger="drift", window="2018-09-01")
    done = run_plainly("retrain", run_retrain, model=None, trigger="scheduled")
    assert done.message == "nothing to train: no model is registered"
    assert workplace.lake.version("retrain_requests") is None
