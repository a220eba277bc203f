"""Flows that judge sleeves by the gates and move them by the rules."""

from prefect import flow

from flows.bodies.gates import run_gates
from flows.bodies.lifecycle import run_lifecycle
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="sleeve-lifecycle", flow_run_name="sleeve-lifecycle")
def sleeve_lifecycle(as_of: str | None = None, rules: str | None = None) -> Outcome:
    """Move every sleeve by the rules, one stage at most.

    Parameters
    ----------
    as_of : str, optional
        Only what was known by then counts; now if not given.
    rules : str, optional
        TOML file with rules of one's own.
    """
    return run_body(
        "sleeve-lifecycle",
        run_lifecycle,
        resource="lab-batch",
        as_of=as_of,
        rules=rules,
    )


@flow(name="gates", flow_run_name="gates-{sleeve}")
def gates(sleeve: str) -> Outcome:
    """Judge one sleeve's newest walk-forward by the three gates.

    Parameters
    ----------
    sleeve : str
        Which.
    """
    return run_body("gates", run_gates, resource="lab-batch", sleeve=sleeve)
