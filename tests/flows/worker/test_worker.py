"""The resident worker against one real Prefect server: it runs, dies, drains, refuses."""

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest

from flows.bodies.batch import run_batch
from flows.bodies.forecast import forecast_closes
from flows.bodies.publish import publish_artefacts
from flows.checkpoints.kronos import write_folder
from flows.runs import Body, Outcome, execute
from flows.setup import set_up_trust
from flows.wiring import Workplace
from flows.worker.service import plan_worker
from lakehouse.clock import Clock, parse_moment
from lakehouse.errors import InputError
from lakehouse.store import Lake
from lakehouse.trust.tokens import issue, state_folder
from tests.simulators.gateway import GatewayProcess
from tests.simulators.kronos import modules
from tests.simulators.places import Place, bare_environment
from tests.simulators.predict import body
from tests.simulators.server import ask, prefect_server

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("worker")]
NOW = "2018-10-01T00:00:00Z"
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
SHOWCASE = "/showcase/ml-prediction/SP500?model_name=kronos&timeframe=1d"
COLUMNS = ["symbol", "model_name", "as_of", "target_ts", "p10", "p50", "p90"]


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
        order = [(name, "ascending") for name in ("model_name", "as_of", "symbol")]
        rows = self.workplace.lake.read("ml_predictions", columns=COLUMNS)
        return rows.sort_by(order).to_pylist()

    @property
    def workplace(self) -> Workplace:
        """The lab's place, for this process to work in."""
        folder, clock = self.place.folder, Clock(parse_moment(NOW), "argument")
        lake = Lake.open(self.place.root, clock=clock)
        return Workplace(lake, clock, folder / "keys", folder / "state")

    def run_here(self, body: Body, **parameters: Any) -> Outcome:
        """Run a body in this process, on no server."""
        place = self.workplace
        return execute("here", body, workplace=place, parameters=parameters)


def wait_until(is_so: Callable[[], bool], *, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.25)  # each question costs the server time that the run needs


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
                    *("--query-seconds", "0.5", *words),
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


def test_one_process_serves_the_pool_with_models_loaded_once(fresh: Lab):
    weights = fresh.place.folder / "weights"
    write_folder(weights, *modules(), card={"name": "random", "cutoff": None})
    with worker(fresh, ALPHALAKE_KRONOS=str(weights)) as serving:
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

    runs = fresh.workplace.lake.read("runs").sort_by("flow").to_pylist()
    assert [(run["flow"], run["status"]) for run in runs] == [
        ("ingest-ohlcv", "completed"),
        ("kronos-batch", "completed"),
        ("kronos-batch", "completed"),
        ("naive-batch", "completed"),
    ]
    assert "deadline 2020-01-01 00:00 passed; skipped" in runs[-1]["message"]
    figures = fresh.workplace.lake.read("telemetry").to_pylist()
    found = Counter(row["name"] for row in figures)
    assert {name: n for name, n in found.items() if name.startswith("worker.")} == {
        "worker.is_completed": 3,
        "worker.queue_seconds": 3,
        "worker.rss_bytes": 3,
        "worker.run_seconds": 3,
    }
    assert min(row["value"] for row in figures if "rss" in row["name"]) > 5e7


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

    alone = fresh.at("plain")
    for table in ("ohlcv", "instruments"):
        folder = f"tables/{table}"
        shutil.copytree(f"{fresh.place.root}/{folder}", f"{alone.place.root}/{folder}")
    alone.run_here(forecast_closes, timeframe="1d")
    assert fresh.forecasts() == alone.forecasts()


