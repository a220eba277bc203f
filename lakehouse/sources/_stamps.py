"""Cells to times: ISO 8601, `YYYY.MM.DD`, compact, day-first or month-first, epochs.

A stamp is kept as the wall clock shows it, with the offset it states, if any; what zone
an unstated one belongs to is decided by whoever knows the file.
"""

import re
import zoneinfo
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import SourceError
from lakehouse.sources._cells import is_text
from lakehouse.sources._zones import (
    DAY,
    HOUR,
    MINUTE,
    Mask,
    Micros,
    Zone,
    parse_zone,
)

DateOrder = Literal["dmy", "mdy"]
Kind = Literal["stated", "stamp", "date", "clock"]

SECOND: Final = 1_000_000  # microseconds
_FIRST_YEAR, _END_YEAR = 1700, 9999  # Python's datetime ends with the latter
_EARLIEST: Final = int(np.datetime64("1700-01-01", "us").astype(np.int64))
_LATEST: Final = int(np.datetime64("9999-01-01", "us").astype(np.int64))
_CLOCK = (
    r"(?:(?:[T,]\s*|\s+|:)(?P<h>\d{1,2})"
    r"(?::(?P<mi>\d{2})(?::(?P<s>\d{2})(?:[.,](?P<f>\d{1,9}))?)?)?"
    r"(?:[\s\-]*(?P<ap>[AaPp][Mm]))?)?"
)
_OFFSET = r"\s*(?P<z>Z|z|UTC|utc|GMT|gmt|(?:GMT|UTC)?[+-]\d{2}(?::?\d{2})?)?\s*$"
_SHAPES: Final = {
    "iso": r"^\s*(?P<y>\d{4})[-./](?P<mo>\d{1,2})[-./](?P<d>\d{1,2})"
    + _CLOCK
    + _OFFSET,
    "compact": r"^\s*(?P<y>(?:19|20)\d{2})(?P<mo>[01]\d)(?P<d>[0-3]\d)"
    r"(?:[T ]? ?(?P<h>\d{2}):?(?P<mi>\d{2})(?::?(?P<s>\d{2})(?:\.(?P<f>\d{1,9}))?)?)?(?P<ap>)"
    + _OFFSET,
    "numeric": r"^\s*(?P<a>\d{1,2})(?P<mark>[-./])(?P<b>\d{1,2})[-./](?P<y>\d{4}|\d{2})"
    + _CLOCK
    + _OFFSET,
    "day_month": r"^\s*(?P<d>\d{1,2})[-\s](?P<name>[A-Za-z]{3,9})[-,\s]+(?P<y>\d{4}|\d{2})"
    + _CLOCK
    + _OFFSET,
    "month_day": r"^\s*(?P<name>[A-Za-z]{3,9})\.?\s+(?P<d>\d{1,2}),?\s+(?P<y>\d{4})"
    + _CLOCK
    + _OFFSET,
}
_ZONE_NAME: Final = r"\s*\[?(?P<zone>[A-Za-z]+(?:/[A-Za-z][A-Za-z_+\-0-9]*)+)\]?\s*$"
_EPOCH: Final = (
    r"^\s*\d{9,19}(\.\d+)?([eE]\+?\d{1,2})?\s*$|^\s*\d\.\d+[eE]\+?\d{1,2}\s*$"
)
_MONTHS: Final = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)
_TIME_OF_DAY = re.compile(
    r"\s*\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?\s*([AaPp][Mm])?\s*|(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?"
)
_PROBE: Final = 200  # cells


@dataclass(slots=True)
class Stamps:
    """A column of times.

    Attributes
    ----------
    wall : ndarray of shape (n_rows,), int64
        Microseconds on the clock as written, since 1970-01-01 00:00 on that clock.
    offset : ndarray of shape (n_rows,), int64
        Microseconds east of UTC; 0 where none is stated.
    is_stated : ndarray of shape (n_rows,), bool
        Rows that state an offset or are epochs, hence UTC.
    is_valid : ndarray of shape (n_rows,), bool
        Rows that hold a time.
    zone : Zone or None
        Zone that the cells name, as `20240102 09:30:00 US/Eastern` does; it holds for
        rows that state no offset.
    """

    wall: Micros
    offset: Micros
    is_stated: Mask
    is_valid: Mask
    zone: Zone | None = None

    @classmethod
    def blank(cls, n_rows: int) -> "Stamps":
        """Return rows that hold no time yet."""
        return cls(
            np.zeros(n_rows, dtype=np.int64),
            np.zeros(n_rows, dtype=np.int64),
            np.zeros(n_rows, dtype=np.bool_),
            np.zeros(n_rows, dtype=np.bool_),
        )


