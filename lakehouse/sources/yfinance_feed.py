"""Bars from Yahoo's chart endpoint; `yfinance` keeps the session, cookie and crumb.

Prices are as Yahoo shows them: adjusted for splits, not for dividends. Daily bars carry
the date of their session in the exchange's time zone. Hourly bars are made from
15-minute ones, on clock hours: Yahoo's own begin at half past on many exchanges, and
moving them would let a bar know the future. Yahoo keeps 15-minute bars for 60 days.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lakehouse.errors import SourceError, SourceUnavailableError
from lakehouse.sources._base import InstrumentInfo, RawBars
from lakehouse.sources._feeds import (
    STEPS,
    TIMEOUT_S,
    Row,
    at_base,
    bar_tables,
    brief,
    feed_span,
    feed_window,
    no_answer,
)

SOURCE: Final = "yfinance"
BASE_URL: Final = "https://query2.finance.yahoo.com"
HOURLY_DAYS: Final = 59
COOKIE_TIMEOUT_S: Final = 3
_CLASSES: Final = {
    "EQUITY": "equity",
    "ETF": "equity",
    "MUTUALFUND": "equity",
    "CRYPTOCURRENCY": "crypto",
    "CURRENCY": "fx",
    "INDEX": "index",
    "FUTURE": "commodity",
}
_EXCHANGES: Final = {
    "America/New_York": "XNYS",
    "Europe/London": "XLON",
    "Europe/Berlin": "XFRA",
    "Europe/Paris": "XPAR",
    "Asia/Tokyo": "XTKS",
    "Asia/Hong_Kong": "XHKG",
}
_FIELDS: Final = ("open", "high", "low", "close", "volume")


def load(
    tickers: Sequence[str],
    *,
    timeframe: str,
    until: datetime,
    since: datetime | None = None,
    base_url: str | None = None,
) -> Iterator[RawBars]:
    """Yield one download per ticker.

    Parameters
    ----------
    tickers : sequence of str
        As Yahoo writes them: `SPY`, `^GSPC`, `EURUSD=X`, `BTC-USD`. Stored as `SPY`,
        `GSPC`, `EURUSD`, `BTCUSD`.
    timeframe : str
        `1h` or `1d`.
    until : datetime
        Clock time.
    since : datetime, optional
        First bar; by default 30 days back for hourly and two years for daily bars.
    base_url : str, optional
        Scheme and host to ask instead of Yahoo's.

    Yields
    ------
    RawBars

    Raises
    ------
    SourceError
        If yfinance, a ticker or the timeframe does not exist.
    SourceUnavailableError
        If Yahoo does not answer, or not in its own format.

    Notes
    -----
    Point in time: a bar is kept when its `ts` + timeframe <= `until`.
    """
    if not tickers:
        raise SourceError(f"{SOURCE}: name tickers with --symbols, e.g. SPY")
    start, end = feed_span(SOURCE, timeframe, since, until)
    notes: tuple[str, ...] = ()
    if timeframe == "1h" and (oldest := end - timedelta(days=HOURLY_DAYS)) > start:
        start = oldest
        notes = (f"Yahoo keeps hourly bars for 60 days: from {start:%Y-%m-%d}",)
    client = _client(base_url)
    return (_load(client, ticker, timeframe, (start, end), notes) for ticker in tickers)


@lru_cache(maxsize=4)
def _client(base_url: str | None) -> Any:
    """Return yfinance's client with a session that bounds every wait."""
    try:
        from curl_cffi.requests import Session
        from yfinance.data import YfData
    except ImportError as error:
        raise SourceError(
            f"{SOURCE}: package yfinance is not installed; "
            "pip install 'alphalake[flows]'"
        ) from error

    class BoundedSession(Session):  # type: ignore[type-arg]
        """A session with short timeouts, aimed at one host when told to."""

        def request(  # type: ignore[override]
            self, method: Any, url: str, **options: Any
        ) -> Any:
            is_chart = "finance/chart" in url
            options["timeout"] = TIMEOUT_S if is_chart else COOKIE_TIMEOUT_S
            aim = url if base_url is None else at_base(url, base_url)
            return super().request(method, aim, **options)

    # It reports by exceptions too; its warnings would go past our one line.
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)
    return YfData(session=BoundedSession(impersonate="chrome"))


def _load(
    client: Any,
    ticker: str,
    timeframe: str,
    span: tuple[datetime, datetime],
    notes: tuple[str, ...],
) -> RawBars:
    chart = _chart(client, ticker, timeframe, span)
    meta = chart.get("meta") or {}
    rows = _rows(ticker, chart)
    if timeframe == "1d":
        rows = _on_session_dates(rows, _zone(ticker, meta))
    else:
        rows = _on_clock_hours(rows)
    first, last = (int(moment.timestamp() * 1000) for moment in span)
    step = int(STEPS[timeframe].total_seconds() * 1000)
    rows = [row for row in rows if first <= row[0] and row[0] + step <= last]
    info = _instrument(ticker, meta)
    if info.symbol != ticker:
        notes = (*notes, f"{ticker} is stored as {info.symbol}")
    bars, original = bar_tables(info.symbol, rows)
    return RawBars(
        source=SOURCE,
        window=feed_window(SOURCE, info.symbol, *span),
        timeframe=timeframe,
        bars=bars,
        original=original,
        instruments=(info,),
        notes=notes,
    )


