"""Flow that publishes the signed artefacts."""

from prefect import flow

from flows.bodies.publish import publish_artefacts
from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="publish")
def publish() -> Outcome:
    """Publish a new signed version of every artefact whose content changed."""
    return run_body("publish", publish_artefacts, resource="lab-publish")
