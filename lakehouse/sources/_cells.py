"""Cells to numbers: decimal commas, thousands separators, currency signs, suffixes.

Nothing is repaired: a cell that is not one finite number becomes NaN, and an empty cell
is told apart from a wrong one.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import SourceError
from lakehouse.sources._zones import Mask

Floats = npt.NDArray[np.float64]
Decimal = Literal[".", ","]

MISSING: Final = (
    "",
    "-",
    "--",
    "na",
    "n/a",
    "nan",
    "null",
    "none",
    "#n/a",
    "<na>",
    "nil",
)
_SUFFIX: Final = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_NUMBER_LIKE = re.compile(r"[-+]?[$€£]?[\d.,'\s\u00a0\u202f]+")
_GROUPED_COMMAS = re.compile(r"[-+]?[$€£]?\d{1,3}(?:,\d{3})+")
_SAMPLE: Final = 2000
_NOT_IN_PYTHON = (OverflowError, ValueError, KeyError)


@dataclass(frozen=True, slots=True)
class Numbers:
    """A column of numbers.

    Attributes
    ----------
    values : ndarray of shape (n_rows,), float64
        NaN where the cell holds no finite number.
    is_empty : ndarray of shape (n_rows,), bool
        Cells that are null or blank.
    is_missing : ndarray of shape (n_rows,), bool
        Cells that are empty or say so (`nan`, `N/A`, `-`).
    """

    values: Floats
    is_empty: Mask
    is_missing: Mask


def decimal_mark(place: str, columns: Iterable[Any], *, stated: str | None) -> Decimal:
    """Find whether `.` or `,` separates the decimals of the price columns.

    Parameters
    ----------
    place : str
        File, for messages.
    columns : iterable of pyarrow arrays
        Price columns; only text is looked at.
    stated : str or None
        `decimal` of `--columns`.

    Raises
    ------
    SourceError
        If commas may be decimals or thousands and no cell tells.
    """
    if stated in {".", ","}:
        return "," if stated == "," else "."
    if stated is not None:
        raise SourceError(f"{place}: --columns decimal={stated!r}; give . or ,")
    cells = [
        cell.strip()
        for column in columns
        if is_text(column)
        for cell in column.slice(0, _SAMPLE).to_pylist()
        if cell and ("," in cell or "." in cell)
    ]
    votes = Counter(_vote(cell) for cell in cells)
    if votes["."] >= votes[","] and votes["."]:
        return "."
    if votes[","]:
        return ","
    grouped = [cell for cell in cells if _GROUPED_COMMAS.fullmatch(cell)]
    if not grouped or any(cell.count(",") > 1 for cell in grouped):
        return "."
    raise SourceError(
        f"{place}: {grouped[0]!r} may be thousands or decimals; "
        "pass --columns decimal=, or decimal=."
    )


def _vote(cell: str) -> str:
    # The mark that a cell speaks for; none where a comma may group thousands.
    if not _NUMBER_LIKE.fullmatch(cell) or _GROUPED_COMMAS.fullmatch(cell):
        return ""
    return "," if cell.rfind(",") > cell.rfind(".") else "."


def is_text(column: Any) -> bool:
    """Whether an Arrow column holds strings."""
    kind = column.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def to_numbers(column: Any, *, decimal: Decimal = ".") -> Numbers:
    """Read a column of strings or numbers.

    Parameters
    ----------
    column : pyarrow.Array or ChunkedArray of n_rows
        Text or any numeric type.
    decimal : str
        Decimal mark of text.

    Returns
    -------
    Numbers
    """
    if not is_text(column):
        return _typed_numbers(column)
    trimmed = pc.utf8_trim_whitespace(column)
    is_empty = _mask(pc.fill_null(pc.equal(trimmed, ""), fill_value=True))
    filled = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    if decimal == ".":
        try:
            values = _floats(pc.cast(filled, pa.float64()))
        except pa.ArrowInvalid:
            values = _lenient(filled, decimal)
    else:
        values = _lenient(filled, decimal)
    return Numbers(_finite(values), is_empty, is_empty | _says_missing(filled, values))


def _typed_numbers(column: Any) -> Numbers:
    kind = column.type
    if (
        pa.types.is_decimal(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
    ):
        is_empty = _mask(pc.is_null(column))
        if pa.types.is_decimal(kind):
            # By way of text: the direct cast is off by one bit in places.
            column = pc.cast(column, pa.string())
        values = _floats(pc.cast(column, pa.float64(), safe=False))
        return Numbers(_finite(values), is_empty, is_empty | np.isnan(values))
    if pa.types.is_null(kind):
        gone = np.ones(len(column), dtype=np.bool_)
        return Numbers(np.full(len(column), np.nan), gone, gone)
    raise SourceError(f"a column of type {kind} where numbers are needed")


def _says_missing(filled: Any, values: Floats) -> Mask:
    suspects = np.flatnonzero(~np.isfinite(values))
    says = np.zeros(len(values), dtype=np.bool_)
    if suspects.size:
        cells = filled.take(pa.array(suspects)).to_pylist()
        says[suspects] = [cell is None or cell.lower() in MISSING for cell in cells]
    return says


def _lenient(filled: Any, decimal: Decimal) -> Floats:
    # Signs of currency and grouping go; what is left must be one plain number.
    grouping = (
        r"[\s\x{00a0}\x{202f}'.]" if decimal == "," else r"[\s\x{00a0}\x{202f}',]"
    )
    plain = pc.replace_substring_regex(filled, r"^([-+]?)[$€£]\s*", r"\1")
    head = r"^[-+]?(\d{1,3}(?:" + grouping + r"\d{3})+|\d*)"
    tail = (
        r"(,\d*)?" if decimal == "," else r"(\.\d*)?"
    ) + r"([eE][-+]?\d+)?\s?[KMBTkmbt]?$"
    is_number = pc.match_substring_regex(plain, head + tail)
    plain = pc.if_else(is_number, plain, pa.scalar(None, pa.string()))
    plain = pc.replace_substring_regex(plain, grouping, "")
    if decimal == ",":
        plain = pc.replace_substring(plain, ",", ".")
    parts = pc.extract_regex(
        plain,
        r"^\+?(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?P<suffix>[KMBTkmbt]?)$",
    )
    values = _floats(pc.cast(pc.struct_field(parts, "number"), pa.float64()))
    suffix = pc.utf8_upper(pc.struct_field(parts, "suffix"))
    for letter, factor in _SUFFIX.items():
        # A plain product, so that a page and a Parquet copy of it compare equal.
        values[_mask(pc.fill_null(pc.equal(suffix, letter), fill_value=False))] *= (
            factor
        )
    return values


def _floats(column: Any) -> Floats:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    return np.array(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)


def _mask(column: Any) -> Mask:
    return np.array(column, dtype=np.bool_)


def python_cells(column: Any) -> list[Any]:
    """Return the cells of an Arrow column, whatever they hold.

    Times that Python cannot hold (beyond the year 9999, in an unknown zone) are given as
    the number that stands for them, as text.
    """
    try:
        cells: list[Any] = column.to_pylist()
    except _NOT_IN_PYTHON:
        return [_python_cell(cell) for cell in column]
    return cells


def _python_cell(cell: Any) -> Any:
    try:
        return cell.as_py()
    except _NOT_IN_PYTHON:
        return str(cell.value)
