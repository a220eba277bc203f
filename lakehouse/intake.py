"""The way in for bars and releases: screen, compare with what is stored, write once.

What holds for every input, whatever is killed or repeated:

- read = good + quarantined + held back, exactly.
- A row equal to the stored one is good and is not written again. A row that differs
  is a correction: the stored row goes to `quarantine` as `superseded`, then it is
  replaced. A volume that the input does not know differs from nothing.
- Every write can be repeated: quarantine rows are looked for by their key, the stored
  rows are compared anew, and the last write of an input carries its window. So a run
  killed anywhere and run again leaves exactly the right rows, and an old input read
  again after a later correction changes nothing.
- Nothing is fixed. Suspicions are flags (`lakehouse.screening.suspicions`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import SchemaError
from lakehouse.schema._spec import TEXT, TIMESTAMP
from lakehouse.schema.catalogue import table_spec
from lakehouse.schema.market import QUARANTINE_REASONS
from lakehouse.screening.bars import (
    GOOD,
    HELD_BACK,
    PRICES,
    STEP_US,
    BarColumns,
    IntArray,
    Verdict,
    bar_columns,
    describe_refusal,
    screen_bars,
)
from lakehouse.screening.corrections import Comparison, compare_bars, supersede_bars
from lakehouse.screening.refusals import quarantine, refused_rows
from lakehouse.screening.registration import (
    check_asset_class,
    register_symbols,
    resolve_asset_class,
    resolve_calendar,
)
from lakehouse.screening.release_store import store_releases
from lakehouse.screening.releases import ReleaseRows, screen_releases
from lakehouse.screening.suspicions import SortedBars, can_split, flag_bars
from lakehouse.sources._base import RawBars, RawReleases
from lakehouse.store import Lake

__all__ = ["IntakeReport", "take_bars", "take_releases"]

_ATTEMPTS: Final = 3
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class IntakeReport:
    """What became of one input; `n_read == n_good + n_quarantined + n_held_back`.

    Attributes
    ----------
    source : str
        Source and file.
    n_read : int
        Rows of the input.
    n_good : int
        Rows that passed, stored before or now.
    n_written : int
        Of these, rows written by this call: new ones and corrections.
    n_corrected : int
        Of these, rows that replaced a stored one; the old ones are `superseded`.
    n_quarantined : int
        Rows refused.
    n_held_back : int
        Rows beyond a demo's date.
    reasons : dict of str to int
        Refused rows by reason.
    registered : tuple of str
        One line per symbol not seen before.
    notes : tuple of str
        What the source inferred.
    """

    source: str
    n_read: int
    n_good: int
    n_written: int
    n_corrected: int
    n_quarantined: int
    n_held_back: int
    reasons: dict[str, int]
    registered: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def take_bars(
    lake: Lake, raw: RawBars, *, run_id: str, asset_class: str | None = None
) -> IntakeReport:
    """Screen bars and store the good ones, exactly once.

    Parameters
    ----------
    lake : Lake
        Where to; its clock says what is complete.
    raw : RawBars
        One file or one download.
    run_id : str
        The run that writes.
    asset_class : str, optional
        Class of new symbols whose source states none.

    Returns
    -------
    IntakeReport

    Raises
    ------
    SchemaError
        If the input declares an unknown timeframe or reason.
    InputError
        If an asset class is not declared.

    Notes
    -----
    Point in time: a bar is complete when `ts` + timeframe <= now. Later rows are held
    back in a demo, else refused as `bar_unfinished` or `ts_in_future`.
    """
    check_asset_class(asset_class, what=raw.source)
    clock = lake.clock
    columns = bar_columns(raw.bars)
    verdict = screen_bars(raw, columns, now=clock.now(), is_demo=clock.is_demo)
    good = _sorted_rows(verdict.rows(GOOD), columns, STEP_US[raw.timeframe])
    _refuse_bars(lake, raw, verdict, run_id=run_id)
    lines = register_symbols(
        lake,
        _first_bars(columns, good),
        infos=raw.instruments,
        asset_class=asset_class,
        source=raw.source,
    )
    n_written, n_corrected = _store_bars(
        lake, raw, columns, good, run_id=run_id, asset_class=asset_class
    )
    return _report(
        raw, verdict, n_written, n_corrected, registered=lines, notes=raw.notes
    )


def take_releases(lake: Lake, raw: RawReleases, *, run_id: str) -> IntakeReport:
    """Screen economic releases and store the good ones, exactly once.

    Parameters
    ----------
    lake : Lake
        Where to; its clock says what has been released.
    raw : RawReleases
        One calendar file.
    run_id : str
        The run that writes.

    Returns
    -------
    IntakeReport
        A stored release whose missing values become known is written and is not
        counted as corrected.

    Raises
    ------
    SchemaError
        If the input declares an unknown reason.

    Notes
    -----
    Point in time: `actual` is stored as null until `ts` <= now. In a demo a release
    whose schedule was not yet known is held back.
    """
    clock = lake.clock
    rows = ReleaseRows.of(raw)
    verdict = screen_releases(rows, now=clock.now(), is_demo=clock.is_demo)
    details = rows.describe(verdict)
    quarantine(
        lake,
        refused_rows(
            raw.original,
            verdict.refused,
            source=raw.source,
            first_row=raw.first_row,
            table="economic_calendar",
            reasons=_reason_names(verdict),
            details=details,
        ),
        window=f"ingest/quarantine/calendar/{raw.window}",
        run_id=run_id,
    )
    n_written, n_corrected = store_releases(
        lake, raw, rows, verdict.rows(GOOD), run_id=run_id
    )
    return _report(raw, verdict, n_written, n_corrected, notes=raw.notes)


def _report(
    raw: RawBars | RawReleases,
    verdict: Verdict,
    n_written: int,
    n_corrected: int,
    *,
    registered: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> IntakeReport:
    return IntakeReport(
        source=raw.source,
        n_read=len(verdict.code),
        n_good=int((verdict.code == GOOD).sum()),
        n_written=n_written,
        n_corrected=n_corrected,
        n_quarantined=int((verdict.code > 0).sum()),
        n_held_back=int((verdict.code == HELD_BACK).sum()),
        reasons=verdict.reasons(),
        registered=registered,
        notes=notes,
    )


def _sorted_rows(rows: IntArray, columns: BarColumns, step: int) -> IntArray:
    key = columns.key(step)[rows]
    if (key[1:] > key[:-1]).all():
        return rows
    return rows[np.argsort(key)]


def _reason_names(verdict: Verdict) -> list[str]:
    return [QUARANTINE_REASONS[code - 1] for code in verdict.code[verdict.refused]]


def _refuse_bars(lake: Lake, raw: RawBars, verdict: Verdict, *, run_id: str) -> None:
    refused = verdict.refused
    if not refused.size:
        return
    now, reasons = lake.clock.now(), _reason_names(verdict)
    parsed = raw.bars.take(pa.array(refused)).to_pylist()
    details = [
        row["detail"] or describe_refusal(reason, row, now=now)
        for reason, row in zip(reasons, parsed, strict=True)
    ]
    rows = refused_rows(
        raw.original,
        refused,
        source=raw.source,
        first_row=raw.first_row,
        table="ohlcv",
        reasons=reasons,
        details=details,
    )
    window = f"ingest/quarantine/{raw.timeframe}/{raw.window}"
    quarantine(lake, rows, window=window, run_id=run_id)


def _first_bars(columns: BarColumns, good: IntArray) -> dict[str, datetime]:
    code = columns.code[good]
    starts = np.flatnonzero(np.diff(code, prepend=-1))
    return {
        columns.names[code[row]]: _EPOCH
        + timedelta(microseconds=int(columns.ts[good[row]]))
        for row in starts
    }


def bars_window(raw: RawBars, columns: BarColumns, good: IntArray) -> str:
    """Name the window of the good rows: the input's, and a digest of their content.

    So an input that has more good rows later, or a feed's window whose content
    changed, is a new window.
    """
    digest = hashlib.sha256("\0".join(columns.names).encode("utf-8", "replace"))
    for values in (columns.code, columns.ts, *columns.prices):
        digest.update(np.ascontiguousarray(values[good]).data)
    volume = np.where(columns.has_volume, columns.volume, -1.0)[good]
    digest.update(np.ascontiguousarray(volume).data)
    suffix = f"{len(good)}-{digest.hexdigest()[:16]}"
    return f"ingest/ohlcv/{raw.timeframe}/{raw.window}/{suffix}"


def _store_bars(
    lake: Lake,
    raw: RawBars,
    columns: BarColumns,
    good: IntArray,
    *,
    run_id: str,
    asset_class: str | None,
) -> tuple[int, int]:
    """Return how many rows were written, and how many of these are corrections."""
    window = bars_window(raw, columns, good)
    if not good.size or lake.has_window("ohlcv", window):
        return 0, 0
    flags = _flags(raw, columns, good, asset_class)
    n_corrected = 0
    for attempt in range(1, _ATTEMPTS + 1):
        found = compare_bars(lake, raw, columns, good)
        n_corrected += _correct_bars(lake, raw, columns, found, flags, run_id=run_id)
        new = ohlcv_rows(raw, columns, found.new, flags, now=lake.clock.now())
        try:
            commit = lake.append("ohlcv", new, window=window)
        except SchemaError:
            # Another writer stored one of these bars since the comparison.
            if attempt == _ATTEMPTS:
                raise
        else:
            return commit.n_rows + n_corrected, n_corrected
    return 0, 0


def _correct_bars(
    lake: Lake,
    raw: RawBars,
    columns: BarColumns,
    found: Comparison,
    flags: dict[int, str],
    *,
    run_id: str,
) -> int:
    """Put the old rows into quarantine first, then replace them."""
    rows = supersede_bars(lake, raw, columns, found.corrected, run_id=run_id)
    if not rows.size:
        return 0
    table = ohlcv_rows(raw, columns, rows, flags, now=lake.clock.now())
    return lake.upsert("ohlcv", table).n_rows


def _flags(
    raw: RawBars, columns: BarColumns, good: IntArray, asset_class: str | None
) -> dict[int, str]:
    by_symbol = {info.symbol: info for info in raw.instruments}
    splits = []
    for name in columns.names:
        info = by_symbol.get(name)
        resolved = resolve_asset_class(info, asset_class)
        splits.append(can_split(resolved, resolve_calendar(name, info, resolved)))
    open_, high, low, close = columns.prices[:, good]
    found = flag_bars(
        SortedBars(
            code=columns.code[good],
            ts=columns.ts[good],
            open=open_,
            high=high,
            low=low,
            close=close,
            can_split=np.array(splits, dtype=np.bool_),
            step=STEP_US[raw.timeframe],
        )
    )
    return {int(good[position]): flag for position, flag in found.items()}


def ohlcv_rows(
    raw: RawBars,
    columns: BarColumns,
    rows: IntArray,
    flags: dict[int, str],
    *,
    now: datetime,
) -> pa.Table:
    """Build rows of `ohlcv` from rows of the input."""
    n_rows = len(rows)
    code = pa.array(columns.code[rows], pa.int32())
    names = pa.array(columns.names, TEXT)
    has_volume = columns.has_volume[rows]
    flag: list[str | None] | pa.Array = pa.nulls(n_rows, TEXT)
    if flags:
        flag = pa.array([flags.get(row) for row in rows.tolist()], TEXT)
    arrays: dict[str, Any] = {
        "symbol": pc.take(names, code),
        "timeframe": pa.repeat(pa.scalar(raw.timeframe, TEXT), n_rows),
        "ts": pa.array(columns.ts[rows], pa.int64()).cast(TIMESTAMP),
        **{
            name: pa.array(values[rows])
            for name, values in zip(PRICES, columns.prices, strict=True)
        },
        "volume": pa.array(columns.volume[rows], mask=~has_volume),
        "source": pa.repeat(pa.scalar(raw.source, TEXT), n_rows),
        "ingested_at": pa.repeat(pa.scalar(now, TIMESTAMP), n_rows),
        "flags": flag,
    }
    schema = table_spec("ohlcv").to_arrow()
    ordered: Sequence[Any] = [arrays[field.name] for field in schema]
    return pa.Table.from_arrays(ordered, schema=schema)
