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

from lab.arrays import AnyArray, FloatArray, IntArray
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
    from lab.backtest import asset_kernels

    is_at_open = fill is Fill.NEXT_OPEN
    before, after = np.zeros(panel.close.shape), np.zeros(panel.close.shape)
    state = np.zeros(panel.close.shape, dtype=np.int8)
    found = np.full((panel.n_assets, 3), -1, dtype=np.int64)
    close = np.require(panel.close, requirements=["C", "W"])
    price = np.require(panel.open, requirements=["C", "W"]) if is_at_open else close
    is_break = np.require(panel.is_break, requirements=["C", "W"])
    asset_kernels.column_steps(
        price, close, is_break, int(is_at_open), before, after, state, found
    )
    for column, (last, wrong, gap) in enumerate(found.tolist()):
        if wrong >= 0:
            _refuse(panel, fill, wrong, column)
        if last < 0:
            continue
        if close[last, column] == 0 or panel.delisted[column] == last:
            state[last, column] = (FILL if is_at_open else 0) | EXIT
        if gap >= 0 or last < panel.n_obs - 1:
            state[_silent(panel, column, last), column] = EXIT
    return Steps(before, after, state)


def _refuse(panel: AlignedPanel, fill: Fill, row: int, column: int) -> None:
    close, price = panel.close[row, column], panel.open[row, column]
    what = "a close of 0 must be the end of a series, not its start or middle"
    if not 0 <= close < np.inf:
        what = f"close {close}, must be positive"
    elif fill is Fill.NEXT_OPEN and not 0 < price < np.inf:
        what = f"open {price}, must be positive"
    raise BacktestError(f"{panel.symbols[column]} {panel.ts[row]}: {what}")


def _silent(panel: AlignedPanel, column: int, last: int) -> IntArray:
    # Rows on which a run of missing bars becomes longer than a long gap.
    rows = np.flatnonzero(np.isfinite(panel.close[: last + 1, column]))
    edges = np.append(rows, panel.n_obs)
    starts = np.flatnonzero(np.diff(edges) > 1)
    if len(starts) == 0:
        return np.zeros(0, dtype=np.int64)
    opens = schedule(panel.calendars[column], panel.timeframe).opens
    expected = np.searchsorted(opens, panel.ts, side="right")
    allowed = max(SILENT_BARS, MAX_MISSED[panel.timeframe] + 1)
    found = np.searchsorted(expected, expected[rows[starts]] + allowed)
    return found[found < edges[starts + 1]]
