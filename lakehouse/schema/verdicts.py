"""What the forecast court found."""

from typing import Final

from lakehouse.schema._columns import (
    KNOWN_TS,
    MODEL_NAME,
    RUN_ID,
    TIMEFRAME,
    choice,
    count,
    flag,
    number,
    text,
    when,
)
from lakehouse.schema._spec import FLOATS, INTEGER, ColumnSpec, TableSpec, ViewSpec

SCOPES: Final = ("symbol", "asset_class", "all")
_PRICE: Final = "share of the starting price"


def _share(name: str, description: str) -> ColumnSpec:
    return number(name, description, is_nullable=True, minimum=0, maximum=1)


def _loss(name: str, description: str, unit: str | None = _PRICE) -> ColumnSpec:
    return number(name, description, unit, is_nullable=True, minimum=0)


def _figure(name: str, description: str, unit: str | None = None) -> ColumnSpec:
    return number(name, description, unit, is_nullable=True)


VERDICT_FIGURES: Final = (
    TIMEFRAME,
    choice("scope", "What is judged: a symbol, an asset class, or all.", SCOPES),
    text("subject", "Symbol, asset class or `all`."),
    ColumnSpec("horizon", INTEGER, "Step of the forecast.", "bars", minimum=1),
    MODEL_NAME,
    count("n_obs", "Forecasts judged: in skill, one a decision time."),
    count("n_symbols", "Symbols among them."),
    count("n_blocks", "Decision times whose forecasts do not overlap."),
    count("n_lags", "Most forecasts that overlap one: lags of the test's variance."),
    when("first_as_of", "First decision time."),
    when("last_as_of", "Last decision time."),
    KNOWN_TS,
    _share("hit_rate", "Share of right directions."),
    _share("coverage_80", "Share inside p10 to p90."),
    _loss("coverage_se", "HAC standard error of the coverage.", None),
    _share("share_below_p10", "0.10 if calibrated."),
    _share("share_below_p50", "0.50 if calibrated."),
    _share("share_below_p90", "0.90 if calibrated."),
    _share("quantile_error", "Mean distance of these three from 0.1, 0.5 and 0.9."),
    ColumnSpec(
        "pit_histogram",
        FLOATS,
        "Outcomes in each tenth of their forecast; from samples, spread over the rank's width.",
    ),
    _loss("pit_chi2", "Chi-square of the ten counts against equal ones.", None),
    _share("pit_p_value", "Its probability if calibrated; overlaps counted as blocks."),
    _share("pit_error", "Mean distance of the ten shares from 0.1."),
    _loss("mae", "Mean absolute error of p50."),
    _loss("mae_persistence", "The same of `the price stays`."),
    _loss("mae_naive", "The same of `naive`, where both forecast."),
    _loss("pinball", "Mean pinball loss at 10, 50 and 90 %."),
    _loss("pinball_naive", "The same of `naive`, where both forecast."),
    _loss("wql", "Weighted quantile loss.", None),
    _figure("crps", "Mean CRPS, fair where there are samples.", _PRICE),
    _loss("winkler", "Mean interval score of the 80 % band."),
    _loss("mase", "Mean absolute scaled error.", None),
    number(
        "rank_ic",
        "Spearman of forecast and realised return; over symbols at each moment in a pool.",
        is_nullable=True,
        minimum=-1.000001,
        maximum=1.000001,
    ),
    _figure("sharpe", "Of following the direction, annualised, non-overlapping."),
    _figure("skill_persistence", "1 - error of p50 / error of persistence."),
    _figure("dm_persistence", "Diebold-Mariano statistic, HAC and Harvey-corrected."),
    _share("p_persistence", "One-sided p-value."),
    _share("q_persistence", "Adjusted over all judged (Benjamini-Hochberg)."),
    count("n_naive", "Decision times at which `naive` forecast too."),
    _figure("skill_naive", "1 - pinball loss / pinball loss of `naive`."),
    _figure("dm_naive", "Diebold-Mariano statistic, HAC and Harvey-corrected."),
    _share("p_naive", "One-sided p-value."),
    _share("q_naive", "Adjusted over all judged (Benjamini-Hochberg)."),
    _share("p_skill", "The larger of the two; for `naive` the first."),
    _share("q_skill", "Adjusted over all judged (Benjamini-Hochberg)."),
    flag("has_skill", "q_skill <= 0.05; null if not judged.", is_nullable=True),
    text("reason", "What decided it, in words."),
)

_COURT = """
SELECT timeframe, subject AS symbol, horizon, model_name, has_skill, q_skill,
       skill_persistence, p_persistence, skill_naive, p_naive, n_obs, n_blocks,
       coverage_80, coverage_se, quantile_error, pit_error, pit_p_value, mase, wql,
       crps, winkler, rank_ic, hit_rate, sharpe, reason
FROM skill_verdicts WHERE scope = 'symbol'
"""

SKILL_VERDICTS = TableSpec(
    name="skill_verdicts",
    description="The newest judgement of one model at one horizon on one symbol or pool.",
    columns=(
        *VERDICT_FIGURES,
        when("judged_as_of", "Scores known by then were used."),
        when("judged_at", "Clock time of the judgement."),
        RUN_ID,
    ),
    key=("timeframe", "scope", "subject", "horizon", "model_name"),
    sort_by=("timeframe", "scope", "subject", "model_name", "horizon"),
    provenance=("judged_as_of", "judged_at", "run_id"),
    views=(ViewSpec("court", "Verdicts on symbols, the usual figures first.", _COURT),),
)

TABLES = (SKILL_VERDICTS,)
