"""What became of runs whose worker is gone, and of runs that nobody took in time.

`take_over` is sound only for the holder of the file lock: the lock is the proof that the
worker which had these runs is dead. Delta windows make a batch that runs twice write once.
"""

from datetime import datetime
from typing import Any, Final

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowRunFilter,
    WorkPoolFilter,
)
from prefect.client.schemas.objects import FlowRun
from prefect.states import AwaitingRetry, Cancelled, Crashed

from flows.prefect_steps import GPU, LIMITS
from flows.worker.deadlines import batch_deadline
from lakehouse.errors import InputError

BATCH_FLOW: Final = "forecast-batch"
MAX_TRIES: Final = 3
_LIMIT: Final = 200
_POOL_FILTER: Final = {"name": {"any_": [GPU]}}


def take_over(client: SyncPrefectClient, *, now: datetime) -> list[str]:
    """Put a dead worker's runs back into the queue.

    A batch that was already marked as a zombie runs again if its deadline has not
    passed. A run that three workers died of is left crashed.

    Parameters
    ----------
    client : SyncPrefectClient
        The server.
    now : datetime
        Wall time, UTC.

    Returns
    -------
    list of str
        What was done, one line a run.
    """
    lost = _runs(client, type={"any_": ["RUNNING", "PENDING", "CANCELLING"]})
    lost += [
        run
        for run in _runs(client, is_batch=True, name={"any_": ["Zombie"]})
        if (latest := deadline_of(run)) is not None and now < latest
    ]
    return [f"{run.name}: {_requeue(client, run, now=now)}" for run in lost]


def _requeue(client: SyncPrefectClient, run: FlowRun, *, now: datetime) -> str:
    if run.state is not None and run.state.is_cancelling():
        client.set_flow_run_state(run.id, Cancelled(), force=True)
        return "cancelled, as was asked"
    if run.run_count >= MAX_TRIES:
        message = f"{run.run_count} workers ended while they ran it"
        client.set_flow_run_state(run.id, Crashed(message=message), force=True)
        return f"given up: {message}"
    state: Any = AwaitingRetry(scheduled_time=now, message="its worker is gone")
    client.set_flow_run_state(run.id, state, force=True)
    return "its worker is gone; it runs again"


def free_lost_slots(client: SyncPrefectClient) -> bool:
    """Take the limit's slots from dead holders at once; return whether there were any.

    A lease of a dead holder ends after a minute by itself, but one that the server
    forgot never does. The limit is made anew, so that the old lease frees nothing of it
    when it ends later.
    """
    if not client.read_global_concurrency_limit_by_name(GPU).active_slots:
        return False
    client.delete_global_concurrency_limit_by_name(GPU)
    client.create_global_concurrency_limit(
        GlobalConcurrencyLimitCreate(name=GPU, limit=LIMITS[GPU])
    )
    return True


def sweep_overdue(client: SyncPrefectClient, *, now: datetime) -> list[str]:
    """Cancel batches that no worker took before their deadline; return their names."""
    swept = []
    for run in _runs(client, is_batch=True, type={"any_": ["SCHEDULED"]}):
        latest = deadline_of(run)
        if latest is None or now <= latest:
            continue
        message = f"no worker took it before its deadline, {latest:%Y-%m-%d %H:%M}"
        client.set_flow_run_state(
            run.id, Cancelled(name="DeadlinePassed", message=message), force=True
        )
        swept.append(run.name)
    return swept


def deadline_of(run: FlowRun) -> datetime | None:
    """Return a batch's deadline; None if its parameters name none that can be read."""
    if run.expected_start_time is None:
        return None
    try:
        return batch_deadline(
            run.expected_start_time,
            timeframe=str(run.parameters.get("timeframe")),
            given=run.parameters.get("deadline"),
        )
    except InputError:
        return None


def _runs(
    client: SyncPrefectClient, *, is_batch: bool = False, **state: dict[str, list[str]]
) -> list[FlowRun]:
    batches = FlowFilter.model_validate({"name": {"any_": [BATCH_FLOW]}})
    return client.read_flow_runs(
        flow_filter=batches if is_batch else None,
        flow_run_filter=FlowRunFilter.model_validate({"state": state}),
        work_pool_filter=WorkPoolFilter.model_validate(_POOL_FILTER),
        limit=_LIMIT,
    )
