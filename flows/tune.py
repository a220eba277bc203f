"""Flow that searches training settings."""

from prefect import flow

from flows.bodies.tune import run_tune
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="tune", flow_run_name="tune-{model}-{learner}")
def tune(
    *,
    model: str = "winprob",
    learner: str = "xgboost",
    trials: int = 20,
    timeout_s: float | None = None,
    seed: int = 0,
    as_of: str | None = None,
) -> Outcome:
    """Add trials to the study of a model's settings; the best are kept for training.

    Parameters
    ----------
    model : str
        `winprob`, `gbm-1d` or `gbm-1h`.
    learner : str
        `xgboost`, `catboost` or `lightgbm`.
    trials : int
        How many to add.
    timeout_s : float, optional
        Seconds after which none is begun.
    seed : int
        Of the sampler.
    as_of : str, optional
        Only labels known by then; now if not given.
    """
    return run_body(
        "tune",
        run_tune,
        resource="lab-train",
        model=model,
        learner=learner,
        trials=trials,
        timeout_s=timeout_s,
        seed=seed,
        as_of=as_of,
    )
