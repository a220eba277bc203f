"""Registering symbols on their first bar.

What is not said by the source is taken from `--asset-class`, else from the table below,
else the class is `other`. A calendar that nobody states follows the class: crypto and
other `24x7`; fx and commodity `fx` (metals, oil and index contracts of brokers trade
nearly around the clock, Sunday to Friday); equity, index and rates `XNYS`.
"""

from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from lakehouse.errors import InputError
from lakehouse.schema._spec import ASSET_CLASSES
from lakehouse.schema.catalogue import table_spec
from lakehouse.sources._base import InstrumentInfo
from lakehouse.store import Lake

TABLE = "instruments"
CLASS_CALENDARS: Final = {
    "crypto": "24x7",
    "fx": "fx",
    "commodity": "fx",
    "equity": "XNYS",
    "index": "XNYS",
    "rates": "XNYS",
    "other": "24x7",
}
# Index contracts of brokers, and funds that trade as shares.
SYMBOL_CALENDARS: Final = {
    **dict.fromkeys(("US500", "US100", "US30", "DE40", "UK100", "DXY"), "fx"),
    **dict.fromkeys(("USO", "BNO"), "XNYS"),
}


def check_asset_class(asset_class: str | None, *, what: str) -> None:
    """Refuse a class that is not declared.

    Raises
    ------
    InputError
        Naming the allowed classes.
    """
    if asset_class is not None and asset_class not in ASSET_CLASSES:
        raise InputError(
            f"{what}: asset class {asset_class!r} is unknown; --asset-class takes: "
            f"{', '.join(ASSET_CLASSES)}"
        )


def resolve_asset_class(info: InstrumentInfo | None, asset_class: str | None) -> str:
    """Return the class by the source, else by the argument, else `other`."""
    return (info.asset_class if info else None) or asset_class or "other"


def resolve_calendar(symbol: str, info: InstrumentInfo | None, asset_class: str) -> str:
    """Return the calendar by the source, else by symbol, else by class."""
    stated = info.calendar if info else None
    return (
        stated or SYMBOL_CALENDARS.get(symbol.upper()) or CLASS_CALENDARS[asset_class]
    )


def resolve_currency(
    symbol: str, info: InstrumentInfo | None, asset_class: str
) -> str | None:
    """Return the currency by the source, else of a six-letter fx pair, else None."""
    if info and info.currency:
        return info.currency
    is_pair = asset_class == "fx" and len(symbol) == 6 and symbol.isalpha()
    return symbol[3:].upper() if is_pair else None


def register_symbols(
    lake: Lake,
    first_bars: dict[str, datetime],
    *,
    infos: tuple[InstrumentInfo, ...],
    asset_class: str | None,
    source: str,
) -> tuple[str, ...]:
    """Register new symbols and widen what is known of old ones.

    Parameters
    ----------
    lake : Lake
        Where to.
    first_bars : dict of str to datetime
        Symbols with good bars, and their first.
    infos : tuple of InstrumentInfo
        What the source says.
    asset_class : str or None
        Class for symbols whose source states none.
    source : str
        Where the bars came from.

    Returns
    -------
    tuple of str
        One line per new symbol.

    Raises
    ------
    InputError
        If an asset class is not declared.
    """
    check_asset_class(asset_class, what=source)
    by_symbol = {info.symbol: info for info in infos}
    for info in infos:
        check_asset_class(info.asset_class, what=f"{source}: {info.symbol}")
    known = _stored(lake)
    rows, lines = [], []
    for symbol, first in sorted(first_bars.items()):
        row = _describe(symbol, first, by_symbol.get(symbol), asset_class)
        row |= {"source": source, "updated_at": lake.clock.now()}
        old = known.get(symbol)
        if old is None:
            lines.append(
                f"registered {symbol}: {row['asset_class']}, calendar {row['calendar']}"
            )
            rows.append(row)
        elif (widened := _widen(old, row)) != old:
            rows.append(widened)
    if rows:
        table = pa.Table.from_pylist(rows, schema=table_spec(TABLE).to_arrow())
        lake.upsert(TABLE, table)
    return tuple(lines)


def _stored(lake: Lake) -> dict[str, dict[str, Any]]:
    if lake.version(TABLE) is None:
        return {}
    return {row["symbol"]: row for row in lake.read(TABLE).to_pylist()}


def _describe(
    symbol: str,
    first: datetime,
    info: InstrumentInfo | None,
    asset_class: str | None,
) -> dict[str, Any]:
    resolved = resolve_asset_class(info, asset_class)
    return {
        "symbol": symbol,
        "asset_class": resolved,
        "calendar": resolve_calendar(symbol, info, resolved),
        "currency": resolve_currency(symbol, info, resolved),
        "is_leader": info.is_leader if info else False,
        "listed_from": min(first, info.listed_from)
        if info and info.listed_from
        else first,
        "listed_to": info.listed_to if info else None,
    }


def _widen(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Keep what is registered; learn an earlier start, an end, or a class for `other`."""
    changes: dict[str, Any] = {}
    if old["listed_from"] is None or new["listed_from"] < old["listed_from"]:
        changes["listed_from"] = new["listed_from"]
    if new["listed_to"] is not None and new["listed_to"] != old["listed_to"]:
        changes["listed_to"] = new["listed_to"]
    if old["asset_class"] == "other" != new["asset_class"]:
        changes |= {name: new[name] for name in ("asset_class", "calendar", "currency")}
    if not changes:
        return old
    return {**old, **changes, "source": new["source"], "updated_at": new["updated_at"]}
