"""Settled forecasts at one horizon, and the events ahead of and behind them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import AnyArray, FloatArray, IntArray, TimeArray
from lab.errors import ScoringError
from lakehouse.schema.market import ECONOMIC_CALENDAR

HIGH_IMPORTANCE: Final = 3
COLUMNS: Final = (
    "symbol",
    "horizon",
    "as_of",
    "known_ts",
    "last_close",
    "p10",
    "p90",
    "absolute_error",
    "is_direction_hit",
    "strategy_return",
    "bars_per_year",
    "is_in_skill",
)
"""Columns of `prediction_scores` that acceptance reads."""


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """One member's forecasts at one horizon, one a symbol and decision time.

    Attributes
    ----------
    symbol : ndarray of shape (n_rows,), int64
        Code of the symbol, the same for all members.
    as_of, known : ndarray of shape (n_rows,), datetime64[us]
        Decision time, and when the outcome was known; sorted by the first, then symbol.
    width, error : ndarray of shape (n_rows,), float64
        Of the band and of the median, shares of the price started from.
    hit : ndarray of shape (n_rows,), float64
        1 for the right direction, 0 for the wrong one, NaN for neither.
    gain : ndarray of shape (n_rows,), float64
        Log return of following the direction.
    yearly : ndarray of shape (n_rows,), float64
        Bars a year.
    """

    symbol: IntArray
    as_of: TimeArray
    known: TimeArray
    width: FloatArray
    error: FloatArray
    hit: FloatArray
    gain: FloatArray
    yearly: FloatArray

    def paired_with(self, other: "ScoredRows") -> tuple[IntArray, IntArray]:
        """Return row numbers here and there of equal symbol and decision time."""
        moments = np.unique(np.concatenate([self.as_of, other.as_of]))
        width = int(max(self.symbol.max(initial=0), other.symbol.max(initial=0))) + 1
        ours, theirs = (
            np.searchsorted(moments, one.as_of) * width + one.symbol
            for one in (self, other)
        )
        _, left, right = np.intersect1d(ours, theirs, return_indices=True)
        return left, right


@dataclass(frozen=True, slots=True)
class Events:
    """Moments of high-importance releases, oldest first.

    Attributes
    ----------
    ts : ndarray of shape (n_events,), datetime64[us]
        When they are released; releases at one moment are one event.
    announced : ndarray of shape (n_events,), datetime64[us]
        When the first of its releases was announced.
    surprised : ndarray of shape (n_surprises,), datetime64[us]
        When values became known that differ from what was forecast.
    """

    ts: TimeArray
    announced: TimeArray
    surprised: TimeArray

    @classmethod
    def of(cls, releases: pa.Table, now: np.datetime64) -> "Events":
        """Read rows of `economic_calendar`.

        Raises
        ------
        ScoringError
            If a column is missing.

        Notes
        -----
        Point in time: a surprise is one from `actual_known_ts` on, and none that is not
        known at `now`.
        """
        wanted = (
            *("ts", "importance", "is_timed", "scheduled_known_ts"),
            *("actual_known_ts", "actual", "forecast"),
        )
        _require(releases, wanted, ECONOMIC_CALENDAR.name)
        high = releases.select(list(wanted)).filter(
            (pc.field("importance") == HIGH_IMPORTANCE) & pc.field("is_timed")
        )
        ts, announced = times(high["ts"]), times(high["scheduled_known_ts"])
        known = times(high["actual_known_ts"])
        actual, forecast = numbers(high["actual"]), numbers(high["forecast"])
        is_surprise = np.isfinite(actual) & np.isfinite(forecast) & (actual != forecast)
        moments, first, at = np.unique(ts, return_index=True, return_inverse=True)
        soonest = announced[first].copy()
        np.minimum.at(soonest, at, announced)
        return cls(moments, soonest, np.unique(known[is_surprise & (known <= now)]))

    def ahead_of(self, rows: ScoredRows) -> IntArray:
        """Return the next event until the outcome is known, if announced; else -1."""
        found = np.full(len(rows.as_of), -1, dtype=np.int64)
        if len(self.ts) == 0:
            return found
        place = np.searchsorted(self.ts, rows.as_of, side="right")
        at = np.minimum(place, len(self.ts) - 1)
        is_ahead = (
            (place < len(self.ts))
            & (self.ts[at] <= rows.known)
            & (self.announced[at] <= rows.as_of)
        )
        found[is_ahead] = at[is_ahead]
        return found

    def behind(self, rows: ScoredRows, *, within: np.timedelta64) -> IntArray:
        """Return the newest surprise known at the decision, if that recent; else -1."""
        found = np.full(len(rows.as_of), -1, dtype=np.int64)
        if len(self.surprised) == 0:
            return found
        place = np.searchsorted(self.surprised, rows.as_of, side="right") - 1
        at = np.maximum(place, 0)
        is_recent = (place >= 0) & (rows.as_of - self.surprised[at] <= within)
        found[is_recent] = at[is_recent]
        return found


def scored_rows(
    members: Mapping[str, pa.Table], as_of: datetime, *, at_shortest_of: str
) -> tuple[dict[str, ScoredRows], int]:
    """Return each member's rows at the shortest horizon at which one of them counts.

    Parameters
    ----------
    members : mapping of str to pyarrow.Table
        Rows of `prediction_scores` of one timeframe.
    as_of : datetime
        Decision time, aware.
    at_shortest_of : str
        The member that decides the horizon.

    Returns
    -------
    rows : dict of str to ScoredRows
        Of the members that have any; empty if that member has none.
    horizon : int
        In bars; 0 if that member has none.

    Raises
    ------
    ScoringError
        If a column is missing.

    Notes
    -----
    Point in time: only rows with `known_ts` <= `as_of`. One row a symbol and decision
    time: the first in the order given.
    """
    moment = pa.scalar(as_of, pa.timestamp("us", tz="UTC"))
    tables = {}
    for name, table in members.items():
        _require(table, COLUMNS, "scores")
        tables[name] = table.select(list(COLUMNS)).filter(
            pc.field("is_in_skill")
            & (pc.field("known_ts") <= moment)
            & (pc.field("last_close") > 0)
        )
    chosen = tables.get(at_shortest_of)
    if chosen is None or chosen.num_rows == 0:
        return {}, 0
    horizon = int(pc.min(chosen["horizon"]).as_py())
    names = sorted({one for t in tables.values() for one in t["symbol"].to_pylist()})
    found = {name: _read(table, horizon, names) for name, table in tables.items()}
    return {name: one for name, one in found.items() if len(one.as_of)}, horizon


def _read(table: pa.Table, horizon: int, names: list[str]) -> ScoredRows:
    rows = table.filter(pc.field("horizon") == horizon)
    symbol = pc.index_in(rows["symbol"], value_set=pa.array(names, pa.string()))
    codes, as_of = symbol.to_numpy().astype(np.int64), times(rows["as_of"])
    order = np.lexsort((codes, as_of))
    is_first = np.ones(len(order), dtype=np.bool_)
    is_first[1:] = (np.diff(codes[order]) != 0) | (
        as_of[order][1:] != as_of[order][:-1]
    )
    order = order[is_first]
    last_close = numbers(rows["last_close"])
    width = (numbers(rows["p90"]) - numbers(rows["p10"])) / last_close
    return ScoredRows(
        symbol=codes[order],
        as_of=as_of[order],
        known=times(rows["known_ts"])[order],
        width=width[order],
        error=(numbers(rows["absolute_error"]) / last_close)[order],
        hit=numbers(rows["is_direction_hit"].cast(pa.int8()))[order],
        gain=numbers(rows["strategy_return"])[order],
        yearly=numbers(rows["bars_per_year"])[order],
    )


def days(moments: TimeArray) -> IntArray:
    """Return the day number of each moment."""
    return np.asarray(moments.astype("datetime64[D]").astype(np.int64))


def times(column: pa.ChunkedArray) -> TimeArray:
    """Return a timestamp column as `datetime64[us]`."""
    return np.asarray(column.cast(pa.timestamp("us")).to_numpy())


def numbers(column: pa.ChunkedArray) -> FloatArray:
    """Return a number column as float64, null as NaN."""
    found: AnyArray = column.cast(pa.float64()).to_numpy()
    return np.asarray(found, dtype=np.float64)


def _require(table: pa.Table, names: tuple[str, ...], what: str) -> None:
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise ScoringError(f"{what}: column missing: {', '.join(missing)}")
