"""Stages, orders, registry, drift and approvals."""

from dataclasses import replace

from lakehouse.schema._columns import (
    MODEL_NAME,
    PREVIOUS_HASH,
    ROW_HASH,
    RUN_ID,
    SEQ,
    SYMBOL,
    TIMEFRAME,
    choice,
    count,
    flag,
    number,
    text,
    when,
)
from lakehouse.schema._spec import FLOATS, ColumnSpec, TableSpec

STAGES = (
    "genesis",
    "backtest",
    "walk_forward",
    "walk_forward_multi_fold",
    "paper",
    "canary",
    "live",
    "retired",
)
ORIGINS = ("live", "replay", "backfill")

SLEEVES = TableSpec(
    name="sleeves",
    description="A sleeve and the stage it is in now.",
    columns=(
        text("sleeve_id", "Sleeve."),
        choice("stage", "Lifecycle stage.", STAGES),
        text("configuration", "JSON: class and parameters."),
        text("author", "Who proposed it."),
        when("entered_at", "When it entered this stage."),
        RUN_ID,
    ),
    key=("sleeve_id",),
    sort_by=("sleeve_id",),
)

SLEEVE_TRANSITIONS = TableSpec(
    name="sleeve_transitions",
    description="One change of stage, hash-chained.",
    columns=(
        SEQ,
        text("sleeve_id", "Sleeve."),
        choice("from_stage", "Before.", STAGES, is_nullable=True),
        choice("to_stage", "After.", STAGES),
        text("why", "Reason."),
        text("evidence", "JSON: verdict ids and figures."),
        when("decided_at", "Decision time: what was known by then counted."),
        PREVIOUS_HASH,
        ROW_HASH,
        RUN_ID,
    ),
    key=("seq",),
    sort_by=("seq",),
    is_append_only=True,
)

PRODUCTION_SLEEVE_SET = TableSpec(
    name="production_sleeve_set",
    description="An artefact with its stage and runtime weight.",
    columns=(
        text("artefact_id", "Artefact."),
        SEQ,
        text("kind", "sleeve, winprob, policy, ..."),
        text("version", "Version of the artefact."),
        text(
            "manifest_sha256",
            "SHA-256 of the signed manifest; 64 zeros while none is signed.",
        ),
        text("stage", "candidate, shadow, live, retired."),
        number("runtime_weight", "0 = shadow.", minimum=0, maximum=1),
        when("changed_at", "Clock time."),
        RUN_ID,
    ),
    key=("artefact_id", "seq"),
    sort_by=("artefact_id", "seq"),
    is_append_only=True,
)

BOT_ORDERS = TableSpec(
    name="bot_orders",
    description="One position episode, flat or flip to flat or flip.",
    columns=(
        text("order_id", "Hash of book, sleeve, symbol, timeframe and entry."),
        text("sleeve_id", "Sleeve."),
        SYMBOL,
        TIMEFRAME,
        choice("origin", "How it came about; only `live` counts.", ORIGINS),
        choice("side", "Direction.", ("long", "short")),
        when("decided_at", "When it was decided: its features knew nothing later."),
        when("entry_ts", "Fill of the entry."),
        number("entry_price", "Fill price.", "quote currency", minimum=0),
        when("exit_ts", "Fill of the exit; null while open.", is_nullable=True),
        number(
            "exit_price", "Fill price.", "quote currency", is_nullable=True, minimum=0
        ),
        number("size", "Weight of the book at entry.", minimum=0),
        number("costs", "Fees and slippage, share of the book.", minimum=0),
        number("pnl_net", "Net profit, share of the book.", is_nullable=True),
        text("features", "JSON: features frozen at entry."),
        RUN_ID,
    ),
    key=("order_id",),
    sort_by=("entry_ts", "symbol"),
    time="entry_ts",
)

