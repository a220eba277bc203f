"""Pairs reversion: two prices that went together and came apart may meet again.

Pairs are formed on the first row of each calendar quarter (daily bars) or month (hourly
bars) from the rows before it: of instruments of one class with prices throughout, those
whose standardised log prices were closest. They trade until the next forming.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Final

import numpy as np

from lab.arrays import BoolArray, FloatArray, IntArray, TimeArray
from lab.backtest.panel import AlignedPanel
from lab.sleeves._base import Sleeve, ranged
from lab.sleeves.own_bars import OwnBars, Prices
from lab.sleeves.sizing import first_of_runs

_MONTHS: Final = {"1d": 3, "1h": 1}
_MAX_CORRELATION: Final = 1.0 - 1e-9
_MIN_BARS: Final = 0.5  # of the forming rows, that an instrument has a bar of its own


@dataclass(frozen=True)
class PairsReversion(Sleeve):
    """Sell the dearer and buy the cheaper of a pair until their prices meet.

    Each pair has an equal part of the book; within it the calmer instrument has the
    larger weight.

    Attributes
    ----------
    formation : int, rows
        Past over which pairs are formed.
    width : float
        Standard deviations of the spread in that past at which a trade opens.
    n_pairs : int
        How many pairs are watched.

    References
    ----------
    .. [1] Gatev, Goetzmann & Rouwenhorst (2006), Pairs Trading: Performance of a
       Relative-Value Arbitrage Rule, Review of Financial Studies 19(3).
    """

    sleeve_id: ClassVar[str] = "pairs-reversion"

    formation: int = ranged(250, 20, 5000, tried=(120, 250, 500))
    width: float = ranged(2.0, 0.5, 5.0, tried=(1.5, 2.5))
    n_pairs: int = ranged(5, 1, 50, tried=(5,))

    def positions(self, panel: Prices) -> FloatArray:
        """Return target weights, see `Sleeve.positions`."""
        bars = OwnBars.of(panel)
        price = bars.spread(np.log(bars.level), missing=np.nan)
        weights = np.zeros(price.shape)
        same_class = _same_class(bars.panel)
        for start, stop in _terms(bars.panel.ts, _MONTHS[bars.panel.timeframe]):
            if start < self.formation:
                continue
            past = slice(start - self.formation, start)
            formed = _form(
                price[past],
                bars.has_bar[past].mean(axis=0) >= _MIN_BARS,
                same_class,
                self.n_pairs,
            )
            term = slice(start, stop)
            weights[term] = self._trade(price[term], formed)
        return weights

    def _trade(self, price: FloatArray, formed: "_Pairs") -> FloatArray:
        # Weights of one term, shape of `price`.
        weights = np.zeros(price.shape)
        if len(formed.left) == 0:
            return weights
        place = (price - formed.mean) / formed.deviation
        spread = (place[:, formed.left] - place[:, formed.right]) / formed.spread
        side = _held(spread, self.width)
        scale = 1.0 / formed.deviation
        gross = scale[formed.left] + scale[formed.right]
        for k, (left, right) in enumerate(zip(formed.left, formed.right, strict=True)):
            part = side[:, k] / (gross[k] * self.n_pairs)
            weights[:, left] -= part * scale[left]
            weights[:, right] += part * scale[right]
        return weights


@dataclass(frozen=True, slots=True)
class _Pairs:
    # Instruments of each pair, deviation of its spread; each instrument's mean and
    # deviation of the log price.
    left: IntArray
    right: IntArray
    spread: FloatArray
    mean: FloatArray
    deviation: FloatArray


def _form(
    price: FloatArray, is_usable: BoolArray, same_class: BoolArray, n_pairs: int
) -> _Pairs:
    n_obs = len(price)
    mean = price.mean(axis=0)
    centred = price - mean
    deviation = np.sqrt(np.square(centred).mean(axis=0))
    deviation = np.where(deviation > 1e-9, deviation, np.nan)
    usable = np.flatnonzero(is_usable & np.isfinite(deviation))
    standard = np.ascontiguousarray(centred[:, usable] / deviation[usable])
    correlation = (standard.T @ standard) / n_obs
    allowed = np.triu(same_class[np.ix_(usable, usable)], 1)
    allowed &= correlation < _MAX_CORRELATION
    left, right = np.nonzero(allowed)
    closest = np.argsort(-correlation[left, right], kind="stable")[:n_pairs]
    left, right = left[closest], right[closest]
    spread = np.sqrt(2.0 - 2.0 * correlation[left, right])
    return _Pairs(usable[left], usable[right], spread, mean, deviation)


def _held(spread: FloatArray, width: float) -> FloatArray:
    # 1 from above `width` until at or below 0, -1 in the mirror; flat without a price.
    row = np.arange(1, len(spread) + 1)[:, None]
    side = np.zeros(spread.shape)
    for sign in (1.0, -1.0):
        is_on = sign * spread > width
        is_turn = is_on | (sign * spread <= 0.0) | np.isnan(spread)
        newest = np.maximum.accumulate(np.where(is_turn, 2 * row + is_on, 0), axis=0)
        side += sign * (newest & 1)
    return side


def _terms(ts: TimeArray, months: int) -> list[tuple[int, int]]:
    # First row and first row after of each run of calendar months.
    month = ts.astype("datetime64[M]").astype(np.int64)
    starts = np.unique(first_of_runs(month // months))
    return list(pairwise([*starts.tolist(), len(ts)]))


def _same_class(panel: AlignedPanel) -> BoolArray:
    classes = np.array(panel.asset_classes)
    return np.asarray(classes[:, None] == classes[None, :], dtype=np.bool_)
