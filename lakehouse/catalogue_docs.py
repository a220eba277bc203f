"""The table catalogue as Markdown, from the declarations.

`python -m lakehouse.catalogue_docs > docs/tables.md` writes it anew; a test keeps the
file fresh.
"""

import sys
from collections.abc import Iterator

import pyarrow as pa

from lakehouse.schema._spec import ColumnSpec, TableSpec
from lakehouse.schema.catalogue import TABLES
from lakehouse.sql.relations import LATEST_SUFFIX, sql_type

_PREAMBLE = """\
# Tables

Made from the declarations in `lakehouse/schema` by `python -m lakehouse.catalogue_docs`;
do not edit. The same texts are `COMMENT`s in SQL: `SELECT column_name, comment FROM
duckdb_columns() WHERE table_name = 'ohlcv'`. All times are UTC. Every number is finite;
`null` says that a value may be unknown.
"""


def table_catalogue() -> str:
    """Return the catalogue of all declared tables as Markdown."""
    parts = [_PREAMBLE, "\n".join(_overview()), *(_table(s) for s in TABLES.values())]
    return "\n".join(parts)


def _overview() -> Iterator[str]:
    yield "| table | one row is | views |"
    yield "|---|---|---|"
    for spec in TABLES.values():
        views = ", ".join(f"`{name}`" for name in _view_names(spec))
        yield f"| [`{spec.name}`](#{spec.name}) | {_cell(spec.description)} | {views} |"
    yield ""


def _view_names(spec: TableSpec) -> list[str]:
    latest = [f"{spec.name}{LATEST_SUFFIX}"] if spec.latest is not None else []
    return [*(view.name for view in spec.views), *latest]


def _table(spec: TableSpec) -> str:
    facts = [f"Key: {_names(spec.key)}."]
    if spec.sort_by:
        facts.append(f"Order in files: {_names(spec.sort_by)}.")
    if spec.is_append_only:
        facts.append("Rows are never changed.")
    lines = [
        f"## {spec.name}",
        "",
        spec.description,
        "",
        " ".join(facts),
        "",
        "| column | type | unit | null | values | meaning |",
        "|---|---|---|---|---|---|",
        *(_column(column) for column in spec.columns),
        "",
    ]
    lines += [f"- view `{view.name}`: {view.description}" for view in spec.views]
    if spec.latest is not None:
        lines.append(
            f"- view `{spec.name}{LATEST_SUFFIX}`: the newest row per"
            f" {_names(spec.latest.key)}, by {_names(spec.latest.order)}{_without(spec)}."
        )
    if lines[-1]:
        lines.append("")
    return "\n".join(lines)


def _without(spec: TableSpec) -> str:
    if spec.latest is None or not spec.latest.exclude:
        return ""
    return f", without {_names(spec.latest.exclude)}"


def _column(column: ColumnSpec) -> str:
    null = "null" if column.is_nullable else ""
    cells = (
        f"`{column.name}`",
        _type(column.dtype),
        _cell(column.unit or ""),
        null,
        _values(column),
        _cell(column.description),
    )
    return f"| {' | '.join(cells)} |"


def _type(dtype: pa.DataType) -> str:
    names = {"TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ"}
    name = sql_type(dtype)
    for long, short in names.items():
        name = name.replace(long, short)
    return name


def _values(column: ColumnSpec) -> str:
    if column.allowed is not None:
        return ", ".join(f"`{value}`" for value in column.allowed)
    bounds = []
    if column.is_positive:
        bounds.append("> 0")
    if column.minimum is not None:
        bounds.append(f"≥ {column.minimum:g}")
    if column.maximum is not None:
        bounds.append(f"≤ {column.maximum:g}")
    return ", ".join(bounds)


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in columns)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(table_catalogue())
