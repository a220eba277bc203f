"""The resident worker against one real Prefect server: it runs, dies, drains, refuses."""

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.kronos import checkpoint
from tests.simulators.places import Place, bare_environment
from tests.simulators.server import ask, prefect_server

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("worker")]
NOW = "2018-10-01T00:00:00Z"
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
COLUMNS = "symbol, timeframe, model_name, as_of, target_ts, p10, p50, p90"


@dataclass(frozen=True)
class Lab:
    """A Prefect server with one deployment of the batch, and a lake with bars."""

    place: Place
    deployment: str

    def at(self, folder: str, **more: str) -> "Lab":
        """Return the same server with another place."""
        path = self.place.folder / folder
        path.mkdir()
        return replace(self, place=replace(self.place, folder=path, more=more))

    def start_run(self, **parameters: Any) -> str:
        path = f"deployments/{self.deployment}/create_flow_run"
        return str(self.ask(path, parameters={"model": "naive", **parameters})["id"])

    def ask(self, path: str, **body: Any) -> Any:
        return ask(self.place.api_url, path, **body)

    def read_run(self, run_id: str) -> dict[str, Any]:
        found = self.ask("flow_runs/filter", flow_runs={"id": {"any_": [run_id]}})
        return dict(found[0])

    def wait_for(self, run_id: str, *states: str, timeout_s: float = 60) -> Any:
        """Return the run once it is in one of the states; ended ones by default."""
        wanted = set(states) or ENDED
        wait_until(
            lambda: self.read_run(run_id)["state_type"] in wanted, timeout_s=timeout_s
        )
        return self.read_run(run_id)

    def slots_taken(self) -> int:
        limits = self.ask("v2/concurrency_limits/filter")
        return sum(one["active_slots"] for one in limits if one["name"] == "gpu")

    def forecasts(self) -> list[dict[str, Any]]:
        return self.place.rows(
            f"SELECT {COLUMNS} FROM ml_predictions ORDER BY model_name, as_of, symbol"
        )


