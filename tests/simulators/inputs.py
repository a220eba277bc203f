"""Inputs for the intake: bars and releases as a source would hand them over."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from lakehouse.sources._base import (
    BAR_SCHEMA,
    RELEASE_SCHEMA,
    InstrumentInfo,
    RawBars,
    RawReleases,
)

START = datetime(2024, 1, 1, tzinfo=UTC)
STEPS = {"1h": timedelta(hours=1), "1d": timedelta(days=1)}


def bar(symbol="BTC", number=0, *, timeframe="1h", **changes) -> dict:
    """A good bar, and what is changed about it."""
    row = {
        "symbol": symbol,
        "ts": START + number * STEPS[timeframe],
        "open": 100.0,
        "high": 102.0,
        "low": 99.0,
        "close": 101.0,
        "volume": 5.0,
        "reason": None,
        "detail": None,
    }
    return {**row, **changes}


def raw_bars(
    rows: list[dict],
    *,
    source="files:a.csv@11111111",
    window="sha256:a",
    timeframe="1h",
    instruments: tuple[InstrumentInfo, ...] = (),
) -> RawBars:
    table = pa.Table.from_pylist(rows, schema=BAR_SCHEMA)
    return RawBars(
        source=source,
        window=window,
        timeframe=timeframe,
        bars=table,
        original=table.select(BAR_SCHEMA.names[:7]),
        instruments=instruments,
    )


def release(event="CPI m/m", day=0, **changes) -> dict:
    """A good release, and what is changed about it."""
    row = {
        "ts": START + timedelta(days=day, hours=13, minutes=30),
        "currency": "USD",
        "symbol": None,
        "event": event,
        "event_type": None,
        "importance": 3,
        "actual": 0.3,
        "forecast": 0.2,
        "previous": 0.1,
        "is_timed": True,
        "reason": None,
        "detail": None,
    }
    return {**row, **changes}


def raw_releases(
    rows: list[dict], *, source="files:cal.csv@22222222", window="sha256:c"
) -> RawReleases:
    table = pa.Table.from_pylist(rows, schema=RELEASE_SCHEMA)
    return RawReleases(
        source=source,
        window=window,
        releases=table,
        original=table.select(RELEASE_SCHEMA.names[:10]),
    )
