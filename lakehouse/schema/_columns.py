"""Columns that mean the same thing in many tables, declared once."""

from lakehouse.schema._spec import (
    ASSET_CLASSES,
    BOOLEAN,
    BYTES,
    FLOAT,
    INTEGER,
    TEXT,
    TIMEFRAMES,
    TIMESTAMP,
    ColumnSpec,
)


def text(name: str, description: str, *, is_nullable: bool = False) -> ColumnSpec:
    """Declare a text column."""
    return ColumnSpec(name, TEXT, description, is_nullable=is_nullable)


def choice(
    name: str, description: str, allowed: tuple[str, ...], *, is_nullable: bool = False
) -> ColumnSpec:
    """Declare a text column with a closed list of values."""
    return ColumnSpec(name, TEXT, description, is_nullable=is_nullable, allowed=allowed)


def number(
    name: str,
    description: str,
    unit: str | None = None,
    *,
    is_nullable: bool = False,
    minimum: float | None = None,
    maximum: float | None = None,
) -> ColumnSpec:
    """Declare a finite float64 column."""
    return ColumnSpec(
        name,
        FLOAT,
        description,
        unit,
        is_nullable=is_nullable,
        minimum=minimum,
        maximum=maximum,
    )


def count(name: str, description: str, unit: str | None = None) -> ColumnSpec:
    """Declare an int64 column that is zero or more."""
    return ColumnSpec(name, INTEGER, description, unit, minimum=0)


def when(name: str, description: str, *, is_nullable: bool = False) -> ColumnSpec:
    """Declare a UTC timestamp column."""
    return ColumnSpec(name, TIMESTAMP, description, is_nullable=is_nullable)


def flag(name: str, description: str, *, is_nullable: bool = False) -> ColumnSpec:
    """Declare a boolean column."""
    return ColumnSpec(name, BOOLEAN, description, is_nullable=is_nullable)


def content(name: str, description: str) -> ColumnSpec:
    """Declare a column of bytes, for files in a safe format; never pickled objects."""
    return ColumnSpec(name, BYTES, description)


def price(name: str, description: str) -> ColumnSpec:
    """Declare a strictly positive price in the instrument's quote currency."""
    return ColumnSpec(name, FLOAT, description, "quote currency", is_positive=True)


SYMBOL = text("symbol", "Instrument, as registered in `instruments`.")
TIMEFRAME = choice("timeframe", "Bar length.", TIMEFRAMES)
RUN_ID = text("run_id", "The run that wrote the row, see `runs`.")
KNOWN_TS = when("known_ts", "First moment at which this row could have been known.")
MODEL_NAME = text("model_name", "Forecasting model, e.g. `naive`.")
MODEL_VERSION = text("model_version", "Version of the model's code and weights.")
ASSET_CLASS = choice("asset_class", "Asset class.", ASSET_CLASSES)
SEQ = count("seq", "Position in the chain, from 0 without gaps.")
PREVIOUS_HASH = text("previous_hash", "`row_hash` of the row before; 64 zeros first.")
ROW_HASH = text(
    "row_hash", "SHA-256 over this row's canonical JSON and the hash before."
)
