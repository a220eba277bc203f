"""Our own column layout: symbol, ts (with time zone), open, high, low, close, volume."""

from typing import Final

import pyarrow as pa

from lakehouse.sources.dialects._base import (
    FIELDS,
    Options,
    Plan,
    Sheet,
    not_recognised,
)

_REQUIRED: Final = ("symbol", "ts", "open", "high", "low", "close")


def recognises(sheet: Sheet) -> bool:
    """Whether the sheet carries our names and a `ts` that states its zone."""
    if not set(_REQUIRED) <= set(sheet.columns):
        return False
    kind = sheet.table.schema.field("ts").type
    return bool(pa.types.is_timestamp(kind)) and kind.tz is not None


def plan(sheet: Sheet, options: Options) -> Plan:
    """Take the columns by their names.

    Raises
    ------
    SourceError
        If one of them is absent.
    """
    if absent := [name for name in _REQUIRED if name not in sheet.columns]:
        raise not_recognised(sheet, f"not our layout: no column {', '.join(absent)}")
    columns: dict[str, int] = {
        field: sheet.columns.index(field)
        for field in FIELDS
        if field in sheet.columns and field not in {"date", "time"}
    }
    return Plan("alphalake", columns, scale=options.scale or 1.0)
