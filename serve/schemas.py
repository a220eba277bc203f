"""What goes over the wire, as types; the OpenAPI document is generated from them."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

Timeframe = Literal["1h", "1d"]
Scope = Literal["symbol", "asset_class", "all"]
Count = Annotated[int, Meta(ge=0)]


class ArtefactRef(Struct, frozen=True, kw_only=True):
    """Which signed manifest an answer was read from."""

    version: Annotated[int, Meta(description="Version of the signed metadata.")]
    sha256: Annotated[str, Meta(description="SHA-256 of the manifest.")]


class HorizonSkill(Struct, frozen=True):
    """The court's verdict at one horizon."""

    horizon: Annotated[int, Meta(description="Bars ahead.")]
    has_skill: Annotated[bool | None, Meta(description="Null until judged.")]


class Band(Struct, frozen=True, kw_only=True):
    """The forecast's band, widened or narrowed by what had settled at its time."""

    coverage: Annotated[float, Meta(description="Share of outcomes promised inside.")]
    p10: Annotated[list[float], Meta(description="Lower end at each close.")]
    p90: Annotated[list[float], Meta(description="Upper end at each close.")]
    horizons: Annotated[list[int], Meta(description="Steps that were calibrated.")]
    n_labels: Annotated[
        list[int], Meta(description="Settled forecasts of this symbol at each of them.")
    ]


class Prediction(Struct, frozen=True, kw_only=True):
    """The newest verified forecast of one symbol, timeframe and model."""

    symbol: str
    timeframe: Timeframe
    model_name: str
    model_version: str
    generated_at: datetime
    as_of: Annotated[datetime, Meta(description="Decision time of the forecast.")]
    last_ts: Annotated[datetime, Meta(description="Open of the newest bar read.")]
    last_close: Annotated[float, Meta(description="Close of that bar.")]
    target_ts: Annotated[list[datetime], Meta(description="Opens of the bars.")]
    p10: Annotated[list[float], Meta(description="10 % quantile of each close.")]
    p50: Annotated[list[float], Meta(description="Median of each close.")]
    p90: Annotated[list[float], Meta(description="90 % quantile of each close.")]
    band: Annotated[
        Band | None, Meta(description="Conformal band; null until it is made.")
    ]
    is_contaminated: bool
    stale: Annotated[
        bool,
        Meta(description="Older than 75 min (1h) or 26 h (1d) of trading time."),
    ]
    has_skill: Annotated[
        bool | None,
        Meta(
            description="Whether it beats persistence and `naive` at any horizon judged; null until one is."
        ),
    ]
    skill: Annotated[
        list[HorizonSkill], Meta(description="The verdict at each horizon.")
    ]
    artefact: ArtefactRef


class ForecastKey(Struct, frozen=True):
    """A forecast that can be asked for."""

    timeframe: Timeframe
    model_name: str


class Instrument(Struct, frozen=True, kw_only=True):
    """An instrument, and what there is of it."""

    symbol: str
    asset_class: str
    calendar: str
    currency: str | None
    is_leader: bool
    listed_from: datetime | None
    listed_to: datetime | None
    timeframes: Annotated[list[Timeframe], Meta(description="With verified bars.")]
    forecasts: list[ForecastKey]


class Bar(Struct, frozen=True, kw_only=True):
    """A price bar; `ts` is its open."""

    ts: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    source: str
    flags: str | None


class Court(Struct, frozen=True, kw_only=True):
    """What the court found; losses are shares of the price forecast from."""

    n_obs: Annotated[int, Meta(description="Forecasts judged.")]
    n_symbols: int
    n_blocks: Annotated[int, Meta(description="Of these, without overlap.")]
    n_naive: Annotated[int, Meta(description="Compared with `naive`.")]
    mae: float | None
    mae_persistence: float | None
    mae_naive: float | None
    pinball: float | None
    pinball_naive: float | None
    winkler: float | None
    coverage_80: float | None
    coverage_se: float | None
    quantile_error: float | None
    pit_histogram: Annotated[list[float], Meta(description="Ten counts.")]
    pit_error: float | None
    pit_p_value: float | None
    rank_ic: float | None
    skill_persistence: float | None
    p_persistence: float | None
    skill_naive: float | None
    p_naive: float | None
    p_skill: float | None
    q_skill: Annotated[
        float | None, Meta(description="Adjusted over all cells; skill if <= 0.05.")
    ]
    has_skill: bool | None
    reason: str


