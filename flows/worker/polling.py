"""Serving pool `gpu` of a Prefect server: take over, poll, survive, drain."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException

from flows.catalogue import FLOWS
from flows.prefect_setup import set_up_server
from flows.prefect_steps import GPU, LEASE_S
from flows.wiring import Workplace
from flows.worker.figures import RunFigures, report_figures
from flows.worker.presence import ALIVE, BEAT_S, living_workers, sign_off
from flows.worker.resident import ResidentWorker
from flows.worker.service import WorkerPlan
from flows.worker.takeover import free_lost_slots, sweep_overdue, take_over
from lakehouse.clock import Clock
from lakehouse.errors import LakehouseError, RefusedError, SourceUnavailableError

LEASE: Final = timedelta(seconds=LEASE_S)
LONGEST_PAUSE_S: Final = 15.0
DRAIN_LOOK_S: Final = 0.1
Say = Callable[[str], None]


@dataclass(slots=True)
class Tally:
    """How many runs a worker ran.

    Attributes
    ----------
    runs, completed : int
        All of them, and those that completed.
    """

    runs: int = 0
    completed: int = 0

    def line(self) -> str:
        """Return the count for a person."""
        return f"worker ended: {self.runs} runs, {self.completed} completed"


async def serve_pool(
    plan: WorkerPlan, ended: asyncio.Event, say: Say, begin: Callable[[], None]
) -> Tally:
    """Run what comes into the pool until `ended`, then let the run in hand end.

    Parameters
    ----------
    plan : WorkerPlan
        Whose server, device and name.
    ended : asyncio.Event
        Set by a signal.
    say : callable
        Takes one line about what happens.
    begin : callable
        Called once the pool is polled.

    Raises
    ------
    RefusedError
        If a worker of another place serves the pool.
    SourceUnavailableError
        If the server stops answering before the first poll.
    """
    try:
        await asyncio.to_thread(_prepare, plan, say)
    except (httpx.HTTPError, PrefectException) as error:
        raise SourceUnavailableError(
            f"the Prefect server at {plan.server} does not answer: {_reason(error)}"
        ) from error
    tally = Tally()
    worker = ResidentWorker(
        GPU,
        flows={flow.name: flow for flow in FLOWS},
        device=plan.device,
        report=partial(_report, plan.workplace, tally, say),
        name=plan.name,
        limit=1,
        prefetch_seconds=0,
        heartbeat_interval_seconds=BEAT_S,
        create_pool_if_not_found=False,
    )
    async with worker:
        say(f"pool {GPU} of {plan.server} on {plan.device}, polling as {plan.name}")
        begin()
        await _poll(worker, plan, ended, say)
        if worker.limiter.borrowed_tokens:
            say("draining: the run in hand ends first")
        await _drain(worker)
    with suppress(httpx.HTTPError, PrefectException):
        await asyncio.to_thread(sign_off, plan.name)
    return tally


def _prepare(plan: WorkerPlan, say: Say) -> None:
    made = set_up_server()
    if made:
        say(f"made on the server: {', '.join(made)}")
    now = Clock().now()
    with get_client(sync_client=True) as client:
        # Our lock proves only that no process of this host has the pool's runs.
        others = [
            one
            for one in living_workers(client, now=now, within=2 * LEASE)
            if one.name != plan.name
        ]
        for one in others:
            seen = one.last_heartbeat_time
            if seen is not None and now - seen < ALIVE:
                raise RefusedError(
                    f"pool {GPU} is served by worker {one.name},"
                    f" last heard {seen:%H:%M:%S} UTC; one worker per pool"
                )
        for line in take_over(client, now=now):
            say(line)
        if not others and free_lost_slots(client):
            say(f"limit {GPU}: its holder is gone; free again")
        for name in sweep_overdue(client, now=now):
            say(f"{name}: its deadline had passed; cancelled")


async def _poll(
    worker: ResidentWorker, plan: WorkerPlan, ended: asyncio.Event, say: Say
) -> None:
    loop = asyncio.get_running_loop()
    pause, next_beat = plan.query_s, 0.0
    while not ended.is_set():
        try:
            if loop.time() >= next_beat:
                await worker.sync_with_backend()
                next_beat = loop.time() + BEAT_S
            await worker.get_and_submit_flow_runs()
            if pause != plan.query_s:
                say("the Prefect server answers again")
            pause = plan.query_s
        except (httpx.HTTPError, PrefectException) as error:
            if pause == plan.query_s:
                say(f"the Prefect server does not answer; waiting: {_reason(error)}")
            pause = min(2 * pause + 1, LONGEST_PAUSE_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), pause)


async def _drain(worker: ResidentWorker) -> None:
    loop = asyncio.get_running_loop()
    next_beat = loop.time() + BEAT_S
    while worker.limiter.borrowed_tokens:
        await asyncio.sleep(DRAIN_LOOK_S)
        if loop.time() >= next_beat:
            next_beat = loop.time() + BEAT_S
            with suppress(httpx.HTTPError, PrefectException):
                await worker.sync_with_backend()


def _report(workplace: Workplace, tally: Tally, say: Say, figures: RunFigures) -> None:
    tally.runs += 1
    tally.completed += figures.state == "Completed"
    say(figures.line())
    try:
        report_figures(workplace, figures, ts=workplace.clock.now())
    except (LakehouseError, OSError) as error:
        say(f"{figures.name}: its figures are not stored: {_reason(error)}")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
