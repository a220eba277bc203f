"""`/predict` for clients, `/work` for the worker; both by bearer token."""

import asyncio
from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import Parameter, QueryParameter

from serve.errors import ProblemError
from serve.gateway import Gateway, GatewayPart
from serve.limits import MAX_PREDICT_BODY, MAX_WORK_BODY
from serve.predict import jobs
from serve.predict.documents import OutcomeOperation, PredictOperation
from serve.predict.errors import NoQueueError, UnknownJobError
from serve.predict.requests import decode, read_order
from serve.predict.schemas import (
    JOB_PATTERN,
    WORKER_PATTERN,
    Accepted,
    Answer,
    Batch,
    Job,
    Outcome,
)
from serve.problems import documented

MAX_WAIT_S: Final = 25.0
_ACCEPTED_RETRY_S: Final = "2"
_JSON: Final = "application/json"
_NO_STORE: Final = {"Cache-Control": "no-store"}
_outcome_decoder: Final[msgspec.json.Decoder[Outcome]] = msgspec.json.Decoder(Outcome)

_ANSWERS: Final = {
    200: ResponseSpec(Answer, description="The forecast", generate_examples=False),
    202: ResponseSpec(
        Accepted,
        description="Not ready within 25 s, or asked for too early: fetch it at "
        "Location. It is worked on for up to 10 minutes and kept for 30.",
        generate_examples=False,
    ),
}
_JobId = Annotated[
    str,
    Parameter(
        description="As in the 202 answer.",
        schema_extra={"pattern": JOB_PATTERN},
        examples=[Example(value="u3Yc0pXJb7yq1rW5nKd2Ag")],
    ),
]


def _guard(role: str) -> Any:
    def require(
        connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler
    ) -> None:
        """Refuse before the body is read who has no token, or asks a wrong process."""
        gateway: Gateway = connection.app.state.gateway
        try:
            gateway.tokens.require(connection.headers.get("authorization"), role)
            if gateway.settings.processes > 1:
                raise NoQueueError
        except ProblemError as error:
            if isinstance(connection, Request) and connection.method == "POST":
                # The server drops a connection whose body was not read.
                error.headers["Connection"] = "close"
            raise

    return require


class PredictController(Controller):
    """Forecasts of bars that the client brings."""

    path = "/predict"
    tags = ("predict",)
    security = ({"predict": []},)
    guards = (_guard("predict"),)

    @post(
        "/",
        operation_id="predict",
        operation_class=PredictOperation,
        summary="Forecast bars",
        status_code=200,
        request_max_body_size=MAX_PREDICT_BODY,
        responses={
            **_ANSWERS,
            **documented(400, 401, 413, 414, 422, 429, 502, 503, 504),
        },
    )
    async def predict(
        self, request: Request[Any, Any, Any], gateway: GatewayPart
    ) -> Response[bytes]:
        """Forecast the bars that follow those in the body.

        Identical requests share one forecast, and its answer for half an hour. 503
        when no worker is there or 64 forecasts wait: ask again after Retry-After. 422
        when the model cannot forecast these bars, 502 when it failed, 504 when no
        worker finished within 10 minutes.
        """
        view = gateway.view
        instruments = view.snapshot.instruments if view is not None else {}
        body = await request.body()
        order = await asyncio.to_thread(read_order, body, instruments)
        job, is_cached = gateway.queue.submit(order)
        if not is_cached:
            await gateway.queue.wait(job)
        return _answer(job, is_cached=is_cached)

    @get(
        "/{job_id:str}",
        operation_id="readForecast",
        summary="Fetch a forecast that took longer",
        responses={
            **_ANSWERS,
            **documented(400, 401, 404, 414, 422, 429, 502, 503, 504),
        },
    )
    async def read_forecast(
        self, gateway: GatewayPart, job_id: _JobId
    ) -> Response[bytes]:
        """Return the forecast of a 202 answer, or 202 again."""
        return _answer(gateway.queue.find(_checked(job_id)), is_cached=False)


class WorkController(Controller):
    """Where the resident worker polls out to; nobody connects to it."""

    path = "/work"
    tags = ("work",)
    security = ({"worker": []},)
    guards = (_guard("worker"),)

    @get(
        "/next",
        operation_id="takeWork",
        summary="Take requests to forecast",
        responses={
            200: ResponseSpec(Batch, description="Jobs", generate_examples=False),
            204: ResponseSpec(None, description="Nothing to do"),
            **documented(400, 401, 414, 429, 503),
        },
    )
    async def take_work(
        self,
        *,
        request: Request[Any, Any, Any],
        gateway: GatewayPart,
        worker: Annotated[
            str,
            Parameter(
                description="Name of the polling worker, its own.",
                pattern=WORKER_PATTERN,
                examples=[Example(value="gpu-host-1")],
            ),
        ],
        n_most: Annotated[
            int,
            QueryParameter(
                name="max",
                ge=0,
                le=64,
                description="Most jobs. 0 takes none and renews this worker's leases.",
            ),
        ] = 1,
        wait: Annotated[
            float,
            Parameter(ge=0, le=MAX_WAIT_S, description="Seconds to wait for one."),
        ] = 20.0,
    ) -> Response[bytes | None]:
        """Hand out jobs of one kind under a lease of 15 s.

        A worker renews its leases with `max=0` while it works. Asking for more says
        that it holds nothing any longer: what it has not answered is offered again,
        at most three times in all.
        """
        if request.scope.get("is_head"):  # a HEAD takes nothing
            n_most, wait = 0, 0.0
        found = await gateway.queue.poll(worker, n=n_most, wait_s=wait)
        if not found:
            return Response(None, status_code=204, headers=_NO_STORE)
        batch = Batch(
            jobs=[
                Job(
                    id=job.id,
                    attempt=job.n_offers,
                    request=msgspec.Raw(job.order.payload),
                )
                for job in found
            ]
        )
        return Response(msgspec.json.encode(batch), media_type=_JSON, headers=_NO_STORE)

    @post(
        "/{job_id:str}",
        operation_id="answerWork",
        operation_class=OutcomeOperation,
        summary="Answer a job",
        status_code=204,
        request_max_body_size=MAX_WORK_BODY,
        responses={
            204: ResponseSpec(None, description="Taken"),
            **documented(400, 401, 404, 409, 413, 414, 429, 503),
        },
    )
    async def answer_work(
        self, request: Request[Any, Any, Any], gateway: GatewayPart, job_id: _JobId
    ) -> None:
        """Take the forecast of a job, or why there is none. The first answer counts."""
        body = await request.body()
        outcome = await asyncio.to_thread(decode, _outcome_decoder, body)
        gateway.queue.settle(_checked(job_id), outcome, now=gateway.clock.now())


def _checked(job_id: str) -> str:
    if len(job_id) > 64:
        raise UnknownJobError("no forecast has such a long id")
    return job_id


def _answer(job: jobs.Job, *, is_cached: bool) -> Response[bytes]:
    if job.problem is not None:
        raise job.problem.with_traceback(None)  # it may be raised often
    if job.answer is not None:
        answer = msgspec.structs.replace(job.answer, is_cached=is_cached)
        return Response(
            msgspec.json.encode(answer), media_type=_JSON, headers=_NO_STORE
        )
    location = f"/predict/{job.id}"
    body = Accepted(
        id=job.id,
        status="running" if job.state == "running" else "queued",
        location=location,
    )
    return Response(
        msgspec.json.encode(body),
        status_code=202,
        media_type=_JSON,
        headers={**_NO_STORE, "Location": location, "Retry-After": _ACCEPTED_RETRY_S},
    )
