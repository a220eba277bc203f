"""What became of forecasts: the target bars, and how the symbol moved until then."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa

from lab.arrays import AnyArray, BoolArray, FloatArray, IntArray, TimeArray
from lab.bars.calendars import bars_per_year, known_ts, positions, trading_start
from lab.bars.panel import instruments_by_symbol, on_grid, rows_by_symbol
from lab.bars.timeframes import to_instant
from lab.errors import ScoringError

SCALE_BARS: Final = 512
"""Changes before the decision that make up MASE's denominator."""

MIN_SCALE_BARS: Final = 20
NEARLY_FINISHED: Final = 0.5
"""Share of a bar's trading that may be over at the decision time and still count."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One row per forecast and horizon asked about.

    Attributes
    ----------
    actual : ndarray of shape (n_rows,), float64
        Close of the target bar; NaN where there is no such bar, or not yet.
    known : ndarray of shape (n_rows,), datetime64[us]
        When the target bar is known.
    scale : ndarray of shape (n_rows,), float64
        Mean absolute change of the last 512 bars before the forecast; NaN where fewer
        than 20 changes are known or the price never changed.
    position : ndarray of shape (n_rows,), int64
        The target bar's number on its calendar.
    yearly_bars : ndarray of shape (n_rows,), float64
        Observed bars a year up to the target.
    is_early : ndarray of shape (n_rows,), bool
        Whether less than half of the target bar was over at the decision time.
    is_split : ndarray of shape (n_rows,), bool
        Whether a suspected split lies between the forecast and its target.
    """

    actual: FloatArray
    known: TimeArray
    scale: FloatArray
    position: IntArray
    yearly_bars: FloatArray
    is_early: BoolArray
    is_split: BoolArray

    def keep(self, chosen: BoolArray) -> "Outcomes":
        """Return the rows where `chosen` is true."""
        return Outcomes(
            self.actual[chosen],
            self.known[chosen],
            self.scale[chosen],
            self.position[chosen],
            self.yearly_bars[chosen],
            self.is_early[chosen],
            self.is_split[chosen],
        )


class Histories:
    """Bars by symbol on their calendars' grid, worked out once and read many times.

    Parameters
    ----------
    ohlcv : pyarrow.Table
        Rows of `ohlcv`; `flags` may be absent.
    timeframe : str
        Others are left out.

    Raises
    ------
    BarsError
        If a column is missing.
    """

    def __init__(self, ohlcv: pa.Table, *, timeframe: str) -> None:
        self.timeframe = timeframe
        self._rows = rows_by_symbol(ohlcv, ("close",), timeframe=timeframe)
        self._on_grid: dict[tuple[str, str], dict[str, AnyArray]] = {}

    def of(self, symbol: str, calendar: str) -> dict[str, AnyArray] | None:
        """Return `ts`, `close` and `is_split` of a symbol, oldest first, or None."""
        if symbol not in self._rows:
            return None
        key = symbol, calendar
        if key not in self._on_grid:
            self._on_grid[key], _ = on_grid(
                self._rows[symbol], timeframe=self.timeframe, calendar=calendar
            )
        return self._on_grid[key]


