"""One answer, rendered once: its bytes, its compressed bytes and its ASGI messages."""

import gzip
import hashlib
from functools import lru_cache
from typing import Any, Final

from serve.security import Headers, headers_for

Message = dict[str, Any]
JSON: Final = "application/json"
MIN_COMPRESSED: Final = 512  # bytes; below it gzip saves no packet


@lru_cache(maxsize=256)
def accepts_gzip(header: bytes) -> bool:
    """Return whether an Accept-Encoding header allows gzip."""
    weights: dict[str, float] = {}
    for part in header.decode("latin-1").lower().split(","):
        name, _, parameter = part.partition(";")
        text = parameter.strip().removeprefix("q=")
        try:
            weights[name.strip()] = float(text) if text else 1.0
        except ValueError:
            weights[name.strip()] = 0.0
    return weights.get("gzip", weights.get("*", 0.0)) > 0.0


def matches_etag(header: bytes, etag: bytes) -> bool:
    """Return whether an If-None-Match header names `etag`, compared weakly."""
    if header == etag:
        return True
    wanted = etag.removeprefix(b"W/")
    parts = (part.strip() for part in header.split(b","))
    return any(part == b"*" or part.removeprefix(b"W/") == wanted for part in parts)


class Rendition:
    """An immutable body with every message a conditional GET of it may need.

    Parameters
    ----------
    body : bytes
        The representation.
    path : str
        Request path: decides the protective headers.
    route : str
        Route template, the label of the counters.
    media_type : str
        Content type.
    cache_control : str
        Cache-Control of 200 and 304.
    has_age : bool
        Whether the body stands for a verification, so that Age is its age.

    Notes
    -----
    Age is in seconds since the last successful verification. Messages are rebuilt
    when that number changes, so at most once a second.
    """

    __slots__ = (
        "_age",
        "_full",
        "_gzip",
        "_headers",
        "_none",
        "body",
        "etag",
        "full_body",
        "gzip_body",
        "has_age",
        "route",
    )

    def __init__(
        self,
        body: bytes,
        *,
        path: str,
        route: str,
        media_type: str = JSON,
        cache_control: str = "public, max-age=30",
        has_age: bool = True,
    ) -> None:
        self.body = body
        self.route = route
        self.has_age = has_age
        self.etag = f'W/"{hashlib.sha256(body).hexdigest()[:20]}"'.encode()
        packed = (
            gzip.compress(body, 6, mtime=0) if len(body) >= MIN_COMPRESSED else body
        )
        shared: Headers = [
            (b"etag", self.etag),
            (b"cache-control", cache_control.encode()),
            (b"vary", b"accept-encoding"),
            *headers_for(path),
        ]
        kind = (b"content-type", media_type.encode())
        plain = [kind, (b"content-length", str(len(body)).encode()), *shared]
        squeezed = plain
        if len(packed) < len(body):
            squeezed = [
                kind,
                (b"content-length", str(len(packed)).encode()),
                (b"content-encoding", b"gzip"),
                *shared,
            ]
        else:
            packed = body
        self.full_body: Message = _body(body)
        self.gzip_body: Message = _body(packed)
        self._headers = (plain, squeezed, shared)
        self._full: Message = {}
        self._gzip: Message = {}
        self._none: Message = {}
        self._age = -1
        self._rebuild(0)

    def _rebuild(self, age: int) -> None:
        plain, squeezed, shared = self._headers
        extra = [(b"age", str(age).encode())] if self.has_age else []
        self._full = _start(200, [*plain, *extra])
        self._gzip = _start(200, [*squeezed, *extra])
        self._none = _start(304, [*shared, *extra])
        self._age = age

    def answer(self, headers: Headers, age: int) -> tuple[Message, Message]:
        """Choose the start and body messages of a GET with these request headers."""
        if age != self._age:
            self._rebuild(age)
        is_packed = False
        for name, value in headers:
            if name == b"if-none-match":
                if matches_etag(value, self.etag):
                    return self._none, EMPTY_BODY
            elif name == b"accept-encoding":
                is_packed = accepts_gzip(value)
        if is_packed:
            return self._gzip, self.gzip_body
        return self._full, self.full_body


def _start(status: int, headers: Headers) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def _body(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": False}


EMPTY_BODY: Final[Message] = _body(b"")