def probe(column: Any) -> Kind | None:
    """Say what sort of time a column seems to hold; None if none."""
    kind = column.type
    typed: Kind | None = None
    if pa.types.is_timestamp(kind):
        typed = "stamp" if kind.tz is None else "stated"
    elif pa.types.is_date(kind):
        typed = "date"
    elif pa.types.is_time(kind):
        typed = "clock"
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        typed = _probe_text(_integer_text(column.slice(0, _PROBE)))
    elif is_text(column):
        typed = _probe_text(column.slice(0, _PROBE))
    return typed


def _probe_text(column: Any) -> Kind | None:
    cells = [cell for cell in column.to_pylist() if cell and cell.strip()]
    if not cells:
        return None
    if sum(bool(_TIME_OF_DAY.fullmatch(cell)) for cell in cells) * 2 > len(cells):
        return "clock"
    stamps = parse_stamps("", pa.array(cells), order="mdy")
    valid = stamps.is_valid
    if valid.sum() * 2 < len(cells):
        return None
    if stamps.is_stated[valid].sum() * 2 > valid.sum():
        return "stated"
    is_date = bool((stamps.wall[valid] % DAY == 0).all())
    return "date" if is_date and not any(":" in cell for cell in cells) else "stamp"


def parse_stamps(
    place: str, column: Any, *, clock: Any = None, order: DateOrder | None = None
) -> Stamps:
    """Read a column of times.

    Parameters
    ----------
    place : str
        File, for messages.
    column : pyarrow.Array or ChunkedArray of n_rows
        Text, integers, dates or timestamps.
    clock : pyarrow.Array or ChunkedArray of n_rows, optional
        Times of day that belong to the dates in `column`.
    order : {'dmy', 'mdy'}, optional
        Order of `03/04/2020`; found from the data if some day is above 12.

    Raises
    ------
    SourceError
        If the column is of a type that holds no times, or day and month cannot be told
        apart.
    """
    if not is_text(column) and clock is None:
        return _typed_stamps(place, column)
    text = _as_text(column)
    if clock is not None:
        text = pc.binary_join_element_wise(
            text, pc.fill_null(_as_text(clock), ""), " ", null_handling="emit_null"
        )
    return _text_stamps(place, _flat(text), order)


def _as_text(column: Any) -> Any:
    if is_text(column):
        return pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return _integer_text(column)
    return pc.cast(column, pa.string())


def _integer_text(column: Any) -> Any:
    return pc.cast(pc.cast(column, pa.int64(), safe=False), pa.string())


def _flat(column: Any) -> Any:
    if isinstance(column, pa.ChunkedArray):
        chunks = column.chunks
        return pa.concat_arrays(chunks) if chunks else pa.array([], type=column.type)
    return column


def _typed_stamps(place: str, column: Any) -> Stamps:
    kind = column.type
    stamps = Stamps.blank(len(column))
    stamps.is_valid = ~np.array(pc.is_null(column), dtype=np.bool_)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        zone = getattr(kind, "tz", None)
        micros = pc.cast(column, pa.timestamp("us", tz=zone), safe=False)
        wall = np.array(pc.fill_null(micros.cast(pa.int64()), 0), dtype=np.int64)
        stamps.is_valid &= (wall >= _EARLIEST) & (wall < _LATEST)
        stamps.wall = np.where(stamps.is_valid, wall, 0)
        stamps.is_stated[:] = zone is not None
        return stamps
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _text_stamps(place, _flat(_integer_text(column)), None)
    if pa.types.is_null(kind):
        return stamps
    raise SourceError(f"{place}: a column of type {kind} where times are needed")


def _text_stamps(place: str, text: Any, order: DateOrder | None) -> Stamps:
    text, zone = _split_zone(pc.cast(text, pa.string()))
    stamps = Stamps.blank(len(text))
    stamps.zone = zone
    left = np.flatnonzero(~np.array(pc.is_null(text), dtype=np.bool_))
    for shape in _likely_order(text):
        if not left.size:
            break
        cells = text.take(pa.array(left)) if left.size < len(text) else text
        if shape == "epoch":
            _fill_epochs(stamps, cells, left)
        else:
            _fill_shape(stamps, cells, left, place=place, shape=shape, order=order)
        left = left[~stamps.is_valid[left]]
    return stamps


