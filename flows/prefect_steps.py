"""What a flow adds to its body under a Prefect server: task retries, a run id, turns.

Only a fetch and a commit are retried, and only for the error that a retry can mend.
Runs of deployments take turns on named global limits; a run that a person started by
a verb does not queue behind the schedule.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.runtime import deployment, flow_run
from prefect.tasks import Task

from flows.runs import COMMIT_WAITS_S, FETCH_WAITS_S, Body, Outcome, execute
from flows.wiring import open_workplace
from flows.worker.holding import device_held
from lakehouse.errors import CommitConflictError, SourceUnavailableError

T = TypeVar("T")
# Named resources and how many runs may hold each; `alphalake init` creates them. Models
# are trained beside the batches: a long training must not keep the next bar waiting.
GPU: Final = "gpu"
LIMITS: Final = {"lab-batch": 1, "lab-train": 1, "lab-publish": 1, GPU: 1}
LEASE_S = 60
TURN_WAIT_S = 3600
# A lease whose holder was killed is free again after a minute, and a quarter more.
GPU_WAIT_S = 150


def _retry_on(
    wanted: type[Exception],
) -> Callable[[Task[..., Any], TaskRun, State[Any]], bool]:
    def is_wanted(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
        try:
            state.result()
        except wanted:
            return True
        except Exception:  # noqa: BLE001 - any other error is simply not retried
            return False
        return False

    return is_wanted


@task(
    name="fetch",
    retries=len(FETCH_WAITS_S),
    retry_delay_seconds=list(FETCH_WAITS_S),
    retry_condition_fn=_retry_on(SourceUnavailableError),
    cache_policy=NO_CACHE,
    persist_result=False,
)
def fetch_step(call: Callable[[], T]) -> T:
    """Ask a source."""
    return call()


@task(
    name="commit",
    retries=len(COMMIT_WAITS_S),
    retry_delay_seconds=list(COMMIT_WAITS_S),
    retry_condition_fn=_retry_on(CommitConflictError),
    cache_policy=NO_CACHE,
    persist_result=False,
)
def commit_step(call: Callable[[], T]) -> T:
    """Commit to the lake."""
    return call()


class PrefectSteps:
    """Steps of a run that a Prefect server records."""

    def __init__(self) -> None:
        self.prefect_run_id: str | None = flow_run.id

    def fetch(self, call: Callable[[], T]) -> T:
        """Run `call` as a task, again while its source is unavailable."""
        return fetch_step(call)

    def commit(self, call: Callable[[], T]) -> T:
        """Run `call` as a task, again while another writer wins."""
        return commit_step(call)


def run_body(
    name: str, body: Body, *, resource: str | None = None, **parameters: Any
) -> Outcome:
    """Run a flow body inside the flow run that calls this.

    Parameters
    ----------
    name : str
        Base name of the flow.
    body : callable
        Its plain body.
    resource : str, optional
        Global limit that runs of deployments take a slot of.
    **parameters
        Arguments of the body.
    """
    with _turn(resource):
        return execute(
            name,
            body,
            workplace=open_workplace(),
            parameters=parameters,
            steps=PrefectSteps(),
        )


@contextmanager
def _turn(resource: str | None) -> Iterator[None]:
    if resource is None or deployment.id is None:
        yield
        return
    is_gpu = resource == GPU
    with (
        concurrency(
            resource,
            occupy=1,
            timeout_seconds=GPU_WAIT_S if is_gpu else TURN_WAIT_S,
            lease_duration=LEASE_S,
            strict=is_gpu,
        ),
        device_held() if is_gpu else nullcontext(),
    ):
        yield
