"""A gateway over artefacts in memory, driven through its ASGI interface."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from lakehouse.clock import Clock
from serve.app import create_app
from serve.fast import FastLayer
from serve.settings import ServeSettings
from tests.simulators.artefacts import NOW, MemoryProvider, tables


class Client:
    """A blocking client of an ASGI application, its lifespan included."""

    def __init__(self, app: FastLayer):
        self.app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._inbox: asyncio.Queue = self._run(_make_queue())
        self._outbox: asyncio.Queue = self._run(_make_queue())
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._lifespan = asyncio.run_coroutine_threadsafe(
            app(scope, self._inbox.get, self._outbox.put), self._loop
        )
        self._exchange("startup")

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def _exchange(self, step: str) -> None:
        self._run(self._inbox.put({"type": f"lifespan.{step}"}))
        assert self._run(self._outbox.get())["type"] == f"lifespan.{step}.complete"

    def request(self, method: str, url: str, *, inner: bool = False, **kwargs):
        """Send one request; `inner` goes past the fast layer to the router."""
        app = self.app.inner if inner else self.app
        peer = kwargs.pop("peer", "127.0.0.1")

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(
                app, raise_app_exceptions=False, client=(peer, 1)
            )
            async with httpx.AsyncClient(
                transport=transport, base_url="http://gateway.test"
            ) as client:
                return await client.request(method, url, **kwargs)

        return self._run(send())

    def get(self, url: str, **kwargs) -> httpx.Response:
        """Send a GET."""
        return self.request("GET", url, **kwargs)

    def close(self) -> None:
        """End the lifespan and the loop."""
        self._exchange("shutdown")
        self._lifespan.result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _make_queue() -> asyncio.Queue:
    return asyncio.Queue()


@pytest.fixture
def settings(tmp_path: Path) -> ServeSettings:
    """No rate limit, a trusted root of any bytes, long between refreshes."""
    trust = tmp_path / "root.json"
    trust.write_bytes(b"{}")
    return ServeSettings(
        root=str(tmp_path / "lake"),
        trust=trust,
        state=tmp_path / "state",
        rate_limit=0,
        refresh_seconds=30,
    )


@pytest.fixture
def start(settings: ServeSettings) -> Iterator[Callable[..., Client]]:
    """Start gateways that are stopped at the end of the test."""
    running = []

    def run(provider: MemoryProvider, *, changes: dict | None = None) -> Client:
        chosen = settings.model_copy(update=changes or {})
        app = create_app(chosen, provider=provider, clock=Clock(NOW, "demo"))
        client = Client(app)
        running.append(client)
        return client

    yield run
    for client in running:
        client.close()


@pytest.fixture
def provider() -> MemoryProvider:
    """One published version of every kind."""
    return MemoryProvider(tables())


@pytest.fixture
def client(start: Callable[..., Client], provider: MemoryProvider) -> Client:
    """A running gateway over `provider`."""
    return start(provider)
