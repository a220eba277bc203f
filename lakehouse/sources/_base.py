"""What every source hands to `lakehouse.intake`, whatever it was read from.

A source parses; it never judges. It yields the rows it saw, in their order, none left
out: a row that could not be parsed carries the reason, and its original columns go
along so that the quarantine can keep them verbatim. Screening, comparison with what is
stored, and writing are `lakehouse.intake`'s.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyarrow as pa

from lakehouse.errors import SchemaError
from lakehouse.schema._spec import FLOAT, INTEGER, TEXT, TIMESTAMP

BAR_SCHEMA: Final = pa.schema(
    [
        ("symbol", TEXT),
        ("ts", TIMESTAMP),
        ("open", FLOAT),
        ("high", FLOAT),
        ("low", FLOAT),
        ("close", FLOAT),
        ("volume", FLOAT),
        ("reason", TEXT),
        ("detail", TEXT),
    ]
)
RELEASE_SCHEMA: Final = pa.schema(
    [
        ("ts", TIMESTAMP),
        ("currency", TEXT),
        ("symbol", TEXT),
        ("event", TEXT),
        ("event_type", TEXT),
        ("importance", INTEGER),
        ("actual", FLOAT),
        ("forecast", FLOAT),
        ("previous", FLOAT),
        ("is_timed", pa.bool_()),
        ("reason", TEXT),
        ("detail", TEXT),
    ]
)


@dataclass(frozen=True, slots=True)
class InstrumentInfo:
    """What a source knows about one symbol; None where it does not know.

    Attributes
    ----------
    symbol : str
        Name used in the bars.
    asset_class : str or None
        One of `ASSET_CLASSES`.
    calendar : str or None
        `24x7`, `fx` or an exchange MIC.
    currency : str or None
        Quote currency, ISO 4217.
    is_leader : bool
        Whether it is read as a feature of others and not forecast itself.
    listed_from, listed_to : datetime or None
        First bar, and last bar of a delisted symbol, UTC.
    """

    symbol: str
    asset_class: str | None = None
    calendar: str | None = None
    currency: str | None = None
    is_leader: bool = False
    listed_from: datetime | None = None
    listed_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class RawBars:
    """One file or one download of bars, unjudged.

    Attributes
    ----------
    source : str
        Where the rows came from, e.g. `files:btc.csv@1a2b3c4d`, `ccxt:binance`.
    window : str
        Logical id of this input, the same on every retry: for files the sha256 of the
        file and of the options that read it, for feeds their time window.
    timeframe : str
        `1h` or `1d`.
    bars : pyarrow.Table of n_rows
        Columns of `BAR_SCHEMA`, all nullable. `reason` is set where the parser
        already refused the row.
    original : pyarrow.Table of n_rows
        The source's own columns; row i belongs to row i of `bars`.
    first_row : int, default 1
        Number of row 0 in the source, header excluded.
    instruments : tuple of InstrumentInfo
        What the source says about its symbols.
    notes : tuple of str
        What was inferred, one line each, to be said to the user.
    """

    source: str
    window: str
    timeframe: str
    bars: pa.Table
    original: pa.Table
    first_row: int = 1
    instruments: tuple[InstrumentInfo, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse tables that do not pair up row by row."""
        _check_rows(self.source, self.bars, self.original, BAR_SCHEMA)


@dataclass(frozen=True, slots=True)
class RawReleases:
    """One file of economic releases, unjudged.

    Attributes
    ----------
    source, window, original, first_row, notes
        As in `RawBars`.
    releases : pyarrow.Table of n_rows
        Columns of `RELEASE_SCHEMA`, all nullable; `event_type` may be left out.
    """

    source: str
    window: str
    releases: pa.Table
    original: pa.Table
    first_row: int = 1
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse tables that do not pair up row by row."""
        required = RELEASE_SCHEMA.remove(RELEASE_SCHEMA.get_field_index("event_type"))
        _check_rows(self.source, self.releases, self.original, required)


def _check_rows(
    source: str, rows: pa.Table, original: pa.Table, schema: pa.Schema
) -> None:
    if rows.num_rows != original.num_rows:
        raise SchemaError(
            f"{source}: {rows.num_rows} parsed rows, {original.num_rows} original rows"
        )
    for field in schema:
        if field.name not in rows.column_names:
            raise SchemaError(f"{source}: parsed rows lack column {field.name!r}")
        found = rows.schema.field(field.name).type
        if found != field.type:
            raise SchemaError(
                f"{source}: column {field.name!r} is {found}, expected {field.type}"
            )
