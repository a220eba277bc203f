"""One reading statement passes; whatever else is refused, wherever it hides."""

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import InputError, QueryError, QueryRefusedError
from lakehouse.sql.gate import TABLE_FUNCTIONS, check_query
from lakehouse.sql.relations import NAMES

READING = (
    "SELECT 1",
    "select 1;",
    "; select 1",
    "/* what */ SELECT 1 -- why",
    "WITH t AS (SELECT 1 AS a) SELECT * FROM t",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) FROM r",
    "WITH RECURSIVE r(n) USING KEY (n) AS (SELECT 1 UNION SELECT n FROM recurring.r) FROM r",
    "WITH ohlcv AS (SELECT 1 AS a) FROM ohlcv",
    "FROM ohlcv",
    "FROM main.ohlcv",
    "TABLE ohlcv",
    "VALUES (1), (2)",
    "DESCRIBE ohlcv",
    "DESC SELECT 1",
    "SUMMARIZE ohlcv",
    "SHOW TABLES",
    "SHOW ohlcv",
    "SELECT * FROM (DESCRIBE ohlcv)",
    "EXPLAIN SELECT 1",
    "explain /* now */ from ohlcv",
    "(SELECT 1) UNION ALL (SELECT 2) EXCEPT SELECT 3 ORDER BY 1 LIMIT 1",
    "PIVOT ohlcv ON symbol IN ('BTC', 'SPX') USING max(close)",
    "SELECT * FROM (PIVOT ohlcv ON symbol IN ('BTC') USING max(close) GROUP BY ts)",
    "UNPIVOT ohlcv ON open, close",
    "SELECT * FROM ohlcv ASOF JOIN economic_calendar c ON ohlcv.ts >= c.ts",
    "SELECT symbol, row_number() OVER (PARTITION BY symbol ORDER BY ts) FROM ohlcv",
    "SELECT [x + 1 FOR x IN [1, 2]], list_filter([1], lambda x: x > 0), {'a': 1}.a",
    "SELECT count(*) FILTER (WHERE close > 1), CASE WHEN true THEN 1 END FROM ohlcv",
    "SELECT $1, CAST(? AS INTEGER)",
    "SELECT * EXCLUDE (open) REPLACE (1 AS close) FROM ohlcv TABLESAMPLE 10%",
    "SELECT * FROM range(3), unnest([1, 2])",
    "SELECT comment FROM duckdb_views() UNION SELECT table_name FROM duckdb_columns",
    "SELECT * FROM information_schema.columns",
    'SELECT \'COPY x TO y\', "copy" FROM (SELECT 1 AS "copy")',
)
REFUSED = (
    "COPY ohlcv TO '/tmp/x'",
    "COPY (SELECT 1) TO '/tmp/x' (FORMAT parquet, USE_TMP_FILE false)",
    "CoPy ohlcv FROM '/etc/passwd'",
    "EXPLAIN ANALYZE SELECT 1",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/x'",
    "EXPLAIN/**/ANALYZE/**/SELECT 1",
    "EXPLAIN (ANALYZE) SELECT 1",
    "EXPLAIN (FORMAT json, ANALYZE) SELECT 1",
    "explain /* /* */ */ analyze select 1",
    "EXPLAIN COPY (SELECT 1) TO '/tmp/x'",
    "EXPLAIN CREATE TABLE t AS SELECT 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '/tmp/x'",
    "SELECT $$;$$; DROP VIEW ohlcv",
    "WITH t AS (COPY (SELECT 1) TO '/tmp/x') FROM t",
    "WITH t AS (INSERT INTO ohlcv VALUES (1) RETURNING *) FROM t",
    "WITH t AS (DELETE FROM ohlcv RETURNING *) FROM t",
    "WITH t AS (UPDATE ohlcv SET open = 1 RETURNING *) FROM t",
    "SELECT (WITH t AS (COPY (SELECT 1) TO '/tmp/x') SELECT count(*) FROM t)",
    "EXPLAIN WITH t AS (COPY (SELECT 1) TO '/tmp/x') FROM t",
    "PRAGMA version",
    "CALL range(3)",
    "SET threads = 1",
    "RESET threads",
    "USE main",
    "ATTACH '/tmp/x.duckdb'",
    "DETACH memory",
    "EXPORT DATABASE '/tmp/x'",
    "IMPORT DATABASE '/tmp/x'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "FORCE INSTALL httpfs",
    "CREATE TABLE t AS SELECT 1",
    "CREATE TEMP VIEW v AS SELECT 1",
    "CREATE MACRO m() AS TABLE FROM read_csv('/etc/passwd')",
    "CREATE SECRET s (TYPE s3)",
    "INSERT INTO ohlcv SELECT * FROM ohlcv",
    "DELETE FROM ohlcv",
    "UPDATE ohlcv SET open = 1",
    "TRUNCATE ohlcv",
    "DROP VIEW ohlcv",
    "ALTER VIEW ohlcv RENAME TO x",
    "COMMENT ON VIEW ohlcv IS 'x'",
    "MERGE INTO ohlcv USING runs ON true WHEN MATCHED THEN DELETE",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "BEGIN",
    "COMMIT",
    "CHECKPOINT",
    "VACUUM",
    "PIVOT ohlcv ON symbol USING max(close)",
    "FROM read_csv('/etc/passwd')",
    "FROM main.read_text('/etc/passwd')",
    "SELECT * FROM read_parquet('/tmp/x')",
    "SELECT * FROM parquet_scan('/tmp/x')",
    "SELECT * FROM parquet_metadata('/tmp/x')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM which_secret('s3://x', 's3')",
    "SELECT * FROM query('COPY (SELECT 1) TO ''/tmp/x''')",
    "SELECT * FROM query_table('ohlcv')",
    "SELECT * FROM checkpoint()",
    "SELECT * FROM enable_logging()",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM (SELECT * FROM ((SELECT * FROM read_csv('/etc/passwd'))))",
    "SELECT getenv('HOME')",
    "SELECT \"getenv\"('HOME')",
    "SELECT current_setting('home_directory')",
    "SELECT getvariable('x')",
    "SELECT write_log('x')",
    "SELECT nextval('s')",
    "SELECT sleep_ms(1000)",
    "SELECT * FROM ohlcv AT (VERSION => 1)",
    "SELECT 1\0; COPY x TO y",
)
WRONG = (
    "",
    "  -- nothing",
    "SELEC 1",
    "SELECT 'unclosed",
    "FROM '/etc/passwd'",
    "SELECT * FROM '/etc/*.csv'",
    'FROM "/etc/passwd"',
    "FROM 's3://bucket/x.parquet'",
    "DESCRIBE '/etc/passwd'",
    "SHOW '/etc/passwd'",
    "FROM pg_catalog.pg_settings",
    "FROM temp.ohlcv",
    "FROM ohlvc",
    "s\u0435lect 1",
    "SELECT '\ud800'",
)


