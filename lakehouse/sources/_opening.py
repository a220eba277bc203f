"""A path to its sheets: unpack, recognise the container, read it verbatim."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet

from lakehouse.errors import SourceError
from lakehouse.sources._delimited import BAR_WORDS, read_delimited
from lakehouse.sources._unpack import Member, decode, unpack
from lakehouse.sources.dialects._base import Sheet

_ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError)
_INDEX = "__index_level_0__"


def open_sheets(
    path: Path, data: bytes, *, header_words: frozenset[str] = BAR_WORDS
) -> list[Sheet]:
    """Read every table of a file.

    Parameters
    ----------
    path : Path
        Where it lies; its folders may name a market.
    data : bytes
        Its content.
    header_words : frozenset of str
        Names by which the header of a text file is known.

    Raises
    ------
    SourceError
        If the file or one of its members is damaged, binary or empty.
    """
    return [_open(path, member, header_words) for member in unpack(str(path), data)]


def _open(path: Path, member: Member, header_words: frozenset[str]) -> Sheet:
    place = f"{path}!{member.name}" if member.name else str(path)
    data = member.data
    if not data:
        raise SourceError(f"{place}: the file is empty")
    if data[:4] == b"PAR1":
        return _typed(path, member, "parquet", place)
    if data[:6] == b"ARROW1" or data[:4] in (b"FEA1", b"\xff\xff\xff\xff"):
        return _typed(path, member, "arrow", place)
    text, encoding = decode(place, data)
    grid = read_delimited(place, text, header_words=header_words)
    notes = []
    if encoding == "Windows-1252":
        notes.append("not UTF-8: read as Windows-1252")
    if grid.n_preamble:
        notes.append(f"{grid.n_preamble} lines above the header passed over")
    return Sheet(path, member.name, grid.table, grid, "text", tuple(notes))


@contextmanager
def arrow_errors(path: Path) -> Iterator[None]:
    """Turn what Arrow refuses while cells are read into a refusal of the file."""
    try:
        yield
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(f"{path}: cannot be read: {reason[:160]}") from error


def _typed(path: Path, member: Member, kind: str, place: str) -> Sheet:
    try:
        table = _read_typed(member.data, kind)
        table.validate(full=True)  # damaged buffers would crash the process later
    except _ARROW_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(f"{place}: damaged {kind} file: {reason[:160]}") from error
    if not table.num_rows:
        raise SourceError(f"{place}: the {kind} file holds no row")
    if len(set(table.column_names)) != len(table.column_names):
        raise SourceError(f"{place}: the {kind} file repeats a column name")
    names = ["index" if name == _INDEX else name for name in table.column_names]
    return Sheet(path, member.name, _plain(table.rename_columns(names)), None, kind)


def _read_typed(data: bytes, kind: str) -> pa.Table:
    source = pa.BufferReader(data)
    if kind == "parquet":
        return pyarrow.parquet.ParquetFile(source).read()
    if data[:4] == b"\xff\xff\xff\xff":
        return pyarrow.ipc.open_stream(source).read_all()
    return pyarrow.feather.read_table(source)


def _plain(table: pa.Table) -> pa.Table:
    # Dictionaries and views to plain strings; nothing else changes.
    for position, field in enumerate(table.schema):
        kind: Any = field.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_string_view(kind):
            kind = pa.string()
        if kind != field.type:
            column = table.column(position).cast(kind)
            table = table.set_column(position, field.name, column)
    return table
