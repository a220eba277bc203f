"""Rows of `quarantine`: refused input, verbatim, and bars that a later value replaced.

A row is written once however often its input is read again: it is looked for by its
key first. So a rerun after a kill writes exactly what is still missing.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.schema.catalogue import table_spec
from lakehouse.sources._cells import python_cells
from lakehouse.store import Lake

TABLE = "quarantine"
KEY = ("source", "row_number", "row_hash")


def to_json(row: dict[str, Any]) -> str:
    """Write a row as JSON that any reader parses, its columns in their own order."""
    return json.dumps(
        {name: _plain(value) for name, value in row.items()}, ensure_ascii=False
    )


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        # A lone surrogate cannot be stored as text.
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    is_number = isinstance(value, bool | int | float | None)
    return value if is_number and not _is_infinite(value) else str(value)


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def row_digest(text: str) -> str:
    """Return the SHA-256 of a verbatim row."""
    return hashlib.sha256(text.encode()).hexdigest()


def refused_rows(
    original: pa.Table,
    rows: npt.NDArray[np.int64],
    *,
    source: str,
    first_row: int,
    table: str,
    reasons: Sequence[str],
    details: Sequence[str | None],
) -> list[dict[str, Any]]:
    """Build quarantine rows, without time and run.

    Parameters
    ----------
    original : pyarrow.Table of n_rows
        The source's own columns.
    rows : ndarray of shape (n_refused,), int64
        Row positions in `original`.
    source : str
        Source and file.
    first_row : int
        Number of position 0 in the source.
    table : str
        Table that the rows were meant for.
    reasons, details : sequence of n_refused
        Why, and which value decided it.
    """
    texts = [to_json(row) for row in _python_rows(original.take(pa.array(rows)))]
    return [
        {
            "source": source,
            "row_number": first_row + int(position),
            "row_hash": row_digest(text),
            "table_name": table,
            "reason": reason,
            "detail": detail,
            "row": text,
        }
        for position, text, reason, detail in zip(
            rows, texts, reasons, details, strict=True
        )
    ]


def _python_rows(table: pa.Table) -> list[dict[str, Any]]:
    columns = {name: python_cells(table[name]) for name in table.column_names}
    return [
        dict(zip(columns, cells, strict=True))
        for cells in zip(*columns.values(), strict=True)
    ]


def superseded_rows(
    stored: list[dict[str, Any]], *, table: str, details: Sequence[str]
) -> list[dict[str, Any]]:
    """Build quarantine rows for stored rows that are about to be replaced.

    They carry the source they came from; their row number there is no longer known
    and 0 stands for it.

    Parameters
    ----------
    stored : list of dict
        Whole rows as stored.
    table : str
        Their table.
    details : sequence of str
        What replaces each.
    """
    texts = [to_json(row) for row in stored]
    return [
        {
            "source": row["source"],
            "row_number": 0,
            "row_hash": row_digest(text),
            "table_name": table,
            "reason": "superseded",
            "detail": detail,
            "row": text,
        }
        for row, text, detail in zip(stored, texts, details, strict=True)
    ]


def quarantine(
    lake: Lake, rows: list[dict[str, Any]], *, window: str, run_id: str
) -> int:
    """Append those of `rows` that are not in quarantine yet; return how many were.

    Parameters
    ----------
    lake : Lake
        Where to.
    rows : list of dict
        Rows without `quarantined_at` and `run_id`.
    window : str
        Logical window of the input; the digest of the rows is added.
    run_id : str
        The run that writes.
    """
    rows = _not_stored(lake, rows)
    if not rows:
        return 0
    now = lake.clock.now()
    stamped = [{**row, "quarantined_at": now, "run_id": run_id} for row in rows]
    table = pa.Table.from_pylist(stamped, schema=table_spec(TABLE).to_arrow())
    digest = row_digest("".join(f"{r['row_number']}{r['row_hash']}" for r in rows))
    commit = lake.append(TABLE, table, window=f"{window}/{len(rows)}-{digest[:16]}")
    return commit.n_rows if commit.is_new else 0


def _not_stored(lake: Lake, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    unique = {tuple(row[name] for name in KEY): row for row in rows}
    if not unique or lake.version(TABLE) is None:
        return list(unique.values())
    sources = pa.array(sorted({row["source"] for row in rows}), pa.string())
    kept = lake.read(
        TABLE, columns=list(KEY), filter=pc.field("source").isin(sources)
    ).to_pydict()
    stored = set(zip(*(kept[name] for name in KEY), strict=True))
    return [row for key, row in unique.items() if key not in stored]
