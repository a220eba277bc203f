"""Exchange klines: 12 columns by position, with or without a header, epochs in UTC.

open time, open, high, low, close, volume, close time, quote volume, trades, taker base
volume, taker quote volume, ignore. Epochs are milliseconds (microseconds from 2025 on);
each row's magnitude decides. Placeholder and unfinished bars stay rows like any other.
"""

from typing import Final

import numpy as np

from lakehouse.sources._stamps import parse_stamps
from lakehouse.sources._zones import DAY, HOUR, UTC_ZONE
from lakehouse.sources.dialects._base import Options, Plan, Sheet, not_recognised
from lakehouse.sources.dialects.generic import normalise

_COLUMNS: Final = {"ts": 0, "open": 1, "high": 2, "low": 3, "close": 4, "volume": 5}
_CLOSE_TIME: Final = 6
_PROBE: Final = 500  # rows


def recognises(sheet: Sheet) -> bool:
    """Whether columns 1 and 7 of 11 or 12 are epochs that enclose a bar."""
    if sheet.grid is None or len(sheet.columns) not in {11, 12, 13}:
        return False
    if sheet.has_header:
        name = normalise(sheet.columns[_CLOSE_TIME]).replace(" ", "")
        if not name.startswith("closetime"):
            return False
    return _bar_length(sheet) > 0


def plan(sheet: Sheet, options: Options) -> Plan:
    """Take the columns by position.

    Raises
    ------
    SourceError
        If the first and seventh column are not epochs.
    """
    length = _bar_length(sheet)
    if length <= 0:
        raise not_recognised(sheet, "not klines: columns 1 and 7 are not epochs")
    known = {HOUR: "1h", DAY: "1d"}
    return Plan(
        "klines",
        _COLUMNS,
        zone=UTC_ZONE,
        scale=options.scale or 1.0,
        timeframe=known.get(length, f"{length / HOUR:g}h"),
        asset_class="crypto",
        calendar="24x7",
        notes=("klines of a crypto exchange: epochs, UTC, always open",),
    )


def _bar_length(sheet: Sheet) -> int:
    # Modal length in microseconds, 0 if the two columns are not epochs.
    if sheet.grid is None or len(sheet.columns) <= _CLOSE_TIME:
        return 0
    first = parse_stamps("", sheet.table.column(0).slice(0, _PROBE), order="dmy")
    last = parse_stamps(
        "", sheet.table.column(_CLOSE_TIME).slice(0, _PROBE), order="dmy"
    )
    both = first.is_valid & first.is_stated & last.is_valid & last.is_stated
    if both.sum() * 2 < len(both) or not both.any():
        return 0
    spans = last.wall[both] - first.wall[both]
    lengths, counts = np.unique(spans + 1000 - spans % 1000, return_counts=True)
    return int(lengths[counts.argmax()])
