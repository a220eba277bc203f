"""The router's form of a prepared answer: the same bytes and headers."""

import time
from typing import Any

from litestar import Request, Response

from serve.board import Holder
from serve.renditions import Rendition, conditions

_CHARSET = "; charset=utf-8"  # the router adds it to text
_SET_BY_ROUTER = {"content-length", "content-type"}


def respond(
    rendition: Rendition, request: Request[Any, Any, Any], holder: Holder
) -> Response[bytes]:
    """Answer a conditional GET from a rendition."""
    age = int(time.monotonic() - holder.verified_mono)
    answer = rendition.answer(*conditions(list(request.scope["headers"])), age)
    kind = rendition.media_type.decode()
    return Response(
        answer.body,
        status_code=answer.status,
        media_type=kind.removesuffix(_CHARSET),
        headers={
            name: value for name, value in answer.headers if name not in _SET_BY_ROUTER
        },
    )
