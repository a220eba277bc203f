"""Sessions: pinned, read-only, complete, and plain about what is wrong."""

import hashlib
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.errors import (
    InputError,
    LakehouseError,
    QueryError,
    QueryRefusedError,
    TableNotFoundError,
    UnsupportedTableError,
    VersionNotFoundError,
)
from lakehouse.query import Session, connect
from lakehouse.schema.catalogue import TABLES
from lakehouse.sql.relations import LATEST, NAMES, VIEWS
from lakehouse.store import Lake
from tests.lakehouse.test_gate import REFUSED
from tests.simulators.lakehouse import (
    NOW,
    START,
    bars,
    forecasts,
    log_entries,
    open_lake,
    rows_of,
)

DAY = timedelta(days=1)


def digests(root: Path) -> dict[str, str]:
    """Return the sha256 of every file under a root."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a lake with bars on three days and two forecasts."""
    root = tmp_path_factory.mktemp("query") / "lake"
    for day in range(3):
        lake = open_lake(root, now=NOW + day * DAY)
        lake.append("ohlcv", bars(start=START + day * DAY), window=f"day-{day}")
    lake.append("ml_predictions", forecasts([START, START + DAY]), window="f")
    return root


@pytest.fixture
def session(stored: Path) -> Session:
    with connect(str(stored)) as session:
        yield session


def scalar(session: Session, sql: str, params=None):
    ((value,),) = (row.values() for row in session.sql(sql, params).rows())
    return value


def test_every_declared_table_and_view_can_be_selected(session: Session) -> None:
    for name in sorted(NAMES):
        result = session.sql(f"FROM {name}")
        if name in TABLES:
            assert result.columns == [c.name for c in TABLES[name].columns]
            types = [c.dtype for c in TABLES[name].columns]
            assert result.arrow().schema.types == types
    listed = {row["name"] for row in session.sql("SHOW TABLES").rows()}
    assert listed == NAMES == {*TABLES, *VIEWS, *LATEST}


