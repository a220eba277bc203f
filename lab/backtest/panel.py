"""Bars of many instruments on one grid of rows: what sleeves see and the engine trades.

Rules:

- A row is a moment at which any instrument has a bar; an instrument without a bar there
  is NaN in it. Nothing is filled forward: a sleeve decides what a missing bar means.
- A row is known when the last of its bars is. Decisions taken on a row may be filled at
  the open of an instrument's next bar, never earlier.
- Delisted instruments stay in: leaving them out would be choosing survivors.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import numpy as np

from lab.arrays import BoolArray, FloatArray, IntArray, TimeArray
from lab.bars.panel import Instrument, Panel
from lab.bars.timeframes import to_instant
from lab.errors import BacktestError

NOT_TRADED: Final = frozenset({"VIX", "DXY"})
"""Figures computed from other prices: their level cannot be bought, and reverts."""
_PRICES: Final = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class ForecastGrid:
    """One model's newest forecast at each row.

    Attributes
    ----------
    move : ndarray of shape (n_obs, n_assets), float64
        Median move to the horizon as a share of the price; NaN where there is none.
    width : ndarray of shape (n_obs, n_assets), float64
        p90 less p10 as a share of the price, positive; NaN where there is none.
    """

    move: FloatArray
    width: FloatArray

    def part(self, rows: slice, assets: IntArray | slice) -> "ForecastGrid":
        """Return some rows of some assets."""
        return ForecastGrid(self.move[rows, assets], self.width[rows, assets])


@dataclass(frozen=True, slots=True)
class AlignedPanel:
    """Bars of one timeframe on one grid of rows.

    Attributes
    ----------
    timeframe : str
        `1h` or `1d`.
    symbols, asset_classes, calendars : tuple of str, n_assets
        One a column.
    ts : ndarray of shape (n_obs,), datetime64[us]
        Bar opens, UTC, strictly increasing: the union over the instruments.
    known_ts : ndarray of shape (n_obs,), datetime64[us]
        When every bar of the row was known; never falls.
    open, high, low, close : ndarray of shape (n_obs, n_assets), float64
        Prices; NaN where the instrument has no bar.
    volume : ndarray of shape (n_obs, n_assets), float64
        NaN where unknown too.
    is_break : ndarray of shape (n_obs, n_assets), bool
        True where the step from the instrument's bar before is no return: a suspected
        split, or a long gap in the data.
    delisted : ndarray of shape (n_assets,), int64
        Row of the last bar of an instrument that was delisted inside the panel, else
        -1. For the engine alone: no sleeve may look at it.
    forecasts : mapping of str to ForecastGrid
        By model name.
    surprises : ndarray of shape (n_obs, n_assets), float64
        Sum of the surprise z-scores of releases in the instrument's currencies, signed
        so that a positive one speaks for a higher price, that became known after the
        row before and by this one; 0 where there was none.
    """

    timeframe: str
    symbols: tuple[str, ...]
    asset_classes: tuple[str, ...]
    calendars: tuple[str, ...]
    ts: TimeArray
    known_ts: TimeArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    is_break: BoolArray
    delisted: IntArray
    forecasts: Mapping[str, ForecastGrid] = field(default_factory=dict)
    surprises: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        """Refuse columns of other shapes and rows out of order."""
        shape = (self.n_obs, self.n_assets)
        if self.surprises.shape == (0, 0) != shape:
            object.__setattr__(self, "surprises", np.zeros(shape))
        for name in (*_PRICES, "is_break", "surprises"):
            found = getattr(self, name).shape
            if found != shape:
                raise BacktestError(f"panel: {name} has shape {found}, not {shape}")
        if self.n_obs > 1 and not bool(np.all(self.ts[1:] > self.ts[:-1])):
            raise BacktestError("panel: ts must increase")

    @property
    def n_obs(self) -> int:
        """Number of rows."""
        return len(self.ts)

    @property
    def n_assets(self) -> int:
        """Number of instruments."""
        return len(self.symbols)

    @property
    def has_bar(self) -> BoolArray:
        """Where an instrument has a bar, shape (n_obs, n_assets)."""
        return np.isfinite(self.close)

    @classmethod
    def from_bars(
        cls,
        bars: Panel,
        *,
        as_of: datetime,
        since: datetime | None = None,
        symbols: Collection[str] | None = None,
    ) -> "AlignedPanel":
        """Align the bars that were known at `as_of`.

        Parameters
        ----------
        bars : Panel
            Bars by symbol.
        as_of : datetime
            Decision time.
        since : datetime, optional
            No bars that open before; all if not given.
        symbols : collection of str, optional
            Only these; else every instrument that is no leader and can be traded.

        Raises
        ------
        BacktestError
            If no bar is left, or a symbol has no bars at all.

        Notes
        -----
        Point in time: only bars with `known_ts <= as_of`. An instrument delisted by
        then is in the panel up to its last bar.
        """
        chosen = _choose(bars, symbols)
        spans = {name: _span(bars, name, as_of, since) for name in chosen}
        chosen = [name for name in chosen if spans[name].stop > spans[name].start]
        if not chosen:
            raise BacktestError(f"no {bars.timeframe} bars known by {as_of:%Y-%m-%d}")
        ts = np.unique(np.concatenate([bars.series[n].ts[spans[n]] for n in chosen]))
        shape = (len(ts), len(chosen))
        arrays = {name: np.full(shape, np.nan) for name in _PRICES}
        is_break = np.zeros(shape, dtype=np.bool_)
        known = np.full(len(ts), np.datetime64(0, "us"))
        delisted = np.full(len(chosen), -1, dtype=np.int64)
        for column, name in enumerate(chosen):
            series, span = bars.series[name], spans[name]
            rows = np.searchsorted(ts, series.ts[span])
            for price in _PRICES:
                arrays[price][rows, column] = getattr(series, price)[span]
            is_break[rows, column] = series.is_break[span]
            known[rows] = np.maximum(known[rows], bars.known[name][span])
            ends = bars.instruments[name].listed_to
            if ends is not None and to_instant(as_of) > ends:
                delisted[column] = rows[-1]
        return cls(
            timeframe=bars.timeframe,
            symbols=tuple(chosen),
            asset_classes=tuple(bars.instruments[n].asset_class for n in chosen),
            calendars=tuple(bars.instruments[n].calendar for n in chosen),
            ts=ts,
            known_ts=np.maximum.accumulate(known),
            open=arrays["open"],
            high=arrays["high"],
            low=arrays["low"],
            close=arrays["close"],
            volume=arrays["volume"],
            is_break=is_break,
            delisted=delisted,
        )

    def until(self, n_rows: int) -> "AlignedPanel":
        """Return the first `n_rows` rows, as they were known then.

        Notes
        -----
        Point in time: nothing of a later row is left, a later delisting neither.
        """
        return self.part(slice(0, n_rows))

    def part(self, rows: slice) -> "AlignedPanel":
        """Return consecutive rows of all instruments."""
        start, stop, _ = rows.indices(self.n_obs)
        delisted = self.delisted - start
        delisted[(delisted < 0) | (self.delisted >= stop)] = -1
        return replace(
            self,
            ts=self.ts[rows],
            known_ts=self.known_ts[rows],
            delisted=delisted,
            forecasts=_cut(self.forecasts, rows, slice(None)),
            **{
                name: getattr(self, name)[rows]
                for name in (*_PRICES, "is_break", "surprises")
            },
        )

    def choose(self, symbols: Collection[str]) -> "AlignedPanel":
        """Return all rows of some instruments, in the panel's order.

        Raises
        ------
        BacktestError
            If a symbol is not in the panel.
        """
        missing = sorted(set(symbols) - set(self.symbols))
        if missing:
            raise BacktestError(f"panel has no {', '.join(missing)}")
        assets = np.array([i for i, s in enumerate(self.symbols) if s in set(symbols)])
        return replace(
            self,
            symbols=tuple(self.symbols[i] for i in assets),
            asset_classes=tuple(self.asset_classes[i] for i in assets),
            calendars=tuple(self.calendars[i] for i in assets),
            delisted=self.delisted[assets],
            forecasts=_cut(self.forecasts, slice(None), assets),
            **{
                name: getattr(self, name)[:, assets]
                for name in (*_PRICES, "is_break", "surprises")
            },
        )


def is_traded(instrument: Instrument) -> bool:
    """Return whether an instrument is in a panel that asks for none by name."""
    return not instrument.is_leader and instrument.symbol not in NOT_TRADED


def bar_returns(panel: AlignedPanel) -> FloatArray:
    """Return each instrument's simple return from its bar before.

    Returns
    -------
    ndarray of shape (n_obs, n_assets), float64
        NaN where the instrument has no bar, and on its first; 0 across a break.

    Notes
    -----
    Point in time: row t uses closes up to t.
    """
    returns = np.full(panel.close.shape, np.nan)
    for column in range(panel.n_assets):
        rows = np.flatnonzero(np.isfinite(panel.close[:, column]))
        close, later = panel.close[rows, column], rows[1:]
        # Nothing is earned on what is worth nothing.
        is_step = ~panel.is_break[later, column] & (close[:-1] > 0)
        growth = np.divide(
            close[1:], close[:-1], out=np.ones(len(later)), where=is_step
        )
        returns[later, column] = growth - 1.0
    return returns


def adjusted_closes(panel: AlignedPanel) -> FloatArray:
    """Return closes chained over breaks: each instrument starts at 1.

    Returns
    -------
    ndarray of shape (n_obs, n_assets), float64
        NaN where the instrument has no bar.

    Notes
    -----
    Point in time: row t uses closes up to t; later splits do not restate it.
    """
    returns = bar_returns(panel)
    growth = np.where(np.isfinite(returns), 1.0 + returns, 1.0)
    levels = np.cumprod(growth, axis=0)
    return np.where(panel.has_bar, levels, np.nan)


def _choose(bars: Panel, symbols: Collection[str] | None) -> list[str]:
    if symbols is None:
        return [
            name for name in sorted(bars.series) if is_traded(bars.instruments[name])
        ]
    missing = sorted(set(symbols) - set(bars.series))
    if missing:
        raise BacktestError(f"no {bars.timeframe} bars of {', '.join(missing)}")
    return sorted(set(symbols))


def _span(bars: Panel, name: str, as_of: datetime, since: datetime | None) -> slice:
    stop = int(np.searchsorted(bars.known[name], to_instant(as_of), side="right"))
    if since is None:
        return slice(0, stop)
    return slice(int(np.searchsorted(bars.series[name].ts, to_instant(since))), stop)


def _cut(
    forecasts: Mapping[str, ForecastGrid], rows: slice, assets: IntArray | slice
) -> Mapping[str, ForecastGrid]:
    return {name: grid.part(rows, assets) for name, grid in forecasts.items()}
