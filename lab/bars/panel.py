"""Many symbols' bars in memory, cut at a decision time.

A panel is made once from tables and asked for many decision times. Bars off their
calendar's grid (the short Sunday bar of FX days, trading outside a session) are left
out: the step across them is one return.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import AnyArray, BoolArray, IntArray, TimeArray
from lab.bars.calendars import known_ts, positions
from lab.bars.series import Series
from lab.bars.targets import MAX_MISSED
from lab.bars.timeframes import step, to_instant
from lab.errors import BarsError

SPLIT_FLAG: Final = "split?"
_PRICES: Final = ("open", "high", "low", "close")


@dataclass(frozen=True, slots=True)
class Instrument:
    """What a panel needs to know of an instrument; times are `datetime64[us]`, UTC."""

    symbol: str
    asset_class: str
    calendar: str
    is_leader: bool
    listed_to: np.datetime64 | None


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars of one timeframe by symbol, each with when it was known.

    Attributes
    ----------
    timeframe : str
        `1h` or `1d`.
    instruments : dict of str to Instrument
        Of the symbols that have bars.
    series : dict of str to Series
        All bars, later ones included; `as_of` cuts them.
    known : dict of str to ndarray of shape (n_obs,), datetime64[us]
        When each of a symbol's bars was known.
    """

    timeframe: str
    instruments: dict[str, Instrument]
    series: dict[str, Series]
    known: dict[str, TimeArray]

    @classmethod
    def from_tables(
        cls,
        ohlcv: pa.Table,
        instruments: pa.Table,
        *,
        timeframe: str,
        symbols: Collection[str] | None = None,
    ) -> "Panel":
        """Group the rows of `ohlcv` by symbol.

        Parameters
        ----------
        ohlcv : pyarrow.Table
            Rows of `ohlcv`, any order; `flags` may be absent.
        instruments : pyarrow.Table
            Rows of `instruments`.
        timeframe : str
            `1h` or `1d`; rows of other timeframes are ignored.
        symbols : collection of str, optional
            Only these.

        Raises
        ------
        BarsError
            If a symbol with bars is not among the instruments, or a column is missing.
        """
        step(timeframe)
        known_instruments = instruments_by_symbol(instruments)
        panel = cls(timeframe, {}, {}, {})
        columns = (*_PRICES, "volume")
        for symbol, rows in rows_by_symbol(
            ohlcv, columns, timeframe=timeframe, symbols=symbols
        ).items():
            instrument = known_instruments.get(symbol)
            if instrument is None:
                raise BarsError(f"symbol {symbol!r} has bars but is no instrument")
            series = _to_series(rows, instrument, timeframe)
            panel.instruments[symbol] = instrument
            panel.series[symbol] = series
            panel.known[symbol] = known_ts(
                series.ts, timeframe=timeframe, calendar=instrument.calendar
            )
        return panel

    def as_of(
        self,
        as_of: datetime,
        *,
        context: int | None = None,
        symbols: Collection[str] | None = None,
        include_leaders: bool = False,
    ) -> list[Series]:
        """Return each symbol's last `context` known bars, in the order of the symbols.

        Leaders are left out unless asked for by name or `include_leaders`; so are
        symbols without a known bar and symbols delisted by then.

        Notes
        -----
        Point in time: only rows with `known_ts <= as_of`.
        """
        moment = to_instant(as_of)
        wanted = sorted(self.series) if symbols is None else list(symbols)
        chosen = []
        for symbol in wanted:
            if symbol not in self.series:
                continue
            instrument = self.instruments[symbol]
            if instrument.is_leader and symbols is None and not include_leaders:
                continue
            stop = int(np.searchsorted(self.known[symbol], moment, side="right"))
            if stop == 0 or _is_delisted(instrument, self.series[symbol].ts[stop - 1]):
                continue
            start = 0 if context is None else max(0, stop - context)
            chosen.append(self.series[symbol].part(slice(start, stop)))
        return chosen


def series_as_of(
    ohlcv: pa.Table,
    instruments: pa.Table,
    *,
    timeframe: str,
    as_of: datetime,
    context: int | None,
    symbols: Collection[str] | None = None,
    include_leaders: bool = False,
) -> list[Series]:
    """Return each symbol's last `context` bars known at `as_of`.

    For many decision times make a `Panel` once.

    Raises
    ------
    BarsError
        If a symbol with bars is not among the instruments, or a column is missing.

    Notes
    -----
    Point in time: only rows with `known_ts <= as_of`.
    """
    panel = Panel.from_tables(ohlcv, instruments, timeframe=timeframe, symbols=symbols)
    return panel.as_of(
        as_of, context=context, symbols=symbols, include_leaders=include_leaders
    )


