"""W8, scoring: 1,000,000 stored forecasts at three horizons, samples on 10,000 of them.

The work is what the score flow does on a lake: find what is settled and not scored, read
it, score it at 1, 4 and 24 hours and write 3,000,000 scores; the judgement of all cells
that follows is timed beside it. No peer scores stored forecasts; beside it stands the
time to read them once.
"""

import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.measure import fresh_process, resident_mb
from bench.panel import TIMESTAMP, constant, symbols
from flows.bodies.judge import compute_verdicts, keep_verdicts
from flows.bodies.score import keep_scores
from flows.runs import Run, execute
from flows.wiring import open_workplace
from lakehouse.clock import Clock
from lakehouse.store import Lake

STEPS = 24
HORIZONS = (1, 4, 24)
MODELS = ("kronos", "naive")
N_SYMBOLS = 23
N_MOMENTS = 21_740  # 23 symbols and 2 models: 1,000,040 forecasts
N_FORECASTS = 20 * 1_087 * 46
N_SAMPLED = 10_000
N_PATHS = 20
MOMENTS_A_BATCH = 1_087
LIMIT_S = 60.0
HOUR = np.timedelta64(3_600_000_000, "us")
START = np.datetime64("2020-01-01", "us")
NOW = datetime(2023, 6, 1, tzinfo=UTC)


def closes(seed: int) -> np.ndarray:
    """Return hourly closes (symbol, hour) that reach beyond the last target."""
    rng = np.random.default_rng(seed)
    steps = 0.005 * rng.standard_normal((N_SYMBOLS, N_MOMENTS + STEPS + 8))
    return 100 * np.exp(np.cumsum(steps, axis=1))


def bars(close: np.ndarray) -> pa.Table:
    """Return rows of `ohlcv`; the first forecast has seen one bar."""
    n_bars = close.shape[1]
    ts = np.tile(START + np.arange(n_bars) * HOUR, N_SYMBOLS)
    price = close.ravel()
    return pa.table(
        {
            "symbol": pa.DictionaryArray.from_arrays(
                np.repeat(np.arange(N_SYMBOLS, dtype=np.int32), n_bars), symbols()
            ).cast(pa.string()),
            "timeframe": constant("1h", len(ts)),
            "ts": pa.array(ts).cast(TIMESTAMP),
            "open": price,
            "high": price,
            "low": price,
            "close": price,
            "volume": pa.nulls(len(ts), pa.float64()),
            "source": constant("bench", len(ts)),
            "ingested_at": pa.array(ts).cast(TIMESTAMP),
            "flags": pa.nulls(len(ts), pa.string()),
        }
    )


def instruments() -> pa.Table:
    """Return the instruments, all of them open day and night."""
    moment = pa.array([START] * N_SYMBOLS).cast(TIMESTAMP)
    return pa.table(
        {
            "symbol": symbols(),
            "asset_class": constant("crypto", N_SYMBOLS),
            "calendar": constant("24x7", N_SYMBOLS),
            "currency": constant("USD", N_SYMBOLS),
            "is_leader": pa.array([False] * N_SYMBOLS),
            "listed_from": pa.nulls(N_SYMBOLS, TIMESTAMP),
            "listed_to": pa.nulls(N_SYMBOLS, TIMESTAMP),
            "source": constant("bench", N_SYMBOLS),
            "updated_at": moment,
        }
    )


def lists(values: np.ndarray) -> pa.Array:
    """Return (row, step) values as a list column."""
    n_rows, n_steps = values.shape
    offsets = np.arange(n_rows + 1, dtype=np.int32) * n_steps
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))


def paths(rng: np.random.Generator, p50: np.ndarray, n_sampled: int) -> pa.Array:
    """Return sample paths of the first `n_sampled` rows, null on the others."""
    n_rows, n_steps = p50.shape
    spread = 0.02 * rng.standard_normal((n_sampled, N_PATHS, n_steps))
    values = (p50[:n_sampled, None, :] * (1 + spread)).astype(np.float32)
    inner = lists(values.reshape(-1, n_steps))
    offsets = np.arange(n_sampled + 1, dtype=np.int32) * N_PATHS
    sampled = pa.ListArray.from_arrays(offsets, inner)
    return pa.concat_arrays([sampled, pa.nulls(n_rows - n_sampled, sampled.type)])