BOT_SHADOW_DECISIONS = TableSpec(
    name="bot_shadow_decisions",
    description="A decision at weight 0 and, once settled, what it would have made.",
    columns=(
        text("decision_id", "Hash of signal, symbol, timeframe and time."),
        text("signal", "Signal or sleeve."),
        SYMBOL,
        TIMEFRAME,
        choice("origin", "How it came about; only `live` counts.", ORIGINS),
        when("decided_at", "Decision time: when the bar it rests on was known."),
        number("weight", "Position it asked for."),
        when("settled_at", "When its outcome was known.", is_nullable=True),
        number(
            "counterfactual_pnl", "Net profit it would have made.", is_nullable=True
        ),
        RUN_ID,
    ),
    key=("decision_id",),
    sort_by=("decided_at", "signal"),
)

SIGNAL_CALIBRATION = TableSpec(
    name="signal_calibration",
    description="How well a signal's probabilities held in one week.",
    columns=(
        text("signal", "Signal."),
        when("week", "Monday 00:00."),
        choice("origin", "Rows it was measured on.", ORIGINS),
        count("n_settled", "Settled decisions."),
        number("brier", "Brier score.", is_nullable=True, minimum=0),
        number("log_loss", "Log loss.", is_nullable=True, minimum=0),
        number(
            "baseline_log_loss",
            "Of the trailing base rate.",
            is_nullable=True,
            minimum=0,
        ),
        number("ece", "Expected calibration error.", is_nullable=True, minimum=0),
        RUN_ID,
    ),
    key=("signal", "week", "origin"),
    sort_by=("signal", "week"),
    time="week",
)

MODEL_VERSIONS = TableSpec(
    name="model_versions",
    description="A registered model version.",
    columns=(
        text("model_name", "Model."),
        text("version", "Version."),
        choice("stage", "Stage.", ("None", "Staging", "Production", "Archived")),
        text("metrics", "JSON."),
        text("manifest", "JSON: schema, seeds, commit, table versions, environment."),
        text("artefact_sha256", "SHA-256 of the model file."),
        when("registered_at", "Clock time."),
        RUN_ID,
    ),
    key=("model_name", "version"),
    sort_by=("model_name", "version"),
)

MODEL_EVENTS = TableSpec(
    name="model_events",
    description="Register, promote, archive, rollback; hash-chained.",
    columns=(
        SEQ,
        text("model_name", "Model."),
        text("version", "Version."),
        choice(
            "event",
            "What happened; `alarm` was recorded and not acted on (cooldown).",
            ("register", "promote", "archive", "rollback", "alarm"),
        ),
        text("who", "Person or flow."),
        text("why", "Reason."),
        text("evidence", "JSON."),
        when("decided_at", "Clock time."),
        PREVIOUS_HASH,
        ROW_HASH,
    ),
    key=("seq",),
    sort_by=("seq",),
    is_append_only=True,
)

MODEL_PREDICTIONS = TableSpec(
    name="model_predictions",
    description="One prediction of one registered model: what drift and comparisons"
    " watch. Its label and outcome come once they are known.",
    columns=(
        replace(MODEL_NAME, description="Registered model, e.g. `winprob`."),
        text("version", "Its version."),
        choice(
            "origin",
            "How it came about; `out_of_fold` is from training, only `live` counts.",
            (*ORIGINS, "out_of_fold"),
        ),
        text("subject_id", "What it is about: an `order_id`, or symbol and time."),
        SYMBOL,
        TIMEFRAME,
        when("as_of", "Decision time: the features knew nothing later."),
        number("prediction", "Calibrated probability, or the forecast return."),
        number("score", "Raw score of the learner before calibration."),
        ColumnSpec(
            "features",
            FLOATS,
            "In the order of the model's schema; null where unknown.",
            has_gaps=True,
        ),
        text("schema_sha256", "Hash of the feature schema."),
        flag("is_novel", "Whether the row is far from the training rows."),
        number("label", "What it should have been.", is_nullable=True),
        number("outcome", "Net profit of acting on it.", is_nullable=True),
        number(
            "costs",
            "Costs within `outcome`, share of the book; what comparisons stress.",
            is_nullable=True,
            minimum=0,
        ),
        when("settled_at", "When the label was known.", is_nullable=True),
        RUN_ID,
    ),
    key=("model_name", "version", "origin", "subject_id"),
    sort_by=("model_name", "as_of", "symbol"),
    time="as_of",
)

