"""Training windows: rows of bars cut, split in time and scaled as a forecast would.

A window is `lookback + predict + 1` consecutive rows of one series. Mean and standard
deviation come from its look-back alone, never from what it predicts. No window crosses
a break, and no row known after the cut-off enters one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from lab.arrays import AnyArray, BoolArray, IntArray, TimeArray
from lab.bars.calendars import known_ts
from lab.bars.series import Series
from lab.bars.timeframes import to_instant
from lab.errors import TrainingError
from lab.forecasters.kronos.event_rows import EVENT_FLAGS, EventRows
from lab.forecasters.kronos.normalise import normalise, stamps

_EPSILON: Final = 1e-5
_GOLDEN: Final = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """How windows are cut, in bars.

    Attributes
    ----------
    lookback, predict : int
        A window has `lookback + predict + 1` rows.
    stride : int
        Bars from the start of one window to the next.
    min_lookback : int or None
        Where given, the rows that scale a window vary from window to window between
        this and `lookback`, so that the network also learns short histories.
    clip : float
        Largest magnitude of a scaled value.
    event_repeats : int
        How often a window with a release in its predicted part is shown, for each time
        that another is.
    """

    lookback: int = 136
    predict: int = 120
    stride: int = 8
    min_lookback: int | None = None
    clip: float = 5.0
    event_repeats: int = 3

    def __post_init__(self) -> None:
        """Refuse windows that cannot be cut."""
        least = self.lookback if self.min_lookback is None else self.min_lookback
        if not 2 <= least <= self.lookback:
            raise TrainingError(
                f"windows: look-back {least}..{self.lookback} bars, at least 2"
            )
        if min(self.predict, self.stride, self.event_repeats) < 1 or self.clip <= 0:
            raise TrainingError(
                f"windows: predict {self.predict}, stride {self.stride}, event repeats"
                f" {self.event_repeats} and clip {self.clip} must be positive"
            )

    @property
    def n_rows(self) -> int:
        """Rows of a window."""
        return self.lookback + self.predict + 1


@dataclass(frozen=True, slots=True)
class Rows:
    """One series, ready to be cut.

    Attributes
    ----------
    ts : ndarray of shape (n_obs,), datetime64[us]
        Bar opens.
    values : ndarray of shape (n_obs, 6), float32
        Open, high, low, close, volume, amount; not scaled.
    stamps : ndarray of shape (n_obs, 5), float32
        Minute, hour, weekday, day of month, month, UTC.
    events : EventRows or None
        Events of the whole series, of which these rows begin at row `first`.
    first : int
        Number of the first row in the whole series.
    """

    ts: TimeArray
    values: AnyArray
    stamps: AnyArray
    events: EventRows | None
    first: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows as arrays.

    Attributes
    ----------
    values : ndarray of shape (n_windows, n_rows, 6), float32
        Scaled by each window's look-back and clipped.
    stamps : ndarray of shape (n_windows, n_rows, 5), float32
        Calendar fields.
    events : ndarray of shape (n_windows, n_rows, n_channels), float32, or None
        In the predicted part only what is known ahead.
    """

    values: AnyArray
    stamps: AnyArray
    events: AnyArray | None


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of many series, cut when they are asked for.

    Attributes
    ----------
    plan : WindowPlan
        How they were cut.
    rows : tuple of Rows
        The series.
    source, start, lookback : ndarray of shape (n_windows,), int64
        Which series, first row, and rows that scale the window.
    is_event : ndarray of shape (n_windows,), bool
        Whether a release falls into the predicted part.
    """

    plan: WindowPlan
    rows: tuple[Rows, ...]
    source: IntArray
    start: IntArray
    lookback: IntArray
    is_event: BoolArray

    @property
    def n_windows(self) -> int:
        """Number of windows, each counted once."""
        return len(self.start)

    @property
    def has_events(self) -> bool:
        """Whether every series brought event rows."""
        return bool(self.rows) and all(one.events is not None for one in self.rows)

    def first_ts(self) -> TimeArray:
        """Return the open of each window's first bar."""
        return self._opens(0)

    def last_ts(self) -> TimeArray:
        """Return the open of each window's last bar."""
        return self._opens(self.plan.n_rows - 1)

    def _opens(self, row: int) -> TimeArray:
        found = [
            self.rows[source].ts[start + row]
            for source, start in zip(self.source, self.start, strict=True)
        ]
        return np.array(found, dtype="datetime64[us]")

    def take(self, chosen: IntArray) -> "Windows":
        """Return some of the windows, in the order given."""
        return Windows(
            self.plan,
            self.rows,
            self.source[chosen],
            self.start[chosen],
            self.lookback[chosen],
            self.is_event[chosen],
        )

    def spread(self, n: int) -> "Windows":
        """Return at most `n` windows, evenly spread over all."""
        if n >= self.n_windows:
            return self
        return self.take(np.linspace(0, self.n_windows - 1, n).round().astype(np.int64))

    def order(self, rng: np.random.Generator) -> IntArray:
        """Return one epoch's shuffled indices, event windows `event_repeats` times."""
        repeats = np.where(self.is_event, self.plan.event_repeats, 1)
        return rng.permutation(np.repeat(np.arange(self.n_windows), repeats))

    def batch(self, chosen: IntArray) -> Batch:
        """Return windows scaled by their own look-back.

        Notes
        -----
        Point in time: a window's scale depends on its look-back rows alone, and its
        events hold nothing after the look-back but what was scheduled.
        """
        n_rows = self.plan.n_rows
        values = np.empty((len(chosen), n_rows, 6), dtype=np.float32)
        stamps = np.empty((len(chosen), n_rows, 5), dtype=np.float32)
        for place, window in enumerate(chosen):
            rows = self.rows[self.source[window]]
            part = slice(self.start[window], self.start[window] + n_rows)
            values[place] = scaled(
                rows.values[part],
                lookback=int(self.lookback[window]),
                clip=self.plan.clip,
            )
            stamps[place] = rows.stamps[part]
        return Batch(values, stamps, self._events(chosen) if self.has_events else None)

    def _events(self, chosen: IntArray) -> AnyArray:
        # Windows of one series with one look-back are encoded together.
        kinds = np.stack([self.source[chosen], self.lookback[chosen]], axis=1)
        found: dict[int, AnyArray] = {}
        for source, lookback in np.unique(kinds, axis=0):
            places = np.flatnonzero((kinds == (source, lookback)).all(axis=1))
            rows = self.rows[source]
            if rows.events is None:
                raise TrainingError("windows: a series without events among others")
            last = rows.first + self.start[chosen[places]] + lookback - 1
            told = rows.events.windows(
                last, context=int(lookback), horizon=self.plan.n_rows - int(lookback)
            )
            found.update(zip(places.tolist(), told, strict=True))
        return np.stack([found[place] for place in range(len(chosen))])


