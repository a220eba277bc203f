"""W9, panel reads: one symbol's history, 30 days of all, `close` of all; against ArcticDB.

23 symbols x 70,080 hourly bars of one seed, stored through our write path and in an
ArcticDB LMDB library. A fresh process per case and side, three of each; in it a first
read ("cold": footers unread, files in the page cache) and the median of nine more. The
hours and values of both sides are hashed and must be equal before a time counts.
ArcticDB (BSL) lives in an environment of its own under `.bench/`.
"""

import hashlib
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from datetime import timedelta
from pathlib import Path

import numpy as np

from bench.measure import REPOSITORY, fresh_process, resident_mb
from bench.panel import N_BARS, START, panel, symbols
from lakehouse.clock import Clock
from lakehouse.panel import read_bars
from lakehouse.query import connect
from lakehouse.store import Lake

CASES = {
    "one": "one symbol, whole history",
    "month": "30 days, all symbols",
    "close": "close, all symbols",
}
FIELDS = ("open", "high", "low", "close", "volume")
PROCESSES = 3
REPEATS = 9
ENVIRONMENT = REPOSITORY / ".bench" / "arcticdb"
PEER = REPOSITORY / "bench" / "arcticdb_peer.py"
PEER_VERSION = "arcticdb==6.28.2"


def request(case: str) -> dict:
    """Return the arguments of `read_bars` for a case."""
    if case == "one":
        return {"symbols": [symbols()[7]]}
    if case == "month":
        last = START + (N_BARS - 1) * timedelta(hours=1)
        return {"start": last - timedelta(days=30)}
    return {"columns": ["symbol", "ts", "close"]}


def digest(rows, case: str) -> str:
    """Hash hours and values in symbol order, as the peer does."""
    total = hashlib.sha256()
    names = rows["symbol"].to_numpy(zero_copy_only=False)
    edges = np.flatnonzero(names[1:] != names[:-1]) + 1
    columns = [rows["ts"].to_numpy().astype("M8[us]").astype(np.int64)]
    fields = ("close",) if case == "close" else FIELDS
    columns += [rows[name].to_numpy() for name in fields]
    for piece in zip(*(np.split(column, edges) for column in columns), strict=True):
        for values in piece:
            total.update(np.ascontiguousarray(values).tobytes())
    return total.hexdigest()


def measure(case: str, root: str) -> dict:
    """Time our reads of a case in this process."""
    wanted = request(case)
    start = time.perf_counter()
    session = connect(root, tables=["ohlcv"])
    opened = time.perf_counter()
    rows = read_bars(session, timeframe="1h", **wanted)
    first = time.perf_counter()
    times = []
    for _ in range(REPEATS):
        before = time.perf_counter()
        rows = read_bars(session, timeframe="1h", **wanted)
        times.append(time.perf_counter() - before)
    peak = resident_mb("VmHWM")
    session.close()
    return {
        "warm_ms": statistics.median(times) * 1e3,
        "cold_ms": (first - opened) * 1e3,
        "open_ms": (opened - start) * 1e3,
        "digest": digest(rows, case),
        "n_rows": rows.num_rows,
        "peak_rss_mb": peak,
    }


def peer_python() -> Path | None:
    """Return the Python that has ArcticDB, installing it once; None if it cannot be."""
    python = ENVIRONMENT / "bin" / "python"
    has_it = [str(python), "-c", "import arcticdb"]
    if python.exists() and subprocess.run(has_it, check=False).returncode == 0:
        return python
    try:
        venv.create(ENVIRONMENT, with_pip=True)
        install = [str(python), "-m", "pip", "install", "-q", PEER_VERSION]
        subprocess.run(install, check=True, capture_output=True)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"w9: no ArcticDB here, no ratio: {error}", file=sys.stderr)
        return None
    return python


def store(folder: Path, seed: int, python: Path | None) -> None:
    """Store the panel on both sides."""
    rows = panel(seed)
    lake = Lake.open(str(folder / "lake"), clock=Clock())
    lake.append("ohlcv", rows, window=f"bench/w9/{seed}")
    if python is None:
        return
    arrays = {"symbols": np.array(symbols())}
    arrays["ts"] = rows["ts"].to_numpy()[:N_BARS].astype("M8[us]")
    for number, name in enumerate(symbols()):
        piece = rows.slice(number * N_BARS, N_BARS)
        for field in FIELDS:
            arrays[f"{name}/{field}"] = piece[field].to_numpy()
    np.savez(folder / "panel.npz", **arrays)
    command = [python, PEER, "write", folder / "arctic", folder / "panel.npz"]
    subprocess.run(list(map(str, command)), check=True)


def peer_measure(python: Path, case: str, folder: Path) -> dict:
    """Time the peer in a fresh process."""
    command = [str(python), str(PEER), case, str(folder / "arctic")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def middle(runs: list[dict]) -> dict:
    """Return medians over processes; their rows must be one and the same."""
    if len({run["digest"] for run in runs}) != 1:
        raise RuntimeError("w9: two processes read different rows")
    figures = [name for name in runs[0] if name != "digest"]
    return {
        "digest": runs[0]["digest"],
        **{name: statistics.median(run[name] for run in runs) for name in figures},
    }


def compare(case: str, folder: Path, python: Path | None) -> tuple[dict, float | None]:
    """Run a case on both sides, in turns; return its row and ratio."""
    ours, theirs = [], []
    for _ in range(PROCESSES):
        root = str(folder / "lake")
        ours.append(fresh_process("bench.w9_panel_reads", case, root))
        if python is not None:
            theirs.append(peer_measure(python, case, folder))
    mine = middle(ours)
    row = {
        "work": "W9",
        "figure": f"{CASES[case]}: {mine['warm_ms']:.1f} ms; first read"
        f" {mine['cold_ms']:.0f} ms after opening in {mine['open_ms']:.0f} ms",
        "peer": "ArcticDB not installed",
        "ratio": "",
        "target": "<= 3 x ArcticDB",
        "limit": "3",
        "fraction_of_limit": "",
        "peak_rss_mb": round(mine["peak_rss_mb"]),
    }
    if not theirs:
        return row, None
    peer = middle(theirs)
    if peer["digest"] != mine["digest"]:
        raise RuntimeError(f"w9 {case}: ours and ArcticDB's rows differ")
    ratio = mine["warm_ms"] / peer["warm_ms"]
    row["peer"] = (
        f"ArcticDB {peer['warm_ms']:.1f} ms, first {peer['cold_ms']:.0f} ms,"
        f" {peer['peak_rss_mb']:.0f} MB"
    )
    row["ratio"] = round(ratio, 2)
    row["fraction_of_limit"] = round(ratio / 3, 2)
    return row, ratio


def run(seed: int) -> list[dict]:
    """Run the contract; one row per read and their geometric mean."""
    python = peer_python()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store(folder, seed, python)
        found = [compare(case, folder, python) for case in CASES]
    rows = [row for row, _ in found]
    ratios = [ratio for _, ratio in found if ratio is not None]
    if ratios:
        mean = math.prod(ratios) ** (1 / len(ratios))
        rows.append(
            {
                "work": "W9",
                "figure": "geometric mean of the three reads",
                "peer": "ArcticDB 1.00",
                "ratio": round(mean, 2),
                "target": "<= 1",
                "limit": "1",
                "fraction_of_limit": round(mean, 2),
                "peak_rss_mb": "",
            }
        )
    return rows


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2])))
