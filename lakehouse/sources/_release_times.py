"""Dates and times of a calendar page: gaps filled, years mended, clocks to UTC.

A release without a clock time (`All Day`, `Tentative`, `Day 2`) keeps its date at 00:00
UTC and is marked as not timed. Yearly files whose last week lies in the next January
under the old year are corrected, and that is said.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.errors import SourceError
from lakehouse.sources._stamps import DateOrder, Stamps, parse_stamps
from lakehouse.sources._zones import DAY, Mask, Micros, Zone, to_utc

_CLOCK = re.compile(r"\d{1,2}:\d{2}|^\d{1,2}\s*[AaPp]\.?[Mm]")
_BARE_CLOCK = re.compile(r"(\d{1,2})(?:[.hH]\s?)?([0-5]\d)")  # 0830, 8.30, 8h30
# Cells with digits that are no clock: `Day 2`, `26th-31st`, `1 Apr`.
_NO_CLOCK = re.compile(
    r"day\s*\d+|\d{1,2}(?:st|nd|rd|th)\b.*|.*(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|q[1-4]).*",
    re.IGNORECASE,
)
_NO_YEAR = re.compile(r"(?:[A-Za-z]{3,9},?\s+)?([A-Za-z]{3,9})\.?\s+(\d{1,2})")
_ENOUGH: Final = 5  # rows without one readable time are no calendar
_WEEK: Final = 7  # days of January that may end a yearly file


@dataclass(frozen=True, slots=True)
class ReleaseTimes:
    """When releases are due.

    Attributes
    ----------
    utc : ndarray of shape (n_rows,), int64
        Microseconds; the nominal date at 00:00 where not timed.
    is_timed, is_valid : ndarray of shape (n_rows,), bool
        Rows with a clock time; rows whose date (and time) could be read.
    problems : list of str
        What is wrong, per row; empty where nothing is.
    notes : tuple of str
        What was corrected or assumed.
    """

    utc: Micros
    is_timed: Mask
    is_valid: Mask
    problems: list[str]
    notes: tuple[str, ...]


def page_times(
    place: str,
    dates: list[str | None],
    clocks: list[str | None],
    *,
    combined: list[str | None] | None,
    zone: Zone | None,
    order: DateOrder | None,
    year: int | None,
) -> ReleaseTimes:
    """Read the date and time cells of a calendar page.

    Parameters
    ----------
    place : str
        File, for messages.
    dates, clocks : list of str or None of n_rows
        Cells; an empty one repeats the cell above (a time only within its date).
    combined : list of str or None, optional
        A second column of full times, used where a date lacks its year.
    zone : Zone or None
        Where the clock hangs.
    order : {'dmy', 'mdy'} or None
        Order of `03-04-2020`.
    year : int or None
        Year of dates that carry none.

    Raises
    ------
    SourceError
        If a row has a clock time that states no zone, and `zone` is None.

    Notes
    -----
    Point in time: a time that the zone's clock skipped or showed twice is refused.
    """
    dates, clocks, notes = _fill_down(dates, clocks)
    dates, mended = _mend_dates(dates, combined, year)
    notes += mended
    clocks = [_spell_clock(cell) for cell in clocks]
    is_clock = np.array([_is_clock(cell) for cell in clocks], dtype=np.bool_)
    joined = [
        f"{date} {clock}" if date and timed else date
        for date, clock, timed in zip(dates, clocks, is_clock, strict=True)
    ]
    stamps = parse_stamps(place, pa.array(joined, type=pa.string()), order=order)
    if len(joined) >= _ENOUGH and not stamps.is_valid.any():
        raise SourceError(
            f"{place}: no time can be read, e.g. {joined[0] or ''!r:.60}; write dates as "
            "2024-01-31 and times as 14:30"
        )
    is_timed = (
        is_clock | (stamps.is_valid & (stamps.wall % DAY != 0)) | stamps.is_stated
    )
    notes += _unwrap_year(stamps)
    utc, is_valid, problems = _place(place, stamps, is_timed, stamps.zone or zone)
    return ReleaseTimes(utc, is_timed, is_valid, problems, tuple(notes))


def _spell_clock(cell: str | None) -> str | None:
    text = (cell or "").strip()
    match = _BARE_CLOCK.fullmatch(text)
    return f"{match[1]}:{match[2]}" if match else cell


def _is_clock(cell: str | None) -> bool:
    # A cell with digits that says no clock time we know is tried as one and refused: as
    # a date at 00:00 its figures would be known before they are.
    text = (cell or "").strip()
    has_digits = any(char.isdigit() for char in text)
    return bool(_CLOCK.search(text)) or (
        has_digits and _NO_CLOCK.fullmatch(text) is None
    )


def _fill_down(
    dates: list[str | None], clocks: list[str | None]
) -> tuple[list[str | None], list[str | None], list[str]]:
    filled_dates: list[str | None] = []
    filled_clocks: list[str | None] = []
    n_dates = n_clocks = 0
    date: str | None = None
    clock: str | None = None
    for raw_date, raw_clock in zip(dates, clocks, strict=True):
        own_date, own_clock = (raw_date or "").strip(), (raw_clock or "").strip()
        if own_date and own_date != date:
            date, clock = own_date, None
        elif not own_date:
            n_dates += date is not None
        if own_clock:
            clock = own_clock
        elif clock is not None:
            n_clocks += 1
        filled_dates.append(own_date or date)
        filled_clocks.append(own_clock or clock)
    notes = []
    if n_dates:
        notes.append(f"{n_dates} empty dates repeat the date above")
    if n_clocks:
        notes.append(f"{n_clocks} empty times repeat the time above")
    return filled_dates, filled_clocks, notes


def _mend_dates(
    dates: list[str | None], combined: list[str | None] | None, year: int | None
) -> tuple[list[str | None], list[str]]:
    mended = list(dates)
    n_combined = n_year = 0
    for row, date in enumerate(dates):
        if not date or not (match := _NO_YEAR.fullmatch(date)):
            continue
        full = ((combined[row] if combined else None) or "").strip()
        if re.match(r"\d{4}-\d{2}-\d{2}", full):
            mended[row] = full[:10]
            n_combined += 1
        elif year is not None:
            mended[row] = f"{match[1]} {match[2]}, {year}"
            n_year += 1
    notes = []
    if n_combined:
        notes.append(
            f"{n_combined} dates without a year taken from the combined column"
        )
    if n_year:
        notes.append(f"{n_year} dates carry no year: {year} by the file name")
    return mended, notes


def _unwrap_year(stamps: Stamps) -> list[str]:
    # Rows dated 1-7 January of year Y that follow the last days of December of Y.
    rows = np.flatnonzero(stamps.is_valid)
    days = stamps.wall[rows].astype("datetime64[us]").astype("datetime64[D]")
    if len(days) < 2:
        return []
    years = days.astype("datetime64[Y]")
    first_of = years.astype("datetime64[D]")
    of_year = (days - first_of).astype(np.int64)
    drops = np.flatnonzero(
        (of_year[:-1] >= 354) & (of_year[1:] < _WEEK) & (years[1:] == years[:-1])
    )
    moved = np.zeros(len(days), dtype=np.bool_)
    for drop in drops.tolist():
        end = drop + 1
        while end < len(days) and of_year[end] < _WEEK and years[end] == years[drop]:
            end += 1
        moved[drop + 1 : end] = True
    if not moved.any():
        return []
    shifted = (years[moved] + 1).astype("datetime64[D]") + of_year[moved]
    target = rows[moved]
    stamps.wall[target] = stamps.wall[target] % DAY + shifted.astype(np.int64) * DAY
    old = int(years[moved][0].astype(np.int64)) + 1970
    return [
        f"{int(moved.sum())} rows at the end dated January {old} are January {old + 1}"
    ]


def _place(
    place: str, stamps: Stamps, is_timed: Mask, zone: Zone | None
) -> tuple[Micros, Mask, list[str]]:
    n_rows = len(stamps.wall)
    utc = np.where(
        is_timed, stamps.wall - stamps.offset, stamps.wall - stamps.wall % DAY
    )
    problems = np.full(n_rows, "", dtype=np.object_)
    is_valid = stamps.is_valid.copy()
    problems[~is_valid] = "is no time"
    is_local = is_valid & is_timed & ~stamps.is_stated
    if is_local.any():
        if zone is None:
            raise SourceError(
                f"{place}: its times state no zone; pass --timezone, "
                "e.g. America/New_York, UTC, +08:00"
            )
        each: npt.NDArray[np.int64] = np.arange(n_rows, dtype=np.int64)
        local = to_utc(stamps.wall, zone, valid=is_local, groups=each)
        utc = np.where(is_local, local.utc, utc)
        problems[local.is_gap] = f"never happened in {zone.name}: clocks skip it"
        problems[local.is_fold] = f"happened twice in {zone.name}"
        is_valid &= ~local.is_gap & ~local.is_fold
    return utc, is_valid, [str(problem) for problem in problems]