class Score(Struct, frozen=True, kw_only=True):
    """How one model did on one symbol, asset class or all, at one horizon."""

    symbol: str
    timeframe: Timeframe
    horizon: int
    model_name: str
    n_scored: int
    n_in_skill: int
    first_as_of: datetime
    last_as_of: datetime
    known_ts: datetime
    hit_rate: float | None
    coverage_80: float | None
    share_below_p10: float | None
    share_below_p50: float | None
    share_below_p90: float | None
    pinball: float | None
    wql: float | None
    crps: float | None
    mase: float | None
    skill_crps: float | None
    skill_mae: float | None
    n_blocks: int
    sharpe: float | None
    has_skill: Annotated[bool | None, Meta(description="Null until judged.")]
    court: Annotated[Court | None, Meta(description="Null until judged.")]


class Rung(Struct, frozen=True, kw_only=True):
    """A sleeve's figures at one slippage; returns are shares of the book."""

    slippage_bps: Annotated[float, Meta(description="A unit of turnover.")]
    sharpe: Annotated[float | None, Meta(description="Annualised; null if constant.")]
    annual_return: Annotated[float | None, Meta(description="Compounded.")]
    volatility: Annotated[float | None, Meta(description="Annualised.")]
    max_drawdown: Annotated[float, Meta(ge=0, le=1)]
    turnover_day: Annotated[float, Meta(ge=0, description="Mean a day.")]
    trades: Count
    positive_windows: Annotated[
        float | None, Meta(description="Share of windows with a positive return.")
    ]
    sharpe_before: Annotated[
        float | None, Meta(description="Of the run before; null if there was none.")
    ]


class Gate(Struct, frozen=True, kw_only=True):
    """The newest verdict of one gate."""

    gate: str
    value: float | None
    threshold: float
    distance: Annotated[
        float | None, Meta(description="To the threshold; negative if not met.")
    ]
    is_passed: bool
    n_trials: Annotated[int, Meta(description="Tries that were counted.")]
    words: Annotated[str, Meta(description="How far, and what would change it.")]
    decided_at: datetime


class Curve(Struct, frozen=True, kw_only=True):
    """Net equity, one point a week."""

    ts: Annotated[list[datetime], Meta(description="Last day of each ISO week.")]
    equity: Annotated[list[float], Meta(description="1 before the first day.")]
    drawdown: Annotated[
        list[float],
        Meta(description="Share below the highest so far; the week's deepest."),
    ]


class Windows(Struct, frozen=True, kw_only=True):
    """Out-of-sample windows."""

    start: Annotated[list[datetime], Meta(description="First day of each.")]
    sharpe: Annotated[
        list[float | None], Meta(description="Annualised, net; null if constant.")
    ]


class Sleeve(Struct, frozen=True, kw_only=True):
    """A sleeve's stage, weight and out-of-sample record on one bar length."""

    sleeve_id: str
    timeframe: Timeframe
    is_baseline: Annotated[bool, Meta(description="The locked phase37.")]
    stage: Annotated[str | None, Meta(description="Null until it is registered.")]
    runtime_weight: Annotated[float, Meta(description="0 = not traded.")]
    content_sha256: Annotated[
        str | None, Meta(description="What the weight was set for.")
    ]
    run_id: str
    ran_at: datetime
    as_of: Annotated[datetime, Meta(description="When the newest day was known.")]
    first_ts: datetime
    last_ts: datetime
    n_obs: Annotated[int, Meta(description="Days out of sample.")]
    rungs: Annotated[list[Rung], Meta(description="The cost ladder, ascending.")]
    slippage_bps: Annotated[
        float, Meta(description="Of the curve, the windows and the gates.")
    ]
    curve: Curve
    windows: Windows
    gates: Annotated[list[Gate], Meta(description="Empty until judged.")]
    weights: Annotated[
        dict[str, float] | None,
        Meta(description="Target shares of the book after the last bar."),
    ]
    run_id_before: str | None


