"""What goes over the wire of `/predict` and `/work`, as types."""

from datetime import datetime
from typing import Annotated, Final, Literal

from msgspec import Meta, Raw, Struct

from serve.schemas import Timeframe

MIN_BARS: Final = 3
MAX_BARS: Final = 4096  # with events still under 1 MiB
MAX_PRED_LEN: Final = 512
N_CHANNELS: Final = 20  # of the event tensor
JOB_PATTERN: Final = "^[A-Za-z0-9_-]{22}$"
WORKER_PATTERN: Final = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
_SYMBOL: Final = "^[A-Za-z0-9^][A-Za-z0-9^=._:+&@/-]{0,95}$"

ModelName = Literal[
    "kronos", "kronos-lora", "chronos2", "chronos2-lora", "naive", "seasonal"
]
AssetClass = Literal["crypto", "fx", "equity", "index", "commodity", "rates", "other"]
Time = Annotated[datetime, Meta(tz=True)]
Price = Annotated[float, Meta(gt=0)]
Prices = Annotated[list[Price], Meta(min_length=MIN_BARS, max_length=MAX_BARS)]
Volumes = Annotated[
    list[Annotated[float, Meta(ge=0)] | None],
    Meta(min_length=MIN_BARS, max_length=MAX_BARS),
]
EventRow = Annotated[list[float], Meta(min_length=N_CHANNELS, max_length=N_CHANNELS)]
Quantile = Annotated[list[float], Meta(description="One value per target bar.")]


class Ohlcv(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Finished bars as columns of equal length, oldest first."""

    ts: Annotated[
        list[Time],
        Meta(
            min_length=MIN_BARS,
            max_length=MAX_BARS,
            description="Opens with a UTC offset, increasing, on whole UTC hours (1h) "
            "or at 00:00 UTC (1d).",
        ),
    ]
    open: Prices
    high: Prices
    low: Prices
    close: Prices
    volume: Annotated[
        Volumes | None, Meta(description="Null, or null items, where unknown.")
    ] = None


class PredictRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bars to forecast, and how."""

    ohlcv: Ohlcv
    events: Annotated[
        Annotated[list[EventRow], Meta(max_length=MAX_BARS + MAX_PRED_LEN)] | None,
        Meta(
            description="Event tensor: a row of 20 channels per bar given, then per "
            "target bar. Null leaves the model unconditioned."
        ),
    ] = None
    pred_len: Annotated[
        int, Meta(ge=1, le=MAX_PRED_LEN, description="Bars to forecast.")
    ] = 120
    model: ModelName = "kronos"
    symbol: Annotated[
        Annotated[str, Meta(pattern=_SYMBOL)] | None,
        Meta(
            description="A served symbol lends its calendar and asset class; any name "
            "may stand here."
        ),
    ] = None
    timeframe: Annotated[
        Timeframe | None, Meta(description="Read from the spacing of ts if null.")
    ] = None
    calendar: Annotated[
        Annotated[str, Meta(pattern="^[A-Za-z0-9/_]{1,16}$")] | None,
        Meta(description="24x7, fx or an exchange's MIC; the symbol's, else 24x7."),
    ] = None
    asset_class: Annotated[
        AssetClass | None, Meta(description="The symbol's, else other.")
    ] = None
    n_samples: Annotated[
        int,
        Meta(ge=9, le=100, description="Paths; fewer would carry no 10 % quantile."),
    ] = 20
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


class WorkRequest(Struct, frozen=True, kw_only=True):
    """A checked request with everything filled in, as the worker gets it."""

    ohlcv: Ohlcv
    events: list[list[float]] | None
    pred_len: int
    model: ModelName
    symbol: str
    timeframe: Timeframe
    calendar: str
    asset_class: AssetClass
    n_samples: int
    seed: int


class Result(Struct, frozen=True, kw_only=True):
    """A forecast as the worker gives it."""

    model_name: str
    model_version: str
    as_of: Annotated[
        Time, Meta(description="Decision time: when the newest bar given was known.")
    ]
    last_ts: Annotated[Time, Meta(description="Open of the newest bar read.")]
    last_close: float
    target_ts: Annotated[list[Time], Meta(description="Opens of the target bars.")]
    p10: Quantile
    p50: Quantile
    p90: Quantile
    samples: Annotated[
        list[list[float]] | None,
        Meta(description="Paths of closes; null for a model that has only quantiles."),
    ]
    seed: int
    is_contaminated: Annotated[
        bool, Meta(description="The window lies before the model's training cut-off.")
    ]
    is_conditioned: Annotated[
        bool, Meta(description="Whether the model made use of the events.")
    ]


class Answer(Result, frozen=True, kw_only=True):
    """A forecast of the bars that were sent."""

    id: str
    symbol: str
    timeframe: Timeframe
    generated_at: Annotated[
        datetime, Meta(description="When the worker's answer came in.")
    ]
    is_cached: Annotated[
        bool, Meta(description="Answered from an identical request's forecast.")
    ]


class Accepted(Struct, frozen=True, kw_only=True):
    """The forecast is not there yet: ask again at `location`."""

    id: str
    status: Literal["queued", "running"]
    location: str


class Job(Struct, frozen=True, kw_only=True):
    """A request to work on."""

    id: str
    attempt: Annotated[int, Meta(description="From 1; how often it was handed out.")]
    request: Raw | WorkRequest


class Batch(Struct, frozen=True, kw_only=True):
    """Requests of one model, timeframe, pred_len, n_samples and seed."""

    jobs: list[Job]


class Done(Result, frozen=True, kw_only=True, tag_field="status", tag="done"):
    """The forecast of a job."""


class Failed(Struct, frozen=True, kw_only=True, tag_field="status", tag="failed"):
    """Why a job has no forecast."""

    reason: Annotated[
        Literal["unfit", "no-model", "broken"],
        Meta(
            description="unfit: these bars cannot be forecast, 422; no-model: the "
            "worker has no such model, 503; broken: the model failed, 502."
        ),
    ]
    detail: Annotated[str, Meta(max_length=2000)]


class Returned(Struct, frozen=True, kw_only=True, tag_field="status", tag="returned"):
    """The worker stops before it has begun: offer the job to another."""


Outcome = Done | Failed | Returned
