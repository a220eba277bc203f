"""How rows lie in data files.

Rows are cut into time chunks, one file each; inside a file they are sorted by the
declaration's `sort_by`, and row groups end where the leading sort columns change (for
bars: one row group per timeframe and symbol). A reader of one symbol touches one row
group a file; a reader of one month touches one or two files.

How the layout was chosen, all columns compressed alike; `python -m bench w9` measures
what became of it. On 1,611,840 hourly bars of 23 symbols, DuckDB 2.0 with two threads, warm: one
symbol's whole history / 30 days of all / closes of all, ms (random prices, which do
not compress; 1,306,195 real bars take 28 MB as lz4 or snappy, 20 MB as zstd):

================  ====  ====================
layout            MB    ms
================  ====  ====================
zstd, 11 files    60    11.0 / 15.0 / 60.6
snappy, 11 files  65    8.1 / 9.0 / 50.4
lz4, 21 files     65    10.2 / 8.9 / 62.7
lz4, 11 files     65    7.2 / 9.2 / 55.7
lz4, 5 files      65    6.0 / 10.3 / 44.4
lz4, 3 files      65    5.6 / 11.7 / 42.3
lz4, 1 file       65    5.0 / 25.4 / 47.2
================  ====  ====================

Fewer files read quicker, more files make corrections cheaper: 200,000 rows a file.
Dictionaries for prices cost size and time; they are for text only. Doubles were then
left uncompressed: decoding them was most of a read (one symbol 3.5 to 3.0 ms).
"""

import itertools
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from lakehouse.errors import StoreError
from lakehouse.schema._spec import FLOAT, INTEGER, TEXT, TIMESTAMP, TableSpec
from lakehouse.storage.keys import BoolArray, CodedRows, IntArray
from lakehouse.storage.location import Location

ROWS_PER_FILE: Final = 200_000
BYTES_PER_FILE: Final = 128 * 2**20  # in memory; decides for rows that carry lists
ROWS_PER_GROUP: Final = 4_096  # smallest row group worth its footer entry
LARGEST_GROUP: Final = 131_072  # rows
LARGEST_GROUP_BYTES: Final = 32 * 2**20
COMPRESSION: Final = "lz4"
FLOAT_COMPRESSION: Final = "none"  # doubles hardly shrink, and bars are read to be used
_LONGEST_BOUND: Final = 64  # characters of a text bound kept in the log


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A data file that no commit names yet."""

    path: str
    action: AddAction


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Rows of one file: its row groups, each some (start, length) of sorted rows."""

    rows: pa.Table
    groups: list[list[tuple[int, int]]]

    def tables(self) -> Iterator[pa.Table]:
        for group in self.groups:
            parts = [self.rows.slice(start, length) for start, length in group]
            yield parts[0] if len(parts) == 1 else pa.concat_tables(parts)


