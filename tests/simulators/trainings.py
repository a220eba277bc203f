"""Flow bodies that end in every way a training can: run in processes of their own."""

import os
import signal
import time
from pathlib import Path

from flows.runs import Run
from lab.errors import TrainingError
from lakehouse.errors import RefusedError


def body(run: Run, *, ends: str, noted: str | None = None) -> str:
    """Note this process in the file `noted` and end as asked."""
    if noted is not None:
        with Path(noted).open("a", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
    if ends == "slowly":
        time.sleep(3)
    if ends == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if ends == "refused":
        raise RefusedError("NEEDS_MORE_DATA: 3 closed orders, 300 are needed")
    if ends == "failed":
        raise TrainingError("no label varies")
    print("a library says something")  # noqa: T201 - what must not hide the result
    return f"trained in {run.flow}"