@dataclass(frozen=True, slots=True)
class Split:
    """Windows to learn from, and later ones to judge by.

    Attributes
    ----------
    train, validation : Windows
        Every bar of `train` was known at `boundary`; every bar of `validation` opened
        at it or later.
    boundary : datetime64[us]
        Where the one ends and the other begins.
    """

    train: Windows
    validation: Windows
    boundary: np.datetime64


def scaled(values: AnyArray, *, lookback: int, clip: float) -> AnyArray:
    """Return rows scaled by the mean and standard deviation of the first `lookback`.

    Parameters
    ----------
    values : ndarray of shape (n_rows, 6), float32
        Raw rows.
    lookback : int
        Rows that give mean and standard deviation, as a forecast after them would.
    clip : float
        Largest magnitude.

    Returns
    -------
    ndarray of shape (n_rows, 6), float32
    """
    _, scale = normalise(values[:lookback])
    z: AnyArray = (values - scale.mean) / (scale.std + np.float32(_EPSILON))
    return z.clip(-clip, clip)


def bar_values(series: Series) -> AnyArray:
    """Return the six columns of Kronos; without volume, volume and amount are zero.

    Returns
    -------
    ndarray of shape (n_obs, 6), float32
    """
    prices = np.stack([series.open, series.high, series.low, series.close], axis=1)
    volume = np.nan_to_num(series.volume, nan=0.0)
    amount = volume * prices.mean(axis=1)
    columns = np.column_stack([prices, volume, amount])
    return columns.astype(np.float32)