def outcomes(
    symbols: AnyArray,
    *,
    as_of: TimeArray,
    last_ts: TimeArray,
    target_ts: TimeArray,
    ohlcv: pa.Table | Histories,
    instruments: pa.Table,
    timeframe: str,
    now: datetime,
) -> Outcomes:
    """Look up target bars and what is needed to score against them.

    Parameters
    ----------
    symbols : ndarray of shape (n_rows,), object
        Of each forecast.
    as_of, last_ts, target_ts : ndarray of shape (n_rows,), datetime64[us]
        Decision time, newest bar seen, target bar.
    ohlcv : pyarrow.Table or Histories
        Rows of `ohlcv`, or what was made of them.
    instruments : pyarrow.Table
        Rows of `instruments`.
    timeframe : str
        Of all rows.
    now : datetime
        Bars known later do not exist yet.

    Raises
    ------
    ScoringError
        If a symbol is not among the instruments, or the bars are of another length.

    Notes
    -----
    Point in time: a row uses bars up to its target's `known_ts`, and none at all while
    that is later than `now`.
    """
    n_rows = len(symbols)
    found = Outcomes(
        actual=np.full(n_rows, np.nan),
        known=target_ts.copy(),
        scale=np.full(n_rows, np.nan),
        position=np.full(n_rows, -1, dtype=np.int64),
        yearly_bars=np.zeros(n_rows),
        is_early=np.zeros(n_rows, dtype=np.bool_),
        is_split=np.zeros(n_rows, dtype=np.bool_),
    )
    encoded = pa.array(symbols, pa.string()).dictionary_encode()
    codes = encoded.indices.to_numpy()
    known_instruments = instruments_by_symbol(instruments)
    bars = _histories(ohlcv, timeframe)
    for code, symbol in enumerate(encoded.dictionary.to_pylist()):
        if symbol not in known_instruments:
            raise ScoringError(f"symbol {symbol!r} was forecast but is no instrument")
        rows = np.flatnonzero(codes == code)
        calendar = known_instruments[symbol].calendar
        targets = target_ts[rows]
        where = {"timeframe": timeframe, "calendar": calendar}
        known = known_ts(targets, **where)
        found.known[rows] = known
        found.position[rows] = positions(targets, **where)
        begin = trading_start(targets, **where)
        elapsed = (as_of[rows] - begin) / (known - begin)
        found.is_early[rows] = elapsed < NEARLY_FINISHED
        history = bars.of(symbol, calendar)
        if history is not None:
            settled = rows[known <= to_instant(now)]
            _settle(found, settled, history, last_ts[settled], target_ts[settled])
    return found


def _histories(ohlcv: pa.Table | Histories, timeframe: str) -> Histories:
    if not isinstance(ohlcv, Histories):
        return Histories(ohlcv, timeframe=timeframe)
    if ohlcv.timeframe != timeframe:
        raise ScoringError(f"bars of {ohlcv.timeframe}, forecasts of {timeframe}")
    return ohlcv


def _settle(
    found: Outcomes,
    rows: IntArray,
    history: dict[str, AnyArray],
    last_ts: TimeArray,
    target_ts: TimeArray,
) -> None:
    # Fill in the rows whose target bar exists.
    ts, close, is_split = history["ts"], history["close"], history["is_split"]
    if len(ts) == 0:
        return
    target = np.minimum(np.searchsorted(ts, target_ts), len(ts) - 1)
    exists = ts[target] == target_ts
    rows, target, last_ts = rows[exists], target[exists], last_ts[exists]
    if len(rows) == 0:
        return
    n_seen = np.searchsorted(ts, last_ts, side="right")
    found.actual[rows] = close[target]
    found.scale[rows] = _scale(close, is_split, n_seen)
    found.yearly_bars[rows] = bars_per_year(ts, ts[target])
    splits = np.concatenate([[0], np.cumsum(is_split)])
    found.is_split[rows] = splits[target + 1] > splits[n_seen]


def _scale(close: FloatArray, is_split: BoolArray, n_seen: IntArray) -> FloatArray:
    # Prefix sums, so that a row's figure depends on the bars before it alone.
    is_change = ~is_split[1:]
    change = np.where(is_change, np.abs(np.diff(close)), 0.0)
    total = np.concatenate([[0.0], np.cumsum(change)])
    count = np.concatenate([[0], np.cumsum(is_change)])
    stop = np.maximum(n_seen - 1, 0)
    start = np.maximum(stop - SCALE_BARS, 0)
    n_changes = count[stop] - count[start]
    mean = (total[stop] - total[start]) / np.maximum(n_changes, 1)
    return np.where((n_changes >= MIN_SCALE_BARS) & (mean > 0), mean, np.nan)