@pytest.fixture
def published(fresh: Lab, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A forecast by Kronos, signed and published; its weights' folder."""
    weights = fresh.place.folder / "weights"
    write_folder(weights, *modules(), card={"name": "random", "cutoff": None})
    monkeypatch.setenv("ALPHALAKE_KRONOS", str(weights))
    set_up_trust(fresh.workplace)
    fresh.run_here(run_batch, model="kronos", timeframe="1d")
    fresh.run_here(publish_artefacts)
    return weights


class Disk:
    """The disk of another process: `fill` lets it write no file of any size."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._usual = self._process.rlimit(psutil.RLIMIT_FSIZE)

    def fill(self) -> None:
        self._process.rlimit(psutil.RLIMIT_FSIZE, (8192, self._usual[1]))

    def free(self) -> None:
        self._process.rlimit(psutil.RLIMIT_FSIZE, self._usual)


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_FSIZE"), reason="needs Linux")
def test_bad_weights_a_full_disk_and_a_kill_leave_the_lab_and_what_was_verified(
    fresh: Lab, published: Path
):
    place = fresh.place
    source = SimpleNamespace(root=place.root, trust=place.folder / "keys" / "root.json")
    gateway = GatewayProcess(source, place.folder / "state", "--now", NOW)
    state = state_folder(gateway.state, source.trust.read_bytes())
    tokens = {
        role: issue(state, role, now=parse_moment(NOW))
        for role in ("predict", "worker")
    }
    served = gateway.until(SHOWCASE, lambda answer: answer.status_code == 200).json()
    assert (served["as_of"], served["stale"]) == ("2018-09-28T20:00:00Z", False)

    later = replace(fresh, place=replace(place, now="2018-10-03T00:00:00Z"))
    damaged = published / "model" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    made = fresh.forecasts()
    try:
        with worker(
            later,
            *("--gateway", gateway.url),
            ALPHALAKE_KRONOS=str(published),
            ALPHALAKE_WORKER_TOKEN=tokens["worker"],
        ) as serving:
            broken = later.wait_for(later.start_run(model="kronos"))
            assert broken["state_type"] == "FAILED"
            asked = httpx.post(
                f"{gateway.url}/predict",
                json=body(150, model="kronos"),
                headers={"Authorization": f"Bearer {tokens['predict']}"},
                timeout=40,
            )
            assert asked.status_code == 503
            assert asked.json()["detail"] in broken["state"]["message"]

            disk = Disk(serving.process.pid)
            disk.fill()
            full = later.wait_for(later.start_run())
            assert full["state_type"] == "FAILED"
            assert fresh.forecasts() == made
            disk.free()
            good = later.wait_for(later.start_run())
            assert good["state_type"] == "COMPLETED", serving.said
            assert len(fresh.forecasts()) == len(made) + 2
            serving.kill()
        for lost in (
            "kronos-1d Failed: CheckpointError: ",
            "naive-1d Failed: StoreError",
        ):
            assert (
                len([line for line in serving.said.splitlines() if lost in line]) == 1
            )
        assert "Traceback" not in serving.said
        runs = fresh.workplace.lake.read("runs").to_pylist()
        assert {(one["flow"], one["status"]) for one in runs} >= {
            ("kronos-batch", "failed"),
            ("naive-batch", "completed"),
        }

        # Nobody is left but the gateway: it serves what it verified, and says how old.
        answer = gateway.get(SHOWCASE)
        assert answer.json() == served
        assert int(answer.headers["age"]) <= 30
        gateway.kill()
        gateway = GatewayProcess(source, gateway.state, "--now", later.place.now)
        old = gateway.until(SHOWCASE, lambda answer: answer.status_code == 200).json()
        assert old == {**served, "stale": True}
    finally:
        gateway.stop()


def test_without_a_server_the_worker_says_so_in_one_line(tmp_path: Path):
    done = Place(tmp_path).verb("worker")
    assert done.returncode == 2
    assert re.fullmatch(r"alphalake: no Prefect server at [^\n]*\n", done.stderr)


def test_a_gateway_needs_a_token_and_can_be_served_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    url = "http://127.0.0.1:9"
    monkeypatch.delenv("ALPHALAKE_WORKER_TOKEN", raising=False)
    with pytest.raises(InputError, match=r"--gateway: set ALPHALAKE_WORKER_TOKEN \("):
        plan_worker(device="cpu", gateway=url, query_s=1.0)
    place = Place(tmp_path)
    alone = Lab(place, deployment="")
    serving = Worker(alone, "--gateway", url, ALPHALAKE_WORKER_TOKEN="al-token")
    try:
        wait_until(lambda: f"predictions for {url} on cpu" in serving.said)
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
