"""W4, newest forecast of all 46 (symbol, model) keys, 3 x 120 lists each.

History is appended through the public write path to 1,000,000 and then 5,000,000 rows;
after each, the newest rows are read warm (a handle that has read before), from the
file (a new handle, same process) and cold (a new process, imports not counted). The
peer is DuckDB over the same Delta files. All answers are compared with the last rows
appended before a time counts.
"""

import json
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from bench.measure import fresh_process, resident_mb
from bench.panel import TIMESTAMP, constant, symbols
from lakehouse.clock import Clock
from lakehouse.store import Lake

HORIZON = 120
MODELS = ("kronos", "naive")
N_KEYS = 46
ROWS_PER_BATCH = 46 * 1_000
HISTORIES = (1_000_000, 5_000_000)
REPEATS = 51
START = datetime(2020, 1, 1, tzinfo=UTC)


def lists(values: np.ndarray, n_rows: int) -> pa.Array:
    """Return a list column: the same values in every row."""
    offsets = np.arange(n_rows + 1, dtype=np.int32) * HORIZON
    return pa.ListArray.from_arrays(offsets, pa.array(np.tile(values, n_rows)))


def history(seed: int, number: int) -> pa.Table:
    """Return one batch of forecasts: 1,000 decision times of all keys."""
    n_rows = ROWS_PER_BATCH
    n_times = n_rows // N_KEYS
    rng = np.random.default_rng([seed, number])
    p50 = 100 * np.exp(np.cumsum(rng.standard_normal(HORIZON) * 0.01))
    first = np.datetime64(START.replace(tzinfo=None), "us")
    minutes = (number * n_times + np.arange(n_times)) * np.timedelta64(60_000_000, "us")
    as_of = pa.array(np.tile(first + minutes, N_KEYS)).cast(TIMESTAMP)
    targets = np.arange(HORIZON) * 3_600_000_000
    codes = np.repeat(np.arange(N_KEYS, dtype=np.int32), n_times)
    target_ts = lists(targets, n_rows)
    return pa.table(
        {
            "prediction_id": pa.array(
                [f"{number:06d}-{row:06d}" for row in range(n_rows)]
            ),
            "symbol": pa.DictionaryArray.from_arrays(codes % 23, symbols()),
            "timeframe": constant("1h", n_rows),
            "model_name": pa.DictionaryArray.from_arrays(codes // 23, list(MODELS)),
            "model_version": constant("1", n_rows),
            "generated_at": as_of,
            "as_of": as_of,
            "known_ts": as_of,
            "last_close": np.full(n_rows, 100.0),
            "last_ts": as_of,
            "target_ts": pa.ListArray.from_arrays(
                target_ts.offsets,
                pa.array(target_ts.values.to_numpy().view("datetime64[us]")).cast(
                    TIMESTAMP
                ),
            ),
            "p10": lists(p50 * 0.98, n_rows),
            "p50": lists(p50, n_rows),
            "p90": lists(p50 * 1.02, n_rows),
            "seed": np.zeros(n_rows, dtype=np.int64),
            "is_contaminated": pa.array(np.zeros(n_rows, dtype=bool)),
            "run_id": constant("bench", n_rows),
        }
    )


def check(rows: pa.Table, seed: int, number: int) -> None:
    """Refuse an answer that is not the newest forecast of every key."""
    batch = history(seed, number)
    p50 = batch["p50"][0].as_py()
    found = rows.select(["symbol", "model_name", "as_of", "p50"]).to_pylist()
    keys = {(row["symbol"], row["model_name"]) for row in found}
    newest = batch["as_of"][ROWS_PER_BATCH // N_KEYS - 1].as_py()
    is_right = all(
        row["as_of"] == newest and np.allclose(row["p50"], p50) for row in found
    )
    if len(found) != N_KEYS or len(keys) != N_KEYS or not is_right:
        raise RuntimeError("not the newest forecasts")


def median_ms(work, repeats: int = REPEATS) -> float:
    """Return the median time of a call, ms."""
    waits = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        waits.append((time.perf_counter() - start) * 1e3)
    return statistics.median(waits)


def measure(root: Path, seed: int, number: int) -> dict[str, float]:
    """Measure reads in this process: cold first."""
    start = time.perf_counter()
    rows = Lake.open(str(root), clock=Clock()).latest("ml_predictions")
    cold = (time.perf_counter() - start) * 1e3
    check(rows, seed, number)
    lake = Lake.open(str(root), clock=Clock())
    lake.latest("ml_predictions")
    return {
        "cold_ms": cold,
        "warm_ms": median_ms(lambda: lake.latest("ml_predictions")),
        "file_ms": median_ms(
            lambda: Lake.open(str(root), clock=Clock()).latest("ml_predictions")
        ),
        "rss_mb": resident_mb("VmHWM"),
    }


def measure_peer(root: Path, seed: int, number: int) -> float:
    """Return DuckDB's time over the Delta table's files, ms."""
    files = Lake.open(str(root), clock=Clock()).data_files("ml_predictions")
    paths = [str(root / "tables" / "ml_predictions" / name) for name in files]
    connection = duckdb.connect(
        config={"threads": "2", "temp_directory": str(root.parent / "spill")}
    )
    connection.execute("SET TimeZone = 'UTC'")
    history = f"read_parquet({paths})"

    def newest() -> pa.Table:
        # Twenty times quicker than QUALIFY, which reads every list: find the newest
        # moments first, then fetch only files and row groups that reach back to them.
        connection.execute(f"""
            CREATE OR REPLACE TEMP TABLE newest AS
            SELECT symbol, timeframe, model_name, max(as_of) AS as_of
            FROM {history} GROUP BY ALL
        """)
        oldest = connection.sql("SELECT min(as_of) FROM newest").fetchall()[0][0]
        return connection.sql(
            f"""
            SELECT symbol, model_name, as_of, target_ts, p10, p50, p90
            FROM {history} SEMI JOIN newest USING (symbol, timeframe, model_name, as_of)
            WHERE as_of >= $oldest
            """,
            params={"oldest": oldest},
        ).to_arrow_table()

    check(newest(), seed, number)
    return median_ms(newest, 3)


def row_of(name: str, ms: float, limit: float, peer: float, rss: float) -> dict:
    """Return one line of the table."""
    return {
        "work": "W4",
        "figure": f"{name}: {ms:.2f} ms",
        "peer": f"DuckDB on Delta {peer:,.0f} ms",
        "ratio": round(peer / ms),
        "target": f"< {limit:g} ms",
        "limit": f"{limit:g} ms",
        "fraction_of_limit": round(ms / limit, 3),
        "peak_rss_mb": round(rss),
    }


def run(seed: int) -> list[dict]:
    """Run the contract; one row per figure."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "lake"
        lake = Lake.open(str(root), clock=Clock(START + timedelta(days=9_999)))
        n_batches = 0
        for n_rows in HISTORIES:
            while n_batches * ROWS_PER_BATCH < n_rows:
                lake.append(
                    "ml_predictions",
                    history(seed, n_batches),
                    window=f"bench/forecast/{n_batches}",
                )
                n_batches += 1
            arguments = (str(root), str(seed), str(n_batches - 1))
            runs = [fresh_process("bench.w4_latest", *arguments) for _ in range(3)]
            found = {
                key: statistics.median(one[key] for one in runs) for key in runs[0]
            }
            peer = measure_peer(root, seed, n_batches - 1)
            size = f"{n_rows / 1e6:g}e6 rows"
            rss = found["rss_mb"]
            lines += [
                row_of(f"all 46, {size}, warm", found["warm_ms"], 3, peer, rss),
                row_of(f"all 46, {size}, new handle", found["file_ms"], 3, peer, rss),
                row_of(f"all 46, {size}, cold", found["cold_ms"], 15, peer, rss),
            ]
    return lines


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
