"""Bars as an Arrow panel, read straight from the row groups that hold them.

Data files never change, so their footers are parsed once per process. A file holds a
stretch of time, sorted by timeframe, symbol and time, and its row groups end where the
symbol changes: one symbol's history is one row group a file, copied without a filter.
Files that are laid out otherwise are read as well, only slower.
"""

import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from threading import get_ident
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.clock import parse_moment
from lakehouse.errors import InputError, StoreError
from lakehouse.query import PinnedFiles, Session, connect
from lakehouse.schema._spec import TIMEFRAMES
from lakehouse.schema.market import OHLCV

IntArray = npt.NDArray[np.int64]

PANEL_COLUMNS: Final = ("symbol", "ts", "open", "high", "low", "close", "volume")
_LARGE_READ: Final = 200_000  # rows; below it a second thread costs more than it saves
_FIRST: Final = np.iinfo(np.int64).min
_LAST: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class _DataFile:
    path: str
    filesystem: Any = field(compare=False)


@dataclass(frozen=True, slots=True)
class _RowGroup:
    number: int
    n_rows: int
    timeframes: tuple[str, str] | None
    symbols: tuple[str, str] | None
    span: tuple[int, int]  # first and last ts, microseconds

    @property
    def symbol(self) -> str | None:
        """The one symbol in it, if it is one."""
        if self.symbols is None or self.symbols[0] != self.symbols[1]:
            return None
        return self.symbols[0]


@dataclass(frozen=True, slots=True)
class _Footer:
    metadata: Any
    columns: frozenset[str]
    by_symbol: dict[str, list[_RowGroup]]
    mixed: list[_RowGroup]

    def groups(self, symbols: frozenset[str] | None) -> list[_RowGroup]:
        """Return the row groups that can hold these symbols, in their order."""
        if symbols is None:
            own = [g for groups in self.by_symbol.values() for g in groups]
        else:
            own = [g for s in symbols for g in self.by_symbol.get(s, ())]
        return sorted((*own, *self.mixed), key=lambda group: group.number)


@dataclass(frozen=True, slots=True)
class _Wanted:
    timeframe: str
    symbols: frozenset[str] | None
    start: int
    end: int  # exclusive
    columns: tuple[str, ...]
    needs_time: bool = False  # rows of several files must be put in order

    def may_hold(self, group: _RowGroup) -> bool:
        """Whether a row group can have wanted rows, by its bounds."""
        low, high = group.timeframes or (self.timeframe, self.timeframe)
        if not low <= self.timeframe <= high:
            return False
        if group.span[1] < self.start or group.span[0] >= self.end:
            return False
        if self.symbols is None or group.symbols is None:
            return True
        return any(group.symbols[0] <= s <= group.symbols[1] for s in self.symbols)

    def owns(self, group: _RowGroup) -> bool:
        """Whether all its rows are of one wanted symbol and timeframe."""
        return group.symbol is not None and group.timeframes == (
            self.timeframe,
            self.timeframe,
        )

    def holds_whole(self, group: _RowGroup) -> bool:
        """Whether every row of it is wanted."""
        return (
            self.owns(group)
            and self.start <= group.span[0]
            and group.span[1] < self.end
        )


@dataclass(frozen=True, slots=True)
class _Part:
    symbol: str
    first: int
    last: int
    rows: pa.Table


