"""Functions that other processes import by name: for tests of `flows.parallel`."""

import os
import signal
import threading
import time

import numpy as np

from lab.arrays import FloatArray
from lab.errors import BacktestError


def scaled(common: FloatArray, task: int) -> FloatArray:
    """Return a sum that depends on the order of its terms, to the last bit."""
    return np.cumsum(np.sin(common * (task + 1)))


def where(common: object, task: int) -> tuple[int, dict[str, str | None], bool]:
    """Return process, thread settings, and whether `common` may be written."""
    time.sleep(0.2)
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    return os.getpid(), {name: os.environ.get(name) for name in names}, True


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


def slow(common: str, task: int) -> int:
    """Note this process's id in the file `common`, and work for a minute."""
    with open(common, "a") as file:
        file.write(f"{os.getpid()}\n")
    threading.Event().wait(60)
    return task