def cut_windows(
    series: Sequence[Series],
    plan: WindowPlan,
    *,
    cutoff: datetime | np.datetime64,
    since: np.datetime64 | None = None,
    events: Sequence[EventRows | None] | None = None,
) -> Windows:
    """Cut every window that the plan allows.

    Parameters
    ----------
    series : sequence of Series
        Bars of any symbols and timeframes.
    plan : WindowPlan
        Length, stride and scale.
    cutoff : datetime
        No bar known later enters.
    since : datetime64[us], optional
        No bar that opened earlier enters.
    events : sequence of EventRows, optional
        Of each series, all its rows.

    Returns
    -------
    Windows
        Ordered by series, then time; possibly none.

    Raises
    ------
    TrainingError
        If `events` does not belong to `series`.

    Notes
    -----
    Point in time: only bars with `known_ts <= cutoff`; rows after it change nothing.
    """
    brought = [None] * len(series) if events is None else list(events)
    if len(brought) != len(series):
        raise TrainingError(
            f"windows: events of {len(brought)} series for {len(series)} series"
        )
    rows: list[Rows] = []
    sources, starts, flags = [], [], []
    for one, told in zip(series, brought, strict=True):
        if told is not None and len(told.tensor) != one.n_obs:
            raise TrainingError(
                f"windows: {one.symbol} has {one.n_obs} bars and {len(told.tensor)} event"
                " rows"
            )
        ready, found = _cut_one(one, plan, to_instant(cutoff), since, told)
        if len(found):
            starts.append(found)
            sources.append(np.full(len(found), len(rows)))
            flags.append(_event_flags(ready, found, plan))
            rows.append(ready)
    if not rows:
        none = np.zeros(0, dtype=np.int64)
        return Windows(plan, (), none, none, none, none.astype(np.bool_))
    n_windows = sum(len(one) for one in starts)
    return Windows(
        plan,
        tuple(rows),
        np.concatenate(sources),
        np.concatenate(starts),
        _lookbacks(n_windows, plan),
        np.concatenate(flags),
    )


def join_windows(parts: Sequence[Windows]) -> Windows:
    """Return the windows of all parts, one part after the other.

    Raises
    ------
    TrainingError
        If there are no parts, or they were cut by different plans.
    """
    if not parts or any(one.plan.n_rows != parts[0].plan.n_rows for one in parts):
        raise TrainingError("windows: only windows of equal length can be joined")
    first = np.cumsum([0, *(len(one.rows) for one in parts)])
    return Windows(
        parts[0].plan,
        tuple(rows for one in parts for rows in one.rows),
        np.concatenate(
            [one.source + shift for one, shift in zip(parts, first, strict=False)]
        ),
        np.concatenate([one.start for one in parts]),
        np.concatenate([one.lookback for one in parts]),
        np.concatenate([one.is_event for one in parts]),
    )


