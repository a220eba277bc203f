"""What a dialect is given (a sheet) and what it decides (a plan).

A dialect only says which column is what, in which zone its clock runs and by what its
prices are scaled; one reader (`_reading`) then reads every dialect the same way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from lakehouse.errors import InputError, SourceError
from lakehouse.sources._delimited import Grid
from lakehouse.sources._names import is_symbol
from lakehouse.sources._stamps import DateOrder
from lakehouse.sources._zones import Zone, parse_zone

DIALECTS: Final = ("alphalake", "klines", "lean", "metatrader", "generic")
PRICES: Final = ("open", "high", "low", "close")
FIELDS: Final = (
    "ts",
    "date",
    "time",
    *PRICES,
    "volume",
    "symbol",
    "timeframe",
    "asset_class",
)
SETTINGS: Final = ("scale", "dates", "decimal")


@dataclass(frozen=True, slots=True)
class Options:
    """How the user asked for files to be read.

    Attributes
    ----------
    dialect : str
        One of `DIALECTS` or `auto`.
    symbols : tuple of str
        Names for files that hold none; otherwise a selection.
    timeframe : str or None
        `1h` or `1d`.
    zone : Zone or None
        Where unstated clocks run.
    columns : Mapping of str to str
        Field to column name or 1-based number.
    scale : float or None
        Prices in the file are this many times too large.
    dates : str or None
        `dmy` or `mdy`.
    decimal : str or None
        Decimal mark.
    """

    dialect: str = "auto"
    symbols: tuple[str, ...] = ()
    timeframe: str | None = None
    zone: Zone | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    scale: float | None = None
    dates: DateOrder | None = None
    decimal: str | None = None

    @classmethod
    def parse(
        cls,
        *,
        dialect: str,
        symbols: Any,
        timeframe: str | None,
        timezone: str | None,
        columns: Any,
    ) -> "Options":
        """Check what was passed.

        Raises
        ------
        InputError
            If a dialect, timeframe, zone or column field is not one of those allowed.
        """
        if dialect not in (*DIALECTS, "auto"):
            raise InputError(
                f"--dialect: {dialect!r} is none of auto, {', '.join(DIALECTS)}"
            )
        if timeframe is not None and timeframe not in {"1h", "1d"}:
            raise InputError(f"--timeframe: {timeframe!r} is none of 1h, 1d")
        mapping = _parse_columns(columns)
        return cls(
            dialect=dialect,
            symbols=_parse_symbols(symbols),
            timeframe=timeframe,
            zone=None if timezone is None else parse_zone(timezone),
            scale=_parse_scale(mapping.pop("scale", None)),
            dates=_parse_dates(mapping.pop("dates", None)),
            decimal=mapping.pop("decimal", None),
            columns=mapping,
        )


def _parse_symbols(symbols: Any) -> tuple[str, ...]:
    names = symbols.split(",") if isinstance(symbols, str) else list(symbols or ())
    asked = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    for name in asked:
        if not is_symbol(name):
            raise InputError(f"--symbols: {name[:60]!r} is no symbol, e.g. BTC/USDT")
    return asked


def _parse_columns(columns: Any) -> dict[str, str]:
    if isinstance(columns, str):
        pairs = [part.partition("=") for part in _split_pairs(columns)]
        columns = {name.strip(): value.strip() for name, _, value in pairs}
    mapping = dict(columns or {})
    for name, value in mapping.items():
        if name not in (*FIELDS, *SETTINGS):
            raise InputError(
                f"--columns: {name!r} is no field; allowed: "
                f"{', '.join((*FIELDS, *SETTINGS))}"
            )
        if not value:
            raise InputError(f"--columns: {name} names no column; write {name}=COLUMN")
    return mapping


def _split_pairs(text: str) -> list[str]:
    # `decimal=,` holds the separator itself.
    text = text.replace("decimal=,", "decimal=\0")
    return [part.replace("\0", ",") for part in text.split(",") if part.strip()]


def _parse_scale(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        scale = float(text)
    except ValueError as error:
        raise InputError(f"--columns scale={text!r}: not a number") from error
    if not 0 < scale < float("inf"):
        raise InputError(f"--columns scale={text}: must be above 0, e.g. 100000")
    return scale


def _parse_dates(text: str | None) -> DateOrder | None:
    if text is None:
        return None
    if text == "dmy":
        return "dmy"
    if text == "mdy":
        return "mdy"
    raise InputError(f"--columns dates={text!r}: give dmy or mdy")


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table found in a file.

    Attributes
    ----------
    path : Path
        The file.
    member : str or None
        Name inside an archive.
    table : pyarrow.Table of n_rows
        Verbatim columns: strings of text files, typed ones otherwise.
    grid : Grid or None
        How the text was split; None for typed tables.
    kind : str
        `text`, `parquet` or `arrow`.
    notes : tuple of str
        What was noticed on opening.
    """

    path: Path
    member: str | None
    table: pa.Table
    grid: Grid | None
    kind: str
    notes: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """File and member, for messages."""
        name = str(self.path)
        return f"{name}!{self.member}" if self.member else name

    @property
    def name(self) -> str:
        """Name of the innermost file."""
        return (self.member or self.path.name).rsplit("/", 1)[-1]

    @property
    def columns(self) -> list[str]:
        """Column names."""
        return [str(name) for name in self.table.column_names]

    @property
    def has_header(self) -> bool:
        """Whether the columns carry names of their own."""
        return self.grid is None or self.grid.has_header

    def described(self) -> str:
        """Say in one line what was recognised."""
        if self.grid is None:
            shown = ", ".join(
                f"{field.name} {field.type}" for field in list(self.table.schema)[:12]
            )
            return f"{self.kind} with {len(self.columns)} columns ({shown})"
        first = self.table.slice(0, 1).to_pylist()[0].values()
        row = self.grid.delimiter.join("" if cell is None else cell for cell in first)
        names = ", ".join(name[:40] for name in self.columns[:12])
        header = f"header {names}" if self.has_header else "no header"
        return (
            f"{self.grid.delimiter_name}-separated, {len(self.columns)} columns, "
            f"{header}, first row {row[:100]!r}"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Which column is what, and how to read it.

    Attributes
    ----------
    dialect : str
        Who decided.
    columns : Mapping of str to int
        Field of `FIELDS` to column position.
    zone : Zone or None
        Where unstated clocks run, if the dialect knows.
    scale : float or None
        Prices are this many times too large; None lets the reader find out.
    symbol : str or None
        The one symbol of the sheet, where the dialect states it.
    timeframe : str or None
        Bar length, where the dialect states it.
    asset_class, calendar, currency : str or None
        What the dialect knows about its symbols.
    notes : tuple of str
        What was inferred.
    """

    dialect: str
    columns: Mapping[str, int]
    zone: Zone | None = None
    scale: float | None = None
    symbol: str | None = None
    timeframe: str | None = None
    asset_class: str | None = None
    calendar: str | None = None
    currency: str | None = None
    notes: tuple[str, ...] = ()


def not_recognised(sheet: Sheet, why: str) -> SourceError:
    """Return the refusal of a sheet: what was seen and what to pass."""
    example = (
        "--columns ts=COLUMN,open=COLUMN,high=COLUMN,low=COLUMN,close=COLUMN"
        if sheet.has_header
        else "--dialect generic --columns ts=1,open=2,high=3,low=4,close=5 (column numbers)"
    )
    return SourceError(
        f"{sheet.place}: {why}; found {sheet.described()}; pass {example}"
    )
