"""When a model is trained anew, and what makes two requests the same one."""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from lab.errors import LifecycleError

TRIGGERS: Final = ("scheduled", "drift", "manual")
DEFAULT_INTERVAL: Final = timedelta(days=7)
INTERVALS: Final = MappingProxyType({"gbm-1d": timedelta(days=30)})
"""How old a model's newest version may grow, where it is not a week."""


def request_id(model_name: str, trigger: str, window: str) -> str:
    """Return the name of a request: of equal ones, equal.

    Parameters
    ----------
    model_name : str
        Registered model.
    trigger : str
        One of `TRIGGERS`.
    window : str
        As `window_name` gives it.

    Raises
    ------
    LifecycleError
        If the trigger is unknown.
    """
    check_trigger(trigger)
    content = json.dumps([model_name, trigger, window]).encode()
    return hashlib.sha256(content).hexdigest()[:32]


def check_trigger(trigger: str) -> None:
    """Refuse an unknown trigger.

    Raises
    ------
    LifecycleError
        If it is none of `TRIGGERS`.
    """
    if trigger not in TRIGGERS:
        raise LifecycleError(f"trigger {trigger!r}: one of {', '.join(TRIGGERS)}")


def window_name(trigger: str, moment: datetime) -> str:
    """Return the window that a request is about, as text that equal moments share.

    Parameters
    ----------
    trigger : str
        One of `TRIGGERS`.
    moment : datetime
        For `drift` the end of the report's window, else the time of the request, aware.

    Returns
    -------
    str
        For `scheduled` the day, which is asked for once; else the moment in UTC to the
        microsecond.

    Raises
    ------
    LifecycleError
        If the trigger is unknown or the moment has no time zone.
    """
    check_trigger(trigger)
    if moment.tzinfo is None:
        raise LifecycleError(f"window {moment}: times must be aware of their time zone")
    utc = moment.astimezone(UTC)
    if trigger == "scheduled":
        return f"{utc:%Y-%m-%d}"
    return utc.isoformat(timespec="microseconds")


def interval_of(model_name: str) -> timedelta:
    """Return how old a model's newest version may grow."""
    return INTERVALS.get(model_name, DEFAULT_INTERVAL)


def due_at(model_name: str, trained: Iterable[datetime]) -> datetime | None:
    """Return when a model is to be trained next; None if it never was.

    Parameters
    ----------
    model_name : str
        Registered model.
    trained : iterable of datetime
        When its versions were registered, and when trainings ended without one.

    Notes
    -----
    Point in time: give only what was known at the decision.
    """
    newest = max(trained, default=None)
    return None if newest is None else newest + interval_of(model_name)
