"""The leak checker: what is said of the past must not depend on the future.

A subject answers for rows, each with the moment at which it claims to have been known.
Three replays per cut, and whatever was known by the cut has to come out the same:

- **truncation**: the market as it was known at the cut, asked then;
- **the future present**: the whole market, asked as of the cut;
- **altered futures**: the same past with other values, rows, splits, instruments,
  delistings and revisions after it.

A fill is judged by itself: what a decision earns may depend on no price of the row on
which it was taken, nor of one before.

The checker is graded on planted leaks and their honest twins (`lab.validation.planted`)
before it judges anything real.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from lab.arrays import AnyArray, FloatArray, IntArray, TimeArray
from lab.backtest.panel import AlignedPanel
from lab.errors import LabError, ValidationError
from lab.validation.markets import END, Market, cut_moments, is_same

N_PULSES: Final = 6


@dataclass(frozen=True)
class Answers:
    """What a subject says, row by row.

    Attributes
    ----------
    name : ndarray of shape (n_rows,), str
        Whose row it is: a symbol, an event, a forecast.
    ts : ndarray of shape (n_rows,), datetime64[us]
        Which row; unique with `name`.
    known : ndarray of shape (n_rows,), datetime64[us]
        When the row claims to have been known.
    values : ndarray of shape (n_rows, n_columns), float64
        What it says.
    columns : tuple of str
        Names of the columns.
    """

    name: AnyArray
    ts: TimeArray
    known: TimeArray
    values: FloatArray
    columns: tuple[str, ...]


class Subject(Protocol):
    """Something that may leak."""

    @property
    def name(self) -> str:
        """What it is called in reports."""

    @property
    def timeframe(self) -> str:
        """Which rows the market is cut at."""

    def answers(self, market: Market, as_of: np.datetime64) -> Answers:
        """Answer for every row that can be answered for at `as_of`."""


class FillRule(Protocol):
    """Something that trades decisions at prices."""

    @property
    def name(self) -> str:
        """What it is called in reports."""

    def earned(self, panel: AlignedPanel, weights: FloatArray) -> FloatArray:
        """Return the book's return of each row before costs, shape (n_obs,).

        `weights`, shape (n_obs, n_assets), are decided on their row.
        """


class NothingToCompareError(ValidationError):
    """A subject says nothing of the past that is asked about."""


@dataclass(frozen=True)
class LeakVerdict:
    """What the checker found of one subject.

    Attributes
    ----------
    subject : str
        Its name.
    is_leaking : bool
        The verdict.
    n_rows : int
        Rows compared over all replays.
    n_telling : int
        Rows known by a cut, over the cuts, that say anything but 0 or nothing: with
        none of them the verdict rests on silence.
    detail : str
        The first row and column that differ, and under which future; else empty.
    """

    subject: str
    is_leaking: bool
    n_rows: int
    n_telling: int
    detail: str = ""


@dataclass(frozen=True)
class Replay:
    """One market to ask, when to ask it, and what must not change.

    Attributes
    ----------
    cut : datetime64
        Where past and future meet.
    future : str
        What was done to the future.
    market : Market
        What is asked.
    as_of : datetime64
        When it is asked.
    """

    cut: np.datetime64
    future: str
    market: Market
    as_of: np.datetime64


def replays(
    market: Market,
    timeframe: str,
    *,
    rng: np.random.Generator,
) -> list[Replay]:
    """Return the markets that a subject is asked about besides the real one.

    Parameters
    ----------
    market : Market
        The real one.
    timeframe : str
        Whose rows it is cut at.
    rng : numpy.random.Generator
        Draws cuts and futures; four replays a cut.

    Raises
    ------
    ValidationError
        If the market is too short to cut.
    """
    made = []
    for cut in cut_moments(market, timeframe, rng=rng):
        made.append(Replay(cut, "the future present", market, cut))
        for future, other in market.futures(cut, rng):
            as_of = cut if future == "the future deleted" else END
            made.append(Replay(cut, future, other, as_of))
    return made


def check_causal(
    subject: Subject, market: Market, plans: Sequence[Replay]
) -> LeakVerdict:
    """Ask a subject about the real market and every replay, and compare the past.

    Parameters
    ----------
    subject : Subject
        What may leak.
    market : Market
        The real one.
    plans : sequence of Replay
        From `replays` of that market.

    Raises
    ------
    NothingToCompareError
        If no row could be compared: a check of nothing proves nothing.

    Notes
    -----
    Point in time: rows known by the cut must be equal, bit for bit or within 1e-12;
    rows that are missing or new are differences too. A subject that cannot answer for
    a cut market at all leaks: it needed the future.
    """
    whole = subject.answers(market, END)
    tells = (np.nan_to_num(whole.values) != 0.0).any(axis=1)
    n_rows = n_telling = 0
    for plan in plans:
        is_past = whole.known <= plan.cut
        if not is_past.any():
            continue
        n_rows += int(is_past.sum())
        n_telling += int((is_past & tells).sum())
        try:
            found = subject.answers(plan.market, plan.as_of)
        except LabError as error:
            difference = f"it cannot answer: {error}"
        else:
            difference = _difference(whole, found, plan.cut)
        if difference:
            detail = f"cut {_day(plan.cut)}, {plan.future}: {difference}"
            return LeakVerdict(subject.name, True, n_rows, n_telling, detail)  # noqa: FBT003 - in the fields' order
    if n_rows == 0:
        raise NothingToCompareError(f"leak lab: {subject.name}: no row to compare")
    return LeakVerdict(subject.name, False, n_rows, n_telling)  # noqa: FBT003 - in the fields' order


def check_fill(
    rule: FillRule, panel: AlignedPanel, *, rng: np.random.Generator
) -> LeakVerdict:
    """Decide now and then, change the prices seen until then, and compare what it earns.

    Parameters
    ----------
    rule : FillRule
        What trades.
    panel : AlignedPanel
        Prices.
    rng : numpy.random.Generator
        Draws rows, instruments and changes.

    Raises
    ------
    ValidationError
        If there is no row to decide on, or the rule earns nothing from any decision.

    Notes
    -----
    Point in time: what is earned from a decision on row t uses prices after t alone,
    and nothing is earned up to row t.
    """
    has_bar = panel.has_bar
    rows, assets = np.nonzero(has_bar[:-12] & has_bar[1:-11] & has_bar[2:-10])
    is_usable = rows >= panel.n_obs // 4
    rows, assets = rows[is_usable], assets[is_usable]
    if len(rows) == 0:
        raise ValidationError(f"leak lab: {rule.name}: no row to decide on")
    n_moved = 0
    for pick in rng.choice(len(rows), size=min(N_PULSES, len(rows)), replace=False):
        row, asset = int(rows[pick]), int(assets[pick])
        weights = np.zeros(has_bar.shape)
        weights[row:, asset] = rng.choice([-0.5, 0.5])
        weights[row + 5 :, asset] = 0.0
        before = rule.earned(panel, weights)
        after = rule.earned(_other_past(panel, row, rng), weights)
        n_moved += int(np.count_nonzero(before))
        wrong = np.flatnonzero(~is_same(before, after) | (_early(before, row) != 0.0))
        if len(wrong):
            at = int(wrong[0])
            return LeakVerdict(
                rule.name,
                is_leaking=True,
                n_rows=n_moved,
                n_telling=n_moved,
                detail=(
                    f"decided on {_day(panel.ts[row])}, {panel.symbols[asset]}: the"
                    f" return of {_day(panel.ts[at])} is {before[at]:.6g}, with other"
                    f" prices up to the decision {after[at]:.6g}"
                ),
            )
    if n_moved == 0:
        raise ValidationError(f"leak lab: {rule.name}: no decision earned anything")
    return LeakVerdict(rule.name, is_leaking=False, n_rows=n_moved, n_telling=n_moved)


def _other_past(
    panel: AlignedPanel, row: int, rng: np.random.Generator
) -> AlignedPanel:
    factor = np.ones(panel.close.shape)
    factor[: row + 1] = np.exp(0.2 * rng.standard_normal((row + 1, panel.n_assets)))
    return replace(
        panel,
        open=panel.open * factor,
        high=panel.high * factor,
        low=panel.low * factor,
        close=panel.close * factor,
    )


def _early(earned: FloatArray, row: int) -> FloatArray:
    return np.where(np.arange(len(earned)) <= row, earned, 0.0)


def _difference(whole: Answers, found: Answers, cut: np.datetime64) -> str:
    # The first past row that is missing, new or different; empty if there is none.
    if whole.columns != found.columns:
        return f"columns {', '.join(found.columns)}, not {', '.join(whole.columns)}"
    left, right = _codes(whole, found)
    is_past = whole.known <= cut
    place, is_there = _places(left[is_past], right)
    at = np.flatnonzero(is_past)
    if not is_there.all():
        return f"{_row(whole, at[~is_there])} is missing"
    same = is_same(whole.values[is_past], found.values[place])
    if not same.all():
        rows = np.flatnonzero(~same.all(axis=1))
        first = rows[np.argmin(whole.ts[at[rows]])]
        column = int(np.argmin(same[first]))
        return (
            f"{_row(whole, at[[first]])}, {whole.columns[column]}:"
            f" {found.values[place[first], column]:.9g},"
            f" not {whole.values[at[first], column]:.9g}"
        )
    # An instrument that only this future lists has no past to compare.
    is_new = (found.known <= cut) & ~np.isin(right, left)
    is_new &= np.isin(found.name, whole.name)
    if is_new.any():
        return f"{_row(found, np.flatnonzero(is_new))} is new"
    return ""


def _codes(whole: Answers, found: Answers) -> tuple[IntArray, IntArray]:
    # One number for each (name, ts), the same in both.
    names, name = np.unique(
        np.concatenate([whole.name, found.name]).astype(str), return_inverse=True
    )
    ts = np.concatenate([whole.ts, found.ts]).astype("datetime64[us]")
    _, time = np.unique(ts, return_inverse=True)
    codes = time.astype(np.int64) * len(names) + name
    return codes[: len(whole.ts)], codes[len(whole.ts) :]


def _places(wanted: IntArray, there: IntArray) -> tuple[IntArray, AnyArray]:
    if len(there) == 0:
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), np.bool_)
    order = np.argsort(there, kind="stable")
    place = np.searchsorted(there[order], wanted)
    place = order[np.minimum(place, len(there) - 1)]
    return place, there[place] == wanted


def _row(answers: Answers, rows: IntArray) -> str:
    first = rows[np.argmin(answers.ts[rows])]
    return f"{answers.name[first]} {_day(answers.ts[first])}"


def _day(moment: np.datetime64) -> str:
    return str(moment.astype("datetime64[m]")).replace("T", " ")
