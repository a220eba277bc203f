"""SQL that offers the lake's tables to DuckDB under their declared names and types.

Only text is made here. A view always has every declared column: one that no file has
yet is null, one that is not declared is left out.
"""

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import pyarrow as pa

from lakehouse.schema._spec import ColumnSpec, LatestSpec, TableSpec, ViewSpec
from lakehouse.schema.catalogue import TABLES

LATEST_SUFFIX: Final = "_latest"
_SQL_TYPES: Final[Mapping[pa.DataType, str]] = MappingProxyType(
    {
        pa.string(): "VARCHAR",
        pa.binary(): "BLOB",
        pa.bool_(): "BOOLEAN",
        pa.int8(): "TINYINT",
        pa.int16(): "SMALLINT",
        pa.int32(): "INTEGER",
        pa.int64(): "BIGINT",
        pa.float32(): "FLOAT",
        pa.float64(): "DOUBLE",
        pa.binary(): "BLOB",
        pa.date32(): "DATE",
        pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
    }
)
VIEWS: Final[Mapping[str, tuple[TableSpec, ViewSpec]]] = MappingProxyType(
    {view.name: (spec, view) for spec in TABLES.values() for view in spec.views}
)
LATEST: Final[Mapping[str, TableSpec]] = MappingProxyType(
    {
        f"{spec.name}{LATEST_SUFFIX}": spec
        for spec in TABLES.values()
        if spec.latest is not None
    }
)
NAMES: Final = frozenset({*TABLES, *VIEWS, *LATEST})


def quoted(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text."""
    return "'" + text.replace("'", "''") + "'"


def sql_type(dtype: pa.DataType) -> str:
    """Return the SQL name of a declared type."""
    if pa.types.is_list(dtype):
        return f"{sql_type(dtype.value_type)}[]"
    return _SQL_TYPES[dtype]


def parquet_files(files: Collection[str]) -> str:
    """Return the relation of some Parquet files, columns matched by name."""
    names = ", ".join(literal(path) for path in files)
    return (
        f"read_parquet([{names}], union_by_name = true, hive_partitioning = false,"
        " filename = false)"
    )


def declared_columns(
    columns: Collection[ColumnSpec], present: Collection[str], relation: str | None
) -> str:
    """Return a query of declared columns from a relation, or of no rows from none."""
    expressions = []
    for column in columns:
        name = quoted(column.name)
        value = name if relation is not None and column.name in present else "NULL"
        expressions.append(f"CAST({value} AS {sql_type(column.dtype)}) AS {name}")
    source = f" FROM {relation}" if relation is not None else " WHERE false"
    return f"SELECT {', '.join(expressions)}{source}"


def unopened_columns(columns: Collection[ColumnSpec]) -> str:
    """Return a query with the declared columns that fails when it is run."""
    return "SELECT " + ", ".join(
        f"CAST(error('table not opened') AS {sql_type(c.dtype)}) AS {quoted(c.name)}"
        for c in columns
    )


def latest_columns(spec: TableSpec, latest: LatestSpec) -> list[ColumnSpec]:
    """Return the columns that newest rows carry."""
    return [c for c in spec.columns if c.name not in latest.exclude]


def latest_rows(spec: TableSpec, latest: LatestSpec) -> str:
    """Return a query of the newest row per key, from the table itself."""
    names = ", ".join(quoted(c.name) for c in latest_columns(spec, latest))
    key = ", ".join(quoted(name) for name in latest.key)
    order = ", ".join(
        f"{quoted(name)} DESC" for name in dict.fromkeys((*latest.order, *spec.key))
    )
    rank = f"row_number() OVER (PARTITION BY {key} ORDER BY {order})"
    return f"FROM {quoted(spec.name)} SELECT {names} QUALIFY {rank} = 1"


def create_view(name: str, query: str) -> str:
    """Return the statement that makes a view."""
    return f"CREATE VIEW {quoted(name)} AS {query}"


def column_comment(column: ColumnSpec) -> str:
    """Describe a column in one line, unit included."""
    unit = f" [{column.unit}]" if column.unit else ""
    return f"{column.description}{unit}"


def relation_comment(name: str) -> str:
    """Describe a table or view in one line."""
    if name in TABLES:
        return TABLES[name].description
    if name in LATEST:
        spec = LATEST[name]
        key = spec.latest.key if spec.latest else ()
        return f"Newest row of `{spec.name}` per {', '.join(key)}."
    return VIEWS[name][1].description


def owner(name: str) -> TableSpec:
    """Return the table that a table or view belongs to."""
    if name in VIEWS:
        return VIEWS[name][0]
    return LATEST[name] if name in LATEST else TABLES[name]


def comments(columns_of: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Make the statements that comment relations and their columns.

    Parameters
    ----------
    columns_of : mapping of str to collection of str
        Columns of each relation to describe.
    """
    for name, columns in columns_of.items():
        yield f"COMMENT ON VIEW {quoted(name)} IS {literal(relation_comment(name))}"
        declared = owner(name).by_name
        for column in columns:
            if column in declared:
                text = column_comment(declared[column])
                yield (
                    f"COMMENT ON COLUMN {quoted(name)}.{quoted(column)}"
                    f" IS {literal(text)}"
                )