def wait_until(is_so: Callable[[], bool], *, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The server, and a root with the sample's daily bars."""
    folder = tmp_path_factory.mktemp("worker")
    place = Place(folder, now=NOW)
    alphalake = str(Path(sys.executable).parent / "alphalake")
    ingest = subprocess.Popen(
        [alphalake, "--quiet", "ingest", "ohlcv"],
        cwd=folder,
        env={**bare_environment(), **place.environment},
        stdout=subprocess.DEVNULL,
    )
    with prefect_server(folder) as api:
        assert ingest.wait(timeout=120) == 0
        ask(api, "work_pools/", name="gpu", type="alphalake-resident")
        flow = ask(api, "flows/", name="forecast-batch")
        deployment = ask(
            api,
            "deployments/",
            name="kronos-batch-1d",
            flow_id=flow["id"],
            work_pool_name="gpu",
            parameters={"timeframe": "1d"},
            concurrency_limit=1,
            concurrency_options={"collision_strategy": "ENQUEUE"},
        )
        yield Lab(replace(place, api_url=api), deployment["id"])


@pytest.fixture
def fresh(lab: Lab, tmp_path: Path) -> Lab:
    """A place of one's own with the same bars and server."""
    here = replace(lab, place=replace(lab.place, folder=tmp_path))
    shutil.copytree(lab.place.root, here.place.root)
    return here


class Worker:
    """A worker process, and what it said."""

    def __init__(self, lab: Lab, *words: str, **environment: str) -> None:
        self.log = lab.place.folder / f"worker-{time.monotonic_ns()}.log"
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "alphalake"),
                    *("worker", "--device", "cpu", "--no-preload"),
                    *("--query-seconds", "0.2", *words),
                ],
                cwd=lab.place.folder,
                env={**bare_environment(), **lab.place.environment, **environment},
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_until_polling(self) -> None:
        wait_until(lambda: "polling as" in self.said or self.process.poll() is not None)
        assert self.process.poll() is None, self.said

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=30)

    def drain(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@contextmanager
def worker(lab: Lab, *words: str, **environment: str) -> Iterator[Worker]:
    """A worker that polls; gone at the end."""
    found = Worker(lab, *words, **environment)
    try:
        found.wait_until_polling()
        yield found
    finally:
        found.kill()


def write_checkpoint(folder: Path) -> None:
    """Write a tiny random predictor, and its tokenizer beside it."""
    files = checkpoint()
    for name, config, weights in (
        ("tokenizer", files.tokenizer_config, files.tokenizer_weights),
        ("model", files.network_config, files.network_weights),
    ):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_bytes(config)
        (folder / name / "model.safetensors").write_bytes(weights)


def test_one_process_serves_the_pool_with_models_loaded_once(fresh: Lab):
    weights = fresh.place.folder / "weights"
    write_checkpoint(weights)
    models = {
        "ALPHALAKE_KRONOS": str(weights / "model"),
        "ALPHALAKE_KRONOS_TOKENIZER": str(weights / "tokenizer"),
        "ALPHALAKE_CHRONOS2": str(fresh.place.folder / "nowhere"),
    }
    with worker(fresh, **models) as serving:
        rivals = Worker(fresh), Worker(fresh.at("other"), ALPHALAKE_WORKER_NAME="other")
        first = fresh.wait_for(fresh.start_run(model="kronos"))
        assert first["state_type"] == "COMPLETED", first["state"]["message"]
        made = fresh.forecasts()
        assert {row["model_name"] for row in made} == {"kronos"}
        assert {row["symbol"] for row in made} == {"NASDAQ", "SP500"}

        # A second load would find nothing.
        shutil.rmtree(weights)
        second = fresh.wait_for(fresh.start_run(model="kronos"))
        assert second["state_type"] == "COMPLETED", second["state"]["message"]
        pids = {first["infrastructure_pid"], second["infrastructure_pid"]}
        assert pids == {str(serving.process.pid)}
        assert fresh.forecasts() == made

        # What breaks a run does not break the worker.
        broken = fresh.wait_for(fresh.start_run(model="chronos2"))
        assert broken["state_type"] == "FAILED"
        late = fresh.wait_for(fresh.start_run(deadline="2020-01-01T00:00:00Z"))
        assert late["state_type"] == "COMPLETED"
        assert fresh.forecasts() == made

        # Neither a second worker here nor one of another place takes the pool.
        assert [rival.process.wait(timeout=60) for rival in rivals] == [1, 1]
        held = rf"[^\n]*cpu.lock: held by process {serving.process.pid};[^\n]*"
        assert re.fullmatch(rf"alphalake: {held}\n", rivals[0].said), rivals[0].said
        served = r"pool gpu is served by worker [^\n]*-cpu, last heard [^\n]*"
        assert re.fullmatch(rf"alphalake: {served}\n", rivals[1].said), rivals[1].said
        status = fresh.place.verb("status").stdout
        assert re.search(r"^worker  .*-cpu \(heard [\d:]+ UTC\)$", status, re.M), status
        assert serving.drain() == 0
    assert "none polls pool gpu" in fresh.place.verb("status").stdout

    runs = fresh.place.rows("SELECT flow, status, message FROM runs ORDER BY flow")
    assert [(run["flow"], run["status"]) for run in runs] == [
        ("chronos2-batch", "failed"),
        ("ingest-ohlcv", "completed"),
        ("kronos-batch", "completed"),
        ("kronos-batch", "completed"),
        ("naive-batch", "completed"),
    ]
    assert "deadline 2020-01-01 00:00 passed; skipped" in runs[-1]["message"]
    [line] = [one for one in serving.said.splitlines() if "chronos2-1d" in one]
    assert "chronos2-1d Failed: CheckpointError" in line
    figures = fresh.place.rows(
        "SELECT name, min(value) AS least, count(*) AS n FROM telemetry"
        " WHERE name LIKE 'worker.%' GROUP BY name ORDER BY name"
    )
    assert [(row["name"], row["n"]) for row in figures] == [
        ("worker.is_completed", 4),
        ("worker.queue_seconds", 4),
        ("worker.rss_bytes", 4),
        ("worker.run_seconds", 4),
    ]
    assert next(row["least"] for row in figures if "rss" in row["name"]) > 5e7


def test_a_killed_workers_run_goes_on_once_and_a_signalled_one_ends_it(fresh: Lab):
    overdue = fresh.start_run(deadline="2020-01-01T00:00:00Z")
    fresh.ask(
        f"flow_runs/{overdue}/set_state",
        force=True,
        state={
            "type": "SCHEDULED",
            "name": "Late",
            "state_details": {"scheduled_time": "2100-01-01T00:00:00Z"},
        },
    )
    with worker(fresh) as serving:
        run_id = fresh.start_run()
        wait_until(lambda: fresh.slots_taken() == 1)
        serving.kill()
    killed = time.monotonic()
    assert fresh.read_run(run_id)["state_type"] == "RUNNING"

    with worker(fresh) as heir:
        assert fresh.wait_for(run_id)["state_type"] == "COMPLETED"
        assert time.monotonic() - killed < 60
        assert f"{fresh.read_run(run_id)['name']}: its worker is gone" in heir.said

        # A signalled worker ends the run in hand and takes no other.
        in_hand = fresh.start_run()
        fresh.wait_for(in_hand, "RUNNING")
        waiting = fresh.start_run(model="seasonal")
        assert heir.drain() == 0
    assert fresh.read_run(in_hand)["state_type"] == "COMPLETED"
    assert fresh.read_run(waiting)["state_type"] == "SCHEDULED"
    assert "draining" in heir.said
    assert heir.said.splitlines()[-1] == "worker ended: 2 runs, 2 completed"
    state = {"type": "CANCELLED", "name": "Cancelled"}
    fresh.ask(f"flow_runs/{waiting}/set_state", force=True, state=state)
    assert fresh.read_run(overdue)["state_name"] == "DeadlinePassed"
    assert fresh.slots_taken() == 0

    again = fresh.at("plain")
    shutil.copytree(
        f"{fresh.place.root}/tables/ohlcv", f"{again.place.root}/tables/ohlcv"
    )
    shutil.copytree(
        f"{fresh.place.root}/tables/instruments",
        f"{again.place.root}/tables/instruments",
    )
    alone = replace(again, place=replace(again.place, api_url="http://127.0.0.1:9/api"))
    assert alone.place.verb("forecast", "--timeframe", "1d").returncode == 0
    assert fresh.forecasts() == alone.forecasts()


def test_without_a_server_the_worker_says_so_in_one_line(tmp_path: Path):
    done = Place(tmp_path).verb("worker")
    assert done.returncode == 2
    assert re.fullmatch(r"alphalake: no Prefect server at [^\n]*\n", done.stderr)


def test_a_gateway_alone_can_be_served_and_needs_a_token(tmp_path: Path):
    place = Place(tmp_path)
    words = ("worker", "--device", "cpu", "--gateway", "http://127.0.0.1:9")
    done = place.verb(*words)
    assert done.returncode == 2
    assert re.fullmatch(
        r"alphalake: --gateway: set ALPHALAKE_WORKER_TOKEN [^\n]*\n", done.stderr
    )
    alone = Lab(place, deployment="")
    serving = Worker(alone, *words[3:], ALPHALAKE_WORKER_TOKEN="al-token")
    try:
        wait_until(lambda: "predictions for http://127.0.0.1:9 on cpu" in serving.said)
        assert "predictions only" in serving.said
        assert serving.drain() == 0, serving.said
    finally:
        serving.kill()


@pytest.mark.full
def test_workers_killed_at_random_lose_and_repeat_nothing(fresh: Lab):
    dice = random.Random(17)
    n_killed, longest = 0, 0.0
    for day in range(10):
        now = f"2018-09-{10 + day:02d}T00:00:00Z"
        here = replace(fresh, place=replace(fresh.place, now=now))
        with worker(here) as serving:
            run_id = here.start_run(model="naive")
            here.wait_for(run_id, "RUNNING", *ENDED)
            time.sleep(dice.uniform(0.0, 3.0))
            serving.kill()
        killed = time.monotonic()
        if here.read_run(run_id)["state_type"] in ENDED:
            continue
        n_killed += 1
        with worker(here) as heir:
            assert here.wait_for(run_id)["state_type"] == "COMPLETED", heir.said
            longest = max(longest, time.monotonic() - killed)
            assert heir.drain() == 0
    assert n_killed >= 4
    assert longest < 150
    rows = fresh.forecasts()
    keys = {(row["symbol"], row["as_of"]) for row in rows}
    assert len(rows) == len(keys)
    assert len(keys) == 2 * len({row["as_of"] for row in rows})
