"""The ASGI layer ahead of the router: hot answers from prepared bytes, and the limits.

A GET whose path and query string are on the board is answered here with messages made
once per artefact version. Everything else passes the limits and goes to the router;
its answer gets the protective headers on the way out.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from math import ceil
from typing import Any

from serve.board import Holder
from serve.limits import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_PATH,
    MAX_QUERY,
    TokenBuckets,
    max_body,
)
from serve.problems import MEDIA_TYPE, problem
from serve.renditions import EMPTY_BODY, Message, conditions
from serve.security import PREFLIGHT, Headers, headers_for

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Asgi = Callable[[Any, Any, Any], Awaitable[None]]

_UNROUTED = "unrouted"


class FastLayer:
    """Answer hot GETs from the board; guard and pass on the rest.

    Parameters
    ----------
    inner : ASGI application
        The Litestar application.
    holder : Holder
        What is served now.
    buckets : TokenBuckets
        Limit per client; a rate of 0 switches it off.
    """

    def __init__(self, inner: Asgi, holder: Holder, buckets: TokenBuckets) -> None:
        self.inner = inner
        self.holder = holder
        self.buckets = buckets
        self.is_limited = buckets.rate > 0
        self.answered: Counter[tuple[str, str, int]] = Counter()
        self.seconds: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        now = time.monotonic()
        if self.is_limited and (wait := self.buckets.wait(_peer(scope), now)):
            await self.refuse_busy(scope, send, wait)
            return
        variants = self.holder.routes.get(scope["path"])
        if variants is not None:
            rendition = variants.get(scope["query_string"])
            if rendition is not None:
                method = scope["method"]
                if method == "GET" or method == "HEAD":  # noqa: PLR1714 - hot path
                    age = int(now - self.holder.verified_mono)
                    answer = rendition.answer(*conditions(scope["headers"]), age)
                    await send(answer.start)
                    await send(answer.body_message if method == "GET" else EMPTY_BODY)
                    self.answered[rendition.route, "fast", answer.status] += 1
                    return
        await self.pass_on(scope, receive, send)

    async def refuse_busy(self, scope: Scope, send: Send, wait: float) -> None:
        """Answer 429; `wait` is in seconds."""
        detail = "too many requests from this address"
        await self._refuse(scope, send, 429, detail, _retry(wait))

    async def pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request that is not on the board and hand it to the router."""
        started = time.monotonic()
        if (refusal := refuse_oversize(scope)) is not None:
            await self._refuse(scope, send, *refusal)
            return
        path = scope["path"]
        method = scope["method"]
        if method == "OPTIONS" and path.startswith("/showcase/"):
            await self._preflight(send)
            return
        if method == "HEAD":
            scope["method"] = "GET"
            scope["is_head"] = True
        status = 500

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": _protect(path, message)}
            elif method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        try:
            await self.inner(scope, receive, guarded)
        finally:
            route = scope.get("path_template") or _UNROUTED
            self.answered[route, "router", status] += 1
            self.seconds[route] += time.monotonic() - started  # type: ignore[assignment]

    async def _refuse(
        self,
        scope: Scope,
        send: Send,
        status: int,
        detail: str,
        extra: Headers | None = None,
    ) -> None:
        body = problem(status, detail)
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            *headers_for(scope["path"]),
            *(extra or []),
        ]
        if scope["method"] not in {"GET", "HEAD"}:  # the server drops an unread body
            headers.append((b"connection", b"close"))
        self.answered[_UNROUTED, "refused", status] += 1
        await send(
            {"type": "http.response.start", "status": status, "headers": headers}
        )
        await send(
            {
                "type": "http.response.body",
                "body": b"" if scope["method"] == "HEAD" else body,
            }
        )

    async def _preflight(self, send: Send) -> None:
        self.answered["/showcase", "preflight", 204] += 1
        await send({"type": "http.response.start", "status": 204, "headers": PREFLIGHT})
        await send(EMPTY_BODY)


def refuse_oversize(scope: Scope) -> tuple[int, str] | None:
    """Return the status and reason to refuse an over-long request with, or None."""
    raw = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    headers: Headers = scope["headers"]
    if len(raw) > MAX_PATH:
        return 414, f"the path is {len(raw)} bytes, allowed {MAX_PATH}"
    if len(scope["query_string"]) > MAX_QUERY:
        return (
            414,
            f"the query is {len(scope['query_string'])} bytes, allowed {MAX_QUERY}",
        )
    n_bytes = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS or n_bytes > MAX_HEADER_BYTES:
        return 431, f"{len(headers)} headers of {n_bytes} bytes, allowed {MAX_HEADERS}"
    return _refuse_content(scope, headers)


def _refuse_content(scope: Scope, headers: Headers) -> tuple[int, str] | None:
    # What the router would refuse later, or never look at.
    if "\x00" in scope["path"] or "\ufffd" in scope["path"]:
        return 400, "the path is not text: it holds NUL or is not UTF-8"
    length = next((value for name, value in headers if name == b"content-length"), b"0")
    allowed = max_body(scope["path"])
    if not length.isdigit() or int(length) > allowed:
        return 413, f"the body is larger than {allowed} bytes"
    return None


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _retry(wait: float) -> Headers:
    return [(b"retry-after", str(ceil(wait)).encode())]


def _protect(path: str, message: Message) -> Headers:
    headers: Headers = list(message["headers"])
    present = {name for name, _ in headers}
    headers.extend(pair for pair in headers_for(path) if pair[0] not in present)
    return headers
