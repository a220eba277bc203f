"""The nightly Parquet of `sleeve_returns_v1`, on a disk and on an object store."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.bodies.sleeve_export import FOLDER, LATEST, rows_sha256, run_sleeve_export
from flows.runs import Outcome, execute
from flows.wiring import Workplace
from lakehouse.clock import Clock
from lakehouse.errors import InputError
from lakehouse.query import connect
from lakehouse.store import Lake
from tests.simulators.s3 import keys as keys_under
from tests.simulators.sleeves import write_walk

NOW = datetime(2022, 3, 7, 5, 30, tzinfo=UTC)
NAMES = ("phase37",)


class Place:
    """A lake, the exports beside it, and a clock that tests move."""

    def __init__(self, root: str, folder: Path, endpoint: str | None = None):
        self.root = root
        self.folder = folder
        self.endpoint = endpoint

    def at(self, now: datetime) -> Workplace:
        clock = Clock(now, "argument")
        lake = Lake.open(self.root, clock=clock)
        return Workplace(lake, clock, self.folder / "keys", self.folder / "state")

    def walk(self, run_id: str, ended: datetime, **options: object) -> None:
        lake = self.at(ended).lake
        write_walk(lake, run_id, ended=ended, sleeves=NAMES, n_days=90, **options)  # type: ignore[arg-type]

    def export(self, now: datetime = NOW, **parameters: object) -> Outcome:
        return execute(
            "sleeve-returns-export",
            run_sleeve_export,
            workplace=self.at(now),
            parameters=parameters,
        )

    def names(self) -> list[str]:
        """Names in the export folder, sorted."""
        if self.endpoint is None:
            folder = Path(self.root).joinpath(*FOLDER)
            return sorted(path.name for path in folder.iterdir())
        under = "/".join((self.root, *FOLDER))
        names = [key.rsplit("/", 1)[1] for key in keys_under(self.endpoint, under)]
        return [name for name in names if name]  # pyarrow marks the folder itself

    def read(self, name: str) -> bytes:
        location = self.at(NOW).lake.location
        data = location.read_bytes(location.path(*FOLDER, name))
        assert data is not None
        return data

    def write(self, name: str, data: bytes) -> None:
        location = self.at(NOW).lake.location
        location.write_bytes(location.path(*FOLDER, name), data)

    def latest(self) -> dict:
        return json.loads(self.read(LATEST))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(str(tmp_path / "lake"), tmp_path)
    made.walk("walk-forward-a", NOW - timedelta(days=1))
    return made


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def anywhere(request, tmp_path: Path) -> Place:
    """A place on a disk, and one on an object store."""
    if request.param == "local":
        made = Place(str(tmp_path / "lake"), tmp_path)
    else:
        environment = request.getfixturevalue("s3_environment")
        root = request.getfixturevalue("s3_root")
        made = Place(root, tmp_path, environment["AWS_ENDPOINT_URL"])
    made.walk("walk-forward-a", NOW - timedelta(days=1))
    return made


def rows_of(data: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(data))


def test_the_export_is_the_view_and_says_what_it_is(anywhere: Place):
    told = anywhere.export()
    latest = anywhere.latest()
    data = anywhere.read(latest["file"])
    rows = rows_of(data)
    order = "ORDER BY sleeve_id, timeframe, slippage_bps, ts"
    with connect(anywhere.root, threads=1) as session:
        view = session.sql(f"FROM sleeve_returns_v1 {order}").arrow()
        versions = {name: session.versions[name] for name in ("runs", "sleeve_returns")}
    assert rows.num_rows == 90 * 4 * len(NAMES)
    assert rows.cast(view.schema).equals(view)
    assert latest["n_rows"] == rows.num_rows
    assert latest["bytes"] == len(data)
    assert latest["sha256"] == hashlib.sha256(data).hexdigest()
    assert latest["run_id"] == "walk-forward-a"
    assert latest["rows_sha256"] == rows_sha256(rows)
    metadata = pq.read_schema(pa.BufferReader(data)).metadata
    assert metadata[b"alphalake.run_id"] == b"walk-forward-a"
    assert metadata[b"alphalake.rows_sha256"].decode() == latest["rows_sha256"]
    # The run's own row came after the versions were pinned.
    stored = json.loads(metadata[b"alphalake.table_versions"])
    assert stored == latest["table_versions"]
    assert stored == {**versions, "runs": versions["runs"] - 1}
    assert told.counts["rows_exported"] == rows.num_rows
    assert told.counts["files_written"] == 1
    assert latest["file"] in told.message


def test_the_same_rows_are_written_once_however_often_it_runs(place: Place):
    place.export()
    before = {name: place.read(name) for name in place.names()}
    again = place.export(NOW + timedelta(days=400))
    assert {name: place.read(name) for name in place.names()} == before
    assert again.counts["exports_pruned"] == 0
    assert again.counts["files_written"] == 0
    assert "is there already" in again.message
    assert len(before) == 2


def test_a_new_run_becomes_the_latest_and_the_old_stays_thirty_days(anywhere: Place):
    anywhere.export()
    old = anywhere.latest()["file"]
    week = NOW + timedelta(days=7)
    anywhere.walk("walk-forward-b", week - timedelta(hours=1), seed=4)
    anywhere.export(week)
    new = anywhere.latest()["file"]
    assert anywhere.names() == sorted([LATEST, old, new])
    assert anywhere.export(week + timedelta(days=30)).counts["exports_pruned"] == 0
    last = anywhere.export(week + timedelta(days=30, seconds=1))
    assert last.counts["exports_pruned"] == 1
    assert anywhere.names() == sorted([LATEST, new])


def test_telemetry_counts_what_was_exported(place: Place):
    done = place.export()
    rows = place.at(NOW).lake.read("telemetry").to_pylist()
    found = {row["name"]: row["value"] for row in rows if row["run_id"] == done.run_id}
    assert found["sleeve-returns-export.rows_exported"] == 360
    assert found["sleeve-returns-export.files_written"] == 1


def test_before_any_completed_run_nothing_is_written(tmp_path: Path):
    place = Place(str(tmp_path / "lake"), tmp_path)
    place.walk("walk-forward-a", NOW - timedelta(days=1), status="failed")
    told = place.export()
    assert told.message == "no completed walk-forward run to export"
    assert not Path(place.root).joinpath("exports").exists()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[len(data) // 2] ^= 0xFF
    return bytes(changed)


@pytest.mark.parametrize("damage", [cut, flip, lambda data: b""])
def test_a_damaged_file_is_made_good_under_its_name(
    place: Place, damage: Callable[[bytes], bytes]
):
    place.export()
    name = place.latest()["file"]
    whole = place.read(name)
    place.write(name, damage(whole))
    told = place.export(NOW + timedelta(days=1))
    assert told.counts["files_written"] == 1
    assert rows_of(place.read(name)).equals(rows_of(whole))
    latest = place.latest()
    assert latest["file"] == name
    assert latest["sha256"] == hashlib.sha256(place.read(name)).hexdigest()


def test_a_run_killed_before_it_pointed_is_finished_by_the_next(place: Place):
    place.export()
    expected = place.latest()
    Path(place.root).joinpath(*FOLDER, LATEST).unlink()
    told = place.export(NOW + timedelta(hours=1))
    assert told.counts["files_written"] == 0
    assert place.latest() == expected


def test_a_look_at_the_past_leaves_the_newest_where_it_is(place: Place):
    place.walk("walk-forward-b", NOW, seed=4)
    place.export()
    latest = place.latest()
    told = place.export(as_of=(NOW - timedelta(hours=1)).isoformat())
    assert "walk-forward-a" in told.message
    assert place.latest() == latest
    assert len(place.names()) == 3
    with pytest.raises(InputError, match="later than now"):
        place.export(as_of=(NOW + timedelta(days=1)).isoformat())


def test_rows_not_known_yet_are_left_out(place: Place):
    place.walk("walk-forward-b", NOW - timedelta(hours=1), seed=4)
    early = datetime(2014, 4, 1, tzinfo=UTC)
    told = place.export(early)
    assert told.message == "no completed walk-forward run to export"


def test_a_rerun_of_older_content_points_back_at_its_file(place: Place):
    place.export()
    old = place.latest()
    place.walk("walk-forward-b", NOW + timedelta(hours=1), seed=4)
    place.export(NOW + timedelta(hours=2))
    assert place.latest()["file"] != old["file"]
    told = place.export(NOW)  # the clock of a demo may stand earlier
    assert told.counts["files_written"] == 0
    assert place.latest() == old


def test_other_files_in_the_folder_are_left_alone(place: Place):
    place.write("notes.txt", b"mine")
    place.write("20200101T000000Z-walk-forward-a-nothex.parquet", b"mine")
    place.export(NOW + timedelta(days=365))
    assert "notes.txt" in place.names()
    assert len(place.names()) == 4


def test_the_hash_follows_every_value():
    place = pa.table({"a": ["x", "y"], "b": [1.0, 2.0]})
    other = pa.table({"a": ["x", "y"], "b": [1.0, 2.0000001]})
    split = pa.concat_tables([place.slice(0, 1), place.slice(1)])
    assert rows_sha256(place) == rows_sha256(split)
    assert rows_sha256(place) != rows_sha256(other)
    assert rows_sha256(place) != rows_sha256(place.rename_columns(["a", "c"]))
