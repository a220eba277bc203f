"""The OpenAPI side of `/ml/predict`: its body is read off the event loop."""

from dataclasses import dataclass
from typing import Any, Final, cast

from litestar.openapi.spec import (
    Example,
    OpenAPIMediaType,
    Operation,
    RequestBody,
    Schema,
)

from serve.ml.schemas import MlRequest
from serve.predict.documents import inline_schema

EXAMPLE: Final[dict[str, Any]] = {
    "rows": [{"momentum_20": 0.031, "volatility_20": 0.012, "surprise": None}],
    "contributions": True,
}


@dataclass
class MlOperation(Operation):
    """An operation whose body is an `MlRequest`."""

    def __post_init__(self) -> None:
        """Name the body."""
        media = OpenAPIMediaType(
            schema=cast("Schema", inline_schema(MlRequest)),
            examples=cast("Any", {"one": Example(value=EXAMPLE)}),
        )
        self.request_body = RequestBody(
            content={"application/json": media}, required=True
        )
