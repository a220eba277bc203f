"""A scheduled forecast batch: every instrument at once, unless it comes too late."""

from datetime import datetime

from flows.bodies.forecast import forecast_closes
from flows.bodies.moments import NoBarsError
from flows.checkpoints.models import FAMILIES, family_models
from flows.runs import Run
from lab.errors import LabError
from lakehouse.clock import Clock


def run_batch(
    run: Run, *, model: str, timeframe: str, deadline: datetime | None = None
) -> str:
    """Forecast every listed symbol, unless the deadline has passed.

    Parameters
    ----------
    run : Run
        Where to read and write.
    model : str
        A forecaster; a family with accepted adapters forecasts with and without them.
    timeframe : str
        `1h` or `1d`.
    deadline : datetime, optional
        Wall time after which nothing is done; a batch that waited for a worker too
        long would only repeat the next one.

    Notes
    -----
    Point in time: as of the newest bar known when it runs, not when it was due.
    """
    if deadline is not None and Clock().now() > deadline:
        return (
            f"{model} {timeframe}: deadline {deadline:%Y-%m-%d %H:%M} passed; skipped"
        )
    try:
        told = forecast_closes(run, timeframe=timeframe, model=model)
    except NoBarsError as error:
        return f"{model} {timeframe}: nothing to forecast: {error}"
    if model not in FAMILIES:
        return told
    # The hour may have turned since: twins are compared as of the same moment.
    as_of = run.parameters["as_ofs"][-1]
    try:
        for twin in family_models(model, run.workplace)[1:]:
            told += f"; {forecast_closes(run, timeframe=timeframe, model=twin, as_of=as_of)}"
    except LabError as error:
        # Damaged adapters, or another base's: the base's own forecasts stand.
        run.notes.append(f"{model}-lora {timeframe}: not forecast: {error}")
    return told