@pytest.fixture(scope="module")
def parser():
    with duckdb.connect() as connection:
        yield connection


def refusal(parser, sql: str) -> str | None:
    """Return why a statement is refused, None if it passes."""
    try:
        check_query(parser, sql, NAMES)
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("sql", READING)
def test_a_reading_statement_passes(parser, sql: str) -> None:
    assert check_query(parser, sql, NAMES).text


@pytest.mark.parametrize("sql", REFUSED)
def test_any_other_statement_is_refused(parser, sql: str) -> None:
    with pytest.raises(QueryRefusedError, match=r"^[^\n]+$"):
        check_query(parser, sql, NAMES)


@pytest.mark.parametrize("sql", WRONG)
def test_wrong_sql_is_said_in_one_line(parser, sql: str) -> None:
    with pytest.raises(QueryError, match=r"^[^\n]+$"):
        check_query(parser, sql, NAMES)


def test_the_parser_alone_would_let_a_copy_through(parser) -> None:
    # Why the tree is walked: if this fails, the gate may become simpler.
    hidden = "WITH t AS (COPY (SELECT 1) TO '/nowhere/x') SELECT * FROM t"
    (statement,) = parser.extract_statements(hidden)
    assert statement.type.name == "SELECT"


PLACES = (
    "SELECT ({0})",
    "SELECT * FROM ({0})",
    "SELECT * FROM ohlcv WHERE symbol IN ({0})",
    "SELECT * FROM ohlcv WHERE EXISTS ({0})",
    "SELECT * FROM ohlcv ORDER BY ({0})",
    "SELECT * FROM ohlcv LIMIT ({0})",
    "SELECT * FROM ohlcv LIMIT 1 OFFSET ({0})",
    "SELECT max(close) FROM ohlcv GROUP BY ({0})",
    "SELECT max(close) FROM ohlcv HAVING ({0}) > 1",
    "SELECT close FROM ohlcv QUALIFY row_number() OVER (ORDER BY ({0})) = 1",
    "SELECT sum(close) OVER (PARTITION BY ({0})) FROM ohlcv",
    "SELECT sum(close) FILTER (WHERE ({0}) > 1) FROM ohlcv",
    "SELECT list(close ORDER BY ({0})) FROM ohlcv",
    "SELECT CASE WHEN ({0}) > 1 THEN 1 ELSE 2 END",
    "SELECT [({0}), 1], {{'a': ({0})}}, MAP {{1: ({0})}}",
    "SELECT [x + ({0}) FOR x IN [1]]",
    "SELECT list_transform([1], lambda x: x + ({0}))",
    "SELECT * REPLACE (({0}) AS close) FROM ohlcv",
    "SELECT DISTINCT ON (({0})) close FROM ohlcv",
    "SELECT CAST(({0}) AS INTEGER) BETWEEN 1 AND ({0})",
    "SELECT * FROM ohlcv JOIN ({0}) AS b ON true",
    "SELECT * FROM ohlcv JOIN runs ON ({0}) > 1",
    "SELECT * FROM ohlcv, LATERAL ({0}) AS b",
    "SELECT * FROM range(({0}))",
    "SELECT * FROM unnest([({0})])",
    "WITH a AS ({0}) FROM a",
    "WITH a AS MATERIALIZED ({0}) FROM a",
    "WITH RECURSIVE a AS (SELECT 1 UNION ALL ({0})) FROM a",
    "SELECT 1 UNION ALL ({0})",
    "({0}) EXCEPT SELECT 1",
    "VALUES (({0}))",
    "DESCRIBE {0}",
    "SUMMARIZE {0}",
    "EXPLAIN {0}",
    "SELECT * FROM (SUMMARIZE {0})",
    "PIVOT ({0}) ON symbol IN ('BTC') USING max(close)",
    "PIVOT ohlcv ON symbol IN ('BTC') USING max(({0}))",
    "UNPIVOT ({0}) ON close",
    "SELECT COLUMNS(c -> c = ({0})) FROM ohlcv",
    "SELECT ({0})[1:2], ({0}) COLLATE nocase, ({0}) IS NULL, NOT ({0})",
)
HIDDEN = (
    "WITH t AS (COPY (SELECT 1) TO '/tmp/x') SELECT 1 FROM t",
    "WITH t AS (INSERT INTO runs VALUES (1) RETURNING *) SELECT 1 FROM t",
    "SELECT 1 FROM read_csv('/etc/passwd')",
    "SELECT getenv('HOME')",
)


@pytest.mark.parametrize("place", PLACES)
def test_nothing_hides_inside_a_query(parser, place: str) -> None:
    for hidden in HIDDEN:
        with pytest.raises(InputError, match=r"not allowed|syntax error|PIVOT"):
            check_query(parser, place.format(hidden), NAMES)


@pytest.mark.parametrize("place", PLACES)
def test_the_same_places_take_a_harmless_query(parser, place: str) -> None:
    # Else the test above would prove nothing about them.
    assert check_query(parser, place.format("SELECT 1"), NAMES).text


def test_every_table_function_of_duckdb_is_decided(parser) -> None:
    found = {
        name
        for (name,) in parser.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions()"
            " WHERE function_type IN ('table', 'table_macro')"
        ).fetchall()
    }
    assert found >= TABLE_FUNCTIONS
    reaching = {
        n for n in found if any(w in n for w in ("read", "scan", "glob", "parquet"))
    }
    assert not reaching & TABLE_FUNCTIONS


def test_names_say_what_must_be_opened(parser) -> None:
    sql = "WITH runs AS (FROM OHLCV) FROM runs JOIN signal_performance USING (symbol)"
    checked = check_query(parser, sql, NAMES)
    assert checked.relations == {"ohlcv", "signal_performance", "runs"}
    assert not checked.is_about_catalogue
    assert check_query(parser, "SHOW TABLES", NAMES).is_about_catalogue


def test_an_unknown_table_is_answered_with_near_names(parser) -> None:
    with pytest.raises(QueryError, match=r"no table 'ohlvc'; did you mean ohlcv"):
        check_query(parser, "FROM ohlvc", NAMES)


def test_a_syntax_error_says_where(parser) -> None:
    with pytest.raises(QueryError, match=r"^line 2, column 12: syntax error"):
        check_query(parser, "SELECT 1\nFROM ohlcv FOR", NAMES)
    late = "SELECT " + "1, " * 80 + "2 2"
    with pytest.raises(QueryError, match=rf"^line 1, column {len(late)}: "):
        check_query(parser, late, NAMES)


def test_deep_nesting_and_huge_text_end_in_one_line(parser) -> None:
    for sql in (
        "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
        "SELECT " + "[" * 900 + "]" * 900,
        "SELECT * FROM " + "(SELECT * FROM " * 900 + "ohlcv" + ")" * 900,
        "SELECT '" + "x" * 1_000_001 + "'",
    ):
        assert "\n" not in (refusal(parser, sql) or "")


FRAGMENTS = st.sampled_from(
    (
        "SELECT 1", "SELECT * FROM ohlcv", ";", "COPY", "TO '/tmp/x'", "(", ")", "WITH t AS",
        "FROM t", "EXPLAIN", "ANALYZE", "/*", "*/", "--", "\n", "'", '"', "$$", "FROM",
        "read_csv('/etc/passwd')", "INSERT INTO runs", "VALUES (1)", "RETURNING *", ",",
        "PRAGMA", "ATTACH 'x'", "UNION", "SET x = 1", "\u00a0", "\u017felect", "1", "é",
    )
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=9).map(" ".join))
@settings(max_examples=300, deadline=None)
def test_whatever_passes_is_a_tree_without_writes(parser, sql: str) -> None:
    if (reason := refusal(parser, sql)) is not None:
        assert "\n" not in reason
        return
    text = check_query(parser, sql, NAMES).text.removeprefix("EXPLAIN ")
    ((tree,),) = parser.execute("SELECT json_serialize_sql(?)", [text]).fetchall()
    for word in ("COPY_QUERY", "INSERT_QUERY", "DELETE_QUERY", "read_csv"):
        assert word not in tree
