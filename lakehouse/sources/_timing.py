"""Bar length and bar time: what is stated, what the spacing shows, where the zone is.

Nothing is guessed: an hourly clock without a zone, a spacing that contradicts what was
stated, and a daily stamp whose session date cannot be known refuse the file.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lakehouse.errors import SourceError
from lakehouse.sources._names import NameHint
from lakehouse.sources._stamps import Stamps
from lakehouse.sources._zones import (
    DAY,
    HOUR,
    MINUTE,
    Mask,
    Micros,
    Zone,
    from_utc,
    to_utc,
)

_TAKEN: Final = ("1h", "1d")
_SAMPLE: Final = 200_000  # rows
_FORTNIGHT: Final = 14  # bars that show on which weekdays a market opens


@dataclass(frozen=True, slots=True)
class Spacing:
    """How far apart the bars of one symbol mostly are.

    Attributes
    ----------
    label : str or None
        `1h`, `1d`, or a length such as `5m`; None without two times of one symbol.
    step : int
        Microseconds.
    n_steps : int
        Pairs of neighbours looked at.
    share : float
        Share of them that are `step` apart.
    """

    label: str | None = None
    step: int = 0
    n_steps: int = 0
    share: float = 0.0


def measure_spacing(stamps: Stamps, groups: Micros) -> Spacing:
    """Find the modal distance of neighbouring bars.

    Parameters
    ----------
    stamps : Stamps of n_rows
        Times as written.
    groups : ndarray of shape (n_rows,), int64
        Symbol number per row.
    """
    rows = np.flatnonzero(stamps.is_valid[:_SAMPLE])
    wall, group = stamps.wall[rows] - stamps.offset[rows], groups[rows]
    if len(rows) > 1 and (group[1:] == group[:-1]).mean() < 0.5:
        order = np.lexsort((wall, group))
        wall, group = wall[order], group[order]
    steps = np.abs(np.diff(wall))[group[1:] == group[:-1]]
    steps = steps[steps > 0]
    if not steps.size:
        return Spacing()
    values, counts = np.unique(steps, return_counts=True)
    best = int(counts.argmax())
    return Spacing(
        _label(int(values[best])),
        int(values[best]),
        len(steps),
        counts[best] / len(steps),
    )


def _label(step: int) -> str:
    if step == HOUR:
        return "1h"
    if 23 * HOUR <= step <= 25 * HOUR:
        return "1d"
    for length, letter in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m")):
        if step % length == 0:
            return f"{step // length}{letter}"
    return f"{step / 1e6:g}s"


def decide_timeframe(
    place: str,
    spacing: Spacing,
    *,
    asked: str | None,
    stated: str | None,
    hint: NameHint,
) -> tuple[str, str | None]:
    """Settle the bar length of a file.

    Parameters
    ----------
    place : str
        File, for messages.
    spacing : Spacing
        What the times show.
    asked : str or None
        `--timeframe`.
    stated : str or None
        What the file or its dialect states.
    hint : NameHint
        What the file name suggests.

    Returns
    -------
    timeframe : str
        `1h` or `1d`.
    note : str or None
        What was inferred.

    Raises
    ------
    SourceError
        If the length is another one, contradicted, or unknown.
    """
    if asked and stated and asked != stated:
        raise SourceError(f"{place}: --timeframe {asked}, but it holds {stated} bars")
    firm = asked or stated
    if firm is not None:
        _check_taken(place, firm)
        if _contradicts(firm, spacing):
            raise SourceError(
                f"{place}: timeframe {firm}, but its bars are {spacing.label} apart"
            )
        return firm, None
    return _infer_timeframe(place, spacing, hint)


def _infer_timeframe(
    place: str, spacing: Spacing, hint: NameHint
) -> tuple[str, str | None]:
    named = hint.timeframe
    if spacing.label is None or spacing.share < 0.3:
        if named is None:
            raise SourceError(
                f"{place}: bar length unknown: too few bars; pass --timeframe 1h or 1d"
            )
        _check_taken(place, named)
        return named, f"timeframe {named} by the file name"
    _check_taken(place, spacing.label)
    if named in _TAKEN and named != spacing.label:
        raise SourceError(
            f"{place}: its name says {named}, its bars are {spacing.label} apart; "
            "pass --timeframe"
        )
    return spacing.label, f"timeframe {spacing.label} by the spacing of the bars"


def _check_taken(place: str, timeframe: str) -> None:
    if timeframe not in _TAKEN:
        raise SourceError(
            f"{place}: bars of {timeframe}; only 1h and 1d are taken, resample first"
        )


def _contradicts(timeframe: str, spacing: Spacing) -> bool:
    if spacing.n_steps < 2 or spacing.share < 0.5:
        return False
    if timeframe == "1d":
        return not 23 * HOUR <= spacing.step <= 4 * DAY + HOUR
    return spacing.step != HOUR


@dataclass(frozen=True, slots=True)
class BarTimes:
    """Opens of bars in UTC, and why some have none.

    Attributes
    ----------
    utc : ndarray of shape (n_rows,), int64
        Microseconds; a daily bar carries its session date at 00:00.
    is_valid : ndarray of shape (n_rows,), bool
        Rows whose time is known.
    problems : ndarray of shape (n_rows,), object
        What is wrong with a time that was read; empty where nothing is.
    notes : tuple of str
        What was taken how.
    """

    utc: Micros
    is_valid: Mask
    problems: npt.NDArray[np.object_]
    notes: tuple[str, ...] = ()


def place_bars(
    place: str,
    stamps: Stamps,
    groups: Micros,
    *,
    timeframe: str,
    asked: Zone | None,
    known: Zone | None,
) -> BarTimes:
    """Put bar times on UTC.

    Parameters
    ----------
    place : str
        File, for messages.
    stamps : Stamps of n_rows
        Times as written.
    groups : ndarray of shape (n_rows,), int64
        Symbol number per row.
    timeframe : str
        `1h` or `1d`.
    asked : Zone or None
        `--timezone`.
    known : Zone or None
        Zone that the dialect knows.

    Raises
    ------
    SourceError
        If the zone is needed and unknown.

    Notes
    -----
    Point in time: no time moves across the zone's rules silently; an hour that the
    clock skipped, or showed twice with no second reading, is refused row by row.
    """
    if timeframe == "1d":
        return _place_days(place, stamps, asked=asked, known=known)
    problems = np.full(len(stamps.wall), "", dtype=np.object_)
    utc = stamps.wall - stamps.offset
    is_local = stamps.is_valid & ~stamps.is_stated
    notes: list[str] = []
    if not is_local.any():
        if asked is not None and stamps.is_valid.any():
            notes.append("times state their own zone; --timezone is not used")
        return BarTimes(utc, stamps.is_valid, problems, tuple(notes))
    zone = stamps.zone or asked or known
    if zone is None:
        if is_local.sum() * 2 > stamps.is_valid.sum():
            raise SourceError(
                f"{place}: its times state no zone; pass --timezone, "
                "e.g. Europe/Athens (many brokers), America/New_York, UTC, +08:00"
            )
        problems[is_local] = "states no zone, unlike the other rows"
        return BarTimes(utc, stamps.is_valid & ~is_local, problems)
    local = to_utc(stamps.wall, zone, valid=is_local, groups=groups)
    utc = np.where(is_local, local.utc, utc)
    problems[local.is_gap] = f"never happened in {zone.name}: clocks skip it"
    problems[local.is_fold] = f"happened twice in {zone.name}, and only one row has it"
    if zone != asked:
        unused = "; --timezone is not used" if asked else ""
        notes.append(f"times are {zone.name}{unused}")
    is_valid = stamps.is_valid & ~local.is_gap & ~local.is_fold
    return BarTimes(utc, is_valid, problems, tuple(notes))


def _place_days(
    place: str, stamps: Stamps, *, asked: Zone | None, known: Zone | None
) -> BarTimes:
    wall, note = _session_clock(stamps, asked)
    notes = [note] if note else []
    valid = stamps.is_valid
    problems = np.full(len(wall), "", dtype=np.object_)
    of_day = wall % DAY
    is_off = valid & (of_day != 0)
    if not is_off.sum() * 2 > valid.sum():
        return BarTimes(wall, valid, problems, tuple(notes))
    values, counts = np.unique(of_day[is_off], return_counts=True)
    modal = int(values[counts.argmax()])
    clock = f"{modal // HOUR:02d}:{modal % HOUR // MINUTE:02d}"
    is_utc = bool((valid & stamps.is_stated & (stamps.offset == 0)).any())
    if asked is None and (is_utc or (known is not None and known.offset == 0)):
        raise SourceError(
            f"{place}: daily bars stamped {clock} UTC; pass the market's --timezone, so "
            "that their session date is known"
        )
    is_daily = valid & (np.abs(of_day - modal) <= HOUR)  # the clocks may change
    wall = np.where(is_daily, wall - of_day, wall)
    ahead, said = _session_date(place, wall[is_daily] // DAY, modal, clock)
    wall = np.where(is_daily, wall + ahead * DAY, wall)
    return BarTimes(wall, valid, problems, (*notes, said))


def _session_clock(stamps: Stamps, asked: Zone | None) -> tuple[Micros, str | None]:
    # Midnights of the stamps' own clock are dates: no zone moves them to the day before.
    wall = stamps.wall.copy()
    shifted = stamps.is_valid & stamps.is_stated
    if asked is None or not shifted.any():
        return wall, None
    there = from_utc((wall - stamps.offset)[shifted], asked)
    n_own = int((wall[shifted] % DAY == 0).sum())
    n_there = int((there % DAY == 0).sum())
    if n_own > n_there and n_own * 2 > len(there):
        return wall, "bars carry dates; --timezone is not used"
    wall[shifted] = there
    return wall, None


def _session_date(place: str, days: Micros, modal: int, clock: str) -> tuple[int, str]:
    """Return how many days after its stamp a daily bar's session is, and say it.

    Notes
    -----
    Point in time: a bar that opens in the evening belongs to the next day; dated by its
    stamp it would count as known before it is.
    """
    weekday = (days + 3) % 7  # Monday is 0; the epoch was a Thursday
    n_fridays, n_saturdays, n_sundays = ((weekday == day).sum() for day in (4, 5, 6))
    spans_two = HOUR <= modal < 23 * HOUR and len(days) >= _FORTNIGHT
    if spans_two and n_saturdays * 10 > len(days):
        raise SourceError(
            f"{place}: daily bars stamped {clock} on every day of the week span two "
            "dates; pass the --timezone in which they begin at 00:00"
        )
    if modal >= DAY // 2 and n_sundays > 2 * n_fridays:
        return 1, f"daily bars stamped {clock} from Sunday on are dated by the next day"
    return 0, f"daily bars stamped {clock} are dated by that day"