def _chart(
    client: Any, ticker: str, timeframe: str, span: tuple[datetime, datetime]
) -> dict[str, Any]:
    from yfinance.exceptions import YFException

    first = span[0] - timedelta(days=1)
    parameters = {
        "period1": int(first.timestamp()),
        "period2": int(span[1].timestamp()) + 86_400,
        "interval": "1d" if timeframe == "1d" else "15m",
        "includePrePost": False,
    }
    url = f"{BASE_URL}/v8/finance/chart/{quote(ticker, safe='')}"
    try:
        response = client.get(url, params=parameters, timeout=TIMEOUT_S)
        status, answer = response.status_code, _json(response)
    except (YFException, OSError) as error:
        raise SourceUnavailableError(_unavailable(error)) from error
    chart = answer.get("chart") if isinstance(answer, dict) else None
    if isinstance(chart, dict) and (problem := chart.get("error")):
        raise SourceError(f"{SOURCE}: {ticker}: {problem.get('description', problem)}")
    if status != 200 or not isinstance(chart, dict) or not chart.get("result"):
        raise SourceUnavailableError(
            f"{SOURCE}: {urlsplit(BASE_URL).netloc} answered {ticker} with status "
            f"{status} and no chart; try again later"
        )
    result: dict[str, Any] = chart["result"][0]
    return result


def _json(response: Any) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _unavailable(error: Exception) -> str:
    host = urlsplit(BASE_URL).netloc
    if type(error).__name__ == "YFRateLimitError":
        return f"{SOURCE}: {host} asks to slow down ({brief(error)})"
    return no_answer(SOURCE, host, error)


def _rows(ticker: str, chart: dict[str, Any]) -> list[Row]:
    """Return the chart's rows; moments without any price are placeholders."""
    try:
        moments = chart.get("timestamp") or []
        quotes = chart["indicators"]["quote"][0]
        columns = [quotes.get(name) or [None] * len(moments) for name in _FIELDS]
        rows = [
            (int(moment) * 1000, *values)
            for moment, *values in zip(moments, *columns, strict=True)
        ]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise SourceUnavailableError(
            f"{SOURCE}: the chart of {ticker} is not in Yahoo's format ({brief(error)})"
        ) from error
    return [row for row in rows if any(value is not None for value in row[1:5])]


def _zone(ticker: str, meta: dict[str, Any]) -> ZoneInfo:
    name = str(meta.get("exchangeTimezoneName"))
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise SourceUnavailableError(
            f"{SOURCE}: the chart of {ticker} names no time zone ({name})"
        ) from error


def _on_session_dates(rows: list[Row], zone: ZoneInfo) -> list[Row]:
    dated: dict[int, Row] = {}
    for moment, *values in rows:
        day = datetime.fromtimestamp(moment / 1000, zone).date()
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        stamp = int(midnight.timestamp() * 1000)
        # The running session is listed twice, the second time as it stands now.
        dated[stamp] = (stamp, *values)
    return [dated[stamp] for stamp in sorted(dated)]


def _on_clock_hours(rows: list[Row]) -> list[Row]:
    hours: dict[int, list[Row]] = {}
    for row in sorted(rows):
        hours.setdefault(row[0] // 3_600_000 * 3_600_000, []).append(row)
    return [_merged(hour, parts) for hour, parts in hours.items()]


def _merged(hour: int, parts: list[Row]) -> Row:
    opens, highs, lows, closes, volumes = (
        [part[place] for part in parts if part[place] is not None]
        for place in range(1, 6)
    )
    if not (opens and highs and lows and closes):
        return (hour, None, None, None, None, None)
    total = sum(volumes) if volumes else None
    return (hour, opens[0], max(highs), min(lows), closes[-1], total)


def _instrument(ticker: str, meta: dict[str, Any]) -> InstrumentInfo:
    asset_class = _CLASSES.get(str(meta.get("instrumentType")), "other")
    calendar = None
    if asset_class in {"equity", "index"}:
        calendar = _EXCHANGES.get(str(meta.get("exchangeTimezoneName")))
    currency = str(meta.get("currency"))
    is_iso = bool(re.fullmatch(r"[A-Z]{3}", currency))
    return InstrumentInfo(
        _stored_name(ticker, asset_class),
        asset_class,
        calendar,
        currency if is_iso else None,
    )


def _stored_name(ticker: str, asset_class: str) -> str:
    name = ticker.upper().removeprefix("^").removesuffix("=X")
    if asset_class == "crypto":
        name = name.replace("-", "")
    return re.sub(r"[^A-Z0-9._-]", "_", name)
