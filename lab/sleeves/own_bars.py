"""Each instrument's own bars, one instrument after the other.

A panel has a row wherever any instrument has a bar. An indicator counts an instrument's
own bars, so it is worked out here without the empty rows and spread over the panel
again: a row without a bar keeps the figure of the bar before, until that is too old.

Prices are chained over breaks: a split or a long gap is no move. A step of the price is
kept within a factor of a thousand, so that a price of zero stays a number.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias, Union

import numpy as np

from lab.arrays import AnyArray, BoolArray, FloatArray, IntArray
from lab.backtest.panel import AlignedPanel
from lab.sleeves import rolling

MAX_AGE_DAYS: Final = 10.0
"""No opinion on an instrument whose newest bar opened longer ago."""

RISK_BARS: Final = {"1d": 60, "1h": 480}
"""Bars over which risk is measured, by timeframe."""

_MAX_GROWTH: Final = 1e3
_US_A_DAY: Final = 86_400e6


@dataclass(frozen=True)
class OwnBars:
    """The bars of a panel without the empty rows.

    Attributes
    ----------
    panel : AlignedPanel
        Where they come from.
    number : ndarray of shape (n_bars,), int64
        Each bar's number within its instrument, from 0.
    days : ndarray of shape (n_bars,), float64
        Open, in days since 1970.
    step_days : ndarray of shape (n_bars,), float64
        Days since the bar before; 0 across a break, NaN on an instrument's first.
    level : ndarray of shape (n_bars,), float64
        Close chained over breaks, 1 on the first bar.
    growth : ndarray of shape (n_bars,), float64
        Log return from the bar before; 0 across a break, NaN on the first.
    has_bar : ndarray of shape (n_obs, n_assets), bool
        Where the panel has them.
    place : ndarray of shape (n_obs, n_assets), int64
        Which bar is the newest on a row; -1 before the first and where the newest is
        older than `MAX_AGE_DAYS`.
    """

    panel: AlignedPanel
    number: IntArray
    days: FloatArray
    step_days: FloatArray
    level: FloatArray
    growth: FloatArray
    has_bar: BoolArray
    place: IntArray

    @classmethod
    def of(cls, source: Union[AlignedPanel, "OwnBars"]) -> "OwnBars":
        """Take the bars out of a panel; bars taken out already stay as they are.

        Notes
        -----
        Point in time: what is spread on row t comes from bars of rows up to t.
        """
        if isinstance(source, OwnBars):
            return source
        panel = source
        has_bar = np.ascontiguousarray(panel.has_bar)
        asset, row = np.nonzero(has_bar.T)
        n_bars = np.bincount(asset, minlength=panel.n_assets)
        starts = np.concatenate([[0], np.cumsum(n_bars)[:-1]]).astype(np.int64)
        bar = np.arange(len(row))
        number = bar - starts[asset]
        is_first = number == 0
        row_days = panel.ts.astype("datetime64[us]").astype(np.float64) / _US_A_DAY
        days = row_days[row]
        is_break = panel.is_break[row, asset]
        step_days = np.where(is_break, 0.0, days - rolling.lagged(days, 1))
        factor = _factors(panel.close[row, asset], is_break)
        return cls(
            panel=panel,
            number=number,
            days=days,
            step_days=np.where(is_first, np.nan, step_days),
            level=_levels(np.where(is_first, 1.0, factor), starts, n_bars),
            growth=np.where(is_first, np.nan, np.log(factor)),
            has_bar=has_bar,
            place=_newest(has_bar, bar, row_days, days),
        )

    @cached_property
    def risk(self) -> FloatArray:
        """Volatility over `RISK_BARS`, see `volatility`."""
        return self.volatility(RISK_BARS[self.panel.timeframe])

    def volatility(self, window: int) -> FloatArray:
        """Return the volatility of the price a square root of a day.

        Squared log returns of the last `window` own bars, summed, over the days they
        took: instruments that trade 7 hours or 24 are comparable. The mean is taken as
        0.

        Returns
        -------
        ndarray of shape (n_obs, n_assets), float64
            Positive; NaN with too short a history, on a price that never moved, and
            where the newest bar is too old.

        Notes
        -----
        Point in time: row t uses bars up to t.

        References
        ----------
        .. [1] J.P. Morgan/Reuters (1996), RiskMetrics Technical Document, 4th ed.
        """
        square = self.total(np.square(self.growth), window)
        days = self.total(self.step_days, window)
        is_known = (square > 0.0) & (days > 0.0)
        empty = np.full_like(square, np.nan)
        variance = np.divide(square, days, out=empty, where=is_known)
        return self.spread(np.sqrt(variance), missing=np.nan)

    def pack(self, values: AnyArray) -> AnyArray:
        """Return the values of the bars, shape (n_bars,), of a grid of the panel's."""
        return values.T[self.has_bar.T]

    def spread(self, values: FloatArray, *, missing: float = 0.0) -> FloatArray:
        """Return each row's newest bar's value, shape (n_obs, n_assets).

        Parameters
        ----------
        values : ndarray of shape (n_bars,), float64
            By bar; NaN counts as missing.
        missing : float
            Where there is no bar yet, or only an old one.
        """
        known = np.append(np.where(np.isnan(values), missing, values), missing)
        return np.asarray(known[self.place])

    def lagged(self, values: FloatArray, steps: int) -> FloatArray:
        """Return the instrument's value `steps` bars before; NaN if it had none."""
        return np.where(self.number >= steps, rolling.lagged(values, steps), np.nan)

    def total(self, values: FloatArray, window: int) -> FloatArray:
        """Return the sum over the instrument's last `window` bars; NaN if fewer."""
        return self._whole(rolling.rolling_sum(values, window), window)

    def highest(self, values: FloatArray, window: int) -> FloatArray:
        """Return the highest of the instrument's last `window` bars; NaN if fewer."""
        return self._whole(rolling.rolling_max(values, window), window)

    def lowest(self, values: FloatArray, window: int) -> FloatArray:
        """Return the lowest of the instrument's last `window` bars; NaN if fewer."""
        return self._whole(rolling.rolling_min(values, window), window)

    def faded(self, values: FloatArray, period: int) -> FloatArray:
        """Return the sum of all bars so far, each bar back counting 1 - 1/period less.

        Wilder's smoothing but for the factor 1/period and its start. Bars that count
        less than a millionth are left out.
        """
        keep, size, total = 1.0 - 1.0 / period, 1, values
        while keep**size > 1e-6:
            older = np.where(self.number >= size, rolling.lagged(total, size), 0.0)
            total = total + keep**size * older
            size *= 2
        return total

    def latched(self, on: BoolArray, off: BoolArray) -> FloatArray:
        """Return 1.0 from a bar that is `on` until one that is `off`, else 0.0.

        A bar that is both counts as on. Every instrument begins off.
        """
        bar = np.arange(len(self.number))
        is_turn = on | off | (self.number == 0)
        newest = np.maximum.accumulate(np.where(is_turn, 2 * bar + on, 0))
        return (newest & 1).astype(np.float64)

    def held(self, score: FloatArray, *, enter: float, leave: float) -> FloatArray:
        """Return 1 from score > enter until score <= leave, -1 in the mirror, else 0.

        Parameters
        ----------
        score : ndarray of shape (n_bars,), float64
            NaN changes nothing.
        enter, leave : float
            `leave` at most `enter`, both at least 0.
        """
        up = self.latched(score > enter, score <= leave)
        down = self.latched(score < -enter, score >= -leave)
        return up - down

    def _whole(self, values: FloatArray, window: int) -> FloatArray:
        return np.where(self.number >= window - 1, values, np.nan)


def _newest(
    has_bar: BoolArray, bar: IntArray, row_days: FloatArray, days: FloatArray
) -> IntArray:
    # Each row's newest bar, worked out by column: the bars lie one after the other.
    place = np.full(has_bar.T.shape, -1, dtype=np.int64)
    place[has_bar.T] = bar
    np.maximum.accumulate(place, axis=1, out=place)
    if len(days):
        place[row_days - days[place] > MAX_AGE_DAYS] = -1
    return np.ascontiguousarray(place.T)


def _factors(close: FloatArray, is_break: BoolArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = close / rolling.lagged(close, 1)
    is_usable = np.isfinite(factor) & ~is_break
    return np.clip(np.where(is_usable, factor, 1.0), 1.0 / _MAX_GROWTH, _MAX_GROWTH)


def _levels(factor: FloatArray, starts: IntArray, n_bars: IntArray) -> FloatArray:
    level = np.empty_like(factor)
    for start, count in zip(starts, n_bars, strict=True):
        part = slice(start, start + count)
        level[part] = np.cumprod(factor[part])
    return level


Prices: TypeAlias = AlignedPanel | OwnBars
"""A panel, or its bars where several opinions are formed on them."""
