"""Processes that the demo starts and never leaves behind."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from lakehouse.errors import RefusedError

LOOPBACK = "127.0.0.1"
GRACE_S = 8.0


class ProcessFailedError(RefusedError):
    """A process that the demo needs did not come up."""


class Crew:
    """Child processes, each in a group of its own, stopped together."""

    def __init__(self) -> None:
        self._members: list[tuple[str, subprocess.Popen[bytes], Path]] = []

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a process; what it prints goes to `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as sink:
            process = subprocess.Popen(  # noqa: S603 - our own commands
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self._members.append((name, process, log))

    def wait_for(
        self,
        name: str,
        is_ready: Callable[[], bool],
        *,
        timeout_s: float,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """Wait until `is_ready`, calling `between` between the questions.

        Raises
        ------
        ProcessFailedError
            If the process ended, or was not ready in time.
        """
        _, process, log = next(one for one in self._members if one[0] == name)
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if process.poll() is not None:
                raise ProcessFailedError(
                    f"{name} ended with status {process.returncode}: {_last_line(log)}"
                )
            if time.monotonic() > deadline:
                raise ProcessFailedError(
                    f"{name} was not ready after {timeout_s:.0f} s; see {log}"
                )
            between()
            time.sleep(0.15)

    def is_whole(self) -> bool:
        """Return whether every process still runs."""
        return all(process.poll() is None for _, process, _ in self._members)

    def stop(self) -> None:
        """End every process and its children: politely, then for good."""
        for _, process, _ in self._members:
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        for _, process, _ in self._members:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            _signal_group(process, signal.SIGKILL)
            process.wait()
        self._members.clear()


@contextmanager
def crew() -> Iterator[Crew]:
    """Yield a crew that is stopped whatever happens, Ctrl-C and SIGTERM included."""
    members = Crew()
    kept = {
        number: signal.signal(number, _leave)
        for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield members
    finally:
        # A second Ctrl-C must not leave a process behind.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        members.stop()
        for number, handler in {**kept, signal.SIGINT: interrupt}.items():
            signal.signal(number, handler)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line]
    return lines[-1].strip()[:300] if lines else "it said nothing"


def free_port(preferred: int | None = None) -> int:
    """Return `preferred` if nobody listens there, else a port that is free now."""
    if preferred is not None and _is_free(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def answers_ok(url: str) -> bool:
    """Return whether `url` answers with 200 within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - loopback
            return int(reply.status) == 200
    except (OSError, ValueError, urllib.error.URLError):
        return False
