"""Against one real Prefect server: setup, deployments, runs, and what is said of them."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.simulators import server
from tests.simulators.places import REPOSITORY, Place, bare_environment
from tests.simulators.server import prefect_server

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("prefect")]
SCHEDULES = {
    "ingest-1h": "50 * * * *",
    "ingest-1d": "35 5 * * *",
    "ingest-calendar": "30 * * * *",
    "forecast-baselines-1h": "55 * * * *",
    "forecast-baselines-1d": "45 5 * * *",
    "kronos-batch-1h": "55 * * * *",
    "kronos-batch-1d": "45 5 * * *",
    "chronos2-batch-1h": "55 * * * *",
    "chronos2-batch-1d": "45 5 * * *",
    "forecast-ensemble-1h": "59 * * * *",
    "forecast-ensemble-1d": "55 5 * * *",
    "kronos-rolling-finetune": "0 6 1 * *",
    "train-ensemble": "0 9 * * 0",
    "score-signals-1h": "5 * * * *",
    "score-signals-1d": "30 6 * * *",
    "walk-forward": "0 5 * * 1",
    "evolve": None,
    "sleeve-lifecycle": "0 6 * * *",
    "sleeve-returns-export": "30 5 * * *",
    "paper-1h": "2 * * * *",
    "paper-1d": "0 7 * * *",
    "train-winprob": "0 6 * * 0",
    "train-policy": "0 8 * * 0",
    "train-gbm": None,
    "predict-bars-1h": "4 * * * *",
    "predict-bars-1d": "5 7 * * *",
    "tune": None,
    "drift": "15 7 * * *",
    "retrain": "30 7 * * *",
    "compare": None,
    "rollback": None,
    "publish": None,
    "resign": "15 * * * *",
    "heartbeat": "*/5 * * * *",
    "maintain": "40 3 * * *",
}
ON_GPU = {name for name in SCHEDULES if name.startswith(("kronos-", "chronos2-"))}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place whose Prefect server answers."""
    folder = tmp_path_factory.mktemp("lab")
    with prefect_server(folder) as api:
        yield Place(folder, now="2018-10-01T00:00:00Z", api_url=api)


def ask(place: Place, path: str, **body: Any) -> Any:
    return server.ask(place.api_url, path, **body)


def test_init_makes_what_the_server_needs_once(lab: Place):
    first = lab.verb("init")
    assert first.returncode == 0, first.stderr
    made = ("work pool lab", "work pool gpu", "lab-batch", "lab-publish", "limit gpu")
    for name in (*made, "alphalake-zombie-runs"):
        assert name in first.stdout
    assert "pool, limits and automations are there" in lab.verb("init").stdout

    pools = ask(lab, "work_pools/filter")
    assert {one["name"]: one["type"] for one in pools} == {
        "lab": "process",
        "gpu": "alphalake-resident",
    }
    assert {one["name"]: one["concurrency_limit"] for one in pools}["gpu"] == 1
    automations = {one["name"]: one for one in ask(lab, "automations/filter")}
    zombies = automations.pop("alphalake-zombie-runs")
    assert zombies["trigger"]["within"] == 90
    assert zombies["actions"][0]["state"] == "CRASHED"
    started = {
        one["id"]: one["name"]
        for one in ask(lab, "deployments/filter")
        if not one["schedules"]
    }
    assert {
        name: started[one["actions"][0]["deployment_id"]]
        for name, one in automations.items()
    } == {
        "alphalake-drift-retrain": "retrain",
        "alphalake-retrain-compare": "compare",
        "alphalake-rollback": "rollback",
    }
    limits = ask(lab, "v2/concurrency_limits/filter")
    named = [one for one in limits if not one["name"].startswith("deployment:")]
    assert {one["name"]: one["limit"] for one in named} == {
        "lab-batch": 1,
        "lab-train": 1,
        "lab-publish": 1,
        "gpu": 1,
    }


def test_the_loop_starts_no_deployment_of_another_flow(lab: Place):
    assert lab.verb("init").returncode == 0
    before = {one["name"]: one["actions"] for one in ask(lab, "automations/filter")}
    flow = ask(lab, "flows/", name="somebody-elses")["id"]
    theirs = [
        ask(lab, "deployments/", name=name, flow_id=flow)["id"]
        for name in ("retrain", "compare", "rollback")
    ]
    assert "pool, limits and automations are there" in lab.verb("init").stdout
    assert before == {
        one["name"]: one["actions"] for one in ask(lab, "automations/filter")
    }
    for one in theirs:
        forget = urllib.request.Request(
            f"{lab.api_url}/deployments/{one}", method="DELETE"
        )
        with urllib.request.urlopen(forget, timeout=20):
            pass


