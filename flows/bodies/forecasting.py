"""Compute what a plan asks for: bars to series, series to forecasts. Writes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.progress import track
from flows.runs import Run
from lab.bars.panel import Panel
from lab.bars.targets import OBSERVED_BARS
from lab.bars.timeframes import step
from lab.forecasters._base import (
    Forecast,
    Forecaster,
    ForecastRequest,
    ForecastSkip,
    ModelForecaster,
)
from lab.forecasters.batches import (
    ForecastBatch,
    forecast_panel,
    forecast_together,
)

if TYPE_CHECKING:
    from lab.features.events import EventEncoder

# Bars are read back this many times the context's length: markets close at night and
# on weekends, an exchange is open 32 of a week's 168 hours.
SPAN_FACTOR: Final = {"1h": 6.0, "1d": 1.6}
# Forecasts of one call to a model with weights: enough to fill the machine.
REQUESTS_A_CALL: Final = 92


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
    horizon: int
    samples: int
    seed: int = 0
    done: frozenset[tuple[str, datetime]] = field(default_factory=frozenset)


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
    panel = read_panel(run, plan, context=_bars_needed(forecaster, plan))
    encoder = None
    if isinstance(forecaster, ModelForecaster):
        from flows.bodies.events import open_encoder

        encoder = open_encoder(run, plan.timeframe)
    found: list[Forecast] = []
    skips: list[ForecastSkip] = []
    calls = _calls(plan, forecaster, n_symbols=len(panel.series))
    for moments in track(
        calls, f"forecast {plan.model} {plan.timeframe}", total=len(calls)
    ):
        requests = [
            request
            for moment in moments
            for request in _requests(panel, plan, moment, forecaster, encoder)
        ]
        if not requests:
            continue
        batch = _forecast(forecaster, requests, plan)
        found += batch.forecasts
        skips = batch.skips
    return found, skips if calls[-1] == plan.as_ofs[-1:] else []


def _calls(
    plan: ForecastPlan, forecaster: Forecaster, *, n_symbols: int
) -> list[tuple[datetime, ...]]:
    # Decision times of each call: several where a model with weights gains by it. The
    # newest stands alone, so that what is skipped at it can be told.
    step_size = 1
    if isinstance(forecaster, ModelForecaster):
        step_size = max(1, REQUESTS_A_CALL // max(n_symbols, 1))
    earlier = plan.as_ofs[:-1]
    return [
        *(earlier[i : i + step_size] for i in range(0, len(earlier), step_size)),
        plan.as_ofs[-1:],
    ]


def _bars_needed(forecaster: Forecaster, plan: ForecastPlan) -> int:
    # Which bars come next is told by more of them than a small model looks at.
    return max(forecaster.context, OBSERVED_BARS[plan.timeframe])


def _requests(
    panel: Panel,
    plan: ForecastPlan,
    moment: datetime,
    forecaster: Forecaster,
    encoder: "EventEncoder | None",
) -> list[ForecastRequest]:
    # What the plan asks for at one moment and is not stored yet.
    series = [
        one
        for one in panel.as_of(
            moment, context=_bars_needed(forecaster, plan), symbols=plan.symbols
        )
        if (one.symbol, moment) not in plan.done
    ]
    if encoder is None or not isinstance(forecaster, ModelForecaster):
        return [ForecastRequest(one, moment) for one in series]
    from flows.bodies.events import requests_with_events

    requests = requests_with_events(
        encoder,
        series,
        as_of=moment,
        horizon=plan.horizon,
        context=forecaster.context,
    )
    if forecaster.takes_events:
        return requests
    # What is scheduled ahead is noted on the forecast; the model does not see it.
    return [one._replace(events=None) for one in requests]


def _forecast(
    forecaster: Forecaster, requests: Sequence[ForecastRequest], plan: ForecastPlan
) -> ForecastBatch:
    if isinstance(forecaster, ModelForecaster):
        return forecast_together(
            forecaster,
            requests,
            horizon=plan.horizon,
            n_samples=plan.samples,
            seed=plan.seed,
        )
    return forecast_panel(
        forecaster,
        [one.series for one in requests],
        as_of=requests[0].as_of,
        horizon=plan.horizon,
        n_samples=plan.samples,
        seed=plan.seed,
    )


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


def _scalar(moment: datetime) -> pa.Scalar:
    return pa.scalar(moment, pa.timestamp("us", tz="UTC"))
