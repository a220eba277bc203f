"""The write path: exactly once per window, once per key, whole commits."""

import itertools
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.clock import Clock
from lakehouse.errors import (
    InputError,
    QueryError,
    RefusedError,
    SchemaError,
    StoreError,
    TableNotFoundError,
    UnsupportedTableError,
    VersionNotFoundError,
)
from lakehouse.schema._columns import text
from lakehouse.schema._spec import TEXT, ColumnSpec, TableSpec
from lakehouse.schema.catalogue import TABLES, table_spec
from lakehouse.storage.commits import TableHandle
from lakehouse.storage.location import Location
from lakehouse.store import Lake
from tests.simulators.lakehouse import (
    NOW,
    START,
    bars,
    log_entries,
    newest_by_scan,
    newest_kept,
    open_lake,
    rows_of,
    tamper_file,
)

FEW = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def changed(rows: pa.Table, factor: float = 1.5) -> pa.Table:
    """Return the same bars at other prices."""
    for name in ("open", "high", "low", "close"):
        spot = rows.schema.get_field_index(name)
        rows = rows.set_column(spot, name, pc.multiply(rows[name], factor))
    return rows


def hours(n: int) -> timedelta:
    return timedelta(hours=n)


def test_a_table_never_written_is_empty_and_has_no_version(lake: Lake) -> None:
    assert lake.version("ohlcv") is None
    assert lake.read("ohlcv").schema == table_spec("ohlcv").to_arrow()
    assert lake.read("ohlcv").num_rows == 0
    assert lake.data_files("ohlcv") == []
    assert not lake.has_window("ohlcv", "w")
    assert not Path(lake.root).exists()
    with pytest.raises(VersionNotFoundError, match="never written"):
        lake.table_id("ohlcv")


def test_rows_come_back_as_they_were_stored(lake: Lake) -> None:
    commit = lake.append("ohlcv", bars(), window="w")
    assert (commit.n_rows, commit.n_skipped, commit.is_new) == (72, 0, True)
    stored = lake.read("ohlcv")
    assert stored.schema == table_spec("ohlcv").to_arrow()
    assert rows_of(stored) == rows_of(bars())


def test_the_same_window_twice_changes_nothing(lake: Lake) -> None:
    first = lake.append("ohlcv", bars(), window="f/ohlcv/w")
    again = lake.append("ohlcv", bars(), window="f/ohlcv/w")
    assert not again.is_new
    assert again.n_rows == 0
    assert lake.version("ohlcv") == first.version
    assert lake.has_window("ohlcv", "f/ohlcv/w")


def test_one_commit_carries_many_windows(lake: Lake) -> None:
    lake.append("ohlcv", bars(), window=["a", "b"])
    assert lake.has_window("ohlcv", "a")
    assert lake.has_window("ohlcv", "b")
    later = lake.append("ohlcv", bars(30), window=["b", "c"])
    assert (later.n_rows, later.n_skipped) == (18, 72)


def test_an_empty_window_is_done_without_rows(lake: Lake) -> None:
    commit = lake.append("ohlcv", bars(0), window="quiet")
    assert commit.is_new
    assert lake.has_window("ohlcv", "quiet")
    assert lake.read("ohlcv").num_rows == 0


def test_an_append_without_a_window_is_refused(lake: Lake) -> None:
    with pytest.raises(InputError, match="needs a window"):
        lake.append("ohlcv", bars(), window=[])
    with pytest.raises(InputError, match="1 to 512"):
        lake.append("ohlcv", bars(), window="")


def test_a_window_the_log_forgot_is_recognised_by_its_keys(lake: Lake) -> None:
    lake.append("ohlcv", bars(), window="known")
    late = bars(ingested_at=NOW + hours(1))
    commit = lake.append("ohlcv", late, window="same rows, other name")
    assert (commit.n_rows, commit.n_skipped) == (0, 72)
    assert lake.read("ohlcv").num_rows == 72


def test_a_stored_key_with_other_content_is_refused_by_name(lake: Lake) -> None:
    lake.append("ohlcv", bars(), window="a")
    with pytest.raises(SchemaError, match=r"symbol=BTC.*2024-01-01T00:00.*upsert"):
        lake.append("ohlcv", changed(bars()), window="b")
    assert lake.version("ohlcv") == 1
    assert not lake.has_window("ohlcv", "b")


def test_a_key_given_twice_is_refused_by_name(lake: Lake) -> None:
    rows = pa.concat_tables([bars(3), bars(1, symbols=("SPX",))])
    with pytest.raises(SchemaError, match=r"symbol=SPX.*given twice"):
        lake.append("ohlcv", rows, window="w")


