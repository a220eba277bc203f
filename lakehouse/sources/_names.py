"""What a file's name says: a symbol, a bar length. Nothing certain, so it is said."""

import re
from dataclasses import dataclass
from typing import Final

_HOURLY: Final = frozenset(
    [
        "1h",
        "h1",
        "60m",
        "m60",
        "60min",
        "60",
        "hour",
        "hourly",
        "1hour",
        "1hr",
        "60minute",
        "60minutes",
    ]
)
_DAILY: Final = frozenset(
    ["1d", "d1", "1440", "day", "daily", "1day", "1440m", "d", "24h"]
)
_OTHER = re.compile(
    r"m(?:1|3|5|10|15|30)|(?:1|3|5|10|15|30)(?:m|min|minutes?)|h(?:2|4|6|8|12)"
    r"|(?:2|4|6|8|12)(?:h|hours?)|240|w1|1w|weekly|mn1?|1mo|monthly|minute|tick|second"
)
_WORDS: Final = frozenset(
    [
        "data",
        "dataset",
        "ohlc",
        "ohlcv",
        "kline",
        "klines",
        "candle",
        "candles",
        "candlestick",
        "bar",
        "bars",
        "price",
        "prices",
        "quote",
        "quotes",
        "trade",
        "trades",
        "history",
        "historical",
        "hist",
        "rates",
        "export",
        "download",
        "crypto",
        "cryptocurrency",
        "forex",
        "fx",
        "equity",
        "equities",
        "stock",
        "stocks",
        "index",
        "indices",
        "commodity",
        "usa",
        "cfd",
        "oanda",
        "coinbase",
        "binance",
        "bitstamp",
        "kraken",
        "gemini",
        "bybit",
        "bitfinex",
        "okx",
        "lean",
        "ejtrader",
        "mt4",
        "mt5",
        "metatrader",
        "spot",
        "perp",
        "futures",
        "um",
        "cm",
        "utc",
        "gmt",
        "bid",
        "ask",
        "mid",
        "raw",
        "clean",
        "full",
        "all",
        "part",
        "new",
        "final",
        "csv",
        "txt",
        "yahoo",
        "stooq",
        "dukascopy",
        "histdata",
        "dat",
        "ascii",
        "cryptodatadownload",
        "us",
    ]
)
_LOUD: Final = frozenset(["CFD"])
_GLUED = re.compile(r"([A-Za-z]{3,}?)_?(h1|d1|1h|1d|60|1440)", re.IGNORECASE)
_QUOTES: Final = frozenset(
    [
        "USD",
        "USDT",
        "USDC",
        "BUSD",
        "TUSD",
        "FDUSD",
        "EUR",
        "GBP",
        "JPY",
        "CHF",
        "AUD",
        "CAD",
        "NZD",
        "BTC",
        "ETH",
        "BNB",
    ]
)
_SYMBOL: Final = re.compile(r"[A-Za-z0-9^$#.][A-Za-z0-9^$#._/:=&+!-]{0,63}")
_NO_SYMBOL: Final = ("", "nan", "none", "null", "n/a")
_PACKING = re.compile(
    r"\.(?:csv|txt|tsv|zip|gz|bz2|xz|zst|parquet|feather|arrow|ipc|dat|prn)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class NameHint:
    """What a file name suggests.

    Attributes
    ----------
    symbol : str or None
        Upper case; None if no part, or more than one part, could be a symbol.
    candidates : tuple of str
        Parts that could be one.
    timeframe : str or None
        `1h`, `1d` or the name of another length, e.g. `m5`.
    """

    symbol: str | None
    candidates: tuple[str, ...]
    timeframe: str | None


def read_name(name: str) -> NameHint:
    """Read a symbol and a bar length out of a file name.

    Parameters
    ----------
    name : str
        Name without folders, e.g. `hmate9_BTCUSDT_1d.csv`.
    """
    stem = name.rsplit("/", 1)[-1]
    while _PACKING.search(stem):
        stem = _PACKING.sub("", stem)
    tokens = [token for token in re.split(r"[\s_\-.,()@#]+", stem) if token]
    timeframe = None
    parts = []
    for token in tokens:
        found = as_timeframe(token)
        if found is None and (glued := _GLUED.fullmatch(token)):
            found = as_timeframe(glued[2])
            parts.append(glued[1])
        elif found is None and not _is_noise(token):
            parts.append(token)
        timeframe = timeframe or found
    candidates = _candidates(parts)
    symbol = candidates[0] if len(candidates) == 1 else None
    return NameHint(symbol, tuple(candidates), timeframe)


def as_timeframe(token: str) -> str | None:
    """Read a bar length: `1h`, `1d`, another one verbatim, or None."""
    lower = token.lower()
    if lower in _HOURLY:
        return "1h"
    if lower in _DAILY:
        return "1d"
    return lower if _OTHER.fullmatch(lower) else None


def _is_noise(token: str) -> bool:
    # `AAPL_CFD` is another instrument than `AAPL`; a folder-like `cfd` is none.
    is_word = token.lower() in _WORDS and token not in _LOUD
    return is_word or not any(char.isalpha() for char in token)


def _candidates(parts: list[str]) -> list[str]:
    shouted = [part for part in parts if part.isupper() and len(part) <= 12]
    if len(shouted) == 2 and shouted[1] in _QUOTES:
        return ["".join(shouted)]
    if shouted:
        return list(dict.fromkeys(shouted))
    plain = [part.upper() for part in parts if part.isalnum() and len(part) <= 12]
    if len(plain) == 2 and plain[1] in _QUOTES:
        return ["".join(plain)]
    return list(dict.fromkeys(plain))


def is_symbol(text: str) -> bool:
    """Whether `text` can name an instrument: one word, no path, some letter or digit."""
    return (
        _SYMBOL.fullmatch(text) is not None
        and text.lower() not in _NO_SYMBOL
        and ".." not in text
        and "//" not in text
        and any(char.isalnum() for char in text)
    )
