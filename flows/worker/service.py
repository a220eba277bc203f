"""The worker's life: fence, server, takeover, polling, draining.

It only polls out, so its host needs no address. SIGTERM or Ctrl-C lets the run in hand
end and takes no other; a second signal ends the process at once, and the next worker
takes the run over.
"""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from flows.probe import api_url, find_server
from flows.server import use_server
from flows.wiring import Workplace, open_workplace
from flows.worker.devices import Device, choose_device, device_label
from flows.worker.fence import fenced, lock_folder
from flows.worker.gateway import check_gateway
from flows.worker.holding import device_lock
from flows.worker.settings import load_worker_settings
from flows.worker.warming import load_models
from lakehouse.errors import InputError

if TYPE_CHECKING:
    from flows.worker.polling import Tally

GATEWAY_GOODBYE_S = 30.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What one worker serves.

    Attributes
    ----------
    workplace : Workplace
        Lake, keys and clock.
    device : str
        `cpu`, `cuda` or `mps`.
    name : str
        How the server knows it; the same after a restart.
    server : str or None
        Prefect API whose pool it serves.
    gateway, token : str or None
        Gateway whose predictions it computes, and its worker token.
    query_s : float
        Seconds between two questions.
    """

    workplace: Workplace
    device: Device
    name: str
    server: str | None
    gateway: str | None
    token: str | None
    query_s: float


def run_worker(
    say: Say,
    *,
    device: str,
    gateway: str | None,
    query_s: float,
    is_preloaded: bool = True,
) -> "Tally | None":
    """Serve pool `gpu`, a gateway's predictions, or both, until a signal.

    Parameters
    ----------
    say : callable
        Takes one line about what happens.
    device : str
        `auto`, `cpu`, `cuda` or `mps`.
    gateway : str or None
        URL of a gateway.
    query_s : float
        Seconds between two questions to the Prefect server.
    is_preloaded : bool
        Load the models at the start, not with the first run.

    Returns
    -------
    Tally or None
        How many runs there were; None without a Prefect server.

    Raises
    ------
    InputError
        If there is nothing to serve, no such device, or no token for the gateway.
    RefusedError
        If another worker holds the device or serves the pool.
    """
    plan = plan_worker(device=device, gateway=gateway, query_s=query_s)
    warm = partial(load_models, plan.workplace, say) if is_preloaded else None
    folder = lock_folder(
        load_worker_settings().state, plan.device, root=plan.workplace.root
    )
    with fenced(folder, plan.device, server=plan.server):
        if plan.server is None:
            say(f"no Prefect server at {api_url()}: predictions only")
        stop = threading.Event()
        with _predictions(plan, stop, say, is_preloaded=is_preloaded):
            return asyncio.run(_serve(plan, stop, say, warm))


def plan_worker(*, device: str, gateway: str | None, query_s: float) -> WorkerPlan:
    """Return what this worker serves.

    Raises
    ------
    InputError
        If there is nothing to serve, no such device, or no token for the gateway.
    """
    settings = load_worker_settings()
    token = settings.token.get_secret_value() if settings.token else None
    if gateway is not None and token is None:
        raise InputError(
            "--gateway: set ALPHALAKE_WORKER_TOKEN"
            " (`alphalake keys token --for worker` makes one)"
        )
    if gateway is not None and token is not None:
        check_gateway(gateway, token)
    server = find_server()
    if server is None and gateway is None:
        raise InputError(
            f"no Prefect server at {api_url()}: start one or set PREFECT_API_URL;"
            " --gateway URL serves predictions without one"
        )
    chosen = choose_device(device)
    # What the flows of this process open follows the same choice.
    os.environ["ALPHALAKE_DEVICE"] = chosen
    name = settings.name or f"{socket.gethostname()}-{device_label(chosen)}"
    return WorkerPlan(
        open_workplace(),
        chosen,
        name.replace("/", "-").replace("%", "-"),
        server,
        gateway,
        token,
        query_s,
    )


async def _serve(
    plan: WorkerPlan, stop: threading.Event, say: Say, warm: Callable[[], None] | None
) -> "Tally | None":
    ended = asyncio.Event()

    def end(number: int) -> None:
        if ended.is_set():
            _leave_now(number)
        ended.set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)

    def begin() -> None:
        # Not before the pool is polled: a takeover comes first.
        if warm is not None:
            threading.Thread(target=warm, name="warming", daemon=True).start()

    try:
        if plan.server is None:
            begin()
            await ended.wait()
            return None
        use_server(plan.server)
        # Prefect is imported only once its server has answered.
        from flows.worker.polling import serve_pool

        return await serve_pool(plan, ended, say, begin)
    finally:
        stop.set()


def _leave_now(number: int) -> NoReturn:
    os._exit(128 + number)


@contextmanager
def _predictions(
    plan: WorkerPlan, stop: threading.Event, say: Say, *, is_preloaded: bool
) -> Iterator[None]:
    if plan.gateway is None or plan.token is None:
        yield
        return
    thread = threading.Thread(
        target=_predict,
        args=(plan.gateway, plan.token, plan.workplace, stop),
        kwargs={"is_preloaded": is_preloaded},
        name="predictions",
        daemon=True,
    )
    thread.start()
    say(f"predictions for {plan.gateway} on {plan.device}")
    try:
        yield
    finally:
        stop.set()
        thread.join(GATEWAY_GOODBYE_S)


def _predict(
    url: str,
    token: str,
    workplace: Workplace,
    stop: threading.Event,
    *,
    is_preloaded: bool,
) -> None:
    from flows.worker.predicting import PRELOADED, serve_predictions

    serve_predictions(
        url,
        token,
        stop=stop,
        device_lock=device_lock(),
        workplace=workplace,
        preload=PRELOADED if is_preloaded else (),
    )
