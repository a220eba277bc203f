"""Killed writers, and many at once: nothing lost, nothing twice."""

import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse import maintenance
from tests.simulators.kill import (
    HOURS_PER_UNIT,
    REPOSITORY,
    corrected,
    run_battery,
    unit_rows,
)
from tests.simulators.lakehouse import (
    START,
    bars,
    newest_by_scan,
    newest_kept,
    open_lake,
    rows_of,
)

KEY = ("symbol", "timeframe", "ts")


def repeated(rows: pa.Table) -> int:
    """Return how many rows too many there are."""
    return rows.num_rows - len(set(rows_of(rows, *KEY)))


def survive(root: Path, n_kills: int) -> None:
    outcome = run_battery("lake", root, n_kills=n_kills, seed=20261122)
    lake = open_lake(root)
    expected: dict[object, tuple[object, ...]] = {}
    for unit in range(outcome.n_units):
        parts = [unit_rows(unit)]
        if unit % 3 == 2:
            parts.append(corrected(unit - 1))
        for part in parts:
            expected |= {row[:3]: row for row in rows_of(part, *KEY, "close", "volume")}
    stored = lake.read("ohlcv")
    assert repeated(stored) == 0
    assert rows_of(stored, *KEY, "close", "volume") == sorted(
        expected.values(), key=repr
    )
    assert newest_kept(lake) == newest_by_scan(stored)


def test_killed_writers_lose_and_repeat_nothing(tmp_path: Path) -> None:
    survive(tmp_path / "lake", n_kills=6)


def test_without_the_window_in_the_commit_kills_repeat_rows(tmp_path: Path) -> None:
    outcome = run_battery("raw", tmp_path / "lake", n_kills=6, seed=20261122)
    assert repeated(outcome.rows) > 0


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_a_hundred_kills_lose_and_repeat_nothing(tmp_path: Path) -> None:
    survive(tmp_path / "lake", n_kills=100)


WRITER = """
import sys
from datetime import timedelta
from tests.simulators.lakehouse import START, bars, open_lake
root, writer, n_commits = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
lake = open_lake(root)
for commit in range(n_commits):
    start = START + timedelta(hours=6 * commit)
    # Every writer stores bars of its own and, under its own window, the same shared ones.
    rows = bars(6, start=start, symbols=(f"W{writer}", "SHARED"))
    lake.append("ohlcv", rows, window=f"writer{writer}/{commit}")
"""


def race(root: str, n_writers: int, n_commits: int) -> None:
    """Let writers in processes of their own store at once; check the sum."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, root, str(writer), str(n_commits)],
            cwd=REPOSITORY,
        )
        for writer in range(n_writers)
    ]
    assert [writer.wait(timeout=600) for writer in writers] == [0] * n_writers
    lake = open_lake(root)
    stored = lake.read("ohlcv")
    counts = Counter(stored["symbol"].to_pylist())
    assert counts == dict.fromkeys(
        ("SHARED", *(f"W{n}" for n in range(n_writers))), 6 * n_commits
    )
    assert repeated(stored) == 0
    assert lake.version("ohlcv") == n_writers * n_commits
    assert newest_kept(lake) == newest_by_scan(stored)


def test_writers_at_once_lose_nothing_on_disk(tmp_path: Path) -> None:
    race(str(tmp_path / "lake"), n_writers=3, n_commits=5)


@pytest.mark.s3
def test_writers_at_once_lose_nothing_on_s3(s3_root: str) -> None:
    race(s3_root, n_writers=3, n_commits=5)


@pytest.mark.full
def test_four_writers_of_twenty_commits_lose_nothing_on_disk(tmp_path: Path) -> None:
    race(str(tmp_path / "lake"), n_writers=4, n_commits=20)


@pytest.mark.full
@pytest.mark.s3
def test_four_writers_of_twenty_commits_lose_nothing_on_s3(s3_root: str) -> None:
    race(s3_root, n_writers=4, n_commits=20)


@pytest.mark.parametrize(
    "n_rounds", [pytest.param(6), pytest.param(60, marks=pytest.mark.full)]
)
def test_vacuum_and_compaction_beside_writers_and_pinned_readers_break_nothing(
    tmp_path: Path, n_rounds: int
) -> None:
    root = tmp_path / "lake"
    lake = open_lake(root)
    lake.append("ohlcv", unit_rows(0), window="kill/ohlcv/0")
    pinned = lake.version("ohlcv")
    before = rows_of(lake.read("ohlcv", version=pinned))
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), "0", str(5 * n_rounds)],
        cwd=REPOSITORY,
    )
    keeper = open_lake(root)
    for _ in range(n_rounds):
        maintenance.compact(keeper, "ohlcv")
        maintenance.vacuum(keeper, "ohlcv", keep_versions=[pinned])
        assert rows_of(lake.read("ohlcv", version=pinned)) == before
        rows = bars(2, start=START - timedelta(days=9), symbols=("LATE",))
        keeper.upsert("ohlcv", rows)
    assert writer.wait(timeout=300) == 0
    stored = lake.read("ohlcv")
    counts = Counter(stored["symbol"].to_pylist())
    assert counts == {
        "W0": 30 * n_rounds,
        "SHARED": 30 * n_rounds,
        "LATE": 2,
        "BTC": HOURS_PER_UNIT,
        "ETH": HOURS_PER_UNIT,
    }
    assert newest_kept(lake) == newest_by_scan(stored)
