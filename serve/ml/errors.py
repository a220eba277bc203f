"""What `/ml/predict` refuses beyond what every route does."""

from serve.errors import ProblemError


class NoModelError(ProblemError):
    """No verified model, or one that this gateway cannot read."""

    status = 503
    kind = "no-model"
    title = "No win-probability model is served"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "60"})


class ExpiredError(ProblemError):
    """The accepted manifest has run out: no probability is better than an old one."""

    status = 503
    kind = "artefact-expired"
    title = "The model's manifest has run out"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "60"})


class BusyError(ProblemError):
    """As many large batches wait as are let in."""

    status = 503
    kind = "busy"
    title = "Too many batches wait"

    def __init__(self, detail: str) -> None:
        # Its body was not read, and the server drops such a connection.
        super().__init__(detail, headers={"Retry-After": "1", "Connection": "close"})
