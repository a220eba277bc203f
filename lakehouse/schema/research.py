"""Sleeve returns, walk-forward snapshots, the trial ledger and gate verdicts."""

import pyarrow as pa

from lakehouse.schema._columns import (
    KNOWN_TS,
    RUN_ID,
    TIMEFRAME,
    choice,
    count,
    flag,
    number,
    text,
    when,
)
from lakehouse.schema._spec import FLOAT, TEXT, ColumnSpec, TableSpec, ViewSpec

SLEEVE_ID = text("sleeve_id", "Sleeve; `phase37` is the locked baseline.")
SLIPPAGE = ColumnSpec(
    "slippage_bps", FLOAT, "Assumed slippage a unit of turnover.", "bps", minimum=0
)

SLEEVE_RETURNS = TableSpec(
    name="sleeve_returns",
    description="One sleeve's return on one day at one slippage.",
    columns=(
        SLEEVE_ID,
        TIMEFRAME,
        when("ts", "Day; hourly sleeves are added up to days."),
        SLIPPAGE,
        number("return_gross", "Return before costs."),
        number("return_net", "Return after costs."),
        number("turnover", "Sum of absolute weight changes.", minimum=0),
        count("window", "Walk-forward window, from 0."),
        choice("phase", "Which part of the window.", ("train", "test")),
        KNOWN_TS,
        RUN_ID,
    ),
    key=("run_id", "sleeve_id", "timeframe", "slippage_bps", "ts"),
    sort_by=("run_id", "sleeve_id", "timeframe", "slippage_bps", "ts"),
    time="ts",
    views=(
        ViewSpec(
            "sleeve_returns_v1",
            "Out-of-sample rows of the newest completed walk-forward run; one of the"
            " standard plan and of every sleeve, if there is any.",
            """
            SELECT * FROM sleeve_returns
            WHERE phase = 'test' AND run_id = (
                SELECT run_id FROM runs
                WHERE flow = 'walk-forward' AND status = 'completed'
                ORDER BY coalesce(json_extract_string(
                             parameters, '$.is_standard'), 'true') DESC,
                         finished_at DESC, run_id DESC LIMIT 1)
            """,
        ),
    ),
)

WF_SNAPSHOTS = TableSpec(
    name="wf_snapshots",
    description="One sleeve, window and slippage of one walk-forward run.",
    columns=(
        RUN_ID,
        SLEEVE_ID,
        TIMEFRAME,
        count("window", "Window, from 0."),
        SLIPPAGE,
        when("train_start", "First bar of the train span."),
        when("test_start", "First bar of the test span."),
        when("test_end", "Last bar of the test span."),
        number("sharpe", "Annualised net Sharpe of the test span.", is_nullable=True),
        number("return_net", "Net return of the test span."),
        number("max_drawdown", "Largest peak-to-trough loss.", minimum=0),
        count("trades", "Position changes."),
        number("baseline_ratio", "Sharpe over the baseline's.", is_nullable=True),
        text("parameters", "JSON: parameters chosen inside the train span."),
        text(
            "weights",
            "JSON: target weights after the last bar, by symbol; newest window only.",
            is_nullable=True,
        ),
        KNOWN_TS,
    ),
    key=("run_id", "sleeve_id", "timeframe", "window", "slippage_bps"),
    sort_by=("run_id", "sleeve_id", "timeframe", "window", "slippage_bps"),
    views=(
        ViewSpec(
            "wf_degradation",
            "Each sleeve's out-of-sample Sharpe beside that of the completed run before it"
            " on the same bars, and what it made on the days that are new since.",
            """
            WITH ended AS (
                SELECT timeframe, run_id, lag(run_id) OVER (
                           PARTITION BY timeframe
                           ORDER BY finished_at, last_end, run_id) AS before
                FROM (SELECT timeframe, run_id, max(test_end) AS last_end
                      FROM wf_snapshots GROUP BY timeframe, run_id)
                JOIN runs USING (run_id)
                WHERE flow = 'walk-forward' AND status = 'completed'),
            stitched AS (
                SELECT run_id, timeframe, sleeve_id, slippage_bps, max(ts) AS last_ts,
                       CASE WHEN stddev_samp(return_net) > 0 THEN
                           avg(return_net) / stddev_samp(return_net)
                           * sqrt((count(*) - 1) * 365.25
                                  / date_diff('day', min(ts), max(ts))) END AS sharpe
                FROM sleeve_returns WHERE phase = 'test'
                GROUP BY run_id, timeframe, sleeve_id, slippage_bps)
            SELECT ended.run_id, ended.before AS run_id_before, now.timeframe,
                   now.sleeve_id, now.slippage_bps, now.sharpe,
                   old.sharpe AS sharpe_before, now.sharpe - old.sharpe AS change,
                   (SELECT coalesce(product(1 + fresh.return_net) - 1, 0)
                    FROM sleeve_returns AS fresh
                    WHERE fresh.run_id = now.run_id AND fresh.timeframe = now.timeframe
                      AND fresh.sleeve_id = now.sleeve_id AND fresh.phase = 'test'
                      AND fresh.slippage_bps = now.slippage_bps
                      AND fresh.ts > old.last_ts) AS return_since
            FROM ended
            JOIN stitched AS now USING (run_id, timeframe)
            JOIN stitched AS old ON old.run_id = ended.before
                AND old.timeframe = now.timeframe AND old.sleeve_id = now.sleeve_id
                AND old.slippage_bps = now.slippage_bps
            """,
        ),
    ),
)

