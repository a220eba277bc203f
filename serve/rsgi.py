"""The same gateway in granian's own protocol, for its one worker.

An ASGI answer is two awaited messages; RSGI sends status, headers and body in one call,
which is worth a quarter of the throughput of a hot answer. Hot answers are sent so;
everything else goes through the ASGI application, bridged. Any other ASGI server runs
`serve.app:create_app` without this file.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Protocol
from urllib.parse import quote

from serve.fast import FastLayer

_UNQUOTED: Final = "/:@!$&'()*+,;=~^"  # granian hands the path over decoded


class RsgiScope(Protocol):
    """What granian says of a request."""

    proto: str
    http_version: str
    client: str
    server: str
    scheme: str
    method: str
    path: str
    query_string: str
    headers: Any


class RsgiProtocol(Protocol):
    """How granian is answered."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Read the request's body in parts."""
        ...

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Answer without a body."""
        ...

    def response_bytes(
        self, status: int, headers: list[tuple[str, str]], body: bytes
    ) -> None:
        """Answer with a body."""
        ...


class RsgiGateway:
    """Answer hot GETs in one call; bridge the rest to ASGI.

    Parameters
    ----------
    layer : FastLayer
        The ASGI application with its board, limits and counters.
    """

    def __init__(self, layer: FastLayer) -> None:
        self.layer = layer
        self.holder = layer.holder
        self.answered = layer.answered
        self._lifespan: Lifespan | None = None

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._lifespan = Lifespan(self.layer)
        loop.run_until_complete(self._lifespan.start())

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._lifespan is not None:
            loop.run_until_complete(self._lifespan.stop())

    async def __rsgi__(self, scope: RsgiScope, protocol: RsgiProtocol) -> None:
        now = time.monotonic()
        layer = self.layer
        if layer.is_limited:
            wait = layer.buckets.wait(_host(scope.client), now)
            if wait:
                bridge = Bridge(scope, protocol)
                await layer.refuse_busy(bridge.scope, bridge.send, wait)
                return
        variants = self.holder.routes.get(scope.path)
        if variants is not None:
            rendition = variants.get(scope.query_string.encode())
            method = scope.method
            if rendition is not None and method in {"GET", "HEAD"}:
                headers = scope.headers
                answer = rendition.answer(
                    _join(headers.get_all("if-none-match")),
                    _join(headers.get_all("accept-encoding")),
                    int(now - self.holder.verified_mono),
                )
                self.answered[rendition.route, "fast", answer.status] += 1
                if answer.status == 304:
                    protocol.response_empty(304, answer.headers)
                    return
                body = answer.body if method == "GET" else b""
                protocol.response_bytes(200, answer.headers, body)
                return
        bridge = Bridge(scope, protocol)
        await layer.pass_on(bridge.scope, bridge.receive, bridge.send)


class Bridge:
    """One RSGI request as an ASGI scope, receive and send."""

    def __init__(self, scope: RsgiScope, protocol: RsgiProtocol) -> None:
        self._protocol = protocol
        self._is_read = False
        self._body: AsyncIterator[bytes] | None = None
        self._status = 500
        self._headers: list[tuple[str, str]] = []
        self._parts: list[bytes] = []
        host, _, port = scope.server.rpartition(":")
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": scope.http_version,
            "method": scope.method,
            "scheme": scope.scheme,
            "path": scope.path,
            "raw_path": quote(scope.path, _UNQUOTED, errors="replace").encode(),
            "query_string": scope.query_string.encode(),
            "root_path": "",
            "headers": [
                (name.encode("latin-1", "replace"), _encode(value))
                for name, value in scope.headers.items()
            ],
            "client": (_host(scope.client), 0),
            "server": (host, int(port) if port.isdigit() else None),
            "state": {},
            "extensions": {},
        }

    async def receive(self) -> dict[str, Any]:
        """Return the next part of the body, then that the client is done.

        Parts, because a body without a length could be of any size: whoever reads it
        stops at their own limit.
        """
        if self._is_read:
            return {"type": "http.disconnect"}
        if self._body is None:
            self._body = aiter(self._protocol)
        part = await anext(self._body, b"")
        self._is_read = not part
        return {"type": "http.request", "body": part, "more_body": bool(part)}

    async def send(self, message: dict[str, Any]) -> None:
        """Keep the start; answer in one call when the body is whole."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in message["headers"]
            ]
            return
        self._parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            body = b"".join(self._parts)
            if self._status in {204, 304}:
                self._protocol.response_empty(self._status, self._headers)
            else:
                self._protocol.response_bytes(self._status, self._headers, body)


class Lifespan:
    """The ASGI lifespan of an application, driven from outside."""

    def __init__(self, app: Callable[[Any, Any, Any], Awaitable[None]]) -> None:
        self._app = app
        self._inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._outbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the application up.

        Raises
        ------
        RuntimeError
            If it says that it cannot.
        """
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._task = asyncio.ensure_future(
            self._run(self._app(scope, self._inbox.get, self._outbox.put))
        )
        await self._exchange("startup")

    async def stop(self) -> None:
        """Shut the application down."""
        if self._task is not None and not self._task.done():
            await self._exchange("shutdown")
            await self._task

    @staticmethod
    async def _run(application: Awaitable[None]) -> None:
        await application

    async def _exchange(self, step: str) -> None:
        await self._inbox.put({"type": f"lifespan.{step}"})
        answer = await self._outbox.get()
        if answer["type"] != f"lifespan.{step}.complete":
            raise RuntimeError(f"{step}: {answer.get('message', 'failed')}")


def _host(client: str) -> str:
    return client.rpartition(":")[0].strip("[]")


def _encode(value: str) -> bytes:
    return value.encode("latin-1", "replace")


def _join(values: list[str]) -> bytes:
    # Several fields of one name are one list, RFC 9110 section 5.3.
    return _encode(",".join(values)) if values else b""
