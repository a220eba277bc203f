"""Any table with usual column names, or with a column map.

Names are matched without regard to case and punctuation. Adjusted closes are never
taken for closes. Where two columns could be meant, the choice is said, or the file is
refused.
"""

import re
from typing import Final

from lakehouse.errors import SourceError
from lakehouse.sources._stamps import Kind, probe
from lakehouse.sources._zones import UTC_ZONE
from lakehouse.sources.dialects._base import (
    PRICES,
    Options,
    Plan,
    Sheet,
    not_recognised,
)

_NAMES: Final = {
    "ts": """ts|timestamp|datetime|date time|time|open time|opentime|open ts|gmt time
        |utc time|time utc|datetime utc|date utc|timestamp utc|utc|unix|unix timestamp
        |unix time|unixtime|unixtimestamp|epoch|epoch ms|timestamp ms|ts ms|time ms
        |local time|date|dtyyyymmdd|day|trade date|tradedate|session|begin|start
        |start time|period start|bar time|bar start|t|dt|index level 0|index
        |time period start|candle begin time|kline open time|window start|ts event|dates""",
    "open": "open|o|price open|first|open price|openprice|opening price|1 open|bidopen|bid open|px open|otw",
    "high": "high|h|price high|max|high price|highprice|highest|highest price|2 high|bidhigh|bid high|px high|hi",
    "low": "low|l|price low|min|low price|lowprice|lowest|lowest price|3 low|bidlow|bid low|px low|lo",
    "close": "close|c|price close|last|close price|closeprice|closing price|close last|4 close|bidclose|bid close|px last|px close|price",
    "volume": "volume|vol|v|5 volume|base volume|volume base|quantity|qty|px volume",
    "symbol": "symbol|ticker|instrument|pair|sym|asset|security|market|code|tic|name|product",
    "timeframe": "timeframe|time frame|interval|resolution|granularity|per",
    "asset_class": "asset class|assetclass",
}
_VOCABULARY: Final = {
    field: [name.strip() for name in names.split("|")]
    for field, names in _NAMES.items()
}
_TICK_VOLUME: Final = ("tickvol", "tick volume", "tickvolume")
_REAL_VOLUME: Final = ("vol", "volume", "real volume", "realvolume")
_ADJUSTED = re.compile(r"adj")


def plan(sheet: Sheet, options: Options) -> Plan:
    """Find every field among the columns of `sheet`.

    Raises
    ------
    SourceError
        If a time or price column is not found, or not alone.
    """
    columns = {
        field: _stated(sheet, field, name) for field, name in options.columns.items()
    }
    notes: list[str] = []
    _place_times(sheet, columns, notes)
    for field in ("symbol", "timeframe", "asset_class"):
        if field not in columns and (found := _named(sheet, field)):
            columns[field] = found[0]
    _place_prices(sheet, columns, notes)
    _place_volume(sheet, columns, notes)
    zone = UTC_ZONE if _says_utc(sheet.columns[columns["ts"]]) else None
    return Plan(
        "generic",
        columns,
        zone=zone,
        scale=options.scale,
        symbol=sheet.grid.symbol if sheet.grid else None,
        notes=tuple(notes),
    )


def normalise(name: str) -> str:
    """Return a column name in lower case, its punctuation as single blanks."""
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()


def _says_utc(name: str) -> bool:
    return bool({"utc", "gmt"} & set(normalise(name).split()))


def _stated(sheet: Sheet, field: str, name: str) -> int:
    columns = sheet.columns
    if name in columns:
        return columns.index(name)
    matches = [
        i for i, column in enumerate(columns) if normalise(column) == normalise(name)
    ]
    if len(matches) == 1 and normalise(name):
        return matches[0]
    if re.fullmatch("[0-9]{1,6}", name) and 1 <= int(name) <= len(columns):
        return int(name) - 1
    raise SourceError(
        f"{sheet.place}: --columns {field}={name}: no such column; "
        f"it has {', '.join(column[:40] for column in columns[:20])}"
    )


def _named(sheet: Sheet, field: str) -> list[int]:
    names = [normalise(column) for column in sheet.columns]
    ranked = [
        i for word in _VOCABULARY[field] for i, name in enumerate(names) if name == word
    ]
    return list(dict.fromkeys(ranked))


