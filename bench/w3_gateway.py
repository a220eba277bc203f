"""W3: requests a second of the gateway against what a user would build instead.

46 forecasts of about 6 KB, read in turn by wrk (1 thread, 32 connections). Every server
runs alone, fresh in each round, pinned to one core; wrk has another. Everything of the
gateway is on but the rate limit. Beside wall time the ratio is given by the server's
CPU time, which other work on the machine does not move. Peers are asked for every key first, and must give the
same forecast. FastAPI and asyncpg live in `.bench/w3`, PostgreSQL in a temporary folder.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tests.simulators.artefacts import NOW, tables
from tests.simulators.published import PublishedLake

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".bench" / "w3"
PACKAGES = ("fastapi", "uvicorn[standard]", "asyncpg", "granian", "uvloop")
SYMBOLS = tuple(f"S{i:02d}" for i in range(23))
TIMEFRAMES = ("1h", "1d")
HORIZON = 76  # steps; gives about 6 KB of JSON
ROUNDS, SECONDS = 3, 4
LUA = """
local paths, i = {}, 0
for line in io.lines(os.getenv("W3_PATHS")) do paths[#paths + 1] = line end
request = function()
  i = i % #paths + 1
  return wrk.format("GET", paths[i])
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("@%d %d %d %d\\n", summary.requests, summary.duration,
    e.status + e.connect + e.read + e.write + e.timeout, latency:percentile(99)))
end
"""


@dataclass
class Case:
    """One server and what was measured of it."""

    name: str
    command: list[str]
    paths: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    per_cpu_s: list[float] = field(default_factory=list)
    n_errors: int = 0
    peak_rss_mb: float = 0.0

    @property
    def rate(self) -> float:
        """Median requests a second."""
        return statistics.median(self.rates)

    @property
    def cpu_rate(self) -> float:
        """Median requests a second of the server's own CPU time: blind to other load."""
        return statistics.median(self.per_cpu_s)


