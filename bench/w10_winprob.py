"""W10: `POST /ml/predict` through HTTP, 200 trees of depth 4 on an order's features.

One row on a kept connection (p50 and p99 of 2,000), a row with contributions, and
10,000 rows without (median of 15), by a gateway process over a signed lake. A body holds
8 MiB: 10,000 rows go as lists that name their order, without which names alone would
fill it. Beside wall time stands the time that the same rows take in this process, once
they are a matrix: what the model itself costs. Answers are checked equal to it first.
"""

import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

import httpx
import msgspec
import numpy as np

from lab.learning.bundle import Predictor, load_predictor
from lakehouse.trust.tokens import issue, state_folder
from tests.simulators.artefacts import NOW, tables
from tests.simulators.published import PublishedLake
from tests.simulators.winprob import NAMES, artefact, rows, serving_lake, trained

ONE_ROW_MS, BATCH_MS = 10.0, 300.0  # limits
N_ONE, N_BATCH, BATCH_ROWS = 2000, 15, 10_000


def run(seed: int) -> list[dict]:
    """Measure and return the rows of the table."""
    files = trained(n_rows=20_000, seed=seed % 2**31)
    predictor = load_predictor(files)
    with tempfile.TemporaryDirectory(prefix="w10-") as name:
        folder = Path(name)
        lake = PublishedLake(folder)
        lake.publish(tables(seed) | {"winprob": artefact(files)})
        with serving_lake(lake, folder / "state") as gateway:
            headers = {"Authorization": f"Bearer {bearer(lake, folder, NOW)}"}
            with httpx.Client(base_url=gateway.url, headers=headers) as client:
                return measure(client, predictor, gateway.process.pid, seed)


def bearer(lake: PublishedLake, folder: Path, now: datetime) -> str:
    """Return a token that opens `/ml/predict`."""
    return issue(
        state_folder(folder / "state", lake.trust.read_bytes()), "predict", now=now
    )


def measure(
    client: httpx.Client, predictor: Predictor, pid: int, seed: int
) -> list[dict]:
    """Time the three kinds of requests."""
    values = rows(BATCH_ROWS, seed=seed + 1)
    one = body(values[:1])
    check(client, predictor, values)
    single = times(client, one, N_ONE)
    explained = times(client, body(values[:1], contributions=True), N_ONE // 4)
    batch = times(client, body(values), N_BATCH)
    inside_one = inside(predictor, values[:1], 200)
    inside_batch = inside(predictor, values, 5)
    rss = peak_mb(pid)
    p99 = float(np.quantile(single, 0.99))
    median = statistics.median(batch)
    return [
        line("one row, p99", p99, inside_one, ONE_ROW_MS, rss),
        line("one row, p50", statistics.median(single), inside_one, None, rss),
        line(
            "one row with contributions, p99",
            float(np.quantile(explained, 0.99)),
            None,
            None,
            rss,
        ),
        line(f"{BATCH_ROWS:,} rows, median", median, inside_batch, BATCH_MS, rss),
    ]


def body(values: np.ndarray, *, contributions: bool = False) -> bytes:
    """Return a request of rows as lists."""
    return msgspec.json.encode(
        {
            "features": list(NAMES),
            "rows": values.tolist(),
            "contributions": contributions,
        }
    )


def check(client: httpx.Client, predictor: Predictor, values: np.ndarray) -> None:
    """Refuse to time answers that are not the model's."""
    answer = client.post("/ml/predict", content=body(values), timeout=60)
    if answer.status_code != 200:
        raise RuntimeError(f"W10: {answer.status_code}: {answer.text[:300]}")
    found = [row["probability"] for row in answer.json()["predictions"]]
    if not np.array_equal(found, predictor.probabilities(values)):
        raise RuntimeError("W10: the gateway's probabilities are not the model's")


def times(client: httpx.Client, content: bytes, n: int) -> list[float]:
    """Return the milliseconds of each of `n` requests."""
    found = []
    for _ in range(n):
        started = time.perf_counter()
        status = client.post("/ml/predict", content=content, timeout=60).status_code
        found.append((time.perf_counter() - started) * 1e3)
        if status != 200:
            raise RuntimeError(f"W10: answered {status}")
    return found


def inside(predictor: Predictor, values: np.ndarray, n: int) -> float:
    """Return the median milliseconds of the model itself on a matrix."""
    found = []
    for _ in range(n):
        started = time.perf_counter()
        predictor.probabilities(values)
        predictor.is_novel(values)
        found.append((time.perf_counter() - started) * 1e3)
    return statistics.median(found)


def peak_mb(pid: int) -> float:
    """Return the peak resident memory of the gateway's largest process, MB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    peaks = []
    for one in (pid, *map(int, children.split())):
        status = Path(f"/proc/{one}/status").read_text(encoding="ascii")
        peak = next(row for row in status.splitlines() if row.startswith("VmHWM"))
        peaks.append(int(peak.split()[1]) / 1024)
    return max(peaks)


def line(
    what: str, found: float, model: float | None, limit: float | None, rss: float
) -> dict:
    """Return a row of the table."""
    return {
        "work": f"W10 /ml/predict, {what}",
        "figure": f"{found:.2f} ms",
        "peer": "" if model is None else f"model alone {model:.2f} ms",
        "ratio": "" if model is None else f"{found / model:.2f}",
        "target": "" if limit is None else f"<= {limit:g} ms",
        "limit": "" if limit is None else f"{limit:g} ms",
        "fraction_of_limit": "" if limit is None else f"{found / limit:.2f}",
        "peak_rss_mb": f"{rss:.0f}",
    }
