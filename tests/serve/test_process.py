"""The gateway as a process over a real signed repository."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import quantiles

import httpx
import pytest

from lakehouse.trust.tokens import issue, state_folder
from serve.__main__ import main
from tests.simulators.artefacts import NOW, tables
from tests.simulators.gateway import REPOSITORY, GatewayProcess
from tests.simulators.published import PublishedLake

URL = "/showcase/ml-prediction/BTC-USD"
FAST = ("--rate-limit", "0", "--refresh-seconds", "0.3")


@pytest.fixture
def lake(tmp_path: Path) -> PublishedLake:
    lake = PublishedLake(tmp_path)
    lake.publish()
    return lake


@pytest.fixture
def run(lake: PublishedLake, tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    started: list[GatewayProcess] = []

    def start(*options: str) -> GatewayProcess:
        gateway = GatewayProcess(lake, tmp_path / "state", *(options or FAST))
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        gateway.stop()


def token(lake: PublishedLake, gateway: GatewayProcess, role: str) -> dict[str, str]:
    folder = state_folder(gateway.state, lake.trust.read_bytes())
    return {"Authorization": f"Bearer {issue(folder, role, now=NOW)}"}


def test_it_is_ready_in_five_seconds_and_stops_when_asked(run):
    gateway = run()
    assert gateway.seconds_to_ready < 5
    assert gateway.get("/health/ready").status_code == 200
    gateway.stop()
    assert gateway.process.returncode == 0
    assert "Traceback" not in gateway.log.read_text()


def test_no_orphan_keeps_the_port_of_a_killed_gateway(run, lake):
    gateway = run()
    gateway.process.kill()
    gateway.process.wait(5)
    heir = None
    until = time.monotonic() + 15
    while heir is None:
        try:
            heir = GatewayProcess(lake, gateway.state, *FAST, port=gateway.port)
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.1)
    assert heir.get(URL).status_code == 200
    heir.stop()


def test_it_follows_what_is_published_and_outlives_it(run, lake):
    gateway = run()
    first = gateway.get(URL).json()
    assert first["stale"] is False
    lake.publish(tables(seed=8))
    second = gateway.until(URL, lambda a: a.json()["artefact"] != first["artefact"])
    assert second.json()["p50"] != first["p50"]

    away = lake.root.with_name("away")
    lake.root.rename(away)
    kept = gateway.until(URL, lambda a: a.json()["stale"]).json()
    assert {**kept, "stale": False} == second.json()
    gateway.kill()
    again = run()
    assert again.get(URL).json() == kept
    assert again.get("/health/ready").status_code == 200

    away.rename(lake.root)
    back = again.until(URL, lambda a: not a.json()["stale"]).json()
    assert back == second.json()


@pytest.mark.parametrize("what", ["data", "timestamp", "manifest"])
def test_tampering_keeps_the_last_verified_and_is_counted(run, lake, what):
    gateway = run()
    before = gateway.get(URL).json()
    if what == "data":
        lake.flip_byte(lake.data_file("latest_predictions"))
    elif what == "timestamp":
        lake.flip_byte(lake.root / "artefacts/metadata/timestamp.json", 300)
    else:
        lake.publish(tables(seed=8))
        targets = lake.root / "artefacts/targets/shadow"
        for path in targets.iterdir():
            lake.flip_byte(path, 40)
    if what != "manifest":
        gateway.until("/metrics", lambda a: "artefact_refused_total{" in a.text)
        kept = gateway.until(URL, lambda a: a.json()["stale"]).json()
        assert {**kept, "stale": False} == before
    else:
        served = gateway.get(URL).json()
        assert served["artefact"]["version"] in {1, 2}


def test_nothing_is_served_from_a_repository_of_other_keys(run, lake, tmp_path):
    stranger = PublishedLake(tmp_path / "stranger")
    stranger.publish(tables(seed=99))
    shutil.rmtree(lake.root)
    shutil.copytree(stranger.root, lake.root)
    gateway = run()
    answer = gateway.get(URL)
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("nothing-verified")
    assert "artefact_refused_total{" in gateway.get("/metrics").text


def test_a_consumer_verifies_through_the_gateway(run, lake, tmp_path):
    from lakehouse.trust.fetching import HttpFetcher
    from lakehouse.trust.verification import TrustedClient

    gateway = run()
    bearer = token(lake, gateway, "consumer:desk")["Authorization"].split()[1]
    fetcher = HttpFetcher(gateway.url, bearer)
    client = TrustedClient(lake.trust.read_bytes(), fetcher, None, lake.clock)
    snapshot = client.refresh()
    assert client.load("instruments").num_rows == 5
    manifest = snapshot.artefacts["instruments"].manifest
    file = next(iter(manifest.files))
    got = gateway.get(
        f"/artefacts/tables/{manifest.table}/{file}",
        headers={"Authorization": f"Bearer {bearer}"},
    )
    assert len(got.content) == manifest.files[file].length


def test_operations_read_the_lake_and_survive_its_absence(run, lake):
    gateway = run()
    headers = token(lake, gateway, "admin")
    health = gateway.get("/admin/health", headers=headers)
    assert health.status_code == 200, health.text
    assert health.json()["telemetry_problem"] is None
    assert health.json()["last_runs"] is None
    shutil.rmtree(lake.root)
    gone = gateway.get("/admin/health", headers=headers).json()
    assert gone["gateway"]["artefacts"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--trust", "nowhere/root.json"],
        ["--now", "yesterday"],
        ["--port", "0"],
        ["--workers", "99"],
        ["--refresh-seconds", "600"],
        ["--rate-limit", "-1"],
        ["--host", "no such host"],
        ["--host", "192.0.2.1"],
        ["--trust", "pyproject.toml"],
        ["--state", "LAKE/state"],
        ["--state", "pyproject.toml"],
    ],
)
def test_bad_options_end_with_status_2_and_one_line(lake, arguments):
    arguments = [text.replace("LAKE", str(lake.root)) for text in arguments]
    trust = [] if "--trust" in arguments else ["--trust", str(lake.trust)]
    done = subprocess.run(
        [sys.executable, "-m", "serve", "--root", str(lake.root), *trust, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("alphalake serve:")


def test_a_taken_port_and_an_odd_clock_are_said_in_one_line(lake, capfd, monkeypatch):
    given = ["--root", str(lake.root), "--trust", str(lake.trust)]
    given += ["--state", str(lake.root.with_name("state"))]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main([*given, "--port", port]) == 2
    assert "address already in use" in capfd.readouterr().err
    (lake.root / "clock.json").write_text('{"now": "soon"}')
    assert main(given) == 2
    assert "clock.json" in capfd.readouterr().err
    monkeypatch.setenv("ALPHALAKE_NOW", "later")
    assert main(given) == 2
    assert "ALPHALAKE_NOW" in capfd.readouterr().err


def half_open(port: int, n: int, stack: ExitStack) -> list[socket.socket]:
    sockets = []
    for _ in range(n):
        one = stack.enter_context(
            closing(socket.create_connection(("127.0.0.1", port), timeout=10))
        )
        one.sendall(b"GET / HTTP/1.1\r\nHost: slow\r\nX-Slow: ")
        sockets.append(one)
    return sockets


def latencies(url: str, n: int) -> list[float]:
    with httpx.Client() as client:
        client.get(url)
        spent = []
        for _ in range(n):
            started = time.perf_counter()
            assert client.get(url).status_code == 200
            spent.append(time.perf_counter() - started)
        return spent


@pytest.mark.parametrize(
    "n_slow", [50, pytest.param(300, marks=pytest.mark.full)], ids=str
)
def test_half_open_connections_do_not_slow_good_ones(run, n_slow):
    gateway = run()
    calm = quantiles(latencies(gateway.url + URL, 200), n=20)
    with ExitStack() as stack:
        sockets = half_open(gateway.port, n_slow, stack)
        crowded = quantiles(latencies(gateway.url + URL, 200), n=20)
        assert crowded[9] < 3 * calm[9] + 0.005  # medians, seconds
        with ThreadPoolExecutor(8) as pool:
            codes = pool.map(lambda _: gateway.get(URL).status_code, range(40))
            assert set(codes) == {200}
        if n_slow >= 300:
            assert count_closed(sockets, seconds=25.0) == n_slow


def count_closed(sockets: list[socket.socket], *, seconds: float) -> int:
    end = time.monotonic() + seconds
    n_closed = 0
    for one in sockets:
        one.settimeout(max(0.05, end - time.monotonic()))
        try:
            while one.recv(4096):
                continue
            n_closed += 1
        except TimeoutError:
            continue
        except ConnectionError:
            n_closed += 1
    return n_closed


@pytest.mark.parametrize(
    "n_examples", [15, pytest.param(300, marks=pytest.mark.full)], ids=str
)
def test_schemathesis_finds_nothing(run, lake, tmp_path, n_examples):
    gateway = run()
    config = tmp_path / "schemathesis.toml"
    consumer = token(lake, gateway, "consumer:desk")["Authorization"].split()[1]
    admin = token(lake, gateway, "admin")["Authorization"].split()[1]
    config.write_text(
        f'[auth.openapi.consumer]\nbearer = "{consumer}"\n'
        f'[auth.openapi.admin]\nbearer = "{admin}"\n'
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
            *("run", f"{gateway.url}/schema/openapi.json", "--checks", "all"),
            *("--max-examples", str(n_examples), "--seed", "20261122"),
            *("--continue-on-failure", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    metrics = gateway.get("/metrics").text
    assert 'status="500"' not in metrics
    assert "Traceback" not in gateway.log.read_text()


def test_the_server_protocol_changes_no_answer(run):
    gateway = run()
    hot = gateway.get(URL, headers={"Accept-Encoding": "gzip"})
    routed = gateway.get(URL + "/", headers={"Accept-Encoding": "gzip"})
    counted = gateway.get("/metrics").text
    assert 'layer="fast",route="/showcase/ml-prediction/{symbol}"' in counted
    assert 'layer="router",route="/showcase/ml-prediction/{symbol' in counted
    assert hot.content == routed.content
    volatile = {"age", "date"}
    assert {k: v for k, v in hot.headers.items() if k not in volatile} == {
        k: v for k, v in routed.headers.items() if k not in volatile
    }
    for path in (URL, URL + "/", "/", "/schema"):
        full = gateway.get(path)
        head = httpx.head(gateway.url + path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == full.headers["content-length"]
    again = gateway.get(URL, headers={"If-None-Match": f'"x", {hot.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == hot.headers["etag"]
    odd = {"Authorization": b"Bearer \xff\xfe", "Accept-Encoding": b"\xff"}
    assert gateway.get("/admin/health", headers=odd).status_code == 401
    assert gateway.get(URL, headers=odd).status_code == 200
    large = httpx.post(gateway.url + URL, content=b"x" * 40_000)
    assert large.status_code == 413
    assert httpx.post(gateway.url + URL, content=b"x").status_code == 405
    chunked = httpx.post(gateway.url + "/", content=iter([b"x" * 1000] * 50))
    assert chunked.status_code in {405, 413}


def test_the_rate_limit_is_on_by_default(run):
    gateway = run("--refresh-seconds", "5", "--rate-limit", "5")
    with httpx.Client() as client:
        answers = [client.get(gateway.url + URL) for _ in range(600)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert refused[0].headers["content-type"] == "application/problem+json"
    assert int(refused[0].headers["retry-after"]) >= 1


def test_problem_documents_are_the_only_errors(run):
    gateway = run()
    for path in ("/nope", "/showcase/ml-prediction/NOPE", "/admin/health"):
        answer = gateway.get(path)
        assert json.loads(answer.text)["status"] == answer.status_code
