"""One batch at a time on the accelerator, inside this process.

Forecast batches and predictions for the gateway run in threads of the one resident
worker; whichever holds the device runs, the other waits. Other processes are kept away
by the worker's file lock and by Prefect's leased limit `gpu`, not here.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_DEVICE: Final = threading.Lock()


def device_lock() -> threading.Lock:
    """Return the lock of this process's accelerator."""
    return _DEVICE


@contextmanager
def device_held() -> Iterator[None]:
    """Hold the accelerator; wait for whoever has it."""
    with _DEVICE:
        yield
