"""Flow that trains models anew: on their schedule, on a drift alarm, by hand."""

from prefect import flow

from flows.bodies.retrain import run_retrain
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="retrain", flow_run_name="retrain-{trigger}")
def retrain(
    model: str | None = None,
    trigger: str = "scheduled",
    window: str | None = None,
    as_of: str | None = None,
    seed: int = 0,
) -> Outcome:
    """Answer a request to retrain, exactly once however often it is delivered.

    Parameters
    ----------
    model : str, optional
        Registered model; for `scheduled` each that was ever trained if not given.
    trigger : str
        `scheduled`, `drift` or `manual`.
    window : str, optional
        For `drift` the end of the report's window.
    as_of : str, optional
        Only what was known by then counts; the time of the request if not given.
    seed : int
        Of the training.
    """
    return run_body(
        "retrain",
        run_retrain,
        resource="lab-train",
        model=model,
        trigger=trigger,
        window=window,
        as_of=as_of,
        seed=seed,
    )
