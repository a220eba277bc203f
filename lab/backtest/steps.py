"""What a panel lets a book do on each row: returns of its bars, fills and exits.

- A bar has a leg before the fill and one after it. `next_open`: from the close before
  to the open, then to the close. `next_close` and `same_close`: from close to close,
  then nothing.
- A break has no return before the fill; the bar's own move from open to close counts.
- An instrument that was delisted is closed at its last close. One that has been silent
  for longer than a long gap by its own calendar is closed at its last close on the row
  on which that is known: what happens across such a gap is no return.
- A close of 0 is the end: what was held is worth nothing, and there is no bar after.
- A bar without volume fills like any other: most feeds write 0 where they do not know.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from lab.arrays import AnyArray, BoolArray, FloatArray, IntArray
from lab.backtest.panel import AlignedPanel
from lab.bars.schedules import schedule
from lab.bars.targets import MAX_MISSED
from lab.errors import BacktestError

SILENT_BARS: Final = 10
"""Fewer missed bars than this never close a position."""

FILL: Final = 1
EXIT: Final = 2
RUIN: Final = 1e-12
"""A book left with no more than this share of itself is ruined."""


class Fill(StrEnum):
    """Where a target decided on row t is traded.

    `next_open` and `next_close` are the instrument's next bar after t, and compound.
    `same_close` is the close it was decided on, on fixed notional: it exists to compare
    engines and no result of it can promote a sleeve.
    """

    NEXT_OPEN = "next_open"
    NEXT_CLOSE = "next_close"
    SAME_CLOSE = "same_close"

    @property
    def is_compounding(self) -> bool:
        """Whether returns are of the book as it has grown, not of its first size."""
        return self is not Fill.SAME_CLOSE

    @property
    def lag(self) -> int:
        """Rows from a decision to its earliest fill."""
        return 0 if self is Fill.SAME_CLOSE else 1


@dataclass(frozen=True, slots=True)
class Steps:
    """What the compiled passes read.

    Attributes
    ----------
    before, after : ndarray of shape (n_obs, n_assets), float64
        Return of a bar's leg before and after its fill; 0 where there is none.
    state : ndarray of shape (n_obs, n_assets), int8
        1 where a target can be filled, plus 2 where a holding is closed.
    """

    before: FloatArray
    after: FloatArray
    state: AnyArray


def steps_of(panel: AlignedPanel, fill: Fill) -> Steps:
    """Return the legs, fills and exits of every row.

    Raises
    ------
    BacktestError
        If a price is infinite, negative, missing beside others of its bar, or follows
        a close of 0.

    Notes
    -----
    Point in time: row t uses bars up to t, and whether the instrument was delisted
    with the bar of row t.
    """
    _check_prices(panel, fill)
    shape = (panel.n_assets, panel.n_obs)
    before, after = np.zeros(shape), np.zeros(shape)
    state = np.zeros(shape, dtype=np.int8)
    for column in range(panel.n_assets):
        rows, is_worthless = _live_rows(panel, column)
        if len(rows) == 0:
            continue
        close = panel.close[rows, column]
        price = panel.open[rows, column] if fill is Fill.NEXT_OPEN else close
        is_break = panel.is_break[rows[1:], column]
        step = np.where(is_break, 0.0, price[1:] / close[:-1] - 1.0)
        before[column, rows[1:]] = step
        state[column, rows] = FILL
        if fill is Fill.NEXT_OPEN:
            after[column, rows] = close / price - 1.0
        is_delisted = panel.delisted[column] == rows[-1]
        if is_worthless or is_delisted:
            at_open = FILL if fill is Fill.NEXT_OPEN else 0
            state[column, rows[-1]] = at_open | EXIT
        state[column, _silent(panel, column, rows)] = EXIT
    return Steps(
        before=np.ascontiguousarray(before.T),
        after=np.ascontiguousarray(after.T),
        state=np.ascontiguousarray(state.T),
    )


def _check_prices(panel: AlignedPanel, fill: Fill) -> None:
    close = panel.close
    _refuse(panel, np.isinf(close) | (close < 0), close, "close")
    if fill is Fill.NEXT_OPEN:
        opens = panel.open
        is_wrong = ~(np.isfinite(opens) & (opens > 0))
        is_wrong &= panel.has_bar & ~((opens == 0) & (close == 0))
        _refuse(panel, is_wrong, opens, "open")


def _refuse(
    panel: AlignedPanel, is_wrong: BoolArray, prices: FloatArray, name: str
) -> None:
    if not is_wrong.any():
        return
    row, column = np.argwhere(is_wrong)[0]
    raise BacktestError(
        f"{panel.symbols[column]} {panel.ts[row]}: {name} {prices[row, column]}, "
        "must be positive"
    )


def _live_rows(panel: AlignedPanel, column: int) -> tuple[IntArray, bool]:
    # Rows of the bars up to one that closes at 0, and whether there is one.
    rows = np.flatnonzero(np.isfinite(panel.close[:, column]))
    zero = np.flatnonzero(panel.close[rows, column] == 0)
    if len(zero) == 0:
        return rows, False
    first = int(zero[0])
    later = rows[first:][panel.close[rows[first:], column] > 0]
    if first == 0 or len(later):
        raise BacktestError(
            f"{panel.symbols[column]}: close 0 at {panel.ts[rows[first]]} must be the "
            "end of a series, not its start or middle"
        )
    if panel.open[rows[first], column] == 0:
        raise BacktestError(
            f"{panel.symbols[column]} {panel.ts[rows[first]]}: open 0, must be positive"
        )
    return rows[: first + 1], True


def _silent(panel: AlignedPanel, column: int, rows: IntArray) -> IntArray:
    # Rows on which a run of missing bars becomes longer than a long gap.
    edges = np.append(rows, panel.n_obs)
    starts = np.flatnonzero(np.diff(edges) > 1)
    if len(starts) == 0:
        return np.zeros(0, dtype=np.int64)
    opens = schedule(panel.calendars[column], panel.timeframe).opens
    expected = np.searchsorted(opens, panel.ts, side="right")
    allowed = max(SILENT_BARS, MAX_MISSED[panel.timeframe] + 1)
    found = np.searchsorted(expected, expected[rows[starts]] + allowed)
    return found[found < edges[starts + 1]]
