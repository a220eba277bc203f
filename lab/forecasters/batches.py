"""One model over many series: what cannot be forecast is set aside with its reason."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from lab.bars.targets import MAX_MISSED, forecast_targets
from lab.bars.timeframes import to_moment
from lab.forecasters._base import (
    Forecast,
    Forecaster,
    ForecastRequest,
    ForecastSkip,
    ModelForecaster,
    Series,
)
from lab.forecasters.routed import RoutedForecaster, route_of


class ForecastBatch(NamedTuple):
    """Forecasts in the order of their series, and the symbols left out."""

    forecasts: list[Forecast]
    skips: list[ForecastSkip]


def forecast_panel(
    forecaster: Forecaster,
    series: Sequence[Series],
    *,
    as_of: datetime,
    horizon: int,
    n_samples: int = 20,
    seed: int = 0,
) -> ForecastBatch:
    """Forecast every series that can be forecast at `as_of`.

    Raises
    ------
    ForecastError
        If the request itself is bad: horizon or n_samples out of range.

    Notes
    -----
    Point in time: each series is cut at `as_of` first.
    """
    known = [one.until(as_of) for one in series]
    reasons = [skip_reason(one, forecaster, as_of=as_of) for one in known]
    pairs = list(zip(known, reasons, strict=True))
    forecasts = forecaster.forecast(
        [one for one, reason in pairs if reason is None],
        as_of=as_of,
        horizon=horizon,
        n_samples=n_samples,
        seed=seed,
    )
    skips = [ForecastSkip(one.symbol, why) for one, why in pairs if why is not None]
    return ForecastBatch(forecasts, skips)


def forecast_together(
    forecaster: ModelForecaster,
    requests: Sequence[ForecastRequest],
    *,
    horizon: int,
    n_samples: int = 20,
    seed: int = 0,
) -> ForecastBatch:
    """Forecast every request that can be forecast, of any moments, as one batch.

    Parameters
    ----------
    forecaster : ModelForecaster
        Takes them all in one call.
    requests : sequence of ForecastRequest
        Their series are cut at their moments here.
    horizon, n_samples, seed : int
        As in `Forecaster.forecast`.

    Raises
    ------
    ForecastError
        If the request itself is bad: horizon or n_samples out of range.

    Notes
    -----
    Point in time: each series is cut at its request's `as_of` first.
    """
    known = [one._replace(series=one.series.until(one.as_of)) for one in requests]
    reasons = [skip_reason(one.series, forecaster, as_of=one.as_of) for one in known]
    forecasts = forecaster.forecast_requests(
        [one for one, why in zip(known, reasons, strict=True) if why is None],
        horizon=horizon,
        n_samples=n_samples,
        seed=seed,
    )
    skips = [
        ForecastSkip(one.series.symbol, why)
        for one, why in zip(known, reasons, strict=True)
        if why is not None
    ]
    return ForecastBatch(forecasts, skips)


def skip_reason(
    series: Series, forecaster: Forecaster, *, as_of: datetime
) -> str | None:
    """Return why `series` cannot be forecast, or None if it can.

    Parameters
    ----------
    series : Series
        Already cut at `as_of`.
    forecaster : Forecaster
        Says how many bars it needs.
    as_of : datetime
        Decision time.
    """
    if isinstance(forecaster, RoutedForecaster) and (
        route_of(series) not in forecaster.routes
    ):
        return f"{forecaster.name} has no weights for {route_of(series)}"
    if series.n_obs < forecaster.min_context:
        return f"{series.n_obs} bars known, {forecaster.min_context} needed"
    missed = forecast_targets(
        series.ts,
        as_of=as_of,
        horizon=1,
        timeframe=series.timeframe,
        calendar=series.calendar,
    ).n_missed
    if missed > (allowed := MAX_MISSED[series.timeframe]):
        last = to_moment(series.ts[-1]).isoformat()
        return f"stale: last bar {last}, {missed} bars missed, {allowed} allowed"
    return None