def _place_times(sheet: Sheet, columns: dict[str, int], notes: list[str]) -> None:
    if "ts" not in columns and "date" in columns:
        columns["ts"] = columns.pop("date")
    if "ts" not in columns and "time" in columns:
        columns["ts"] = columns.pop("time")
    if "ts" in columns:
        columns.pop("date", None)
        return
    found = _named(sheet, "ts") if sheet.has_header else []
    kinds: dict[int, Kind | None] = {i: probe(sheet.table.column(i)) for i in found}
    dates = [i for i in found if kinds[i] in {"date", "stamp"}]
    clocks = [i for i in found if kinds[i] == "clock"]
    if dates and clocks and not any(kinds[i] == "stated" for i in found):
        columns["ts"], columns["time"] = dates[0], clocks[0]
        return
    ranked = _ranked(found, kinds)
    if not ranked:
        raise not_recognised(sheet, "no column of times")
    columns["ts"] = ranked[0]
    if len([i for i in ranked if kinds[i]]) > 1:
        chosen, others = (
            sheet.columns[ranked[0]],
            [sheet.columns[i] for i in ranked[1:]],
        )
        notes.append(f"times from column {chosen!r}, not {', '.join(others)}")


def _ranked(found: list[int], kinds: dict[int, Kind | None]) -> list[int]:
    order: list[Kind | None] = ["stated", "stamp", "date", None]
    usable = [i for i in found if kinds[i] != "clock"]
    return sorted(usable, key=lambda i: order.index(kinds[i]))


def _place_prices(sheet: Sheet, columns: dict[str, int], notes: list[str]) -> None:
    missing = []
    for field in PRICES:
        if field in columns:
            continue
        taken = set(columns.values())
        found = [i for i in _named(sheet, field) if i not in taken]
        if not found or not sheet.has_header:
            missing.append(field)
            continue
        columns[field] = found[0]
        name = sheet.columns[found[0]]
        if len(found) > 1:
            others = ", ".join(sheet.columns[i] for i in found[1:])
            notes.append(f"{field} from column {name!r}, not {others}")
        elif field == "close" and normalise(name) == "price":
            notes.append(f"close from column {name!r}")
    if missing:
        raise not_recognised(sheet, f"no column for {', '.join(missing)}")
    adjusted = [name for name in sheet.columns if _ADJUSTED.search(normalise(name))]
    chosen = {sheet.columns[columns[field]] for field in PRICES}
    if left := [name for name in adjusted if name not in chosen]:
        notes.append(f"prices are not adjusted; column {', '.join(left)} is left out")


def _place_volume(sheet: Sheet, columns: dict[str, int], notes: list[str]) -> None:
    if "volume" in columns:
        return
    names = [normalise(column) for column in sheet.columns]
    tick = [i for i, name in enumerate(names) if name in _TICK_VOLUME]
    real = [i for i, name in enumerate(names) if name in _REAL_VOLUME]
    if tick:
        is_real = bool(real) and _has_positive(sheet, real[0])
        columns["volume"] = real[0] if is_real else tick[0]
        kind = "traded volume" if is_real else "tick volume (number of quotes)"
        notes.append(f"volume is {kind}, column {sheet.columns[columns['volume']]!r}")
        return
    if found := _named(sheet, "volume"):
        columns["volume"] = found[0]
        return
    family = [i for i, name in enumerate(names) if re.match(r"vol(?:ume)? \w+$", name)]
    if len(family) == 1:
        columns["volume"] = family[0]
        notes.append(f"volume from column {sheet.columns[family[0]]!r}")
    elif family:
        shown = ", ".join(sheet.columns[i] for i in family)
        notes.append(
            f"volume left unknown: {shown} could be meant; pass --columns volume="
        )
    else:
        notes.append("no volume column; volume is unknown")


def _has_positive(sheet: Sheet, position: int) -> bool:
    cells = sheet.table.column(position).slice(0, 10_000).to_pylist()
    return any(
        str(cell).strip().lstrip("0.").rstrip() not in {"", "None"} for cell in cells
    )
