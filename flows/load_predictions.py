"""Flow that enters the predictions of an inference-only model."""

from prefect import flow

from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="load-predictions", flow_run_name="load-predictions-{model}")
def load_predictions(source: str, model: str) -> Outcome:
    """Enter what a fixed model said elsewhere, once however often it is loaded.

    Parameters
    ----------
    source : str
        CSV or Parquet: a path, `s3://...`, or an MLflow artefact.
    model : str
        Name of the model.
    """
    from flows.bodies.load_predictions import run_load_predictions

    return run_body(
        "load-predictions",
        run_load_predictions,
        resource="lab-batch",
        source=source,
        model=model,
    )
