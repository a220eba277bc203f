"""Runs, metrics, decisions and checks."""

from lakehouse.schema._columns import (
    RUN_ID,
    choice,
    number,
    text,
    when,
)
from lakehouse.schema._spec import INTEGER, ColumnSpec, TableSpec

RUNS = TableSpec(
    name="runs",
    description="One run of a flow and everything needed to run it again.",
    columns=(
        RUN_ID,
        text("flow", "Flow, by its deployment's base name."),
        choice("status", "How it ended.", ("completed", "failed", "refused")),
        when("started_at", "Clock time of the start."),
        when("finished_at", "Clock time of the end."),
        number("seconds", "Monotonic duration.", "s", minimum=0),
        text("parameters", "JSON."),
        text("seeds", "JSON."),
        text("tables_read", "JSON: table to the version read."),
        text("tables_written", "JSON: table to the version written."),
        text("counts", "JSON: rows read, good, quarantined, written, ..."),
        text(
            "code_commit",
            "Git commit of the code, `+dirty` if changed; `unknown` outside git.",
        ),
        text("lock_hash", "SHA-256 of the installed distributions and versions."),
        text("environment", "JSON: Python, platform, library versions."),
        text(
            "prefect_run_id",
            "Prefect's flow run; null without a server.",
            is_nullable=True,
        ),
        text("message", "One line: the outcome, or why it failed or was refused."),
    ),
    key=("run_id",),
    sort_by=("finished_at",),
)

TELEMETRY = TableSpec(
    name="telemetry",
    description="One measurement or flow event.",
    columns=(
        when("ts", "Clock time."),
        text("name", "Metric, dotted: `ingest.rows_good`."),
        RUN_ID,
        number("value", "Value."),
        text("unit", "Unit, `1` for counts."),
        text("labels", "JSON of labels."),
    ),
    key=("ts", "name", "run_id"),
    sort_by=("name", "ts"),
    time="ts",
)

DECISION_RECORDS = TableSpec(
    name="decision_records",
    description="What a decider saw, decided and why.",
    columns=(
        text("decision_id", "Hash of run, decider and input."),
        RUN_ID,
        when("ts", "Clock time of the decision."),
        text("agent_id", "Decider: a gate, selector, allocator, publisher, ..."),
        text("model", "JSON: version and parameters of the decider."),
        text("input_snapshot", "JSON."),
        text("output", "JSON."),
        text("rationale", "Why, in words."),
    ),
    key=("decision_id",),
    sort_by=("agent_id", "ts"),
    is_append_only=True,
)

EVALUATIONS = TableSpec(
    name="evaluations",
    description="One metric of one evaluator module.",
    columns=(
        RUN_ID,
        text("module", "Evaluator module."),
        text("metric", "Metric."),
        number("value", "Value.", is_nullable=True),
        text("detail", "JSON."),
        when("evaluated_at", "Clock time."),
    ),
    key=("run_id", "module", "metric"),
    sort_by=("module", "metric", "evaluated_at"),
)

SUBSTRATE_CHECKS = TableSpec(
    name="substrate_checks",
    description="One check of one row of the substrate inventory.",
    columns=(
        when("check_ts", "Clock time."),
        text("row_id", "Inventory row."),
        ColumnSpec(
            "value",
            INTEGER,
            "1 ok or not yet effective, 0 failed.",
            minimum=0,
            maximum=1,
        ),
        text("detail", "What was seen."),
        RUN_ID,
    ),
    key=("check_ts", "row_id"),
    sort_by=("row_id", "check_ts"),
    time="check_ts",
)

TABLES = (RUNS, TELEMETRY, DECISION_RECORDS, EVALUATIONS, SUBSTRATE_CHECKS)
