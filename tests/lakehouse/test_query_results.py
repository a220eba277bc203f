"""Results as text and bytes, the catalogue file, and the catalogue in the documents."""

import csv
import io
import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from lakehouse.catalogue_docs import table_catalogue
from lakehouse.errors import InputError, VersionNotFoundError
from lakehouse.query import Session, connect, write_catalogue
from lakehouse.rendering import FORMATS, MAX_TABLE_ROWS, format_result
from lakehouse.schema.catalogue import TABLES
from lakehouse.sql.relations import NAMES
from lakehouse.store import Lake
from tests.simulators.lakehouse import START, bars, forecasts

REPOSITORY = Path(__file__).resolve().parents[2]
EVERY_KIND = """
SELECT 9223372036854775807 AS big, 170141183460469231731687303715884105727 AS huge,
       1.5::DECIMAL(5,2) AS price, 'nan'::DOUBLE AS nan, '-inf'::FLOAT AS inf, NULL AS nothing,
       TIMESTAMPTZ '2022-03-04 21:00:00+00' AS hour,
       TIMESTAMPTZ '1969-12-31 23:59:59.25+00' AS early, TIMESTAMP '2020-01-01' AS naive,
       DATE '2020-02-29' AS day, INTERVAL 1 MONTH AS span, true AS yes,
       [TIMESTAMPTZ '2022-03-04 21:00:00+00'] AS hours, [[1.5::FLOAT]] AS paths,
       {'a': 1} AS record, MAP {'k': 2} AS lookup, x'00ff' AS raw,
       e'a"b,c\\n\\x1b[31m é' AS text
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A lake with bars and forecasts."""
    from tests.simulators.lakehouse import open_lake

    lake = open_lake(tmp_path_factory.mktemp("results") / "lake")
    lake.append("ohlcv", bars(), window="a")
    lake.append("ml_predictions", forecasts([START]), window="f")
    return lake.root


@pytest.fixture(scope="module")
def session(root: str) -> Session:
    with connect(root) as session:
        yield session


def test_json_is_an_array_of_objects_that_any_reader_parses(session: Session) -> None:
    (row,) = json.loads(format_result(session.sql(EVERY_KIND), "json"))
    assert row["big"] == 9223372036854775807
    assert row["huge"] == pytest.approx(1.7e38, rel=0.01)
    assert (row["price"], row["nan"], row["inf"], row["nothing"]) == (1.5, *[None] * 3)
    assert row["hour"] == "2022-03-04T21:00:00Z"
    assert row["early"] == "1969-12-31T23:59:59.250000Z"
    assert row["naive"] == "2020-01-01T00:00:00"
    assert (row["day"], row["span"], row["yes"]) == ("2020-02-29", "P1M0DT0S", True)
    assert row["hours"] == ["2022-03-04T21:00:00Z"]
    assert (row["paths"], row["record"], row["lookup"]) == ([[1.5]], {"a": 1}, {"k": 2})
    assert (row["raw"], row["text"]) == ("00ff", 'a"b,c\n\x1b[31m é')
    assert json.loads(format_result(session.sql("FROM runs"), "json")) == []


def test_csv_survives_its_own_reader(session: Session) -> None:
    text = format_result(session.sql(EVERY_KIND), "csv")
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["text"], row["nothing"], row["yes"]) == (
        'a"b,c\n\x1b[31m é',
        "",
        "true",
    )
    assert json.loads(row["hours"]) == ["2022-03-04T21:00:00Z"]
    assert format_result(session.sql("SELECT 1 AS a WHERE false"), "csv") == "a\n"


def test_parquet_is_a_file_with_the_same_rows(session: Session) -> None:
    result = session.sql("FROM ohlcv")
    stored = pq.read_table(io.BytesIO(format_result(result, "parquet")))
    assert stored.equals(result.arrow())
    with pytest.raises(InputError, match=r"^--format parquet: .*; cast the column$"):
        format_result(session.sql("SELECT INTERVAL 1 MONTH"), "parquet")


def test_a_table_is_aligned_and_cannot_steer_the_terminal(session: Session) -> None:
    text = format_result(
        session.sql("SELECT symbol, count(*) AS n FROM ohlcv GROUP BY 1")
    )
    head, rule, *rows, count = text.splitlines()
    assert (head, rule, count) == ("symbol |  n", "-------+---", "(3 rows)")
    assert all(row.endswith("| 24") for row in rows)
    assert "\x1b" not in format_result(session.sql(EVERY_KIND))
    long = format_result(session.sql(f"FROM range({MAX_TABLE_ROWS + 7})"))
    assert "… 7 more rows" in long
    assert long.endswith("(507 rows)\n")


