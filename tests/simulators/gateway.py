"""A gateway process over a published lake, on a free port of loopback."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.simulators.artefacts import NOW
from tests.simulators.published import PublishedLake

REPOSITORY = Path(__file__).resolve().parents[2]


class GatewayProcess:
    """`python -m serve`; stopped by `stop` or `kill`."""

    def __init__(self, lake: PublishedLake, state: Path, *options: str, port: int = 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.state = state
        self.log = state.parent / f"gateway-{self.port}.log"
        command = [
            *(sys.executable, "-m", "serve", "--port", str(self.port)),
            *("--root", str(lake.root), "--trust", str(lake.trust)),
            *("--state", str(state), "--now", NOW.isoformat()),
            *options,
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={k: v for k, v in os.environ.items() if "ALPHALAKE" not in k},
            )
        self.seconds_to_ready = self._wait(20.0)

    def _wait(self, limit: float) -> float:
        started = time.monotonic()
        while time.monotonic() - started < limit:
            try:
                if httpx.get(f"{self.url}/health/live").status_code == 200:
                    return time.monotonic() - started
            except httpx.TransportError:
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"not live in {limit} s: {self.log.read_text()}")

    def get(self, path: str, **options) -> httpx.Response:
        """Send a GET."""
        return httpx.get(self.url + path, **options)

    def until(self, path: str, condition, seconds: float = 15.0) -> httpx.Response:
        """Repeat a GET until its answer satisfies `condition`."""
        end = time.monotonic() + seconds
        while True:
            answer = self.get(path)
            if condition(answer):
                return answer
            assert time.monotonic() < end, answer.text[:500]
            time.sleep(0.1)

    def stop(self) -> None:
        """Ask it to end, as an operator would."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End the process group at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(15)
