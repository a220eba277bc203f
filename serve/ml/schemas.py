"""What goes over the wire of `/ml/predict`, as types."""

from datetime import datetime
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from serve.schemas import ArtefactRef

MAX_ROWS: Final = 50_000  # a body of 8 MiB holds no more of any usual width
MAX_EXPLAINED: Final = 100  # rows; contributions take a hundred times as long
MAX_VALUE: Final = 1e30  # learners hold features as float32

Value = Annotated[float, Meta(ge=-MAX_VALUE, le=MAX_VALUE)]
Named = Annotated[
    dict[str, Value | None],
    Meta(min_length=1, description="Every feature of the model by its name."),
]
Ordered = Annotated[
    list[Value | None],
    Meta(min_length=1, description="Every feature, in the order of `features`."),
]


class MlRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows of features; null where one was unknown at the time of the order."""

    rows: Annotated[
        list[Named | Ordered],
        Meta(min_length=1, max_length=MAX_ROWS, description="One row an order."),
    ]
    features: Annotated[
        Annotated[list[str], Meta(min_length=1)] | None,
        Meta(
            description="Names of the values of rows that are lists; null if they are "
            "in the model's order, which every answer names."
        ),
    ] = None
    contributions: Annotated[
        bool,
        Meta(description=f"Whether to explain each row; at most {MAX_EXPLAINED} rows."),
    ] = False


class Win(Struct, frozen=True, kw_only=True):
    """What the model says of one row."""

    probability: Annotated[
        float, Meta(ge=0, le=1, description="Calibrated, that the order wins.")
    ]
    is_novel: Annotated[
        bool,
        Meta(description="The row is far from every training row: do not rely on it."),
    ]
    score: Annotated[float, Meta(description="Log-odds before calibration.")]
    contributions: Annotated[
        dict[str, float] | None,
        Meta(description="Of each feature to the score; with bias they add up to it."),
    ] = None
    bias: Annotated[
        float | None, Meta(description="The score before any feature is looked at.")
    ] = None


class MlAnswer(Struct, frozen=True, kw_only=True):
    """Win probabilities in the order of the rows, and whose they are."""

    model_name: str
    model_version: str
    learner: Literal["xgboost", "catboost", "lightgbm"]
    runtime_weight: Annotated[
        float, Meta(ge=0, le=1, description="0 = shadow: nobody trades on it.")
    ]
    trained_until: Annotated[datetime, Meta(description="Newest label it knows.")]
    features: Annotated[list[str], Meta(description="The model's, in its order.")]
    stale: Annotated[
        bool, Meta(description="The newest attempt to verify the model was refused.")
    ]
    artefact: ArtefactRef
    predictions: list[Win]
