"""Instruments, bars, releases, and what was refused on the way in."""

from lakehouse.schema._columns import (
    ASSET_CLASS,
    RUN_ID,
    SYMBOL,
    TIMEFRAME,
    count,
    flag,
    number,
    price,
    text,
    when,
)
from lakehouse.schema._spec import (
    INTEGER,
    TEXT,
    ColumnSpec,
    LatestSpec,
    TableSpec,
    ViewSpec,
)

QUARANTINE_REASONS = (
    "high_below_low",
    "price_outside_range",
    "price_not_positive",
    "price_not_a_number",
    "volume_negative",
    "volume_not_a_number",
    "ts_unparsable",
    "ts_not_on_grid",
    "ts_in_future",
    "bar_unfinished",
    "symbol_missing",
    "duplicate",
    "conflict",
    "superseded",
    "field_missing",
    "value_unparsable",
)

INSTRUMENTS = TableSpec(
    name="instruments",
    description="A tradable instrument or a cross-asset leader.",
    columns=(
        SYMBOL,
        ASSET_CLASS,
        text(
            "calendar",
            "`24x7`, `fx` (Sunday to Friday, 17:00 New York) or an exchange MIC, e.g. XNYS.",
        ),
        text("currency", "Quote currency, ISO 4217, where known.", is_nullable=True),
        flag("is_leader", "Read as a feature of other symbols; not forecast itself."),
        when("listed_from", "First known bar.", is_nullable=True),
        when("listed_to", "Last bar of a delisted symbol.", is_nullable=True),
        text("source", "Where the registration came from."),
        when("updated_at", "Clock time of the last change."),
    ),
    key=("symbol",),
    sort_by=("symbol",),
    provenance=("source", "updated_at"),
)

OHLCV = TableSpec(
    name="ohlcv",
    description="One price bar.",
    columns=(
        SYMBOL,
        TIMEFRAME,
        when("ts", "Open of the bar; a daily bar carries its session date at 00:00."),
        price("open", "First price."),
        price("high", "Highest price."),
        price("low", "Lowest price."),
        price("close", "Last price."),
        number("volume", "Traded volume; null = unknown.", is_nullable=True, minimum=0),
        text("source", "Source and file the bar came from."),
        when("ingested_at", "Clock time of the ingest."),
        text(
            "flags",
            "Comma-separated suspicions, never corrected: `split?`, `bad_print?`.",
            is_nullable=True,
        ),
    ),
    key=("symbol", "timeframe", "ts"),
    sort_by=("timeframe", "symbol", "ts"),
    time="ts",
    provenance=("source", "ingested_at", "flags"),
    latest=LatestSpec(key=("symbol", "timeframe"), order=("ts",)),
    views=(
        ViewSpec(
            "ohlcv_1h",
            "Hourly bars.",
            "SELECT * EXCLUDE (timeframe) FROM ohlcv WHERE timeframe = '1h'",
        ),
        ViewSpec(
            "ohlcv_1d",
            "Daily bars.",
            "SELECT * EXCLUDE (timeframe) FROM ohlcv WHERE timeframe = '1d'",
        ),
    ),
)

QUARANTINE = TableSpec(
    name="quarantine",
    description="A refused input row, verbatim, and why it was refused.",
    columns=(
        text("source", "Source and file; a file's name carries its sha256 prefix."),
        count("row_number", "Row in that source, from 1, header excluded."),
        text("row_hash", "SHA-256 of the verbatim row."),
        text("table_name", "Table the row was meant for."),
        ColumnSpec("reason", TEXT, "Why.", allowed=QUARANTINE_REASONS),
        text("detail", "Column, value and bound that decided it.", is_nullable=True),
        text("row", "The row, verbatim, as JSON of the source's own columns."),
        when("quarantined_at", "Clock time of the refusal."),
        RUN_ID,
    ),
    key=("source", "row_number", "row_hash"),
    sort_by=("source", "row_number"),
    provenance=("quarantined_at", "run_id"),
)

ECONOMIC_CALENDAR = TableSpec(
    name="economic_calendar",
    description="One economic release or earnings report.",
    columns=(
        text(
            "event_id", "SHA-256 prefix of (ts, currency, symbol, event, occurrence)."
        ),
        when("ts", "Scheduled release time."),
        text("currency", "Currency concerned, ISO 4217 or `All`."),
        text("symbol", "Only for earnings: the company.", is_nullable=True),
        text("event", "Name as published."),
        text(
            "event_type",
            "Type by our table of names; `other` if none.",
            is_nullable=True,
        ),
        ColumnSpec(
            "importance",
            INTEGER,
            "3 high, 2 medium, 1 low.",
            is_nullable=True,
            minimum=1,
            maximum=3,
        ),
        number(
            "actual",
            "Released value; not to be read before `actual_known_ts`.",
            is_nullable=True,
        ),
        number("forecast", "Consensus before the release.", is_nullable=True),
        number("previous", "Prior value as the page showed it.", is_nullable=True),
        flag("is_timed", "False for all-day and tentative rows, whose `ts` is a date."),
        when(
            "scheduled_known_ts",
            "When the date was announced (ts - 30 d; FOMC - 365 d; ts if unscheduled).",
        ),
        when(
            "actual_known_ts",
            "When `actual` could first be known: ts; ts + 36 h where only a date is given.",
        ),
        text("source", "Source and file."),
        when("ingested_at", "Clock time of the ingest."),
    ),
    key=("event_id",),
    sort_by=("ts", "currency"),
    time="ts",
    provenance=("source", "ingested_at"),
)

TABLES = (INSTRUMENTS, OHLCV, QUARANTINE, ECONOMIC_CALENDAR)
