"""What follows from a drift alarm: training anew, or going back to the version before.

A version that was archived knows less of the present market than the champion. So where
the inputs moved, going back would be a step away from the data: the answer is to train
anew. Going back is the answer where the champion itself is at fault: it earns worse
while its inputs are as they were, or it was made champion only a short while ago.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

PERFORMANCE: Final = frozenset(
    ["accuracy", "profit_total", "win_rate", "sharpe_ratio", "max_drawdown"]
)
"""Rows of a report on how good the predictions were; they alarm when they get worse.

`trades_count` is none of them: fewer trades are a change of inputs.
"""

PREDICTION: Final = "prediction"
PROBATION: Final = timedelta(days=60)
"""Twice the thirty trading days that a report on performance needs."""

SPACING: Final = timedelta(days=3)
"""From one training that drift asks for to the next."""

Action = Literal["retrain", "rollback", "wait"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """What a drift report alarms about.

    Attributes
    ----------
    model_name, version : str
        Registered model, and the version whose predictions were watched.
    window_end : datetime
        End of the current window.
    inputs : tuple of str
        Features that alarm, and `prediction` if it does, sorted.
    performance : tuple of str
        Trading metrics that alarm, sorted.
    """

    model_name: str
    version: str
    window_end: datetime
    inputs: tuple[str, ...]
    performance: tuple[str, ...]

    @property
    def cause(self) -> Literal["drift", "performance"]:
        """What a rollback that follows is put down to."""
        return "performance" if self.performance else "drift"


@dataclass(frozen=True, slots=True)
class Reaction:
    """What to do about an alarm.

    Attributes
    ----------
    action : {"retrain", "rollback", "wait"}
        Which; `wait` where what is asked for has happened: a candidate that knows the
        moved inputs was trained already, or the champion was changed.
    why : str
        One line.
    """

    action: Action
    why: str


def alarm_of(rows: Iterable[Mapping[str, Any]]) -> Alarm | None:
    """Return what one report's rows alarm about; None if they do not.

    Parameters
    ----------
    rows : iterable of mapping
        Rows of `drift_reports` of one model and window.
    """
    alarming = [row for row in rows if row["is_alarm"]]
    if not alarming:
        return None
    names = {str(row["feature"]) for row in alarming}
    return Alarm(
        alarming[0]["model_name"],
        alarming[0]["version"],
        alarming[0]["window_end"],
        inputs=tuple(sorted(names - PERFORMANCE)),
        performance=tuple(sorted(names & PERFORMANCE)),
    )


def react(
    alarm: Alarm,
    *,
    champion: str | None,
    promoted_at: datetime | None,
    has_archived: bool,
    trained_at: datetime | None = None,
    probation: timedelta = PROBATION,
    spacing: timedelta = SPACING,
) -> Reaction:
    """Decide what follows from an alarm.

    Parameters
    ----------
    alarm : Alarm
        What alarms.
    champion : str or None
        Version of the champion: another one answers for its own predictions only.
    promoted_at : datetime or None
        When the champion became champion; None if that is not known.
    has_archived : bool
        Whether there is a version to go back to.
    trained_at : datetime or None
        When the newest version was registered; None if there is none.
    probation : timedelta
        How long after its promotion bad results are put down to the champion.
    spacing : timedelta
        How long a training answers the alarms that come after it: a drift that lasts
        alarms every day, and is one reason to train, not one a day.

    Returns
    -------
    Reaction
        Never none: every alarm has one.

    Notes
    -----
    Point in time: `alarm.window_end` is the present of this decision.
    """
    if champion != alarm.version:
        gone = f"{alarm.version} made way for {champion or 'no version'} since"
        return Reaction("wait", gone)
    fault = _fault(alarm, promoted_at, probation) if has_archived else None
    if fault is not None:
        return Reaction("rollback", fault)
    moved = f"{_list(alarm.inputs)} moved" if alarm.inputs else ""
    worse = f"{_list(alarm.performance)} worse than before" if alarm.performance else ""
    why = ", ".join(part for part in (worse, moved) if part)
    if trained_at is not None and alarm.window_end - trained_at <= spacing:
        return Reaction("wait", f"{why}; trained for it on {trained_at:%Y-%m-%d}")
    return Reaction("retrain", why)


def _fault(
    alarm: Alarm, promoted_at: datetime | None, probation: timedelta
) -> str | None:
    # Why it is the champion's own fault; None if it is not.
    if not alarm.performance:
        return None
    worse = f"{_list(alarm.performance)} worse than before"
    if promoted_at is not None and alarm.window_end - promoted_at <= probation:
        return f"{worse} within {probation.days} days of its promotion"
    if set(alarm.inputs) <= {PREDICTION}:
        return f"{worse} though no feature moved"
    return None


def _list(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
