"""Walk-forward windows: what is chosen on which days, and judged on which.

Test spans tile the out-of-sample time on a fixed grid of days, counted from 1970. So a
run of next week has the same windows and one longer one, and can be compared with this
week's window by window. The newest test span may still be growing: its rows count as
returns, but the ledger's calendar ends with the last complete one, so that all searches
of a month are one family.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from lab.arrays import BoolArray, IntArray, TimeArray
from lab.backtest.ledger import family_id
from lab.backtest.panel import AlignedPanel
from lab.bars.timeframes import step
from lab.errors import BacktestError

_DAY: Final = np.timedelta64(1, "D").astype("timedelta64[us]")
_YEAR_DAYS: Final = 365.25
_EPOCH: Final = np.datetime64(0, "us")
_TRADED_SHARE: Final = 0.5 * 5 / 7
_FILLS: Final = ("next_open", "next_close", "same_close")


@dataclass(frozen=True, slots=True)
class WalkForwardPlan:
    """How a walk-forward is run.

    Attributes
    ----------
    train_days, test_days : int, calendar days
        Lengths of the spans; windows roll by the test span.
    years : float
        How far back from the end of the growing test span the first train span may
        reach.
    slippages_bps : tuple of float, basis points
        Rungs of the cost ladder; parameters are chosen for each on its own.
    embargo_days : int, calendar days
        Kept free between train and test on top of the purge.
    fill : str
        `next_open`, `next_close` or `same_close`; see `lab.backtest.engine.Fill`.

    Raises
    ------
    BacktestError
        If a number makes no sense.
    """

    train_days: int = 180
    test_days: int = 30
    years: float = 8.0
    slippages_bps: tuple[float, ...] = (0.0, 5.0, 10.0, 20.0)
    embargo_days: int = 0
    fill: str = "next_open"

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense; 8 and 8.0 years are one plan."""
        object.__setattr__(self, "years", float(self.years))
        rungs = tuple(float(one) for one in self.slippages_bps)
        object.__setattr__(self, "slippages_bps", rungs)
        for name, low in (("train_days", 2), ("test_days", 1), ("embargo_days", 0)):
            if getattr(self, name) < low:
                found = getattr(self, name)
                raise BacktestError(f"plan: {name} = {found}: at least {low}")
        if not self.years > 0:
            raise BacktestError(f"plan: years = {self.years:g}: more than 0")
        if self.fill not in _FILLS:
            raise BacktestError(
                f"plan: fill = {self.fill!r}: one of {', '.join(_FILLS)}"
            )
        is_ladder = all(0 <= one < 10_000 for one in rungs)
        if not rungs or not is_ladder or len(set(rungs)) != len(rungs):
            raise BacktestError(
                f"plan: slippages_bps = {rungs}: different numbers from 0 to 9999"
            )


@dataclass(frozen=True, slots=True)
class Window:
    """One train span and the test span after it.

    Attributes
    ----------
    number : int
        From 0.
    train, test : slice
        Rows of the panel; between them lie the purged and embargoed rows. Train is
        empty after a hole in the bars as long as a train span.
    is_complete : bool
        Whether all of the test span's time has passed.
    """

    number: int
    train: slice
    test: slice
    is_complete: bool = True

    @property
    def has_train(self) -> bool:
        """Whether there are rows to choose by: a spread needs two."""
        return bool(self.train.stop - self.train.start >= 2)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Out-of-sample days of a walk-forward.

    Attributes
    ----------
    rows : slice
        Out-of-sample rows of the panel.
    days : ndarray of shape (n_days,), datetime64[us]
        Days, UTC, that have a row.
    first_row : ndarray of shape (n_days,), int64
        First row of each, counted from `rows.start`.
    window : ndarray of shape (n_days,), int64
        Number of each day's window.
    n_ledger : int
        How many of the days, from the first, lie in complete windows: the calendar of
        the ledger.
    family : str
        Id of the family of trials on these days.
    """

    rows: slice
    days: TimeArray
    first_row: IntArray
    window: IntArray
    n_ledger: int
    family: str

    @property
    def ledger_days(self) -> TimeArray:
        """The ledger's days, shape (n_ledger,)."""
        return self.days[: self.n_ledger]


