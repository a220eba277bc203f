"""One sheet under one plan to bars: every row kept, what is wrong with it said.

The same steps for every dialect: symbols, times, numbers, then the first reason per row
in that order. Rows are not judged here (prices against each other, times against the
clock): that is `lakehouse.intake`'s.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import SourceError
from lakehouse.schema._spec import ASSET_CLASSES
from lakehouse.sources._base import BAR_SCHEMA, InstrumentInfo
from lakehouse.sources._cells import Numbers, decimal_mark, python_cells, to_numbers
from lakehouse.sources._delimited import SURPLUS
from lakehouse.sources._names import as_timeframe, is_symbol, read_name
from lakehouse.sources._prices import price_scale, rescale
from lakehouse.sources._stamps import Stamps, parse_stamps
from lakehouse.sources._timing import (
    BarTimes,
    decide_timeframe,
    measure_spacing,
    place_bars,
)
from lakehouse.sources._zones import HOUR, MINUTE, Mask, Micros
from lakehouse.sources.dialects._base import PRICES, Options, Plan, Sheet

_ENOUGH: Final = 5  # rows without one readable time are no bars
_NO_SYMBOL: Final = ("", "nan", "none", "null", "n/a")


@dataclass(frozen=True, slots=True)
class Reading:
    """Bars of one sheet.

    Attributes
    ----------
    bars, original : pyarrow.Table of n_rows
        As in `RawBars`.
    timeframe : str
        `1h` or `1d`.
    instruments : tuple of InstrumentInfo
        What the sheet says about its symbols.
    resolved : dict of str to str
        How it was read; part of the window's identity.
    notes : tuple of str
        What was inferred.
    """

    bars: pa.Table
    original: pa.Table
    timeframe: str
    instruments: tuple[InstrumentInfo, ...]
    resolved: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Symbols:
    column: Any  # string array of n_rows
    groups: Micros  # index into `every`; -1 for null
    names: tuple[str, ...]  # that can be symbols
    is_missing: Mask
    every: tuple[str, ...]  # distinct cells, whatever they are


def read_sheet(
    sheet: Sheet, plan: Plan, options: Options, *, symbol: str | None
) -> Reading:
    """Read a sheet as its plan says.

    Parameters
    ----------
    sheet : Sheet
        Verbatim rows.
    plan : Plan
        Which column is what.
    options : Options
        What the user asked for.
    symbol : str or None
        Name of the one symbol; None where a column holds it.

    Raises
    ------
    SourceError
        If bar length, zone, scale or date order cannot be known.

    Notes
    -----
    Point in time: `ts` is the bar's open, a daily bar's session date.
    """
    sheet, selected = _select(sheet, plan, options)
    place = sheet.place
    columns = {field: sheet.table.column(i) for field, i in plan.columns.items()}
    symbols = _symbols(columns.get("symbol"), symbol, sheet.table.num_rows)
    stamps = _read_times(sheet, plan, options)
    timeframe, said = decide_timeframe(
        place,
        measure_spacing(stamps, symbols.groups),
        asked=options.timeframe,
        stated=_stated_timeframe(place, columns.get("timeframe"), plan, options),
        hint=read_name(sheet.name if plan.dialect == "lean" else sheet.path.name),
    )
    times = place_bars(
        place,
        stamps,
        symbols.groups,
        timeframe=timeframe,
        asked=options.zone,
        known=plan.zone,
    )
    numbers, scale = _numbers(sheet, plan, options, symbols.names)
    problems = _problems(sheet, plan, symbols, times, numbers)
    scaled = () if scale == 1.0 else (f"prices divided by {scale:g}",)
    zone = options.zone or plan.zone
    return Reading(
        bars=_assemble(symbols, times, numbers, problems),
        original=sheet.table,
        timeframe=timeframe,
        instruments=_instruments(columns, symbols, plan),
        resolved={
            "dialect": plan.dialect,
            "symbol": symbol or "",
            "timeframe": timeframe,
            "timezone": zone.name if zone else "",
            "scale": f"{scale:g}",
            "selected": ",".join(options.symbols) if selected else "",
            "dates": options.dates or "",
            "decimal": options.decimal or "",
            "columns": ",".join(f"{k}={v}" for k, v in sorted(plan.columns.items())),
        },
        notes=tuple(
            filter(
                None,
                [
                    *sheet.notes,
                    *plan.notes,
                    *selected,
                    said,
                    *times.notes,
                    _grid_note(times, timeframe),
                ],
            )
        )
        + (scaled if plan.dialect != "lean" else ()),
    )


def _grid_note(times: BarTimes, timeframe: str) -> str | None:
    of_hour = times.utc[times.is_valid] % HOUR
    if timeframe != "1h" or not (of_hour != 0).sum() * 2 > len(of_hour):
        return None
    minute = int(np.median(of_hour)) // MINUTE
    return f"its bars open at :{minute:02d}: only bars on the clock hour are taken"


def _read_times(sheet: Sheet, plan: Plan, options: Options) -> Stamps:
    column = sheet.table.column(plan.columns["ts"])
    clock = sheet.table.column(plan.columns["time"]) if "time" in plan.columns else None
    name = sheet.columns[plan.columns["ts"]]
    place = f"{sheet.place}: column {name[:40]!r}"
    stamps = parse_stamps(place, column, clock=clock, order=options.dates)
    if len(stamps.wall) >= _ENOUGH and not stamps.is_valid.any():
        shown = _stamp_cells(sheet, plan, np.arange(1))[0]
        raise SourceError(
            f"{place}: no time can be read, e.g. {shown}; pass --columns ts=COLUMN, or "
            "write times as 2024-01-31T16:00:00Z"
        )
    return stamps


def _select(sheet: Sheet, plan: Plan, options: Options) -> tuple[Sheet, list[str]]:
    # Rows of other symbols or bar lengths than those asked for are not read at all.
    keep = np.ones(sheet.table.num_rows, dtype=np.bool_)
    if "symbol" in plan.columns and options.symbols:
        names = _text(sheet.table.column(plan.columns["symbol"]))
        chosen = pc.is_in(names, value_set=pa.array([*options.symbols, *_NO_SYMBOL]))
        keep &= np.array(pc.or_(chosen, pc.is_null(names)), dtype=np.bool_)
    if "timeframe" in plan.columns and options.timeframe:
        cells = _text(sheet.table.column(plan.columns["timeframe"]))
        lengths = {
            name: as_timeframe(name or "") for name in pc.unique(cells).to_pylist()
        }
        others = [
            name
            for name, found in lengths.items()
            if found not in {None, options.timeframe}
        ]
        if others:
            is_other = pc.is_in(cells, value_set=pa.array(others, type=pa.string()))
            keep &= ~np.array(is_other, dtype=np.bool_)
    n_left = int((~keep).sum())
    if not n_left:
        return sheet, []
    if not keep.any():
        raise SourceError(
            f"{sheet.place}: no row for {', '.join(options.symbols) or options.timeframe}"
        )
    grid = sheet.grid and replace(sheet.grid, is_short=sheet.grid.is_short[keep])
    table = sheet.table.filter(pa.array(keep))
    note = f"{n_left} rows of other symbols or bar lengths left out; rows are numbered among those read"
    return replace(sheet, table=table, grid=grid), [note]


def _text(column: Any) -> Any:
    text = pc.cast(column, pa.string())
    if isinstance(text, pa.ChunkedArray):
        text = text.combine_chunks()
        text = (
            pa.concat_arrays(text.chunks) if isinstance(text, pa.ChunkedArray) else text
        )
    return pc.utf8_trim_whitespace(text)


def _symbols(column: Any, symbol: str | None, n_rows: int) -> _Symbols:
    if symbol is not None or column is None:
        name = symbol or ""
        return _Symbols(
            pa.repeat(pa.scalar(name, pa.string()), n_rows),
            np.zeros(n_rows, dtype=np.int64),
            (name,),
            np.zeros(n_rows, dtype=np.bool_),
            (name,),
        )
    text = _text(column)
    encoded = text.dictionary_encode()
    codes = np.array(pc.fill_null(encoded.indices, -1), dtype=np.int64)
    names = [str(name) for name in encoded.dictionary.to_pylist()]
    is_bad = np.array(
        [not is_symbol(name) for name in names] + [True],  # the code -1 of a null
        dtype=np.bool_,
    )
    good = tuple(name for name, bad in zip(names, is_bad, strict=False) if not bad)
    return _Symbols(text, codes, good, is_bad[codes], tuple(names))


def _stated_timeframe(
    place: str, column: Any, plan: Plan, options: Options
) -> str | None:
    if column is None:
        return plan.timeframe
    found = {
        length
        for cell in pc.unique(_text(column)).to_pylist()
        if cell and (length := as_timeframe(cell))
    }
    if len(found) > 1:
        raise SourceError(
            f"{place}: holds bars of {', '.join(sorted(found))}; pass --timeframe"
        )
    return found.pop() if found else options.timeframe or plan.timeframe


def _numbers(
    sheet: Sheet, plan: Plan, options: Options, names: tuple[str, ...]
) -> tuple[dict[str, Numbers], float]:
    columns = {
        field: sheet.table.column(plan.columns[field])
        for field in (*PRICES, "volume")
        if field in plan.columns
    }
    mark = decimal_mark(
        sheet.place, [columns[field] for field in PRICES], stated=options.decimal
    )
    numbers = {
        field: _one_column(sheet, field, column, mark)
        for field, column in columns.items()
    }
    scale = options.scale or plan.scale
    if scale is None:
        alone = names[0] if len(names) == 1 else None
        scale = price_scale(
            sheet.place, [numbers[field].values for field in PRICES], alone
        )
    for field in PRICES:
        found = numbers[field]
        numbers[field] = replace(found, values=rescale(found.values, scale))
    return numbers, scale


def _one_column(sheet: Sheet, field: str, column: Any, mark: Any) -> Numbers:
    try:
        return to_numbers(column, decimal=mark)
    except SourceError as error:
        raise SourceError(f"{sheet.place}: {field}: {error}") from error


def _problems(
    sheet: Sheet,
    plan: Plan,
    symbols: _Symbols,
    times: BarTimes,
    numbers: dict[str, Numbers],
) -> dict[int, tuple[str, str]]:
    # Row number to (reason, detail); the first problem of a row stands.
    problems: dict[int, tuple[str, str]] = {}

    def note(mask: Mask, reason: str, details: Any) -> None:
        rows = np.flatnonzero(mask)
        if rows.size:
            for row, detail in zip(rows.tolist(), details(rows), strict=True):
                problems.setdefault(row, (reason, detail))

    def cells(field: str, rows: npt.NDArray[np.int64]) -> list[str]:
        column = sheet.table.column(plan.columns[field])
        return [_shown(cell) for cell in column.take(pa.array(rows)).to_pylist()]

    if sheet.grid is not None:
        note(
            sheet.grid.is_short,
            "field_missing",
            lambda rows: [f"fewer than {len(sheet.columns)} fields"] * len(rows),
        )
        if SURPLUS in sheet.columns:
            surplus = sheet.table.column(SURPLUS)
            note(
                ~np.array(pc.is_null(surplus), dtype=np.bool_),
                "value_unparsable",
                lambda rows: [
                    f"too many fields: {_shown(cell)} left over"
                    for cell in surplus.take(pa.array(rows)).to_pylist()
                ],
            )
    note(
        symbols.is_missing,
        "symbol_missing",
        lambda rows: [f"symbol {cell}" for cell in cells("symbol", rows)],
    )
    note(
        ~times.is_valid,
        "ts_unparsable",
        lambda rows: [
            f"{'ts'} {cell} {problem or 'is no time'}"
            for cell, problem in zip(
                _stamp_cells(sheet, plan, rows), times.problems[rows], strict=True
            )
        ],
    )
    for field in PRICES:
        found = numbers[field]
        note(
            found.is_empty,
            "field_missing",
            lambda rows, f=field: [f"{f} is empty"] * len(rows),
        )
        note(
            np.isnan(found.values),
            "price_not_a_number",
            lambda rows, f=field: [f"{f} {cell}" for cell in cells(f, rows)],
        )
    if "volume" in numbers:
        volume = numbers["volume"]
        note(
            np.isnan(volume.values) & ~volume.is_missing,
            "volume_not_a_number",
            lambda rows: [f"volume {cell}" for cell in cells("volume", rows)],
        )
    return problems


def _stamp_cells(sheet: Sheet, plan: Plan, rows: npt.NDArray[np.int64]) -> list[str]:
    at = pa.array(rows)
    parts = [
        python_cells(sheet.table.column(plan.columns[field]).take(at))
        for field in ("ts", "time")
        if field in plan.columns
    ]
    return [
        _shown(" ".join("" if cell is None else str(cell) for cell in row))
        for row in zip(*parts, strict=True)
    ]


def _shown(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _assemble(
    symbols: _Symbols,
    times: BarTimes,
    numbers: dict[str, Numbers],
    problems: dict[int, tuple[str, str]],
) -> pa.Table:
    n_rows = len(times.utc)
    arrays = {
        "symbol": pc.if_else(
            pa.array(symbols.is_missing), pa.scalar(None, pa.string()), symbols.column
        )
        if symbols.is_missing.any()
        else symbols.column,
        "ts": pa.array(times.utc, mask=~times.is_valid).cast(
            pa.timestamp("us", tz="UTC")
        ),
    }
    for field in (*PRICES, "volume"):
        if field in numbers:
            values = numbers[field].values
            arrays[field] = pa.array(values, mask=np.isnan(values))
        else:
            arrays[field] = pa.nulls(n_rows, pa.float64())
    for position, name in enumerate(("reason", "detail")):
        if problems:
            said: list[str | None] = [None] * n_rows
            for row, problem in problems.items():
                said[row] = problem[position]
            arrays[name] = pa.array(said, type=pa.string())
        else:
            arrays[name] = pa.nulls(n_rows, pa.string())
    return pa.table(arrays, schema=BAR_SCHEMA)


def _instruments(
    columns: dict[str, Any], symbols: _Symbols, plan: Plan
) -> tuple[InstrumentInfo, ...]:
    if "asset_class" in columns and "symbol" in columns:
        classes = _classes(columns["asset_class"], symbols)
        return tuple(
            InstrumentInfo(name, asset_class=classes[name])
            for name in symbols.names
            if name in classes
        )
    if plan.asset_class is None and plan.calendar is None and plan.currency is None:
        return ()
    return tuple(
        InstrumentInfo(
            name,
            asset_class=plan.asset_class,
            calendar=plan.calendar,
            currency=plan.currency,
        )
        for name in symbols.names
    )


def _classes(column: Any, symbols: _Symbols) -> dict[str, str]:
    # The one valid asset class that each symbol's rows state.
    encoded = _text(column).dictionary_encode()
    codes = np.array(pc.fill_null(encoded.indices, -1), dtype=np.int64) + 1
    width = len(encoded.dictionary) + 1
    seen = np.bincount((symbols.groups + 1) * width + codes)
    classes: dict[str, str] = {}
    for cell in np.flatnonzero(seen).tolist():
        group, code = divmod(cell, width)
        name = encoded.dictionary[code - 1].as_py() if code else None
        if group and name in ASSET_CLASSES:
            classes.setdefault(symbols.every[group - 1], name)
    return classes
