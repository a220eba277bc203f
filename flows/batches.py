"""The flow behind every forecast batch of pool `gpu`."""

from prefect import flow
from prefect.runtime import deployment, flow_run

from flows.bodies.batch import run_batch
from flows.prefect_steps import GPU, run_body
from flows.runs import Outcome
from flows.worker.deadlines import batch_deadline


@flow(name="forecast-batch", flow_run_name="{model}-{timeframe}")
def forecast_batch(
    model: str, timeframe: str, deadline: str | int | None = None
) -> Outcome:
    """Forecast every listed symbol with one model, in one call.

    Parameters
    ----------
    model : str
        `kronos`, `chronos2`, or another registered forecaster.
    timeframe : str
        `1h` or `1d`.
    deadline : str or int, optional
        ISO 8601 time, or minutes after the scheduled start, after which the run is
        skipped; 50 minutes for hourly and 20 hours for daily batches if not given. A
        run that no deployment scheduled has none unless it is given.
    """
    is_scheduled = deployment.id is not None
    latest = (
        batch_deadline(
            flow_run.scheduled_start_time, timeframe=timeframe, given=deadline
        )
        if is_scheduled or deadline is not None
        else None
    )
    return run_body(
        f"{model}-batch",
        run_batch,
        resource=GPU,
        model=model,
        timeframe=timeframe,
        deadline=latest,
    )
