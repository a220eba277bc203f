"""Forecast every listed symbol once per decision time."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.progress import track
from flows.runs import Run
from lab.bars.calendars import latest_panel_known_ts
from lab.bars.panel import Panel, instruments_by_symbol
from lab.bars.timeframes import step, to_instant, to_moment
from lab.forecasters._base import Forecast, Forecaster, ForecastSkip
from lab.forecasters.batches import forecast_panel
from lab.forecasters.frames import predictions_table
from lab.forecasters.paths import check_request
from lab.forecasters.registry import FORECASTERS, make_forecaster
from lakehouse.clock import parse_moment
from lakehouse.errors import InputError

DEFAULT_HORIZON = 120
DEFAULT_SAMPLES = 20
# Bars are read back this many times the context's length: markets close at night and
# on weekends, an exchange is open 32 of a week's 168 hours.
SPAN_FACTOR = {"1h": 6.0, "1d": 1.6}


class NoBarsError(InputError):
    """There is nothing to decide on."""


@dataclass(frozen=True, slots=True)
class ForecastPlan:
    """What to forecast, every default resolved.

    Attributes
    ----------
    model, timeframe : str
        Registered forecaster and bar length.
    symbols : tuple of str or None
        Only these; None for every listed symbol that is no leader.
    as_ofs : tuple of datetime
        Decision times, oldest first, UTC.
    horizon, samples, seed : int
        Bars ahead, paths kept, seed.
    done : frozenset of (str, datetime)
        Symbol and decision time of what is stored already.
    """

    model: str
    timeframe: str
    symbols: tuple[str, ...] | None
    as_ofs: tuple[datetime, ...]
    horizon: int = DEFAULT_HORIZON
    samples: int = DEFAULT_SAMPLES
    seed: int = 0
    done: frozenset[tuple[str, datetime]] = field(default_factory=frozenset)


def forecast_closes(
    run: Run,
    *,
    timeframe: str,
    model: str = "naive",
    symbols: Sequence[str] | None = None,
    as_of: str | None = None,
    horizon: int | None = None,
    samples: int | None = None,
    seed: int = 0,
    earlier: int = 0,
    every: int = 1,
) -> str:
    """Forecast with one model or several, one commit for each.

    Parameters
    ----------
    run : Run
        Where to read and write.
    timeframe : str
        `1h` or `1d`.
    model : str
        A registered forecaster, or several joined by commas.
    symbols : sequence of str, optional
        Only these; every listed symbol that is no leader if not given.
    as_of : str, optional
        Decision time; the panel's newest complete bar if not given.
    horizon, samples, seed : int, optional
        Bars ahead, paths kept, seed.
    earlier : int
        Also forecast as of this many earlier moments.
    every : int
        Days between these moments: trading days for daily bars.

    Raises
    ------
    InputError
        If there are no bars, or a symbol has none.
    ForecastError
        If a number is out of range.

    Notes
    -----
    Point in time: a forecast reads only bars with `known_ts` <= its `as_of`.
    """
    check_request(
        horizon=horizon or DEFAULT_HORIZON,
        n_samples=samples or DEFAULT_SAMPLES,
        seed=seed,
    )
    names = [name.strip() for name in model.split(",") if name.strip()]
    if not names:
        raise InputError(f"--model: name one of {', '.join(FORECASTERS)}")
    forecasters = {name: make_forecaster(name) for name in names}
    moments = decision_times(
        run, timeframe, symbols=symbols, as_of=as_of, earlier=earlier, every=every
    )
    run.seeds["forecast"] = seed
    run.parameters = {
        "model": ",".join(names),
        "timeframe": timeframe,
        "symbols": None if symbols is None else list(symbols),
        "as_ofs": [moment.isoformat() for moment in moments],
        "horizon": horizon or DEFAULT_HORIZON,
        "samples": samples or DEFAULT_SAMPLES,
        "seed": seed,
    }
    lines = []
    for name, forecaster in forecasters.items():
        plan = ForecastPlan(
            name,
            timeframe,
            None if symbols is None else tuple(symbols),
            tuple(moments),
            horizon or DEFAULT_HORIZON,
            samples or DEFAULT_SAMPLES,
            seed,
            stored_forecasts(run, forecaster, timeframe, moments, seed=seed),
        )
        lines.append(_forecast_one(run, forecaster, plan))
    return "; ".join(lines)


def forecast_baselines(run: Run, *, timeframe: str) -> str:
    """Forecast with every baseline; a lake without such bars has nothing to do.

    Parameters
    ----------
    run : Run
        Where to read and write.
    timeframe : str
        `1h` or `1d`.
    """
    try:
        return forecast_closes(run, timeframe=timeframe, model="naive,seasonal")
    except NoBarsError as error:
        return f"nothing to forecast: {error}"


def _forecast_one(run: Run, forecaster: Forecaster, plan: ForecastPlan) -> str:
    forecasts, skips = compute_forecasts(run, forecaster, plan)
    label = f"{plan.model} {plan.timeframe}"
    for skip in skips:
        run.notes.append(f"{label}: {skip.symbol} not forecast: {skip.reason}")
    if not forecasts:
        return (
            f"{label}: nothing new as of {plan.as_ofs[-1]:%Y-%m-%d %H:%M};"
            " stored forecasts stay as they are"
        )
    rows = predictions_table(forecasts, generated_at=run.now, run_id=run.run_id)
    windows = forecast_windows(forecasts)
    written = run.append("ml_predictions", rows, window=windows)
    run.count("forecasts", written.n_rows)
    return (
        f"{label}: {written.n_rows} forecasts, {len(windows)} as-ofs"
        f" up to {plan.as_ofs[-1]:%Y-%m-%d %H:%M}"
    )


def compute_forecasts(
    run: Run, forecaster: Forecaster, plan: ForecastPlan
) -> tuple[list[Forecast], list[ForecastSkip]]:
    """Forecast what `plan` asks for and is not done; nothing is written.

    Returns
    -------
    forecasts : list of Forecast
        By decision time, then symbol.
    skips : list of ForecastSkip
        Symbols that could not be forecast at the newest decision time.
    """
    panel = read_panel(run, plan, context=forecaster.context)
    found: list[Forecast] = []
    skips: list[ForecastSkip] = []
    for moment in track(
        plan.as_ofs, f"forecast {plan.model} {plan.timeframe}", total=len(plan.as_ofs)
    ):
        series = [
            one
            for one in panel.as_of(
                moment, context=forecaster.context, symbols=plan.symbols
            )
            if (one.symbol, moment) not in plan.done
        ]
        if not series:
            continue
        batch = forecast_panel(
            forecaster,
            series,
            as_of=moment,
            horizon=plan.horizon,
            n_samples=plan.samples,
            seed=plan.seed,
        )
        found += batch.forecasts
        skips = batch.skips if moment == plan.as_ofs[-1] else skips
    return found, skips


def read_panel(run: Run, plan: ForecastPlan, *, context: int) -> Panel:
    """Read the bars that the plan's decision times can look at."""
    bar = timedelta(microseconds=int(step(plan.timeframe).astype(np.int64)))
    floor = plan.as_ofs[0] - bar * (context + 1) * SPAN_FACTOR[plan.timeframe]
    wanted = (
        (pc.field("timeframe") == plan.timeframe)
        & (pc.field("ts") >= _scalar(floor))
        & (pc.field("ts") < _scalar(plan.as_ofs[-1]))
    )
    if plan.symbols is not None:
        wanted &= pc.field("symbol").isin(list(plan.symbols))
    return Panel.from_tables(
        run.read("ohlcv", filter=wanted),
        run.read("instruments"),
        timeframe=plan.timeframe,
    )


