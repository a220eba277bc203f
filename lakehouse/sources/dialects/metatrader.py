"""MetaTrader exports: with and without header, comma or tab, broker time.

Headerless rows are date, (time,) open, high, low, close, volume, …; headers may be
`<DATE> <TIME> <OPEN> … <TICKVOL> <VOL> <SPREAD>` or the names of the Python interface.
Broker time is whatever the broker chose: it is never guessed.
"""

from typing import Final

import numpy as np

from lakehouse.sources._cells import to_numbers
from lakehouse.sources._stamps import probe
from lakehouse.sources.dialects import generic
from lakehouse.sources.dialects._base import (
    PRICES,
    Options,
    Plan,
    Sheet,
    not_recognised,
)

_NAMES: Final = {"tickvol", "tick volume", "tickvolume"}
_PROBE: Final = 500  # rows


def recognises(sheet: Sheet) -> bool:
    """Whether the header is an export's, or headerless rows read date, OHLC."""
    if sheet.grid is None:
        return False
    if sheet.has_header:
        bracketed = sum(
            name.startswith("<") and name.endswith(">") for name in sheet.columns
        )
        named = any(generic.normalise(name) in _NAMES for name in sheet.columns)
        return bracketed >= 4 or named
    return _positions(sheet) is not None


def plan(sheet: Sheet, options: Options) -> Plan:
    """Find the columns by name, or by position where there are no names.

    Raises
    ------
    SourceError
        If they are not found.
    """
    if sheet.has_header or options.columns:
        found = generic.plan(sheet, options)
        return Plan(
            "metatrader",
            found.columns,
            zone=found.zone,
            scale=found.scale,
            notes=found.notes,
        )
    positions = _positions(sheet)
    if positions is None:
        raise not_recognised(
            sheet, "not a MetaTrader export of date, open, high, low, close"
        )
    names = ", ".join(positions)
    return Plan(
        "metatrader",
        positions,
        scale=options.scale,
        notes=(f"no header: columns taken as {names}",),
    )


def _positions(sheet: Sheet) -> dict[str, int] | None:
    n_columns = len(sheet.columns)
    if n_columns < 5 or probe(sheet.table.column(0)) not in {"date", "stamp", "stated"}:
        return None
    columns = {"ts": 0}
    if probe(sheet.table.column(1)) == "clock":
        columns["time"] = 1
    first = len(columns)
    if n_columns < first + 4:
        return None
    columns |= {field: first + i for i, field in enumerate(PRICES)}
    if n_columns > first + 4:
        columns["volume"] = first + 4
    return columns if _are_bars(sheet, columns) else None


def _are_bars(sheet: Sheet, columns: dict[str, int]) -> bool:
    # Position is a guess until highs and lows enclose the other two.
    opened, high, low, close = (
        to_numbers(sheet.table.column(columns[field]).slice(0, _PROBE)).values
        for field in PRICES
    )
    known = ~np.isnan(opened + high + low + close)
    fits = (high >= np.maximum(opened, close)) & (low <= np.minimum(opened, close))
    return bool(known.any()) and bool(fits[known].mean() > 0.5)
