"""Against one real Prefect server: setup, deployments, runs, and what is said of them."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.probe import answers
from flows.processes import LOOPBACK, crew, free_port
from tests.simulators.places import REPOSITORY, Place, bare_environment

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("prefect")]
SCHEDULES = {
    "ingest-1h": "50 * * * *",
    "ingest-1d": "35 5 * * *",
    "ingest-calendar": "30 * * * *",
    "forecast-baselines-1h": "55 * * * *",
    "forecast-baselines-1d": "45 5 * * *",
    "score-signals-1h": "5 * * * *",
    "score-signals-1d": "30 6 * * *",
    "publish": None,
    "resign": "15 * * * *",
    "heartbeat": "*/5 * * * *",
    "maintain": "40 3 * * *",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place whose Prefect server answers."""
    folder = tmp_path_factory.mktemp("lab")
    port = free_port()
    api = f"http://{LOOPBACK}:{port}/api"
    place = Place(folder, now="2018-10-01T00:00:00Z", api_url=api)
    with crew() as members:
        members.start(
            "server",
            [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
            log=folder / "server.log",
            environment={
                "PREFECT_HOME": str(folder / "prefect"),
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "PREFECT_SERVER_UI_ENABLED": "false",
            },
        )
        members.wait_for("server", lambda: answers(api), timeout_s=240)
        yield place


def ask(place: Place, path: str, **body: Any) -> Any:
    request = urllib.request.Request(
        f"{place.api_url}/{path}",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.load(reply)


def test_init_makes_what_the_server_needs_once(lab: Place):
    first = lab.verb("init")
    assert first.returncode == 0, first.stderr
    for name in ("work pool lab", "lab-batch", "lab-publish", "alphalake-zombie-runs"):
        assert name in first.stdout
    assert "pool, limits and automations are there" in lab.verb("init").stdout

    pools = ask(lab, "work_pools/filter")
    assert [(one["name"], one["type"]) for one in pools] == [("lab", "process")]
    zombies = ask(lab, "automations/filter")
    assert [one["name"] for one in zombies] == ["alphalake-zombie-runs"]
    assert zombies[0]["trigger"]["within"] == 90
    assert zombies[0]["actions"][0]["state"] == "CRASHED"
    limits = ask(lab, "v2/concurrency_limits/filter")
    assert {one["name"]: one["limit"] for one in limits} == {
        "lab-batch": 1,
        "lab-publish": 1,
    }


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
    for one in found.values():
        assert one["work_pool_name"] == "lab"
        assert one["global_concurrency_limit"]["limit"] == 1
        assert one["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        folder = one["pull_steps"][0]["prefect.deployments.steps.set_working_directory"]
        assert folder["directory"] == str(REPOSITORY)
    automations = [one["name"] for one in ask(lab, "automations/filter")]
    assert any("publish" in name for name in automations)


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
    assert json.loads(first)["ml_predictions"] == 20
    assert set(json.loads(second).values()) == {0}
    assert said.startswith("no data row added")


def test_the_file_declares_what_the_code_does_not(lab: Place):
    declared = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    for one in declared["deployments"]:
        assert set(one.get("parameters", {})) <= {"timeframe"}
    assert [set(step) for step in declared["pull"]] == [
        {"prefect.deployments.steps.set_working_directory"}
    ]