def decision_times(
    run: Run,
    timeframe: str,
    *,
    symbols: Sequence[str] | None,
    as_of: str | None,
    earlier: int,
    every: int = 1,
) -> list[datetime]:
    """Return the decision times of a request, oldest first.

    The newest is `as_of`, else the newest moment up to now at which a bar of the panel
    was known; on daily bars the panel's latest market is waited for. `earlier` adds
    that many moments before it, `every` days apart (trading days for daily bars).

    Raises
    ------
    InputError
        If `as_of` is not a time or later than now, or there are no bars to decide on.

    Notes
    -----
    Point in time: never later than the run's clock.
    """
    step(timeframe)
    now = run.now
    if as_of is not None and (given := parse_moment(as_of, what="--as-of")) <= now:
        limit = given
    elif as_of is not None:
        raise InputError(f"--as-of {as_of}: later than now, {now.isoformat()}")
    else:
        limit = now
    opens, calendars = _panel_opens(run, timeframe, symbols)
    known = _known_moments(opens, timeframe, calendars)
    usable = known[known <= to_instant(limit)]
    if len(usable) == 0:
        raise NoBarsError(
            f"no {timeframe} bars known by {limit.isoformat()}; "
            "run `alphalake ingest ohlcv` first"
        )
    last = limit if as_of is not None else to_moment(usable[-1])
    if timeframe == "1h":
        days = [last - timedelta(days=k * every) for k in range(earlier, 0, -1)]
        first = to_moment(known[0])
        return [*(day for day in days if day > first), last]
    before = usable[usable < to_instant(last)]
    chosen = before[::-1][every - 1 :: every][:earlier]
    return [*(to_moment(one) for one in chosen[::-1]), last]