def cut_windows(
    panel: AlignedPanel, plan: WalkForwardPlan, *, purge: int = 1
) -> tuple[Window, ...]:
    """Return the windows of a panel, oldest first.

    Parameters
    ----------
    panel : AlignedPanel
        Its rows before the first window warm signals up.
    plan : WalkForwardPlan
        Lengths.
    purge : int, rows
        Rows left out before each test span: as long as a position decided in train
        may live, and the lag of its fill.

    Raises
    ------
    BacktestError
        If the panel holds no train span with a complete test span after it, or the
        purge leaves too little of every train span.

    Notes
    -----
    Point in time: every row of `train` is known before the first row of `test`. A
    window is kept whatever its train span holds, so that a hole in the bars, which
    comes later, undoes no window before it, and test spans lie where they lie whatever
    is purged.
    """
    if panel.n_obs == 0:
        raise BacktestError("panel: no rows to walk forward over")
    ts, end = panel.ts, panel.ts[-1] + step(panel.timeframe)
    train, test = plan.train_days * _DAY, plan.test_days * _DAY
    # From a point of the grid, so that the oldest window goes when a new one is whole.
    newest = _EPOCH + ((end - _EPOCH) // test + 1) * test
    horizon = np.timedelta64(round(plan.years * _YEAR_DAYS), "D")
    begin = max(newest - horizon, ts[0].astype("datetime64[D]").astype(ts.dtype))
    # Rounded up to the grid.
    first = _EPOCH + -((_EPOCH - (begin + train)) // test) * test
    found: list[Window] = []
    for start in np.arange(first, end, test):
        rows = _rows(ts, start, start + test)
        if rows.stop > rows.start:
            kept = _rows(ts, start - train, start - plan.embargo_days * _DAY)
            stop = max(kept.start, min(kept.stop, rows.start - purge))
            is_complete = bool(start + test <= end)
            cut = slice(kept.start, stop)
            found.append(Window(len(found), cut, rows, is_complete))
    if not any(one.is_complete for one in found):
        raise BacktestError(
            f"{panel.timeframe} panel of {ts[0].astype('datetime64[D]')} to"
            f" {ts[-1].astype('datetime64[D]')}: too short for {plan.train_days} days"
            f" of train and {plan.test_days} of test"
        )
    if not any(one.has_train for one in found):
        raise BacktestError(
            f"windows of {plan.train_days} days of train: purging {purge} rows leaves"
            " nothing of any train span"
        )
    return tuple(found)


def calendar_of(panel: AlignedPanel, windows: Sequence[Window]) -> Calendar:
    """Return the out-of-sample days of windows.

    Raises
    ------
    BacktestError
        If the test spans do not tile their rows.
    """
    if any(a.test.stop != b.test.start for a, b in pairwise(windows)):
        raise BacktestError("windows: test spans must follow one another")
    rows = slice(windows[0].test.start, windows[-1].test.stop)
    of_row = panel.ts[rows].astype("datetime64[D]")
    days, first_row = np.unique(of_row, return_index=True)
    starts = np.array([one.test.start - rows.start for one in windows])
    place = np.searchsorted(starts, first_row, side="right") - 1
    numbers = np.array([one.number for one in windows], dtype=np.int64)
    is_complete = np.array([one.is_complete for one in windows])
    n_ledger = int(np.count_nonzero(is_complete[place]))
    kept = days[: max(n_ledger, 1)]
    return Calendar(
        rows,
        days.astype("datetime64[us]"),
        first_row.astype(np.int64),
        numbers[place],
        n_ledger,
        family_id(panel.symbols, panel.timeframe, (kept[0], kept[-1])),
    )


def of_age(panel: AlignedPanel, windows: Sequence[Window]) -> BoolArray:
    """Return which instruments take part on which rows: windows shrink per symbol.

    An instrument takes part in a window if it has bars on at least half of the train
    span's weekdays: after a hole as long as the span, none does. Rows before the first
    test span follow the first window.

    Returns
    -------
    ndarray of shape (n_obs, n_assets), bool

    Notes
    -----
    Point in time: a window's test rows depend on bars before them only.
    """
    day_of_row = (panel.ts - _EPOCH) // _DAY
    days, first = np.unique(day_of_row, return_index=True)
    has_day = np.logical_or.reduceat(panel.has_bar, first, axis=0)
    allowed = np.zeros(panel.close.shape, dtype=np.bool_)
    for one in windows:
        last = int(day_of_row[one.test.start])
        begin = int(day_of_row[one.train.start])
        span = slice(*np.searchsorted(days, [begin, last]))
        share = has_day[span].sum(axis=0) / max(last - begin, 1)
        since = 0 if one.number == windows[0].number else one.test.start
        allowed[since : one.test.stop] = share >= _TRADED_SHARE
    return allowed


def _rows(ts: TimeArray, start: np.datetime64, stop: np.datetime64) -> slice:
    first, last = np.searchsorted(ts, [start, stop])
    return slice(int(first), int(last))
