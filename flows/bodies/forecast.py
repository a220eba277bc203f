"""Forecast every listed symbol once per decision time."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.calibrate import calibrate_forecasts
from flows.bodies.checkpoints import register_checkpoint
from flows.bodies.ensemble import forecast_ensemble
from flows.bodies.forecasting import ForecastPlan, compute_forecasts
from flows.bodies.moments import NoBarsError, decision_times
from flows.checkpoints.models import MODELS, open_forecaster
from flows.progress import plural
from flows.runs import Run
from lab.forecasters._base import Forecast, Forecaster
from lab.forecasters.ensemble import NAME as ENSEMBLE
from lab.forecasters.frames import predictions_table
from lab.forecasters.paths import check_request
from lakehouse.errors import InputError

DEFAULT_HORIZON: Final = 120
DEFAULT_SAMPLES: Final = 20


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
        raise InputError(f"--model: name one of {', '.join(MODELS)}")
    if ENSEMBLE in names:
        if len(names) > 1:
            raise InputError(
                f"--model {model}: forecast {ENSEMBLE} by itself, afterwards"
            )
        return forecast_ensemble(
            run,
            timeframe=timeframe,
            symbols=symbols,
            as_of=as_of,
            horizon=horizon,
            seed=seed,
            earlier=earlier,
            every=every,
        )
    forecasters = {name: open_forecaster(name, run.workplace) for name in names}
    moments = decision_times(
        run, timeframe, symbols=symbols, as_of=as_of, earlier=earlier, every=every
    )
    run.seeds["forecast"] = seed
    # A batch forecasts with a family's twin in the same run: its record names both.
    used = {k: v for k, v in run.parameters.items() if k == "checkpoints"}
    run.parameters = used | {
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
    register_checkpoint(run, forecaster)
    forecasts, skips = compute_forecasts(run, forecaster, plan)
    label = f"{plan.model} {plan.timeframe}"
    for skip in skips:
        run.notes.append(f"{label}: {skip.symbol} not forecast: {skip.reason}")
    if not forecasts:
        moment = f"as of {plan.as_ofs[-1]:%Y-%m-%d %H:%M}"
        if skips and not plan.done:
            return f"{label}: no symbol could be forecast {moment}"
        return f"{label}: nothing new {moment}; stored forecasts stay as they are"
    rows = predictions_table(forecasts, generated_at=run.now, run_id=run.run_id)
    windows = forecast_windows(forecasts)
    written = run.append("ml_predictions", rows, window=windows)
    run.count("forecasts", written.n_rows)
    if len(plan.as_ofs) == 1:
        # Earlier decision times wait for their scores: `score` gives them their bands.
        calibrate_forecasts(run, rows, timeframe=plan.timeframe)
    return (
        f"{label}: {plural(written.n_rows, 'forecast')},"
        f" {plural(len(windows), 'as-of')} up to {plan.as_ofs[-1]:%Y-%m-%d %H:%M}"
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
