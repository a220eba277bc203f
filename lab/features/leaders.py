"""What the markets that lead others did last, as known at a moment.

A leader enters a row by its newest known bar. It is masked (0) where its market was not
open in the row's stretch of time, and where that bar is not the newest one that its
calendar has by the row's end: the data have ended, are late, or, in a future row, do
not exist yet. So a row shows a figure of a leader only if it is the one that will stand
there for good.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from lab.arrays import BoolArray, FloatArray, IntArray, TimeArray
from lab.bars.calendars import known_ts, positions
from lab.bars.schedules import schedule, sessions
from lab.bars.series import Series
from lab.errors import FeatureError
from lab.features.bar_windows import BarWindows

N_LEVEL: Final = 252


@dataclass(frozen=True, slots=True)
class Leader:
    """One leader's figure by bar.

    Attributes
    ----------
    calendar, timeframe : str
        Of its bars.
    known : ndarray of shape (n_bars,), datetime64[us]
        When each bar was known.
    place : ndarray of shape (n_bars,), int64
        Each bar's number on the calendar; -1 off it.
    value : ndarray of shape (n_bars,), float64
        The figure; 0 where there is none.
    """

    calendar: str
    timeframe: str
    known: TimeArray
    place: IntArray
    value: FloatArray

    @classmethod
    def returns(cls, series: Series) -> "Leader":
        """Take log returns of closes; 0 on the first bar and across a break.

        Raises
        ------
        FeatureError
            If a close is not positive.
        """
        logs = np.log(_closes(series))
        value = np.diff(logs, prepend=logs[:1])
        return cls._of(series, np.where(series.is_break, 0.0, value))

    @classmethod
    def levels(cls, series: Series) -> "Leader":
        """Take closes in standard deviations of the 252 closes before each; 0 at first.

        Raises
        ------
        FeatureError
            If a close is not positive.
        """
        closes = _closes(series)
        value = np.zeros(len(closes))
        if len(closes) > N_LEVEL:
            before = np.lib.stride_tricks.sliding_window_view(closes, N_LEVEL)[:-1]
            spread = before.std(axis=1, ddof=1)
            gap = closes[N_LEVEL:] - before.mean(axis=1)
            is_usable = spread > 1e-9 * closes[N_LEVEL:]
            value[N_LEVEL:] = np.divide(
                gap, spread, out=np.zeros_like(gap), where=is_usable
            )
        return cls._of(series, value)

    @classmethod
    def _of(cls, series: Series, value: FloatArray) -> "Leader":
        grid = {"timeframe": series.timeframe, "calendar": series.calendar}
        return cls(
            series.calendar,
            series.timeframe,
            known_ts(series.ts, **grid),
            positions(series.ts, **grid),
            value,
        )

    def at(self, rows: BarWindows, knowledge: TimeArray) -> FloatArray:
        """Return the leader's figure for each row, masked where it has none.

        Parameters
        ----------
        rows : BarWindows
            Stretches of time.
        knowledge : ndarray of shape (n_rows,), datetime64[us]
            Until when each row knows.

        Notes
        -----
        Point in time: uses bars with `known_ts` <= the row's knowledge.
        """
        if len(self.known) == 0:
            return np.zeros(len(rows.ts))
        grid = schedule(self.calendar, self.timeframe).known
        newest = np.searchsorted(self.known, knowledge, side="right") - 1
        due = np.searchsorted(grid, rows.end, side="right") - 1
        is_there = (newest >= 0) & (self.place[newest] == due) & (due >= 0)
        return np.where(is_there & self._is_open(rows), self.value[newest], 0.0)

    def _is_open(self, rows: BarWindows) -> BoolArray:
        market = sessions(self.calendar)
        n_begun = np.searchsorted(market.starts, rows.end, side="left")
        n_over = np.searchsorted(market.ends, rows.start, side="right")
        return np.asarray(n_begun > n_over, dtype=np.bool_)


def _closes(series: Series) -> FloatArray:
    if not bool(np.all(np.isfinite(series.close) & (series.close > 0))):
        raise FeatureError(f"leader {series.symbol}: closes must be positive")
    return series.close
