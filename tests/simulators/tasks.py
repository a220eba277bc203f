"""Functions that other processes import by name: for tests of `flows.parallel`."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from lab.arrays import FloatArray
from lab.errors import BacktestError


def scaled(common: FloatArray, task: int) -> FloatArray:
    """Return sums that depend on the order of their terms, to the last bit."""
    return np.cumsum(np.sin(common * (task + 1)))


def where(common: object, task: int) -> tuple[int, dict[str, str | None]]:
    """Return the process and its thread settings."""
    time.sleep(0.1)
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    return os.getpid(), {name: os.environ.get(name) for name in names}


def walk_somewhere(common: Any, task: Any) -> tuple[Any, str]:
    """Walk a sleeve forward; return the walk and the Ray node that did it."""
    import ray

    from flows.bodies.walk_job import walk_unit

    walk = walk_unit(common, task)
    if not ray.is_initialized():
        return walk, ""
    time.sleep(0.5)  # nobody takes it all
    return walk, str(ray.get_runtime_context().get_node_id())


def failing(common: object, task: int) -> int:
    """Fail over task 2."""
    if task == 2:
        raise BacktestError("task 2: no bars")
    return task


def killed(common: object, task: int) -> int:
    """Die over task 1."""
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def first_is_quick(common: str, task: int) -> int:
    """Note this process in the file `common`; task 0 waits for that, others a minute."""
    noted = Path(common)
    with noted.open("a") as file:
        file.write(f"{os.getpid()}\n")
    while task == 0 and len(noted.read_text().splitlines()) < 2:
        time.sleep(0.05)
    if task:
        time.sleep(60)
    return task


def endless(common: str, task: int) -> int:
    """Note this process in the file `common` and work for a minute."""
    with Path(common).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(60)
    return task


if __name__ == "__main__":
    from flows.parallel import map_tasks

    list(map_tasks(endless, range(2), common=sys.argv[1], workers=2))
