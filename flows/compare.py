"""Flows that move a model between stages: after a comparison, by hand, on an alarm."""

from prefect import flow

from flows.bodies.compare import run_compare
from flows.bodies.promotion import run_promote, run_rollback
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="compare", flow_run_name="compare-{model}")
def compare(model: str = "winprob", as_of: str | None = None, seed: int = 0) -> Outcome:
    """Judge the challenger against the champion; promote it if it is better.

    Parameters
    ----------
    model : str
        Registered model.
    as_of : str, optional
        Only outcomes known by then count; now if not given.
    seed : int
        Of the bootstrap.
    """
    return run_body(
        "compare",
        run_compare,
        resource="lab-batch",
        model=model,
        as_of=as_of,
        seed=seed,
    )


@flow(name="promote", flow_run_name="promote-{model}")
def promote(model: str, version: str, why: str) -> Outcome:
    """Make a version the champion by hand.

    Parameters
    ----------
    model, version : str
        A registered version.
    why : str
        Reason; it is kept.
    """
    return run_body(
        "promote",
        run_promote,
        resource="lab-batch",
        model=model,
        version=version,
        why=why,
    )


@flow(name="rollback", flow_run_name="rollback-{model}-{cause}")
def rollback(why: str, model: str = "winprob", cause: str = "manual") -> Outcome:
    """Return to the newest archived version whose artefact still verifies.

    Parameters
    ----------
    why : str
        Reason; it is kept.
    model : str
        Registered model.
    cause : str
        `manual`, `drift` or `performance`.
    """
    return run_body(
        "rollback",
        run_rollback,
        resource="lab-batch",
        model=model,
        why=why,
        cause=cause,
    )
