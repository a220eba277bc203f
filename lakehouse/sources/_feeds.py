"""What the remote feeds share: windows, timeouts and how a silent server is reported."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa

from lakehouse.errors import SourceError
from lakehouse.schema._spec import FLOAT, INTEGER, TEXT, TIMEFRAMES, TIMESTAMP
from lakehouse.sources._base import BAR_SCHEMA

TIMEOUT_S: Final = 10
STEPS: Final = {"1h": timedelta(hours=1), "1d": timedelta(days=1)}
DEFAULT_SPAN: Final = {"1h": timedelta(days=30), "1d": timedelta(days=730)}
# Time in milliseconds, open, high, low, close, volume; None where unknown.
Row = tuple[Any, ...]


def feed_span(
    source: str, timeframe: str, since: datetime | None, until: datetime
) -> tuple[datetime, datetime]:
    """Return the span of complete bars asked for, cut to whole bars.

    Parameters
    ----------
    source : str
        For messages.
    timeframe : str
        `1h` or `1d`.
    since : datetime or None
        First bar; by default 30 days back for hourly and two years for daily bars.
    until : datetime
        Clock time.

    Raises
    ------
    SourceError
        If the timeframe is unknown or the span empty.
    """
    if timeframe not in STEPS:
        allowed = ", ".join(TIMEFRAMES)
        raise SourceError(f"{source}: timeframe {timeframe!r} is not one of {allowed}")
    start = _floored(since or until - DEFAULT_SPAN[timeframe], timeframe)
    end = _floored(until, timeframe)
    if start >= end:
        raise SourceError(
            f"{source}: no complete {timeframe} bar between {start:%Y-%m-%dT%H:%MZ} "
            f"and {until:%Y-%m-%dT%H:%MZ}"
        )
    return start, end


def _floored(moment: datetime, timeframe: str) -> datetime:
    hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return hour if timeframe == "1h" else hour.replace(hour=0)


def feed_window(source: str, symbol: str, start: datetime, end: datetime) -> str:
    """Return the logical window of one symbol's download."""
    return f"{source}:{symbol}:{start:%Y-%m-%dT%H}:{end:%Y-%m-%dT%H}"


def at_base(url: str, base_url: str) -> str:
    """Return `url` with scheme and host of `base_url`."""
    base, parts = urlsplit(base_url), urlsplit(url)
    return urlunsplit((base.scheme, base.netloc, parts.path, parts.query, ""))


def no_answer(source: str, host: str, error: BaseException) -> str:
    """Return one line about a server that did not answer as it should."""
    return f"{source}: no answer from {host}: is there internet? ({brief(error)})"


def brief(error: BaseException) -> str:
    """Return the start of an error's text, on one line."""
    text = " ".join(str(error).split()).split(". See http")[0] or type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."


def bar_tables(symbol: str, rows: list[Row]) -> tuple[pa.Table, pa.Table]:
    """Return bars and original columns of a feed's rows.

    Parameters
    ----------
    symbol : str
        Name in the lake.
    rows : list of (time, open, high, low, close, volume)
        Time in milliseconds since 1970.
    """
    names = ("ts_ms", "open", "high", "low", "close", "volume")
    types = (INTEGER, *[FLOAT] * 5)
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    original = pa.table(
        {
            name: pa.array(values, kind)
            for name, values, kind in zip(names, columns, types, strict=True)
        }
    )
    n_rows = len(rows)
    bars = pa.table(
        [
            pa.repeat(pa.scalar(symbol, TEXT), n_rows),
            original["ts_ms"].cast(pa.timestamp("ms", "UTC")).cast(TIMESTAMP),
            *(original[name] for name in names[1:]),
            pa.nulls(n_rows, TEXT),
            pa.nulls(n_rows, TEXT),
        ],
        schema=BAR_SCHEMA,
    )
    return bars, original
