"""Query results as text or bytes: table, JSON, CSV, Parquet.

Written here and never by DuckDB's COPY, which would have to be allowed to write files.
"""

import csv
import io
import json
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.errors import InputError
from lakehouse.query import Result

FORMATS: Final = ("table", "json", "csv", "parquet")
MAX_TABLE_ROWS: Final = 500
_LARGEST_INTEGER: Final = 2**63
_YEAR_9999: Final = 253_402_300_799_999_999  # microseconds since 1970
_MAX_CELL: Final = 60  # characters


def format_result(result: Result, fmt: str = "table") -> str | bytes:
    """Render a query result.

    Parameters
    ----------
    result : Result
        What `Session.sql` returned.
    fmt : str
        `table`, `json`, `csv` or `parquet`.

    Returns
    -------
    str or bytes
        `json`: an array of objects, times ISO 8601 with `Z`, lists kept, NaN and
        infinities null. `csv`: a header, null empty, lists as JSON. `table`: at most 500
        rows and what was left out. `parquet`: the bytes of a file.

    Raises
    ------
    InputError
        If the format is unknown or cannot hold a column's type.
    """
    match fmt:
        case "table":
            return _table(result)
        case "json":
            return _json(result)
        case "csv":
            return _csv(result)
        case "parquet":
            return _parquet(result)
        case _:
            raise InputError(f"--format {fmt!r}: one of {', '.join(FORMATS)}")


def _parquet(result: Result) -> bytes:
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(result.arrow(), sink, compression="zstd")
    except pa.ArrowException as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"--format parquet: {reason}; cast the column") from error
    return bytes(sink.getvalue().to_pybytes())


def _json(result: Result) -> str:
    names = result.columns
    rows = zip(*_plain_columns(result), strict=True)
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    lines = msgspec.json.Encoder().encode_lines(objects).decode().rstrip("\n")
    body = lines.replace("\n", ",\n")  # inside a text a line end is escaped
    return f"[\n{body}\n]\n" if body else "[]\n"


def _csv(result: Result) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(result.columns)
    for row in zip(*_plain_columns(result), strict=True):
        writer.writerow([_csv_cell(value) for value in row])
    return sink.getvalue()


def _csv_cell(value: Any) -> Any:
    match value:
        case bool():
            return "true" if value else "false"
        case list() | dict():
            return json.dumps(value, ensure_ascii=False, default=str)
        case _:
            return value


def _plain_columns(result: Result) -> list[list[Any]]:
    rows = result.arrow()
    if not rows.num_rows:
        return [[] for _ in rows.column_names]
    columns = []
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        try:
            columns.append(_plain_column(column))
        except (OverflowError, ValueError) as error:
            raise InputError(f"column {name!r}: {error}; cast it to text") from error
    return columns


def _plain_column(column: pa.ChunkedArray) -> list[Any]:
    kind = column.type
    if pa.types.is_timestamp(kind):
        return _moments(column)
    values = column.to_pylist()
    if pa.types.is_floating(kind):
        is_finite = math.isfinite
        return [v if v is None or is_finite(v) else None for v in values]
    if pa.types.is_integer(kind) or pa.types.is_string(kind):
        return list(values)
    return [_plain(value) for value in values]


def _moments(column: pa.ChunkedArray) -> list[str | None]:
    # A million times as text: kernels, not Python.
    count = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
    count = count.cast(pa.int64())
    bounds = pc.min_max(count).as_py()
    if bounds["max"] is not None and max(bounds["max"], -bounds["min"]) > _YEAR_9999:
        raise OverflowError("a time outside the years 1 to 9999")
    text = count.cast(pa.timestamp("us")).cast(pa.string())
    text = pc.replace_substring(text, pattern=" ", replacement="T")
    text = pc.replace_substring(text, pattern=".000000", replacement="")
    zone = "Z" if column.type.tz else ""
    return [None if moment is None else moment + zone for moment in text.to_pylist()]


def _plain(value: Any) -> Any:
    # What JSON can hold: scalars of JSON, else text that says the same.
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        is_whole = value == value.to_integral_value() and abs(value) < _LARGEST_INTEGER
        return int(value) if is_whole else float(value)
    return _plain_list(value) if isinstance(value, list) else _plain_other(value)


def _plain_other(value: Any) -> Any:
    match value:
        case datetime():
            return _moment(value)
        case date() | time():
            return value.isoformat()
        case pa.MonthDayNano():
            return f"P{value.months}M{value.days}DT{value.nanoseconds / 1e9:g}S"
        case bytes():
            text = value.hex()
        case dict():
            return {str(name): _plain(item) for name, item in value.items()}
        case _:
            text = str(value)
    return text


def _plain_list(values: list[Any]) -> Any:
    if values and all(isinstance(v, tuple) and len(v) == 2 for v in values):
        return {str(name): _plain(item) for name, item in values}  # a map
    return [_plain(value) for value in values]


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat()
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _table(result: Result) -> str:
    rows = result.arrow()
    n_rows = rows.num_rows
    shown = Result(rows.slice(0, MAX_TABLE_ROWS))
    cells = [[_shown(v) for v in column] for column in _plain_columns(shown)]
    names = [_shown(name) for name in result.columns]
    is_right = [_is_number(kind) for kind in rows.schema.types]
    widths = [
        max(len(name), *map(len, column)) if column else len(name)
        for name, column in zip(names, cells, strict=True)
    ]
    lines = [
        _line(names, widths, is_right),
        "-+-".join("-" * width for width in widths),
        *(_line(row, widths, is_right) for row in zip(*cells, strict=True)),
        "(1 row)" if n_rows == 1 else f"({n_rows:,} rows)",
    ]
    if n_rows > MAX_TABLE_ROWS:
        rest = f"{n_rows - MAX_TABLE_ROWS:,} more rows"
        lines.insert(-1, f"… {rest}: use LIMIT, or --format json, csv or parquet")
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str], widths: Sequence[int], is_right: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, is_right, strict=True)
    )
    return " | ".join(padded).rstrip()


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
    )


def _shown(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.10g}"
        case list() | dict():
            text = json.dumps(value, ensure_ascii=False, default=str)
        case _:
            text = str(value)
    # Stored text must not steer the reader's terminal.
    safe = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return safe if len(safe) <= _MAX_CELL else safe[: _MAX_CELL - 1] + "…"
