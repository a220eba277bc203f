"""Rows against their declaration: what `lakehouse.store` lets through.

`conform` returns the rows in the declared column order and types, or raises
`SchemaError` naming table, column, row and what is allowed. It widens safely (int to
float, int32 to int64, any tz-aware time to UTC microseconds) and never narrows, parses
text or guesses a time zone; only a column declared float32 rounds what it is given. Text columns come back dictionary-encoded: sorting,
uniqueness and the Parquet writer then work on small integers.

All checks are vectorised; each is one pass over one column.
"""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import SchemaError
from lakehouse.schema._spec import TEXT, ColumnSpec, TableSpec

_ENCODED: Final = pa.dictionary(pa.int32(), TEXT)


def conform(spec: TableSpec, rows: pa.Table) -> pa.Table:
    """Check `rows` against `spec` and return them as they will be stored.

    Parameters
    ----------
    spec : TableSpec
        The declaration.
    rows : pyarrow.Table
        Columns in any order; a missing nullable column is filled with null.

    Returns
    -------
    pyarrow.Table
        Declared columns in declared order; text dictionary-encoded. Key uniqueness is
        not checked here (`lakehouse.storage.keys`).

    Raises
    ------
    SchemaError
    """
    _refuse_column_names(spec, rows)
    columns = [
        _conform_column(spec, column, rows.column(column.name))
        if column.name in rows.column_names
        else pa.chunked_array([pa.nulls(rows.num_rows, column.dtype)])
        for column in spec.columns
    ]
    return pa.table(columns, names=[column.name for column in spec.columns])


def coded_columns(spec: TableSpec) -> set[str]:
    """Return the text columns that sorting, look-ups or closed lists work on."""
    used = {*spec.key, *spec.sort_by}
    if spec.latest is not None:
        used |= {*spec.latest.key, *spec.latest.order}
    return {
        column.name
        for column in spec.columns
        if column.dtype == TEXT and (column.name in used or column.allowed is not None)
    }


def decode(spec: TableSpec, rows: pa.Table) -> pa.Table:
    """Return `rows` in the declared types, text decoded."""
    return rows.cast(
        pa.schema(
            [pa.field(name, spec.column(name).dtype) for name in rows.column_names]
        )
    )


def encode(spec: TableSpec, rows: pa.Table) -> pa.Table:
    """Return stored `rows` typed and encoded as `conform` does."""
    coded = coded_columns(spec)
    return pa.table(
        {
            name: _encoded(column, spec.column(name).dtype, is_coded=name in coded)
            for name, column in zip(rows.column_names, rows.columns, strict=True)
        }
    )


def _encoded(
    column: pa.ChunkedArray, dtype: pa.DataType, *, is_coded: bool
) -> pa.ChunkedArray:
    if not is_coded:
        return column if column.type == dtype else column.cast(dtype)
    if column.type == _ENCODED:
        return column.unify_dictionaries()
    return (column if column.type == TEXT else column.cast(TEXT)).dictionary_encode()


def _refuse_column_names(spec: TableSpec, rows: pa.Table) -> None:
    names = rows.column_names
    declared = spec.by_name
    if len(set(names)) != len(names):
        raise SchemaError(f"table {spec.name}: a column is given twice: {names}")
    if unknown := sorted(set(names) - set(declared)):
        raise SchemaError(
            f"table {spec.name}: no such column: {', '.join(unknown)}; "
            f"columns: {', '.join(declared)}"
        )
    required = {column.name for column in spec.columns if not column.is_nullable}
    if missing := sorted(required - set(names)):
        raise SchemaError(f"table {spec.name}: column missing: {', '.join(missing)}")


def _conform_column(
    spec: TableSpec, column: ColumnSpec, values: pa.ChunkedArray
) -> pa.ChunkedArray:
    where = f"table {spec.name}, column {column.name}"
    values = _cast(where, column, values, is_coded=column.name in coded_columns(spec))
    if values.null_count and not column.is_nullable:
        raise SchemaError(f"{where}: null in row {_first(pc.is_null(values))}")
    if column.allowed is not None:
        _check_allowed(where, column, values)
    if pa.types.is_list(column.dtype):
        _check_list(where, column, values)
    elif pa.types.is_floating(column.dtype) or pa.types.is_integer(column.dtype):
        _check_numbers(where, column, values)
    return values


