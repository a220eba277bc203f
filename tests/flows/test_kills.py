"""Flows killed at random points and run again: nothing lost, nothing twice."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from flows.bodies.ingest import ingest_bars
from flows.wiring import open_workplace
from lakehouse.clock import Clock
from lakehouse.store import Lake
from tests.flows.conftest import run_plainly
from tests.simulators.flow_kills import run_battery
from tests.simulators.places import Place

START = datetime(2018, 1, 1, tzinfo=UTC)
ROWS_PER_FILE = 30
COUNTS = [
    pytest.param(5, id="few"),
    pytest.param(50, id="many", marks=pytest.mark.full),
]


def write_units(folder: Path, n_files: int) -> str:
    """Write hourly files, each with one bad row; return their pattern."""
    for unit in range(n_files):
        lines = ["symbol,ts,open,high,low,close,volume"]
        for row in range(ROWS_PER_FILE):
            ts = START + timedelta(hours=unit * ROWS_PER_FILE + row)
            high = 0.1 if row == 7 else 3
            lines.append(f"AAA,{ts:%Y-%m-%dT%H:%M:%SZ},2,{high},1,2.5,{row}")
        (folder / f"unit_{unit:04d}.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "unit_*.csv")


def key_counts(table: pa.Table, key: list[str]) -> tuple[int, int]:
    """Return rows and distinct keys."""
    return table.num_rows, table.group_by(key).aggregate([]).num_rows


def check_bars(root: str, n_files: int) -> tuple[int, int]:
    """Return how many bars are lost and how many are stored twice."""
    bars = Lake.open(root, clock=Clock()).read("ohlcv", columns=["symbol", "ts"])
    n_rows, n_keys = key_counts(bars, ["symbol", "ts"])
    return n_files * (ROWS_PER_FILE - 1) - n_keys, n_rows - n_keys


@pytest.mark.parametrize("n_kills", COUNTS)
def test_killed_ingests_lose_and_repeat_nothing(
    place: Place, tmp_path: Path, n_kills: int
):
    n_files = 3 * n_kills
    pattern = write_units(tmp_path, n_files)
    words = ["verb", "ingest", "ohlcv", "--path", pattern, "--timeframe", "1h"]

    n_killed = run_battery(place, words, n_kills=n_kills, seed=11, longest_s=0.6)

    lake = open_workplace().lake
    assert n_killed > n_kills // 3
    assert check_bars(place.root, n_files) == (0, 0)
    refused = lake.read("quarantine")
    key = ["source", "row_number", "row_hash"]
    assert key_counts(refused, key) == (n_files, n_files)
    assert lake.read("instruments").num_rows == 1
    assert lake.latest("ohlcv").num_rows == 1


@pytest.mark.parametrize(
    "n_kills",
    [pytest.param(3, id="few"), pytest.param(50, id="many", marks=pytest.mark.full)],
)
def test_killed_forecasts_lose_and_repeat_nothing(place: Place, n_kills: int):
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    n_killed = 0
    for number in range(n_kills):
        day = datetime(2018, 3, 1, 22, tzinfo=UTC) + timedelta(days=number)
        words = ["verb", "forecast", "--model", "naive,seasonal", "--samples", "3"]
        words += ["--as-of", day.isoformat(), "--earlier", "4"]
        n_killed += run_battery(place, words, n_kills=1, seed=number, longest_s=1.2)

    lake = open_workplace().lake
    rows = lake.read("ml_predictions", columns=["prediction_id", "as_of"])
    as_ofs = set(rows["as_of"].to_pylist())
    assert n_killed > n_kills // 4
    assert key_counts(rows, ["prediction_id"]) == (rows.num_rows, rows.num_rows)
    assert rows.num_rows == 2 * 2 * len(as_ofs)
    assert lake.latest("ml_predictions").num_rows == 4


def test_a_control_without_the_transaction_fails_the_same_check(
    place: Place, tmp_path: Path
):
    n_files = 12
    pattern = write_units(tmp_path, n_files)
    words = ["control", pattern, place.root, str(tmp_path / "notes")]

    run_battery(place, words, n_kills=8, seed=5, longest_s=1.6)

    rows = Lake.open(place.root, clock=Clock()).read("ohlcv", columns=["symbol", "ts"])
    n_rows, n_keys = key_counts(rows, ["symbol", "ts"])
    assert n_rows > n_keys