def test_every_deployment_registers_offline(lab: Place):
    assert lab.verb("init").returncode == 0
    done = subprocess.run(
        [Path(sys.executable).parent / "prefect", "--no-prompt", "deploy", "--all"],
        cwd=REPOSITORY,
        env={**bare_environment(), **lab.environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = {one["name"]: one for one in ask(lab, "deployments/filter")}
    crons = {
        name: next((s["schedule"]["cron"] for s in one["schedules"]), None)
        for name, one in found.items()
    }
    assert crons == SCHEDULES
    for name, one in found.items():
        assert one["work_pool_name"] == ("gpu" if name in ON_GPU else "lab")
        assert one["global_concurrency_limit"]["limit"] == 1
        assert one["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        folder = one["pull_steps"][0]["prefect.deployments.steps.set_working_directory"]
        assert folder["directory"] == str(REPOSITORY)
    automations = [one["name"] for one in ask(lab, "automations/filter")]
    assert any("publish" in name for name in automations)


def test_the_schedules_fire(lab: Place):
    # A server whose scheduler fails registers every cron and never starts a run.
    found = {one["id"]: one for one in ask(lab, "deployments/filter")}
    due = {one["name"] for one in found.values() if one["schedules"]}
    assert due == {name for name, cron in SCHEDULES.items() if cron}
    waiting = {key: one["name"] for key, one in found.items() if one["schedules"]}
    deadline = time.monotonic() + 120
    while waiting and time.monotonic() < deadline:
        for key in list(waiting):
            asked = {"deployments": {"id": {"any_": [key]}}, "limit": 1}
            if any(
                one["auto_scheduled"] for one in ask(lab, "flow_runs/filter", **asked)
            ):
                del waiting[key]
        time.sleep(1)
    assert sorted(waiting.values()) == []
    # The tests below start what they need themselves.
    for key in found:
        ask(lab, f"deployments/{key}/pause_deployment")


def test_a_verb_runs_its_flow_on_the_server(lab: Place):
    done = lab.verb("--json", "ingest", "ohlcv")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    run_id = json.loads(done.stdout)["run_id"]

    record = lab.rows(f"SELECT * FROM runs WHERE run_id = '{run_id}'")[0]
    run = ask(
        lab, "flow_runs/filter", flow_runs={"id": {"any_": [record["prefect_run_id"]]}}
    )
    assert [one["state_type"] for one in run] == ["COMPLETED"]
    beats = ask(
        lab,
        "events/filter",
        filter={"event": {"name": ["prefect.flow-run.heartbeat"]}},
    )
    assert beats["total"] > 0


def test_bad_input_is_one_line_with_a_server_too(lab: Place):
    done = lab.verb("ingest", "ohlcv", "--path", "/nowhere/*.csv")
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"alphalake: [^\n]*/nowhere[^\n]*\n", done.stderr), done.stderr
    runs = ask(lab, "flow_runs/filter", sort="START_TIME_DESC", limit=1)
    assert runs[0]["state_type"] == "FAILED"


TWICE = """
import json, sys
from flows.server import use_server
import os
use_server(os.environ["PREFECT_API_URL"])
from flows.demo import plan_demo
from flows.demo_run import RowCounts, run_story
from flows.setup import set_up_trust
from flows.wiring import open_workplace
place = open_workplace()
set_up_trust(place)
plan = plan_demo(None, 4)
for _ in range(2):
    before = RowCounts.of(place.lake)
    outcomes = run_story(plan, lambda step, detail: None)
    after = RowCounts.of(place.lake)
    print(json.dumps(after.minus(before)))
print(after.compare(before))
"""


def test_a_second_demo_adds_no_data_row(lab: Place):
    done = subprocess.run(
        [sys.executable, "-c", TWICE],
        env={**os.environ, **lab.environment, "ALPHALAKE_ROOT": f"{lab.root}-twice"},
        cwd=lab.folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second, said = done.stdout.splitlines()
    # Two symbols as of five moments by the baselines and the ensemble, as of three by
    # the two networks.
    assert json.loads(first)["ml_predictions"] == 2 * (5 * 3 + 3 * 2)
    assert set(json.loads(second).values()) == {0}
    assert said.startswith("no data row added")


WATCHED = """
import json, os, time
from flows.server import use_server
use_server(os.environ["PREFECT_API_URL"])
from datetime import timedelta
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Pending, Running
from flows.heartbeat import heartbeat, sweep_zombies
from flows.prefect_steps import run_body
from lakehouse.clock import Clock
from lakehouse.errors import CommitConflictError, InputError, SourceUnavailableError

calls = {}
def flaky(step, error):
    def call():
        key = f"{step} {error.__name__}"
        calls[key] = calls.get(key, 0) + 1
        if calls[key] == 1:
            raise error("x")
        return "done"
    return call

@flow(name="flaky")
def run(step, error):
    run_body("flaky", lambda run: getattr(run.steps, step)(flaky(step, error)))

for step, error in (("fetch", SourceUnavailableError), ("fetch", InputError),
                    ("commit", CommitConflictError), ("commit", SourceUnavailableError)):
    try:
        run(step, error)
    except (InputError, SourceUnavailableError):
        pass

with get_client(sync_client=True) as client:
    make = lambda name, state: client.create_flow_run(heartbeat, name=name, state=state)
    stuck, quiet = make("stuck", Pending()), make("quiet", Running())
    unheard = make("unheard", Running())
    beat = {"id": str(quiet.id), "event": "prefect.flow-run.heartbeat", "payload": {},
            "occurred": Clock().now().isoformat(), "related": [],
            "resource": {"prefect.resource.id": f"prefect.flow-run.{quiet.id}"}}
    client.request("POST", "/events", json=[beat]).raise_for_status()
    heard = {"filter": {"event": {"name": [beat["event"]]},
                        "resource": {"id": [beat["resource"]["prefect.resource.id"]]}}}
    while not client.request("POST", "/events/filter", json=heard).json()["total"]:
        time.sleep(0.1)
    now, swept = Clock().now(), []
    for minutes in (0, 4, 9, 11):
        swept.append(sorted(sweep_zombies(client, now=now + timedelta(minutes=minutes))))
    states = {one.name: client.read_flow_run(one.id).state_name
              for one in (stuck, quiet, unheard)}
print(json.dumps({"calls": calls, "swept": swept, "states": states}))
"""


def test_only_what_a_retry_mends_is_tried_again_and_dead_runs_are_swept(lab: Place):
    done = subprocess.run(
        [sys.executable, "-c", WATCHED],
        env={**os.environ, **lab.environment, "ALPHALAKE_ROOT": f"{lab.root}-watched"},
        cwd=lab.folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["calls"] == {
        "fetch SourceUnavailableError": 2,
        "fetch InputError": 1,
        "commit CommitConflictError": 2,
        "commit SourceUnavailableError": 1,
    }
    # Silent for five minutes after a heartbeat; ten minutes pending; never heard: alive.
    assert found["swept"] == [[], [], ["quiet"], ["stuck"]]
    assert found["states"] == {
        "stuck": "Zombie",
        "quiet": "Zombie",
        "unheard": "Running",
    }


@pytest.mark.full
def test_a_worker_runs_the_deployments_and_its_death_is_noticed(lab: Place):
    prefect = str(Path(sys.executable).parent / "prefect")
    environment = {**bare_environment(), **lab.environment}
    assert lab.verb("init").returncode == 0
    subprocess.run(
        [prefect, "--no-prompt", "deploy", "--all"],
        cwd=REPOSITORY,
        env=environment,
        check=True,
        capture_output=True,
        timeout=240,
    )

    def start_run(name: str, **parameters: Any) -> str:
        deployment = ask(
            lab, "deployments/filter", deployments={"name": {"any_": [name]}}
        )
        path = f"deployments/{deployment[0]['id']}/create_flow_run"
        return str(ask(lab, path, parameters=parameters)["id"])

    def wait_for_state(run_id: str, *wanted: str, timeout_s: float = 180) -> str:
        deadline = time.monotonic() + timeout_s
        state = ""
        while state not in wanted and time.monotonic() < deadline:
            time.sleep(0.5)
            [run] = ask(lab, "flow_runs/filter", flow_runs={"id": {"any_": [run_id]}})
            state = run["state_type"]
        return state

    folder = lab.folder / "worker"
    folder.mkdir()
    worker = subprocess.Popen(
        [prefect, "worker", "start", "--pool", "lab"],
        cwd=folder,
        env={**environment, "PREFECT_WORKER_QUERY_SECONDS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for name in ("ingest-1d", "forecast-baselines-1d", "score-signals-1d"):
            run_id = start_run(name)
            assert (
                wait_for_state(run_id, "COMPLETED", "FAILED", "CRASHED") == "COMPLETED"
            )
        deadline = time.monotonic() + 90
        while not lab.count("decision_records") and time.monotonic() < deadline:
            time.sleep(1)
        assert lab.verb("verify").returncode == 0  # published by the event alone

        run_id = start_run(
            "ingest-1d", source="synthetic", timeframe="1h", options={"years": "15"}
        )
        assert wait_for_state(run_id, "RUNNING") == "RUNNING"
        time.sleep(2)
    finally:
        for child in psutil.Process(worker.pid).children(recursive=True):
            child.kill()
        worker.kill()
        worker.wait()
    assert wait_for_state(run_id, "CRASHED") == "CRASHED"


def test_the_file_declares_what_the_code_does_not(lab: Place):
    declared = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    for one in declared["deployments"]:
        assert set(one.get("parameters", {})) <= {"model", "timeframe"}
    assert [set(step) for step in declared["pull"]] == [
        {"prefect.deployments.steps.set_working_directory"}
    ]
