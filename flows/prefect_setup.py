"""What `alphalake init` makes on a Prefect server: pools, limits, automations.

Everything is idempotent: what is there and right stays, what differs is replaced.
Deployments come from `prefect.yaml`, by `prefect deploy --all`; only those that an
automation starts are made here already, without their schedules, which that command
adds to them.
"""

from datetime import timedelta
from typing import Any, Final, cast

from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    WorkPoolCreate,
)
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from flows.deployments import register_deployments
from flows.prefect_loop import EDGES, LOOP, loop_automation, loop_deployments
from flows.prefect_steps import GPU, LIMITS
from flows.worker.resident import WORKER_TYPE, ResidentWorker

LAB: Final = "lab"
HEARTBEAT_S: Final = 30
SILENCE_S: Final = 90
ZOMBIES: Final = "alphalake-zombie-runs"
_ALIVE: Final = ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed")


def set_up_server() -> list[str]:
    """Make the work pools, the global limits and the automations.

    Returns
    -------
    list of str
        What was made or replaced now, in words; empty if all was there.
    """
    with get_client(sync_client=True) as client:
        made = [
            *_make_pool(
                client,
                WorkPoolCreate(name=LAB, type="process", base_job_template=_template()),
            ),
            *_make_pool(
                client,
                WorkPoolCreate(
                    name=GPU,
                    type=WORKER_TYPE,
                    description="Forecast batches, one at a time: `alphalake worker`.",
                    concurrency_limit=1,
                    base_job_template=ResidentWorker.get_default_base_job_template(),
                ),
            ),
            *_make_limits(client),
        ]
        known = loop_deployments(client)
        missing = sorted(set(LOOP) - set(known))
        if missing and register_deployments(is_paused=False, only=missing):
            made += [f"deployment {name}" for name in missing]
            known = loop_deployments(client)
    wanted = [
        zombie_automation(),
        *(
            loop_automation(edge, known[edge.deployment])
            for edge in EDGES
            if edge.deployment in known
        ),
    ]
    return [*made, *(line for one in wanted for line in _make_automation(one))]


def zombie_automation() -> Automation:
    """Return the automation that marks a run without heartbeats as crashed."""
    return Automation(
        name=ZOMBIES,
        description=f"A flow run without a heartbeat for {SILENCE_S} s is CRASHED.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={f"prefect.flow-run.{word}" for word in _ALIVE},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENCE_S),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Zombie",
                message=f"no heartbeat for {SILENCE_S} s",
                force=False,
            )
        ],
    )


def _make_pool(client: SyncPrefectClient, wanted: WorkPoolCreate) -> list[str]:
    try:
        client.create_work_pool(wanted)
    except ObjectAlreadyExists:
        return []
    return [f"work pool {wanted.name}"]


def _template() -> dict[str, Any]:
    from prefect.workers.process import ProcessWorker

    template: dict[str, Any] = ProcessWorker.get_default_base_job_template()
    environment = template["variables"]["properties"]["env"]
    environment["default"] = {
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    }
    return template


def _make_limits(client: SyncPrefectClient) -> list[str]:
    made = []
    for name, limit in LIMITS.items():
        try:
            found = client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            client.create_global_concurrency_limit(
                GlobalConcurrencyLimitCreate(name=name, limit=limit)
            )
            made.append(f"global limit {name} = {limit}")
            continue
        if found.limit != limit:
            client.upsert_global_concurrency_limit_by_name(name, limit)
            made.append(f"global limit {name} = {limit}")
    return made


def _make_automation(wanted: Automation) -> list[str]:
    try:
        # Outside a running loop these return what they are annotated to await.
        found = cast("Automation", Automation.read(name=wanted.name))
    except ValueError:
        wanted.create()
        return [f"automation {wanted.name}"]
    if _content(found) == _content(wanted):
        return []
    found.delete()
    wanted.create()
    return [f"automation {wanted.name}"]


def _content(automation: Automation) -> dict[str, Any]:
    content: dict[str, Any] = automation.model_dump(
        mode="json", include={"name", "description", "trigger", "actions"}
    )
    content["trigger"].pop("id", None)
    for name in ("after", "expect", "for_each"):
        content["trigger"][name] = sorted(content["trigger"][name])
    return content