def _split_zone(text: Any) -> tuple[Any, Zone | None]:
    sample = text.slice(0, _PROBE).to_pylist()
    if not any(re.search(_ZONE_NAME, (cell or "")[-60:]) for cell in sample):
        return text, None
    parts = pc.extract_regex(text, r"^(?P<stamp>.*?)" + _ZONE_NAME)
    names = pc.unique(pc.struct_field(parts, "zone").drop_null()).to_pylist()
    if len(names) != 1 or names[0] not in zoneinfo.available_timezones():
        return text, None
    bare = pc.if_else(pc.is_valid(parts), pc.struct_field(parts, "stamp"), text)
    return bare, parse_zone(names[0])


def _likely_order(text: Any) -> list[str]:
    shapes = ["compact", "iso", "epoch", "numeric", "day_month", "month_day"]
    sample = [cell for cell in text.slice(0, _PROBE).to_pylist() if cell]
    patterns = {**_SHAPES, "epoch": _EPOCH}

    def n_hits(shape: str) -> int:
        pattern = re.compile(patterns[shape])
        return -sum(bool(pattern.match(cell)) for cell in sample)

    return sorted(shapes, key=n_hits)


def _fill_epochs(stamps: Stamps, cells: Any, rows: Micros) -> None:
    is_epoch = np.array(pc.match_substring_regex(cells, _EPOCH), dtype=np.bool_)
    if not is_epoch.any():
        return
    found = cells.filter(pa.array(is_epoch))
    try:
        whole = np.array(
            pc.cast(pc.utf8_trim_whitespace(found), pa.int64()), dtype=np.int64
        )
        exact = whole.astype(np.float64)
    except pa.ArrowInvalid:
        floats = np.array(pc.cast(pc.utf8_trim_whitespace(found), pa.float64()))
        exact = np.where(np.abs(floats) < 9e18, floats, 0.0)
        whole = exact.astype(np.int64)
    micros = np.select(
        [exact < 1e8, exact < 1e11, exact < 1e14, exact < 1e17],
        [0, np.rint(exact * 1e6), whole * 1000, whole],
        default=whole // 1000,
    ).astype(np.int64)
    target = rows[is_epoch]
    good = (micros > 0) & (micros < 7_258_118_400 * SECOND)  # until the year 2200
    stamps.wall[target] = micros
    stamps.is_valid[target] = good
    stamps.is_stated[target] = good


def _fill_shape(
    stamps: Stamps,
    cells: Any,
    rows: Micros,
    *,
    place: str,
    shape: str,
    order: DateOrder | None,
) -> None:
    parts = pc.extract_regex(cells, _SHAPES[shape])
    hit = np.array(pc.is_valid(parts), dtype=np.bool_)
    if shape == "numeric" and order is None:
        hit, order = _settle_order(place, parts, hit, len(stamps.wall))
    if not hit.any():
        return
    parts = parts.filter(pa.array(hit))
    target = rows[hit]
    month, day = _month_and_day(parts, shape, order)
    wall, valid = _compose(parts, month, day)
    offset, is_stated = _offsets(pc.struct_field(parts, "z"))
    stamps.wall[target] = wall
    stamps.offset[target] = offset
    stamps.is_stated[target] = is_stated
    stamps.is_valid[target] = valid


def _month_and_day(
    parts: Any, shape: str, order: DateOrder | None
) -> tuple[Micros, Micros]:
    if shape in {"iso", "compact"}:
        return _whole(parts, "mo"), _whole(parts, "d")
    if shape == "numeric":
        first, second = _whole(parts, "a"), _whole(parts, "b")
        return (second, first) if order == "dmy" else (first, second)
    short = pc.utf8_lower(pc.utf8_slice_codeunits(pc.struct_field(parts, "name"), 0, 3))
    month = pc.index_in(short, value_set=pa.array(_MONTHS))
    return (
        np.array(pc.fill_null(month, -1), dtype=np.int64) + 1,
        _whole(parts, "d"),
    )


