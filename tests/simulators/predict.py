"""Clients and workers of `/predict`: request bodies, a gateway process, a worker thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from flows.wiring import Workplace
from flows.worker.predicting import serve_predictions
from lab.forecasters.registry import make_forecaster
from lakehouse.trust.tokens import issue, state_folder
from tests.simulators.artefacts import NOW
from tests.simulators.gateway import GatewayProcess
from tests.simulators.published import PublishedLake

STEPS = {"1h": timedelta(hours=1), "1d": timedelta(days=1)}
START = datetime(2021, 1, 1, tzinfo=UTC)


def body(n_bars: int = 150, *, timeframe: str = "1h", seed: int = 7, **changes) -> dict:
    """A request over a random walk; `changes` replace its members."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n_bars)))
    opens = np.roll(close, 1)
    opens[0] = 100.0
    given = {
        "ts": [(START + i * STEPS[timeframe]).isoformat() for i in range(n_bars)],
        "open": opens.tolist(),
        "high": (np.maximum(opens, close) * 1.001).tolist(),
        "low": (np.minimum(opens, close) * 0.999).tolist(),
        "close": close.tolist(),
        "volume": rng.uniform(1, 9, n_bars).tolist(),
    }
    return {"model": "naive", "ohlcv": given, "pred_len": 5, **changes}


def done(pred_len: int = 5, **changes) -> dict[str, Any]:
    """What a worker posts for a job over hourly bars."""
    return {
        "status": "done",
        "model_name": "naive",
        "model_version": "1",
        "as_of": NOW.isoformat(),
        "last_ts": NOW.isoformat(),
        "last_close": 100.0,
        "target_ts": [
            (NOW + i * STEPS["1h"]).isoformat() for i in range(1, pred_len + 1)
        ],
        "p10": [90.0] * pred_len,
        "p50": [100.0] * pred_len,
        "p90": [110.0] * pred_len,
        "samples": [[100.0] * pred_len] * 20,
        "seed": 0,
        "is_contaminated": False,
        "is_conditioned": False,
        **changes,
    }


class Desk:
    """A gateway process with tokens of both roles."""

    def __init__(self, folder: Path, *options: str):
        self.lake = PublishedLake(folder)
        self.lake.publish()
        self.gateway = GatewayProcess(
            self.lake, folder / "state", "--rate-limit", "0", *options
        )
        state = state_folder(self.gateway.state, self.lake.trust.read_bytes())
        self.tokens = {
            role: issue(state, role, now=NOW) for role in ("predict", "worker", "admin")
        }
        self.workplace = Workplace(
            self.lake.lake, self.lake.clock, self.lake.keys, self.gateway.state
        )

    @property
    def url(self) -> str:
        """The gateway's address."""
        return self.gateway.url

    def headers(self, role: str = "predict") -> dict[str, str]:
        """The token of a role, as a header."""
        return {"Authorization": f"Bearer {self.tokens[role]}"}

    def ask(self, request: dict | bytes, **options) -> httpx.Response:
        """Send a request to forecast."""
        kind = {"content": request} if isinstance(request, bytes) else {"json": request}
        return httpx.post(
            f"{self.url}/predict", headers=self.headers(), timeout=40, **kind, **options
        )

    def fetch(self, path: str) -> httpx.Response:
        """Get what a 202 answer pointed to."""
        return httpx.get(self.url + path, headers=self.headers())

    def metric(self, name: str) -> float:
        """Return the value of a metric, by its name with labels."""
        for line in self.gateway.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0


class WorkerThread:
    """A real worker's predictions in a thread of the test."""

    def __init__(self, desk: Desk, **options):
        self.stop = threading.Event()
        self.lock = options.pop("device_lock", threading.Lock())
        options = {
            "opener": lambda name, _: make_forecaster(name),
            "token": desk.tokens["worker"],
            "url": desk.url,
            "preload": (),
            **options,
        }
        self.thread = threading.Thread(
            target=serve_predictions,
            kwargs={
                "stop": self.stop,
                "device_lock": self.lock,
                "workplace": desk.workplace,
                **options,
            },
            daemon=True,
        )
        self.thread.start()

    def end(self, seconds: float = 20.0) -> None:
        """Ask it to stop and wait."""
        self.stop.set()
        self.thread.join(seconds)
        assert not self.thread.is_alive()


@contextmanager
def working(desk: Desk, **options) -> Iterator[WorkerThread]:
    """A worker thread for a block."""
    worker = WorkerThread(desk, **options)
    try:
        yield worker
    finally:
        worker.end()
