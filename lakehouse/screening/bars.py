"""Judging bars one by one and against each other, without changing a digit.

The first rule that a row breaks is its reason. In order: what the parser said, the
symbol, the time, the prices, the volume, and last repeats among the rows that passed
everything else. In a demo, a row beyond the demo's date is held back before anything
else is asked of it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import SchemaError
from lakehouse.schema._spec import TIMEFRAMES
from lakehouse.schema.market import QUARANTINE_REASONS
from lakehouse.sources._base import RawBars

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

PRICES: Final = ("open", "high", "low", "close")
STEP_US: Final = {"1h": 3_600_000_000, "1d": 86_400_000_000}
GOOD: Final = 0
HELD_BACK: Final = -1
CODE: Final = {reason: number for number, reason in enumerate(QUARANTINE_REASONS, 1)}
# A close this much outside [low, high], relative, is the dust of an adjustment.
DUST: Final = 1e-12
EARLIEST_US: Final = int(datetime(1700, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


@dataclass(frozen=True, slots=True)
class BarColumns:
    """Bars as arrays of one length, `n_rows`.

    Attributes
    ----------
    names : list of str
        Distinct symbols, in order of first appearance.
    code : ndarray of shape (n_rows,), int64
        Position in `names`; -1 where the symbol is missing.
    ts : ndarray of shape (n_rows,), int64
        Microseconds since 1970; 0 where `has_ts` is false.
    has_ts : ndarray of shape (n_rows,), bool
        Whether there is a time.
    prices : ndarray of shape (4, n_rows), float64
        Open, high, low, close; NaN where null.
    is_null : ndarray of shape (n_rows,), bool
        Whether one of the prices is null.
    volume : ndarray of shape (n_rows,), float64
        NaN where null.
    has_volume : ndarray of shape (n_rows,), bool
        Whether the volume is not null.
    """

    names: list[str]
    code: IntArray
    ts: IntArray
    has_ts: BoolArray
    prices: FloatArray
    is_null: BoolArray
    volume: FloatArray
    has_volume: BoolArray

    def key(self, step: int) -> IntArray:
        """Return one number per row: symbol and bar number, for times on the grid."""
        return (self.code << 33) + self.ts // step + (1 << 32)


def _floats(column: pa.ChunkedArray) -> FloatArray:
    values: FloatArray = column.to_numpy()
    return values


def _valid(column: pa.ChunkedArray) -> BoolArray:
    if column.null_count == 0:
        return np.ones(len(column), dtype=np.bool_)
    valid: BoolArray = column.is_valid().to_numpy()
    return valid


def bar_columns(bars: pa.Table) -> BarColumns:
    """Take arrays out of a table of `BAR_SCHEMA`."""
    symbols = bars["symbol"].combine_chunks().dictionary_encode()
    if isinstance(symbols, pa.ChunkedArray):
        symbols = symbols.chunk(0) if symbols.num_chunks else _no_symbols()
    names: list[str] = symbols.dictionary.to_pylist()
    code = pc.fill_null(symbols.indices, -1).to_numpy(zero_copy_only=False)
    code = code.astype(np.int64)
    blank = [number for number, name in enumerate(names) if not name.strip()]
    code[np.isin(code, blank)] = -1
    has_ts = _valid(bars["ts"])
    ts = pc.fill_null(bars["ts"].cast(pa.int64()), 0).to_numpy()
    present = [_valid(bars[name]) for name in PRICES]
    return BarColumns(
        names=names,
        code=code,
        ts=ts,
        has_ts=has_ts,
        prices=np.stack([_floats(bars[name]) for name in PRICES]),
        is_null=~np.logical_and.reduce(present),
        volume=_floats(bars["volume"]),
        has_volume=_valid(bars["volume"]),
    )


def _no_symbols() -> Any:
    return pa.array([], pa.string()).dictionary_encode()


@dataclass(slots=True)
class Verdict:
    """What became of each row; the first mark on a row stays.

    Attributes
    ----------
    code : ndarray of shape (n_rows,), int8
        `GOOD`, `HELD_BACK` or the number of a quarantine reason, see `CODE`.
    """

    code: npt.NDArray[np.int8]

    def mark(self, rows: BoolArray, verdict: int) -> None:
        """Set `verdict` on those of `rows` that are good so far."""
        if rows.any():
            self.code[rows & (self.code == GOOD)] = verdict

    def rows(self, verdict: int) -> IntArray:
        """Return the row numbers with this verdict."""
        return np.flatnonzero(self.code == verdict)

    @property
    def refused(self) -> IntArray:
        """Row numbers that go to quarantine."""
        return np.flatnonzero(self.code > 0)

    def reasons(self) -> dict[str, int]:
        """Count the refused rows by reason."""
        counts = np.bincount(self.code[self.code > 0], minlength=1)
        return {
            QUARANTINE_REASONS[number - 1]: int(counts[number])
            for number in np.flatnonzero(counts)
        }


def mark_parser_reasons(
    verdict: Verdict, reasons: pa.ChunkedArray, source: str
) -> None:
    """Take over what the parser refused.

    Raises
    ------
    SchemaError
        If the parser gave a reason that is not declared.
    """
    if reasons.null_count == len(reasons):
        return
    encoded = reasons.combine_chunks().dictionary_encode()
    number = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    for place, reason in enumerate(encoded.dictionary.to_pylist()):
        if reason not in CODE:
            allowed = ", ".join(QUARANTINE_REASONS)
            raise SchemaError(f"{source}: reason {reason!r} is not one of: {allowed}")
        verdict.mark(number == place, CODE[reason])


def screen_bars(
    raw: RawBars, columns: BarColumns, *, now: datetime, is_demo: bool
) -> Verdict:
    """Judge every row of `raw`.

    Parameters
    ----------
    raw : RawBars
        The input.
    columns : BarColumns
        Its arrays.
    now : datetime
        Clock time, UTC.
    is_demo : bool
        Whether rows beyond `now` are held back instead of refused.

    Returns
    -------
    Verdict
        One mark per row.

    Raises
    ------
    SchemaError
        If the timeframe or a parser's reason is not declared.

    Notes
    -----
    Point in time: a bar is taken when `ts` + timeframe <= `now`.
    """
    if raw.timeframe not in TIMEFRAMES:
        allowed = ", ".join(TIMEFRAMES)
        raise SchemaError(
            f"{raw.source}: timeframe {raw.timeframe!r} is not one of: {allowed}"
        )
    step = STEP_US[raw.timeframe]
    moment = to_microseconds(now)
    verdict = Verdict(np.zeros(len(columns.code), dtype=np.int8))
    unfinished = columns.has_ts & (columns.ts > moment - step)
    if is_demo:
        verdict.mark(unfinished, HELD_BACK)
    mark_parser_reasons(verdict, raw.bars["reason"], raw.source)
    verdict.mark(columns.code < 0, CODE["symbol_missing"])
    verdict.mark(~columns.has_ts, CODE["ts_unparsable"])
    verdict.mark(columns.ts < EARLIEST_US, CODE["ts_unparsable"])
    verdict.mark(columns.ts % step != 0, CODE["ts_not_on_grid"])
    verdict.mark(columns.ts > moment, CODE["ts_in_future"])
    verdict.mark(unfinished, CODE["bar_unfinished"])
    _mark_prices(verdict, columns)
    _mark_repeats(verdict, columns, step)
    return verdict


def _mark_prices(verdict: Verdict, columns: BarColumns) -> None:
    open_, high, low, close = columns.prices
    is_finite = np.logical_and.reduce(np.isfinite(columns.prices))
    is_positive = np.logical_and.reduce(columns.prices > 0)
    verdict.mark(columns.is_null, CODE["field_missing"])
    verdict.mark(~is_finite, CODE["price_not_a_number"])
    verdict.mark(~is_positive, CODE["price_not_positive"])
    verdict.mark(high < low, CODE["high_below_low"])
    with np.errstate(over="ignore", invalid="ignore"):
        ceiling, floor = high * (1 + DUST), low * (1 - DUST)
    above = np.maximum(open_, close) > ceiling
    below = np.minimum(open_, close) < floor
    verdict.mark(above | below, CODE["price_outside_range"])
    has_number = np.isfinite(columns.volume)
    verdict.mark(columns.has_volume & ~has_number, CODE["volume_not_a_number"])
    verdict.mark(columns.has_volume & (columns.volume < 0), CODE["volume_negative"])


def _mark_repeats(verdict: Verdict, columns: BarColumns, step: int) -> None:
    """Keep the first of equal copies; refuse all of copies that differ."""
    rows = verdict.rows(GOOD)
    key = columns.key(step)[rows]
    if (key[1:] > key[:-1]).all():
        return
    order = np.argsort(key, kind="stable")
    rows, key = rows[order], key[order]
    repeats = key[1:] == key[:-1]
    if not repeats.any():
        return
    differs = repeats & ~equal_values(columns, rows[1:], columns, rows[:-1])
    group = np.concatenate([[0], np.cumsum(~repeats)])
    is_conflict = np.bincount(group[1:][differs], minlength=group[-1] + 1) > 0
    in_conflict = is_conflict[group]
    is_duplicate = np.concatenate([[False], repeats]) & ~in_conflict
    verdict.code[rows[in_conflict]] = CODE["conflict"]
    verdict.code[rows[is_duplicate]] = CODE["duplicate"]


def equal_values(
    left: BarColumns, left_rows: IntArray, right: BarColumns, right_rows: IntArray
) -> BoolArray:
    """Compare prices and volume of rows pair by pair; unknown equals unknown."""
    prices = (left.prices[:, left_rows] == right.prices[:, right_rows]).all(axis=0)
    known = left.has_volume[left_rows]
    same_known = known == right.has_volume[right_rows]
    same = left.volume[left_rows] == right.volume[right_rows]
    equal: BoolArray = prices & same_known & (same | ~known)
    return equal


def to_microseconds(moment: datetime) -> int:
    """Return microseconds since 1970."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def describe_refusal(reason: str, row: dict[str, Any], *, now: datetime) -> str | None:
    """Say which value broke which bound.

    Parameters
    ----------
    reason : str
        The verdict.
    row : dict
        The row's parsed values.
    now : datetime
        Clock time.
    """
    where = f"{row['symbol']} {row['ts']}"
    prices = ", ".join(f"{name} {row[name]}" for name in PRICES)
    texts = {
        "high_below_low": f"high {row['high']} < low {row['low']}",
        "price_outside_range": (
            f"open {row['open']} or close {row['close']} outside "
            f"[{row['low']}, {row['high']}]"
        ),
        "price_not_positive": prices,
        "price_not_a_number": prices,
        "field_missing": prices,
        "volume_negative": f"volume {row['volume']}",
        "volume_not_a_number": f"volume {row['volume']}",
        "ts_not_on_grid": f"ts {row['ts']} is not a bar open of this timeframe",
        "ts_in_future": f"ts {row['ts']}, clock {now.isoformat()}",
        "bar_unfinished": f"ts {row['ts']}, clock {now.isoformat()}",
        "conflict": f"{where}: copies in this input differ",
        "duplicate": f"{where}: equal to an earlier row",
    }
    return texts.get(reason)
