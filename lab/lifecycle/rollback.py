"""When a model may be rolled back, and to what."""

from datetime import datetime, timedelta
from typing import Final

from lab.errors import LifecycleError
from lab.lifecycle.model_stages import ModelVersion, Registry

CAUSES: Final = ("manual", "drift", "performance")
COOLDOWN: Final = timedelta(hours=24)
"""A rollback is given this long to show before another one of the same model."""


def check_cause(cause: str) -> None:
    """Refuse a cause that is none.

    Raises
    ------
    LifecycleError
        If it is none of `CAUSES`.
    """
    if cause not in CAUSES:
        raise LifecycleError(f"cause {cause!r}: one of {', '.join(CAUSES)}")


def cooling_until(
    last: datetime | None, now: datetime, *, cooldown: timedelta = COOLDOWN
) -> datetime | None:
    """Return when the next rollback may be; None if it may be now.

    Parameters
    ----------
    last : datetime or None
        When the model was rolled back last; None if never.
    now : datetime
        Time of the decision. A clock that was set back does not end a cooldown.
    cooldown : timedelta
        From one rollback to the next; the moment it ends is outside it.

    Raises
    ------
    LifecycleError
        If the cooldown is negative.
    """
    if cooldown < timedelta(0):
        raise LifecycleError(f"cooldown {cooldown}: 0 or longer")
    if last is None or now >= last + cooldown:
        return None
    return last + cooldown


def rollback_targets(registry: Registry, model_name: str) -> tuple[ModelVersion, ...]:
    """Return the versions that may be returned to, the newest archived first.

    A version that a rollback took out of Production is none of them, until it is
    promoted again: two bad champions must not be exchanged for each other for ever.

    Parameters
    ----------
    registry : Registry
        What the chain says.
    model_name : str
        Whose.
    """
    return tuple(one for one in registry.archived(model_name) if not one.is_withdrawn)
