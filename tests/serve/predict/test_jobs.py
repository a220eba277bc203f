"""The queue: one job per request, leases, attempts, what is kept and for how long."""

import asyncio
from dataclasses import replace

import msgspec
import pytest

from serve.errors import MalformedError
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
from serve.predict.jobs import Job, Limits, WorkQueue
from serve.predict.requests import read_order
from serve.predict.schemas import Done, Failed, Returned
from tests.simulators.artefacts import NOW
from tests.simulators.predict import body, done

DONE = msgspec.convert(done(), Done)


class Hand:
    """A queue whose time is moved by hand, with a worker that has polled."""

    def __init__(self, **limits):
        self.time = 1000.0
        self.queue = WorkQueue(Limits(**limits), now=lambda: self.time)
        self.take()

    def take(self, n: int = 1, worker: str = "a") -> list[Job]:
        return asyncio.run(self.queue.poll(worker, n=n, wait_s=0))

    def submit(self, seed: int = 1, **changes) -> Job:
        data = msgspec.json.encode(body(6, seed=seed, **changes))
        return self.queue.submit(read_order(data, {}))[0]

    def finish(self, job: Job, done: Done = DONE) -> None:
        self.queue.settle(job.id, done, now=NOW)

    def fail(self, job: Job, reason: str = "unfit") -> None:
        self.queue.settle(job.id, Failed(reason=reason, detail="so"), now=NOW)


def test_a_forecast_goes_through():
    hand = Hand()
    job = hand.submit()
    assert (job.state, hand.queue.n_waiting) == ("queued", 1)
    assert hand.take() == [job]
    assert (job.state, hand.queue.n_running) == ("running", 1)
    hand.finish(job)
    assert (job.state, hand.queue.n_running) == ("done", 0)
    assert job.answer.p50 == DONE.p50
    assert job.answer.generated_at == NOW
    assert hand.queue.find(job.id) is job


def test_identical_requests_share_one_job_and_its_answer():
    hand = Hand()
    first, second = hand.submit(), hand.submit()
    assert first is second
    hand.take()
    assert hand.submit() is first
    hand.finish(first)
    data = msgspec.json.encode(body(6, seed=1))
    assert hand.queue.submit(read_order(data, {})) == (first, True)
    assert hand.queue.tally.lookups == {"miss": 1, "joined": 2, "hit": 1}
    assert hand.submit(seed=2) is not first


def test_an_answer_is_kept_for_half_an_hour_even_without_a_worker():
    hand = Hand()
    job = hand.submit()
    hand.finish(job)  # a worker may answer what it was handed long ago
    hand.time += 1799
    assert hand.submit() is job
    hand.time += 2
    with pytest.raises(NoWorkerError):
        hand.submit()
    with pytest.raises(UnknownJobError, match="kept for 30 minutes"):
        hand.queue.find(job.id)
    assert hand.queue.n_bytes == 0


def test_old_answers_go_when_there_are_too_many_bytes():
    hand = Hand(max_bytes=20_000)
    jobs = [hand.submit(seed) for seed in range(8)]
    for job in jobs:
        hand.finish(job)
    hand.queue.sweep()
    assert 0 < hand.queue.n_bytes <= 20_000
    assert hand.queue.find(jobs[-1].id) is jobs[-1]
    with pytest.raises(UnknownJobError):
        hand.queue.find(jobs[0].id)


def test_without_a_poll_for_ten_seconds_nobody_is_let_in():
    hand = Hand()
    hand.time += 9.9
    waiting = hand.submit(1)
    hand.time += 0.2
    with pytest.raises(NoWorkerError, match="polled for 10 s") as caught:
        hand.submit(2)
    assert caught.value.headers["Retry-After"] == "10"
    with pytest.raises(NoWorkerError):
        hand.submit(1)
    hand.take(n=0)
    assert hand.submit(1) is waiting
    fresh = WorkQueue()
    assert not fresh.is_attended
    assert fresh.seconds_since_poll() != fresh.seconds_since_poll()