def _panel_opens(
    run: Run, timeframe: str, symbols: Sequence[str] | None
) -> tuple[np.ndarray, set[str]]:
    instruments = instruments_by_symbol(run.read("instruments"))
    if symbols is not None and (unknown := sorted(set(symbols) - set(instruments))):
        raise InputError(f"--symbols: not in `instruments`: {', '.join(unknown)}")
    chosen = [
        name
        for name, one in instruments.items()
        if (name in symbols if symbols is not None else not one.is_leader)
    ]
    rows = run.read(
        "ohlcv",
        columns=["symbol", "ts"],
        filter=(pc.field("timeframe") == timeframe) & pc.field("symbol").isin(chosen),
    )
    present = set(pc.unique(rows["symbol"]).to_pylist())
    opens = (
        pc.unique(rows["ts"]).cast(pa.timestamp("us")).to_numpy(zero_copy_only=False)
    )
    return np.sort(opens), {instruments[name].calendar for name in present}


def _known_moments(
    opens: np.ndarray, timeframe: str, calendars: set[str]
) -> np.ndarray:
    if len(opens) == 0:
        return opens
    if timeframe == "1h":
        return opens + step(timeframe)
    return np.array(
        [
            latest_panel_known_ts(one, timeframe=timeframe, calendars=calendars)
            for one in opens
        ]
    )


def stored_forecasts(
    run: Run,
    forecaster: Forecaster,
    timeframe: str,
    as_ofs: Sequence[datetime],
    *,
    seed: int,
) -> frozenset[tuple[str, datetime]]:
    """Return symbol and decision time of the forecasts that are stored already."""
    rows = run.read(
        "ml_predictions",
        columns=["symbol", "as_of", "model_version", "seed"],
        filter=(pc.field("timeframe") == timeframe)
        & (pc.field("model_name") == forecaster.name)
        & (pc.field("as_of") >= _scalar(as_ofs[0]))
        & (pc.field("as_of") <= _scalar(as_ofs[-1])),
    ).to_pylist()
    return frozenset(
        (row["symbol"], row["as_of"].astimezone(UTC))
        for row in rows
        if row["model_version"] == forecaster.version and row["seed"] == seed
    )


def forecast_windows(forecasts: Sequence[Forecast]) -> list[str]:
    """Return the logical window of each decision time among `forecasts`."""
    symbols: dict[datetime, list[str]] = {}
    for one in forecasts:
        symbols.setdefault(one.as_of, []).append(one.symbol)
    first = forecasts[0]
    stem = f"{first.model_name}-{first.model_version}-{first.timeframe}-{first.seed}"
    return [
        f"forecast/ml_predictions/{stem}/{_short_hash(names)}/{moment.isoformat()}"
        for moment, names in sorted(symbols.items())
    ]


def _short_hash(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:12]


def _scalar(moment: datetime) -> pa.Scalar:
    return pa.scalar(moment, pa.timestamp("us", tz="UTC"))
