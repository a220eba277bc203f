"""Delimited text to a table of strings, no row lost and no cell changed.

Every line that is not blank is one row, whatever it holds: a row with too few fields
keeps nulls and is marked, one with too many keeps its surplus in the column `surplus`.
A quote left open ends with its line.
"""

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv

from lakehouse.errors import SourceError
from lakehouse.sources._zones import Mask

SURPLUS: Final = "surplus"
_DELIMITERS: Final = ("\t", ";", "|", ",")
_NAMES: Final = {"\t": "tab", ";": "semicolon", "|": "pipe", ",": "comma"}
BAR_WORDS: Final = frozenset(["open", "high", "low", "close"])
MAX_COLUMNS: Final = 5000
_SAMPLE: Final = 60  # lines
_VALUE = re.compile(
    r"""[-+]?[$€£]?[\d.,'\s]*\d[\d.,'\s]*(?:[eE][-+]?\d+)?\s*[%KMBT]?   # number
    |[\d/.\-]+[T\s][\d:.]+.*                                 # date and time
    |nan|n/a|null|none|-?inf(?:inity)?|""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Grid:
    """Delimited text, as strings.

    Attributes
    ----------
    table : pyarrow.Table of n_rows
        Strings, verbatim; without a header the columns are `column_1`, `column_2`, …
    has_header : bool
        Whether the first line named the columns.
    delimiter : str
        One character.
    is_short : ndarray of shape (n_rows,), bool
        Rows with fewer fields than the others.
    n_preamble : int
        Lines above the header that belong to no table.
    symbol : str or None
        The one symbol that a second line of the header names.
    """

    table: pa.Table
    has_header: bool
    delimiter: str
    is_short: Mask
    n_preamble: int = 0
    symbol: str | None = None

    @property
    def delimiter_name(self) -> str:
        """Word for the delimiter."""
        return _NAMES[self.delimiter]


def read_delimited(
    place: str, text: str, *, header_words: frozenset[str] = BAR_WORDS
) -> Grid:
    """Split text into rows and fields.

    Parameters
    ----------
    place : str
        File, for messages.
    text : str
        Content of the file.
    header_words : frozenset of str
        Lower-case names of which a header holds at least three.

    Raises
    ------
    SourceError
        If no delimiter splits it into columns, names and fields do not pair up, or
        there is no row below the header.
    """
    text, symbol = _flatten_header(place, text.rstrip("\x1a"))
    head = _head(text)
    if not head:
        raise SourceError(f"{place}: the file is empty")
    delimiter, n_preamble, has_header = _layout(place, head, header_words)
    first = _split(head[n_preamble], delimiter)
    width = _width(head[n_preamble:], delimiter)
    if max(width, len(first)) > MAX_COLUMNS:
        raise SourceError(
            f"{place}: {max(width, len(first))} columns: no table of bars"
        )
    if has_header:
        _check_header(place, first, head[n_preamble + 1 :], delimiter)
    names = (
        _unique(first)
        if has_header
        else [f"column_{number + 1}" for number in range(width)]
    )
    skip = n_preamble + has_header
    table, is_short = _read_fast(text, names, delimiter, skip=skip) or _read_careful(
        text, names, delimiter, skip=skip
    )
    if not table.num_rows:
        shown = ", ".join(first)[:200]
        raise SourceError(f"{place}: {shown!r} and no row below it")
    return Grid(table, has_header, delimiter, is_short, n_preamble, symbol)


def _flatten_header(place: str, text: str) -> tuple[str, str | None]:
    # `Price,Close,…` / `Ticker,AAPL,…` / `Date,,…`: columns in two levels, as Yahoo's
    # downloader has them written.
    parts = text.split("\n", 3)
    if len(parts) < 4:
        return text, None
    fields, tickers, index = (
        [cell.strip() for cell in p.split(",")] for p in parts[:3]
    )
    levels = (fields[0].lower(), tickers[0].lower(), index[0].lower())
    if levels[:2] != ("price", "ticker") or levels[2] not in {"date", "datetime"}:
        return text, None
    symbols = sorted(set(tickers[1:]))
    if len(symbols) != 1:
        raise SourceError(
            f"{place}: columns of {len(symbols)} symbols side by side "
            f"({', '.join(symbols)[:80]}); save one symbol per file, or one row per "
            "symbol and time"
        )
    return ",".join([index[0], *fields[1:]]) + "\n" + parts[3], symbols[0]


def _head(text: str) -> list[str]:
    lines: list[str] = []
    for line in io.StringIO(text, newline=None):
        if line.strip():
            lines.append(line.rstrip("\r\n"))
        if len(lines) >= _SAMPLE:
            break
    return lines


def _split(line: str, delimiter: str) -> list[str]:
    if line.count('"') % 2:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a field beyond the module's limit
        return line.split(delimiter)


def _layout(
    place: str, head: list[str], words: frozenset[str]
) -> tuple[str, int, bool]:
    # Delimiter, lines to pass over, whether the next one is a header.
    for number, line in enumerate(head[:20]):
        for delimiter in _DELIMITERS:
            cells = _split(line, delimiter)
            hits = {re.sub(r"[^a-z]+", "", cell.lower()) for cell in cells} & words
            above = {len(_split(other, delimiter)) for other in head[:number]}
            if len(hits) >= 3 and len(cells) not in above:
                return delimiter, number, True
    delimiter = _sniff(place, head)
    n_preamble = _n_preamble(head, delimiter)
    first = _split(head[n_preamble], delimiter)
    is_header = not any(
        _VALUE.fullmatch(cell.strip()) for cell in first if cell.strip()
    )
    return delimiter, n_preamble, is_header


def _sniff(place: str, head: list[str]) -> str:
    # A decimal comma splits too: the rarer delimiters go first.
    for delimiter in _DELIMITERS:
        widths = Counter(len(_split(line, delimiter)) for line in head)
        width, count = widths.most_common(1)[0]
        if width >= 3 and count * 2 >= len(head):
            return delimiter
    raise SourceError(
        f"{place}: no comma, tab, semicolon or pipe splits it into columns; "
        f"first row {head[0][:80]!r}"
    )


def _width(head: list[str], delimiter: str) -> int:
    widths = Counter(len(_split(line, delimiter)) for line in head)
    return widths.most_common(1)[0][0]


def _n_preamble(head: list[str], delimiter: str) -> int:
    width = _width(head, delimiter)
    number = 0
    while number < len(head) - 1 and (
        len(_split(head[number], delimiter)) * 2 < width or head[number].startswith("#")
    ):
        number += 1
    return number


def _check_header(
    place: str, names: list[str], rows: list[str], delimiter: str
) -> None:
    widths = {len(_split(row.rstrip(delimiter), delimiter)) for row in rows}
    if len(rows) >= 5 and len(widths) == 1 and (width := widths.pop()) > len(names):
        raise SourceError(
            f"{place}: the header names {len(names)} columns, every row has {width} "
            "fields; mend the header"
        )


def _unique(names: list[str]) -> list[str]:
    seen: Counter[str] = Counter()
    unique = []
    for position, name in enumerate(names):
        cleaned = name.strip().strip("\ufeff") or f"column_{position + 1}"
        if cleaned == SURPLUS:
            cleaned = f"{SURPLUS}_0"
        number = seen[cleaned]
        seen[cleaned] += 1
        unique.append(f"{cleaned}.{number}" if number else cleaned)
    return unique if len(set(unique)) == len(unique) else _numbered(unique)


def _numbered(names: list[str]) -> list[str]:
    return [f"{name} ({number + 1})" for number, name in enumerate(names)]


def _read_fast(
    text: str, names: list[str], delimiter: str, *, skip: int
) -> tuple[pa.Table, Mask] | None:
    # The parallel reader, taken only when it saw exactly one row per line.
    data = text.encode("utf-8", errors="replace")
    n_lines = data.count(b"\n") + (not data.endswith(b"\n"))
    try:
        table = pyarrow.csv.read_csv(
            pa.py_buffer(data),
            read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=skip),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None
    if table.num_rows != n_lines - skip:
        return None
    return table, np.zeros(table.num_rows, dtype=np.bool_)


def _read_careful(
    text: str, names: list[str], delimiter: str, *, skip: int
) -> tuple[pa.Table, Mask]:
    lines = [
        line
        for line in io.StringIO(text, newline=None).read().split("\n")
        if line.strip()
    ][skip:]
    rows = [_split(line, delimiter) for line in lines]
    width = len(names)
    columns: list[list[str | None]] = [[] for _ in names]
    surplus: list[str | None] = []
    for row in rows:
        padded: list[str | None] = [*row[:width], *[None] * (width - len(row))]
        for column, cell in zip(columns, padded, strict=True):
            column.append(cell)
        extra = delimiter.join(row[width:])
        surplus.append(extra if extra.strip(f" {delimiter}") else None)
    arrays = {
        name: pa.array(column, type=pa.string())
        for name, column in zip(names, columns, strict=True)
    }
    if any(surplus):
        arrays[SURPLUS] = pa.array(surplus, type=pa.string())
    is_short = np.array([len(row) < width for row in rows], dtype=np.bool_)
    return pa.table(arrays), is_short