def _cast(
    where: str, column: ColumnSpec, values: pa.ChunkedArray, *, is_coded: bool
) -> pa.ChunkedArray:
    target = column.dtype
    if target == TEXT:
        if is_coded and _is_well_encoded(values):
            return values.unify_dictionaries()
        values = _cast_text(where, values)
        return values.dictionary_encode() if is_coded else values
    if values.type == target:
        return values
    if not _is_widening(values.type, target):
        raise SchemaError(f"{where}: type {values.type}, expected {target}")
    try:
        return values.cast(target, safe=True)
    except pa.ArrowInvalid as error:
        raise SchemaError(f"{where}: not exact as {target}: {error}") from error


def _is_well_encoded(values: pa.ChunkedArray) -> bool:
    """Tell whether a given dictionary can be used: no nulls in it, nothing twice."""
    return values.type == _ENCODED and all(
        not chunk.dictionary.null_count
        and len(pc.unique(chunk.dictionary)) == len(chunk.dictionary)
        for chunk in values.chunks
    )


def _cast_text(where: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _cast_text(where, values.cast(kind.value_type))
    if pa.types.is_null(kind):
        return pa.chunked_array([pa.nulls(len(values), TEXT)])
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return values.cast(TEXT)
    if kind != TEXT:
        raise SchemaError(f"{where}: type {kind}, expected {TEXT}")
    return values


def _is_widening(source: pa.DataType, target: pa.DataType) -> bool:
    if pa.types.is_null(source):
        return True
    if pa.types.is_timestamp(target):
        return pa.types.is_timestamp(source) and source.tz is not None
    if pa.types.is_list(target):
        is_list = pa.types.is_list(source) or pa.types.is_large_list(source)
        return is_list and (
            source.value_type == target.value_type
            or _is_widening(source.value_type, target.value_type)
        )
    is_integer = bool(pa.types.is_integer(source))
    if pa.types.is_floating(target):
        return is_integer or bool(pa.types.is_floating(source))
    return is_integer and bool(pa.types.is_integer(target))


def _check_allowed(where: str, column: ColumnSpec, values: pa.ChunkedArray) -> None:
    allowed = set(column.allowed or ())
    for chunk in values.chunks:
        if set(chunk.dictionary.to_pylist()) <= allowed:
            continue
        for value in pc.unique(chunk).to_pylist():
            if value is not None and value not in allowed:
                raise SchemaError(
                    f"{where}: {value!r} in row "
                    f"{_first(pc.equal(values.cast(TEXT), value))}; "
                    f"allowed: {', '.join(column.allowed or ())}"
                )


def _check_list(where: str, column: ColumnSpec, values: pa.ChunkedArray) -> None:
    inner = values
    while pa.types.is_list(inner.type):
        inner = pc.list_flatten(inner)
        if inner.null_count and not column.has_gaps:
            raise SchemaError(f"{where}: null inside a list")
    if pa.types.is_floating(inner.type) and not _is_all(pc.is_finite(inner)):
        raise SchemaError(f"{where}: NaN or infinity inside a list")
    if column.minimum is not None or column.maximum is not None or column.is_positive:
        _check_range(where, column, inner)


def _check_numbers(where: str, column: ColumnSpec, values: pa.ChunkedArray) -> None:
    if pa.types.is_floating(values.type) and not _is_all(pc.is_finite(values)):
        bad = pc.invert(pc.is_finite(values))
        raise SchemaError(f"{where}: NaN or infinity in row {_first(bad)}")
    if column.minimum is not None or column.maximum is not None or column.is_positive:
        _check_range(where, column, values)


def _check_range(where: str, column: ColumnSpec, values: pa.ChunkedArray) -> None:
    bounds = pc.min_max(values).as_py()
    low, high = bounds["min"], bounds["max"]
    if low is None:
        return
    if column.is_positive and low <= 0:
        bad, rule = pc.less_equal(values, 0), "> 0"
    elif column.minimum is not None and low < column.minimum:
        bad, rule = pc.less(values, column.minimum), f">= {column.minimum:g}"
    elif column.maximum is not None and high > column.maximum:
        bad, rule = pc.greater(values, column.maximum), f"<= {column.maximum:g}"
    else:
        return
    row = _first(bad)
    raise SchemaError(f"{where}: {values[row].as_py()!r} in row {row}; allowed: {rule}")


def _is_all(mask: pa.ChunkedArray) -> bool:
    return bool(pc.all(mask).as_py() in (True, None))


def _first(mask: pa.ChunkedArray) -> int:
    return int(pc.index(mask, value=True).as_py())
