"""Forecasts and their scores."""

from typing import Final

from lakehouse.schema._columns import (
    KNOWN_TS,
    MODEL_NAME,
    MODEL_VERSION,
    RUN_ID,
    SYMBOL,
    TIMEFRAME,
    flag,
    number,
    text,
    when,
)
from lakehouse.schema._spec import (
    FLOATS,
    INTEGER,
    PATHS,
    TIMESTAMPS,
    ColumnSpec,
    LatestSpec,
    TableSpec,
    ViewSpec,
)

QUANTILE_LEVELS: Final = (
    0.01,
    0.05,
    *(round(0.05 * step, 2) for step in range(2, 19)),
    0.95,
    0.99,
)
"""Levels of `ml_predictions.quantiles`, one a row: 0.01, 0.05, 0.1, … 0.95, 0.99."""

ML_PREDICTIONS = TableSpec(
    name="ml_predictions",
    description="One forecast of one symbol's closes by one model as of one moment.",
    columns=(
        text(
            "prediction_id",
            "Hash of symbol, timeframe, model_name, model_version, as_of and seed.",
        ),
        SYMBOL,
        TIMEFRAME,
        MODEL_NAME,
        MODEL_VERSION,
        when("generated_at", "Clock time of the forecast."),
        when("as_of", "Decision time: only rows with known_ts <= as_of were read."),
        KNOWN_TS,
        number(
            "last_close", "Newest close the model saw.", "quote currency", minimum=0
        ),
        when("last_ts", "Open of the bar of `last_close`."),
        ColumnSpec("target_ts", TIMESTAMPS, "Opens of the forecast bars, one a step."),
        ColumnSpec(
            "p10", FLOATS, "10 % quantile of each target close.", "quote currency"
        ),
        ColumnSpec("p50", FLOATS, "Median of each target close.", "quote currency"),
        ColumnSpec(
            "p90", FLOATS, "90 % quantile of each target close.", "quote currency"
        ),
        ColumnSpec(
            "samples",
            PATHS,
            "Sample paths (path, step); null for quantile models; kept 90 days.",
            "quote currency",
            is_nullable=True,
        ),
        ColumnSpec(
            "quantiles",
            PATHS,
            "Quantiles (level, step) at 0.01, 0.05, 0.1 to 0.9 by 0.05, 0.95 and 0.99;"
            " null where a model gives no such grid; kept 90 days.",
            "quote currency",
            is_nullable=True,
        ),
        ColumnSpec("seed", INTEGER, "Seed of the request.", minimum=0),
        text(
            "event_context",
            "JSON: releases scheduled within the horizon, as announced by as_of.",
            is_nullable=True,
        ),
        flag(
            "is_contaminated",
            "Whether the window lies before the model's training cut-off.",
        ),
        RUN_ID,
    ),
    key=("prediction_id",),
    sort_by=("timeframe", "model_name", "symbol", "as_of"),
    time="as_of",
    # Sample paths and quantile grids are dropped after 90 days: a forecast is the same
    # without them.
    provenance=("generated_at", "run_id", "samples", "quantiles"),
    latest=LatestSpec(
        key=("symbol", "timeframe", "model_name"),
        order=("as_of", "generated_at"),
        exclude=("samples", "quantiles"),
    ),
)

_SIGNAL_PERFORMANCE = """
WITH blocks AS (
    SELECT symbol, timeframe, horizon, model_name, block,
           arg_min(strategy_return, as_of) AS strategy_return
    FROM prediction_scores
    WHERE is_in_skill
    GROUP BY symbol, timeframe, horizon, model_name, block
), sharpe AS (
    SELECT symbol, timeframe, horizon, model_name,
           count(*) AS n_blocks,
           avg(strategy_return) / nullif(stddev_samp(strategy_return), 0) AS ratio
    FROM blocks
    GROUP BY symbol, timeframe, horizon, model_name
), scored AS (
    SELECT symbol, timeframe, horizon, model_name,
           count(*) AS n_scored,
           count(*) FILTER (WHERE is_in_skill) AS n_in_skill,
           min(as_of) AS first_as_of,
           max(as_of) AS last_as_of,
           max(known_ts) AS known_ts,
           avg(is_direction_hit::INT) FILTER (WHERE is_in_skill) AS hit_rate,
           avg(is_covered::INT) FILTER (WHERE is_in_skill) AS coverage_80,
           avg((actual <= p10)::INT) FILTER (WHERE is_in_skill) AS share_below_p10,
           avg((actual <= p50)::INT) FILTER (WHERE is_in_skill) AS share_below_p50,
           avg((actual <= p90)::INT) FILTER (WHERE is_in_skill) AS share_below_p90,
           avg(pinball_mean) FILTER (WHERE is_in_skill) AS pinball,
           2 * sum(pinball_mean) FILTER (WHERE is_in_skill)
               / nullif(sum(abs(actual)) FILTER (WHERE is_in_skill), 0) AS wql,
           avg(crps) FILTER (WHERE is_in_skill) AS crps,
           avg(scaled_error) FILTER (WHERE is_in_skill) AS mase,
           1 - sum(crps) FILTER (WHERE is_in_skill)
               / nullif(sum(persistence_error) FILTER (WHERE is_in_skill), 0)
               AS skill_crps,
           1 - sum(absolute_error) FILTER (WHERE is_in_skill)
               / nullif(sum(persistence_error) FILTER (WHERE is_in_skill), 0)
               AS skill_mae,
           avg(bars_per_year) AS bars_per_year
    FROM prediction_scores
    GROUP BY symbol, timeframe, horizon, model_name
)
SELECT scored.* EXCLUDE (bars_per_year),
       coalesce(sharpe.n_blocks, 0) AS n_blocks,
       sharpe.ratio * sqrt(scored.bars_per_year / scored.horizon) AS sharpe
FROM scored LEFT JOIN sharpe USING (symbol, timeframe, horizon, model_name)
"""

