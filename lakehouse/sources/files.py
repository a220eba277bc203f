"""Bars from files: every dialect behind one call.

Rules kept: the whole input is checked before the first row is handed out, so one bad
file refuses all; every row of a file is handed out, in its order, with a reason where it
cannot be read; whatever was inferred is said in `notes`; what cannot be known is asked
for. Nothing is written here.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from lakehouse.errors import SourceError
from lakehouse.sources._base import InstrumentInfo, RawBars
from lakehouse.sources._names import NameHint, read_name
from lakehouse.sources._opening import arrow_errors, open_sheets
from lakehouse.sources._reading import Reading, read_sheet
from lakehouse.sources._unpack import digest, read_file
from lakehouse.sources.dialects import (
    generic,
    klines,
    lean,
    metatrader,
    parquet_layout,
)
from lakehouse.sources.dialects._base import Options, Plan, Sheet

READER_VERSION: Final = (
    2  # part of every window: raise it when rows would read otherwise
)
_KEPT_BYTES: Final = 1024**3  # bytes of rows held between checking and handing out
_PLANS: Final = {
    "alphalake": parquet_layout.plan,
    "klines": klines.plan,
    "lean": lean.plan,
    "metatrader": metatrader.plan,
    "generic": generic.plan,
}
_RECOGNISERS: Final = (
    ("alphalake", parquet_layout.recognises),
    ("klines", klines.recognises),
    ("lean", lean.recognises),
    ("metatrader", metatrader.recognises),
)


def read_bars(
    path_glob: str | Path,
    *,
    dialect: str = "auto",
    symbols: Sequence[str] | str | None = None,
    timeframe: str | None = None,
    timezone: str | None = None,
    columns: Mapping[str, str] | str | None = None,
) -> Iterator[RawBars]:
    """Read the bars of every file that a pattern matches.

    Parameters
    ----------
    path_glob : str or Path
        A file, or a pattern such as `data/*_1h.csv`; `**` reaches into folders.
    dialect : str, default 'auto'
        `alphalake`, `klines`, `lean`, `metatrader`, `generic`, or by content.
    symbols : sequence of str, or str with commas, optional
        The symbol of a file that names none; a selection where files name theirs.
    timeframe : str, optional
        `1h` or `1d`; else stated by the file, or by name and spacing.
    timezone : str, optional
        IANA name or `±HH:MM` of clocks that state no zone.
    columns : mapping of str to str, or str `field=column,…`, optional
        Fields ts, date, time, open, high, low, close, volume, symbol, timeframe,
        asset_class to column names or 1-based numbers; and the settings `scale` (what
        prices are too large by), `dates` (dmy or mdy) and `decimal` (. or ,).

    Returns
    -------
    iterator of RawBars
        One per file, in the order of their paths. All files are read and checked before
        this returns.

    Raises
    ------
    InputError
        If an argument is not one of those allowed.
    SourceError
        If a file cannot be read as bars, or something needed is unknown.

    Notes
    -----
    Point in time: `ts` is a bar's open in UTC, a daily bar's session date at 00:00; the
    reader drops no unfinished or future bar, which is the intake's to judge.
    """
    options = Options.parse(
        dialect=dialect,
        symbols=symbols,
        timeframe=timeframe,
        timezone=timezone,
        columns=columns,
    )
    paths = find_files(path_glob)
    inputs = _check_all(paths, options)
    return _hand_out(inputs, options)


def find_files(path_glob: str | Path) -> list[Path]:
    """Return the files that a path or pattern names, sorted.

    Raises
    ------
    SourceError
        If there is none, or it is a directory.
    """
    pattern = str(Path(path_glob).expanduser())
    if "\0" in pattern:
        raise SourceError(f"--path: {pattern!r} is no path")
    _check_name(pattern)
    path = Path(pattern)
    anchor = Path(path.anchor) if path.anchor else Path()
    try:
        if path.is_dir():
            raise SourceError(f"{path}: a directory; pass a glob, e.g. {path}/*.csv")
        if path.exists():
            return [path]
        found = sorted(anchor.glob(str(path.relative_to(anchor))))
    except OSError as error:
        raise SourceError(f"--path: {pattern[:80]}: {error.strerror}") from error
    except (ValueError, NotImplementedError, IndexError) as error:
        raise SourceError(f"{pattern}: no valid pattern: {error}") from error
    files = [match for match in found if not match.is_dir()]
    if not files:
        raise SourceError(f"{pattern}: no such file, and no file matches the pattern")
    for file in files:
        _check_name(str(file))
    return files


def _check_name(name: str) -> None:
    # Sources and runs are recorded under it, as text.
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = name.encode("utf-8", "backslashreplace").decode()
        raise SourceError(f"--path: {shown}: not UTF-8; rename the file") from error


@dataclass(slots=True)
class _Input:
    # One file: its names are settled for all files before any is read in full.
    path: Path
    sha256: str
    names: list[NameHint | None]  # per sheet; None where the sheet names its symbols
    symbols: list[str | None]
    planned: list[tuple[Sheet, Plan]] | None = None  # kept while memory allows
    raw: RawBars | None = None


def _check_all(paths: list[Path], options: Options) -> list[_Input]:
    inputs: list[_Input] = []
    errors: list[SourceError] = []
    kept = 0
    for path in paths:
        try:
            data = read_file(path)
            with arrow_errors(path):
                planned = _plan_sheets(path, data, options)
        except SourceError as error:
            errors.append(error)
            continue
        names = [_name_hint(sheet, plan) for sheet, plan in planned]
        item = _Input(path, digest(data), names, [None] * len(names))
        kept += sum(sheet.table.nbytes for sheet, _ in planned)
        if kept <= _KEPT_BYTES:
            item.planned = planned
        inputs.append(item)
    _refuse(errors)
    inputs = _assign_symbols(inputs, options)
    kept = 0
    for item in inputs:
        try:
            with arrow_errors(item.path):
                raw = _read_input(item, options)
        except SourceError as error:
            errors.append(error)
            continue
        kept += raw.bars.nbytes + raw.original.nbytes
        if kept <= _KEPT_BYTES:
            item.raw = raw
    _refuse(errors)
    return inputs


def _refuse(errors: list[SourceError]) -> None:
    if len(errors) > 1:
        raise SourceError(f"{errors[0]} (and {len(errors) - 1} more refused files)")
    if errors:
        raise errors[0]


def _hand_out(inputs: list[_Input], options: Options) -> Iterator[RawBars]:
    for item in inputs:
        raw, item.raw = item.raw, None
        yield raw if raw is not None else _read_input(item, options)


def _plan_sheets(path: Path, data: bytes, options: Options) -> list[tuple[Sheet, Plan]]:
    return [(sheet, _plan(sheet, options)) for sheet in open_sheets(path, data)]


def _plan(sheet: Sheet, options: Options) -> Plan:
    if options.dialect != "auto":
        return _PLANS[options.dialect](sheet, options)
    if not options.columns:
        for name, recognises in _RECOGNISERS:
            if recognises(sheet):
                return _PLANS[name](sheet, options)
    return generic.plan(sheet, options)


def _name_hint(sheet: Sheet, plan: Plan) -> NameHint | None:
    if "symbol" in plan.columns:
        return None
    if plan.symbol is not None:
        return NameHint(plan.symbol, (plan.symbol,), None)
    inner = read_name(sheet.name)
    return inner if inner.candidates else read_name(sheet.path.name)


def _assign_symbols(inputs: list[_Input], options: Options) -> list[_Input]:
    # Every sheet without a symbol column gets its one symbol, or the input is refused.
    open_sheets = [
        (item, i) for item in inputs for i, hint in enumerate(item.names) if hint
    ]
    asked = options.symbols
    matched = [
        (item, i)
        for item, i in open_sheets
        if (hint := item.names[i]) and set(hint.candidates) & set(asked)
    ]
    if asked and matched:
        return _assign_matching(inputs, set(asked))
    for item, i in open_sheets:
        hint = item.names[i]
        if asked:
            item.symbols[i] = _only(
                asked, item.path, n_sheets=len(open_sheets), hint=hint
            )
        elif hint is not None:
            item.symbols[i] = _inferred(item.path, hint)
    return inputs


def _assign_matching(inputs: list[_Input], asked: set[str]) -> list[_Input]:
    kept = []
    for item in inputs:
        hits = [
            hint is None or bool(set(hint.candidates) & asked) for hint in item.names
        ]
        for i, hint in enumerate(item.names):
            found = [name for name in hint.candidates if name in asked] if hint else []
            if len(found) > 1:
                raise SourceError(
                    f"{item.path}: its name holds {', '.join(found)}; pass one --symbols"
                )
            item.symbols[i] = found[0] if found else None
        if any(hits):
            kept.append(item)
    return kept


def _only(
    asked: tuple[str, ...], path: Path, *, n_sheets: int, hint: NameHint | None
) -> str:
    is_other = hint is not None and hint.symbol is not None
    if len(asked) == 1 and (n_sheets == 1 or not is_other):
        return asked[0]
    raise SourceError(
        f"{path}: holds no symbol column and its name names none of --symbols "
        f"{', '.join(asked)}; read such files one by one, each with its --symbols"
    )


def _inferred(path: Path, hint: NameHint) -> str:
    if hint.symbol is not None:
        return hint.symbol
    why = (
        f"its name could mean {', '.join(hint.candidates)}"
        if hint.candidates
        else "its name names none"
    )
    raise SourceError(f"{path}: no symbol column, and {why}; pass --symbols")


def _read_input(item: _Input, options: Options) -> RawBars:
    planned, item.planned = item.planned, None
    if planned is None:
        data = read_file(item.path)
        if digest(data) != item.sha256:
            raise SourceError(f"{item.path}: changed while it was read")
        planned = _plan_sheets(item.path, data, options)
    readings: list[Reading] = []
    notes: list[str] = []
    for i, (sheet, plan) in enumerate(planned):
        symbol, hint = item.symbols[i], item.names[i]
        if hint is not None and symbol is None:
            notes.append(f"{sheet.place}: left out by --symbols")
            continue
        reading = read_sheet(sheet, plan, options, symbol=symbol)
        if len(item.names) > 1:
            first = sum(part.bars.num_rows for part in readings) + 1
            last = first + reading.bars.num_rows - 1
            notes.append(f"rows {first} to {last} are {sheet.name}")
        if symbol is not None and sheet.grid and sheet.grid.symbol == symbol:
            notes.append(f"symbol {symbol} by the header")
        elif symbol is not None and (note := _symbol_note(symbol, hint, options)):
            notes.append(note)
        readings.append(reading)
    return _merge(item.path, item.sha256, readings, notes)


def _symbol_note(symbol: str, hint: NameHint | None, options: Options) -> str | None:
    if hint is not None and symbol in hint.candidates and symbol not in options.symbols:
        return f"symbol {symbol} by the file name"
    if hint is not None and hint.symbol is not None and hint.symbol != symbol:
        return f"symbol {symbol} as asked, though the file name reads {hint.symbol}"
    return None


def _merge(
    path: Path, sha256: str, readings: list[Reading], notes: list[str]
) -> RawBars:
    lengths = sorted({reading.timeframe for reading in readings})
    if len(lengths) > 1:
        raise SourceError(
            f"{path}: holds bars of {' and '.join(lengths)}; pass --timeframe or split it"
        )
    infos: dict[str, InstrumentInfo] = {
        info.symbol: info for reading in readings for info in reading.instruments
    }
    resolved = [reading.resolved for reading in readings]
    identity = json.dumps(
        {"reader": READER_VERSION, "sheets": resolved},
        sort_keys=True,
        separators=(",", ":"),
    )
    dialects = sorted({part["dialect"] for part in resolved})
    said = [note for reading in readings for note in reading.notes]
    return RawBars(
        source=f"files:{path.name}@{sha256[:8]}",
        window=f"sha256:{sha256}:{digest(identity.encode())}",
        timeframe=lengths[0],
        bars=pa.concat_tables([reading.bars for reading in readings]),
        original=pa.concat_tables(
            [reading.original for reading in readings], promote_options="permissive"
        ),
        instruments=tuple(infos.values()),
        notes=tuple(dict.fromkeys([f"dialect {', '.join(dialects)}", *notes, *said])),
    )
