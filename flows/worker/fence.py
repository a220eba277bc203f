"""The real fence of the accelerator: a lock that the kernel drops with its holder.

A lease on a server cannot stop a stalled holder that wakes up, and a server cannot know
that a process is dead. Whoever gets this lock knows that its predecessor is.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from flows.worker.devices import Device, device_label
from lakehouse.errors import InputError, RefusedError

FOLDER: Final = "./.alphalake-worker"


def lock_folder(state: Path | None, device: Device, *, root: str) -> Path:
    """Return where the locks are.

    Parameters
    ----------
    state : Path or None
        As configured. Without it the folder of an accelerator is the host's temporary
        one, for all labs share the card; a worker on the CPU keeps it beside its lake.
    device : str
        `cpu`, `cuda` or `mps`.
    root : str
        Lake root.

    Raises
    ------
    InputError
        If the folder lies under the lake's root.
    """
    shared = Path(tempfile.gettempdir()) / "alphalake-worker"
    folder = state or (Path(FOLDER) if device == "cpu" else shared)
    place = folder.resolve()
    if "://" not in root and place.is_relative_to(Path(root).resolve()):
        raise InputError(f"ALPHALAKE_WORKER_STATE {folder}: under the lake's root")
    return place


@contextmanager
def fenced(folder: Path, device: Device, *, server: str | None) -> Iterator[None]:
    """Hold the device, and the pool of a Prefect server, for this host.

    Parameters
    ----------
    folder : Path
        Where the locks are; made if missing.
    device : str
        `cpu`, `cuda` or `mps`.
    server : str or None
        Prefect API whose pool is served.

    Raises
    ------
    RefusedError
        If a living worker holds one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{device_label(device)}.lock"]
    if server is not None:
        names.append(f"pool-{hashlib.sha256(server.encode()).hexdigest()[:12]}.lock")
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(_locked(folder / name))
        yield


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise RefusedError(
                f"{path}: held by process {holder}; one worker per device and pool"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
