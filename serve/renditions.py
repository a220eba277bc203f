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


class Answer:
    """One way to send a rendition: as ASGI messages, or in one RSGI call.

    Attributes
    ----------
    status : int
        200 or 304.
    start, body_message : dict
        ASGI messages.
    headers : list of (str, str)
        The same headers for RSGI.
    body : bytes
        The same body for RSGI.
    """

    __slots__ = ("body", "body_message", "headers", "start", "status")

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.body = body
        self.headers = [(name.decode(), value.decode()) for name, value in headers]
        self.start: Message = {
            "type": "http.response.start",
            "status": status,
            "headers": headers,
        }
        self.body_message: Message = {
            "type": "http.response.body",
            "body": body,
            "more_body": False,
        }


class Rendition:
    """An immutable body with every answer that a conditional GET of it may need.

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
    Age is in seconds since the last successful verification. Answers are rebuilt when
    that number changes, so at most once a second.
    """

    __slots__ = (
        "_age",
        "_full",
        "_none",
        "_packed",
        "_shared",
        "body",
        "etag",
        "has_age",
        "media_type",
        "packed",
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
        self.media_type = media_type.encode()
        self.etag = f'W/"{hashlib.sha256(body).hexdigest()[:20]}"'.encode()
        packed = (
            gzip.compress(body, 6, mtime=0) if len(body) >= MIN_COMPRESSED else body
        )
        self.packed = packed if len(packed) < len(body) else body
        self._shared: Headers = [
            (b"etag", self.etag),
            (b"cache-control", cache_control.encode()),
            (b"vary", b"accept-encoding"),
            *headers_for(path),
        ]
        self._rebuild(0)

    def _rebuild(self, age: int) -> None:
        shared = [*self._shared]
        if self.has_age:
            shared.append((b"age", str(age).encode()))
        self._none = Answer(304, shared, b"")
        self._full = Answer(200, self._describe(self.body, shared), self.body)
        self._packed = self._full
        if self.packed is not self.body:
            headers = self._describe(self.packed, shared)
            headers.append((b"content-encoding", b"gzip"))
            self._packed = Answer(200, headers, self.packed)
        self._age = age

    def _describe(self, body: bytes, shared: Headers) -> Headers:
        length = (b"content-length", str(len(body)).encode())
        return [(b"content-type", self.media_type), length, *shared]

    def answer(self, if_none_match: bytes, accept_encoding: bytes, age: int) -> Answer:
        """Choose the answer of a GET.

        Parameters
        ----------
        if_none_match, accept_encoding : bytes
            Request headers; empty if there were none.
        age : int
            Seconds since the last successful verification.
        """
        if age != self._age:
            self._rebuild(age)
        if if_none_match and matches_etag(if_none_match, self.etag):
            return self._none
        if accept_encoding and accepts_gzip(accept_encoding):
            return self._packed
        return self._full


def conditions(headers: Headers) -> tuple[bytes, bytes]:
    """Return If-None-Match and Accept-Encoding of ASGI headers; empty if absent.

    Several fields of one name are one list, RFC 9110 section 5.3.
    """
    none_match = encoding = b""
    for name, value in headers:
        if name == b"if-none-match":
            none_match = none_match + b"," + value if none_match else value
        elif name == b"accept-encoding":
            encoding = encoding + b"," + value if encoding else value
    return none_match, encoding


EMPTY_BODY: Final[Message] = {
    "type": "http.response.body",
    "body": b"",
    "more_body": False,
}
