"""Flow that renews the short-lived signatures."""

from prefect import flow

from flows.bodies.resign import renew_signatures
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="resign")
def resign() -> Outcome:
    """Sign timestamp, snapshot and shadow again, without new content."""
    return run_body("resign", renew_signatures, resource="lab-publish")