def test_a_full_queue_lets_nobody_in_until_one_is_done():
    hand = Hand()
    jobs = [hand.submit(seed) for seed in range(64)]
    with pytest.raises(QueueFullError, match="64 forecasts"):
        hand.submit(64)
    assert hand.submit(3) is jobs[3]
    hand.take(64)
    with pytest.raises(QueueFullError):
        hand.submit(64)
    hand.finish(jobs[0])
    hand.submit(64)


def test_one_poll_takes_one_kind_in_order():
    hand = Hand()
    kinds = [{}, {"pred_len": 9}, {}, {"model": "seasonal"}, {"pred_len": 9}, {}]
    jobs = [hand.submit(seed, **kind) for seed, kind in enumerate(kinds)]
    assert hand.take(2, "a") == [jobs[0], jobs[2]]
    assert hand.take(9, "b") == [jobs[1], jobs[4]]
    assert hand.take(9, "c") == [jobs[3]]
    assert hand.take(9, "d") == [jobs[5]]
    assert hand.take(9, "e") == []


def test_a_batch_is_bounded_in_bytes():
    hand = Hand(max_open=20)
    for seed in range(12):
        job = hand.submit(seed)
        job.order = replace(job.order, payload=b" " * 1_000_000)
    assert [len(hand.take(20, name)) for name in "abc"] == [8, 4, 0]


def test_a_lost_lease_is_offered_again_first_and_alone():
    hand = Hand()
    jobs = [hand.submit(seed) for seed in range(3)]
    late = hand.submit(9)
    assert hand.take(3, "dead") == jobs
    hand.time += 14.9
    assert hand.take(9, "b") == [late]
    hand.time += 0.2
    assert len(hand.take(9, "c")) == 1
    assert len(hand.take(9, "d")) == 1
    assert len(hand.take(9, "e")) == 1
    assert hand.queue.tally.n_offered_again == 3
    assert [job.n_offers for job in jobs] == [2, 2, 2]


def test_polling_for_nothing_renews_the_leases():
    hand = Hand()
    job = hand.submit()
    hand.take(1, "slow")
    for _ in range(10):
        hand.time += 10
        assert hand.take(0, "slow") == []
        assert hand.take(1, "other") == []
    hand.finish(job)
    assert (job.state, job.n_offers) == ("done", 1)


def test_polling_for_more_gives_back_what_was_not_answered():
    hand = Hand()
    job = hand.submit()
    assert hand.take(1, "a") == [job]
    assert hand.take(1, "a") == [job]
    assert job.n_offers == 2


def test_after_three_workers_it_is_given_up():
    hand = Hand()
    job = hand.submit()
    for name in "abc":
        assert hand.take(1, name) == [job]
        hand.time += 15
    assert hand.take(1, "d") == []
    assert isinstance(job.problem, GivenUpError)
    assert "3 workers" in job.problem.detail
    assert hand.queue.find(job.id).state == "failed"
    assert hand.submit() is not job


def test_what_nobody_finishes_in_ten_minutes_is_given_up():
    hand = Hand()
    waits, runs = hand.submit(1, pred_len=9), hand.submit(2)
    hand.time += 5
    assert hand.take(1, "a") == [waits]
    for _ in range(60):
        hand.time += 10
        hand.take(0, "a")
    assert [job.problem.status for job in (waits, runs)] == [504, 504]
    with pytest.raises(SettledError, match="failed"):
        hand.finish(waits)


def test_a_job_given_back_is_as_good_as_new():
    hand = Hand()
    first, second = hand.submit(1), hand.submit(2)
    for _ in range(5):
        assert hand.take(2, "a") == [first, second]
        for job in (second, first):
            hand.queue.settle(job.id, Returned(), now=NOW)
    hand.queue.settle(first.id, Returned(), now=NOW)  # nobody has it: nothing changes
    assert (first.state, first.n_offers) == ("queued", 0)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("unfit", UnfitError), ("no-model", NoModelError), ("broken", ModelFailedError)],
)
def test_a_refusal_reaches_the_client_and_is_not_kept_as_an_answer(reason, kind):
    hand = Hand()
    job = hand.submit()
    hand.take()
    hand.fail(job, reason)
    assert isinstance(job.problem, kind)
    assert job.settled.is_set()
    assert hand.queue.find(job.id) is job
    assert hand.submit() is not job
    hand.time += 1801
    with pytest.raises(UnknownJobError):
        hand.queue.find(job.id)


