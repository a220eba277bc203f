"""The aligned panel of a lake, with what sleeves may look at beside bars."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.moments import NoBarsError, decision_moment
from flows.runs import Run
from lab.arrays import AnyArray, FloatArray, TimeArray
from lab.backtest.context import forecast_grid, surprise_grid
from lab.backtest.ledger import Trial, trial_tables
from lab.backtest.panel import AlignedPanel, ForecastGrid, is_traded
from lab.bars.panel import Panel, instruments_by_symbol
from lab.bars.timeframes import step, to_instant, to_moment
from lab.features.releases import COLUMNS
from lakehouse.errors import InputError
from lakehouse.schema.forecasts import ML_PREDICTIONS

WARM_UP: Final = {"1d": timedelta(days=3 * 365), "1h": timedelta(days=365)}
"""Bars read before the years asked for: the longest look back of a sleeve's variants."""

_BARS: Final = (
    "symbol",
    "timeframe",
    "ts",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "flags",
)
_BULKY: Final = frozenset(["samples", "quantiles"])


def open_panel(
    run: Run,
    *,
    timeframe: str,
    as_of: str | None,
    years: float,
    symbols: Sequence[str] | None = None,
    since: datetime | None = None,
) -> AlignedPanel:
    """Return the bars, forecasts and surprises that were known at a moment.

    The moment goes into the run's parameters. Without `as_of` it is when the newest bar
    was known, not the clock's now: the same bars give the same panel tomorrow. Bars of
    what is not in the panel, such as leaders, do not count.

    Parameters
    ----------
    run : Run
        Where to read.
    timeframe : str
        `1h` or `1d`.
    as_of : str or None
        Decision time.
    years : float
        How far back; `WARM_UP` comes before it.
    symbols : sequence of str, optional
        Only these; else everything that can be traded and is no leader.
    since : datetime, optional
        The first bar to read, instead of counting `years` back from the newest: what is
        latched along the way then begins at one place whenever it is asked for.

    Returns
    -------
    AlignedPanel
        With the forecasts of every model that has any.

    Raises
    ------
    InputError
        If `as_of` is not a time or later than now, a symbol has no bars, or no bar was
        known by then.

    Notes
    -----
    Point in time: bars, forecasts and releases known by the moment; each row holds what
    was known by its own `known_ts`.
    """
    step(timeframe)
    limit = decision_moment(run, as_of)
    asked = _traded(run) if symbols is None else symbols
    newest = _newest_open(run, timeframe, limit, asked)
    counted = newest - timedelta(days=365.25 * years) - WARM_UP[timeframe]
    floor = counted if since is None else since
    bars = _read_bars(run, timeframe, floor, limit, asked)
    missing = sorted(set(symbols or ()) - set(bars.series))
    if missing:
        raise InputError(f"no {timeframe} bars of {', '.join(missing)}")
    if as_of is None:
        limit = _newest_known(bars, limit)
    run.parameters |= {"timeframe": timeframe, "as_of": limit.isoformat()}
    panel = AlignedPanel.from_bars(bars, as_of=limit, symbols=symbols)
    return _with_context(run, panel)


def content_hash(panel: AlignedPanel) -> str:
    """Return the SHA-256 of everything in a panel."""
    digest = hashlib.sha256()
    words = (panel.timeframe, *panel.symbols, *panel.asset_classes, *panel.calendars)
    digest.update("\n".join(words).encode())
    for name in ("ts", "known_ts", "open", "high", "low", "close", "volume"):
        _add(digest, getattr(panel, name))
    for array in (panel.is_break, panel.delisted, panel.surprises):
        _add(digest, array)
    for model, grid in sorted(panel.forecasts.items()):
        digest.update(model.encode())
        _add(digest, grid.move)
        _add(digest, grid.width)
    return digest.hexdigest()


def append_trials(
    run: Run,
    trials: Sequence[Trial],
    *,
    family: str,
    origin: str,
    days: TimeArray,
    run_id: str | None = None,
) -> int:
    """Enter trials in the ledger, each once however often it is tried.

    Parameters
    ----------
    run : Run
        Where to write.
    trials : sequence of Trial
        What was tried.
    family, origin, days
        See `lab.backtest.ledger.trial_tables`.
    run_id : str, optional
        The job that tried, where it is not this run.

    Returns
    -------
    int
        How many were new.
    """
    rows, returns = trial_tables(
        trials,
        family=family,
        origin=origin,
        days=days,
        tried_at=run.now,
        run_id=run_id or run.run_id,
    )
    # Returns first: a trial that is listed has returns, whatever was killed between.
    _append_new(run, "trial_returns", returns, family)
    return _append_new(run, "trials", rows, family)


