"""The kept newest rows: right after every write, repaired after every crash."""

import shutil
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse import maintenance
from lakehouse.errors import InputError
from lakehouse.store import Lake
from tests.lakehouse.test_store import changed
from tests.simulators.lakehouse import (
    NOW,
    START,
    bars,
    forecasts,
    newest_by_scan,
    newest_kept,
    open_lake,
    rows_of,
)

DAY = timedelta(days=1)


def kept_file(lake: Lake, table: str = "ohlcv") -> Path:
    return Path(lake.root) / "latest" / f"{table}.arrow"


def kept_version(lake: Lake, table: str = "ohlcv") -> int:
    with pa.OSFile(str(kept_file(lake, table))) as source:
        return int(pa.ipc.open_file(source).schema.metadata[b"delta_version"])


def test_the_kept_table_follows_every_write(lake: Lake) -> None:
    steps = [
        lambda: lake.append("ohlcv", bars(), window="a"),
        lambda: lake.append("ohlcv", bars(8, start=START - DAY), window="late"),
        lambda: lake.append("ohlcv", bars(3, start=START + DAY), window="b"),
        lambda: lake.upsert("ohlcv", changed(bars(3, start=START + DAY))),
        lambda: lake.replace("ohlcv", bars(0), predicate="symbol = 'BTC'"),
    ]
    for step in steps:
        commit = step()
        assert kept_version(lake) == commit.version
        assert newest_kept(lake) == newest_by_scan(lake.read("ohlcv"))
        closes = {
            (r["symbol"], r["ts"]): r["close"] for r in lake.read("ohlcv").to_pylist()
        }
        for row in lake.latest("ohlcv").to_pylist():
            assert closes[row["symbol"], row["ts"]] == row["close"]


def test_bulky_columns_are_left_out(lake: Lake) -> None:
    lake.append("ml_predictions", forecasts([START, START + DAY]), window="a")
    newest = lake.latest("ml_predictions")
    assert "samples" not in newest.column_names
    assert set(newest["as_of"].to_pylist()) == {START + DAY}
    assert newest.num_rows == 6
    assert newest["p50"].to_pylist() == [[100.0] * 4] * 6


def test_never_written_is_empty_and_tables_without_newest_rows_say_so(
    lake: Lake,
) -> None:
    assert lake.latest("ohlcv").num_rows == 0
    with pytest.raises(InputError, match="keeps no newest rows"):
        lake.latest("instruments")


@pytest.mark.parametrize("damage", ["absent", "older", "rubbish", "foreign"])
def test_a_kept_table_that_is_behind_is_repaired_by_the_reader(
    lake: Lake, tmp_path: Path, damage: str
) -> None:
    lake.append("ohlcv", bars(), window="a")
    shutil.copy(kept_file(lake), tmp_path / "older.arrow")
    lake.append("ohlcv", bars(2, start=START + DAY), window="b")
    lake.append("ohlcv", bars(2, start=START + 2 * DAY), window="c")
    if damage == "absent":
        kept_file(lake).unlink()
    elif damage == "older":
        shutil.copy(tmp_path / "older.arrow", kept_file(lake))
    elif damage == "rubbish":
        kept_file(lake).write_bytes(b"rubbish")
    else:
        with pa.ipc.new_file(str(kept_file(lake)), pa.schema([("x", "int8")])):
            kept_file(lake)
    fresh = open_lake(lake.root)
    assert newest_kept(fresh) == newest_by_scan(lake.read("ohlcv"))
    assert kept_version(lake) == lake.version("ohlcv")


def test_a_writer_that_finds_it_behind_repairs_it(lake: Lake, tmp_path: Path) -> None:
    lake.append("ohlcv", bars(), window="a")
    shutil.copy(kept_file(lake), tmp_path / "older.arrow")
    lake.upsert("ohlcv", changed(bars()))
    shutil.copy(tmp_path / "older.arrow", kept_file(lake))
    fresh = open_lake(lake.root)
    fresh.append("ohlcv", bars(1, start=START + DAY), window="b")
    assert kept_version(lake) == 3
    assert newest_kept(fresh) == newest_by_scan(lake.read("ohlcv"))


def test_a_reader_sees_what_another_process_wrote(lake: Lake) -> None:
    lake.append("ohlcv", bars(), window="a")
    reader = open_lake(lake.root)
    reader.latest("ohlcv")
    lake.append("ohlcv", bars(1, start=START + DAY), window="b")
    assert newest_kept(reader) == newest_by_scan(lake.read("ohlcv"))


def test_it_survives_lost_logs(lake: Lake) -> None:
    for day in range(3):
        lake.append("ohlcv", bars(2, start=START + day * DAY), window=f"{day}")
    older = kept_file(lake).read_bytes()
    lake.append("ohlcv", bars(2, start=START + 5 * DAY), window="5")
    with lake.hold("ohlcv") as (handle, _):
        handle.refresh().create_checkpoint()
    kept_file(lake).write_bytes(older)
    log = Path(lake.root) / "tables" / "ohlcv" / "_delta_log"
    for version in range(4):
        (log / f"{version:020d}.json").unlink()
    assert newest_kept(open_lake(lake.root)) == newest_by_scan(lake.read("ohlcv"))


def test_a_correction_of_what_is_newest_is_seen(lake: Lake) -> None:
    lake.append("ml_predictions", forecasts([START]), window="a")
    again = forecasts([START], generated_at=NOW + DAY)
    spot = again.schema.get_field_index("p50")
    again = again.set_column(spot, "p50", pa.array([[50.0] * 4] * again.num_rows))
    lake.upsert("ml_predictions", again)
    assert lake.latest("ml_predictions")["p50"].to_pylist() == [[50.0] * 4] * 6


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["append", "upsert", "lose", "compact"]),
            st.integers(0, 20),
            st.integers(1, 6),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_history_leaves_the_newest_rows(
    steps: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = open_lake(tmp_path_factory.mktemp("history"))
    for number, (verb, first, n_bars) in enumerate(steps):
        rows = bars(n_bars, start=START + first * timedelta(hours=1))
        if verb == "append":
            lake.append("ohlcv", rows, window=f"{number}")
        elif verb == "upsert":
            lake.upsert("ohlcv", rows)
        elif verb == "compact":
            maintenance.compact(lake, "ohlcv")
        elif kept_file(lake).exists():
            kept_file(lake).unlink()
        assert newest_kept(lake) == newest_by_scan(lake.read("ohlcv"))
    full = open_lake(lake.root)
    if kept_file(lake).exists():
        kept_file(lake).unlink()
    assert rows_of(full.latest("ohlcv")) == rows_of(lake.latest("ohlcv"))