def write_files(
    location: Location,
    spec: TableSpec,
    rows: CodedRows,
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
    rows : CodedRows
        Declared columns, sorted by `spec.sort_by`.
    data_change : bool
        False when the rows are already in the table (compaction).

    Raises
    ------
    StoreError
        If a file cannot be written.
    """
    if not rows.n_rows:
        return []
    folder = location.path("tables", spec.name)

    def write(chunk: _Chunk) -> WrittenFile:
        return _write_file(location, folder, spec, chunk, data_change=data_change)

    chunks = _cut(spec, rows)
    try:
        if not location.is_remote:
            Path(folder).mkdir(parents=True, exist_ok=True)
        if len(chunks) == 1:
            return [write(chunks[0])]
        with ThreadPoolExecutor(max_workers=2) as pool:
            return list(pool.map(write, chunks))
    except OSError as error:
        raise StoreError(f"table {spec.name}: cannot write: {error}") from error


def _cut(spec: TableSpec, rows: CodedRows) -> list[_Chunk]:
    """Cut sorted rows into chunks of about `ROWS_PER_FILE` that follow each other in time."""
    n_chunks = count_chunks(rows.n_rows, rows.rows.nbytes)
    largest = _largest_group(rows)
    is_edge = rows.changes(_leading(spec))
    if n_chunks == 1:
        return [_Chunk(rows.rows, _group(_segments(is_edge), largest))]
    if spec.time is None:
        labels = np.arange(rows.n_rows) * n_chunks // rows.n_rows
    else:
        labels = _time_labels(rows.code(spec.time), n_chunks)
    segments = _segments(is_edge | (labels[1:] != labels[:-1]))
    if len(segments) > rows.n_rows // 64:
        # Times are scattered over the sort order: gather each chunk's rows instead.
        parts = [
            rows.take(np.flatnonzero(labels == n)) for n in range(labels.max() + 1)
        ]
        return [
            _Chunk(part.rows, _group(_segments(part.changes(_leading(spec))), largest))
            for part in parts
            if part.n_rows
        ]
    owners = labels[[start for start, _ in segments]]
    chunks = [
        [segments[i] for i in np.flatnonzero(owners == n)]
        for n in range(int(owners.max()) + 1)
    ]
    return [_Chunk(rows.rows, _group(chunk, largest)) for chunk in chunks if chunk]


def count_chunks(n_rows: int, n_bytes: int) -> int:
    """Return how many files rows are worth."""
    return max(1, round(n_rows / ROWS_PER_FILE), round(n_bytes / BYTES_PER_FILE))


def _largest_group(rows: CodedRows) -> int:
    row_bytes = max(1.0, rows.rows.nbytes / max(1, rows.n_rows))
    return max(1, min(LARGEST_GROUP, int(LARGEST_GROUP_BYTES / row_bytes)))


def _leading(spec: TableSpec) -> tuple[str, ...]:
    """Return the sort columns before the time column: what a row group is about."""
    if spec.time in spec.sort_by:
        return spec.sort_by[: spec.sort_by.index(spec.time)]
    return spec.sort_by[:1]


def _time_labels(moments: IntArray, n_chunks: int) -> IntArray:
    """Return each row's chunk, so that chunks are about equal and never share a time."""
    stride = max(1, len(moments) // 100_000)
    shares = np.arange(1, n_chunks) / n_chunks
    sampled = np.sort(moments[::stride])
    cuts = np.unique(sampled[(shares * len(sampled)).astype(np.int64)])
    return np.searchsorted(cuts, moments, side="right")


def _segments(is_edge: BoolArray) -> list[tuple[int, int]]:
    edges = [0, *(np.flatnonzero(is_edge) + 1).tolist(), len(is_edge) + 1]
    return [(a, b - a) for a, b in itertools.pairwise(edges)]


def _group(
    segments: list[tuple[int, int]], largest: int
) -> list[list[tuple[int, int]]]:
    """Gather segments into row groups: whole segments, none below the least size."""
    least = min(ROWS_PER_GROUP, max(1, largest // 4))
    groups: list[list[tuple[int, int]]] = []
    gathered: list[tuple[int, int]] = []
    size = 0
    for start, length in segments:
        for at in range(start, start + length, largest):
            piece = min(largest, start + length - at)
            gathered.append((at, piece))
            size += piece
            if size >= least:
                groups.append(gathered)
                gathered, size = [], 0
    if gathered:
        groups.append(gathered)
    return [_joined(group) for group in groups]


def _joined(group: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join segments that lie next to each other."""
    joined = [group[0]]
    for start, length in group[1:]:
        last_start, last_length = joined[-1]
        if last_start + last_length == start:
            joined[-1] = (last_start, last_length + length)
        else:
            joined.append((start, length))
    return joined


def _write_file(
    location: Location,
    folder: str,
    spec: TableSpec,
    chunk: _Chunk,
    *,
    data_change: bool,
) -> WrittenFile:
    name = f"part-{uuid.uuid4().hex}.parquet"
    path = f"{folder}/{name}"
    indexed = indexed_columns(spec)
    tables = list(chunk.tables())
    with location.filesystem.open_output_stream(path) as sink:
        with pq.ParquetWriter(
            sink, tables[0].schema, **_encoding(spec, indexed)
        ) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=table.num_rows)
        size = sink.tell()
    action = AddAction(
        path=name,
        size=size,
        partition_values={},
        modification_time=int(time.time() * 1000),
        data_change=data_change,
        stats=json.dumps(_file_statistics(pa.concat_tables(tables), indexed)),
    )
    return WrittenFile(path, action)


def _leaf(name: str, dtype: pa.DataType) -> str:
    # How Parquet names the values of a column, of a list its innermost ones.
    if pa.types.is_list(dtype):
        return _leaf(f"{name}.list.element", dtype.value_type)
    return name


def _encoding(spec: TableSpec, indexed: list[str]) -> dict[str, Any]:
    return {
        "compression": {
            _leaf(c.name, c.dtype): FLOAT_COMPRESSION
            if c.dtype == FLOAT
            else COMPRESSION
            for c in spec.columns
        },
        "use_dictionary": [c.name for c in spec.columns if c.dtype == TEXT],
        "column_encoding": {
            c.name: "DELTA_BINARY_PACKED"
            for c in spec.columns
            if c.dtype in (TIMESTAMP, INTEGER)
        },
        "write_statistics": indexed,
        "store_schema": False,
    }


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
