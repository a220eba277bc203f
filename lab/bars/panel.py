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

from lab.arrays import AnyArray, BoolArray, FloatArray, IntArray, TimeArray
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
        for symbol, rows in _by_symbol(ohlcv, timeframe, symbols).items():
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


def group_rows(symbols: pa.ChunkedArray) -> dict[str, IntArray]:
    """Return the row numbers of each symbol, in the order of the rows."""
    if len(symbols) == 0:
        return {}
    encoded = symbols.combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    order = np.argsort(codes, kind="stable")
    cuts = np.searchsorted(codes[order], np.arange(1, len(encoded.dictionary)))
    names = encoded.dictionary.to_pylist()
    return dict(zip(names, np.split(order, cuts), strict=True))


def _by_symbol(
    ohlcv: pa.Table, timeframe: str, symbols: Collection[str] | None
) -> dict[str, dict[str, AnyArray]]:
    columns = ["symbol", "timeframe", "ts", *_PRICES, "volume"]
    _require(ohlcv, tuple(columns), "ohlcv")
    has_flags = "flags" in ohlcv.column_names
    table = ohlcv.select([*columns, "flags"] if has_flags else columns)
    wanted = pc.equal(table["timeframe"], timeframe)
    if symbols is not None:
        allowed = pa.array(sorted(symbols), type=table["symbol"].type)
        wanted = pc.and_(wanted, pc.is_in(table["symbol"], value_set=allowed))
    table = table.filter(wanted)
    arrays: dict[str, AnyArray] = {
        "ts": table["ts"].cast(pa.timestamp("us")).to_numpy(),
        **{name: table[name].to_numpy() for name in (*_PRICES, "volume")},
        "is_split": split_flags(table),
    }
    return {
        symbol: {name: array[rows] for name, array in arrays.items()}
        for symbol, rows in group_rows(table["symbol"]).items()
    }


def split_flags(ohlcv: pa.Table) -> BoolArray:
    """Return which rows of `ohlcv` intake suspected of a split."""
    if "flags" not in ohlcv.column_names:
        return np.zeros(len(ohlcv), dtype=np.bool_)
    flags = ohlcv["flags"].cast(pa.string())
    has_split = pc.fill_null(pc.match_substring(flags, SPLIT_FLAG), fill_value=False)
    return np.asarray(has_split.to_numpy(), dtype=np.bool_)


def _to_series(
    rows: dict[str, AnyArray], instrument: Instrument, timeframe: str
) -> Series:
    order = np.argsort(rows["ts"], kind="stable")
    rows = {name: array[order] for name, array in rows.items()}
    place = positions(rows["ts"], timeframe=timeframe, calendar=instrument.calendar)
    is_split = _carry(rows["is_split"], place >= 0)
    rows = {name: array[place >= 0] for name, array in rows.items()}
    place = place[place >= 0]
    after_gap = np.diff(place, prepend=place[:1]) > MAX_MISSED[timeframe]
    prices: dict[str, FloatArray] = {
        name: rows[name].astype(np.float64) for name in (*_PRICES, "volume")
    }
    return Series(
        symbol=instrument.symbol,
        timeframe=timeframe,
        calendar=instrument.calendar,
        asset_class=instrument.asset_class,
        ts=rows["ts"],
        is_break=after_gap | is_split,
        **prices,
    )


def _carry(flags: BoolArray, is_kept: BoolArray) -> BoolArray:
    # A flag on a bar that is left out belongs to the step into the next kept bar.
    count = np.cumsum(flags)[is_kept]
    return np.diff(count, prepend=0) > 0


def _is_delisted(instrument: Instrument, last_known: np.datetime64) -> bool:
    return instrument.listed_to is not None and bool(last_known >= instrument.listed_to)


def _require(table: pa.Table, columns: tuple[str, ...], what: str) -> None:
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise BarsError(f"{what}: column missing: {', '.join(missing)}")