def test_a_lake_without_tables_has_them_all_empty(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    with connect(str(tmp_path / "lake")) as session:
        assert session.versions == {}
        assert scalar(session, "SELECT count(*) FROM ohlcv_latest") == 0
        assert len(session.sql("FROM signal_performance")) == 0


def test_rows_are_those_that_were_stored(session: Session, stored: Path) -> None:
    assert session.versions["ohlcv"] == 3
    found = session.sql("FROM ohlcv").arrow()
    assert rows_of(found) == rows_of(open_lake(stored).read("ohlcv"))
    assert found.schema.field("ts").type == pa.timestamp("us", tz="UTC")
    assert session.sql("FROM ohlcv LIMIT 3").pl().shape == (3, 11)


def test_a_session_keeps_its_versions_while_the_lake_grows(tmp_path: Path) -> None:
    lake = open_lake(tmp_path / "lake")
    lake.append("ohlcv", bars(), window="a")
    with connect(lake.root) as early:
        lake.append("ohlcv", bars(start=START + DAY), window="b")
        lake.upsert("ohlcv", bars(24, seed=9), window="c")
        assert scalar(early, "SELECT count(*) FROM ohlcv") == 72
        latest = "SELECT max(ts) FROM ohlcv_latest"
        assert scalar(early, latest) == START + timedelta(hours=23)
        with connect(lake.root) as late:
            assert scalar(late, "SELECT count(*) FROM ohlcv") == 144
            assert scalar(late, latest) == START + timedelta(hours=47)


def test_the_kept_and_the_computed_latest_rows_agree(stored: Path) -> None:
    with connect(str(stored)) as kept:
        kept_rows = {n: rows_of(kept.sql(f"FROM {n}").arrow()) for n in LATEST}
    for file in (stored / "latest").iterdir():
        file.rename(file.with_suffix(".away"))
    try:
        with connect(str(stored)) as computed:
            for name in LATEST:
                found = rows_of(computed.sql(f"FROM {name}").arrow())
                assert found == kept_rows[name]
    finally:
        for file in (stored / "latest").iterdir():
            file.rename(file.with_suffix(".arrow"))
    assert len(kept_rows["ohlcv_latest"]) == 3
    assert len(kept_rows["ml_predictions_latest"]) == 6


def test_parameters_are_values_and_never_text(session: Session) -> None:
    count = "SELECT count(*) FROM ohlcv WHERE symbol = "
    assert scalar(session, count + "?", ["BTC"]) == 72
    assert scalar(session, count + "$s", {"s": "BTC"}) == 72
    assert scalar(session, count + "?", ["x' OR '1' = '1"]) == 0
    assert scalar(session, "SELECT max(ts) FROM ohlcv WHERE ts < ?", [START + DAY])
    with pytest.raises(QueryError, match=r"^[^\n]+$"):
        session.sql("SELECT ?", [1, 2])
    with pytest.raises(QueryError, match=r"^[^\n]+$"):
        session.sql("SELECT ?", [object()])


def test_a_name_of_the_users_own_may_shadow_a_table(session: Session) -> None:
    assert scalar(session, "WITH ohlcv AS (SELECT 7 AS n) SELECT n FROM ohlcv") == 7
    shadowed = "WITH runs AS (FROM OHLCV) SELECT count(*) FROM runs"
    assert scalar(session, shadowed) == 216


def test_describe_summarize_explain_show_and_pivot_work(session: Session) -> None:
    described = session.sql("DESCRIBE ohlcv_1h").rows()
    assert described[0]["column_name"] == "symbol"
    assert len(session.sql("SUMMARIZE ohlcv")) == 11
    assert (
        "READ_PARQUET" in session.sql("EXPLAIN FROM ohlcv").rows()[0]["explain_value"]
    )
    pivot = session.sql("PIVOT ohlcv ON symbol IN ('BTC', 'SPX') USING count(*)")
    assert {"BTC", "SPX"} <= set(pivot.columns)


def test_the_catalogue_describes_itself(session: Session) -> None:
    comment = "SELECT comment FROM duckdb_views() WHERE view_name = ?"
    assert scalar(session, comment, ["ohlcv"]) == TABLES["ohlcv"].description
    columns = session.sql(
        "SELECT table_name, column_name, comment FROM duckdb_columns()"
        " WHERE schema_name = 'main' AND NOT internal"
    ).rows()
    told = {(c["table_name"], c["column_name"]): c["comment"] for c in columns}
    for spec in TABLES.values():
        for column in spec.columns:
            assert column.description in told[spec.name, column.name]
    assert "quote currency" in told["ohlcv_1d", "close"]
    assert scalar(session, "SELECT count(*) FROM ohlcv") == 216


def test_errors_are_one_line_with_the_place(session: Session) -> None:
    for sql, message in (
        ("SELECT nope FROM ohlcv", r"^line 1, column 8: .*nope"),
        ("SELECT ts,\n  foo(ts) FROM ohlcv", r"^line 2, column 3: .*foo"),
        ("SELECT CAST('a' AS INTEGER)", r"^line 1, column 8: "),
        ("SELECT error('no\nway')", r"^no way$"),
        ("FROM ohlcv_4h", r"no table 'ohlcv_4h'; did you mean ohlcv_1h"),
    ):
        with pytest.raises(QueryError, match=message) as caught:
            session.sql(sql)
        assert "\n" not in str(caught.value)


def test_repeated_columns_get_a_number(session: Session) -> None:
    result = session.sql("SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a")
    assert result.columns == ["a", "a_3", "a_2", "a_4"]
    assert result.rows() == [{"a": 1, "a_3": 2, "a_2": 3, "a_4": 4}]


def test_a_runaway_statement_is_stopped(stored: Path) -> None:
    with connect(str(stored), timeout_s=0.3) as session:
        endless = "SELECT count(*) FROM range(100000000) a, range(1000000) b"
        with pytest.raises(QueryError, match=r"stopped after 0\.3 s"):
            session.sql(endless)
        assert scalar(session, "SELECT 1") == 1
    with (
        connect(str(stored), memory_limit="50MB") as session,
        pytest.raises(QueryError, match=r"(?i)memory|disk"),
    ):
        session.sql("SELECT list(a || repeat('x', 1000)) FROM range(1000000) t(a)")


def test_nothing_spilled_is_left_behind(stored: Path, tmp_path: Path) -> None:
    code = (
        "from lakehouse.query import connect\n"
        f"with connect({str(stored)!r}, memory_limit='60MB', threads=1) as s:\n"
        "    s.sql('SELECT count(*) FROM (SELECT DISTINCT random() FROM range(4000000))')"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


def test_the_connection_is_not_handed_out(session: Session) -> None:
    public = [name for name in dir(session) if not name.startswith("_")]
    assert public == ["close", "files", "sql", "versions"]
    session.versions["ohlcv"] = 0
    assert session.versions["ohlcv"] == 3


HOSTILE = (
    *REFUSED,
    "COPY (SELECT 1) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
    "SELECT 1; COPY (SELECT 1) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
    "WITH t AS (COPY (SELECT 1) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)) FROM t",
    "WITH t AS (COPY ohlcv TO '{file}') SELECT (SELECT count(*) FROM t)",
    "EXPLAIN WITH t AS (COPY ohlcv TO '{file}' (USE_TMP_FILE false)) FROM t",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{file}''')",
    "SELECT * FROM read_parquet('{file}')",
    "FROM '{file}'",
    "ATTACH '{file}' AS x",
    "FROM '/etc/passwd'",
    "SELECT * FROM session",
    "SELECT * FROM bars",
)


def test_hostile_sql_changes_no_file_and_reads_none(
    stored: Path, session: Session
) -> None:
    bars = pa.table({"secret": ["python variable"]})
    assert bars.num_rows
    before = digests(stored)
    scalar(session, "SELECT count(*) FROM ohlcv")  # the files are readable now
    file = session.files("ohlcv").paths[0]
    for sql in HOSTILE:
        with pytest.raises((QueryError, QueryRefusedError), match=r"^[^\n]+$"):
            session.sql(sql.replace("{file}", file))
        assert digests(stored) == before


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{root}/new.csv'",
        "FROM read_csv('/etc/passwd')",
        "FROM read_text('{root}/tables/ohlcv/_delta_log/00000000000000000000.json')",
        "FROM glob('/etc/*')",
        "ATTACH '/tmp/x.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 1",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "FROM here",
    ],
)
def test_the_database_behind_the_gate_is_locked_too(
    session: Session, stored: Path, sql: str
) -> None:
    import duckdb

    here = pa.table({"secret": [1]})
    assert here.num_rows
    scalar(session, "SELECT count(*) FROM ohlcv")
    raw = session._Session__engine._connection
    with pytest.raises(duckdb.Error):
        raw.sql(sql.replace("{root}", str(stored))).fetchall()


STATEMENTS = st.lists(
    st.sampled_from(
        (
            *(s for s in HOSTILE if "/tmp" not in s),
            "SELECT 1",
            "FROM ohlcv LIMIT 1",
            "(",
            ")",
            ";",
            "WITH t AS (",
            ") FROM t",
            "--",
            "/*",
            "'",
            "EXPLAIN ",
        )
    ),
    min_size=1,
    max_size=4,
).map(" ".join)


@given(sql=STATEMENTS)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_random_statements_never_change_a_file(
    stored: Path, session: Session, sql: str
) -> None:
    before = digests(stored)
    file = session.files("ohlcv").paths[0]
    try:
        session.sql(sql.replace("{file}", file))
    except LakehouseError as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said
    assert digests(stored) == before


def test_time_travel_goes_by_the_clock_of_the_commits(stored: Path) -> None:
    for file in stored.rglob("*"):
        os.utime(file, (0, 0))  # a restored copy: file times say nothing
    for day, n_rows in ((0, 72), (1, 144), (2, 216)):
        at = (NOW + day * DAY + timedelta(hours=1)).isoformat()
        with connect(str(stored), at=at) as session:
            assert session.versions["ohlcv"] == day + 1
            assert scalar(session, "SELECT count(*) FROM ohlcv") == n_rows
            assert ("ml_predictions" in session.versions) == (day == 2)
            newest = START + day * DAY + timedelta(hours=23)
            assert scalar(session, "SELECT max(ts) FROM ohlcv_latest") == newest
    with pytest.raises(VersionNotFoundError, match=r"before the lake's first commit"):
        connect(str(stored), at="2024-05-31T23:59:59Z")


def test_versions_can_be_named(stored: Path) -> None:
    with connect(str(stored), at="ohlcv=1, ml_predictions=1") as session:
        assert session.versions == {"ohlcv": 1, "ml_predictions": 1}
        assert scalar(session, "SELECT count(*) FROM ohlcv") == 72
    for at, error, message in (
        ("ohlcv=9", VersionNotFoundError, r"ohlcv has no version 9: it has 0 to 3"),
        ("runs=0", VersionNotFoundError, r"never written"),
        ("nope=1", TableNotFoundError, r"no table 'nope'"),
        ("ohlcv=x", InputError, r"not TABLE=VERSION"),
        ("ohlcv=-1", InputError, r"not TABLE=VERSION"),
        ("yesterday", InputError, r"not an ISO 8601 time"),
    ):
        with pytest.raises(error, match=message):
            connect(str(stored), at=at)


def test_history_that_was_cleaned_up_is_said(lake: Lake) -> None:
    from deltalake import DeltaTable

    for day in range(4):
        later = open_lake(lake.root, now=NOW + day * DAY)
        later.append("ohlcv", bars(start=START + day * DAY), window=f"{day}")
    DeltaTable(f"{lake.root}/tables/ohlcv").create_checkpoint()
    for entry in log_entries(Path(lake.root), "ohlcv")[:4]:
        entry.unlink()
    with pytest.raises(VersionNotFoundError, match=r"4 to 4; older history"):
        connect(lake.root, at="ohlcv=2")
    with pytest.raises(VersionNotFoundError, match=r"begins at version 4 .*cleaned up"):
        connect(lake.root, at=NOW.isoformat())
    with connect(lake.root) as session:
        assert scalar(session, "SELECT count(*) FROM ohlcv") == 288


def test_a_version_without_its_files_is_said(lake: Lake) -> None:
    lake.append("ohlcv", bars(), window="a")
    with connect(lake.root) as session:
        Path(session.files("ohlcv").paths[0]).unlink()
        with pytest.raises(VersionNotFoundError, match=r"data file .* is gone"):
            session.sql("FROM ohlcv")
        assert scalar(session, "SELECT 1") == 1


def test_a_missing_root_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no lake at .*nowhere: run `alphalake init`"):
        connect(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_a_session_over_some_tables_knows_no_others(stored: Path) -> None:
    with connect(str(stored), tables=["ohlcv", "runs"]) as session:
        assert scalar(session, "SELECT count(*) FROM ohlcv_1h") == 216
        names = {row["name"] for row in session.sql("SHOW TABLES").rows()}
        assert names == {"ohlcv", "ohlcv_1h", "ohlcv_1d", "ohlcv_latest", "runs"}
        with pytest.raises(QueryError, match=r"no table 'ml_predictions'"):
            session.sql("FROM ml_predictions")
        with pytest.raises(TableNotFoundError, match=r"no table 'ml_predictions'"):
            session.files("ml_predictions")
    with pytest.raises(TableNotFoundError, match=r"no table 'nope'"):
        connect(str(stored), tables=["nope"])


def test_columns_declared_later_are_null_and_foreign_ones_left_out(lake: Lake) -> None:
    from deltalake import write_deltalake

    rows = (
        bars().drop_columns(["flags"]).append_column("extra", pa.nulls(72, pa.int64()))
    )
    write_deltalake(f"{lake.root}/tables/ohlcv", rows)
    with connect(lake.root) as session:
        found = session.sql("FROM ohlcv").arrow()
    assert found.column_names == [c.name for c in TABLES["ohlcv"].columns]
    assert found.column("flags").null_count == 72


def test_features_that_would_be_misread_are_refused(lake: Lake) -> None:
    lake.append("ohlcv", bars(), window="a")
    entry = log_entries(Path(lake.root), "ohlcv")[0]
    lines = []
    for line in entry.read_text().splitlines():
        action = json.loads(line)
        if "protocol" in action:
            action["protocol"] = {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": ["deletionVectors"],
                "writerFeatures": ["deletionVectors"],
            }
        lines.append(json.dumps(action))
    entry.write_text("\n".join(lines))
    with (
        connect(lake.root) as session,
        pytest.raises(UnsupportedTableError, match=r"deletionVectors"),
    ):
        session.sql("FROM ohlcv")


@pytest.mark.s3
def test_the_same_sql_runs_on_s3(s3_root: str) -> None:
    with pytest.raises(InputError, match=r"no lake at s3://"):
        connect(s3_root)
    for day in range(2):
        lake = open_lake(s3_root, now=NOW + day * DAY)
        lake.append("ohlcv", bars(start=START + day * DAY), window=f"{day}")
    with connect(s3_root) as session:
        assert session.versions == {"ohlcv": 2}
        assert scalar(session, "SELECT count(*) FROM ohlcv_1h") == 144
        # A column without statistics must not be taken for one without values.
        wanted = "close > 0 AND source = (SELECT min(source) FROM ohlcv)"
        assert scalar(session, f"SELECT count(*) FROM ohlcv WHERE {wanted}") == 144
        assert scalar(session, "SELECT max(ts) FROM ohlcv_latest") == START + timedelta(
            hours=47
        )
        assert len(session.sql("FROM runs")) == 0
        assert len(session.sql("SELECT comment FROM duckdb_views()"))
        with pytest.raises(QueryRefusedError, match=r"COPY"):
            session.sql("COPY ohlcv TO 's3://x/y'")
    with connect(s3_root, at=(NOW + timedelta(hours=1)).isoformat()) as session:
        assert scalar(session, "SELECT count(*) FROM ohlcv") == 72


def test_start_up_is_light() -> None:
    code = "import sys, lakehouse.query; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"pandas", "polars", "prefect", "torch", "s3fs", "aiobotocore", "tuf"}
    assert not heavy & set(done.stdout.split())
