"""The queue of forecasts in one process's memory: waiting, leased, answered.

Used from one event loop only, so nothing here locks. The rules:

- One request, one job: an identical one waits for the same job, and for half an hour
  after it is answered from it.
- A job that is handed out is leased. Its worker renews the lease by polling for
  nothing; polling for more says that it holds nothing any longer. A job whose lease
  ends is offered again, ahead of the others and alone, in case it is what ended the
  worker; after `max_offers` it is given up.
- Time is monotonic; a job that nobody finishes ends at `life_s`.
"""

import asyncio
import secrets
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal

import msgspec

from serve.errors import MalformedError, ProblemError
from serve.predict.errors import (
    GivenUpError,
    ModelFailedError,
    NoModelError,
    NoWorkerError,
    QueueFullError,
    SettledError,
    UnfitError,
    UnknownJobError,
)
from serve.predict.requests import Order
from serve.predict.results import find_fault
from serve.predict.schemas import Answer, Done, Failed, Outcome

_FLOAT: Final = 32  # bytes of a float in a list; a time takes two of them
_BATCH_BYTES: Final = 8 * 1024 * 1024
State = Literal["queued", "running", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much and how long; seconds are monotonic.

    Attributes
    ----------
    patience_s : float
        How long a client waits for its answer before it is told where to fetch it.
    absent_s : float
        Without a poll for so long there is no worker.
    lease_s : float
        How long a job is out without a sign of its worker.
    life_s : float
        When an unfinished job is given up.
    keep_s : float
        How long an answer is kept.
    max_open : int
        Jobs waiting or out.
    max_offers : int
        How often a job is handed out.
    max_bytes : int
        Bytes of answers kept, about; the oldest go first.
    max_failed : int
        Refusals kept for clients that fetch them later.
    """

    patience_s: float = 25.0
    absent_s: float = 10.0
    lease_s: float = 15.0
    life_s: float = 600.0
    keep_s: float = 1800.0
    max_open: int = 64
    max_offers: int = 3
    max_bytes: int = 64 * 1024 * 1024
    max_failed: int = 1000


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way to an answer.

    Attributes
    ----------
    id : str
        Unguessable.
    order : Order
    accepted : float
        When it came, monotonic seconds; `ended` when it was answered.
    state : str
    n_offers : int
        How often it was handed out.
    worker : str
        Who holds it, until `leased_until`.
    answer : Answer or None
    problem : ProblemError or None
    """

    id: str
    order: Order
    accepted: float
    state: State = "queued"
    n_offers: int = 0
    worker: str = ""
    leased_until: float = 0.0
    ended: float = 0.0
    answer: Answer | None = None
    problem: ProblemError | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Tally:
    """What happened so far, for `/metrics`."""

    jobs: Counter[str] = field(default_factory=Counter)
    lookups: Counter[str] = field(default_factory=Counter)
    n_offered_again: int = 0
    n_waited: int = 0
    wait_s: float = 0.0
    n_served: int = 0
    service_s: float = 0.0


@dataclass(slots=True)
class WorkQueue:
    """Jobs between clients and workers.

    Attributes
    ----------
    limits : Limits
    now : callable
        Monotonic seconds.
    tally : Tally
    """

    limits: Limits = field(default_factory=Limits)
    now: Callable[[], float] = time.monotonic
    tally: Tally = field(default_factory=Tally)
    n_bytes: int = 0
    _waiting: deque[Job] = field(default_factory=deque)
    _running: dict[str, Job] = field(default_factory=dict)
    _answered: OrderedDict[str, Job] = field(default_factory=OrderedDict)
    _failed: OrderedDict[str, Job] = field(default_factory=OrderedDict)
    _by_key: dict[bytes, Job] = field(default_factory=dict)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _last_poll: float | None = None
    _n_polls: int = 0

    @property
    def n_waiting(self) -> int:
        """Jobs that no worker has."""
        return len(self._waiting)

    @property
    def n_running(self) -> int:
        """Jobs that a worker has."""
        return len(self._running)

    @property
    def is_attended(self) -> bool:
        """Whether a worker polls, or did lately."""
        if self._n_polls:
            return True
        last = self._last_poll
        return last is not None and self.now() - last < self.limits.absent_s

    def submit(self, order: Order) -> tuple[Job, bool]:
        """Return the job of an order, and whether its answer was there already.

        Raises
        ------
        NoWorkerError
            If no worker polls.
        QueueFullError
            If as many jobs are open as are let in.
        """
        self.sweep()
        job = self._by_key.get(order.key)
        if job is not None and job.state == "done":
            self.tally.lookups["hit"] += 1
            return job, True
        if not self.is_attended:
            self.tally.jobs["no-worker"] += 1
            raise NoWorkerError(
                f"no worker has polled for {self.limits.absent_s:.0f} s"
            )
        if job is not None:
            self.tally.lookups["joined"] += 1
            return job, False
        if len(self._waiting) + len(self._running) >= self.limits.max_open:
            self.tally.jobs["queue-full"] += 1
            raise QueueFullError(
                f"{self.limits.max_open} forecasts wait, no more are let in"
            )
        self.tally.lookups["miss"] += 1
        job = Job(secrets.token_urlsafe(16), order, self.now())
        self._by_key[order.key] = job
        self._waiting.append(job)
        self._arrived.set()
        return job, False

    async def wait(self, job: Job) -> None:
        """Wait until the job is settled, or the client's patience ends."""
        try:
            await asyncio.wait_for(job.settled.wait(), self.limits.patience_s)
        except TimeoutError:
            self.sweep()

    def find(self, job_id: str) -> Job:
        """Return a job that was accepted.

        Raises
        ------
        UnknownJobError
            If there was none, or it was forgotten since.
        """
        self.sweep()
        job = self._running.get(job_id) or self._answered.get(job_id)
        job = job or self._failed.get(job_id)
        job = job or next((one for one in self._waiting if one.id == job_id), None)
        if job is None:
            kept = self.limits.keep_s / 60
            raise UnknownJobError(
                f"no forecast {job_id!r}: answers are kept for {kept:.0f} minutes"
            )
        return job

    async def poll(self, worker: str, *, n: int, wait_s: float) -> list[Job]:
        """Hand out up to `n` jobs of one group; wait while there is none.

        Parameters
        ----------
        worker : str
            Who asks. With `n` 0 its leases are renewed; with more, what it still holds
            is offered again.
        n : int
            Most jobs.
        wait_s : float
            Most seconds to wait.
        """
        self._last_poll = self.now()
        if n == 0:
            self._renew(worker)
            self.sweep()
            return []
        self._release(worker)
        until = self.now() + wait_s
        self._n_polls += 1
        try:
            while True:
                self.sweep()
                jobs = self._take(worker, n)
                left = until - self.now()
                if jobs or left <= 0:
                    return jobs
                self._arrived.clear()
                await self._doze(min(left, self._next_expiry()))
        finally:
            self._n_polls -= 1
            self._last_poll = self.now()

    def settle(self, job_id: str, outcome: Outcome, *, now: datetime) -> None:
        """Take a worker's outcome.

        Parameters
        ----------
        job_id : str
            As handed out.
        outcome : Done, Failed or Returned
            What became of it.
        now : datetime
            Clock time of the answer.

        Raises
        ------
        UnknownJobError
            If there is no such job.
        SettledError
            If it has its answer already.
        MalformedError
            If the outcome is no forecast of what was asked.
        """
        self._last_poll = self.now()
        job = self.find(job_id)
        if job.state in {"done", "failed"}:
            raise SettledError(f"forecast {job_id} is {job.state}")
        if isinstance(outcome, Done):
            self._finish(job, outcome, now)
        elif isinstance(outcome, Failed):
            self._fail(job, _problem_of(outcome), outcome.reason)
        elif job.state == "running":  # returned
            job.n_offers -= 1
            self._offer_again(job)

    def sweep(self) -> None:
        """Offer again what workers lost, give up what is too old, forget the rest."""
        now = self.now()
        for job in [one for one in self._running.values() if one.leased_until <= now]:
            if job.n_offers < self.limits.max_offers:
                self._offer_again(job)
            else:
                n = f"{job.n_offers} workers took it and none answered"
                self._fail(job, GivenUpError(n), "given-up")
        late = now - self.limits.life_s
        for job in [*self._waiting, *self._running.values()]:
            if job.accepted <= late:
                what = f"not finished in {self.limits.life_s:.0f} s"
                self._fail(job, GivenUpError(what), "given-up")
        self._forget(now - self.limits.keep_s)

    def seconds_since_poll(self) -> float:
        """Return how long no worker has polled; NaN before the first."""
        if self._n_polls:
            return 0.0
        return float("nan") if self._last_poll is None else self.now() - self._last_poll

    def _take(self, worker: str, n: int) -> list[Job]:
        if not self._waiting:
            return []
        first = self._waiting[0]
        if first.n_offers:
            chosen = [first]
        else:
            group = first.order.group
            chosen = [
                one
                for one in self._waiting
                if one.order.group == group and not one.n_offers
            ][:n]
        kept: list[Job] = []
        n_bytes = 0
        for job in chosen:
            n_bytes += len(job.order.payload)
            if kept and n_bytes > _BATCH_BYTES:
                break
            kept.append(job)
        for job in kept:
            self._lease(job, worker)
        return kept

    def _lease(self, job: Job, worker: str) -> None:
        self._waiting.remove(job)
        self._running[job.id] = job
        if job.n_offers == 0:
            self.tally.n_waited += 1
            self.tally.wait_s += self.now() - job.accepted
        job.state, job.worker = "running", worker
        job.n_offers += 1
        job.leased_until = self.now() + self.limits.lease_s

    def _renew(self, worker: str) -> None:
        until = self.now() + self.limits.lease_s
        for job in self._running.values():
            if job.worker == worker:
                job.leased_until = until

    def _release(self, worker: str) -> None:
        for job in self._running.values():
            if job.worker == worker:
                job.leased_until = 0.0

    def _offer_again(self, job: Job) -> None:
        del self._running[job.id]
        job.state = "queued"
        self._waiting.appendleft(job)
        self.tally.n_offered_again += 1
        self._arrived.set()

    def _finish(self, job: Job, done: Done, now: datetime) -> None:
        if (fault := find_fault(done, job.order.pred_len)) is not None:
            raise MalformedError(fault)
        self._close(job)
        job.state = "done"
        job.answer = Answer(
            **msgspec.structs.asdict(done),
            id=job.id,
            symbol=job.order.symbol,
            timeframe=job.order.timeframe,
            generated_at=now,
            is_cached=False,
        )
        self._answered[job.id] = job
        self.n_bytes += _weigh(job)
        self.tally.jobs["done"] += 1
        self.tally.n_served += 1
        self.tally.service_s += job.ended - job.accepted
        job.settled.set()

    def _fail(self, job: Job, problem: ProblemError, outcome: str) -> None:
        self._close(job)
        self._by_key.pop(job.order.key, None)
        job.state, job.problem = "failed", problem
        self._failed[job.id] = job
        self.tally.jobs[outcome] += 1
        job.settled.set()

    def _close(self, job: Job) -> None:
        if self._running.pop(job.id, None) is None:
            self._waiting.remove(job)
        job.ended = self.now()
        job.order = replace(job.order, payload=b"")

    def _forget(self, before: float) -> None:
        while self._answered:
            oldest = next(iter(self._answered.values()))
            if oldest.ended > before and self.n_bytes <= self.limits.max_bytes:
                break
            del self._answered[oldest.id]
            self.n_bytes -= _weigh(oldest)
            self._by_key.pop(oldest.order.key, None)
        while self._failed:
            oldest = next(iter(self._failed.values()))
            if oldest.ended > before and len(self._failed) <= self.limits.max_failed:
                break
            del self._failed[oldest.id]

    def _next_expiry(self) -> float:
        ends = [job.leased_until for job in self._running.values()]
        return max(0.05, min(ends, default=float("inf")) - self.now())

    async def _doze(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._arrived.wait(), seconds)
        except TimeoutError:
            return


def _problem_of(failed: Failed) -> ProblemError:
    kinds = {"unfit": UnfitError, "no-model": NoModelError, "broken": ModelFailedError}
    problem: ProblemError = kinds[failed.reason](failed.detail)
    return problem


def _weigh(job: Job) -> int:
    answer = job.answer
    if answer is None:
        return 0
    n_paths = len(answer.samples or ())
    return _FLOAT * len(answer.p50) * (5 + n_paths)