def forecasts(seed: int, first: int, close: np.ndarray, n_sampled: int) -> pa.Table:
    """Return a batch: all keys at `MOMENTS_A_BATCH` decision times from `first` on."""
    rng = np.random.default_rng([seed, first])
    hours = np.tile(np.arange(first, first + MOMENTS_A_BATCH), N_SYMBOLS * len(MODELS))
    codes = np.repeat(
        np.arange(N_SYMBOLS * len(MODELS), dtype=np.int32), MOMENTS_A_BATCH
    )
    n_rows = len(hours)
    last_close = close[codes % N_SYMBOLS, hours]
    p50 = last_close[:, None] * (1 + 0.002 * rng.standard_normal((n_rows, STEPS)))
    width = 0.0064 * np.sqrt(np.arange(1, STEPS + 1))
    # Decided as the newest bar closes: the first target is not half over.
    last_ts = START + hours * HOUR
    as_of = pa.array(last_ts + HOUR).cast(TIMESTAMP)
    targets = (last_ts + HOUR)[:, None] + np.arange(STEPS) * HOUR
    return pa.table(
        {
            "prediction_id": pa.array(
                [f"{first:06d}-{row:07d}" for row in range(n_rows)]
            ),
            "symbol": pa.DictionaryArray.from_arrays(codes % N_SYMBOLS, symbols()),
            "timeframe": constant("1h", n_rows),
            "model_name": pa.DictionaryArray.from_arrays(
                codes // N_SYMBOLS, list(MODELS)
            ),
            "model_version": constant("1", n_rows),
            "generated_at": as_of,
            "as_of": as_of,
            "known_ts": as_of,
            "last_close": last_close,
            "last_ts": pa.array(last_ts).cast(TIMESTAMP),
            "target_ts": lists(targets).cast(pa.list_(TIMESTAMP)),
            "p10": lists(p50 * (1 - width)),
            "p50": lists(p50),
            "p90": lists(p50 * (1 + width)),
            "samples": paths(rng, p50, n_sampled),
            "seed": np.zeros(n_rows, dtype=np.int64),
            "is_contaminated": pa.array(np.zeros(n_rows, dtype=bool)),
            "run_id": constant("bench", n_rows),
        }
    )


def build(root: Path, seed: int) -> None:
    """Write the lake that is scored."""
    lake = Lake.open(str(root), clock=Clock(NOW))
    close = closes(seed)
    lake.append("instruments", instruments(), window="bench/instruments")
    lake.append("ohlcv", bars(close), window="bench/ohlcv")
    n_batches = N_MOMENTS // MOMENTS_A_BATCH
    for number in range(n_batches):
        lake.append(
            "ml_predictions",
            forecasts(seed, number * MOMENTS_A_BATCH, close, N_SAMPLED // n_batches),
            window=f"bench/forecast/{number}",
        )


def keep(run: Run, *, timeframe: str) -> str:
    """Score what is settled; say how long it took."""
    start, cpu = time.perf_counter(), time.process_time()
    fresh = keep_scores(run, timeframe=timeframe, now=run.now)
    scored, busy = time.perf_counter() - start, time.process_time() - cpu
    peak = resident_mb("VmHWM")
    start = time.perf_counter()
    verdicts = compute_verdicts(run, timeframe=timeframe, now=run.now, fresh=fresh)
    keep_verdicts(run, verdicts)
    judged = time.perf_counter() - start
    check(fresh)
    return json.dumps(
        {
            "scoring_s": scored,
            "scoring_cpu_s": busy,
            "judging_s": judged,
            "n_scores": fresh.num_rows,
            "rss_mb": peak,
            "judging_rss_mb": resident_mb("VmHWM"),
        }
    )


def check(fresh: pa.Table) -> None:
    """Refuse scores that are not all there, or not right."""
    n_forecasts = pc.count_distinct(fresh["prediction_id"]).as_py()
    counts = pc.value_counts(fresh["horizon"]).to_pylist()
    sampled = pc.sum(pc.equal(fresh["n_samples"], N_PATHS)).as_py()
    error = pc.abs(pc.subtract(fresh["actual"], fresh["p50"]))
    is_right = (
        {one["values"] for one in counts} == set(HORIZONS)
        and {one["counts"] for one in counts} == {n_forecasts}
        and n_forecasts == fresh.num_rows // len(HORIZONS)
        and sampled == len(HORIZONS) * n_forecasts * N_SAMPLED // N_FORECASTS
        and fresh["absolute_error"].equals(error)
    )
    if not is_right:
        raise RuntimeError(
            f"not the scores: {n_forecasts} forecasts, {counts}, {sampled}"
        )


def measure(root: Path) -> dict[str, float]:
    """Score the lake in this process."""
    os.environ |= {"ALPHALAKE_ROOT": str(root), "ALPHALAKE_NOW": NOW.isoformat()}
    done = execute(
        "score-signals",
        keep,
        workplace=open_workplace(),
        parameters={"timeframe": "1h"},
    )
    return json.loads(done.message)


def run(seed: int) -> list[dict]:
    """Run the contract; one row."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "lake"
        build(root, seed)
        found = fresh_process("bench.w8_scoring", str(root))
        floor = floor_s(root)
    seconds = found["scoring_s"]
    return [
        {
            "work": "W8",
            "figure": f"score {found['n_scores'] / 1e6:.1f}e6 at 1, 4, 24 h, written: {seconds:.1f} s"
            f" ({found['scoring_cpu_s']:.1f} CPU-s);"
            f" then judged: {found['judging_s']:.1f} s",
            "peer": f"reading these forecasts once {floor:.1f} s",
            "ratio": round(floor / seconds, 3),
            "target": f"<= {LIMIT_S:g} s",
            "limit": f"{LIMIT_S:g} s",
            "fraction_of_limit": round(seconds / LIMIT_S, 3),
            "peak_rss_mb": round(found["rss_mb"]),
        }
    ]


def floor_s(root: Path) -> float:
    """Return how long it takes to read the forecasts' bands, file by file."""
    lake = Lake.open(str(root), clock=Clock(NOW))
    start = time.perf_counter()
    for name in lake.data_files("ml_predictions"):
        pq.read_table(
            root / "tables" / "ml_predictions" / name,
            columns=["target_ts", "p10", "p50", "p90"],
        )
    return time.perf_counter() - start


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
