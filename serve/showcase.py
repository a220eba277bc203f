"""`/showcase`: what anyone may read. Every route here is public."""

from collections.abc import Callable, Hashable
from typing import Annotated, Any, cast

import msgspec
from litestar import Controller, Request, Response, get
from litestar.openapi.spec import Example
from litestar.params import Parameter

from serve import answers
from serve.answers import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    MAX_OFFSET,
    MODEL_PATTERN,
    SYMBOL_PATTERN,
    ScoreFilter,
)
from serve.board import BARS, EVALUATION, INSTRUMENTS, PREDICTION, SLEEVES
from serve.errors import MalformedError
from serve.gateway import Gateway, GatewayPart
from serve.problems import documented
from serve.renditions import Rendition
from serve.responses import respond
from serve.schemas import (
    Bars,
    Instruments,
    Prediction,
    Scope,
    Scores,
    Sleeves,
    Status,
    Timeframe,
)

Symbol = Annotated[
    str,
    Parameter(
        description="Symbol, e.g. BTC-USD, ES=F or EUR/USD.",
        max_length=65,  # the router hands it over with a leading slash
        examples=[Example(value="BTC-USD")],
        schema_extra={"pattern": SYMBOL_PATTERN, "maxLength": 64, "minLength": 1},
    ),
]
ModelName = Annotated[
    str | None,
    Parameter(
        pattern=MODEL_PATTERN, description="Model; the preferred one if not given."
    ),
]
Bar = Annotated[
    Timeframe | None, Parameter(description="Bar length; hourly where there is one.")
]
Limit = Annotated[int, Parameter(ge=1, le=MAX_LIMIT, description="Items a page.")]
Offset = Annotated[int, Parameter(ge=0, le=MAX_OFFSET, description="Items skipped.")]
Horizon = Annotated[
    int | None, Parameter(ge=1, le=10_000, description="Step of the forecast, bars.")
]
ScoredSymbol = Annotated[
    str | None, Parameter(pattern=SYMBOL_PATTERN, max_length=64, description="Symbol.")
]
Level = Annotated[
    Scope, Parameter(description="Scores of symbols, of asset classes, or of all.")
]


AnyBar = Annotated[Timeframe | None, Parameter(description="Bar length; else all.")]
SleeveName = Annotated[
    str | None, Parameter(pattern=MODEL_PATTERN, description="Sleeve, e.g. phase37.")
]