def read_bars(
    source: str | Session,
    *,
    timeframe: str,
    symbols: Collection[str] | None = None,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Read bars of one timeframe, by symbol and time.

    Parameters
    ----------
    source : str or Session
        Root of a lake, read at its newest version, or a session with pinned versions.
    timeframe : str
        `1h` or `1d`.
    symbols : collection of str, optional
        Only these; unknown ones have no rows.
    start, end : datetime or str, optional
        Opens from `start` on and before `end`; ISO 8601 or aware datetimes, UTC if naive.
    columns : sequence of str, optional
        Columns of `ohlcv`; symbol, ts, open, high, low, close, volume by default.

    Returns
    -------
    pyarrow.Table
        (n_bars, n_columns) in declared types, sorted by symbol and ts. The columns lie in
        many chunks: `combine_chunks` where one buffer is needed.

    Raises
    ------
    InputError
        If the timeframe, a column or a time is not legal, or there is no lake.
    StoreError
        If a data file cannot be read.

    Notes
    -----
    Point in time: a bar is known at its close, not at its `ts`; filtering by `end` alone
    lets an unfinished bar through. The rows are those of the pinned version.
    """
    wanted = _Wanted(
        _checked_timeframe(timeframe),
        None if symbols is None else frozenset(symbols),
        _FIRST if start is None else _microseconds(start, "start"),
        _LAST if end is None else _microseconds(end, "end"),
        _checked_columns(columns),
    )
    if isinstance(source, Session):
        return _read_panel(source.files(OHLCV.name), wanted)
    with connect(source, tables=(OHLCV.name,)) as session:
        return _read_panel(session.files(OHLCV.name), wanted)


def _checked_timeframe(timeframe: str) -> str:
    if timeframe not in TIMEFRAMES:
        raise InputError(f"timeframe {timeframe!r}: one of {', '.join(TIMEFRAMES)}")
    return timeframe


def _checked_columns(columns: Sequence[str] | None) -> tuple[str, ...]:
    chosen = PANEL_COLUMNS if columns is None else tuple(columns)
    if unknown := [name for name in chosen if name not in OHLCV.by_name]:
        raise InputError(
            f"column {unknown[0]!r}: one of {', '.join(c.name for c in OHLCV.columns)}"
        )
    return chosen


def _microseconds(moment: datetime | str, what: str) -> int:
    text = moment if isinstance(moment, str) else moment.isoformat()
    parsed = parse_moment(text, what=what)
    naive = parsed.replace(tzinfo=None)
    return int(np.datetime64(naive, "us").astype(np.int64))


def _read_panel(files: PinnedFiles, wanted: _Wanted) -> pa.Table:
    chosen = []
    for path in files.paths:
        file = _DataFile(path, files.filesystem)
        footer = _footer(file)
        groups = [g for g in footer.groups(wanted.symbols) if wanted.may_hold(g)]
        if groups:
            chosen.append((file, footer, groups))
    every = [g for _, _, groups in chosen for g in groups]
    wanted = replace(wanted, needs_time=_may_overlap(every))

    def read(choice: tuple[_DataFile, _Footer, list[_RowGroup]]) -> list[_Part]:
        file, footer, groups = choice
        return _read_file(file, footer, groups, wanted, reader=_new_reader)

    if sum(g.n_rows for g in every) >= _LARGE_READ and len(chosen) > 1:
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            found = [part for parts in pool.map(read, chosen) for part in parts]
        return _assembled(found, wanted)
    thread = get_ident()
    found = []
    for file, footer, groups in chosen:
        found += _read_file(
            file, footer, groups, wanted, reader=lambda file: _kept_reader(file, thread)
        )
    return _assembled(found, wanted)


def _new_reader(file: _DataFile) -> Any:
    is_local = file.filesystem.type_name == "local"
    data = (
        pa.memory_map(file.path)
        if is_local
        else file.filesystem.open_input_file(file.path)
    )
    return pq.ParquetFile(
        data,
        metadata=_cached_footer(file).metadata,
        read_dictionary=["symbol", "timeframe"],
    )


@lru_cache(maxsize=64)
def _kept_reader(file: _DataFile, thread: int) -> Any:  # noqa: ARG001 -- not shared
    return _new_reader(file)


def _may_overlap(groups: list[_RowGroup]) -> bool:
    if any(group.symbol is None for group in groups):
        return True
    ordered = sorted(groups, key=lambda g: (g.symbol or "", g.span))
    return any(
        a.symbol == b.symbol and b.span[0] <= a.span[1] for a, b in pairwise(ordered)
    )


def _footer(file: _DataFile) -> _Footer:
    try:
        return _cached_footer(file)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{file.path}: cannot be read: {error}") from error


@lru_cache(maxsize=4096)
def _cached_footer(file: _DataFile) -> _Footer:
    metadata = pq.read_metadata(file.path, filesystem=file.filesystem)
    positions = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
    groups = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)

        times = _bounds(group, positions["ts"], is_raw=True)
        groups.append(
            _RowGroup(
                number,
                group.num_rows,
                _bounds(group, positions["timeframe"]),
                _bounds(group, positions["symbol"]),
                times or (_FIRST, _LAST),
            )
        )
    by_symbol: dict[str, list[_RowGroup]] = {}
    for found in groups:
        if found.symbol is not None:
            by_symbol.setdefault(found.symbol, []).append(found)
    mixed = [found for found in groups if found.symbol is None]
    return _Footer(metadata, frozenset(positions), by_symbol, mixed)


def _bounds(group: Any, position: int, *, is_raw: bool = False) -> Any:
    # Raw times are their microseconds; the others would come by way of pandas.
    found = group.column(position).statistics
    if found is None or not found.has_min_max:
        return None
    return (found.min_raw, found.max_raw) if is_raw else (found.min, found.max)


def _read_file(
    file: _DataFile,
    footer: _Footer,
    groups: list[_RowGroup],
    wanted: _Wanted,
    *,
    reader: Callable[[_DataFile], Any],
) -> list[_Part]:
    own = [g for g in groups if wanted.owns(g)]
    mixed = [g for g in groups if not wanted.owns(g)]
    needs_time = wanted.needs_time or not all(wanted.holds_whole(g) for g in groups)
    read = (*wanted.columns, "ts") if needs_time else wanted.columns
    stored = footer.columns - {"symbol"}
    names = [name for name in dict.fromkeys(read) if name in stored]
    parts: list[_Part] = []
    try:
        opened = reader(file)
        if own:
            parts += _own_parts(_row_groups(opened, own, names), own, wanted)
        if mixed:
            every = list(dict.fromkeys((*names, "timeframe", "symbol", "ts")))
            parts += _filtered_parts(_row_groups(opened, mixed, every), wanted)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{file.path}: cannot be read: {error}") from error
    return parts


def _row_groups(file: Any, groups: list[_RowGroup], names: list[str]) -> pa.Table:
    numbers = [group.number for group in groups]
    return file.read_row_groups(numbers, columns=names, use_threads=False)


def _own_parts(rows: pa.Table, groups: list[_RowGroup], wanted: _Wanted) -> list[_Part]:
    parts, offset = [], 0
    for group in groups:
        piece = rows.slice(offset, group.n_rows)
        offset += group.n_rows
        symbol = group.symbol or ""
        if wanted.holds_whole(group):
            parts.append(_Part(symbol, *group.span, piece))
        else:
            parts += _stretch(symbol, piece, wanted)
    return parts


def _stretch(symbol: str, rows: pa.Table, wanted: _Wanted) -> list[_Part]:
    # Of one symbol's rows those inside the wanted times.
    times = _integers(rows.column("ts").cast(pa.int64()))
    if np.any(times[1:] <= times[:-1]):
        order = np.argsort(times, kind="stable")
        rows, times = rows.take(_positions(order)), times[order]
    a, b = np.searchsorted(times, (wanted.start, wanted.end)).tolist()
    if a == b:
        return []
    return [_Part(symbol, int(times[a]), int(times[b - 1]), rows.slice(a, b - a))]


def _filtered_parts(rows: pa.Table, wanted: _Wanted) -> list[_Part]:
    names, symbols = _codes(rows.column("symbol"))
    spans, timeframes = _codes(rows.column("timeframe"))
    times = _integers(rows.column("ts").cast(pa.int64()))
    keep = (times >= wanted.start) & (times < wanted.end)
    keep &= np.array([name == wanted.timeframe for name in spans])[timeframes]
    if wanted.symbols is not None:
        keep &= np.array([name in wanted.symbols for name in names])[symbols]
    kept = np.flatnonzero(keep)
    if not kept.size:
        return []
    kept = kept[np.lexsort((times[kept], symbols[kept]))]
    symbols, times = symbols[kept], times[kept]
    rows = rows.take(_positions(kept))
    edges = [0, *(np.flatnonzero(symbols[1:] != symbols[:-1]) + 1).tolist(), len(kept)]
    return [
        _Part(names[symbols[a]], int(times[a]), int(times[b - 1]), rows.slice(a, b - a))
        for a, b in pairwise(edges)
    ]


def _codes(column: pa.ChunkedArray) -> tuple[list[str], IntArray]:
    # Sorted names and, per row, which of them it has.
    column = column.unify_dictionaries()
    names = column.chunk(0).dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    indices = pa.chunked_array([chunk.indices for chunk in column.chunks])
    return [names[i] for i in order], rank[_integers(indices)]


def _assembled(parts: list[_Part], wanted: _Wanted) -> pa.Table:
    schema = OHLCV.to_arrow()
    schema = pa.schema([schema.field(name) for name in wanted.columns])
    if not parts:
        return schema.empty_table()
    parts = _without_overlap(sorted(parts, key=lambda p: (p.symbol, p.first)))
    rows = pa.concat_tables([part.rows for part in parts], promote_options="default")
    columns = [
        _symbol_column(parts) if name == "symbol" else _column(rows, schema.field(name))
        for name in wanted.columns
    ]
    return pa.table(columns, schema=schema)


def _column(rows: pa.Table, declared: pa.Field) -> pa.ChunkedArray:
    if declared.name not in rows.column_names:
        return pa.chunked_array([pa.nulls(rows.num_rows, declared.type)])
    column = rows.column(declared.name)
    return column if column.type == declared.type else column.cast(declared.type)


def _symbol_column(parts: list[_Part]) -> pa.ChunkedArray:
    # One array per symbol, long enough for its longest part; the parts share it.
    longest: dict[str, int] = {}
    for part in parts:
        longest[part.symbol] = max(longest.get(part.symbol, 0), part.rows.num_rows)
    arrays = {name: _repeated(name, n) for name, n in longest.items()}
    return pa.chunked_array(
        [arrays[part.symbol].slice(0, part.rows.num_rows) for part in parts]
    )


# Arrow's conversions from and to Python and NumPy import pandas, half a second on the
# first call; its buffers do not.


def _integers(column: pa.ChunkedArray) -> IntArray:
    chunks = [np.from_dlpack(chunk) for chunk in column.chunks]
    rows = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
    return rows.astype(np.int64, copy=False)


def _positions(rows: IntArray) -> pa.Array:
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows)])


def _repeated(text: str, n_rows: int) -> pa.Array:
    data = text.encode()
    offsets = np.arange(n_rows + 1, dtype=np.int32) * np.int32(len(data))
    return pa.StringArray.from_buffers(
        n_rows, pa.py_buffer(offsets), pa.py_buffer(data * n_rows)
    )


def _without_overlap(parts: list[_Part]) -> list[_Part]:
    # Late rows lie in files of their own, beside the stretch they belong to.
    stretches: list[list[_Part]] = []
    last = _FIRST
    for part in parts:
        if stretches and stretches[-1][0].symbol == part.symbol and part.first <= last:
            stretches[-1].append(part)
            last = max(last, part.last)
        else:
            stretches.append([part])
            last = part.last
    return [s[0] if len(s) == 1 else _merged(s) for s in stretches]


def _merged(parts: list[_Part]) -> _Part:
    rows = pa.concat_tables([part.rows for part in parts], promote_options="default")
    times = _integers(rows.column("ts").cast(pa.int64()))
    order = np.argsort(times, kind="stable")
    span = int(times[order[0]]), int(times[order[-1]])
    return _Part(parts[0].symbol, *span, rows.take(_positions(order)))
