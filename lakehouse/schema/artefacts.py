"""Tables that are published: each version of one is what a signed manifest names.

They are replaced whole by the publish flow. `artefact_` keeps them apart from the
tables of the same subject.
"""

from dataclasses import replace

from lakehouse.schema import bands, forecasts, market, verdicts
from lakehouse.schema._columns import (
    MODEL_NAME,
    SYMBOL,
    TIMEFRAME,
    count,
    number,
    when,
)
from lakehouse.schema._spec import INTEGER, ColumnSpec, TableSpec

_BAND_COLUMNS = tuple(
    replace(
        bands.CONFORMAL_BANDS.column(name),
        name=f"band_{name}",
        is_nullable=True,
    )
    for name in ("p10", "p90", "coverage", "horizons", "n_labels")
)

LATEST_PREDICTIONS = TableSpec(
    name="artefact_latest_predictions",
    description="Newest forecast per symbol, timeframe and model, without sample paths,"
    " with its conformal band.",
    columns=(
        *(
            column
            for column in forecasts.ML_PREDICTIONS.columns
            if column.name not in {"samples", "quantiles", "event_context"}
        ),
        *_BAND_COLUMNS,
    ),
    key=("symbol", "timeframe", "model_name"),
    sort_by=("symbol", "timeframe", "model_name"),
)

SIGNAL_PERFORMANCE = TableSpec(
    name="artefact_signal_performance",
    description="The view `signal_performance` at one moment.",
    columns=(
        SYMBOL,
        TIMEFRAME,
        ColumnSpec("horizon", INTEGER, "Step of the forecast.", "bars", minimum=1),
        MODEL_NAME,
        count("n_scored", "Settled forecasts."),
        count("n_in_skill", "Of these, counted below."),
        when("first_as_of", "First decision time."),
        when("last_as_of", "Last decision time."),
        when("known_ts", "When the last of them settled."),
        number(
            "hit_rate",
            "Share of right directions.",
            is_nullable=True,
            minimum=0,
            maximum=1,
        ),
        number(
            "coverage_80",
            "Share inside p10 to p90.",
            is_nullable=True,
            minimum=0,
            maximum=1,
        ),
        number(
            "share_below_p10",
            "0.10 if calibrated.",
            is_nullable=True,
            minimum=0,
            maximum=1,
        ),
        number(
            "share_below_p50",
            "0.50 if calibrated.",
            is_nullable=True,
            minimum=0,
            maximum=1,
        ),
        number(
            "share_below_p90",
            "0.90 if calibrated.",
            is_nullable=True,
            minimum=0,
            maximum=1,
        ),
        number("pinball", "Mean pinball loss.", is_nullable=True, minimum=0),
        number("wql", "Weighted quantile loss.", is_nullable=True, minimum=0),
        number("crps", "Mean CRPS.", is_nullable=True),
        number("mase", "Mean absolute scaled error.", is_nullable=True, minimum=0),
        number("skill_crps", "1 - CRPS / persistence error.", is_nullable=True),
        number("skill_mae", "1 - MAE / persistence error.", is_nullable=True),
        count("n_blocks", "Non-overlapping forecasts behind `sharpe`."),
        number("sharpe", "Annualised, non-overlapping.", is_nullable=True),
    ),
    key=("symbol", "timeframe", "horizon", "model_name"),
    sort_by=("timeframe", "model_name", "symbol", "horizon"),
)

INSTRUMENTS = TableSpec(
    name="artefact_instruments",
    description="The instruments at one moment.",
    columns=market.INSTRUMENTS.columns,
    key=market.INSTRUMENTS.key,
    sort_by=market.INSTRUMENTS.sort_by,
)

RECENT_BARS = TableSpec(
    name="artefact_recent_bars",
    description="The last 500 bars per symbol and timeframe.",
    columns=tuple(c for c in market.OHLCV.columns if c.name not in {"ingested_at"}),
    key=market.OHLCV.key,
    sort_by=("symbol", "timeframe", "ts"),
)

EVALUATION_REPORT = TableSpec(
    name="artefact_evaluation_report",
    description="The court's verdicts at one moment.",
    columns=verdicts.VERDICT_FIGURES,
    key=verdicts.SKILL_VERDICTS.key,
    sort_by=verdicts.SKILL_VERDICTS.sort_by,
)

TABLES = (
    LATEST_PREDICTIONS,
    SIGNAL_PERFORMANCE,
    EVALUATION_REPORT,
    INSTRUMENTS,
    RECENT_BARS,
)
