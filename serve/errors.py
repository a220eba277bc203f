"""What the gateway refuses, as the problem types of its answers (RFC 9457)."""

from collections.abc import Mapping

PROBLEM_PREFIX = "urn:alphalake:problem:"


class ProblemError(Exception):
    """A refused request.

    Attributes
    ----------
    status : int
        HTTP status.
    kind : str
        Last part of the problem type, stable across releases.
    title : str
        What this kind of problem is, the same for every occurrence.
    """

    status = 400
    kind = "malformed-request"
    title = "The request cannot be understood"

    def __init__(
        self, detail: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})


class MalformedError(ProblemError):
    """A parameter outside its allowed values."""


class UnknownSymbolError(ProblemError):
    """No verified artefact names this symbol."""

    status = 404
    kind = "unknown-symbol"
    title = "No such symbol"


class NoForecastError(ProblemError):
    """The symbol is known, but no verified forecast fits the request."""

    status = 404
    kind = "no-forecast"
    title = "No verified forecast"


class NoBarsError(ProblemError):
    """The symbol is known, but no verified bars fit the request."""

    status = 404
    kind = "no-bars"
    title = "No verified bars"


class NotHereError(ProblemError):
    """No such page, file or route."""

    status = 404
    kind = "not-found"
    title = "Nothing here"


class UnauthorisedError(ProblemError):
    """A missing, wrong or revoked bearer token."""

    status = 401
    kind = "unauthorised"
    title = "A valid bearer token is needed"

    def __init__(self, detail: str) -> None:
        super().__init__(
            detail, headers={"WWW-Authenticate": 'Bearer realm="alphalake"'}
        )


class ForbiddenError(ProblemError):
    """Only answered on the loopback interface."""

    status = 403
    kind = "loopback-only"
    title = "Answered on loopback only"


class NothingVerifiedError(ProblemError):
    """No artefact has been verified yet."""

    status = 503
    kind = "nothing-verified"
    title = "Nothing verified yet"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "5"})
