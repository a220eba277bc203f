"""What a user's SQL may be: exactly one query that reads the tables of the lake.

The statement type that the parser reports is not enough: `WITH t AS (COPY … TO 'file')
SELECT …` is a SELECT to it, and a locked connection still writes the files it may read.
So the whole syntax tree is walked, and every node of it must be on a list of kinds that
only compute. A kind of node that is not on the list is refused, whatever it does.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

import duckdb

from lakehouse.errors import QueryError, QueryRefusedError

ALLOWED: Final = (
    "allowed is one SELECT (also WITH, FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW)"
    " or EXPLAIN of one"
)
TABLE_FUNCTIONS: Final = frozenset(
    {
        "duckdb_columns",
        "duckdb_functions",
        "duckdb_keywords",
        "duckdb_schemas",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "generate_series",
        "histogram",
        "histogram_values",
        "icu_calendar_names",
        "json_each",
        "json_tree",
        "pg_timezone_names",
        "pragma_table_info",
        "pragma_version",
        "range",
        "repeat",
        "repeat_row",
        "unnest",
    }
)
CATALOGUE_VIEWS: Final = frozenset(
    {
        "duckdb_columns",
        "duckdb_schemas",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "sqlite_master",
        "sqlite_schema",
    }
)
# These read or change state outside the query, or run text that no one has checked.
_REFUSED_FUNCTIONS: Final = frozenset(
    {
        "current_setting",
        "currval",
        "getenv",
        "getvariable",
        "nextval",
        "query",
        "query_table",
        "set_config",
        "setseed",
        "sleep",
        "sleep_ms",
        "write_log",
    }
)
_CATALOGUE_FUNCTIONS: Final = frozenset({*CATALOGUE_VIEWS, "pragma_table_info"})
_NODES: Final = frozenset(
    {
        "ASCENDING",
        "BASE_TABLE",
        "CTE_NODE",
        "DESCENDING",
        "DISTINCT_MODIFIER",
        "EMPTY",
        "EXPRESSION_LIST",
        "JOIN",
        "LIMIT_MODIFIER",
        "LIMIT_PERCENT_MODIFIER",
        "ORDER_DEFAULT",
        "ORDER_MODIFIER",
        "PIVOT",
        "RECURSIVE_CTE_NODE",
        "SELECT_NODE",
        "SET_OPERATION_NODE",
        "SHOW_REF",
        "SUBQUERY",
        "TABLE_FUNCTION",
    }
)
_EXPRESSIONS: Final = frozenset(
    {
        "BETWEEN",
        "CASE",
        "CAST",
        "COLLATE",
        "COLUMN_REF",
        "COMPARISON",
        "CONJUNCTION",
        "CONSTANT",
        "DEFAULT",
        "FUNCTION",
        "LAMBDA",
        "LAMBDA_REF",
        "OPERATOR",
        "PARAMETER",
        "POSITIONAL_REFERENCE",
        "STAR",
        "SUBQUERY",
        "TYPE",
        "WINDOW",
    }
)
_SHOWN: Final = frozenset(
    {"tables", "databases", "schemas", "variables", "__show_tables_expanded"}
)
_SCHEMAS: Final = frozenset({"", "main", "memory"})
_EXPLAIN: Final = re.compile(
    r"\A(?:\s|--[^\n]*\n|/\*(?:(?!/\*).)*?\*/)*explain\b(.*)\Z",
    re.IGNORECASE | re.DOTALL,
)
_ANALYZE: Final = re.compile(r"\A\s*(?:\(.*)?analy[sz]e\b", re.IGNORECASE | re.DOTALL)
_AT_LINE: Final = re.compile(r"^LINE (\d+): (.*)\n( *)\^", re.MULTILINE)
_COPY: Final = re.compile(rb"copy\b", re.IGNORECASE)
_MAX_CHARACTERS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class CheckedQuery:
    """One statement that only reads.

    Attributes
    ----------
    text : str
        What to run.
    relations : frozenset of str
        Tables and views of the lake that it names, in lower case.
    is_about_catalogue : bool
        Whether it asks which tables or columns exist.
    """

    text: str
    relations: frozenset[str]
    is_about_catalogue: bool


@dataclass(slots=True)
class _Findings:
    names: list[str] = field(default_factory=list)
    local_names: set[str] = field(default_factory=set)
    is_about_catalogue: bool = False


def check_query(
    connection: duckdb.DuckDBPyConnection, sql: str, known: frozenset[str]
) -> CheckedQuery:
    """Let through one statement that only reads the lake.

    Parameters
    ----------
    connection : DuckDBPyConnection
        Used to parse, never to run `sql`.
    sql : str
        As the user wrote it.
    known : frozenset of str
        Tables and views of the lake, in lower case.

    Raises
    ------
    QueryRefusedError
        If it is anything but one reading statement.
    QueryError
        If it cannot be parsed or names an unknown table.
    """
    _check_characters(sql)
    text, prefix = _single_statement(connection, sql)
    findings = _walk(_syntax_tree(connection, text))
    unknown = [
        name
        for name in findings.names
        if name.lower() not in known and name.lower() not in findings.local_names
    ]
    if unknown:
        raise QueryError(_no_such_table(unknown[0], known))
    return CheckedQuery(
        prefix + text,
        frozenset(name.lower() for name in findings.names) & known,
        findings.is_about_catalogue,
    )


def _check_characters(sql: str) -> None:
    if len(sql) > _MAX_CHARACTERS:
        raise QueryRefusedError(f"query of {len(sql)} characters: at most 1,000,000")
    try:
        raw = sql.encode()
    except UnicodeError as error:
        raise QueryError("query is not valid Unicode text") from error
    if b"\0" in raw:
        raise QueryRefusedError("query contains a NUL character")
    # A second lock on the one statement that writes files: its bare word nowhere.
    for position, kind in duckdb.tokenize(sql):
        if kind == duckdb.token_type.keyword and _COPY.match(raw, position):
            raise QueryRefusedError(f"COPY is not allowed: {ALLOWED}")


def _single_statement(
    connection: duckdb.DuckDBPyConnection, sql: str
) -> tuple[str, str]:
    kind, text = _extract(connection, sql)
    if kind == "SELECT":
        return text, ""
    if kind == "EXPLAIN":
        return _explained(connection, text), "EXPLAIN "
    if kind == "MULTI":
        raise QueryRefusedError(
            "a PIVOT must list its values, PIVOT t ON c IN ('a', 'b') USING …;"
            f" {ALLOWED}"
        )
    raise QueryRefusedError(f"{kind.replace('_', ' ')} is not allowed: {ALLOWED}")


def _extract(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[str, str]:
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(explain_error(error, sql)) from error
    if not statements:
        raise QueryError(f"no statement in the query; {ALLOWED}")
    if len(statements) > 1:
        raise QueryRefusedError(f"{len(statements)} statements: {ALLOWED}")
    return statements[0].type.name, statements[0].query


def _explained(connection: duckdb.DuckDBPyConnection, text: str) -> str:
    match = _EXPLAIN.match(text)
    if match is None or _ANALYZE.match(match[1]):
        raise QueryRefusedError(f"EXPLAIN ANALYZE runs the statement: {ALLOWED}")
    try:
        kind, inner = _extract(connection, match[1])
    except QueryError as error:
        raise QueryRefusedError(f"EXPLAIN without options only: {ALLOWED}") from error
    if kind != "SELECT":
        raise QueryRefusedError(f"EXPLAIN {kind} is not allowed: {ALLOWED}")
    return inner


def _syntax_tree(connection: duckdb.DuckDBPyConnection, text: str) -> Any:
    try:
        rows = connection.execute("SELECT json_serialize_sql(?)", [text]).fetchall()
        tree: dict[str, Any] = json.loads(rows[0][0])
    except (duckdb.Error, RecursionError, ValueError) as error:
        raise QueryRefusedError(f"the query is too involved to check: {ALLOWED}") from (
            error
        )
    if tree["error"] or len(tree["statements"]) != 1:
        reason = tree.get("error_message", "it cannot be checked")
        raise QueryRefusedError(f"{_one_line(reason)}; {ALLOWED}")
    return tree["statements"]


def _walk(tree: Any) -> _Findings:
    findings = _Findings()
    for node in _nodes(tree):
        if "class" in node:
            if node["class"] not in _EXPRESSIONS:
                raise QueryRefusedError(f"{_words(node['class'])}: {ALLOWED}")
            if node["class"] == "FUNCTION":
                _check_function(node, findings)
        elif isinstance(node.get("type"), str):
            if node["type"] not in _NODES:
                raise QueryRefusedError(f"{_words(node['type'])}: {ALLOWED}")
            if rule := _RULES.get(node["type"]):
                rule(node, findings)
        if "cte_map" in node:
            findings.local_names |= {e["key"].lower() for e in node["cte_map"]["map"]}
    return findings


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    # Without recursion: a user's nesting must not meet Python's limit.
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _words(kind: str) -> str:
    return f"{kind.removesuffix('_QUERY_NODE').replace('_', ' ')} is not allowed"


def _check_function(node: dict[str, Any], findings: _Findings) -> None:
    name = node["function_name"].lower()
    if name in _REFUSED_FUNCTIONS or name.startswith(("read_", "json_execute")):
        raise QueryRefusedError(
            f"function {name}() is not allowed: SQL reads the tables of the lake only"
        )
    if name in _CATALOGUE_FUNCTIONS:
        findings.is_about_catalogue = True


def _check_table_function(node: dict[str, Any], _findings: _Findings) -> None:
    name = node["function"]["function_name"].lower()
    if name not in TABLE_FUNCTIONS:
        raise QueryRefusedError(
            f"table function {name}() is not allowed: SQL reads the tables of the"
            f" lake only, and {', '.join(sorted(TABLE_FUNCTIONS))}"
        )


def _check_table(node: dict[str, Any], findings: _Findings) -> None:
    schema, catalog = node["schema_name"].lower(), node["catalog_name"].lower()
    name = node["table_name"]
    if node.get("at_clause"):
        raise QueryRefusedError(f"AT on {name}: pin the whole session with --at")
    path = ".".join(part for part in (catalog, schema, name) if part)
    is_standard = schema == "information_schema" and catalog in {"", "memory", "system"}
    if is_standard or path.lower() in CATALOGUE_VIEWS:
        findings.is_about_catalogue = True
    elif schema == "recurring" and not catalog:
        findings.names.append(name)  # a recursive CTE's own rows
    elif schema in _SCHEMAS and catalog in {"", "memory"}:
        findings.names.append(name)
    else:
        raise QueryError(f"no table {path!r}: tables are named without a schema")


def _check_show(node: dict[str, Any], findings: _Findings) -> None:
    name = node["table_name"].strip('"')
    if name.lower() in _SHOWN:
        findings.is_about_catalogue = True
    elif node["show_type"] == "SHOW_SPECIAL":
        raise QueryRefusedError(f"SHOW {name} is not allowed: {ALLOWED}")
    elif name:
        findings.names.append(name)


_RULES: Final[dict[str, Callable[[dict[str, Any], _Findings], None]]] = {
    "TABLE_FUNCTION": _check_table_function,
    "BASE_TABLE": _check_table,
    "SHOW_REF": _check_show,
}


def _no_such_table(name: str, known: frozenset[str]) -> str:
    near = get_close_matches(name.lower(), sorted(known), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "see SHOW TABLES"
    return f"no table {_one_line(name)[:80]!r}; {hint}"


def explain_error(error: Exception, sql: str) -> str:
    """Say in one line what is wrong with a query, and where.

    Parameters
    ----------
    error : Exception
        What DuckDB raised.
    sql : str
        The query.
    """
    message = str(error)
    found = _AT_LINE.search(message)
    summary = _one_line(message[: found.start()] if found else message)
    summary = re.sub(r"^[A-Z][A-Za-z ]* (?:Error|Exception): ", "", summary)
    if found is None:
        return summary
    line, excerpt = int(found[1]), found[2]
    offset = len(found[3]) - len(f"LINE {line}: ")
    lines = sql.splitlines()
    if excerpt.startswith("...") and 0 < line <= len(lines):
        shown = excerpt.removeprefix("...").removesuffix("...")
        offset += lines[line - 1].find(shown) - len("...")
    return f"line {line}, column {max(offset, 0) + 1}: {summary}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