def _settle_order(
    place: str, parts: Any, hit: Mask, n_rows: int
) -> tuple[Mask, DateOrder | None]:
    """Find the order of `03/04/2020` dates, and which of them it holds for.

    A few odd cells among other times never refuse a file: they stay unread.
    """
    short = pc.equal(pc.utf8_length(pc.struct_field(parts, "y")), 2)
    is_short = np.array(pc.fill_null(short, fill_value=False), dtype=np.bool_) & hit
    is_odd = is_short.sum() * 2 <= hit.sum()
    kept = hit & ~is_short if is_odd else hit
    found = parts.filter(pa.array(kept))
    if not len(found):
        return kept, None
    try:
        if not is_odd:
            raise _unclear_order(place, found[0].as_py())
        return kept, _date_order(place, found)
    except SourceError:
        if kept.sum() * 2 > n_rows:
            raise
        return np.zeros_like(hit), None


def _unclear_order(place: str, date: dict[str, str]) -> SourceError:
    # A two-digit year may even come first: never guessed.
    shown = date["mark"].join((date["a"], date["b"], date["y"]))
    return SourceError(
        f"{place}: {shown} may be day first or month first; "
        "pass --columns dates=dmy or dates=mdy"
    )


def _date_order(place: str, found: Any) -> DateOrder:
    if pc.all(pc.equal(pc.struct_field(found, "mark"), ".")).as_py():
        return "dmy"
    first, second = _whole(found, "a"), _whole(found, "b")
    n_day_first, n_month_first = int((first > 12).sum()), int((second > 12).sum())
    if n_day_first > n_month_first:
        return "dmy"
    if n_month_first > n_day_first:
        return "mdy"
    if bool((first == second).all()):
        return "dmy"
    raise _unclear_order(place, found[0].as_py())


def _compose(parts: Any, month: Micros, day: Micros) -> tuple[Micros, Mask]:
    year, hour = _years(parts), _whole(parts, "h")
    minute, second = _whole(parts, "mi"), _whole(parts, "s")
    half = pc.utf8_lower(pc.struct_field(parts, "ap"))
    is_pm = np.array(pc.equal(half, "pm"), dtype=np.bool_)
    is_am = np.array(pc.equal(half, "am"), dtype=np.bool_)
    is_twelve_hour = is_pm | is_am
    valid = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    valid &= (hour < 24) & (minute < 60) & (second < 60)
    valid &= (year >= _FIRST_YEAR) & (year < _END_YEAR)
    valid &= ~is_twelve_hour | ((hour >= 1) & (hour <= 12))
    hour = np.where(is_twelve_hour, hour % 12 + 12 * is_pm, hour)
    months = (np.where(valid, year, 1970) - 1970) * 12 + np.where(valid, month, 1) - 1
    start = months.astype("datetime64[M]").astype("datetime64[D]")
    date = start + (np.where(valid, day, 1) - 1).astype("timedelta64[D]")
    valid &= date.astype("datetime64[M]") == months.astype("datetime64[M]")
    fraction = pc.utf8_slice_codeunits(
        pc.utf8_rpad(pc.struct_field(parts, "f"), 6, "0"), 0, 6
    )
    wall = date.astype(np.int64) * DAY + hour * HOUR + minute * MINUTE
    wall += second * SECOND + np.array(pc.cast(fraction, pa.int64()), dtype=np.int64)
    return wall, valid


def _years(parts: Any) -> Micros:
    # Two digits as POSIX reads them: 69 to 99 are 19xx.
    year = _whole(parts, "y")
    is_short = np.array(
        pc.equal(pc.utf8_length(pc.struct_field(parts, "y")), 2), dtype=np.bool_
    )
    return np.where(is_short, year + np.where(year < 69, 2000, 1900), year)


def _whole(parts: Any, name: str) -> Micros:
    cells = pc.struct_field(parts, name)
    filled = pc.if_else(pc.equal(cells, ""), "0", cells)
    return np.array(pc.cast(filled, pa.int64()), dtype=np.int64)


def _offsets(cells: Any) -> tuple[Micros, Mask]:
    is_stated = np.array(pc.not_equal(cells, ""), dtype=np.bool_)
    offset = np.zeros(len(cells), dtype=np.int64)
    if is_stated.any():
        for text in pc.unique(cells).to_pylist():
            bare = text.upper().removeprefix("GMT").removeprefix("UTC")
            if bare[:1] in {"+", "-"}:
                digits = bare[1:].replace(":", "").ljust(4, "0")
                minutes = int(digits[:2]) * 60 + int(digits[2:])
                signed = -minutes if bare[0] == "-" else minutes
                offset[np.array(pc.equal(cells, text), dtype=np.bool_)] = (
                    signed * MINUTE
                )
    return offset, is_stated
