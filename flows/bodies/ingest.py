"""Bring bars and releases in."""

from collections.abc import Iterable, Mapping, Sequence

from flows.bodies.sources import BarRequest, open_source, split_symbols
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
        As in `BarRequest`; source, path and symbols come from `ALPHALAKE_SOURCE`,
        `ALPHALAKE_BARS` and `ALPHALAKE_SYMBOLS` if not given.

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
    run.note_written(_BAR_TABLES)
    return _sum_up(run, reports, f"{request.source}: ")


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
    return _sum_up(run, reports, "calendar: ")


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
    return BarRequest(
        chosen,
        timeframe=timeframe,
        path=path or (settings.bars if chosen == "files" else None),
        symbols=None if wanted is None else tuple(wanted),
        options=dict(options or {}),
    )


def _sum_up(run: Run, reports: Sequence[IntakeReport], label: str) -> str:
    for report in reports:
        for line in (*report.notes, *report.registered):
            run.notes.append(line)
        run.count("rows_read", report.n_read)
        run.count("rows_good", report.n_good)
        run.count("rows_written", report.n_written)
        run.count("rows_corrected", report.n_corrected)
        run.count("rows_quarantined", report.n_quarantined)
        run.count("rows_held_back", report.n_held_back)
        for reason, n_rows in report.reasons.items():
            run.count(f"quarantined_{reason}", n_rows)
    counts = {name: run.counts.get(f"rows_{name}", 0) for name in _TOLD}
    told = ", ".join(
        f"{name.replace('_', ' ')} {n}"
        for name, n in counts.items()
        if n or name in _ALWAYS
    )
    return f"{label}{told}"


_TOLD = ("read", "good", "quarantined", "held_back", "written", "corrected")
_ALWAYS = {"read", "good", "quarantined", "written"}
