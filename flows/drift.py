"""Flow that compares live predictions with what each champion was trained on."""

from prefect import flow

from flows.bodies.drift import run_drift
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="drift", flow_run_name="drift")
def drift(model: str | None = None, as_of: str | None = None, seed: int = 0) -> Outcome:
    """Report on every champion's live predictions, and tell the alarms.

    Parameters
    ----------
    model : str, optional
        Only this model.
    as_of : str, optional
        Only predictions and labels of then count; now if not given.
    seed : int, default 0
        Of the permutations.
    """
    return run_body(
        "drift", run_drift, resource="lab-batch", model=model, as_of=as_of, seed=seed
    )
