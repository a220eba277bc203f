"""Print an Arrow table: for a person, as JSON, CSV or Parquet."""

import csv
import json
import math
from datetime import date, datetime
from decimal import Decimal
from io import StringIO
from typing import Any, TextIO

import pyarrow as pa

MAX_ROWS = 200
MAX_WIDTH = 40


def write_table(table: pa.Table, form: str, stream: TextIO) -> None:
    """Write `table` to `stream`.

    Parameters
    ----------
    table : pyarrow.Table
        What to write.
    form : str
        `table`, `json` (an array of objects), `csv` or `parquet`.
    stream : text stream
        Standard output; Parquet goes to its byte buffer.
    """
    if form == "parquet":
        _write_parquet(table, stream)
    elif form == "json":
        rows = [
            {name: _json_value(value) for name, value in row.items()}
            for row in table.to_pylist()
        ]
        stream.write(json.dumps(rows, allow_nan=False) + "\n")
    elif form == "csv":
        stream.write(_to_csv(table))
    else:
        stream.write(_to_text(table))
    stream.flush()


def _write_parquet(table: pa.Table, stream: TextIO) -> None:
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    stream.buffer.write(sink.getvalue().to_pybytes())


def _to_csv(table: pa.Table) -> str:
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in table.to_pylist():
        writer.writerow([_csv_value(value) for value in row.values()])
    return buffer.getvalue()


def _to_text(table: pa.Table) -> str:
    shown = table.slice(0, MAX_ROWS).to_pylist()
    names = table.column_names
    cells = [[_short(row[name]) for name in names] for row in shown]
    widths = [
        max([len(name), *(len(row[i]) for row in cells)])
        for i, name in enumerate(names)
    ]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in [names, ["-" * width for width in widths], *cells]
    ]
    if table.num_rows > MAX_ROWS:
        lines.append(f"… {table.num_rows} rows; --format csv prints all")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _json_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_json_value(one) for one in value]
    if isinstance(value, dict):
        return {name: _json_value(one) for name, one in value.items()}
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bool | int | str) or value is None:
        return value
    return value.hex() if isinstance(value, bytes) else str(value)


def _csv_value(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return json.dumps(_json_value(value))
    return _json_value(value)


def _short(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return f"{value:.6g}"
    text = " ".join(str(value).split())
    return text if len(text) <= MAX_WIDTH else f"{text[: MAX_WIDTH - 1]}…"
