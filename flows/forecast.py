"""Flows that forecast closes."""

from prefect import flow

from flows.bodies import forecast as bodies
from flows.bodies.batch import run_batch
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="forecast", flow_run_name="{model}-{timeframe}")
def forecast(
    *,
    timeframe: str,
    model: str = "naive",
    symbols: list[str] | None = None,
    as_of: str | None = None,
    horizon: int | None = None,
    samples: int | None = None,
    seed: int = 0,
    earlier: int = 0,
    every: int = 1,
) -> Outcome:
    """Forecast every listed symbol once per as-of.

    Parameters
    ----------
    timeframe : str
        `1h` or `1d`.
    model : str
        `naive`, `seasonal`, `kronos`, `chronos2`, their twins `-lora`, `ensemble`, or
        several joined by commas.
    symbols : list of str, optional
        Only these; leaders are never forecast.
    as_of : str, optional
        Decision time; the newest complete bar of the panel if not given.
    horizon, samples : int, optional
        Bars ahead and stored paths; the model family's own if not given.
    seed : int
        Seed of the sampling.
    earlier : int
        Also forecast as of this many earlier moments.
    every : int
        Days between these moments: trading days for daily bars.
    """
    return run_body(
        "forecast",
        bodies.forecast_closes,
        resource="lab-batch",
        model=model,
        timeframe=timeframe,
        symbols=symbols,
        as_of=as_of,
        horizon=horizon,
        samples=samples,
        seed=seed,
        earlier=earlier,
        every=every,
    )


@flow(name="forecast-baselines", flow_run_name="baselines-{timeframe}")
def forecast_baselines(timeframe: str) -> Outcome:
    """Forecast with every baseline.

    Parameters
    ----------
    timeframe : str
        `1h` or `1d`.
    """
    return run_body(
        "forecast-baselines",
        bodies.forecast_baselines,
        resource="lab-batch",
        timeframe=timeframe,
    )


@flow(name="forecast-ensemble", flow_run_name="ensemble-{timeframe}")
def forecast_ensemble(timeframe: str) -> Outcome:
    """Combine the forecasts that the batches of this hour or day have stored.

    Parameters
    ----------
    timeframe : str
        `1h` or `1d`.
    """
    return run_body(
        "ensemble-batch",
        run_batch,
        resource="lab-batch",
        model="ensemble",
        timeframe=timeframe,
    )
