"""Conformal bands of forecasts, and how they held."""

from typing import Final

import pyarrow as pa

from lakehouse.schema._columns import (
    KNOWN_TS,
    MODEL_NAME,
    RUN_ID,
    SYMBOL,
    TIMEFRAME,
    number,
    text,
    when,
)
from lakehouse.schema._spec import (
    BOOLEAN,
    FLOATS,
    INTEGER,
    ColumnSpec,
    TableSpec,
    ViewSpec,
)

_PERFORMANCE: Final = """
WITH banded AS (
    SELECT scores.symbol, scores.timeframe, scores.model_name, scores.horizon,
           scores.known_ts, scores.last_close, scores.actual,
           scores.p10 AS raw_low, scores.p90 AS raw_high,
           bands.p10[scores.horizon] AS low, bands.p90[scores.horizon] AS high,
           bands.is_event_day[list_position(bands.horizons, scores.horizon)] AS is_event
    FROM prediction_scores AS scores
    JOIN conformal_bands AS bands USING (prediction_id)
    WHERE scores.is_in_skill AND scores.horizon <= len(bands.p10)
), scored AS (
    SELECT *,
           (raw_low <= actual AND actual <= raw_high)::INT AS is_raw_covered,
           (low <= actual AND actual <= high)::INT AS is_covered,
           ln(high / low) / nullif(ln(raw_high / raw_low), 0) AS width_ratio,
           raw_high - raw_low + 10 * (greatest(raw_low - actual, 0)
               + greatest(actual - raw_high, 0)) AS raw_winkler,
           high - low + 10 * (greatest(low - actual, 0)
               + greatest(actual - high, 0)) AS winkler
    FROM banded
)
SELECT timeframe, model_name, horizon, symbol,
       count(*) AS n_scored,
       max(known_ts) AS known_ts,
       avg(is_raw_covered) AS raw_coverage,
       avg(is_covered) AS coverage,
       avg(is_covered) FILTER (WHERE is_event) AS event_coverage,
       avg(is_covered) FILTER (WHERE NOT is_event) AS quiet_coverage,
       avg(width_ratio) AS width_ratio,
       sum(winkler / last_close) / nullif(sum(raw_winkler / last_close), 0)
           AS winkler_ratio
FROM scored
GROUP BY GROUPING SETS (
    (timeframe, model_name, horizon, symbol), (timeframe, model_name, horizon))
"""

CONFORMAL_BANDS = TableSpec(
    name="conformal_bands",
    description="A forecast's 80 % band, widened or narrowed by what had settled by then.",
    columns=(
        text("prediction_id", "The forecast, see `ml_predictions`."),
        SYMBOL,
        TIMEFRAME,
        MODEL_NAME,
        when("as_of", "Decision time: only scores with known_ts <= as_of were read."),
        KNOWN_TS,
        ColumnSpec(
            "p10", FLOATS, "Lower end of the band at each step.", "quote currency"
        ),
        ColumnSpec(
            "p90", FLOATS, "Upper end of the band at each step.", "quote currency"
        ),
        number("coverage", "What the band promises.", minimum=0, maximum=1),
        ColumnSpec(
            "horizons",
            pa.list_(INTEGER),
            "Steps that settled scores are collected at; other steps lie between.",
            "bars",
        ),
        ColumnSpec(
            "factors",
            FLOATS,
            "Log width of the band over the forecast's own, at each of `horizons`.",
        ),
        ColumnSpec(
            "levels",
            FLOATS,
            "Adaptive level of the score's quantile, at each of `horizons`.",
        ),
        ColumnSpec(
            "n_labels",
            pa.list_(INTEGER),
            "Settled scores of this symbol and model, at each of `horizons`.",
        ),
        ColumnSpec(
            "is_event_day",
            pa.list_(BOOLEAN),
            "Whether a high-impact release was scheduled before each of `horizons`.",
        ),
        RUN_ID,
    ),
    key=("prediction_id",),
    sort_by=("timeframe", "model_name", "symbol", "as_of"),
    time="as_of",
    provenance=("run_id",),
    views=(
        ViewSpec(
            "conformal_performance",
            "Coverage and width of conformal bands against the models' own, per model"
            " and horizon, by symbol and over all (symbol null).",
            _PERFORMANCE,
        ),
    ),
)

TABLES = (CONFORMAL_BANDS,)
