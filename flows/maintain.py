"""Flow that keeps the tables fast and small."""

from prefect import flow

from flows.bodies.maintain import maintain_tables
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="maintain")
def maintain() -> Outcome:
    """Compact, order, checkpoint and vacuum, sparing every pinned version."""
    return run_body("maintain", maintain_tables, resource="lab-batch")