PREDICTION_SCORES = TableSpec(
    name="prediction_scores",
    description="One forecast at one horizon, scored once the target bar was known.",
    columns=(
        text("prediction_id", "The forecast, see `ml_predictions`."),
        ColumnSpec("horizon", INTEGER, "Step of the forecast.", "bars", minimum=1),
        SYMBOL,
        TIMEFRAME,
        MODEL_NAME,
        MODEL_VERSION,
        when("as_of", "Decision time of the forecast."),
        when("target_ts", "Open of the bar whose close is scored."),
        KNOWN_TS,
        number("last_close", "Close the forecast started from.", "quote currency"),
        number("actual", "Close of the target bar.", "quote currency"),
        number("p10", "Forecast 10 % quantile.", "quote currency"),
        number("p50", "Forecast median.", "quote currency"),
        number("p90", "Forecast 90 % quantile.", "quote currency"),
        flag(
            "is_direction_hit",
            "p50 on the right side of last_close; null if p50 or actual is flat.",
            is_nullable=True,
        ),
        flag("is_covered", "p10 <= actual <= p90."),
        number("absolute_error", "|actual - p50|.", "quote currency", minimum=0),
        number(
            "persistence_error", "|actual - last_close|.", "quote currency", minimum=0
        ),
        number(
            "scaled_error",
            "absolute_error over the mean absolute change of the 512 bars before (MASE); null below 20.",
            minimum=0,
            is_nullable=True,
        ),
        number(
            "pinball_mean",
            "Mean pinball loss at 10, 50 and 90 %.",
            "quote currency",
            minimum=0,
        ),
        number(
            "crps",
            "CRPS: fair from the stored samples, else from the stored grid of quantiles, else from the three.",
            "quote currency",
        ),
        number(
            "pit",
            "Share of the forecast below the actual (middle of its rank's bin).",
            minimum=0,
            maximum=1,
        ),
        ColumnSpec(
            "n_samples",
            INTEGER,
            "Sample paths behind `crps` and `pit`; 0: the quantiles; null: not noted.",
            is_nullable=True,
            minimum=0,
        ),
        number(
            "winkler", "Interval score of the 80 % band.", "quote currency", minimum=0
        ),
        number("actual_return", "log(actual / last_close)."),
        number("strategy_return", "sign(p50 - last_close) * actual_return."),
        ColumnSpec(
            "block",
            INTEGER,
            "Target bar's number on its calendar // horizon: one forecast a block enters Sharpe.",
        ),
        number(
            "bars_per_year",
            "Bars of this symbol in the year up to the target.",
            minimum=0,
        ),
        flag(
            "is_in_skill",
            "False if contaminated, if half the target bar was over at as_of, or across a suspected split.",
        ),
        flag("is_contaminated", "Copied from the forecast."),
        when("scored_at", "Clock time of the scoring."),
        RUN_ID,
    ),
    key=("prediction_id", "horizon"),
    sort_by=("timeframe", "model_name", "symbol", "as_of", "horizon"),
    time="as_of",
    provenance=("scored_at", "run_id"),
    views=(
        ViewSpec(
            "signal_performance",
            "Scores per symbol, timeframe, horizon and model; Sharpe from one forecast a block.",
            _SIGNAL_PERFORMANCE,
        ),
    ),
)

TABLES = (ML_PREDICTIONS, PREDICTION_SCORES)
