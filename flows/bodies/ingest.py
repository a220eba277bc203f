"""Bring bars and releases in."""

import json
from collections.abc import Iterable, Mapping, Sequence

from flows.bodies.sources import (
    BarRequest,
    open_source,
    split_symbols,
    synthetic_arguments,
)
from flows.progress import track
from flows.runs import Run
from flows.settings import load_flow_settings
from lakehouse.intake import IntakeReport, take_bars, take_releases
from lakehouse.sources._base import RawBars

_BAR_TABLES = ("ohlcv", "quarantine", "instruments")
_RELEASE_TABLES = ("economic_calendar", "quarantine")


def ingest_bars(
    run: Run,
    *,
    source: str | None = None,
    timeframe: str | None = None,
    path: str | None = None,
    symbols: Sequence[str] | None = None,
    options: Mapping[str, str] | None = None,
) -> str:
    """Read bars, screen them, write what is good and quarantine the rest.

    Parameters
    ----------
    run : Run
        Where to write.
    source, timeframe, path, symbols, options
        As in `BarRequest`; source, path, symbols and exchange come from
        `ALPHALAKE_SOURCE`, `ALPHALAKE_BARS`, `ALPHALAKE_SYMBOLS` and
        `ALPHALAKE_EXCHANGE` if not given.

    Raises
    ------
    InputError
        If the request or the whole input cannot be used.
    SourceUnavailableError
        If a remote source does not answer.

    Notes
    -----
    Point in time: a bar is complete when `ts + timeframe` <= now.
    """
    request = _request(source, timeframe, path, symbols, options)
    run.parameters = {
        "source": request.source,
        "timeframe": request.timeframe,
        "path": request.path,
        "symbols": request.symbols,
        "options": dict(request.options),
    }
    if source is None and request.source == "sample" and timeframe == "1h":
        return "the sample has daily bars only; ALPHALAKE_SOURCE names another source"
    clock, lake = run.workplace.clock, run.workplace.lake
    asset_class = request.options.get("asset_class")
    raws: Iterable[RawBars] = (
        run.fetch(lambda: list(open_source(request, clock=clock)))
        if request.is_remote
        else open_source(request, clock=clock)
    )
    reports = [
        run.commit(
            lambda raw=raw: take_bars(  # type: ignore[misc]
                lake, raw, run_id=run.run_id, asset_class=asset_class
            )
        )
        for raw in track(raws, f"ingest {request.source}")
    ]
    told = _sum_up(run, reports, request.source)
    if request.source == "synthetic":
        told += "; " + add_synthetic_truth(run, request)
    run.note_written(_BAR_TABLES)
    return told


def add_synthetic_truth(run: Run, request: BarRequest) -> str:
    """Store the synthetic market's releases; write its truth under `truth/`.

    Returns
    -------
    str
        What became of the releases.
    """
    from lakehouse.sources.synthetic import load_calendar, truth

    lake, now = run.workplace.lake, run.now
    arguments = synthetic_arguments(request)
    timeframe = request.timeframe or "1d"
    reports = [
        run.commit(
            lambda raw=raw: take_releases(lake, raw, run_id=run.run_id)  # type: ignore[misc]
        )
        for raw in load_calendar(now=now, **arguments)
    ]
    content = json.dumps(
        truth(timeframe=timeframe, now=now, **arguments), indent=1, sort_keys=True
    )
    path = lake.location.path("truth", f"synthetic_{timeframe}.json")
    lake.location.write_bytes(path, content.encode())
    run.notes.append(f"what is true of this market: {path}")
    run.note_written(["economic_calendar"])
    return _sum_up(run, reports, "releases")


def ingest_releases(
    run: Run, *, path: str | None = None, timezone: str | None = None
) -> str:
    """Read economic releases, write what is good and quarantine the rest.

    Parameters
    ----------
    run : Run
        Where to write.
    path : str, optional
        File; `ALPHALAKE_CALENDAR` if not given.
    timezone : str, optional
        IANA name or ±HH:MM, where the file does not state it.

    Raises
    ------
    InputError
        If the file cannot be read as releases.

    Notes
    -----
    Point in time: `actual` is stored as null until its release.
    """
    chosen = path or load_flow_settings().calendar
    run.parameters = {"path": chosen, "timezone": timezone}
    if chosen is None:
        return "no calendar file: give --path or set ALPHALAKE_CALENDAR"
    from lakehouse.sources.calendars import read_releases

    lake = run.workplace.lake
    reports = [
        run.commit(
            lambda raw=raw: take_releases(lake, raw, run_id=run.run_id)  # type: ignore[misc]
        )
        for raw in track(read_releases(chosen, timezone=timezone), "ingest calendar")
    ]
    run.note_written(_RELEASE_TABLES)
    return _sum_up(run, reports, "releases")


def _request(
    source: str | None,
    timeframe: str | None,
    path: str | None,
    symbols: Sequence[str] | None,
    options: Mapping[str, str] | None,
) -> BarRequest:
    settings = load_flow_settings()
    chosen = source or ("files" if path is not None else settings.source)
    wanted = symbols if symbols is not None else split_symbols(settings.symbols)
    chosen_options = dict(options or {})
    if chosen == "ccxt" and settings.exchange:
        chosen_options.setdefault("exchange", settings.exchange)
    return BarRequest(
        chosen,
        timeframe=timeframe,
        path=path or (settings.bars if chosen == "files" else None),
        symbols=None if wanted is None else tuple(wanted),
        options=chosen_options,
    )


def _sum_up(run: Run, reports: Sequence[IntakeReport], label: str) -> str:
    """Count what became of the inputs, note what to say, and return one line."""
    counts = {
        "read": sum(report.n_read for report in reports),
        "good": sum(report.n_good for report in reports),
        "quarantined": sum(report.n_quarantined for report in reports),
        "held_back": sum(report.n_held_back for report in reports),
        "written": sum(report.n_written for report in reports),
        "corrected": sum(report.n_corrected for report in reports),
    }
    kind = "releases" if label == "releases" else "rows"
    for name, n_rows in counts.items():
        run.count(f"{kind}_{name}", n_rows)
    for report in reports:
        run.notes += report.notes
        for reason, n_rows in report.reasons.items():
            run.count(f"quarantined_{reason}", n_rows)
    run.notes += _registrations([line for r in reports for line in r.registered])
    told = ", ".join(
        f"{name.replace('_', ' ')} {n_rows}"
        for name, n_rows in counts.items()
        if n_rows or name in _ALWAYS_TOLD
    )
    return f"{label}: {told}"


def _registrations(lines: Sequence[str]) -> list[str]:
    if len(lines) <= _MAX_LINES:
        return list(lines)
    rest = len(lines) - _MAX_LINES
    return [*lines[:_MAX_LINES], f"and {rest} more symbols, see table `instruments`"]


_ALWAYS_TOLD = {"read", "good", "quarantined", "written"}
_MAX_LINES = 5
