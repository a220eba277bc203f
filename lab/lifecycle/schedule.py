"""When stages are decided and when new evidence comes: what an expected date is."""

import math
from datetime import datetime, timedelta
from typing import Final

DECIDED_AT_HOUR: Final = 6
"""Stages are decided daily at 06:00 UTC."""

_WEEK: Final = 7
_FAR: Final = 365.25 * 50


def next_decision(after: datetime) -> datetime:
    """Return the first daily decision on a later day than `after`, UTC."""
    return _at_six(after + timedelta(days=1))


def next_run(after: datetime) -> datetime:
    """Return the decision that first sees a walk-forward made after `after`.

    The walk-forward runs on Mondays at 05:00 UTC; the decision of that day waits for it.
    """
    monday = _at_six(after - timedelta(days=after.weekday()))
    started = monday - timedelta(hours=1)
    return monday if started > after else monday + timedelta(days=_WEEK)


def decision_after(moment: datetime) -> datetime:
    """Return the first daily decision at or after `moment`, UTC."""
    today = _at_six(moment)
    return today if today >= moment else next_decision(moment)


def in_days(start: datetime, days: float) -> datetime | None:
    """Return `start` and so many days; None for never, or beyond any plan (50 years)."""
    if not math.isfinite(days) or days > _FAR:
        return None
    return start + timedelta(days=days)


def _at_six(moment: datetime) -> datetime:
    return moment.replace(hour=DECIDED_AT_HOUR, minute=0, second=0, microsecond=0)
