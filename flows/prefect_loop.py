"""The closed loop of models on a Prefect server: which event starts which deployment.

drift detected → `retrain`, which reads the report and either trains a candidate in a
run of its own or asks for a rollback; retrain completed → `compare`; rollback requested
→ `rollback`. An event is delivered at least once, so each of the three does its work
once by a key of its own, whatever the server does.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from flows.signals_out import (
    COMPARE_DUE,
    DRIFT_DETECTED,
    RETRAIN_COMPLETED,
    ROLLBACK_REQUESTED,
    model_resource,
)

LOOP: Final = ("retrain", "compare", "rollback")
"""Deployments that an event starts; `drift`, where the loop begins, has a schedule."""


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge of the loop.

    Attributes
    ----------
    name : str
        Of the automation.
    events : frozenset of str
        Any of these starts it.
    deployment : str
        What it starts.
    description : str
        One line.
    fixed : mapping of str to str
        Arguments that are the same every time.
    told : tuple of str
        Arguments that the event's payload gives.
    """

    name: str
    events: frozenset[str]
    deployment: str
    description: str
    fixed: Mapping[str, str]
    told: tuple[str, ...]


EDGES: Final = (
    Edge(
        "alphalake-drift-retrain",
        frozenset([DRIFT_DETECTED]),
        "retrain",
        "A drift alarm is answered by a candidate, or by asking for a rollback.",
        {"trigger": "drift"},
        ("model", "window"),
    ),
    Edge(
        "alphalake-retrain-compare",
        frozenset([RETRAIN_COMPLETED, COMPARE_DUE]),
        "compare",
        "A candidate is judged against the champion.",
        {},
        ("model",),
    ),
    Edge(
        "alphalake-rollback",
        frozenset([ROLLBACK_REQUESTED]),
        "rollback",
        "A champion at fault makes way for the version before it.",
        {},
        ("model", "why", "cause"),
    ),
)


def loop_automation(edge: Edge, deployment_id: UUID) -> Automation:
    """Return the automation of one edge.

    Parameters
    ----------
    edge : Edge
        Which.
    deployment_id : UUID
        The deployment that it starts, on the server at hand.
    """
    told = {
        name: {
            "__prefect_kind": "jinja",
            "template": f"{{{{ event.payload.{name} }}}}",
        }
        for name in edge.told
    }
    return Automation(
        name=edge.name,
        description=edge.description,
        trigger=EventTrigger(
            expect=set(edge.events),
            match={"prefect.resource.id": model_resource("*")},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=deployment_id,
                parameters={**edge.fixed, **told},
                job_variables=None,
            )
        ],
    )


def loop_deployments(client: SyncPrefectClient) -> dict[str, UUID]:
    """Return the ids of the loop's deployments that the server knows, by name.

    A deployment of the same name over another flow is somebody else's.
    """
    found = {}
    for name in LOOP:  # each is named as the flow that it deploys
        with suppress(ObjectNotFound):
            found[name] = client.read_deployment_by_name(f"{name}/{name}").id
    return found
