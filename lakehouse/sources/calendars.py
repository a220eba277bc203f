"""Economic releases from files: ForexFactory-style pages, our Parquet layout, plain CSV.

Rules kept: every row of a file is handed out, in its order; a row that cannot be dated
or named carries the reason; corrections of known faults of such files (leap days,
swapped impact labels, the year wrap) are said in `notes`. `actual` and `previous` are as
the page showed them when it was copied: what could be known when is the intake's.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import SourceError
from lakehouse.sources._base import RELEASE_SCHEMA, RawReleases
from lakehouse.sources._delimited import SURPLUS
from lakehouse.sources._opening import arrow_errors, open_sheets
from lakehouse.sources._release_cells import (
    floats_or_null,
    to_currency,
    to_figures,
    to_importance,
)
from lakehouse.sources._release_times import ReleaseTimes, page_times
from lakehouse.sources._stamps import DateOrder, Stamps, parse_stamps, probe
from lakehouse.sources._unpack import digest, read_file
from lakehouse.sources._zones import DAY, UTC_ZONE, Zone, parse_zone
from lakehouse.sources.dialects._base import Sheet
from lakehouse.sources.event_types import event_type
from lakehouse.sources.files import find_files

READER_VERSION: Final = (
    3  # part of every window: raise it when rows would read otherwise
)
HEADER_WORDS: Final = frozenset(
    [
        "date",
        "time",
        "datetime",
        "timestamp",
        "ts",
        "currency",
        "country",
        "event",
        "title",
        "impact",
        "importance",
        "actual",
        "forecast",
        "previous",
        "ccy",
    ]
)
_NAMES: Final = {
    "ts": (
        "ts",
        "timestamp",
        "datetime",
        "date time",
        "release time",
        "time utc",
        "datetime utc",
        "date utc",
    ),
    "date": ("date", "day"),
    "time": ("time", "clock"),
    "combined": ("combined datetime",),
    "currency": ("currency", "ccy", "cur", "country", "region"),
    "event": ("event", "title", "name", "event name", "release", "indicator"),
    "importance": ("importance", "impact", "volatility", "priority"),
    "actual": ("actual", "act"),
    "forecast": ("forecast", "consensus", "cons", "expected"),
    "previous": ("previous", "prev", "prior"),
    "symbol": ("symbol", "ticker"),
    "is_timed": ("is timed",),
}
_FIGURES: Final = ("actual", "forecast", "previous")


def read_releases(
    path: str | Path, *, timezone: str | None = None
) -> Iterator[RawReleases]:
    """Read the releases of a calendar file.

    Parameters
    ----------
    path : str or Path
        A file, or a pattern that matches several.
    timezone : str, optional
        IANA name or `±HH:MM` of clocks that state no zone.

    Returns
    -------
    iterator of RawReleases
        One per file. All files are read and checked before this returns.

    Raises
    ------
    InputError
        If `timezone` is no zone.
    SourceError
        If a file holds no calendar, or its zone is needed and unknown.

    Notes
    -----
    Point in time: `ts` is the scheduled release in UTC; rows without a clock time carry
    their nominal date at 00:00 and `is_timed` false, and must not be joined by `ts`.
    """
    zone = None if timezone is None else parse_zone(timezone)
    found: list[RawReleases] = []
    errors: list[SourceError] = []
    for file in find_files(path):
        try:
            with arrow_errors(file):
                found.append(_read_file(file, zone))
        except SourceError as error:
            errors.append(error)
    if len(errors) > 1:
        raise SourceError(f"{errors[0]} (and {len(errors) - 1} more refused files)")
    if errors:
        raise errors[0]
    return iter(found)


def _read_file(path: Path, zone: Zone | None) -> RawReleases:
    data = read_file(path)
    sha256 = digest(data)
    parts = [
        _read_sheet(sheet, zone)
        for sheet in open_sheets(path, data, header_words=HEADER_WORDS)
    ]
    identity = json.dumps(
        {
            "reader": READER_VERSION,
            "timezone": zone.name if zone else "",
            "name": path.name,
        },
        sort_keys=True,
        separators=(",", ":"),
    )
    return RawReleases(
        source=f"files:{path.name}@{sha256[:8]}",
        window=f"sha256:{sha256}:{digest(identity.encode())}",
        releases=pa.concat_tables([part.releases for part in parts]),
        original=pa.concat_tables(
            [part.original for part in parts], promote_options="permissive"
        ),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    releases: pa.Table
    original: pa.Table
    notes: tuple[str, ...]


def _read_sheet(sheet: Sheet, zone: Zone | None) -> _Part:
    columns = _columns(sheet)
    n_rows = sheet.table.num_rows
    events = _strings(columns["event"])
    currencies = [
        to_currency(cell) for cell in _strings(columns.get("currency"), n_rows)
    ]
    symbols = _blank_to_null(columns.get("symbol"), n_rows)
    times = _times(sheet, columns, zone)
    labels = _strings(columns.get("importance"), n_rows)
    importance, notes = to_importance(labels, events)
    arrays: dict[str, Any] = {
        "ts": pa.array(times.utc, mask=~times.is_valid).cast(
            pa.timestamp("us", tz="UTC")
        ),
        "currency": pa.array(currencies, type=pa.string()),
        "symbol": pa.array(symbols, type=pa.string()),
        "event": pa.array(
            [(cell or "").strip() or None for cell in events], type=pa.string()
        ),
        "event_type": pa.array(
            [
                event_type((event or "").strip(), currency or "", symbol)
                for event, currency, symbol in zip(
                    events, currencies, symbols, strict=True
                )
            ],
            type=pa.string(),
        ),
        "importance": pa.array(importance, type=pa.int64()),
        "is_timed": pa.array(times.is_timed),
    }
    n_unread = 0
    for field in _FIGURES:
        if field in columns:
            values, bad = to_figures(columns[field])
            n_unread += bad
            arrays[field] = floats_or_null(values)
        else:
            arrays[field] = pa.nulls(n_rows, pa.float64())
    if n_unread:
        notes.append(
            f"{n_unread} figures are not one number (votes, auctions): unknown"
        )
    reasons, details = _problems(sheet, columns, times, arrays)
    arrays["reason"] = pa.array(reasons, type=pa.string())
    arrays["detail"] = pa.array(details, type=pa.string())
    releases = pa.table(arrays).select(RELEASE_SCHEMA.names).cast(RELEASE_SCHEMA)
    return _Part(releases, sheet.table, (*sheet.notes, *times.notes, *notes))


def _columns(sheet: Sheet) -> dict[str, Any]:
    names = [re.sub(r"[^a-z0-9]+", " ", name.lower()).strip() for name in sheet.columns]
    positions = {
        field: position
        for field, words in _NAMES.items()
        for position in [next((names.index(w) for w in words if w in names), None)]
        if position is not None
    }
    columns = {field: sheet.table.column(i) for field, i in positions.items()}
    has_time = "ts" in columns or "date" in columns or "time" in columns
    is_named = "event" in columns and {"currency", "symbol"} & set(columns)
    if not sheet.has_header or not has_time or not is_named:
        raise SourceError(
            f"{sheet.place}: no calendar: needs columns for time (ts, or Date and Time), "
            f"Currency and Event; found {sheet.described()}"
        )
    return columns


def _strings(column: Any, n_rows: int = 0) -> list[str | None]:
    if column is None:
        return [None] * n_rows
    cells: list[str | None] = pc.cast(column, pa.string()).to_pylist()
    return cells


def _blank_to_null(column: Any, n_rows: int) -> list[str | None]:
    return [(cell or "").strip() or None for cell in _strings(column, n_rows)]


def _times(sheet: Sheet, columns: dict[str, Any], zone: Zone | None) -> ReleaseTimes:
    names = " ".join(sheet.columns).lower()
    if zone is None and re.search(r"\b(?:utc|gmt)\b", names):
        zone = UTC_ZONE
    if "ts" in columns or "date" not in columns:
        return _stamp_times(sheet, columns, zone)
    kind = probe(columns["date"])
    if "time" not in columns and kind in {"stated", "stamp"}:
        return _stamp_times(sheet, {**columns, "ts": columns["date"]}, zone)
    order: DateOrder | None = (
        "mdy" if {"title", "country"} <= set(names.split()) else None
    )
    year = re.search(r"(?<!\d)(?:19|20)\d{2}(?!\d)", sheet.name)
    try:
        return page_times(
            sheet.place,
            _strings(columns["date"]),
            _strings(columns.get("time"), sheet.table.num_rows),
            combined=_strings(columns["combined"]) if "combined" in columns else None,
            zone=zone,
            order=order,
            year=int(year[0]) if year else None,
        )
    except SourceError as error:
        if "day first" in str(error):
            raise SourceError(
                f"{sheet.place}: its dates may be day first or month first; "
                "write them as YYYY-MM-DD"
            ) from error
        raise


def _stamp_times(
    sheet: Sheet, columns: dict[str, Any], zone: Zone | None
) -> ReleaseTimes:
    column = columns.get("ts", columns.get("time"))
    stamps = parse_stamps(sheet.place, column)
    is_timed, notes = _timed(sheet, columns, stamps)
    if (stamps.is_valid & is_timed & ~stamps.is_stated).any():
        text = _strings(column)
        blank: list[str | None] = [None] * len(text)
        return page_times(
            sheet.place, text, blank, combined=None, zone=zone, order=None, year=None
        )
    shown = np.where(
        is_timed, stamps.wall - stamps.offset, stamps.wall - stamps.wall % DAY
    )
    problems = ["" if valid else "is no time" for valid in stamps.is_valid]
    return ReleaseTimes(shown, is_timed, stamps.is_valid, problems, notes)


def _timed(
    sheet: Sheet, columns: dict[str, Any], stamps: Stamps
) -> tuple[Any, tuple[str, ...]]:
    n_rows = len(stamps.wall)
    if "is_timed" in columns:
        cells = [(cell or "").lower() for cell in _strings(columns["is_timed"])]
        return np.array(
            [cell not in {"false", "0", "no"} for cell in cells], dtype=np.bool_
        ), ()
    at_midnight = stamps.wall[stamps.is_valid] % DAY == 0
    is_dated = n_rows > 0 and bool(at_midnight.all())
    if is_dated and ("untimed" in sheet.name.lower() or n_rows >= 20):
        note = "every row is at 00:00: dates without a clock time"
        return np.zeros(n_rows, dtype=np.bool_), (note,)
    return np.ones(n_rows, dtype=np.bool_), ()


def _problems(
    sheet: Sheet, columns: dict[str, Any], times: ReleaseTimes, arrays: dict[str, Any]
) -> tuple[list[str | None], list[str | None]]:
    n_rows = sheet.table.num_rows
    reasons: list[str | None] = [None] * n_rows
    details: list[str | None] = [None] * n_rows

    def note(row: int, reason: str, detail: str) -> None:
        if reasons[row] is None:
            reasons[row], details[row] = reason, detail

    _note_ragged(sheet, note)
    shown = [
        _strings(columns[field]) for field in ("ts", "date", "time") if field in columns
    ]
    for row in np.flatnonzero(~times.is_valid).tolist():
        cell = " ".join(column[row] or "" for column in shown)
        note(row, "ts_unparsable", f"{cell[:60]!r} {times.problems[row]}")
    nameless = pc.and_(arrays["currency"].is_null(), arrays["symbol"].is_null())
    for gone, field in ((arrays["event"].is_null(), "event"), (nameless, "currency")):
        for row in np.flatnonzero(np.array(gone)).tolist():
            note(row, "field_missing", f"{field} is empty")
    return reasons, details


def _note_ragged(sheet: Sheet, note: Callable[[int, str, str], None]) -> None:
    if sheet.grid is not None:
        for row in np.flatnonzero(sheet.grid.is_short).tolist():
            note(row, "field_missing", f"fewer than {len(sheet.columns)} fields")
    if SURPLUS in sheet.columns:
        for row, cell in enumerate(_strings(sheet.table.column(SURPLUS))):
            if cell is not None:
                note(row, "value_unparsable", f"too many fields: {cell!r} left over")
