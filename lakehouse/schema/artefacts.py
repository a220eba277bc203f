"""Tables that are published: each version of one is what a signed manifest names.

They are replaced whole by the publish flow. `artefact_` keeps them apart from the
tables of the same subject.
"""

from dataclasses import replace

from lakehouse.schema import bands, forecasts, lifecycle, market, verdicts
from lakehouse.schema._columns import (
    MODEL_NAME,
    RUN_ID,
    SEQ,
    SYMBOL,
    TIMEFRAME,
    choice,
    content,
    count,
    flag,
    number,
    text,
    when,
)
from lakehouse.schema._spec import FLOATS, INTEGER, TIMESTAMPS, ColumnSpec, TableSpec
from lakehouse.schema.research import SLEEVE_ID, SLIPPAGE

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

_STAGE = choice("stage", "Lifecycle stage.", lifecycle.STAGES, is_nullable=True)
_WEIGHT = number("runtime_weight", "0 = not traded.", minimum=0, maximum=1)

SLEEVE_SET = TableSpec(
    name="artefact_sleeve_set",
    description="A sleeve that may be run, and with which weight.",
    columns=(
        SLEEVE_ID,
        _STAGE,
        _WEIGHT,
        text("content_sha256", "SHA-256 of the sleeve's content."),
        text("configuration", "JSON: sleeve and parameters.", is_nullable=True),
        replace(SEQ, description="Its newest row in `production_sleeve_set`."),
        when("changed_at", "When the weight was set."),
    ),
    key=("sleeve_id",),
    sort_by=("sleeve_id",),
)

SLEEVE_BOOK = TableSpec(
    name="artefact_sleeve_book",
    description="A sleeve's out-of-sample record in the newest walk-forward run.",
    columns=(
        SLEEVE_ID,
        TIMEFRAME,
        _STAGE,
        _WEIGHT,
        RUN_ID,
        when("ran_at", "When that run ended."),
        when("as_of", "When the newest day was known."),
        when("first_ts", "First day out of sample."),
        when("last_ts", "Last day out of sample."),
        count("n_obs", "Days between, both counted."),
        text("rungs", "JSON: figures at each slippage, ascending."),
        replace(SLIPPAGE, description="Slippage of the series and of the gates."),
        ColumnSpec("curve_ts", TIMESTAMPS, "Last day of each ISO week."),
        ColumnSpec("equity", FLOATS, "Net, 1 before the first day.", minimum=0),
        ColumnSpec(
            "drawdown",
            FLOATS,
            "Share below the highest so far: the week's deepest.",
            minimum=0,
            maximum=1,
        ),
        text("windows", "JSON: start and net Sharpe of each window."),
        text("gates", "JSON: the newest verdict of each gate on this run."),
        text(
            "weights",
            "JSON: target weights by symbol after the last bar, where kept.",
            is_nullable=True,
        ),
        text("run_id_before", "The completed run before.", is_nullable=True),
    ),
    key=("sleeve_id", "timeframe"),
    sort_by=("timeframe", "sleeve_id"),
)

WINPROB = TableSpec(
    name="artefact_winprob",
    description="The win-probability model that may be asked, whole: its bytes are what"
    " the manifest's hashes cover. Shadow: weight 0 until people approve more.",
    columns=(
        replace(MODEL_NAME, description="`winprob`."),
        text("version", "Its version in `model_versions`."),
        choice("learner", "What the bytes are.", ("xgboost", "catboost", "lightgbm")),
        content("model", "UBJ, CBM or LightGBM text."),
        text("calibrator", "JSON: Platt's coefficients."),
        text("schema", "JSON: features in order, their hash, the novelty guard."),
        text("config", "JSON: how it was trained, and the SHA-256 of every file."),
        text("metrics", "JSON: out-of-fold figures with the reliability curve."),
        _WEIGHT,
        when("trained_until", "Newest label it knows."),
        RUN_ID,
    ),
    key=("model_name",),
    sort_by=("model_name",),
)

POLICY_LOOKUP = TableSpec(
    name="artefact_policy_lookup",
    description="The allocation policy as a table: a state's bucket and what to do in"
    " it. No reader needs the network.",
    columns=(
        text("policy_version", "Version in `model_versions`."),
        count("state_id", "Bucket, counted through the grid in its stated order."),
        text("state", "JSON: dimension to bucket number."),
        text("action", "JSON: sleeve to share of the risk, summing to 1 or 0."),
        number("risk_level", "Share of the book at risk.", minimum=0, maximum=1),
        count("n_visits", "Training states in this bucket."),
        text("edges", "JSON: dimension to bucket edges."),
        count("hold_days", "Days for which a choice is kept."),
        number(
            "fidelity",
            "Share of held-out states with the network's own choice, all buckets.",
            minimum=0,
            maximum=1,
        ),
        _WEIGHT,
        RUN_ID,
    ),
    key=("policy_version", "state_id"),
    sort_by=("policy_version", "state_id"),
)

SIGNAL_WEIGHTS = TableSpec(
    name="artefact_signal_weights",
    description="How much each orchestrator signal counts in the paper trader.",
    columns=(
        text("signal", "One of the eight signals, or `phase37`."),
        _WEIGHT,
        flag("is_fixed", "Whether nothing may dilute it."),
        number(
            "gross_cap",
            "Most that all signals but the fixed one may add to the book together.",
            minimum=0,
            maximum=1,
        ),
        text("why", "What the weight rests on."),
        when("changed_at", "When it was set."),
    ),
    key=("signal",),
    sort_by=("signal",),
)

CALIBRATION = TableSpec(
    name="artefact_calibration",
    description="Weekly calibration of every signal at one moment.",
    columns=lifecycle.SIGNAL_CALIBRATION.columns,
    key=lifecycle.SIGNAL_CALIBRATION.key,
    sort_by=lifecycle.SIGNAL_CALIBRATION.sort_by,
)

TABLES = (
    LATEST_PREDICTIONS,
    SIGNAL_PERFORMANCE,
    EVALUATION_REPORT,
    INSTRUMENTS,
    RECENT_BARS,
    SLEEVE_SET,
    SLEEVE_BOOK,
    WINPROB,
    POLICY_LOOKUP,
    SIGNAL_WEIGHTS,
    CALIBRATION,
)
