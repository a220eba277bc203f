"""The router's form of a prepared answer: the same bytes and headers."""

import time
from typing import Any

from litestar import Request, Response

from serve.board import Holder
from serve.renditions import Rendition

_CHARSET = "; charset=utf-8"  # the router adds it to text
_SET_BY_ROUTER = {b"content-length", b"content-type"}


def respond(
    rendition: Rendition, request: Request[Any, Any, Any], holder: Holder
) -> Response[bytes]:
    """Answer a conditional GET from a rendition."""
    age = int(time.monotonic() - holder.verified_mono)
    start, body = rendition.answer(list(request.scope["headers"]), age)
    given = dict(start["headers"])
    kind = given.get(b"content-type", b"application/json").decode()
    return Response(
        body["body"],
        status_code=start["status"],
        media_type=kind.removesuffix(_CHARSET),
        headers={
            name.decode(): value.decode()
            for name, value in given.items()
            if name not in _SET_BY_ROUTER
        },
    )
