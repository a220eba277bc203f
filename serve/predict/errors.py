"""What `/predict` and `/work` refuse beyond what every route does."""

from serve.errors import ProblemError


class WaitError(ProblemError):
    """Not now; `Retry-After` says when to ask again."""

    status = 503

    def __init__(self, detail: str, *, retry_s: int = 10) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_s)})


class NoWorkerError(WaitError):
    """No worker has asked for work lately."""

    kind = "no-worker"
    title = "No forecast worker is there"


class QueueFullError(WaitError):
    """As many requests wait as are let in."""

    kind = "queue-full"
    title = "Too many forecasts wait"


class NoQueueError(ProblemError):
    """A gateway of several processes, which do not share a queue."""

    status = 503
    kind = "no-queue"
    title = "Forecasts are not made here"

    def __init__(self) -> None:
        super().__init__(
            "this gateway runs in several processes and the queue of forecasts lives "
            "in one: it answers when started with --workers 1"
        )


class NoModelError(WaitError):
    """The worker has not got the model."""

    kind = "no-model"
    title = "The worker has no such model"


class UnfitError(ProblemError):
    """Well-formed bars that the model cannot forecast."""

    status = 422
    kind = "cannot-forecast"
    title = "These bars cannot be forecast"


class ModelFailedError(ProblemError):
    """The model failed on the worker."""

    status = 502
    kind = "model-failed"
    title = "The model failed"


class GivenUpError(ProblemError):
    """No worker finished it in time."""

    status = 504
    kind = "given-up"
    title = "No worker finished the forecast"


class UnknownJobError(ProblemError):
    """No such forecast was asked for, or it was forgotten since."""

    status = 404
    kind = "unknown-forecast"
    title = "No such forecast"


class SettledError(ProblemError):
    """The job has its answer already."""

    status = 409
    kind = "already-answered"
    title = "The job has been answered"
