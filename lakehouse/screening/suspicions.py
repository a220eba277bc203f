"""Flags on bars that look wrong: noted, never corrected.

`split?`: the open stands off the close before by nearly p:q, or by more than four, far
more than the symbol usually moves, at a session's start, and the other symbols of the input did not jump
along. Looks only back.

`bad_print?`: a wick many times longer than the bars around it are high, that the bar
itself and the bar after it took back. This looks ONE BAR AHEAD, so a flag is a note of
the ingest and must never be read as a feature.

Both look at the rows of one input only, so that inputs arriving in any order flag
alike; a feed that fetches a few bars it already has gives the new ones their context.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

SPLIT: Final = "split?"
BAD_PRINT: Final = "bad_print?"
# Splits seen in the wild: n:1 up to 30, a few larger reverse ones, and halves.
_WHOLE: Final = (*range(2, 31), 35, 40, 50, 100)
RATIOS: Final = np.log(np.array([1.5, 2.5, *_WHOLE]))
SMALLEST_JUMP: Final = float(np.log(1.4))
RATIO_TOLERANCE: Final = 0.035
# A market that halves or doubles between two bars is rarer than a split.
LARGE_JUMP: Final = float(np.log(1.9))
LARGE_TOLERANCE: Final = 0.05
# By four between a close and the next open nothing moves that is not split.
HUGE_JUMP: Final = float(np.log(4.0))
LONGEST_PAUSE_DAYS: Final = 8.0
SPLIT_MULTIPLE: Final = 8.0
MARKET_JUMP: Final = 0.10
WICK_MULTIPLE: Final = 12.0
SMALLEST_WICK: Final = 0.01
TAKEN_BACK: Final = 0.25
WINDOW: Final = 40
_NO_SPLITS: Final = frozenset({"crypto", "fx", "index"})
_FUNDS: Final = frozenset({"commodity", "rates"})
_NO_EXCHANGE: Final = frozenset({"24x7", "fx"})
_DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True)
class SortedBars:
    """Good bars of one input, sorted by symbol, then time; arrays of (n_rows,).

    Attributes
    ----------
    code : ndarray, int64
        Symbol number.
    ts : ndarray, int64, microseconds
    open, high, low, close : ndarray, float64
    can_split : ndarray of shape (n_symbols,), bool
        Whether the symbol is of a kind that splits.
    step : int, microseconds
        Length of a bar.
    """

    code: IntArray
    ts: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    can_split: BoolArray
    step: int


def can_split(asset_class: str, calendar: str) -> bool:
    """Return whether instruments of this class and calendar are ever split.

    Commodities and rates are, where they trade by an exchange's calendar: as funds.
    """
    if asset_class in _FUNDS:
        return calendar not in _NO_EXCHANGE
    return asset_class not in _NO_SPLITS


def flag_bars(bars: SortedBars) -> dict[int, str]:
    """Return the flags of suspicious rows, by row number."""
    flags: dict[int, str] = {}
    with np.errstate(all="ignore"):  # prices may lie as far apart as floats can
        found = ((SPLIT, find_splits(bars)), (BAD_PRINT, find_bad_prints(bars)))
    for name, rows in found:
        for row in rows.tolist():
            flags[row] = f"{flags[row]},{name}" if row in flags else name
    return flags


def find_splits(bars: SortedBars) -> IntArray:
    """Return the rows that open nearly p:q off the close before.

    Notes
    -----
    Point in time: looks at the row, rows before it, and the same moment elsewhere.
    """
    if len(bars.code) < 2:
        return np.zeros(0, dtype=np.int64)
    jump = np.log(bars.open[1:] / bars.close[:-1])
    pause = bars.ts[1:] - bars.ts[:-1]
    in_symbol = bars.code[1:] == bars.code[:-1]
    plausible = in_symbol & bars.can_split[bars.code[1:]]
    plausible &= np.abs(jump) >= SMALLEST_JUMP
    plausible &= pause <= LONGEST_PAUSE_DAYS * _DAY_US
    if bars.step < _DAY_US:
        plausible &= pause > bars.step
    candidates = np.flatnonzero(plausible)
    kept = [
        row + 1
        for row in candidates.tolist()
        if _is_ratio(float(jump[row]))
        and _is_far(bars, row + 1, abs(float(jump[row])))
        and not _market_jumped(bars, jump, in_symbol, row)
    ]
    return np.array(kept, dtype=np.int64)


def _is_ratio(jump: float) -> bool:
    if abs(jump) > HUGE_JUMP:
        return True
    distance = float(np.abs(RATIOS - abs(jump)).min())
    is_large = abs(jump) > LARGE_JUMP
    return distance <= (LARGE_TOLERANCE if is_large else RATIO_TOLERANCE)


def _before(bars: SortedBars, row: int) -> slice:
    start = int(np.searchsorted(bars.code, bars.code[row]))
    return slice(max(start, row - WINDOW), row)


def _is_far(bars: SortedBars, row: int, jump: float) -> bool:
    """Compare a jump with the symbol's recent bars, close to close."""
    closes = np.log(bars.close[_before(bars, row)])
    if len(closes) < 3:
        return True
    usual = float(np.median(np.abs(np.diff(closes))))
    return jump > SPLIT_MULTIPLE * usual