class Instruments(Struct, frozen=True, kw_only=True):
    """A page of instruments."""

    items: list[Instrument]
    total: Count
    offset: Count
    limit: Count
    stale: bool
    artefact: ArtefactRef | None


class Bars(Struct, frozen=True, kw_only=True):
    """A page of bars: `offset` counts back from the newest, items run forward."""

    symbol: str
    timeframe: Timeframe
    items: list[Bar]
    total: Count
    offset: Count
    limit: Count
    stale: bool
    artefact: ArtefactRef | None


class Scores(Struct, frozen=True, kw_only=True):
    """A page of scores."""

    items: list[Score]
    total: Count
    offset: Count
    limit: Count
    stale: bool
    artefact: ArtefactRef | None
    report: Annotated[
        ArtefactRef | None, Meta(description="Where the court's verdicts are from.")
    ]


class Sleeves(Struct, frozen=True, kw_only=True):
    """A page of sleeves: by timeframe, the baseline first."""

    items: list[Sleeve]
    total: Count
    offset: Count
    limit: Count
    stale: bool
    artefact: ArtefactRef | None
    sleeve_set: Annotated[
        ArtefactRef | None, Meta(description="Where the weights are from.")
    ]


class ArtefactState(Struct, frozen=True, kw_only=True):
    """One verified artefact."""

    kind: str
    version: int
    sha256: str
    role: str
    as_of: datetime
    published_at: datetime
    valid_until: datetime


class Status(Struct, frozen=True, kw_only=True):
    """What the gateway stands on."""

    now: Annotated[datetime, Meta(description="The injected clock's present.")]
    demo: Annotated[bool, Meta(description="Whether a chosen date stands for now.")]
    verified_at: Annotated[
        datetime | None, Meta(description="Last successful verification.")
    ]
    stale: Annotated[bool, Meta(description="Whether any served forecast is stale.")]
    refused: Annotated[
        str | None, Meta(description="Why the last refresh was refused; null if not.")
    ]
    artefacts: list[ArtefactState]


class Live(Struct, frozen=True):
    """The process answers."""

    status: Literal["live", "ready"]


class Freshness(Struct, frozen=True, kw_only=True):
    """Ages to alert on."""

    now: datetime
    verified_at: datetime | None
    verified_age_s: Annotated[float | None, Meta(description="Monotonic seconds.")]
    stale: bool
    n_forecasts: int
    n_stale: int
    refused: str | None


class Uptime(Struct, frozen=True, kw_only=True):
    """Share of 5-minute heartbeats that were seen."""

    last_7_days: float | None
    since_start: float | None
    last_heartbeat: datetime | None


class Pull(Struct, frozen=True, kw_only=True):
    """A consumer's last pull of the repository."""

    consumer: str
    last_successful_pull: datetime | None
    n_pulls: int


class FlowRun(Struct, frozen=True, kw_only=True):
    """The newest run of a flow."""

    flow: str
    run_id: str
    status: str
    finished_at: datetime
    seconds: float
    message: str


class Substrate(Struct, frozen=True, kw_only=True):
    """The substrate inventory's newest check."""

    check_ts: datetime
    n_rows: int
    n_ok: int


class AdminHealth(Struct, frozen=True, kw_only=True):
    """Operations: the gateway's own state, and the lab's unsigned telemetry."""

    gateway: Status
    consumers: list[Pull]
    refused_total: dict[str, int]
    unsigned: Annotated[
        Literal[True],
        Meta(description="Figures below are telemetry that nobody signed."),
    ]
    lab_uptime: Uptime | None
    last_runs: list[FlowRun] | None
    substrate: Substrate | None
    telemetry_problem: Annotated[
        str | None, Meta(description="Why the lake could not be read; null if it was.")
    ]