def _append_new(run: Run, table: str, rows: pa.Table, family: str) -> int:
    # What is stored stays: a family's first word on a configuration counts.
    stored = run.workplace.lake.read(
        table, columns=["trial_id"], filter=pc.field("family") == family
    )
    known = stored["trial_id"].combine_chunks().cast(rows["trial_id"].type)
    fresh = rows.filter(pc.invert(pc.is_in(rows["trial_id"], value_set=known)))
    if fresh.num_rows == 0:
        return 0
    ids = "\n".join(sorted(fresh["trial_id"].to_pylist()))
    window = f"ledger/{table}/{hashlib.sha256(ids.encode()).hexdigest()}"
    return run.append(table, fresh, window=window).n_rows


def _traded(run: Run) -> list[str]:
    known = instruments_by_symbol(run.read("instruments"))
    return sorted(name for name, one in known.items() if is_traded(one))


def _newest_open(
    run: Run, timeframe: str, limit: datetime, symbols: Collection[str]
) -> datetime:
    wanted = _bars_of(symbols, timeframe) & (pc.field("ts") < _scalar(limit))
    opens = run.read("ohlcv", columns=["ts"], filter=wanted)["ts"]
    if len(opens) == 0:
        raise NoBarsError(
            f"no {timeframe} bars known by {limit.isoformat()}; "
            "run `alphalake ingest ohlcv` first"
        )
    newest: datetime = pc.max(opens).as_py()
    return newest


def _read_bars(
    run: Run,
    timeframe: str,
    floor: datetime,
    limit: datetime,
    symbols: Collection[str],
) -> Panel:
    wanted = (
        _bars_of(symbols, timeframe)
        & (pc.field("ts") >= _scalar(floor))
        & (pc.field("ts") < _scalar(limit))
    )
    return Panel.from_tables(
        run.read("ohlcv", columns=list(_BARS), filter=wanted),
        run.read("instruments"),
        timeframe=timeframe,
    )


def _bars_of(symbols: Collection[str], timeframe: str) -> pc.Expression:
    names = pa.array(sorted(symbols), pa.string())
    return (pc.field("timeframe") == timeframe) & pc.field("symbol").isin(names)


def _newest_known(bars: Panel, limit: datetime) -> datetime:
    # Newest moment up to the limit at which a bar was known.
    bound = to_instant(limit)
    known = [times[times <= bound][-1:] for times in bars.known.values()]
    newest = np.concatenate([np.zeros(0, dtype="datetime64[us]"), *known])
    return limit if len(newest) == 0 else to_moment(newest.max())


def _with_context(run: Run, panel: AlignedPanel) -> AlignedPanel:
    return replace(
        panel, forecasts=_forecasts(run, panel), surprises=_surprises(run, panel)
    )


def _forecasts(run: Run, panel: AlignedPanel) -> dict[str, ForecastGrid]:
    rows = run.read(
        "ml_predictions",
        columns=[one.name for one in ML_PREDICTIONS.columns if one.name not in _BULKY],
        filter=(pc.field("timeframe") == panel.timeframe)
        & pc.field("symbol").isin(list(panel.symbols))
        & (pc.field("as_of") <= _scalar(to_moment(panel.known_ts[-1]))),
    )
    found = {}
    for model in sorted(pc.unique(rows["model_name"]).to_pylist()):
        grid = forecast_grid(rows, panel, model)
        if np.isfinite(grid.move).any():
            found[model] = grid
    return found


def _surprises(run: Run, panel: AlignedPanel) -> FloatArray:
    releases = run.read("economic_calendar", columns=list(COLUMNS))
    homes = {
        row["symbol"]: row["currency"]
        for row in run.read(
            "instruments", columns=["symbol", "asset_class", "currency"]
        ).to_pylist()
        if row["currency"] is not None and row["asset_class"] not in {"fx", "crypto"}
    }
    return surprise_grid(releases, panel, currencies=homes)


def _scalar(moment: datetime) -> pa.Scalar:
    return pa.scalar(moment, pa.timestamp("us", tz="UTC"))


def _add(digest: "hashlib._Hash", array: AnyArray) -> None:
    digest.update(f"{array.dtype}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
