"""A Prefect worker that runs flows inside its own process.

Process pools, served flows and background tasks start a process for each run and load
every model again; here a run is a thread of the process that has them loaded.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
from anyio.abc import TaskStatus
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow
from prefect.flows import Flow
from prefect.workers.base import (
    BaseJobConfiguration,
    BaseVariables,
    BaseWorker,
    BaseWorkerResult,
)

from flows.runs import Outcome
from flows.worker.devices import Device, begin_measuring, let_go_of_memory, peak_memory
from flows.worker.figures import RunFigures
from lakehouse.clock import Clock

WORKER_TYPE: Final = "alphalake-resident"
_PREFECT_SAYS: Final = "Flow run encountered an exception: "


class ResidentResult(BaseWorkerResult):
    """How a run ended for its worker; its own state tells the rest."""


class ResidentWorker(BaseWorker[BaseJobConfiguration, BaseVariables, ResidentResult]):
    """Takes runs of a pool, one at a time, and runs them in a thread.

    Parameters
    ----------
    work_pool_name : str
        The pool to serve.
    flows : mapping of str to Flow
        The flows it knows, by name; loaded once, never from storage.
    device : str
        `cpu`, `cuda` or `mps`, for the figures.
    report : callable
        Takes the figures of each run that has ended; called in the run's thread.
    **settings
        As for every Prefect worker.
    """

    type = WORKER_TYPE
    job_configuration = BaseJobConfiguration
    _description = "Runs forecast batches inside one process that holds the models."

    def __init__(
        self,
        work_pool_name: str,
        *,
        flows: Mapping[str, Flow[..., Any]],
        device: Device,
        report: Callable[[RunFigures], None],
        **settings: Any,
    ) -> None:
        super().__init__(work_pool_name, **settings)
        self._flows = flows
        self._device = device
        self._report = report

    async def run(
        self,
        flow_run: FlowRun,
        configuration: BaseJobConfiguration,  # noqa: ARG002 - Prefect's signature
        task_status: TaskStatus[int] | None = None,
    ) -> ResidentResult:
        """Run one flow run to its end, whatever that is.

        Raises
        ------
        LookupError
            If the pool holds a run of a flow that is not known here; Prefect marks the
            run as crashed with this message.
        """
        name = (await self.client.read_flow(flow_run.flow_id)).name
        if name not in self._flows:
            known = ", ".join(sorted(self._flows))
            raise LookupError(f"flow {name!r}: this worker knows {known}")
        if task_status is not None:
            task_status.started(os.getpid())
        await anyio.to_thread.run_sync(self._run_here, self._flows[name], flow_run)
        return ResidentResult(identifier=str(os.getpid()), status_code=0)

    def _run_here(self, flow: Flow[..., Any], flow_run: FlowRun) -> None:
        due = flow_run.expected_start_time
        queued_s = (Clock().now() - due).total_seconds() if due else 0.0
        begin_measuring(self._device)
        tick = time.monotonic()
        ended, message = _run_to_end(flow, flow_run)
        figures = RunFigures(
            run_id=str(flow_run.id),
            attempt=flow_run.run_count + 1,
            name=flow_run.name,
            state=ended,
            message=message,
            queued_s=max(queued_s, 0.0),
            seconds=time.monotonic() - tick,
            device=self._device,
            memory=peak_memory(self._device),
        )
        if ended != "Completed":
            let_go_of_memory(self._device)
        self._report(figures)


def _run_to_end(flow: Flow[..., Any], flow_run: FlowRun) -> tuple[str, str]:
    try:
        state = run_flow(
            flow,
            flow_run=flow_run,
            parameters=flow_run.parameters,
            return_type="state",
        )
    except BaseException as error:  # noqa: BLE001 - the worker outlives its runs
        # A lost lease, a run cancelled elsewhere, an exit called by a library.
        return "Aborted", _one_line(f"{type(error).__name__}: {error}")
    if not isinstance(state, State):
        return "Aborted", "the server gave no state"
    ended = state.name or state.type.value
    if not state.is_completed():
        return ended, _one_line(state.message).removeprefix(_PREFECT_SAYS)
    outcome = state.result(raise_on_failure=False)
    return ended, outcome.message if isinstance(outcome, Outcome) else ""


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
