"""Where a sleeve goes next: neighbouring stages only, and never past canary."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import LifecycleError
from lab.lifecycle.decide import decide, reached
from lab.lifecycle.evidence import GATES, Evidence, Gate, Series
from lab.lifecycle.stages import LADDER, RETIRED, above, below, is_move
from lab.lifecycle.why import why_document, why_lines
from lakehouse.schema.lifecycle import STAGES

NOW = datetime(2021, 1, 6, 6, tzinfo=UTC)  # a Wednesday
MONDAY = datetime(2021, 1, 11, 6, tzinfo=UTC)
RESEARCH = LADDER[: LADDER.index("paper")]


def gates(**changed: Any) -> dict[str, Gate]:
    figures = {
        "dsr": ({"dsr": 0.97}, {"dsr_min": 0.95}),
        "reality_check": ({"p_value": 0.01}, {"reality_p_max": 0.05}),
        "pbo": ({"pbo": 0.1}, {"pbo_max": 0.2}),
    }
    made = {
        name: Gate(name, is_passed=True, n_trials=50, inputs=inputs, thresholds=limits)
        for name, (inputs, limits) in figures.items()
    }
    return {**made, **changed}


GOOD = Evidence(
    sleeve_id="trend",
    as_of=NOW,
    entered_at=NOW - timedelta(days=40),
    moved_at=NOW - timedelta(days=40),
    run_id="walk-forward-1",
    timeframe="1d",
    family="f",
    backtest=Series(1.2, 1000),
    backtest_trades=400,
    backtest_drawdown=0.1,
    backtest_days=1000.0,
    walked=Series(1.0, 1000),
    stressed=Series(0.8, 1000),
    n_folds=33,
    n_positive_folds=26,
    gates=gates(),
    n_trials=50,
    drawdown=0.02,
    recent=Series(0.9, 90),
    samples=300,
    live_days=40.0,
)

series = st.one_of(
    st.none(),
    st.builds(
        Series,
        sharpe=st.one_of(st.none(), st.floats(-3, 3)),
        n_obs=st.integers(0, 2000),
    ),
)
share = st.one_of(st.none(), st.floats(0, 0.9))
any_gate = st.builds(
    Gate,
    verdict_id=st.just("v"),
    is_passed=st.booleans(),
    n_trials=st.sampled_from([10, 50]),
    inputs=st.just({"dsr": 0.4, "p_value": 0.4, "pbo": 0.4, "days_a_year": 252.0}),
    thresholds=st.just({"dsr_min": 0.95, "reality_p_max": 0.05, "pbo_max": 0.2}),
    distances=st.fixed_dictionaries(
        {"distance": st.sampled_from([-0.3, 0.1, None])},
        optional={"further_days": st.sampled_from([None, 40]), "change": st.just("so")},
    ),
)
any_evidence = st.builds(
    Evidence,
    sleeve_id=st.just("trend"),
    as_of=st.just(NOW),
    entered_at=st.integers(0, 90).map(lambda days: NOW - timedelta(days=days)),
    moved_at=st.one_of(
        st.none(), st.integers(0, 90).map(lambda days: NOW - timedelta(days=days))
    ),
    fill=st.sampled_from(["next_open", "next_close", "same_close"]),
    backtest=series,
    backtest_trades=st.one_of(st.none(), st.integers(0, 300)),
    backtest_drawdown=share,
    backtest_days=st.sampled_from([0.0, 400.0]),
    walked=series,
    stressed=series,
    n_folds=st.integers(0, 10),
    n_positive_folds=st.just(0),
    gates=st.dictionaries(st.sampled_from(GATES), any_gate),
    n_trials=st.just(50),
    drawdown=share,
    recent=series,
    samples=st.integers(0, 400),
).flatmap(
    lambda one: st.integers(0, one.n_folds).map(
        lambda n: replace(one, n_positive_folds=n)
    )
)


@settings(deadline=None, max_examples=400)
@given(stage=st.sampled_from(STAGES), evidence=any_evidence)
def test_no_move_skips_a_stage_or_goes_past_paper(stage: str, evidence: Evidence):
    found = decide(stage, evidence)
    if found.to_stage is None:
        return
    assert is_move(stage, found.to_stage)
    assert found.to_stage in (*LADDER[: LADDER.index("live")], RETIRED)
    if found.to_stage == above(stage):
        assert stage in RESEARCH
    if found.to_stage == "paper" and stage == "walk_forward_multi_fold":
        assert evidence.fill != "same_close"
        assert all(evidence.gates[name].is_passed for name in GATES)
        assert all(evidence.gates[name].n_trials == 50 for name in GATES)


@settings(deadline=None, max_examples=200)
@given(stage=st.sampled_from(STAGES), evidence=any_evidence)
def test_the_baseline_is_never_moved(stage: str, evidence: Evidence):
    locked = replace(evidence, sleeve_id="phase37")
    assert decide(stage, locked).to_stage is None


@settings(deadline=None, max_examples=200)
@given(stage=st.sampled_from(STAGES), evidence=any_evidence)
def test_after_a_move_the_same_day_and_evidence_move_nothing(
    stage: str, evidence: Evidence
):
    first = decide(stage, evidence)
    assert decide(stage, evidence) == first
    if first.to_stage is not None:
        after = replace(evidence, moved_at=evidence.as_of, entered_at=evidence.as_of)
        assert decide(first.to_stage, after).to_stage is None


@settings(deadline=None, max_examples=200)
@given(stage=st.sampled_from(STAGES), evidence=any_evidence)
def test_every_decision_can_be_told_and_is_json(stage: str, evidence: Evidence):
    import json

    found = decide(stage, evidence)
    json.dumps(why_document(found, evidence), allow_nan=False)
    lines = why_lines(found, evidence)
    assert len(lines) > len(found.distances)
    assert all("\n" not in line for line in lines)
    if found.expected_date is not None:
        assert found.expected_date >= evidence.as_of


@settings(deadline=None, max_examples=200)
@given(evidence=any_evidence)
def test_what_is_reached_is_where_daily_decisions_lead(evidence: Evidence):
    stage, day = "genesis", NOW
    seen = replace(evidence, moved_at=None)
    for number in range(8):
        found = decide(stage, seen)
        if found.to_stage != above(stage):
            break
        stage, day = found.to_stage, NOW + timedelta(days=number)
        seen = replace(seen, moved_at=day, as_of=day + timedelta(days=1))
    assert reached(evidence) == stage


def test_good_evidence_climbs_to_canary_and_stops_there():
    stage = "genesis"
    for expected in (*LADDER[1:6], None):
        found = decide(stage, GOOD)
        assert found.to_stage == expected
        stage = found.to_stage or stage
    assert stage == "canary"
    assert "two persons' approval" in decide("canary", GOOD).why
    assert decide("canary", GOOD).expected_date is None
    assert reached(GOOD) == "paper"


@pytest.mark.parametrize(
    "short", [{"live_days": 27.9}, {"samples": 199}, {"live_days": 0.0, "samples": 0}]
)
def test_paper_is_left_on_live_days_and_samples_alone(short: dict[str, Any]):
    found = decide("paper", replace(GOOD, **short))
    assert found.to_stage is None
    assert "stays: " in found.why
    assert decide("paper", GOOD).to_stage == "canary"


def test_no_sleeve_enters_canary_that_would_be_retired_there():
    unjudged = replace(GOOD, recent=None)
    assert decide("paper", unjudged).to_stage == "canary"
    lost = replace(GOOD, drawdown=0.16)
    assert decide("paper", lost).to_stage == RETIRED


BAD = [
    ({"backtest": None}, "genesis"),
    ({"backtest": Series(0.5, 1000)}, "backtest"),
    ({"backtest": Series(None, 1000)}, "backtest"),
    ({"backtest_trades": 99}, "backtest"),
    ({"backtest_trades": None}, "backtest"),
    ({"walked": Series(0.5, 1000)}, "walk_forward"),
    ({"walked": None}, "walk_forward"),
    ({"stressed": Series(0.0, 1000)}, "walk_forward"),
    ({"n_positive_folds": 23}, "walk_forward_multi_fold"),
    ({"n_folds": 1, "n_positive_folds": 1}, "walk_forward_multi_fold"),
    ({"fill": "same_close"}, "walk_forward_multi_fold"),
    ({"gates": {}}, "walk_forward_multi_fold"),
    ({"n_trials": 51}, "walk_forward_multi_fold"),
    *(
        ({"gates": gates(**{name: replace(gates()[name], is_passed=False)})},
         "walk_forward_multi_fold")
        for name in GATES
    ),
    ({"drawdown": 0.151}, "walk_forward_multi_fold"),
    ({"recent": Series(-0.1, 60)}, "walk_forward_multi_fold"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "stage"), BAD)
def test_each_rule_holds_a_sleeve_at_its_stage(change: dict[str, Any], stage: str):
    evidence = replace(GOOD, **change)
    assert reached(evidence) == stage
    assert decide(stage, evidence).to_stage is None


def test_thresholds_are_met_exactly_where_they_say():
    at_least = replace(
        GOOD, backtest_trades=100, n_folds=10, n_positive_folds=7, drawdown=0.15
    )
    assert reached(at_least) == "paper"
    assert reached(replace(at_least, recent=Series(-3.0, 59))) == "paper"


@pytest.mark.parametrize(
    ("change", "to_stage", "why"),
    [
        ({"drawdown": 0.16}, RETIRED, "drawdown 0.16"),
        ({"recent": Series(-0.01, 60)}, RETIRED, "90-day Sharpe -0.01"),
        ({"recent": Series(-2.0, 59)}, "canary", "meets live days in paper"),
        ({"walked": Series(0.4, 900)}, "walk_forward_multi_fold", "10 bps 0.4"),
        ({"n_positive_folds": 5}, "walk_forward_multi_fold", "share of folds"),
        ({"backtest_trades": 5}, "walk_forward_multi_fold", "backtest trades 5"),
        (
            {"walked": None, "backtest": None, "gates": {}},
            None,
            "stays: days of backtest",
        ),
        ({"n_trials": 60}, None, "stays: gate dsr"),
    ],
)
def test_a_sleeve_in_paper_falls_back_one_stage_or_is_retired(
    change: dict[str, Any], to_stage: str | None, why: str
):
    found = decide("paper", replace(GOOD, **change))
    assert found.to_stage == to_stage
    assert why in found.why


def test_a_fall_goes_on_day_by_day_to_the_stage_that_is_earned():
    evidence, stage, path = replace(GOOD, backtest=Series(0.1, 900)), "paper", []
    while (found := decide(stage, evidence)).to_stage is not None:
        assert found.to_stage == below(stage)
        stage = found.to_stage
        path.append(stage)
    assert path == ["walk_forward_multi_fold", "walk_forward", "backtest"]


@pytest.mark.parametrize("stage", RESEARCH)
def test_a_sleeve_without_a_book_is_not_retired(stage: str):
    losing = replace(GOOD, drawdown=0.5, recent=Series(-2.0, 90))
    found = decide(stage, losing)
    assert found.to_stage != RETIRED
    assert len(found.alarms) == 2


def test_the_baseline_raises_an_alarm_where_others_are_retired():
    found = decide("live", replace(GOOD, sleeve_id="phase37", drawdown=0.5))
    assert found.to_stage is None
    assert found.alarms == (
        "drawdown 0.5 (needs <= 0.15, 1.5 x the backtest's 0.1)",
    )  # fmt: skip


def test_an_expected_date_follows_from_the_rate():
    today = replace(GOOD, moved_at=NOW, entered_at=NOW)
    tomorrow = NOW + timedelta(days=1)
    assert decide("backtest", today).expected_date == tomorrow
    assert decide("backtest", GOOD).expected_date == NOW
    unknown = replace(GOOD, walked=None)
    assert decide("walk_forward", unknown).expected_date == MONDAY
    # 60 trades in 1000 days: 40 more in 667 days, seen at the Monday run after.
    few = replace(GOOD, backtest_trades=60)
    expected = decide("backtest", few).expected_date
    assert expected is not None
    assert expected.weekday() == 0
    assert 0 <= (expected - NOW).days - 667 < 7
    weak = replace(GOOD, walked=Series(0.3, 1000))
    assert decide("walk_forward", weak).expected_date is None
    assert "not at this rate" in "\n".join(
        why_lines(decide("walk_forward", weak), weak)
    )


def test_a_failed_gate_is_expected_after_the_days_that_its_verdict_names():
    failed = Gate(
        "v",
        is_passed=False,
        n_trials=50,
        inputs={"dsr": 0.9, "days_a_year": 252.0},
        thresholds={"dsr_min": 0.95},
        distances={"distance": -0.05, "further_days": 252, "change": "more days"},
    )
    evidence = replace(GOOD, gates=gates(dsr=failed))
    stage = "walk_forward_multi_fold"
    expected = decide(stage, evidence).expected_date
    assert expected is not None
    assert 365 <= (expected - NOW).days < 365 + 8
    never = replace(failed, distances={"distance": -0.05, "further_days": None})
    evidence = replace(GOOD, gates=gates(dsr=never))
    assert decide(stage, evidence).expected_date is None


def test_days_and_samples_in_paper_are_told_with_their_date():
    entered = NOW - timedelta(days=10)
    evidence = replace(GOOD, entered_at=entered, samples=100, live_days=10.0)
    found = {one.rule: one for one in decide("paper", evidence).distances}
    days = found["live days in paper"]
    samples = found["settled live shadow decisions"]
    assert days.expected == NOW + timedelta(days=18)
    assert samples.expected == NOW + timedelta(days=10)
    assert found["approval by two persons"].is_met is False
    none = replace(evidence, samples=0)
    found = {one.rule: one for one in decide("paper", none).distances}
    assert found["settled live shadow decisions"].expected is None
    assert "not at this rate" in found["settled live shadow decisions"].change


def test_an_unknown_stage_is_refused():
    with pytest.raises(LifecycleError, match="stage 'research': one of genesis"):
        decide("research", GOOD)