DRIFT_REPORTS = TableSpec(
    name="drift_reports",
    description="One drift figure of one feature in one window.",
    columns=(
        text("model_name", "Model."),
        text("version", "Its champion that the window is about."),
        when("window_end", "Newest prediction of the window."),
        text(
            "feature",
            "Feature, `prediction`, `accuracy`, a trading metric, or"
            " `accuracy_estimate` of predictions whose labels are not known.",
        ),
        count("n_reference", "Known values of the reference."),
        count("n_current", "Known values of the window."),
        number("reference_mean", "Mean of the reference.", is_nullable=True),
        number("current_mean", "Mean of the window.", is_nullable=True),
        number("psi", "Population stability index.", is_nullable=True, minimum=0),
        number(
            "ks", "Two-sample KS statistic.", is_nullable=True, minimum=0, maximum=1
        ),
        number(
            "ks_p_value",
            "KS test for independent rows: too small for dependent ones.",
            is_nullable=True,
            minimum=0,
            maximum=1,
        ),
        number("mean_shift", "In reference standard deviations.", is_nullable=True),
        number(
            "std_shift",
            "Ratio of standard deviations less 1.",
            is_nullable=True,
            minimum=-1,
        ),
        text(
            "crossed", "JSON: customary cut-offs that are crossed; they alarm nothing."
        ),
        number(
            "p_value",
            "Block-permutation p-value.",
            is_nullable=True,
            minimum=0,
            maximum=1,
        ),
        number(
            "q_value",
            "After Benjamini-Hochberg.",
            is_nullable=True,
            minimum=0,
            maximum=1,
        ),
        choice(
            "severity",
            "Of the effect beyond what no drift shows.",
            ("none", "moderate", "significant"),
        ),
        when(
            "since",
            "From when in the window, where the CUSUM found it.",
            is_nullable=True,
        ),
        flag(
            "is_alarm", "Whether it alarms: q-value, severity, and not for the better."
        ),
        text("recommendation", "What to do."),
        RUN_ID,
    ),
    key=("model_name", "window_end", "feature"),
    sort_by=("model_name", "window_end", "feature"),
    time="window_end",
)

RETRAIN_REQUESTS = TableSpec(
    name="retrain_requests",
    description="A request to retrain and how it ended.",
    columns=(
        text("request_id", "Hash of model, trigger and window."),
        text("model_name", "Model."),
        choice("trigger", "Trigger.", ("scheduled", "drift", "manual")),
        when("requested_at", "Clock time."),
        text("outcome", "JSON, null while running.", is_nullable=True),
        RUN_ID,
    ),
    key=("request_id",),
    sort_by=("requested_at",),
)

APPROVALS = TableSpec(
    name="approvals",
    description="A person's approval of an artefact, hash-chained.",
    columns=(
        SEQ,
        text("artefact_id", "Artefact."),
        text("owner", "Who signed."),
        text("key_id", "With which key."),
        when("signed_at", "Clock time."),
        when("expires_at", "Until when it counts."),
        flag("is_revoked", "Whether it was withdrawn."),
        PREVIOUS_HASH,
        ROW_HASH,
    ),
    key=("seq",),
    sort_by=("seq",),
    is_append_only=True,
)

TABLES = (
    SLEEVES,
    SLEEVE_TRANSITIONS,
    PRODUCTION_SLEEVE_SET,
    BOT_ORDERS,
    BOT_SHADOW_DECISIONS,
    SIGNAL_CALIBRATION,
    MODEL_VERSIONS,
    MODEL_EVENTS,
    MODEL_PREDICTIONS,
    DRIFT_REPORTS,
    RETRAIN_REQUESTS,
    APPROVALS,
)
