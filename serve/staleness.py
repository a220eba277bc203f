"""When a forecast is too old to be shown without saying so. Pure."""

from datetime import datetime, timedelta
from typing import Final

from lab.bars.calendars import elapsed_trading_time
from lab.errors import LabError

LIMITS: Final = {"1h": timedelta(minutes=75), "1d": timedelta(hours=26)}


def is_stale(
    as_of: datetime, now: datetime, *, timeframe: str, calendar: str | None
) -> bool:
    """Return whether more trading time than allowed has passed since `as_of`.

    Parameters
    ----------
    as_of : datetime
        Decision time of the forecast, UTC.
    now : datetime
        The injected clock's present, UTC.
    timeframe : str
        `1h` (75 minutes) or `1d` (26 hours).
    calendar : str or None
        The instrument's calendar. Unknown calendars never close.
    """
    limit = LIMITS[timeframe]
    if now - as_of <= limit:
        return False
    if calendar is None:
        return True
    try:
        return elapsed_trading_time(as_of, now, calendar, timeframe=timeframe) > limit
    except LabError:
        return True