@FEW
@given(order=st.permutations(range(4)).flatmap(lambda p: st.just([*p, *p[::-1]])))
def test_windows_in_any_order_and_twice_leave_equal_tables(
    order: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = open_lake(tmp_path_factory.mktemp("any-order"))
    for window in order:
        # Neighbouring windows share bars, as feeds do.
        rows = bars(8, start=START + hours(6 * window))
        lake.append("ohlcv", rows, window=f"feed/ohlcv/{window}")
    stored = lake.read("ohlcv")
    assert rows_of(stored) == rows_of(bars(26))
    assert newest_kept(lake) == newest_by_scan(stored)


@FEW
@given(
    corrections=st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 12), st.integers(1, 3)),
        min_size=1,
        max_size=4,
    )
)
def test_upserts_equal_a_dictionary(
    corrections: list[tuple[int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = open_lake(tmp_path_factory.mktemp("upserts"))
    lake.append("ohlcv", bars(24), window="a")
    lake.append("ohlcv", bars(12, start=START + hours(24)), window="b")
    names = ("symbol", "timeframe", "ts", "close")
    expected = {row[:3]: row for row in rows_of(bars(36), *names)}
    for first, n_bars, scale in corrections:
        rows = changed(bars(n_bars, start=START + hours(first)), 1 + scale)
        lake.upsert("ohlcv", rows)
        expected |= {row[:3]: row for row in rows_of(rows, *names)}
    stored = lake.read("ohlcv")
    assert rows_of(stored, *names) == sorted(expected.values(), key=repr)
    assert newest_kept(lake) == newest_by_scan(stored)


def test_an_upsert_twice_leaves_one_row_per_key(lake: Lake) -> None:
    lake.append("ohlcv", bars(), window="a")
    rows = changed(bars(30))
    first, second = lake.upsert("ohlcv", rows), lake.upsert("ohlcv", rows)
    assert (first.n_rows, first.n_skipped) == (90, 0)
    assert (second.n_rows, second.n_skipped, second.is_new) == (0, 90, False)
    assert second.version == first.version
    assert rows_of(lake.read("ohlcv")) == rows_of(rows)


def test_an_upsert_under_a_window_is_done_once(lake: Lake) -> None:
    lake.append("ohlcv", bars(), window="a")
    lake.upsert("ohlcv", changed(bars()), window="fix/1")
    again = lake.upsert("ohlcv", changed(bars(), 3.0), window="fix/1")
    assert not again.is_new
    assert rows_of(lake.read("ohlcv")) == rows_of(changed(bars()))


def test_an_upsert_leaves_untouched_files_alone(lake: Lake) -> None:
    for day in range(4):
        lake.append("ohlcv", bars(24, start=START + hours(24 * day)), window=f"{day}")
    before = set(lake.data_files("ohlcv"))
    lake.upsert("ohlcv", changed(bars(1, start=START + hours(30))))
    assert len(before & set(lake.data_files("ohlcv"))) == 3


def test_replace_by_predicate_keeps_the_other_rows(lake: Lake) -> None:
    lake.append("ohlcv", bars(), window="a")
    rows = changed(bars(2, symbols=("BTC",)))
    lake.replace("ohlcv", rows, predicate="symbol = 'BTC'")
    lake.replace("ohlcv", rows, predicate="symbol = 'BTC'")
    expected = pa.concat_tables([rows, bars(symbols=("EURUSD", "SPX"))])
    assert rows_of(lake.read("ohlcv")) == rows_of(expected)
    assert newest_kept(lake) == newest_by_scan(expected)


def test_replace_whole_leaves_exactly_the_new_rows(lake: Lake) -> None:
    lake.append("ohlcv", bars(), window="a")
    lake.replace("ohlcv", bars(2), window="swap")
    assert not lake.replace("ohlcv", bars(9), window="swap").is_new
    assert rows_of(lake.read("ohlcv")) == rows_of(bars(2))


def test_replace_takes_times_with_an_offset_and_doubled_quotes(lake: Lake) -> None:
    lake.append("ohlcv", bars(4, symbols=("O'X",)), window="a")
    lake.replace(
        "ohlcv",
        bars(0),
        predicate="symbol = 'O''X' AND ts < '2024-01-01T04:00:00+02:00'",
    )
    assert lake.read("ohlcv").num_rows == 2


@pytest.mark.parametrize(
    ("predicate", "message"),
    [
        ("no_such = 1", "no_such"),
        ("symbol = 'A'; SELECT 1", "one condition|parser|Parser|syntax"),
        ("symbol = (SELECT content FROM read_text('/etc/passwd'))", "disabled|denied"),
    ],
)
def test_a_predicate_is_one_condition_over_the_table(
    lake: Lake, predicate: str, message: str
) -> None:
    lake.append("ohlcv", bars(1), window="a")
    with pytest.raises(QueryError, match=message):
        lake.replace("ohlcv", bars(0), predicate=predicate)


def test_replacing_rows_must_satisfy_the_predicate_and_clash_with_none(
    lake: Lake,
) -> None:
    lake.append("ohlcv", bars(), window="a")
    with pytest.raises(SchemaError, match="does not satisfy"):
        lake.replace("ohlcv", bars(1), predicate="symbol = 'BTC'")
    high = "close > 100000"
    with pytest.raises(SchemaError, match=r"symbol=BTC.*is stored outside"):
        lake.replace("ohlcv", changed(bars(1), 1e6), predicate=high)


def test_ledgers_take_appends_only(lake: Lake) -> None:
    for verb in (lake.upsert, lake.replace):
        rows = table_spec("decision_records").to_arrow().empty_table()
        with pytest.raises(RefusedError, match="append-only"):
            verb("decision_records", rows)


def test_an_undeclared_table_is_refused(lake: Lake) -> None:
    with pytest.raises(TableNotFoundError, match="no table 'bars'"):
        lake.append("bars", bars(), window="w")


def test_an_older_version_reads_as_it_was(lake: Lake) -> None:
    lake.append("ohlcv", bars(), window="a")
    lake.upsert("ohlcv", changed(bars()))
    assert rows_of(lake.read("ohlcv", version=1)) == rows_of(bars())
    assert lake.data_files("ohlcv", version=1) != lake.data_files("ohlcv")
    for version in (-1, 3):
        with pytest.raises(VersionNotFoundError, match=f"no version {version}"):
            lake.read("ohlcv", version=version)


def test_reads_choose_columns_and_rows(lake: Lake) -> None:
    lake.append("ohlcv", bars(), window="a")
    found = lake.read(
        "ohlcv", columns=["ts", "close"], filter=pc.field("symbol") == "BTC"
    )
    assert found.column_names == ["ts", "close"]
    assert found.num_rows == 24


def test_every_commit_carries_the_clock(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path), clock=Clock(NOW, "argument"))
    lake.append("ohlcv", bars(), window="a")
    lake.upsert("ohlcv", changed(bars()))
    history = DeltaTable(str(tmp_path / "tables" / "ohlcv")).history()
    assert [entry["alphalake.now"] for entry in history] == [NOW.isoformat()] * 3


def test_rows_lie_in_time_order_in_files_that_do_not_overlap(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.storage.layout.ROWS_PER_FILE", 500)
    lake.append("ohlcv", bars(1000), window="a")
    actions = pa.table(
        DeltaTable(f"{lake.root}/tables/ohlcv").get_add_actions(flatten=True)
    ).sort_by("min.ts")
    assert actions.num_rows == 6
    bounds = list(
        zip(actions["min.ts"].to_pylist(), actions["max.ts"].to_pylist(), strict=True)
    )
    assert all(a[1] < b[0] for a, b in itertools.pairwise(bounds))
    assert rows_of(lake.read("ohlcv")) == rows_of(bars(1000))


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_declared_table_can_be_created(lake: Lake, table: str) -> None:
    lake.append(table, table_spec(table).to_arrow().empty_table(), window="w")
    assert lake.version(table) is not None
    assert lake.read(table).schema == table_spec(table).to_arrow()


def test_a_column_declared_later_is_added_and_null_for_older_rows(
    tmp_path: Path,
) -> None:
    key = ("name",)
    before = TableSpec("toy", "A toy.", (text("name", "Name."),), key, sort_by=key)
    after = TableSpec(
        "toy",
        "A toy.",
        (text("name", "Name."), ColumnSpec("colour", TEXT, "Colour.")),
        key,
        sort_by=key,
    )
    location = Location.of(str(tmp_path))
    TableHandle(location, before, Clock()).ensure()
    widened = TableHandle(location, after, Clock()).ensure()
    fields = {field.name: field.nullable for field in widened.schema().fields}
    assert fields == {"name": False, "colour": True}


def test_a_table_with_deletion_vectors_is_refused(lake: Lake) -> None:
    lake.append("ohlcv", bars(), window="a")
    entry = log_entries(Path(lake.root), "ohlcv")[0]
    protocol = (
        '{"protocol":{"minReaderVersion":3,"minWriterVersion":7,'
        '"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}'
    )
    lines = [
        protocol if line.startswith('{"protocol"') else line
        for line in entry.read_text().splitlines()
    ]
    entry.write_text("\n".join(lines))
    with pytest.raises(UnsupportedTableError, match="deletionVectors"):
        open_lake(lake.root).read("ohlcv")


def test_a_damaged_data_file_is_an_error_of_ours(lake: Lake) -> None:
    lake.append("ohlcv", bars(), window="a")
    name = lake.data_files("ohlcv")[0]
    (Path(lake.root) / "tables" / "ohlcv" / name).write_bytes(b"nothing")
    with pytest.raises(StoreError, match="table ohlcv: cannot be read"):
        lake.read("ohlcv")
    (Path(lake.root) / "tables" / "ohlcv" / name).unlink()
    with pytest.raises(StoreError, match="table ohlcv: cannot be read"):
        lake.read("ohlcv")


def test_tampering_changes_a_byte_of_a_file(lake: Lake) -> None:
    lake.append("ohlcv", bars(), window="a")
    path = Path(lake.root) / "tables" / "ohlcv" / lake.data_files("ohlcv")[0]
    before = path.read_bytes()
    tamper_file(Path(lake.root), "ohlcv", path.name)
    assert path.read_bytes() != before


def test_a_root_that_is_a_file_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(StoreError, match="table ohlcv"):
        open_lake(tmp_path / "root").append("ohlcv", bars(), window="a")
    with pytest.raises(InputError, match="folder or s3://"):
        Lake.open("gs://bucket", clock=Clock())
