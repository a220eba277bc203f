"""Bar lengths, and moments as numpy reads them (`datetime64[us]`, UTC)."""

from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

import numpy as np

from lab.errors import BarsError

_STEPS: Final = MappingProxyType(
    {
        "1h": np.timedelta64(3_600_000_000, "us"),
        "1d": np.timedelta64(86_400_000_000, "us"),
    }
)

HORIZONS: Final = MappingProxyType({"1h": (1, 4, 24, 120), "1d": (1, 5, 20, 60, 120)})
"""Steps at which forecasts are scored, by timeframe."""


def step(timeframe: str) -> np.timedelta64:
    """Return the length of one bar.

    Raises
    ------
    BarsError
        If the timeframe is neither `1h` nor `1d`.
    """
    try:
        return _STEPS[timeframe]
    except KeyError:
        allowed = ", ".join(_STEPS)
        raise BarsError(f"timeframe {timeframe!r}: allowed are {allowed}") from None


def to_instant(moment: datetime | np.datetime64) -> np.datetime64:
    """Return `moment` as `datetime64[us]` in UTC.

    Raises
    ------
    BarsError
        If a `datetime` carries no time zone.
    """
    if isinstance(moment, np.datetime64):
        instant: np.datetime64 = moment.astype("datetime64[us]")
        return instant
    if moment.tzinfo is None:
        raise BarsError(f"time {moment.isoformat()}: a time zone is required, e.g. UTC")
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def to_moment(instant: np.datetime64) -> datetime:
    """Return `instant` as an aware `datetime` in UTC."""
    moment: datetime = instant.astype("datetime64[us]").astype(datetime)
    return moment.replace(tzinfo=UTC)
