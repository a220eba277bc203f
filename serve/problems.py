"""The one place where errors become answers: problem documents, RFC 9457."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec

from lakehouse.errors import LakehouseError
from serve.errors import PROBLEM_PREFIX, ProblemError

MEDIA_TYPE: Final = "application/problem+json"
log = logging.getLogger("alphalake.serve")

_KINDS: Final[Mapping[int, tuple[str, str]]] = {
    400: ("malformed-request", "The request cannot be understood"),
    401: ("unauthorised", "A valid bearer token is needed"),
    404: ("not-found", "Nothing here"),
    405: ("method-not-allowed", "This route does not take this method"),
    409: ("conflict", "Answered already"),
    413: ("body-too-large", "The request body is too large"),
    414: ("path-too-long", "The path or query is too long"),
    422: ("cannot-forecast", "These bars cannot be forecast"),
    429: ("too-many-requests", "Too many requests"),
    431: ("headers-too-large", "The request headers are too large"),
    500: ("internal", "The gateway failed"),
    502: ("model-failed", "The model failed"),
    503: ("unavailable", "Not available now"),
    504: ("given-up", "No worker finished the forecast"),
}


class Problem(msgspec.Struct, kw_only=True):
    """A problem document."""

    type: str
    title: str
    status: int
    detail: str


def problem(status: int, detail: str, *, kind: str = "", title: str = "") -> bytes:
    """Encode a problem document; the type and title follow from the status."""
    fallback = ("refused", HTTPStatus(status).phrase)
    usual_kind, usual_title = _KINDS.get(status, fallback)
    return msgspec.json.encode(
        Problem(
            type=PROBLEM_PREFIX + (kind or usual_kind),
            title=title or usual_title,
            status=status,
            detail=detail,
        )
    )


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """Describe the problem answers of a route for its OpenAPI document."""
    return {
        status: ResponseSpec(
            Problem,
            description=_KINDS[status][1],
            media_type=MEDIA_TYPE,
            generate_examples=False,
        )
        for status in statuses
    }


def from_problem(_: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    """Answer a refusal of ours."""
    return _respond(
        error.status,
        problem(error.status, error.detail, kind=error.kind, title=error.title),
        error.headers,
    )


def from_http(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer a refusal of the router or of parameter validation."""
    detail = error.detail or HTTPStatus(error.status_code).phrase
    extra: object = error.extra
    if isinstance(extra, list):
        found = [_describe(item) for item in extra if isinstance(item, dict)]
        detail = "; ".join(found) or detail
    headers = dict(error.headers or {})
    if "allow" in headers:
        allowed = set(headers["allow"].split(", "))
        # HEAD is answered for every GET, ahead of the router.
        headers["allow"] = ", ".join(
            sorted(allowed | {"HEAD"} if "GET" in allowed else allowed)
        )
    return _respond(error.status_code, problem(error.status_code, detail), headers)


def from_bug(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Log a failure of our own and answer without its details."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    status = 503 if isinstance(error, LakehouseError | OSError) else 500
    return _respond(status, problem(status, "the failure was logged"), None)


def _describe(item: Mapping[str, object]) -> str:
    return f"{item.get('key', 'request')}: {item.get('message', 'not allowed')}"


def _respond(
    status: int, body: bytes, headers: Mapping[str, str] | None
) -> Response[bytes]:
    return Response(
        body,
        status_code=status,
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )
