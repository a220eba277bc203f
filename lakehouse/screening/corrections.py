"""Comparing good bars with the stored ones, and retiring what they replace."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.schema._spec import TEXT, TIMESTAMP
from lakehouse.screening.bars import (
    PRICES,
    STEP_US,
    BarColumns,
    BoolArray,
    IntArray,
    bar_columns,
)
from lakehouse.screening.refusals import quarantine, superseded_rows
from lakehouse.sources._base import RawBars
from lakehouse.store import Lake

_VALUES: Final = (*PRICES, "volume")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Good rows of an input against the stored bars.

    Attributes
    ----------
    new : ndarray of shape (n_new,), int64
        Rows whose key is not stored.
    corrected : ndarray of shape (n_corrected,), int64
        Rows whose key is stored with other values.
    """

    new: IntArray
    corrected: IntArray


def _range_filter(raw: RawBars, columns: BarColumns, rows: IntArray) -> pc.Expression:
    ts = columns.ts[rows]
    names = [columns.names[code] for code in np.unique(columns.code[rows])]
    low = pa.scalar(int(ts.min()), pa.int64()).cast(TIMESTAMP)
    high = pa.scalar(int(ts.max()), pa.int64()).cast(TIMESTAMP)
    return (
        (pc.field("timeframe") == raw.timeframe)
        & (pc.field("ts") >= low)
        & (pc.field("ts") <= high)
        & pc.field("symbol").isin(pa.array(names, TEXT))
    )


def _stored_pairs(
    stored: pa.Table, raw: RawBars, columns: BarColumns, rows: IntArray
) -> tuple[BarColumns, IntArray, IntArray]:
    """Pair stored rows with rows of the input.

    Returns
    -------
    stored columns, positions in `rows`, positions in `stored`, pairwise
    """
    step = STEP_US[raw.timeframe]
    found = bar_columns(stored)
    ours = {name: code for code, name in enumerate(columns.names)}
    code = np.array([ours.get(name, -1) for name in found.names], dtype=np.int64)
    their_key = (code[found.code] << 33) + found.ts // step + (1 << 32)
    our_key = columns.key(step)[rows]
    place = np.minimum(np.searchsorted(our_key, their_key), len(rows) - 1)
    matched = np.flatnonzero(our_key[place] == their_key)
    return found, place[matched], matched


def compare_bars(
    lake: Lake, raw: RawBars, columns: BarColumns, good: IntArray
) -> Comparison:
    """Find which good rows are new and which differ from the stored bar.

    Parameters
    ----------
    lake : Lake
        Only the input's symbols and time range are read.
    raw, columns
        The input.
    good : ndarray of shape (n_good,), int64
        Good rows sorted by symbol and time.
    """
    nothing = np.zeros(0, dtype=np.int64)
    if lake.version("ohlcv") is None:
        return Comparison(good, nothing)
    stored = lake.read(
        "ohlcv",
        columns=["symbol", "ts", *_VALUES],
        filter=_range_filter(raw, columns, good),
    )
    if not stored.num_rows:
        return Comparison(good, nothing)
    found, place, matched = _stored_pairs(stored, raw, columns, good)
    is_new = np.ones(len(good), dtype=np.bool_)
    is_new[place] = False
    differs = _differs(columns, good[place], found, matched)
    return Comparison(good[is_new], good[np.sort(place[differs])])


def _differs(
    columns: BarColumns, rows: IntArray, found: BarColumns, stored: IntArray
) -> BoolArray:
    prices = (columns.prices[:, rows] != found.prices[:, stored]).any(axis=0)
    volume = columns.volume[rows] != found.volume[stored]
    differs: BoolArray = prices | (columns.has_volume[rows] & volume)
    return differs


def supersede_bars(
    lake: Lake, raw: RawBars, columns: BarColumns, rows: IntArray, *, run_id: str
) -> IntArray:
    """Put the stored bars that `rows` replace into quarantine.

    Parameters
    ----------
    lake : Lake
        Where to.
    raw, columns
        The input.
    rows : ndarray of shape (n_rows,), int64
        Rows that differ from the stored bar, sorted by symbol and time.
    run_id : str
        The run that writes.

    Returns
    -------
    ndarray, int64
        The rows that are corrections. A file read again does not undo what corrected
        it since: values it had superseded before are left out.
    """
    if raw.window.startswith("sha256:"):
        rows = _without_outdated(lake, raw, columns, rows)
    if not rows.size:
        return rows
    stored = lake.read("ohlcv", filter=_range_filter(raw, columns, rows))
    found, place, matched = _stored_pairs(stored, raw, columns, rows)
    # Another writer of the same values may have been here since the comparison.
    differs = _differs(columns, rows[place], found, matched)
    place, matched = place[differs], matched[differs]
    details = [_describe(raw, columns, int(rows[position])) for position in place]
    old = stored.take(pa.array(matched)).to_pylist()
    quarantine(
        lake,
        superseded_rows(old, table="ohlcv", details=details),
        window=f"ingest/superseded/{raw.timeframe}/{raw.window}",
        run_id=run_id,
    )
    return rows[np.sort(place)]


def _describe(raw: RawBars, columns: BarColumns, row: int) -> str:
    open_, high, low, close = columns.prices[:, row].tolist()
    return (
        f"replaced by {raw.source} row {raw.first_row + row}: "
        f"open {open_} high {high} low {low} close {close}"
    )


def _without_outdated(
    lake: Lake, raw: RawBars, columns: BarColumns, rows: IntArray
) -> IntArray:
    """Leave out rows whose values this same file wrote and a later input replaced.

    The same content under another name is the same file: the digest that ends its
    source decides.
    """
    if not rows.size or lake.version("quarantine") is None:
        return rows
    digest = raw.source[raw.source.rfind("@") :]
    kept = lake.read(
        "quarantine",
        columns=["row"],
        filter=pc.ends_with(pc.field("source"), digest)
        & (pc.field("reason") == "superseded")
        & (pc.field("table_name") == "ohlcv"),
    )
    outdated = {_content(json.loads(text)) for text in kept["row"].to_pylist()}
    if not outdated:
        return rows
    is_current = [
        (raw.timeframe, *_row_content(columns, row)) not in outdated
        for row in rows.tolist()
    ]
    return rows[np.array(is_current, dtype=np.bool_)]


def _content(row: dict[str, Any]) -> tuple[Any, ...]:
    moment = datetime.fromisoformat(row["ts"]).timestamp()
    values = (row[name] for name in _VALUES)
    return (row["timeframe"], row["symbol"], moment, *values)


def _row_content(columns: BarColumns, row: int) -> tuple[Any, ...]:
    volume = float(columns.volume[row]) if columns.has_volume[row] else None
    return (
        columns.names[columns.code[row]],
        int(columns.ts[row]) / 1e6,
        *columns.prices[:, row].tolist(),
        volume,
    )