def _cut_one(
    series: Series,
    plan: WindowPlan,
    cutoff: np.datetime64,
    since: np.datetime64 | None,
    events: EventRows | None,
) -> tuple[Rows, IntArray]:
    known = known_ts(series.ts, timeframe=series.timeframe, calendar=series.calendar)
    stop = int(np.searchsorted(known, cutoff, side="right"))
    first = 0 if since is None else int(np.searchsorted(series.ts, since))
    part = series.part(slice(first, max(first, stop)))
    fields = stamps(part.ts).astype(np.float32)
    ready = Rows(part.ts, bar_values(part), fields, events, first)
    if part.n_obs < plan.n_rows:
        return ready, np.zeros(0, dtype=np.int64)
    starts = np.arange(0, part.n_obs - plan.n_rows + 1, plan.stride)
    is_bad = ~np.isfinite(ready.values).all(axis=1)
    # A break on a window's first row lies before the window.
    breaks = np.concatenate([[0], np.cumsum(part.is_break)])
    bad = np.concatenate([[0], np.cumsum(is_bad)])
    ends = starts + plan.n_rows
    is_clean = (breaks[ends] == breaks[starts + 1]) & (bad[ends] == bad[starts])
    return ready, starts[is_clean].astype(np.int64)


def _event_flags(rows: Rows, starts: IntArray, plan: WindowPlan) -> BoolArray:
    if rows.events is None:
        return np.zeros(len(starts), dtype=np.bool_)
    told = rows.events.tensor[rows.first : rows.first + len(rows.ts)]
    has_release = (told[:, list(EVENT_FLAGS)] != 0).any(axis=1)
    so_far = np.concatenate([[0], np.cumsum(has_release)])
    flags: BoolArray = so_far[starts + plan.n_rows] > so_far[starts + plan.lookback]
    return flags


def _lookbacks(n_windows: int, plan: WindowPlan) -> IntArray:
    # An even, repeatable spread of lengths: multiples of the golden ratio, modulo one.
    least = plan.lookback if plan.min_lookback is None else plan.min_lookback
    share = (np.arange(1, n_windows + 1) * _GOLDEN) % 1.0
    lengths: IntArray = least + (share * (plan.lookback - least + 1)).astype(np.int64)
    return lengths


def split_windows(
    series: Sequence[Series],
    plan: WindowPlan,
    *,
    cutoff: datetime | np.datetime64,
    boundary: datetime | np.datetime64 | None = None,
    share: float = 0.15,
    events: Sequence[EventRows | None] | None = None,
) -> Split:
    """Cut windows for training and, later in time, for validation.

    Parameters
    ----------
    series, plan, cutoff, events
        As in `cut_windows`.
    boundary : datetime, optional
        Where training ends; the moment that leaves `share` of the bars after it if not
        given.
    share : float, default 0.15
        Share of the bars to validate on.

    Raises
    ------
    TrainingError
        If either side has no window: a validation without windows would call any
        weights the best.

    Notes
    -----
    Point in time: bars of the two sides are disjoint in time over all series, so no
    validation window overlaps a training target, not even another symbol's.
    """
    limit = to_instant(cutoff)
    turn = _turn(series, limit, share) if boundary is None else to_instant(boundary)
    train = cut_windows(series, plan, cutoff=min(turn, limit), events=events)
    later = cut_windows(series, plan, cutoff=limit, since=turn, events=events)
    for name, part in (("training", train), ("validation", later)):
        if part.n_windows == 0:
            raise TrainingError(
                f"no {name} window of {plan.n_rows} bars without a break: {len(series)}"
                f" series, boundary {turn}, cut-off {limit}"
            )
    return Split(train, later, turn)


def _turn(
    series: Sequence[Series], cutoff: np.datetime64, share: float
) -> np.datetime64:
    if not 0 < share < 1:
        raise TrainingError(f"validation share {share}: between 0 and 1")
    ts = [one.ts[one.ts < cutoff] for one in series]
    opens = np.sort(np.concatenate(ts)) if ts else np.zeros(0, dtype="datetime64[us]")
    if len(opens) == 0:
        raise TrainingError(f"no bars before the cut-off {cutoff}")
    chosen: np.datetime64 = opens[int(len(opens) * (1 - share))]
    return chosen
