"""`POST /ml/predict`: win probabilities from the published model, by bearer token."""

from functools import partial
from typing import Any, Final

from litestar import Controller, Request, Response, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec

from serve.errors import NothingVerifiedError, ProblemError
from serve.gateway import Gateway, GatewayPart
from serve.limits import MAX_ML_BODY
from serve.ml.documents import MlOperation
from serve.ml.errors import ExpiredError, NoModelError
from serve.ml.model import Unreadable, WinModel, expiry
from serve.ml.schemas import MlAnswer
from serve.problems import documented
from serve.schemas import ArtefactRef

KIND: Final = "winprob"


def _guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Refuse before the body is read who has no token, or finds no model."""
    gateway: Gateway = connection.app.state.gateway
    try:
        gateway.tokens.require(connection.headers.get("authorization"), "predict")
        _find(gateway)
    except ProblemError as error:
        # The server drops a connection whose body was not read.
        error.headers["Connection"] = "close"
        raise


class MlController(Controller):
    """Models of the lab, asked about rows that the client brings."""

    path = "/ml"
    tags = ("ml",)
    security = ({"predict": []},)
    guards = (_guard,)

    @post(
        "/predict",
        operation_id="predictWin",
        operation_class=MlOperation,
        summary="Win probability of orders",
        status_code=200,
        request_max_body_size=MAX_ML_BODY,
        responses={
            200: ResponseSpec(
                MlAnswer, description="Probabilities", generate_examples=False
            ),
            **documented(400, 401, 413, 414, 429, 503),
        },
    )
    async def predict_win(
        self, request: Request[Any, Any, Any], gateway: GatewayPart
    ) -> Response[bytes]:
        """Return the calibrated probability that each order wins.

        A row holds every feature of the model, by name or in its order; null stands
        for one that was unknown. Contributions are in log-odds, for up to 100 rows.
        503 while no model is published, and once the accepted manifest has run out.
        """
        is_large = gateway.lanes.enter(_length(request))
        try:
            body = await request.body()
            model, ref, is_stale = _find(gateway)
            answer = partial(model.answer, body, ref=ref, is_stale=is_stale)
            content = await gateway.lanes.run(answer, is_large=is_large)
        finally:
            gateway.lanes.leave(is_large=is_large)
        return Response(
            content,
            media_type="application/json",
            headers={"Cache-Control": "no-store"},
        )


def _length(request: Request[Any, Any, Any]) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if text.isdigit() else None


def _find(gateway: Gateway) -> tuple[WinModel, ArtefactRef, bool]:
    view = gateway.view
    if view is None:
        raise NothingVerifiedError("no artefact has been verified yet")
    artefact, model = view.snapshot.artefacts.get(KIND), view.snapshot.winprob
    if artefact is None or model is None:
        raise NoModelError("no win-probability model has been published")
    if (over := expiry(artefact.valid_until, gateway.clock.now())) is not None:
        raise ExpiredError(over)
    if isinstance(model, Unreadable):
        raise NoModelError(f"this gateway cannot read the published model: {model.why}")
    ref = ArtefactRef(version=artefact.version, sha256=artefact.sha256)
    return model, ref, KIND in view.stale_kinds
