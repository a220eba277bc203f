"""Forecasts for a gateway's clients: poll out, compute, answer.

The gateway hands out jobs of one kind under a short lease, which a second thread renews
while the first waits for the device and computes. Nothing a gateway says or fails to
say ends the loop: it backs off and asks again until it is stopped.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from flows.checkpoints.models import open_forecaster
from flows.wiring import Workplace
from flows.worker.gateway import HTTP_S, AwayError, GatewayClient, check_gateway
from flows.worker.requested import (
    Batch,
    Job,
    Opener,
    Outcome,
    Refusal,
    Request,
    encode_outcome,
    forecast_jobs,
    open_model,
)

MAX_JOBS: Final = 23
PRELOADED: Final = ("kronos", "kronos-lora", "chronos2", "chronos2-lora")
POLL_S: Final = 2.0  # a stop waits for a poll at most so long
_RENEW_S: Final = 3.0
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 10.0
_N_POSTS: Final = 4
_RETURNED: Final = b'{"status":"returned"}'
log = logging.getLogger("alphalake.worker")

Make = Callable[[Sequence[Request]], list[Outcome]]


def serve_predictions(
    url: str,
    token: str,
    *,
    stop: threading.Event,
    device_lock: threading.Lock,
    workplace: Workplace,
    opener: Opener = open_forecaster,
    preload: Sequence[str] = PRELOADED,
) -> None:
    """Answer a gateway's forecasts until `stop` is set; the batch in hand is finished.

    Parameters
    ----------
    url : str
        The gateway, `http://` or `https://`.
    token : str
        A token of role `worker`.
    stop : threading.Event
        Ends the loop: within a poll when idle, at once when waiting for the device
        (the jobs go back), else after the batch in hand.
    device_lock : threading.Lock
        Held while a model is loaded or computes.
    workplace : Workplace
        Whose models are opened.
    opener : callable
        From a model's name and the workplace to its forecaster.
    preload : sequence of str
        Models to load before the first poll, so that no client waits for it; what
        cannot be loaded is said and passed over.

    Raises
    ------
    InputError
        If `url` is not the address of a gateway, or `token` not a token.
    """
    check_gateway(url, token)
    name = f"worker-{os.getpid()}-{secrets.token_hex(6)}"
    client = GatewayClient(url, token, name)

    def make(requests: Sequence[Request]) -> list[Outcome]:
        return forecast_jobs(requests, workplace, opener)

    for model in preload:
        if _acquired(device_lock, stop):
            try:
                _load(model, workplace, opener)
            finally:
                device_lock.release()
    pause = 0.0
    try:
        while not stop.is_set():
            try:
                _serve_once(client, stop, device_lock, make)
                pause = 0.0
            except (AwayError, msgspec.MsgspecError) as error:
                if not pause:
                    log.warning("no predictions for now: %s", error)
                pause = min(max(2 * pause, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
                stop.wait(pause)
    finally:
        client.close()


def _load(model: str, workplace: Workplace, opener: Opener) -> None:
    found = open_model(model, workplace, opener)
    if isinstance(found, Refusal):
        log.info("model %s is not loaded: %s", model, found.detail)


def _serve_once(
    client: GatewayClient, stop: threading.Event, lock: threading.Lock, make: Make
) -> None:
    body = client.take(MAX_JOBS, wait_s=POLL_S)
    if body is None:
        return
    jobs = msgspec.json.decode(body, type=Batch).jobs
    with _leases_renewed(client):
        for job, outcome in zip(jobs, _made(jobs, stop, lock, make), strict=True):
            _post(client, job.id, outcome)


def _made(
    jobs: Sequence[Job], stop: threading.Event, lock: threading.Lock, make: Make
) -> list[bytes]:
    if not _acquired(lock, stop):
        return [_RETURNED] * len(jobs)
    try:
        found = make([job.request for job in jobs])
    finally:
        lock.release()
    return [encode_outcome(one) for one in found]


def _acquired(lock: threading.Lock, stop: threading.Event) -> bool:
    while not stop.is_set():
        if lock.acquire(timeout=0.2):
            return True
    return False


def _post(client: GatewayClient, job_id: str, outcome: bytes) -> None:
    # A forecast is worth more than one try, even when the worker is asked to stop.
    for attempt in range(_N_POSTS):
        try:
            client.answer(job_id, outcome)
        except AwayError:
            if attempt == _N_POSTS - 1:
                raise
            time.sleep(_FIRST_PAUSE_S)
        else:
            return


@contextmanager
def _leases_renewed(client: GatewayClient) -> Iterator[None]:
    # Keep the leases of the jobs in hand alive, over a connection of its own.
    ended = threading.Event()
    own = GatewayClient(client.url, client.token, client.name)

    def renew() -> None:
        while not ended.wait(_RENEW_S):
            try:
                own.take(0, wait_s=0.0)
            except AwayError as error:
                log.info("leases not renewed: %s", error)
        own.close()

    thread = threading.Thread(target=renew, name="leases", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(HTTP_S)
