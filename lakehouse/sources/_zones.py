"""Time zones: names to rules, wall-clock times to UTC.

A local time that happens twice (clocks go back) is resolved only when both of its
occurrences are there in order; one that never happens (clocks go forward) is refused
row by row. Nothing is shifted to make it fit.
"""

import re
import zoneinfo
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import InputError

Micros = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

MINUTE: Final = 60_000_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d{2}))?", re.IGNORECASE)
_EXAMPLES: Final = "Europe/Athens, America/New_York, UTC, +08:00"


@dataclass(frozen=True, slots=True)
class Zone:
    """A time zone.

    Attributes
    ----------
    name : str
        IANA name, or the offset as `+HH:MM`.
    offset : int or None
        Microseconds east of UTC where the zone is a fixed offset.
    """

    name: str
    offset: int | None = None


UTC_ZONE: Final = Zone("UTC", 0)


def parse_zone(text: str, *, what: str = "--timezone") -> Zone:
    """Read an IANA name or a fixed offset `±HH:MM`.

    Raises
    ------
    InputError
        If `text` is neither.
    """
    cleaned = text.strip()
    if cleaned.upper() in {"UTC", "GMT", "Z", "ETC/UTC"}:
        return UTC_ZONE
    if match := _OFFSET.fullmatch(cleaned):
        sign, hours, minutes = match.groups(default="0")
        total = int(hours) * 60 + int(minutes)
        if int(minutes) < 60 and total <= 14 * 60:
            signed = -total if sign == "-" else total
            return Zone(f"{sign}{int(hours):02d}:{int(minutes):02d}", signed * MINUTE)
    elif re.fullmatch(r"[A-Za-z0-9_+\-]+(?:/[A-Za-z0-9_+\-]+)*", cleaned):
        by_lower = {name.lower(): name for name in zoneinfo.available_timezones()}
        if name := by_lower.get(cleaned.lower()):
            return Zone(name)
    raise InputError(f"{what}: {text!r} is no time zone; give e.g. {_EXAMPLES}")


@dataclass(frozen=True, slots=True)
class Localised:
    """Wall-clock times turned to UTC.

    Attributes
    ----------
    utc : ndarray of shape (n_rows,), int64
        Microseconds since the epoch; meaningless where a mask is set.
    is_gap, is_fold : ndarray of shape (n_rows,), bool
        Times that never happened, and times that happened twice with no way to tell.
    """

    utc: Micros
    is_gap: Mask
    is_fold: Mask


def to_utc(
    wall: Micros, zone: Zone, *, valid: Mask, groups: Micros | None = None
) -> Localised:
    """Turn wall-clock times of `zone` to UTC.

    Parameters
    ----------
    wall : ndarray of shape (n_rows,), int64
        Wall-clock microseconds since 1970-01-01 00:00 local.
    zone : Zone
        Where that clock hangs.
    valid : ndarray of shape (n_rows,), bool
        Rows that hold a time.
    groups : ndarray of shape (n_rows,), int64, optional
        Symbol number of each row: the two occurrences of an hour are looked for within
        one symbol.

    Returns
    -------
    Localised

    Notes
    -----
    Point in time: an hour that occurs twice takes its first reading from the first
    row and its second from the second (reversed for files that run backwards); a
    single reading of such an hour is not guessed.
    """
    none = np.zeros(len(wall), dtype=np.bool_)
    if zone.offset is not None:
        return Localised(wall - zone.offset, none, none)
    naive = pa.array(wall, type=pa.timestamp("us"), mask=~valid)
    early = _assume(naive, zone.name, "earliest")
    late = _assume(naive, zone.name, "latest")
    odd = np.flatnonzero(valid & (early != late))
    is_gap, is_fold = none.copy(), none.copy()
    if odd.size:
        back = from_utc(early[odd], zone)
        is_gap[odd] = back != wall[odd]
        is_fold[odd] = back == wall[odd]
    utc = early
    _resolve_folds(wall, utc, late, is_fold, valid=valid, groups=groups)
    return Localised(utc, is_gap, is_fold)


def from_utc(utc: Micros, zone: Zone) -> Micros:
    """Return the wall-clock microseconds that `zone` shows at `utc`."""
    if zone.offset is not None:
        return utc + zone.offset
    stamps = pa.array(utc, type=pa.timestamp("us", tz=zone.name))
    return np.asarray(pc.local_timestamp(stamps).cast(pa.int64()), dtype=np.int64)


def _assume(naive: Any, zone: str, side: str) -> Micros:
    stamped = pc.assume_timezone(naive, zone, ambiguous=side, nonexistent=side)
    filled = pc.fill_null(stamped.cast(pa.int64()), 0)
    return np.array(filled, dtype=np.int64)


def _resolve_folds(
    wall: Micros,
    utc: Micros,
    late: Micros,
    is_fold: Mask,
    *,
    valid: Mask,
    groups: Micros | None,
) -> None:
    # Works in place: rows that can be told apart leave `is_fold`.
    rows = np.flatnonzero(is_fold)
    if not rows.size:
        return
    keys: dict[tuple[int, int], list[int]] = {}
    for row in rows.tolist():
        group = 0 if groups is None else int(groups[row])
        keys.setdefault((group, int(wall[row])), []).append(row)
    known = wall[valid]
    runs_backwards = len(known) > 1 and known[0] > known[-1]
    for pair in keys.values():
        if len(pair) == 2:
            second = pair[0] if runs_backwards else pair[1]
            utc[second] = late[second]
            is_fold[pair] = False
