"""The OpenAPI side of bodies that the router does not decode itself.

They are read off the event loop, so the router sees bytes; here their types and an
example go into the document.
"""

from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec
from litestar.openapi.spec import (
    Example,
    OpenAPIMediaType,
    Operation,
    RequestBody,
    Schema,
)

from serve.predict.schemas import Outcome, PredictRequest

_DAYS: Final = [f"2024-03-{day:02d}T00:00:00Z" for day in (4, 5, 6, 7, 8)]
EXAMPLE: Final[dict[str, Any]] = {
    "model": "kronos",
    "symbol": "BTC-USD",
    "ohlcv": {
        "ts": _DAYS,
        "open": [63137.0, 68341.1, 63776.1, 66106.8, 66925.5],
        "high": [68537.0, 69170.6, 67637.9, 68029.9, 70083.1],
        "low": [62386.5, 59323.9, 62848.7, 65655.5, 66230.4],
        "close": [68330.4, 63801.2, 66106.8, 66925.5, 68300.1],
        "volume": [70670.5, 102802.9, 68750.2, 46989.5, None],
    },
    "events": None,
    "pred_len": 5,
}


def inline_schema(kind: Any) -> dict[str, Any]:
    """Return the JSON schema of a type with every reference written out."""
    (top,), components = msgspec.json.schema_components([kind], ref_template="{name}")
    schema: dict[str, Any] = _written_out(top, components)
    return schema


def _written_out(node: Any, components: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_written_out(one, components) for one in node]
    if not isinstance(node, dict):
        return node
    if isinstance(name := node.get("$ref"), str):
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _written_out({**components[name], **rest}, components)
    # A discriminator maps to references; the constants of its tags say the same.
    return {
        key: _written_out(value, components)
        for key, value in node.items()
        if key != "discriminator"
    }


def _body(kind: Any, **examples: Any) -> RequestBody:
    schema = cast("Schema", inline_schema(kind))
    shown = {name: Example(value=value) for name, value in examples.items()}
    media = OpenAPIMediaType(schema=schema, examples=cast("Any", shown) or None)
    return RequestBody(content={"application/json": media}, required=True)


@dataclass
class PredictOperation(Operation):
    """An operation whose body is a `PredictRequest`."""

    def __post_init__(self) -> None:
        """Name the body."""
        self.request_body = _body(PredictRequest, daily=EXAMPLE)


@dataclass
class OutcomeOperation(Operation):
    """An operation whose body is an `Outcome`."""

    def __post_init__(self) -> None:
        """Name the body."""
        self.request_body = _body(Outcome)
