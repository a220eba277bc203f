"""W7, ingest: append through every check, upsert, and live bars, against Delta itself.

1,611,840 hourly bars of 23 symbols. Medians of three, a fresh process per case; the
stored rows are summed up and compared before a time counts. The peers are delta-rs's
own `write_deltalake` and `merge` on the very files that our append laid out.
"""

import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake

from bench.measure import fresh_process, timed
from bench.panel import N_BARS, panel
from lakehouse.clock import Clock
from lakehouse.schema.catalogue import table_spec
from lakehouse.store import Lake

REPEATS = 3
TENTH = N_BARS // 10
N_LIVE = 20
PRICES = ("open", "high", "low", "close")


def revised(rows: pa.Table) -> pa.Table:
    """Return bars with other prices."""
    for name in PRICES:
        spot = rows.schema.get_field_index(name)
        rows = rows.set_column(spot, name, pc.multiply(rows[name], 1.01))
    return rows


def source_rows(case: str, seed: int) -> pa.Table:
    """Return the rows a case writes."""
    if case.startswith("append"):
        return panel(seed)
    if case.startswith("tenth"):
        # A tenth of the panel: half revises the newest bars, half is new.
        return revised(panel(seed, n_bars=TENTH, first=N_BARS - TENTH // 2))
    return revised(panel(seed))


def summary(folder: Path) -> dict[str, float]:
    """Sum up what is stored, so that cases can be compared."""
    rows = DeltaTable(str(folder)).to_pyarrow_table(
        columns=["symbol", "timeframe", "ts", *PRICES]
    )
    keys = rows.group_by(["symbol", "timeframe", "ts"]).aggregate([])
    return {
        "n_rows": rows.num_rows,
        "n_keys": keys.num_rows,
        "ts": pc.sum(rows["ts"].cast(pa.int64()).cast(pa.float64())).as_py(),
        **{name: round(pc.sum(rows[name]).as_py(), 2) for name in PRICES},
    }


def run_case(case: str, seed: int, root: Path) -> dict[str, float]:
    """Do one case in this process."""
    rows = source_rows(case, seed)
    folder = root / "tables" / "ohlcv"
    lake = Lake.open(str(root), clock=Clock())

    def merge() -> None:
        (
            DeltaTable(str(folder))
            .merge(
                rows,
                "t.symbol = s.symbol AND t.timeframe = s.timeframe AND t.ts = s.ts",
                source_alias="s",
                target_alias="t",
            )
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .execute()
        )

    works = {
        "append-raw": lambda: write_deltalake(str(folder), rows, mode="append"),
        "append-ours": lambda: lake.append("ohlcv", rows, window="bench/panel"),
        "tenth-raw": merge,
        "tenth-ours": lambda: lake.upsert("ohlcv", rows),
        "panel-raw": merge,
        "panel-ours": lambda: lake.upsert("ohlcv", rows),
    }
    if case.endswith("raw"):
        rows = rows.cast(table_spec("ohlcv").to_arrow())
    return {**timed(works[case]), **summary(folder)}


def run_live(seed: int, root: Path) -> dict[str, float]:
    """Append 23 bars at a time, newest rows kept; return the median, ms."""
    lake = Lake.open(str(root), clock=Clock())
    waits = []
    for number in range(N_LIVE):
        rows = panel(seed + number, n_bars=1, first=N_BARS + number)
        start = time.perf_counter()
        lake.append("ohlcv", rows, window=f"bench/live/{number}")
        waits.append((time.perf_counter() - start) * 1e3)
        newest = lake.latest("ohlcv")
        assert newest.num_rows == rows.num_rows
        assert set(newest["ts"].to_pylist()) == set(rows["ts"].to_pylist())
    return {"median_ms": statistics.median(waits), "worst_ms": max(waits)}


def repeat(case: str, seed: int, base: Path | None) -> dict[str, float]:
    """Run a case in fresh processes; return the medians and the last summary."""
    runs = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "lake"
            if base is not None:
                shutil.copytree(base, root)
            runs.append(fresh_process("bench.w7_ingest", case, str(seed), str(root)))
    medians = {
        name: statistics.median(run[name] for run in runs)
        for name in runs[0]
        if name.endswith(("seconds", "_mb", "_ms"))
    }
    return {**runs[-1], **medians}


def compare(name: str, case: str, seed: int, base: Path | None, target: str) -> dict:
    """Run a case ours and raw; refuse to compare different results."""
    raw, ours = (repeat(f"{case}-{who}", seed, base) for who in ("raw", "ours"))
    for figure in ("n_rows", "n_keys", "ts", *PRICES):
        if abs(raw[figure] - ours[figure]) > 1e-9 * abs(raw[figure]):
            raise RuntimeError(f"{case}: {figure} {ours[figure]}, raw {raw[figure]}")
    n_rows = source_rows(case, seed).num_rows
    return {
        "work": "W7",
        "figure": f"{name}: {n_rows / ours['seconds'] / 1e6:.2f} M rows/s "
        f"({ours['seconds']:.2f} s), +{ours['extra_rss_mb']:.0f} MB",
        "peer": f"{'write_deltalake' if case == 'append' else 'Delta MERGE'} "
        f"{n_rows / raw['seconds'] / 1e6:.2f} M rows/s ({raw['seconds']:.2f} s), "
        f"+{raw['extra_rss_mb']:.0f} MB",
        "ratio": round(raw["seconds"] / ours["seconds"], 2),
        "target": target,
        "limit": "",
        "fraction_of_limit": "",
        "peak_rss_mb": round(ours["peak_rss_mb"]),
    }


def run(seed: int) -> list[dict]:
    """Run the contract; one row per figure."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "lake"
        Lake.open(str(base), clock=Clock()).append(
            "ohlcv", panel(seed), window="bench/panel"
        )
        live = repeat("live", seed, base)
        return [
            compare("append, every check", "append", seed, None, ">= 0.7"),
            compare("upsert of 10 %", "tenth", seed, base, ">= 4, < half the RSS"),
            compare("upsert of the whole panel", "panel", seed, base, ">= 2"),
            {
                "work": "W7",
                "figure": f"23 live bars, newest rows kept: {live['median_ms']:.1f} ms "
                f"(worst {live['worst_ms']:.1f})",
                "peer": "",
                "ratio": "",
                "target": "< 40 ms",
                "limit": "40 ms",
                "fraction_of_limit": round(live["median_ms"] / 40, 2),
                "peak_rss_mb": "",
            },
        ]


if __name__ == "__main__":
    _, case_name, case_seed, case_root = sys.argv
    arguments = (int(case_seed), Path(case_root))
    result = (
        run_live(*arguments) if case_name == "live" else run_case(case_name, *arguments)
    )
    print(json.dumps(result))