def run(seed: int) -> list[dict]:
    """Measure and return the rows of the table."""
    if shutil.which("wrk") is None:
        return [skipped("wrk is not installed: apt-get install wrk")]
    with (
        tempfile.TemporaryDirectory(prefix="w3-") as name,
        contextlib.ExitStack() as on,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        cases, notes = prepare(folder, seed, on)
        for _ in range(ROUNDS):
            for case in cases.values():
                measure(case, folder)
        rows = compare(cases)
        rows += [skipped(note) for note in notes]
        rows.append(refresh_under_load(folder, seed, cases["gateway"]))
        return rows


def prepare(
    folder: Path, seed: int, on: contextlib.ExitStack
) -> tuple[dict[str, Case], list[str]]:
    """Publish the forecasts, make the peers and check that all answer alike."""
    lake = publish(folder, seed)
    gateway = gateway_case(folder, lake, refresh_seconds=30)
    expected = fetch_all(gateway, folder)
    bodies = dict(zip(keys(), expected, strict=True))
    (folder / "bodies.json").write_text(json.dumps(bodies), encoding="utf-8")
    shared = {"W3_BODIES": str(folder / "bodies.json")}
    cases = {"gateway": gateway}
    for name, factory in (("bare ASGI", "bare_asgi"), ("Litestar", "litestar_bytes")):
        cases[name] = granian_case(name, factory, sys.executable, shared)
    python, notes = peer_python(), []
    if python is None:
        return cases, ["FastAPI cannot be installed here"]
    cases["FastAPI LRU, uvicorn"] = uvicorn_case("fastapi_bytes", python, shared)
    cases["FastAPI LRU, granian"] = granian_case(
        "FastAPI LRU, granian", "fastapi_bytes", python, shared
    )
    dsn = on.enter_context(postgres(folder))
    if dsn is None:
        notes.append("PostgreSQL is not installed: apt-get install postgresql")
    else:
        with_dsn = shared | {"W3_DSN": dsn}
        subprocess.run(
            [python, "gateway_peers.py"],
            cwd=HERE,
            env=os.environ | with_dsn,
            check=True,
        )
        cases["FastAPI PostgreSQL"] = uvicorn_case("fastapi_postgres", python, with_dsn)
    for case in cases.values():
        check_equal(fetch_all(case, folder), expected, case.name)
    return cases, notes


def keys() -> list[str]:
    """Return the 46 keys."""
    return [f"{symbol}/{timeframe}" for symbol in SYMBOLS for timeframe in TIMEFRAMES]


def publish(folder: Path, seed: int) -> PublishedLake:
    """Sign one version of 46 forecasts and their bars."""
    lake = PublishedLake(folder)
    lake.publish(content(seed))
    return lake


def content(seed: int) -> dict:
    """Return rows of one seed."""
    return tables(seed, symbols=SYMBOLS, models=("naive",), n_bars=500, horizon=HORIZON)


def gateway_case(folder: Path, lake: PublishedLake, *, refresh_seconds: float) -> Case:
    """Serve the lake with everything on but the rate limit."""
    now = (NOW + timedelta(minutes=1)).isoformat()
    command = [
        *(sys.executable, "-m", "serve", "--root", str(lake.root)),
        *("--trust", str(lake.trust), "--state", str(folder / "state")),
        *("--now", now, "--rate-limit", "0"),
        *("--refresh-seconds", str(refresh_seconds)),
    ]
    paths = [
        f"/showcase/ml-prediction/{symbol}?model_name=naive&timeframe={timeframe}"
        for symbol, timeframe in (key.split("/") for key in keys())
    ]
    return Case("gateway", command, paths)


def granian_case(name: str, factory: str, python: str, environment: dict) -> Case:
    """Run a peer on the same server as the gateway."""
    command = [
        *(python, "-m", "granian", "--interface", "asgi", "--no-ws", "--http", "1"),
        *("--log-level", "warning", "--factory", f"gateway_peers:{factory}"),
    ]
    return Case(name, command, [f"/p/{key}" for key in keys()], environment)


def uvicorn_case(factory: str, python: str, environment: dict) -> Case:
    """Run a peer on uvicorn with uvloop and httptools."""
    command = [
        *(python, "-m", "uvicorn", "--factory", f"gateway_peers:{factory}"),
        *("--no-access-log", "--log-level", "warning"),
    ]
    return Case(factory, command, [f"/p/{key}" for key in keys()], environment)


def peer_python() -> str | None:
    """Return the interpreter of the peers' own environment; None if not to be had."""
    python = PEERS / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        found = subprocess.run([python, "-c", "import fastapi, uvicorn, asyncpg"])
        if found.returncode:
            pip = [python, "-m", "pip", "install", "--quiet", *PACKAGES]
            subprocess.run(pip, check=True, timeout=600)
    except (OSError, subprocess.SubprocessError):
        return None
    return str(python)


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str | None]:
    """Run a private PostgreSQL; yields its DSN, or None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        yield None
        return
    tools, data, port = found[-1].parent, folder / "postgres", free_port()
    as_user: list[str] = []
    data.mkdir()
    if os.geteuid() == 0:
        shutil.chown(data, "postgres", "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    init = [tools / "initdb", "-D", data, "-A", "trust", "-U", "bench"]
    subprocess.run([*as_user, *init], check=True, **quiet)
    options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1"
    control = [*as_user, tools / "pg_ctl", "-D", data, "-w"]
    subprocess.run([*control, "-o", options, "start"], check=True, **quiet)
    try:
        yield f"postgresql://bench@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, **quiet)


@contextlib.contextmanager
def serving(case: Case) -> Iterator[tuple[str, int]]:
    """Run a case's server, pinned; yields its address and pid, notes its peak memory."""
    port = free_port()
    cores = sorted(os.sched_getaffinity(0))
    pin = ["taskset", "-c", str(cores[0])] if len(cores) > 1 else []
    where = HERE.parent if "serve" in case.command else HERE
    process = subprocess.Popen(
        [*pin, *case.command, "--host", "127.0.0.1", "--port", str(port)],
        cwd=where,
        env=os.environ | case.environment,
        start_new_session=True,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        wait_ready(base + case.paths[0], process)
        yield base, process.pid
        case.peak_rss_mb = max(case.peak_rss_mb, peak_rss_mb(process.pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(15)


def wait_ready(url: str, process: subprocess.Popen) -> None:
    """Wait until a first answer comes."""
    end = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.05)


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def family(pid: int) -> Iterator[Path]:
    """Yield the /proc folders of a process and its children."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
            if str(pid) in {folder.name, parent}:
                yield folder


def peak_rss_mb(pid: int) -> float:
    """Return the summed peak of a process and its children."""
    total = 0
    for folder in family(pid):
        with contextlib.suppress(OSError):
            for line in (folder / "status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    total += int(line.split()[1])
    return round(total / 1024, 1)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and its children have used."""
    ticks = 0
    for folder in family(pid):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def fetch_all(case: Case, folder: Path) -> list[str]:
    """Return the body of every key."""
    answers = []
    with serving(case) as (base, _):
        for path in case.paths:
            with urllib.request.urlopen(base + path, timeout=5) as answer:
                answers.append(answer.read().decode())
    listing = folder / f"{case.name.replace(' ', '-')}.paths"
    listing.write_text("\n".join(case.paths) + "\n")
    return answers


def check_equal(got: list[str], expected: list[str], name: str) -> None:
    """Refuse a peer that does not answer with the same forecasts."""
    for one, other in zip(got, expected, strict=True):
        one, other = json.loads(one), json.loads(other)
        for column in ("symbol", "timeframe", "p10", "p50", "p90"):
            if one[column] != other[column]:
                raise AssertionError(f"{name}: {column} differs")


def measure(case: Case, folder: Path, seconds: int = SECONDS) -> None:
    """Load one fresh server once."""
    with serving(case) as (base, pid):
        load(case, base, folder, 1)  # warm-up
        before = cpu_seconds(pid)
        requests, duration, n_errors, p99 = load(case, base, folder, seconds)
        case.per_cpu_s.append(requests / (cpu_seconds(pid) - before))
    case.rates.append(requests / (duration / 1e6))
    case.p99_ms.append(p99 / 1000)
    case.n_errors += n_errors


def load(case: Case, base: str, folder: Path, seconds: int) -> tuple[int, ...]:
    """Run wrk; return requests, microseconds, errors and p99 in microseconds."""
    script = folder / "keys.lua"
    script.write_text(LUA)
    cores = sorted(os.sched_getaffinity(0))
    pin = ["taskset", "-c", str(cores[-1])] if len(cores) > 1 else []
    listing = folder / f"{case.name.replace(' ', '-')}.paths"
    done = subprocess.run(
        [*pin, "wrk", "-t1", "-c32", f"-d{seconds}", "--latency", "-s", script, base],
        env=os.environ | {"W3_PATHS": str(listing)},
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=True,
    )
    line = next(x for x in done.stdout.splitlines() if x.startswith("@"))
    return tuple(int(x) for x in line[1:].split())


def compare(cases: dict[str, Case]) -> list[dict]:
    """Return a row per peer."""
    ours = cases["gateway"]
    targets = {
        "FastAPI PostgreSQL": 12.0,
        "FastAPI LRU, uvicorn": 1.8,
        "FastAPI LRU, granian": 1.8,
        "Litestar": 2.0,
        "bare ASGI": 0.6,
    }
    limit = cases["bare ASGI"].rate
    return [
        {
            "work": "W3",
            "figure": f"{ours.rate:,.0f} req/s, p99 {statistics.median(ours.p99_ms):.1f} "
            f"ms, {ours.n_errors} errors",
            "peer": f"{name}: {cases[name].rate:,.0f} req/s, "
            f"{cases[name].n_errors} errors; ratio by the server's CPU time "
            f"{ours.cpu_rate / cases[name].cpu_rate:.2f}",
            "ratio": round(ours.rate / cases[name].rate, 2),
            "target": f">= {target}",
            "limit": f"bare ASGI {limit:,.0f} req/s",
            "fraction_of_limit": round(ours.rate / limit, 2),
            "peak_rss_mb": ours.peak_rss_mb,
        }
        for name, target in targets.items()
        if name in cases
    ]


def refresh_under_load(folder: Path, seed: int, calm: Case) -> dict:
    """Swap in a new version every second under load; compare p99 and count errors."""
    place = folder / "moving"
    place.mkdir()
    lake = PublishedLake(place)
    stages = []
    for i in range(SECONDS + 2):
        lake.publish(content(seed + i))
        stages.append(shutil.copytree(lake.root, place / f"stage-{i}"))
    shown = place / "shown"
    shown.symlink_to(stages[0])
    lake.root = shown
    case = gateway_case(place, lake, refresh_seconds=0.5)
    steady = gateway_case(place / "steady", lake, refresh_seconds=30)
    for one in (case, steady):
        one.name = calm.name
    for _ in range(ROUNDS):
        switch(shown, stages[0])
        shutil.rmtree(place / "state", ignore_errors=True)
        measure(steady, folder)
        stop = threading.Event()
        mover = threading.Thread(target=move, args=(shown, stages, stop))
        mover.start()
        measure(case, folder)
        stop.set()
        mover.join()
    before, during = (statistics.median(one.p99_ms) for one in (steady, case))
    return {
        "work": "W3 refreshes under load",
        "figure": f"p99 {during:.2f} ms with a new version a second, "
        f"{case.n_errors} errors",
        "peer": f"p99 {before:.2f} ms without",
        "ratio": round(during / before, 2),
        "target": "<= 2, 0 errors",
        "limit": "",
        "fraction_of_limit": "",
        "peak_rss_mb": case.peak_rss_mb,
    }


def move(shown: Path, stages: list[Path], stop: threading.Event) -> None:
    """Show the next stage every second."""
    for stage in stages[1:]:
        if stop.wait(1.0):
            return
        switch(shown, stage)


def switch(shown: Path, stage: Path) -> None:
    """Point the root at another stage in one step."""
    draft = shown.with_name("draft")
    draft.unlink(missing_ok=True)
    draft.symlink_to(stage)
    draft.replace(shown)


def skipped(why: str) -> dict:
    """Return a row that says what was not measured."""
    return {"work": "W3", "figure": "", "peer": f"skipped: {why}", "ratio": ""}
