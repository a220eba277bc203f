"""Upkeep changes no row, and does nothing when there is nothing to do."""

import json
import os
import time
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lakehouse import maintenance
from lakehouse.errors import InputError, RefusedError
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


def fill(lake: Lake, n_days: int) -> None:
    for day in range(n_days):
        lake.append("ohlcv", bars(24, start=START + day * DAY), window=f"{day}")


def age_files(folder: Path, days: float) -> None:
    """Make every data file look older."""
    then = time.time() - days * 86_400
    for path in folder.glob("*.parquet"):
        os.utime(path, (then, then))


def test_compaction_merges_neighbours_in_time_and_changes_no_row(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lake, 12)
    before = rows_of(lake.read("ohlcv"))
    monkeypatch.setattr("lakehouse.storage.compaction.ROWS_PER_FILE", 300)
    assert maintenance.compact(lake, "ohlcv") == 9
    actions = pa.table(
        DeltaTable(f"{lake.root}/tables/ohlcv").get_add_actions(flatten=True)
    ).sort_by("min.ts")
    assert actions["num_records"].to_pylist() == [288, 288, 288]
    assert rows_of(lake.read("ohlcv")) == before
    assert newest_kept(open_lake(lake.root)) == newest_by_scan(lake.read("ohlcv"))
    assert maintenance.compact(lake, "ohlcv") == 0


def test_compaction_untangles_files_that_overlap(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lake, 4)
    lake.append("ohlcv", bars(96, symbols=("ETH",)), window="long")
    monkeypatch.setattr("lakehouse.storage.compaction.ROWS_PER_FILE", 100)
    monkeypatch.setattr("lakehouse.storage.layout.ROWS_PER_FILE", 100)
    before = rows_of(lake.read("ohlcv"))
    maintenance.compact(lake, "ohlcv")
    actions = pa.table(
        DeltaTable(f"{lake.root}/tables/ohlcv").get_add_actions(flatten=True)
    ).sort_by("min.ts")
    lows, highs = actions["min.ts"].to_pylist(), actions["max.ts"].to_pylist()
    assert all(low > high for low, high in zip(lows[1:], highs, strict=False))
    assert actions.num_rows > 1
    assert rows_of(lake.read("ohlcv")) == before


def test_compaction_beside_an_append_loses_nothing(lake: Lake) -> None:
    fill(lake, 3)
    other = open_lake(lake.root)
    other.append("ohlcv", bars(24, start=START + 9 * DAY), window="9")
    maintenance.compact(lake, "ohlcv")
    assert lake.read("ohlcv").num_rows == 4 * 72


def test_an_older_version_still_reads_after_compaction(lake: Lake) -> None:
    fill(lake, 3)
    before = rows_of(lake.read("ohlcv", version=2))
    maintenance.compact(lake, "ohlcv")
    assert rows_of(lake.read("ohlcv", version=2)) == before


@pytest.mark.parametrize("hours", [0, 1, 167])
def test_vacuum_below_a_week_is_refused(lake: Lake, hours: int) -> None:
    fill(lake, 1)
    with pytest.raises(RefusedError, match="at least 168"):
        maintenance.vacuum(lake, "ohlcv", retention_hours=hours)


def test_vacuum_takes_what_is_old_and_leaves_what_is_kept(lake: Lake) -> None:
    folder = Path(lake.root) / "tables" / "ohlcv"
    fill(lake, 2)
    lake.upsert("ohlcv", changed(bars(24)))
    (folder / "part-orphan.parquet").write_bytes(b"of a killed writer")
    assert maintenance.vacuum(lake, "ohlcv") == []
    age_files(folder, 8)
    (folder / "part-young.parquet").write_bytes(b"of a running writer")
    deleted = maintenance.vacuum(lake, "ohlcv")
    assert deleted == ["part-orphan.parquet"]
    assert (folder / "part-young.parquet").exists()
    assert rows_of(lake.read("ohlcv", version=1)) == rows_of(bars(24))
    assert newest_kept(open_lake(lake.root)) == newest_by_scan(lake.read("ohlcv"))


def test_checkpoints_come_every_so_many_commits(lake: Lake) -> None:
    assert not maintenance.checkpoint(lake, "ohlcv")
    fill(lake, 4)
    assert not maintenance.checkpoint(lake, "ohlcv")
    fill(lake, 12)
    assert maintenance.checkpoint(lake, "ohlcv")
    assert not maintenance.checkpoint(lake, "ohlcv")
    assert open_lake(lake.root).has_window("ohlcv", "3")
    assert open_lake(lake.root).read("ohlcv").num_rows == 12 * 72


def test_old_sample_paths_are_dropped_and_nothing_else(lake: Lake) -> None:
    old, young = NOW - 100 * DAY, NOW - 10 * DAY
    rows = forecasts([old, young])
    lake.append("ml_predictions", rows, window="a")
    assert maintenance.prune_samples(lake, older_than_days=90) == 6
    assert maintenance.prune_samples(lake, older_than_days=90) == 0
    stored = lake.read("ml_predictions")
    for row in stored.to_pylist():
        assert (row["samples"] is None) == (row["as_of"] == old)
        assert (row["quantiles"] is None) == (row["as_of"] == old)
    bulky = ("samples", "quantiles")
    rest = [name for name in stored.column_names if name not in bulky]
    assert rows_of(stored, *rest) == rows_of(rows, *rest)
    assert lake.append("ml_predictions", rows, window="late retry").n_skipped == 12
    assert open_lake(lake.root).latest("ml_predictions")["as_of"].to_pylist() == (
        [young] * 6
    )
    with pytest.raises(InputError, match="zero or more"):
        maintenance.prune_samples(lake, older_than_days=-1)


def test_maintaining_twice_does_nothing_the_second_time(lake: Lake) -> None:
    fill(lake, 12)
    lake.append("ml_predictions", forecasts([NOW - 100 * DAY]), window="a")
    first = {report.table: report for report in maintenance.maintain(lake)}
    assert set(first) == {"ohlcv", "ml_predictions"}
    assert first["ohlcv"].is_checkpointed
    assert (first["ohlcv"].n_files_before, first["ohlcv"].n_files_after) == (12, 1)
    assert first["ml_predictions"].n_pruned == 6
    versions = {table: lake.version(table) for table in first}
    for report in maintenance.maintain(lake):
        assert report.n_files_before == report.n_files_after
        assert (report.n_pruned, report.is_checkpointed, report.n_vacuumed) == (
            0,
            False,
            0,
        )
    assert {table: lake.version(table) for table in first} == versions


def test_published_versions_are_found_in_the_manifests(lake: Lake) -> None:
    folder = Path(lake.root) / "artefacts" / "targets" / "shadow"
    folder.mkdir(parents=True)
    manifest = {"table": "artefact_instruments", "table_version": 3}
    (folder / "abc.instruments.json").write_text(json.dumps(manifest))
    (folder / "report.json").write_text("[1]")
    assert maintenance.published_versions(lake) == {"artefact_instruments": {3}}