def test_refusals_are_bounded():
    hand = Hand(max_failed=3)
    jobs = [hand.submit(seed) for seed in range(6)]
    for job in jobs:
        hand.fail(job)
    hand.queue.sweep()
    with pytest.raises(UnknownJobError):
        hand.queue.find(jobs[0].id)
    assert hand.queue.find(jobs[-1].id).problem.detail == "so"


def test_the_first_answer_counts():
    hand = Hand()
    job = hand.submit()
    hand.take(1, "a")
    hand.time += 16
    assert hand.take(1, "b") == [job]
    hand.finish(job)  # from a, after all
    with pytest.raises(SettledError, match="is done"):
        hand.finish(job)
    with pytest.raises(UnknownJobError):
        hand.queue.settle("x" * 22, DONE, now=NOW)


NAN, BIG = float("nan"), [[100.0] * 5] * 19 + [[100.0] * 4]
NO_FORECASTS = {
    "short": {"p50": [100.0] * 4},
    "long": done(6),
    "short path": {"samples": BIG},
    "crossed": {"p10": [101.0] * 5},
    "negative": {"p10": [-1.0] * 5},
    "not finite": {"p90": [NAN] * 5},
    "no path": {"samples": [[0.0] * 5]},
    "backwards": {"target_ts": done()["target_ts"][::-1]},
    "not after": {"last_ts": done()["target_ts"][0]},
}


@pytest.mark.parametrize("changes", NO_FORECASTS.values(), ids=NO_FORECASTS)
def test_what_is_no_forecast_is_refused_and_the_job_stays(changes):
    hand = Hand()
    job = hand.submit()
    hand.take()
    with pytest.raises(MalformedError):
        hand.finish(job, msgspec.convert({**done(), **changes}, Done))
    assert job.state == "running"
    hand.finish(job, msgspec.convert(done(samples=None), Done))
    assert job.answer.samples is None


def test_a_waiting_poll_gets_the_job_that_arrives():
    async def story() -> tuple[list[Job], list[Job], Job]:
        queue = WorkQueue()
        polls = [asyncio.create_task(queue.poll(name, n=1, wait_s=5)) for name in "ab"]
        await asyncio.sleep(0)
        assert queue.is_attended
        assert queue.seconds_since_poll() == 0.0
        job, _ = queue.submit(read_order(msgspec.json.encode(body(6)), {}))
        found, waits = await asyncio.wait(polls, return_when="FIRST_COMPLETED")
        assert len(waits) == 1
        other, _ = queue.submit(read_order(msgspec.json.encode(body(7)), {}))
        await asyncio.wait(waits)
        return found.pop().result(), waits.pop().result(), job, other

    first, second, job, other = asyncio.run(story())
    assert (first, second) == ([job], [other])


def test_a_waiting_poll_gets_a_job_whose_lease_ends():
    async def story() -> None:
        queue = WorkQueue(Limits(lease_s=0.2))
        await queue.poll("dead", n=1, wait_s=0)
        job, _ = queue.submit(read_order(msgspec.json.encode(body(6)), {}))
        assert await queue.poll("dead", n=1, wait_s=0) == [job]
        assert await queue.poll("next", n=1, wait_s=5) == [job]

    asyncio.run(asyncio.wait_for(story(), 2))


def test_patience_ends_before_the_job_does():
    async def story() -> Job:
        queue = WorkQueue(Limits(patience_s=0.05))
        await queue.poll("a", n=1, wait_s=0)
        job, _ = queue.submit(read_order(msgspec.json.encode(body(6)), {}))
        await queue.wait(job)
        return job

    assert asyncio.run(story()).state == "queued"