def instruments_by_symbol(instruments: pa.Table) -> dict[str, Instrument]:
    """Return the rows of `instruments` by symbol.

    Raises
    ------
    BarsError
        If a column is missing.
    """
    _require(
        instruments,
        ("symbol", "asset_class", "calendar", "is_leader", "listed_to"),
        "instruments",
    )
    return {
        row["symbol"]: Instrument(
            symbol=row["symbol"],
            asset_class=row["asset_class"],
            calendar=row["calendar"],
            is_leader=row["is_leader"],
            listed_to=None
            if row["listed_to"] is None
            else to_instant(row["listed_to"]),
        )
        for row in instruments.to_pylist()
    }


def rows_by_symbol(
    ohlcv: pa.Table,
    columns: tuple[str, ...],
    *,
    timeframe: str,
    symbols: Collection[str] | None = None,
) -> dict[str, dict[str, AnyArray]]:
    """Return `ts`, `is_split` and `columns` of each symbol's bars, oldest first.

    Parameters
    ----------
    ohlcv : pyarrow.Table
        Rows of `ohlcv`, any order; `flags` may be absent.
    columns : tuple of str
        Which number columns; null becomes NaN.
    timeframe : str
        Rows of other timeframes are ignored.
    symbols : collection of str, optional
        Only these.

    Returns
    -------
    dict of str to dict of str to ndarray of shape (n_obs,)

    Raises
    ------
    BarsError
        If a column is missing.
    """
    _require(ohlcv, ("symbol", "timeframe", "ts", *columns), "ohlcv")
    wanted = pc.equal(ohlcv["timeframe"], timeframe)
    if symbols is not None:
        allowed = pa.array(sorted(symbols), type=ohlcv["symbol"].type)
        wanted = pc.and_(wanted, pc.is_in(ohlcv["symbol"], value_set=allowed))
    optional = [name for name in ("flags",) if name in ohlcv.column_names]
    table = ohlcv.select(["symbol", "ts", *columns, *optional]).filter(wanted)
    ts = table["ts"].cast(pa.timestamp("us")).to_numpy()
    arrays: dict[str, AnyArray] = {
        "ts": ts,
        "is_split": _split_flags(table),
        **{name: table[name].to_numpy().astype(np.float64) for name in columns},
    }
    grouped = {}
    for symbol, rows in _group_rows(table["symbol"]).items():
        in_order = rows[np.argsort(ts[rows], kind="stable")]
        grouped[symbol] = {name: array[in_order] for name, array in arrays.items()}
    return grouped


def on_grid(
    rows: dict[str, AnyArray], *, timeframe: str, calendar: str
) -> tuple[dict[str, AnyArray], IntArray]:
    """Return the bars on the calendar's grid and their numbers on it.

    A split flag on a bar that is left out goes to the next bar kept.

    Raises
    ------
    CalendarError
        If the calendar is unknown.
    """
    place = positions(rows["ts"], timeframe=timeframe, calendar=calendar)
    is_kept = place >= 0
    splits_so_far = np.cumsum(rows["is_split"])[is_kept]
    kept = {name: array[is_kept] for name, array in rows.items()}
    kept["is_split"] = np.diff(splits_so_far, prepend=0) > 0
    return kept, place[is_kept]


def _split_flags(ohlcv: pa.Table) -> BoolArray:
    if "flags" not in ohlcv.column_names:
        return np.zeros(len(ohlcv), dtype=np.bool_)
    flags = ohlcv["flags"].cast(pa.string())
    has_split = pc.fill_null(pc.match_substring(flags, SPLIT_FLAG), fill_value=False)
    return np.asarray(has_split.to_numpy(), dtype=np.bool_)


def _group_rows(symbols: pa.ChunkedArray) -> dict[str, IntArray]:
    if len(symbols) == 0:
        return {}
    encoded = symbols.combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    order = np.argsort(codes, kind="stable")
    cuts = np.searchsorted(codes[order], np.arange(1, len(encoded.dictionary)))
    names = encoded.dictionary.to_pylist()
    return dict(zip(names, np.split(order, cuts), strict=True))


def _to_series(
    rows: dict[str, AnyArray], instrument: Instrument, timeframe: str
) -> Series:
    rows, place = on_grid(rows, timeframe=timeframe, calendar=instrument.calendar)
    after_gap = np.diff(place, prepend=place[:1]) > MAX_MISSED[timeframe]
    return Series(
        symbol=instrument.symbol,
        timeframe=timeframe,
        calendar=instrument.calendar,
        asset_class=instrument.asset_class,
        ts=rows["ts"],
        open=rows["open"],
        high=rows["high"],
        low=rows["low"],
        close=rows["close"],
        volume=rows["volume"],
        is_break=after_gap | rows["is_split"],
    )


def _is_delisted(instrument: Instrument, last_known: np.datetime64) -> bool:
    return instrument.listed_to is not None and bool(last_known >= instrument.listed_to)


def _require(table: pa.Table, columns: tuple[str, ...], what: str) -> None:
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise BarsError(f"{what}: column missing: {', '.join(missing)}")
