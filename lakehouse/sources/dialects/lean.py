"""LEAN archives: headerless, the member's name is the symbol, the folder the market.

Trade bars have 6 columns, quote bars 11 (bid open, high, low, close, bid size, the same
for the ask): the bid side is used and its volume is unknown. Prices of equities are
integers times 10,000 in New York time, not adjusted; the others are plain and UTC. The
first equity bar of a day is stamped 09:00 and holds 09:30 to 10:00: it stays on the
hour grid.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from lakehouse.errors import SourceError
from lakehouse.sources._zones import UTC_ZONE, Zone
from lakehouse.sources.dialects._base import Options, Plan, Sheet, not_recognised

_STAMP = re.compile(r"\d{8} \d{2}:\d{2}")
_MARKET = re.compile(
    r"(?<![a-z])(equity|forex|cfd|crypto|cryptofuture|index|option|future)[/_\-]"
    r"([a-z]+)(?![a-z])"
)
_RESOLUTION = re.compile(r"(?<![a-z])(hour|daily|minute|second|tick)(?![a-z])")
_TRADE: Final = {"ts": 0, "open": 1, "high": 2, "low": 3, "close": 4, "volume": 5}
_QUOTE: Final = {"ts": 0, "open": 1, "high": 2, "low": 3, "close": 4}
_WIDTHS: Final = {6: "trade bars", 11: "quote bars, bid side, volume unknown"}


@dataclass(frozen=True, slots=True)
class _Market:
    zone: Zone
    scale: float
    asset_class: str | None
    calendar: str | None = None
    currency: str | None = None


_NEW_YORK: Final = Zone("America/New_York")
_MARKETS: Final = {
    ("equity", "usa"): _Market(_NEW_YORK, 1e4, "equity", "XNYS", "USD"),
    ("forex", "oanda"): _Market(UTC_ZONE, 1.0, "fx", "fx"),
    ("forex", "fxcm"): _Market(UTC_ZONE, 1.0, "fx", "fx"),
    ("cfd", "oanda"): _Market(UTC_ZONE, 1.0, None),
}
_CRYPTO: Final = _Market(UTC_ZONE, 1.0, "crypto", "24x7")


def recognises(sheet: Sheet) -> bool:
    """Whether a headerless comma table starts with `YYYYMMDD HH:MM` in 6 or 11 columns."""
    if sheet.grid is None or sheet.has_header or sheet.grid.delimiter != ",":
        return False
    if _width(sheet) not in _WIDTHS:
        return False
    cells = sheet.table.column(0).slice(0, 200).to_pylist()
    hits = sum(bool(_STAMP.fullmatch(cell or "")) for cell in cells)
    return hits * 2 > len(cells)


def plan(sheet: Sheet, options: Options) -> Plan:
    """Read market, resolution and symbol from folders and names.

    Raises
    ------
    SourceError
        If the table has neither 6 nor 11 columns, the resolution is finer than an hour,
        or the market is unknown and zone and scale were not passed.
    """
    width = _width(sheet)
    if width not in _WIDTHS:
        raise not_recognised(sheet, "not LEAN bars, which have 6 or 11 columns")
    where = sheet.path.resolve().as_posix().lower()
    if sheet.member:
        where = f"{where}/{sheet.member.lower()}"
    timeframe = _timeframe(sheet, where)
    market, named = _market(where)
    zone, scale = options.zone, options.scale
    if market is not None:
        zone, scale = zone or market.zone, scale or market.scale
    if zone is None or scale is None:
        raise SourceError(
            f"{sheet.place}: LEAN {_WIDTHS[width]}, but no known market in its path "
            "(equity/usa, forex/oanda, cfd/oanda, crypto/…); pass --timezone TZ and "
            "--columns scale=10000 (equities) or scale=1"
        )
    symbol = _symbol(sheet.name)
    shown = named or "market unknown"
    note = f"LEAN {_WIDTHS[width]}, {shown}: times {zone.name}, prices / {scale:g}"
    return Plan(
        "lean",
        _QUOTE if width == 11 else _TRADE,
        zone=zone,
        scale=scale,
        symbol=symbol,
        timeframe=timeframe,
        asset_class=_asset_class(market, symbol),
        calendar=market.calendar if market else None,
        currency=_currency(market, symbol),
        notes=(note,),
    )


def _width(sheet: Sheet) -> int:
    return len([name for name in sheet.columns if name.startswith("column_")])


def _timeframe(sheet: Sheet, where: str) -> str | None:
    found = _RESOLUTION.findall(where)
    if not found:
        return None
    if found[-1] not in {"hour", "daily"}:
        raise SourceError(
            f"{sheet.place}: LEAN {found[-1]} data; only hour and daily are taken"
        )
    return "1h" if found[-1] == "hour" else "1d"


def _market(where: str) -> tuple[_Market | None, str]:
    for kind, venue in reversed(_MARKET.findall(where)):
        if (kind, venue) in _MARKETS:
            return _MARKETS[kind, venue], f"{kind}/{venue}"
        if kind in {"crypto", "cryptofuture"}:
            return _CRYPTO, f"{kind}/{venue}"
    return None, ""


def _symbol(name: str) -> str | None:
    stem = PurePosixPath(name).name.split(".")[0]
    if match := re.search(r"_(?:hour|daily)_([A-Za-z0-9]+)$", stem):
        stem = match[1]
    stem = re.sub(r"_(?:trade|quote)$", "", stem, flags=re.IGNORECASE)
    return stem.upper() if re.fullmatch(r"[A-Za-z0-9.]{1,16}", stem) else None


def _asset_class(market: _Market | None, symbol: str | None) -> str | None:
    if market is None:
        return None
    is_metal = bool(symbol) and str(symbol)[:3] in {"XAU", "XAG", "XPT", "XPD", "XCU"}
    return (
        "commodity" if market.asset_class is None and is_metal else market.asset_class
    )


def _currency(market: _Market | None, symbol: str | None) -> str | None:
    if market is None or market.currency or symbol is None:
        return market.currency if market else None
    return symbol[3:] if len(symbol) == 6 and symbol.isalpha() else None
