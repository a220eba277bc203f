"""Flow that says the lab is up and sweeps runs that nobody works on."""

from datetime import datetime, timedelta
from typing import Final

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.states import Crashed

from flows.bodies.heartbeat import beat
from flows.prefect_steps import run_body
from flows.runs import Outcome
from flows.worker.presence import living_workers
from flows.worker.takeover import sweep_overdue
from lakehouse.clock import Clock

PENDING_LIMIT: Final = timedelta(minutes=10)
SILENCE_LIMIT: Final = timedelta(minutes=5)


@flow(name="heartbeat")
def heartbeat() -> Outcome:
    """Write the lab's heartbeat, then end dead runs and batches that nobody took."""
    with get_client(sync_client=True) as client:
        # Prefect's own times are wall times.
        workers = living_workers(client, now=Clock().now())
        outcome = run_body("heartbeat", beat, gpu_workers=len(workers))
        now = Clock().now()
        sweep_zombies(client, now=now)
        sweep_overdue(client, now=now)
    return outcome


def sweep_zombies(client: SyncPrefectClient, *, now: datetime) -> list[str]:
    """Mark runs whose process is gone as crashed, and return their names.

    A run is dead if it has been PENDING for ten minutes, or is RUNNING, has had a
    heartbeat, and none in the last five minutes. The automation of `alphalake init`
    does the same within 90 s; this covers a server that was down at the time.
    """
    running = FlowRunFilter.model_validate(
        {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}
    )
    swept = []
    for run in client.read_flow_runs(flow_run_filter=running, limit=200):
        since = run.state.timestamp if run.state else now
        is_stuck = run.state_name == "Pending" and now - since > PENDING_LIMIT
        is_old = now - since > SILENCE_LIMIT
        if is_stuck or (is_old and _is_silent(client, run, now=now)):
            client.set_flow_run_state(
                run.id, Crashed(name="Zombie", message="no sign of life"), force=True
            )
            swept.append(run.name)
    return swept


def _is_silent(client: SyncPrefectClient, run: FlowRun, *, now: datetime) -> bool:
    if run.state_name != "Running":
        return False
    beats: dict[str, object] = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run.id}"]},
    }
    ever = _count(client, beats)
    since, until = now - SILENCE_LIMIT, now
    recent = _count(
        client,
        {
            **beats,
            "occurred": {"since": since.isoformat(), "until": until.isoformat()},
        },
    )
    return ever > 0 and recent == 0


def _count(client: SyncPrefectClient, event_filter: dict[str, object]) -> int:
    reply = client.request(
        "POST", "/events/filter", json={"filter": event_filter, "limit": 1}
    )
    return int(reply.json()["total"])