TRIALS = TableSpec(
    name="trials",
    description="One configuration on one span, whoever tried it and however it did.",
    columns=(
        text("trial_id", "Hash of family, configuration and span."),
        text("family", "Universe, timeframe and span, hashed."),
        text("origin", "walkforward, evolution, tune, notebook, ..."),
        text("configuration", "JSON of the sleeve and its parameters."),
        when("span_start", "First day."),
        when("span_end", "Last day."),
        number(
            "sharpe", "Daily, not annualised; null when constant.", is_nullable=True
        ),
        number("skewness", "Of daily net returns.", is_nullable=True),
        number("kurtosis", "Non-excess, of daily net returns.", is_nullable=True),
        count("n_obs", "Days."),
        when("tried_at", "Clock time."),
        RUN_ID,
    ),
    key=("trial_id",),
    sort_by=("family", "tried_at"),
    is_append_only=True,
    provenance=("origin", "tried_at", "run_id"),
)

TRIAL_RETURNS = TableSpec(
    name="trial_returns",
    description="A trial's daily net returns on its family's calendar.",
    columns=(
        text("trial_id", "See `trials`."),
        text("family", "See `trials`."),
        ColumnSpec(
            "returns", pa.list_(pa.float32()), "One a day of the family calendar."
        ),
    ),
    key=("trial_id",),
    sort_by=("family", "trial_id"),
    is_append_only=True,
)

GENOMES = TableSpec(
    name="genomes",
    description="One genome that a search evaluated: where it is from, what became of it.",
    columns=(
        text("genome_id", "SHA-256 of its configuration."),
        text("sleeve_id", "Its name as a sleeve: `ga-` and eight digits."),
        text("family", "Family of its trial, see `trials`."),
        text("trial_id", "Its trial, see `trials`."),
        TIMEFRAME,
        count("cycle", "Its search, from 1, counted by timeframe."),
        count("generation", "From 1; 0 for one evaluated anew on another span."),
        count("place", "Order of evaluation within its search, from 0."),
        text("operator", "random, inherited, crossover, jitter, swap, resize, ..."),
        text("parents", "JSON: genome ids, none to two."),
        text("configuration", "JSON: signals, filters, sizing and universe."),
        number(
            "fitness",
            "Daily out-of-sample net Sharpe ratio at 10 bps; null if it never trades.",
            is_nullable=True,
        ),
        number(
            "novelty",
            "1 less the mean correlation with the nearest genomes kept before it.",
            is_nullable=True,
        ),
        number(
            "max_correlation",
            "With the nearest genome kept before it; -1 if there was none.",
            is_nullable=True,
            minimum=-1,
            maximum=1,
        ),
        flag("is_kept", "Whether it took a place of its generation."),
        flag("is_candidate", "Whether it passed every gate and entered genesis."),
        text("why", "Of both, in words."),
        when("tried_at", "Clock time."),
        RUN_ID,
    ),
    key=("run_id", "genome_id"),
    sort_by=("timeframe", "tried_at", "place"),
    is_append_only=True,
)

GATE_VERDICTS = TableSpec(
    name="gate_verdicts",
    description="One gate's verdict on one subject, with everything that decided it.",
    columns=(
        text("verdict_id", "Hash of subject, gate, inputs and thresholds."),
        text("subject", "Sleeve, model or artefact."),
        text("gate", "dsr, reality_check, pbo, shadow_days, ..."),
        text("inputs", "JSON."),
        text("thresholds", "JSON."),
        text("distances", "JSON: how far from passing, and what would change it."),
        flag("is_passed", "The verdict."),
        when("decided_at", "Clock time."),
        RUN_ID,
    ),
    key=("verdict_id",),
    sort_by=("subject", "gate", "decided_at"),
    is_append_only=True,
)

REGIMES = TableSpec(
    name="regimes",
    description="A filtered market-regime call.",
    columns=(
        when("ts", "Bar of the call."),
        ColumnSpec(
            "regime",
            TEXT,
            "Most likely state.",
            allowed=("calm", "normal", "turbulent"),
        ),
        number("p_calm", "Filtered probability.", minimum=0, maximum=1),
        number("p_normal", "Filtered probability.", minimum=0, maximum=1),
        number("p_turbulent", "Filtered probability.", minimum=0, maximum=1),
        KNOWN_TS,
        RUN_ID,
    ),
    key=("ts",),
    sort_by=("ts",),
    time="ts",
    provenance=("run_id",),
)

TABLES = (
    SLEEVE_RETURNS,
    WF_SNAPSHOTS,
    TRIALS,
    TRIAL_RETURNS,
    GENOMES,
    GATE_VERDICTS,
    REGIMES,
)
