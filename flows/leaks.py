"""Flows that prove the lab itself: the leak lab and the null battery."""

from prefect import flow

from flows.bodies.leaks import run_leaks
from flows.bodies.null_battery import run_null_battery
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="leaks")
def leaks(seed: int = 0) -> Outcome:
    """Grade the leak checker on planted leaks, then check every feature and sleeve.

    Parameters
    ----------
    seed : int
        Of planted leaks, cuts and futures.
    """
    return run_body("leaks", run_leaks, resource="lab-batch", seed=seed)


@flow(name="null-battery")
def null_battery(n: int = 200, seed: int = 0, workers: int | None = None) -> Outcome:
    """Search noise by the real chain and count what reaches paper.

    Parameters
    ----------
    n : int
        Searches.
    seed : int
        Of the null markets.
    workers : int, optional
        Local processes; one a core if not given.
    """
    return run_body(
        "null-battery",
        run_null_battery,
        resource="lab-batch",
        n=n,
        seed=seed,
        workers=workers,
    )