def _market_jumped(
    bars: SortedBars, jump: FloatArray, in_symbol: BoolArray, row: int
) -> bool:
    """Return whether the other symbols jumped the same way at that moment."""
    others = np.flatnonzero(in_symbol & (bars.ts[1:] == bars.ts[row + 1]))
    others = others[others != row]
    if not others.size:
        return False
    typical = float(np.median(jump[others]))
    return bool(typical * np.sign(jump[row]) > MARKET_JUMP)


def find_bad_prints(bars: SortedBars) -> IntArray:
    """Return the rows whose high or low stands far out and was taken back at once.

    Notes
    -----
    Looks one bar ahead, see the module.
    """
    top = np.maximum(bars.open, bars.close)
    bottom = np.minimum(bars.open, bars.close)
    up, down = np.log(bars.high / top), np.log(bottom / bars.low)
    wick = np.maximum(up, down)
    has_next = np.zeros(len(bars.code), dtype=np.bool_)
    has_next[:-1] = bars.code[1:] == bars.code[:-1]
    candidates = np.flatnonzero((wick > SMALLEST_WICK) & has_next)
    if not candidates.size:
        return candidates
    height = np.log(bars.high / bars.low)
    local = _local_heights(bars, height, candidates)
    candidates = candidates[wick[candidates] > WICK_MULTIPLE * local]
    after = candidates + 1
    rest = TAKEN_BACK * wick[candidates]
    is_up = up[candidates] >= down[candidates]
    back_up = np.log(bars.high[after] / top[candidates]) < rest
    back_down = np.log(bottom[candidates] / bars.low[after]) < rest
    return candidates[np.where(is_up, back_up, back_down)]


def _local_heights(bars: SortedBars, height: FloatArray, rows: IntArray) -> FloatArray:
    """Return the upper range of bar heights around each row, not less than a tick."""
    offsets = np.concatenate([np.arange(-WINDOW, 0), [1]])
    around = rows[:, None] + offsets
    inside = (around >= 0) & (around < len(height))
    around = np.clip(around, 0, len(height) - 1)
    inside &= bars.code[around] == bars.code[rows][:, None]
    heights = np.sort(np.where(inside, height[around], np.inf), axis=1)
    n_inside = inside.sum(axis=1)
    upper = heights[np.arange(len(rows)), (n_inside * 3) // 4]
    # Coarsely rounded prices: one tick is no wick, however flat the other bars are.
    tick = np.where(heights > 0, heights, np.inf).min(axis=1)
    local: FloatArray = np.where(n_inside >= 10, np.maximum(upper, tick), np.inf)
    return local
