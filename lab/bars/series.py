"""Bars of one symbol as arrays: what forecasters and features are given."""

from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from lab.arrays import BoolArray, FloatArray, TimeArray
from lab.bars.calendars import known_ts
from lab.bars.timeframes import to_instant
from lab.errors import BarsError


@dataclass(frozen=True, slots=True)
class Series:
    """Bars of one symbol, oldest first, on its calendar's grid.

    Attributes
    ----------
    symbol, timeframe, calendar, asset_class : str
        As in `instruments` and `ohlcv`.
    ts : ndarray of shape (n_obs,), datetime64[us]
        Bar opens, UTC, strictly increasing.
    open, high, low, close : ndarray of shape (n_obs,), float64
        Prices in the quote currency, positive.
    volume : ndarray of shape (n_obs,), float64
        NaN where unknown.
    is_break : ndarray of shape (n_obs,), bool
        True where the step from the bar before is no return: a suspected split or a
        long gap in the data. All False if not given.
    """

    symbol: str
    timeframe: str
    calendar: str
    asset_class: str
    ts: TimeArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    is_break: BoolArray = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    def __post_init__(self) -> None:
        """Refuse columns of unequal length and times that do not increase."""
        n_obs = len(self.ts)
        if len(self.is_break) == 0 < n_obs:
            object.__setattr__(self, "is_break", np.zeros(n_obs, dtype=np.bool_))
        columns = (self.open, self.high, self.low, self.close, self.volume)
        if any(len(column) != n_obs for column in (*columns, self.is_break)):
            raise BarsError(f"series {self.symbol}: columns differ in length")
        if n_obs > 1 and not bool(np.all(self.ts[1:] > self.ts[:-1])):
            raise BarsError(f"series {self.symbol}: ts must increase")

    @property
    def n_obs(self) -> int:
        """Number of bars."""
        return len(self.ts)

    def part(self, rows: slice) -> "Series":
        """Return the bars in `rows`."""
        return replace(
            self,
            ts=self.ts[rows],
            open=self.open[rows],
            high=self.high[rows],
            low=self.low[rows],
            close=self.close[rows],
            volume=self.volume[rows],
            is_break=self.is_break[rows],
        )

    def until(self, as_of: datetime | np.datetime64) -> "Series":
        """Return the bars that were known at `as_of`.

        Notes
        -----
        Point in time: keeps the rows with `known_ts <= as_of`, nothing else.
        """
        known = known_ts(self.ts, timeframe=self.timeframe, calendar=self.calendar)
        n_known = int(np.searchsorted(known, to_instant(as_of), side="right"))
        return self if n_known == self.n_obs else self.part(slice(0, n_known))