class ShowcaseController(Controller):
    """Forecasts, instruments, bars, scores and sleeves."""

    path = "/showcase"
    tags = ("showcase",)

    @get(
        "/ml-prediction/{symbol:path}",
        operation_id="readPrediction",
        summary="Newest verified forecast",
        responses=documented(400, 404, 414, 429, 503),
    )
    async def read_prediction(
        self,
        *,
        request: Request[Any, Any, Any],
        gateway: GatewayPart,
        symbol: Symbol,
        model_name: ModelName = None,
        timeframe: Bar = None,
    ) -> Response[Prediction]:
        """Return the newest verified forecast of a symbol."""
        refuse_unknown(request, {"model_name", "timeframe"})
        name = symbol.removeprefix("/")
        body = _render(
            request,
            gateway,
            PREDICTION,
            lambda: answers.prediction(
                gateway.view, name, model_name=model_name, timeframe=timeframe
            ),
            (name, model_name, timeframe),
        )
        return cast("Response[Prediction]", body)

    @get(
        "/instruments",
        operation_id="listInstruments",
        summary="Instruments, and what there is of each",
        responses=documented(400, 414, 429, 503),
    )
    async def list_instruments(
        self,
        *,
        request: Request[Any, Any, Any],
        gateway: GatewayPart,
        limit: Limit = DEFAULT_LIMIT,
        offset: Offset = 0,
    ) -> Response[Instruments]:
        """Return a page of the instruments."""
        refuse_unknown(request, {"limit", "offset"})
        body = _render(
            request,
            gateway,
            INSTRUMENTS,
            lambda: answers.instruments(gateway.view, limit=limit, offset=offset),
            (limit, offset),
        )
        return cast("Response[Instruments]", body)

    @get(
        "/ohlcv/{symbol:path}",
        operation_id="listBars",
        summary="Recent bars",
        responses=documented(400, 404, 414, 429, 503),
    )
    async def list_bars(
        self,
        *,
        request: Request[Any, Any, Any],
        gateway: GatewayPart,
        symbol: Symbol,
        timeframe: Bar = None,
        limit: Limit = DEFAULT_LIMIT,
        offset: Offset = 0,
    ) -> Response[Bars]:
        """Return a page of bars in time order; `offset` counts back from the newest."""
        refuse_unknown(request, {"timeframe", "limit", "offset"})
        name = symbol.removeprefix("/")
        body = _render(
            request,
            gateway,
            BARS,
            lambda: answers.bars(
                gateway.view, name, timeframe=timeframe, limit=limit, offset=offset
            ),
            (name, timeframe, limit, offset),
        )
        return cast("Response[Bars]", body)

    @get(
        "/evaluation",
        operation_id="listScores",
        summary="How past forecasts turned out",
        responses=documented(400, 414, 429, 503),
    )
    async def list_scores(
        self,
        *,
        request: Request[Any, Any, Any],
        gateway: GatewayPart,
        symbol: ScoredSymbol = None,
        timeframe: Bar = None,
        model_name: ModelName = None,
        horizon: Horizon = None,
        level: Level = "symbol",
        limit: Limit = DEFAULT_LIMIT,
        offset: Offset = 0,
    ) -> Response[Scores]:
        """Return a page of the scores per symbol, timeframe, model and horizon.

        With `level`, verdicts on asset classes or on all symbols instead.
        """
        refuse_unknown(
            request,
            {
                *("symbol", "timeframe", "model_name", "horizon", "level"),
                *("limit", "offset"),
            },
        )
        wanted = ScoreFilter(symbol, timeframe, model_name, horizon, level)
        body = _render(
            request,
            gateway,
            EVALUATION,
            lambda: answers.scores(gateway.view, wanted, limit=limit, offset=offset),
            (symbol, timeframe, model_name, horizon, level, limit, offset),
        )
        return cast("Response[Scores]", body)

    @get(
        "/sleeves",
        operation_id="listSleeves",
        summary="Sleeves: stage, weight, gates and record out of sample",
        responses=documented(400, 414, 429, 503),
    )
    async def list_sleeves(
        self,
        *,
        request: Request[Any, Any, Any],
        gateway: GatewayPart,
        sleeve_id: SleeveName = None,
        timeframe: AnyBar = None,
        limit: Limit = DEFAULT_LIMIT,
        offset: Offset = 0,
    ) -> Response[Sleeves]:
        """Return a page of the sleeves, by timeframe, the locked baseline first."""
        refuse_unknown(request, {"sleeve_id", "timeframe", "limit", "offset"})
        body = _render(
            request,
            gateway,
            SLEEVES,
            lambda: answers.sleeves(
                gateway.view,
                sleeve_id=sleeve_id,
                timeframe=timeframe,
                limit=limit,
                offset=offset,
            ),
            (sleeve_id, timeframe, limit, offset),
        )
        return cast("Response[Sleeves]", body)

    @get(
        "/status",
        operation_id="readStatus",
        summary="What the answers stand on",
        responses=documented(400, 429),
    )
    async def read_status(
        self, request: Request[Any, Any, Any], gateway: GatewayPart
    ) -> Response[Status]:
        """Return the clock, the verified artefacts and whether they are stale."""
        refuse_unknown(request, set())
        body = msgspec.json.encode(gateway.status())
        return cast("Response[Status]", _no_store(body))


def refuse_unknown(request: Request[Any, Any, Any], allowed: set[str]) -> None:
    """Refuse query parameters that are not declared or come twice.

    Raises
    ------
    MalformedError
        Naming the parameter.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise MalformedError(f"query: {name[:64]!r} is unknown; allowed: {known}")
        if names.count(name) > 1:
            raise MalformedError(f"query: {name} is given more than once")


def _render(
    request: Request[Any, Any, Any],
    gateway: Gateway,
    route: str,
    encode: Callable[[], bytes],
    asked: tuple[Hashable, ...],
) -> Response[bytes]:
    view = gateway.view

    def make() -> Rendition:
        return Rendition(encode(), path="/showcase/", route=route)

    if view is None:
        return respond(make(), request, gateway.holder)
    key = (view.stamp, route, *asked)
    return respond(gateway.cache.get_or_make(key, make), request, gateway.holder)


def _no_store(body: bytes) -> Response[bytes]:
    return Response(
        body, media_type="application/json", headers={"Cache-Control": "no-store"}
    )
