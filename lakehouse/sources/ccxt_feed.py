"""Bars from any exchange's public endpoints, through `ccxt`. No key is used.

Only complete bars are asked for and kept. The exchange's own rate limit is respected.
Nothing is retried here: a fetch that fails says so, and the flow tries it again.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

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

_PAGE_ROWS = 1000


def load(
    exchange: str,
    symbols: Sequence[str],
    *,
    timeframe: str,
    until: datetime,
    since: datetime | None = None,
    base_url: str | None = None,
) -> Iterator[RawBars]:
    """Yield one download per symbol.

    Parameters
    ----------
    exchange : str
        Name of the exchange in ccxt, e.g. `binance`.
    symbols : sequence of str
        `BTC/USDT`, or the exchange's own id `BTCUSDT`. Stored as `BTCUSDT`; a
        perpetual `BTC/USDT:USDT` as `BTCUSDT_PERP`.
    timeframe : str
        `1h` or `1d`.
    until : datetime
        Clock time.
    since : datetime, optional
        First bar; by default 30 days back for hourly and two years for daily bars.
    base_url : str, optional
        Scheme and host to ask instead of the exchange's own.

    Yields
    ------
    RawBars

    Raises
    ------
    SourceError
        If ccxt, the exchange, a symbol or the timeframe does not exist.
    SourceUnavailableError
        If the exchange does not answer, or not in its own format.

    Notes
    -----
    Point in time: a bar is kept when its open + timeframe <= `until`.
    """
    source = f"ccxt:{exchange}"
    if not symbols:
        raise SourceError(f"{source}: name symbols with --symbols, e.g. BTC/USDT")
    start, end = feed_span(source, timeframe, since, until)
    client = _client(source, exchange, symbols, base_url)
    return (_load(client, source, name, timeframe, (start, end)) for name in symbols)


def _client(
    source: str, exchange: str, symbols: Sequence[str], base_url: str | None
) -> Any:
    try:
        import ccxt
    except ImportError as error:
        raise SourceError(
            f"{source}: package ccxt is not installed; pip install 'alphalake[flows]'"
        ) from error
    if exchange not in ccxt.exchanges:
        near = get_close_matches(exchange, ccxt.exchanges, n=3) or ccxt.exchanges[:5]
        raise SourceError(
            f"{source}: ccxt knows no such exchange; near: {', '.join(near)}"
        )
    client = getattr(ccxt, exchange)(
        {"enableRateLimit": True, "timeout": TIMEOUT_S * 1000}
    )
    markets = client.options.get("fetchMarkets")
    is_spot_only = not any(":" in symbol for symbol in symbols)
    if is_spot_only and isinstance(markets, dict) and "types" in markets:
        markets["types"] = ["spot"]
    if base_url is not None:
        client.urls["api"] = _moved(client.urls["api"], base_url)
    return client


def _moved(urls: Any, base_url: str) -> Any:
    if isinstance(urls, dict):
        return {name: _moved(url, base_url) for name, url in urls.items()}
    return at_base(urls, base_url) if isinstance(urls, str) else urls


def _load(
    client: Any,
    source: str,
    symbol: str,
    timeframe: str,
    span: tuple[datetime, datetime],
) -> RawBars:
    market = _asked(client, source, _find_market, source, symbol)
    name = _stored_name(market)
    rows = _asked(client, source, _pages, market["symbol"], timeframe, span)
    bars, original = bar_tables(name, rows)
    info = InstrumentInfo(name, "crypto", "24x7", _currency(market["quote"]))
    notes = () if name == symbol else (f"{symbol} is stored as {name}",)
    if not rows:
        notes = (*notes, f"{source} has no complete {timeframe} bars of {symbol} here")
    return RawBars(
        source=source,
        window=feed_window(source, name, *span),
        timeframe=timeframe,
        bars=bars,
        original=original,
        instruments=(info,),
        notes=notes,
    )


def _asked(client: Any, source: str, question: Any, *arguments: Any) -> Any:
    """Ask the exchange; turn what ccxt raises into our own errors."""
    import ccxt

    host = _host(client)
    try:
        answer = question(client, *arguments)
    except (ccxt.RateLimitExceeded, ccxt.DDoSProtection) as error:
        raise SourceUnavailableError(
            f"{source}: {host} asks to slow down{_wait(client)} ({brief(error)})"
        ) from error
    except (ccxt.NetworkError, ccxt.BadResponse) as error:
        if isinstance(error.__cause__, OSError):
            raise SourceUnavailableError(no_answer(source, host, error)) from error
        raise SourceUnavailableError(
            f"{source}: {host} answered with an error: {brief(error)}"
        ) from error
    except ccxt.BaseError as error:
        raise SourceError(f"{source}: {brief(error)}") from error
    return answer


def _host(client: Any) -> str:
    urls = client.urls["api"]
    while isinstance(urls, dict):
        urls = urls.get("public") or next(iter(urls.values()))
    return urlsplit(str(urls).replace("{hostname}", client.hostname or "")).netloc


def _wait(client: Any) -> str:
    headers = client.last_response_headers or {}
    seconds = {name.lower(): value for name, value in headers.items()}.get(
        "retry-after"
    )
    return f", for {seconds} s" if seconds else ""


def _refuse_non_json(client: Any) -> None:
    """Refuse an answer cut short, which ccxt takes for an empty one.

    Raises
    ------
    ccxt.BadResponse
        Naming what came instead.
    """
    import ccxt

    text = client.last_http_response or ""
    if not isinstance(client.parse_json(text), dict | list):
        raise ccxt.BadResponse(
            f"{len(text)} characters that are not JSON: {text[:40]!r}"
        )


def _find_market(client: Any, source: str, symbol: str) -> Any:
    markets = client.load_markets()
    _refuse_non_json(client)
    if symbol in markets:
        return markets[symbol]
    by_id = client.markets_by_id.get(symbol) or client.markets_by_id.get(symbol.upper())
    if by_id:
        return by_id[0] if isinstance(by_id, list) else by_id
    near = get_close_matches(symbol.upper(), list(markets), n=3, cutoff=0.5)
    hint = f"; near: {', '.join(near)}" if near else ""
    raise SourceError(f"{source}: no symbol {symbol!r}{hint}")


def _stored_name(market: Any) -> str:
    name = f"{market['base']}{market['quote']}"
    return name if market.get("spot", True) else f"{name}_PERP"


def _currency(quote: str | None) -> str | None:
    return quote if quote in {"USD", "EUR", "GBP", "JPY", "AUD", "CAD", "CHF"} else None


def _pages(
    client: Any, symbol: str, timeframe: str, span: tuple[datetime, datetime]
) -> list[Row]:
    """Fetch page after page; a page without news moves on by its length."""
    start, end = (int(moment.timestamp() * 1000) for moment in span)
    step = int(STEPS[timeframe].total_seconds() * 1000)
    rows: dict[int, Row] = {}
    since = start
    while since < end:
        page = client.fetch_ohlcv(symbol, timeframe, since=since, limit=_PAGE_ROWS)
        if not page:
            _refuse_non_json(client)
        for row in page:
            if since <= row[0] and row[0] + step <= end:
                rows[row[0]] = tuple(row[:6])
        newest = max((row[0] for row in page), default=since - 1)
        since = newest + step if newest >= since else since + _PAGE_ROWS * step
    return [rows[moment] for moment in sorted(rows)]
