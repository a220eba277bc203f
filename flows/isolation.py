"""One flow in a process of its own: what ends it cannot end whoever asked for it.

`python -m flows.isolation` reads an order from standard input, runs the flow as a verb
would, on the Prefect server that answers or without one, and writes what came of it as
the last line of standard output.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any, Final

from lab.errors import LabError
from lakehouse.errors import InputError, LakehouseError, RefusedError

_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_OURS: Final = "PREFECT__"  # what a worker told the flow that asks, not this one


class RunLostError(LakehouseError):
    """A run's process ended without a result: killed, or out of memory."""


class IsolatedRunError(LakehouseError):
    """A run in a process of its own failed."""


@dataclass(frozen=True, slots=True)
class Order:
    """A flow to be run.

    Attributes
    ----------
    flow : str
        Its name.
    body, entry : str
        `module:name` of its plain body and of the flow over it.
    parameters : mapping
        JSON: arguments of the body.
    """

    flow: str
    body: str
    entry: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it.

    Attributes
    ----------
    run_id, message : str
        As in `runs`; the reason if it failed.
    error : str
        Empty, `refused`, `input` or `failed`.
    """

    run_id: str
    message: str
    error: str = ""


def run_isolated(
    order: Order, *, keep_open: Sequence[int] = (), timeout_s: float | None = None
) -> Result:
    """Run a flow in a process of its own and wait for it.

    Parameters
    ----------
    order : Order
        What to run; in this process's environment, one thread a library.
    keep_open : sequence of int
        File descriptors that the process inherits: a lock on one is held until it ends
        too, whatever becomes of this process.
    timeout_s : float, optional
        Seconds after which it is ended; none if not given.

    Raises
    ------
    RefusedError, InputError, IsolatedRunError
        As the flow's own error.
    RunLostError
        If the process ended without a result.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    for name in _THREADS:
        environment.setdefault(name, "1")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "flows.isolation"],
            input=json.dumps(asdict(order)),
            capture_output=True,
            text=True,
            env=environment,
            pass_fds=tuple(keep_open),
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RunLostError(
            f"{order.flow}: not ready after {timeout_s:.0f} s"
        ) from error
    lines = done.stdout.splitlines()
    try:
        result = Result(**json.loads(lines[-1]))
    except (IndexError, ValueError, TypeError) as error:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:300]
        raise RunLostError(
            f"{order.flow}: its process ended with status {done.returncode}: {said}"
        ) from error
    return _raised(order, result)


def _raised(order: Order, result: Result) -> Result:
    kinds = {"refused": RefusedError, "input": InputError, "failed": IsolatedRunError}
    if result.error:
        raise kinds[result.error](f"{order.flow}: {result.message}")
    return result


def named(place: str) -> Any:
    """Return what `module:name` names."""
    module, name = place.split(":")
    return getattr(import_module(module), name)


def _work(order: Order) -> Result:
    from flows.server import run_flow

    try:
        outcome = run_flow(
            order.flow,
            named(order.body),
            lambda: named(order.entry),
            **order.parameters,
        )
    except RefusedError as error:
        return Result("", str(error), "refused")
    except InputError as error:
        return Result("", str(error), "input")
    except (LakehouseError, LabError) as error:
        return Result("", str(error), "failed")
    return Result(outcome.run_id, outcome.message)


def main() -> None:
    """Run the order on standard input."""
    order = Order(**json.load(sys.stdin))
    result = _work(order)
    sys.stdout.write(f"\n{json.dumps(asdict(result))}\n")


if __name__ == "__main__":
    main()
