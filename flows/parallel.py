"""Tasks spread over processes: of this machine, or of a Ray cluster.

The same module-level function is called with the same arguments everywhere, so where a
task ran cannot show in its result. Results come as they are ready, each with its task's
number; whoever needs an order sorts by it.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Final, TypeVar

from lakehouse.errors import InputError, LakehouseError

C = TypeVar("C")
T = TypeVar("T")
R = TypeVar("R")

LOCAL: Final = "local"
"""Instead of an address: a Ray of this machine, started for the call."""

CONNECT_S: Final = 5.0
_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class WorkerLostError(LakehouseError):
    """A process ended without a result: killed, or out of memory."""


def map_tasks(
    function: Callable[[C, T], R],
    tasks: Sequence[T],
    *,
    common: C,
    ray: str | None = None,
    workers: int | None = None,
) -> Iterator[tuple[int, R]]:
    """Call `function(common, task)` for every task.

    Parameters
    ----------
    function : callable
        Defined at the top of a module: other processes import it by its name.
    tasks : sequence
        What differs from call to call.
    common : object
        What does not; handed over once a process.
    ray : str, optional
        Address of a Ray cluster, or `local`; processes of this machine if not given.
    workers : int, optional
        Processes, one a core if not given; 1 works in this process. On a Ray cluster
        the cores of the cluster count, `workers` only for `local`.

    Yields
    ------
    tuple of int and result
        Number of the task, and what it returned, as they become ready.

    Raises
    ------
    InputError
        If no Ray cluster answers at the address.
    WorkerLostError
        If a process died over a task.
    """
    if ray is not None:
        yield from _on_ray(function, tasks, common, ray, workers)
        return
    n_workers = min(workers or cores(), len(tasks))
    if n_workers <= 1:
        for number, task in enumerate(tasks):
            yield number, function(common, task)
        return
    yield from _on_processes(function, tasks, common, n_workers)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _on_processes(
    function: Callable[[C, T], R], tasks: Sequence[T], common: C, n_workers: int
) -> Iterator[tuple[int, R]]:
    waiting = iter(enumerate(tasks))
    with _processes(function, common, n_workers) as links:
        for link in links:
            link.send(next(waiting))
        busy: list[Connection[Any, Any]] = list(links)
        while busy:
            answered = connection.wait(busy)
            for ready in [one for one in busy if one in answered]:
                number, result = _received(ready)
                following = next(waiting, None)
                if following is None:
                    busy.remove(ready)
                else:
                    ready.send(following)
                yield number, result


@contextmanager
def _processes(
    function: Callable[[C, T], R], common: C, n_workers: int
) -> Iterator[list["Connection[Any, Any]"]]:
    # Spawned, so that they share nothing; each ends with its pipe or with its parent.
    context = get_context("spawn")
    started: list[tuple[SpawnProcess, Connection[Any, Any]]] = []
    try:
        with _one_thread_each():
            for _ in range(n_workers):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs,), daemon=True)
                process.start()
                theirs.close()
                started.append((process, ours))
        for _, ours in started:
            ours.send((function, common))
        yield [ours for _, ours in started]
    finally:
        for process, ours in started:
            ours.close()
            process.terminate()
            process.join()


def _serve(link: "Connection[Any, Any]") -> None:
    # The life of a process: function and common once, then tasks until the pipe ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        function, common = link.recv()
        while True:
            number, task = link.recv()
            answer: tuple[int, Any, Exception | None]
            try:
                answer = (number, function(common, task), None)
            except Exception as error:  # noqa: BLE001 - raised again by the parent
                answer = (number, None, error)
            link.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _received(link: "Connection[Any, Any]") -> tuple[int, Any]:
    try:
        number, result, error = link.recv()
    except (EOFError, ConnectionResetError):
        raise WorkerLostError(
            "a worker process ended without a result: killed, or out of memory; "
            "fewer --workers need less"
        ) from None
    if error is not None:
        raise error
    return number, result


@contextmanager
def _one_thread_each() -> Iterator[None]:
    # Children read these when they load numpy; this process has loaded it already.
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _on_ray(
    function: Callable[[C, T], R],
    tasks: Sequence[T],
    common: C,
    address: str,
    workers: int | None,
) -> Iterator[tuple[int, R]]:
    with _cluster(address, workers) as ray:
        remote = ray.remote(num_cpus=1)(function)
        shared = ray.put(common)
        numbers = {remote.remote(shared, task): k for k, task in enumerate(tasks)}
        while numbers:
            done, _ = ray.wait(list(numbers), num_returns=1)
            try:
                result = ray.get(done[0])
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                first = str(error).strip().splitlines()[0]
                raise WorkerLostError(f"Ray at {address}: {first}") from None
            yield numbers.pop(done[0]), result


@contextmanager
def _cluster(address: str, workers: int | None) -> Iterator[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's coming default, said here so that it does not warn: devices stay as set.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address != LOCAL:  # something may answer there that is no Ray
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "5")
    _require_answer(address)
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address == LOCAL:
        options |= {"num_cpus": workers or cores(), "include_dashboard": False}
    try:
        ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"--ray {address}: no cluster answers: {first}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    # Ray itself waits for minutes.
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        if address in {LOCAL, "auto"}:
            return
        raise InputError(f"--ray {address}: HOST:PORT, auto or local")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise InputError(
            f"--ray {address}: no cluster answers: {error}; `ray start --head` starts one"
        ) from None
