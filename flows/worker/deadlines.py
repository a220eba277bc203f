"""When a forecast batch is no longer worth running.

Deadlines are wall times, as the schedule that sets them is: a lake whose clock stands
still does not make its batches late.
"""

from datetime import datetime, timedelta
from typing import Final

from lakehouse.clock import parse_moment
from lakehouse.errors import InputError

# A batch after its successor's start only repeats the successor.
ALLOWANCE: Final = {"1h": timedelta(minutes=50), "1d": timedelta(hours=20)}


def batch_deadline(
    scheduled: datetime, *, timeframe: str, given: str | int | None = None
) -> datetime:
    """Return the moment after which a batch is skipped.

    Parameters
    ----------
    scheduled : datetime
        When the batch was due, UTC.
    timeframe : str
        `1h` or `1d`.
    given : str or int, optional
        ISO 8601 time, or minutes after `scheduled`; 50 minutes for hourly and 20 hours
        for daily batches if not given.

    Raises
    ------
    InputError
        If `given` is neither, or `timeframe` is unknown.
    """
    if timeframe not in ALLOWANCE:
        raise InputError(
            f"timeframe {timeframe!r}: expected one of {', '.join(ALLOWANCE)}"
        )
    if given is None:
        return scheduled + ALLOWANCE[timeframe]
    if isinstance(given, int) or given.strip().isdecimal():
        return scheduled + timedelta(minutes=int(given))
    return parse_moment(given, what="deadline")
