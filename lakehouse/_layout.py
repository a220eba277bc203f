"""How rows lie in data files.

Rows are cut into time chunks, one file each; inside a file they are sorted by the
declaration's `sort_by`, and row groups end where the leading sort columns change (for
bars: one row group per timeframe and symbol). A reader of one symbol touches one row
group a file; a reader of one month touches one or two files.
"""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from lakehouse._keys import column_codes
from lakehouse._location import Location
from lakehouse.errors import StoreError
from lakehouse.schema._spec import TableSpec

ROWS_PER_FILE: Final = 150_000
ROWS_PER_GROUP: Final = 4_096  # smallest row group worth its footer entry
LARGEST_GROUP: Final = 131_072
COMPRESSION: Final = (
    "lz4"  # reads twice as fast as zstd, 11 % larger; writes faster too
)
_LONGEST_BOUND: Final = 64  # characters of a text bound kept in the log


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A data file that no commit names yet."""

    path: str
    action: AddAction


def write_files(
    location: Location,
    spec: TableSpec,
    rows: pa.Table,
    *,
    data_change: bool = True,
) -> list[WrittenFile]:
    """Write rows as data files of a table, without committing them.

    Parameters
    ----------
    location : Location
        The lake.
    spec : TableSpec
        The table.
    rows : pyarrow.Table
        Declared columns, sorted by `spec.sort_by`.
    data_change : bool
        False when the rows are already in the table (compaction).

    Raises
    ------
    StoreError
    """
    if not rows.num_rows:
        return []
    folder = location.path("tables", spec.name)
    chunks = list(time_chunks(spec, rows))

    def write(chunk: pa.Table) -> WrittenFile:
        return _write_file(location, folder, spec, chunk, data_change=data_change)

    try:
        if len(chunks) == 1:
            return [write(chunks[0])]
        with ThreadPoolExecutor(max_workers=2) as pool:
            return list(pool.map(write, chunks))
    except OSError as error:
        raise StoreError(f"table {spec.name}: cannot write: {error}") from error


def time_chunks(spec: TableSpec, rows: pa.Table) -> Iterator[pa.Table]:
    """Cut sorted rows into chunks of about `ROWS_PER_FILE` that follow each other in time."""
    n_chunks = round(rows.num_rows / ROWS_PER_FILE)
    if n_chunks <= 1:
        yield rows
        return
    if spec.time is None:
        for start in range(0, rows.num_rows, ROWS_PER_FILE):
            yield rows.slice(start, ROWS_PER_FILE)
        return
    moments = column_codes(rows.column(spec.time))
    stride = max(1, rows.num_rows // 100_000)
    cuts = np.unique(
        np.quantile(
            moments[::stride],
            np.arange(1, n_chunks) / n_chunks,
            method="closest_observation",
        )
    )
    labels = np.searchsorted(cuts, moments, side="right").astype(np.int64)
    edges = np.append(0, np.flatnonzero(labels[1:] != labels[:-1]) + 1)
    if len(edges) > rows.num_rows // 64:
        for label in np.unique(labels):
            yield rows.take(pa.array(np.flatnonzero(labels == label)))
        return
    ends = np.append(edges[1:], rows.num_rows)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels[edges] == label)
        yield pa.concat_tables(
            [rows.slice(int(edges[i]), int(ends[i] - edges[i])) for i in mine]
        )


def row_groups(spec: TableSpec, rows: pa.Table) -> list[tuple[int, int]]:
    """Return (start, length) of each row group of a sorted chunk."""
    n_rows = rows.num_rows
    leading = [name for name in spec.sort_by if name != spec.time]
    if spec.time in spec.sort_by:
        leading = list(spec.sort_by[: spec.sort_by.index(spec.time)])
    changes = np.zeros(max(n_rows - 1, 0), dtype=np.bool_)
    for name in leading:
        codes = column_codes(rows.column(name))
        changes |= codes[1:] != codes[:-1]
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), n_rows]
    groups: list[tuple[int, int]] = []
    start = 0
    for edge in edges[1:]:
        if edge - start >= ROWS_PER_GROUP or edge == n_rows:
            groups.extend(
                (at, min(LARGEST_GROUP, edge - at))
                for at in range(start, edge, LARGEST_GROUP)
            )
            start = edge
    return groups


def _write_file(
    location: Location,
    folder: str,
    spec: TableSpec,
    rows: pa.Table,
    *,
    data_change: bool,
) -> WrittenFile:
    name = f"part-{uuid.uuid4().hex}.parquet"
    path = f"{folder}/{name}"
    indexed = indexed_columns(spec)
    texts = [
        f.name
        for f in rows.schema
        if pa.types.is_dictionary(f.type) or pa.types.is_string(f.type)
    ]
    delta_packed = {
        c.name: "DELTA_BINARY_PACKED"
        for c in spec.columns
        if pa.types.is_timestamp(c.dtype) or pa.types.is_int64(c.dtype)
    }
    with (
        location.filesystem.open_output_stream(path) as sink,
        pq.ParquetWriter(
            sink,
            rows.schema,
            compression=COMPRESSION,
            use_dictionary=texts,
            column_encoding=delta_packed,
            write_statistics=indexed,
            store_schema=False,
        ) as writer,
    ):
        for start, length in row_groups(spec, rows):
            writer.write_table(rows.slice(start, length), row_group_size=length)
        writer.close()
        size = sink.tell()
    action = AddAction(
        path=name,
        size=size,
        partition_values={},
        modification_time=int(time.time() * 1000),
        data_change=data_change,
        stats=json.dumps(_file_statistics(rows, indexed)),
    )
    return WrittenFile(path, action)


def indexed_columns(spec: TableSpec) -> list[str]:
    """Return the columns whose bounds are kept per file and row group."""
    named = dict.fromkeys((*spec.key, *spec.sort_by))
    if spec.time is not None:
        named[spec.time] = None
    if spec.latest is not None:
        named |= dict.fromkeys(spec.latest.order)
    return [name for name in named if not pa.types.is_boolean(spec.column(name).dtype)]


def _file_statistics(rows: pa.Table, columns: Sequence[str]) -> dict[str, Any]:
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for name in columns:
        values = rows.column(name)
        nulls[name] = values.null_count
        if pa.types.is_dictionary(values.type):
            values = pc.unique(values).cast(values.type.value_type)
        bounds = pc.min_max(values).as_py()
        least, most = _bound(bounds["min"]), _bound(bounds["max"])
        if least is not None and most is not None:
            low[name], high[name] = least, most
    return {
        "numRecords": rows.num_rows,
        "minValues": low,
        "maxValues": high,
        "nullCount": nulls,
    }


def _bound(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, str) and len(value) > _LONGEST_BOUND:
        return None
    return value