def test_values_without_a_form_are_said(session: Session) -> None:
    for value in ("'infinity'::TIMESTAMPTZ", "'infinity'::DATE", "['infinity'::DATE]"):
        for fmt in ("json", "csv", "table"):
            with pytest.raises(InputError, match=r"column 'x': .*; cast it to text"):
                format_result(session.sql(f"SELECT {value} AS x"), fmt)
    with pytest.raises(InputError, match=r"'xml': one of table, json, csv, parquet"):
        format_result(session.sql("SELECT 1"), "xml")
    assert FORMATS == ("table", "json", "csv", "parquet")


def test_a_catalogue_opens_in_any_duckdb(root: str, tmp_path: Path) -> None:
    path = tmp_path / "lake.duckdb"
    assert write_catalogue(root, path) == len(NAMES)
    with duckdb.connect(str(path), read_only=True) as own:
        assert own.execute("SELECT count(*) FROM ohlcv_1h").fetchall() == [(72,)]
        assert own.execute("SELECT count(*) FROM ohlcv_latest").fetchall() == [(3,)]
        assert own.execute("FROM signal_performance").fetchall() == []
        described = dict(
            own.execute(
                "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal"
            ).fetchall()
        )
        versions = dict(own.execute("FROM lake_versions").fetchall())
        (close,) = own.execute(
            "SELECT comment FROM duckdb_columns()"
            " WHERE table_name = 'ohlcv' AND column_name = 'close'"
        ).fetchone()
    assert described["ohlcv"] == TABLES["ohlcv"].description
    assert versions == {"ohlcv": 1, "ml_predictions": 1}
    assert close == "Last price. [quote currency]"
    assert [entry.name for entry in tmp_path.iterdir()] == ["lake.duckdb"]


def test_a_catalogue_is_replaced_and_nothing_else_is(
    lake: Lake, tmp_path: Path
) -> None:
    lake.append("ohlcv", bars(), window="a")
    path = tmp_path / "c.duckdb"
    write_catalogue(lake.root, path)
    lake.append("ohlcv", bars(symbols=("XAU",)), window="b")
    write_catalogue(lake.root, path)
    with duckdb.connect(str(path), read_only=True) as own:
        assert own.execute("SELECT count(*) FROM ohlcv").fetchall() == [(96,)]
    write_catalogue(lake.root, path, at="ohlcv=1")
    with duckdb.connect(str(path), read_only=True) as own:
        assert own.execute("SELECT count(*) FROM ohlcv").fetchall() == [(72,)]
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    other = tmp_path / "other.duckdb"
    with duckdb.connect(str(other)) as own:
        own.execute("CREATE TABLE precious AS SELECT 1")
    for target, message in (
        (notes, r"not a catalogue"),
        (other, r"not a catalogue"),
        (Path(lake.root) / "c.duckdb", r"outside the lake"),
        (tmp_path / "no" / "c.duckdb", r"no folder"),
    ):
        with pytest.raises(InputError, match=message):
            write_catalogue(lake.root, target)
    with pytest.raises(VersionNotFoundError, match=r"no version 9"):
        write_catalogue(lake.root, path, at="ohlcv=9")
    assert notes.read_text() == "mine"


@pytest.mark.s3
def test_a_catalogue_of_s3_is_refused(s3_root: str, tmp_path: Path) -> None:
    from tests.simulators.lakehouse import open_lake

    open_lake(s3_root).append("ohlcv", bars(), window="a")
    with pytest.raises(InputError, match=r"needs a lake on this machine"):
        write_catalogue(s3_root, tmp_path / "c.duckdb")


def test_the_table_catalogue_in_the_documents_is_fresh() -> None:
    stored = (REPOSITORY / "docs" / "tables.md").read_text(encoding="utf-8")
    assert stored == table_catalogue(), (
        "python -m lakehouse.catalogue_docs > docs/tables.md"
    )


def test_the_table_catalogue_names_every_column() -> None:
    text = table_catalogue()
    for spec in TABLES.values():
        section = text.split(f"\n## {spec.name}\n")[1].split("\n## ")[0]
        for column in spec.columns:
            assert f"| `{column.name}` |" in section
