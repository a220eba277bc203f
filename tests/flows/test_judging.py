"""Scoring, judging and acceptance by plain bodies on a lake."""

import json
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flows.bodies import score, settling
from flows.bodies.acceptance import record_acceptance
from flows.bodies.forecast import forecast_closes
from flows.bodies.ingest import ingest_bars
from flows.bodies.publish import publish_artefacts
from flows.bodies.replay import replay_run
from flows.bodies.score import score_settled
from flows.wiring import Workplace
from lakehouse.errors import InputError
from lakehouse.query import connect
from lakehouse.schema.forecasts import PREDICTION_SCORES
from tests.flows.conftest import run_plainly
from tests.simulators.scores import BEGIN, daily_scores

VERDICTS = ["subject", "model_name", "horizon", "has_skill", "n_obs", "judged_as_of"]


def forecast_history(days: int = 12) -> None:
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    run_plainly(
        "forecast",
        forecast_closes,
        model="naive,seasonal",
        timeframe="1d",
        earlier=days,
        samples=5,
    )


def keep(workplace: Workplace, scores: pa.Table, window: str) -> None:
    workplace.lake.append("prediction_scores", scores, window=window)


def test_scoring_leaves_a_verdict_on_every_cell(workplace: Workplace):
    forecast_history()
    told = run_plainly("score-signals", score_settled, timeframe="1d").message
    assert "none of 8 cells has enough settled forecasts to judge" in told
    verdicts = workplace.lake.read("skill_verdicts")
    cells = verdicts.filter(pc.equal(verdicts["scope"], "symbol"))
    scored = workplace.lake.read("prediction_scores")
    keys = scored.group_by(["symbol", "model_name", "horizon"]).aggregate([])
    assert cells.num_rows == keys.num_rows
    assert cells["has_skill"].null_count == cells.num_rows  # 12 days are too few
    with connect(workplace.root, threads=1) as session:
        assert len(session.sql("FROM court")) == cells.num_rows


def test_judging_again_writes_nothing_and_replays(workplace: Workplace):
    forecast_history()
    first = run_plainly("score-signals", score_settled, timeframe="1d")
    version = workplace.lake.version("skill_verdicts")
    run_plainly("score-signals", score_settled, timeframe="1d")
    assert workplace.lake.version("skill_verdicts") == version
    report = replay_run(workplace, first.run_id)
    assert report.is_equal
    assert report.table == "prediction_scores and skill_verdicts"


def test_a_run_killed_between_scores_and_verdicts_is_made_good(workplace: Workplace):
    keep(workplace, daily_scores(1), "made")
    run_plainly("score-signals", score_settled, timeframe="1d")
    expected = workplace.lake.read("skill_verdicts")["n_obs"].to_pylist()
    assert expected
    keep(workplace, daily_scores(2, symbols=("D",)), "by a killed run")
    told = run_plainly("score-signals", score_settled, timeframe="1d").message
    assert "no settled forecast is left to score; skill in 0 of 8" in told
    subjects = workplace.lake.read("skill_verdicts")["subject"].to_pylist()
    assert "D" in subjects


def test_verdicts_as_of_an_earlier_time_do_not_replace_newer_ones(workplace: Workplace):
    keep(workplace, daily_scores(1, models={"naive": (0, 1), "seer": (0.3, 0.84)}), "x")
    told = run_plainly("score-signals", score_settled, timeframe="1d").message
    assert "skill in 6 of 12 judged cells, 12 in all" in told
    version = workplace.lake.version("skill_verdicts")
    earlier = (BEGIN + timedelta(days=40)).isoformat()
    outcome = run_plainly("score-signals", score_settled, timeframe="1d", as_of=earlier)
    assert outcome.counts["cells_judged"] < 12
    assert "are newer and stay" in outcome.notes[0]
    assert workplace.lake.version("skill_verdicts") == version
    with pytest.raises(InputError, match="later than now"):
        run_plainly(
            "score-signals", score_settled, timeframe="1d", as_of="2030-01-01T00:00Z"
        )


def test_the_report_is_published_only_when_verdicts_change(workplace: Workplace):
    keep(workplace, daily_scores(1), "made")
    run_plainly("score-signals", score_settled, timeframe="1d")
    first = run_plainly("publish", publish_artefacts).message
    assert "evaluation_report" in first
    run_plainly("score-signals", score_settled, timeframe="1d")
    assert "nothing changed" in run_plainly("publish", publish_artefacts).message


def test_scores_do_not_depend_on_batches_and_commits(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
):
    forecast_history()
    whole = run_plainly("score-signals", score_settled, timeframe="1d")
    expected = workplace.lake.read("prediction_scores")
    verdicts = workplace.lake.read("skill_verdicts").select(VERDICTS)
    for table in ("prediction_scores", "skill_verdicts"):
        workplace.lake.replace(table, workplace.lake.read(table).slice(0, 0))
    monkeypatch.setattr(settling, "BATCH_FORECASTS", 3)
    monkeypatch.setattr(score, "COMMIT_ROWS", 20)
    parts = run_plainly("score-signals", score_settled, timeframe="1d")
    assert parts.counts["scores"] == whole.counts["scores"]
    found = workplace.lake.read("prediction_scores")
    order = [(name, "ascending") for name in PREDICTION_SCORES.key]
    dropped = list(PREDICTION_SCORES.provenance)
    assert (
        found.drop(dropped).sort_by(order).equals(expected.drop(dropped).sort_by(order))
    )
    assert workplace.lake.read("skill_verdicts").select(VERDICTS).equals(verdicts)


def test_acceptance_is_recorded_once_whatever_it_says(workplace: Workplace):
    told = run_plainly("acceptance", record_acceptance, timeframe="1d").message
    assert "kronos-lora: no scored forecast" in told
    models = {"kronos": (0.0, 1.0), "kronos-lora": (0.1, 1.0), "ensemble": (0.1, 1.0)}
    keep(workplace, daily_scores(1, models=models), "made")
    first = run_plainly("acceptance", record_acceptance, timeframe="1d")
    again = run_plainly("acceptance", record_acceptance, timeframe="1d")
    assert (first.counts["verdicts"], again.counts["verdicts"]) == (4, 0)
    rows = workplace.lake.read("gate_verdicts").to_pylist()
    assert {row["gate"] for row in rows} == {
        "lora_event_spread",
        "lora_surprise_direction",
        "lora_quiet_error",
        "lora_ensemble_sharpe",
    }
    by_gate = {row["gate"]: row for row in rows}
    spread = by_gate["lora_event_spread"]
    assert json.loads(spread["inputs"])["verdict"] == "NEEDS_MORE_DATA"
    assert json.loads(spread["distances"])["events_missing"] == 150
    sharpe = json.loads(by_gate["lora_ensemble_sharpe"]["inputs"])
    assert sharpe["interval_95"][0] < sharpe["value"] < sharpe["interval_95"][1]
    assert not spread["is_passed"]
    assert spread["subject"] == "kronos-lora/1d"
    keep(workplace, daily_scores(1, symbols=("D",), models=models), "more")
    run_plainly("acceptance", record_acceptance, timeframe="1d")
    assert workplace.lake.read("gate_verdicts").num_rows > 4
