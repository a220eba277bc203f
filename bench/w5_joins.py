"""W5: the newest of 2,000,000 feature rows that each of 1,000,000 labels may know.

20 feature columns, 23 entities, Parquet in, memory out. Ours is
`lab.learning.joins.latest_known` with its checks: order within entities, no two rows of
one moment, nothing known after its decision. The peer is `pandas.merge_asof`, which
checks order alone. Every value of both answers must be equal.
"""

import hashlib
import json
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.measure import fresh_process, resident_mb

N_LABELS, N_FEATURE_ROWS, N_COLUMNS, N_ENTITIES = 1_000_000, 2_000_000, 20, 23
RUNS = 5
TIME_TARGET, RSS_TARGET = 1.25, 1.5
COLUMNS = [f"f{i:02d}" for i in range(N_COLUMNS)]
BEGIN = np.datetime64("2000-01-01", "us")


def make(folder: Path, seed: int) -> None:
    """Write labels and features; labels come at any second, features each hour."""
    rng = np.random.default_rng(seed)
    names = np.array([f"SYM{i:02d}" for i in range(N_ENTITIES)])
    row = np.arange(N_FEATURE_ROWS)
    hour = row // N_ENTITIES
    features = {
        "symbol": pa.array(names[row % N_ENTITIES]),
        "known_ts": moments((hour + 1) * 3600),
        **{name: rng.standard_normal(N_FEATURE_ROWS) for name in COLUMNS},
    }
    pq.write_table(pa.table(features), folder / "features.parquet")
    seconds = np.sort(rng.integers(0, int(hour[-1]) * 3600, N_LABELS))
    labels = {
        "symbol": pa.array(names[rng.integers(0, N_ENTITIES, N_LABELS)]),
        "as_of": moments(seconds),
        "label": rng.integers(0, 2, N_LABELS).astype(np.float64),
    }
    pq.write_table(pa.table(labels), folder / "labels.parquet")


def moments(seconds: np.ndarray) -> pa.Array:
    """Return moments as the tables store them."""
    ts = BEGIN + (seconds * 1_000_000).astype("timedelta64[us]")
    return pa.array(ts).cast(pa.timestamp("us", tz="UTC"))


def ours(folder: Path) -> tuple[float, dict[str, np.ndarray]]:
    """Join with the product's function."""
    import polars as pl

    from lab.learning.joins import latest_known

    start = time.perf_counter()
    labels = pl.read_parquet(folder / "labels.parquet").to_arrow()
    features = pl.read_parquet(folder / "features.parquet").to_arrow()
    joined = latest_known(labels, features, by="symbol")
    seconds = time.perf_counter() - start
    del labels, features
    return seconds, {name: joined[name].to_numpy() for name in (*COLUMNS, "label")}


def pandas_join(folder: Path) -> tuple[float, dict[str, np.ndarray]]:
    """Join with pandas."""
    import pandas as pd

    start = time.perf_counter()
    labels = pd.read_parquet(folder / "labels.parquet")
    features = pd.read_parquet(folder / "features.parquet")
    joined = pd.merge_asof(
        labels, features, left_on="as_of", right_on="known_ts", by="symbol"
    )
    seconds = time.perf_counter() - start
    del labels, features
    return seconds, {name: joined[name].to_numpy() for name in (*COLUMNS, "label")}


CASES = {"ours": ours, "pandas": pandas_join}


def measured(name: str, folder: Path) -> dict:
    """Run one case; the peak is read before the answer is hashed."""
    seconds, columns = CASES[name](folder)
    rss = resident_mb("VmHWM")
    digest = hashlib.sha256()
    for column in sorted(columns):
        # Nothing known is NaN on both sides, whatever bits it was read with.
        digest.update(np.nan_to_num(columns[column], nan=-1e300).tobytes())
    return {"seconds": seconds, "rss_mb": rss, "answer": digest.hexdigest()}


def run(seed: int) -> list[dict]:
    """Run the contract; one row."""
    found: dict[str, list[dict]] = {name: [] for name in CASES}
    with TemporaryDirectory() as name:
        make(Path(name), seed)
        for _ in range(RUNS):
            for case in CASES:
                found[case].append(fresh_process("bench.w5_joins", case, name))
    answers = {one["answer"] for rows in found.values() for one in rows}
    if len(answers) != 1:
        raise RuntimeError("the joins differ")
    own, peer = (median(r["seconds"] for r in found[case]) for case in CASES)
    rss, peer_rss = (median(r["rss_mb"] for r in found[case]) for case in CASES)
    return [
        {
            "work": "W5",
            "figure": f"point-in-time join {own:.2f} s with its checks, {rss:.0f} MB",
            "peer": f"pandas.merge_asof {peer:.2f} s, {peer_rss:.0f} MB",
            "ratio": round(own / peer, 2),
            "target": f"<= {TIME_TARGET:g} x time, < {RSS_TARGET:g} x RSS",
            "limit": f"{peer * TIME_TARGET:.2f} s, {peer_rss * RSS_TARGET:.0f} MB",
            "fraction_of_limit": round(
                max(own / (peer * TIME_TARGET), rss / (peer_rss * RSS_TARGET)), 3
            ),
            "peak_rss_mb": round(rss),
        }
    ]


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], Path(sys.argv[2]))))
