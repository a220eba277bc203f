"""Rewriting files without changing rows: compaction per time chunk, and pruning.

Small neighbours in time are gathered until a file is full, and files whose times
overlap are merged, so that each file again covers its own stretch of time. A table is
never compacted into one file: corrections would then rewrite all of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lakehouse.schema._spec import TIMESTAMP, TableSpec
from lakehouse.storage.commits import (
    StoredFile,
    TableHandle,
    stored_files,
    with_retries,
)
from lakehouse.storage.files import read_rows
from lakehouse.storage.keys import CodedRows, IntArray, column_codes
from lakehouse.storage.latest import LatestTable
from lakehouse.storage.layout import (
    BYTES_PER_FILE,
    ROWS_PER_FILE,
    WrittenFile,
    write_files,
)

_LARGEST_MERGE: Final = 8  # files' worth of rows rewritten at once


@dataclass(frozen=True, slots=True)
class _Placed:
    """A file and the stretch of its table's time it covers."""

    file: StoredFile
    low: int
    high: int


def plan_bins(spec: TableSpec, actions: pa.Table) -> list[list[StoredFile]]:
    """Return the sets of files to merge, each of two files or more.

    Parameters
    ----------
    spec : TableSpec
        The table.
    actions : pyarrow.Table
        Its data files with their bounds (`TableHandle.actions`).
    """
    bins: list[list[_Placed]] = []
    for placed in _placed(spec, actions):
        if bins and _belongs(bins[-1], placed, is_timed=spec.time is not None):
            bins[-1].append(placed)
        else:
            bins.append([placed])
    return [[p.file for p in one] for one in bins if len(one) > 1]


def _placed(spec: TableSpec, actions: pa.Table) -> list[_Placed]:
    files = stored_files(actions)
    if spec.time is None or f"min.{spec.time}" not in actions.column_names:
        return [_Placed(file, 0, 0) for file in sorted(files, key=lambda f: f.path)]
    lows = _moments(actions.column(f"min.{spec.time}"))
    highs = _moments(actions.column(f"max.{spec.time}"))
    placed = [
        _Placed(file, int(low), int(high))
        for file, low, high in zip(files, lows, highs, strict=True)
        if file.n_rows
    ]
    return sorted(placed, key=lambda p: (p.low, p.high, p.file.path))


def _moments(bounds: pa.ChunkedArray) -> IntArray:
    return column_codes(bounds.cast(TIMESTAMP))


def _belongs(gathered: Sequence[_Placed], placed: _Placed, *, is_timed: bool) -> bool:
    n_rows = sum(p.file.n_rows for p in gathered) + placed.file.n_rows
    size = sum(p.file.size for p in gathered) + placed.file.size
    if n_rows <= ROWS_PER_FILE and size <= BYTES_PER_FILE // 2:
        return True
    is_overlapping = is_timed and placed.low <= max(p.high for p in gathered)
    return is_overlapping and n_rows <= _LARGEST_MERGE * ROWS_PER_FILE


def rewrite(
    handle: TableHandle,
    latest: LatestTable | None,
    files: Sequence[StoredFile],
    *,
    change: Callable[[pa.Table], pa.Table] | None = None,
) -> int:
    """Replace files by newly laid out ones with the same keys.

    Parameters
    ----------
    handle : TableHandle
        The table.
    latest : LatestTable or None
        Its newest rows; `change` must not touch the columns kept there.
    files : sequence of StoredFile
        To be replaced. If another writer replaces one first, nothing is done.
    change : callable, optional
        Applied to the rows on the way.

    Returns
    -------
    int
        New files; 0 when nothing was done.
    """
    spec = handle.spec
    parts = [read_rows(handle.location, spec, file).rows for file in files]
    rows = pa.concat_tables(parts)
    if change is not None:
        rows = change(rows)
    is_change = change is not None
    written = write_files(
        handle.location,
        spec,
        CodedRows(rows).sorted_by(spec.sort_by),
        data_change=is_change,
    )

    def attempt() -> int:
        delta = handle.refresh()
        live = set() if delta is None else {f.path for f in handle.files(delta)}
        if delta is None or not {f.path for f in files} <= live:
            _drop(handle, written)
            return 0
        version = handle.commit(
            delta,
            adds=[file.action for file in written],
            removes=files,
            data_change=is_change,
        )
        if latest is not None:
            latest.advance(version, CodedRows(rows.slice(0, 0)))
        return len(written)

    return with_retries(spec.name, attempt)


def _drop(handle: TableHandle, written: Sequence[WrittenFile]) -> None:
    for file in written:
        handle.location.delete(file.path)


def files_before(spec: TableSpec, actions: pa.Table, moment: Any) -> list[StoredFile]:
    """Return the files that may hold rows whose time is before `moment`."""
    if spec.time is None:
        return stored_files(actions)
    bound = column_codes(pa.chunked_array([pa.array([moment], TIMESTAMP)]))[0]
    lows = _moments(actions.column(f"min.{spec.time}"))
    return stored_files(actions.filter(pa.array(np.asarray(lows < bound))))
