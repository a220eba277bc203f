"""The gates: what they count, what they refuse, what their verdicts hold."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from lab.backtest.ledger import Trial, TrialMatrix, trial_tables
from lab.backtest.steps import Fill
from lab.errors import ValidationError
from lab.validation.bootstrap import draw_counts
from lab.validation.evidence import family_seed, sampling_variance
from lab.validation.gates import (
    GATES,
    GateRules,
    decide_gates,
    judge,
    verdict_table,
    weigh_family,
)
from lab.validation.overfitting import probability_of_backtest_overfitting
from lab.validation.sharpe import deflated_sharpe, moments
from lakehouse.schema.research import GATE_VERDICTS

N_DAYS = 1500
DAYS = np.datetime64("2018-01-01", "us") + np.arange(N_DAYS) * np.timedelta64(1, "D")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RULES = GateRules(n_boot=300, n_blocks=8)


def series(seed, *, sharpe=None, n_trials=1, n_days=N_DAYS):
    """Return noise, or daily returns whose annual Sharpe ratio is exactly that."""
    noise = np.random.default_rng(seed).standard_normal((n_trials, n_days))
    if sharpe is None:
        return 0.01 * noise
    noise -= noise.mean(axis=1, keepdims=True)
    noise /= noise.std(axis=1, ddof=1, keepdims=True)
    return 0.01 * (noise + sharpe / np.sqrt(365.25))


def family(*rows, family="panel"):
    """Return the matrix of these series, in the order of their trial ids."""
    trials = [Trial(f"c{k}", row) for k, row in enumerate(np.concatenate(rows))]
    return TrialMatrix.from_trials(trials, family=family)


def good_family(sharpe=3.0, n_trials=40):
    good = series(1, sharpe=sharpe)
    return good[0], family(good, series(2, n_trials=n_trials - 1))


def test_skill_passes_all_three_gates_and_luck_does_not():
    good, matrix = good_family()
    verdicts = decide_gates("good", good, matrix, rules=RULES)
    assert tuple(one.gate for one in verdicts) == GATES
    assert all(one.is_passed for one in verdicts)
    assert all(one.distances["reason"] is None for one in verdicts)
    luck = series(2, n_trials=39)
    best = luck[np.argmax(luck.mean(axis=1) / luck.std(axis=1))]
    lucky = decide_gates("lucky", best, family(luck), rules=RULES)
    assert not lucky[0].is_passed
    assert not lucky[1].is_passed


def test_a_verdict_holds_what_it_takes_to_decide_it_again():
    good, matrix = good_family(sharpe=2.0)
    dsr, reality, pbo = decide_gates("good", good, matrix, days=DAYS, rules=RULES)
    i = dsr.inputs
    again = deflated_sharpe(
        i["sharpe"],
        i["n_obs"],
        skewness=i["skewness"],
        kurtosis=i["kurtosis"],
        trial_variance=i["luck_variance"],
        n_trials=i["n_trials"],
    )
    assert again == i["dsr"]
    assert i["trial_variance"] == np.var(matrix.sharpes, ddof=1)
    assert i["effective_rank"] == matrix.effective_rank
    assert i["sharpe"] == moments(good).sharpe
    assert i["sharpe_annual"] == pytest.approx(i["sharpe"] * np.sqrt(365.25))
    # Draw the resamples again from what is written: all trials, the candidate's mean.
    i = reality.inputs
    rng = np.random.default_rng([int(one) for one in i["seed"]])
    counts = draw_counts(N_DAYS, i["n_boot"], block=i["block"], rng=rng)
    centred = matrix.returns - matrix.returns.mean(axis=1, keepdims=True)
    maxima = (counts @ centred.T / N_DAYS).max(axis=1)
    above = np.count_nonzero(maxima >= good.mean())
    assert i["p_value"] == (1 + above) / (1 + i["n_boot"])
    i = pbo.inputs
    tested = probability_of_backtest_overfitting(
        matrix.returns.T, n_blocks=i["n_blocks"]
    )
    assert (i["pbo"], i["n_splits"]) == (tested.pbo, 70)


def test_n_is_the_rows_of_the_ledger_constant_ones_among_them():
    good, _ = good_family()
    idle = np.zeros((30, N_DAYS))
    noise = series(2, n_trials=39)
    without = family(good[None], noise)
    matrix = family(good[None], noise, idle)
    dsr, reality, pbo = decide_gates("good", good, matrix, rules=RULES)
    plain = decide_gates("good", good, without, rules=RULES)
    assert dsr.inputs["n_trials"] == 70
    assert dsr.inputs["n_varying"] == 40
    # A zero Sharpe ratio is no estimate of one: the variance is of those that vary.
    assert dsr.inputs["trial_variance"] == pytest.approx(
        plain[0].inputs["trial_variance"]
    )
    assert dsr.inputs["dsr"] < plain[0].inputs["dsr"]
    assert reality.inputs["p_value"] == plain[1].inputs["p_value"]
    assert pbo.inputs["pbo"] == plain[2].inputs["pbo"]


def test_the_stored_ledger_and_the_one_in_memory_decide_alike():
    good, matrix = good_family(sharpe=2.0)
    trials = [
        Trial(name, row)
        for name, row in zip(matrix.configurations, matrix.returns, strict=True)
    ]
    tables = trial_tables(
        trials, family="panel", origin="x", days=DAYS, tried_at=NOW, run_id="r"
    )
    stored = TrialMatrix.from_tables(*tables)
    first = decide_gates("good", good, matrix, rules=RULES)
    assert first == decide_gates("good", good, stored, rules=RULES)
    # The order in which trials were made changes nothing either.
    shuffled = TrialMatrix.from_trials(trials[::-1], family="panel")
    assert first == decide_gates("good", good, shuffled, rules=RULES)


def test_one_weighing_serves_all_candidates_with_the_same_verdicts():
    good, matrix = good_family()
    baseline = series(77, sharpe=1.0)[0]
    evidence = weigh_family(matrix, RULES, baseline=baseline)
    for name, returns in (("good", good), ("other", matrix.returns[5])):
        alone = decide_gates(name, returns, matrix, rules=RULES, baseline=baseline)
        assert judge(name, returns, evidence) == alone
        ids = [one.verdict_id for one in alone]
        assert len(set(ids)) == 3


def test_a_series_that_is_no_trial_of_the_ledger_does_not_pass():
    _, matrix = good_family()
    other = series(99, sharpe=4.0)[0]
    verdicts = decide_gates("foreign", other, matrix, rules=RULES)
    for one in verdicts:
        assert not one.is_passed
        assert "no trial of the family's ledger" in one.distances["reason"]
        assert one.inputs["n_trials"] == 41
        assert not one.inputs["is_in_ledger"]


def test_what_the_ledger_rounds_is_still_found_in_it():
    good, matrix = good_family()
    rounded = good.astype(np.float32).astype(np.float64)
    assert not np.array_equal(good, rounded)
    for returns in (good, rounded):
        dsr = decide_gates("good", returns, matrix, rules=RULES)[0]
        assert dsr.inputs["is_in_ledger"]


def test_the_close_that_was_decided_on_never_passes():
    good, matrix = good_family(sharpe=5.0)
    for one in decide_gates("good", good, matrix, fill=Fill.SAME_CLOSE, rules=RULES):
        assert not one.is_passed
        assert "cannot be had" in one.distances["reason"]
        assert one.distances["distance"] > 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: np.zeros_like(r), "never vary"),
        (lambda r: np.full_like(r, -0.001), "never vary"),
        (lambda r: np.where(np.arange(len(r)) == 7, np.nan, r), "1 of 1500 returns"),
        (lambda r: np.full_like(r, np.inf), "1500 of 1500 returns"),
    ],
)
def test_series_that_cannot_be_judged_are_told_why(change, reason):
    good, matrix = good_family()
    for one in decide_gates("odd", change(good), matrix, days=DAYS, rules=RULES):
        assert not one.is_passed
        assert reason in one.distances["reason"]
        assert one.distances["distance"] is None
        assert one.verdict_id
    verdict_table([one], decided_at=NOW, run_id="r")


def test_short_spans_and_families_without_a_choice_are_told_why():
    short = series(1, sharpe=3.0, n_trials=5, n_days=100)
    for one in decide_gates("short", short[0], family(short), rules=RULES):
        assert not one.is_passed
        assert one.distances["reason"] == "100 days; judged from 120 on"
    single = series(1, sharpe=3.0)
    dsr, reality, pbo = decide_gates("single", single[0], family(single), rules=RULES)
    assert dsr.is_passed
    assert reality.is_passed
    assert dsr.inputs["dsr"] == dsr.inputs["psr"]
    assert not pbo.is_passed
    assert "nothing was chosen between" in pbo.distances["reason"]
    idle = np.zeros((3, N_DAYS))
    for one in decide_gates("idle", idle[0], family(idle), rules=RULES):
        assert not one.is_passed
        assert "no trial of the family varies" in one.distances["reason"]


def test_a_ledger_with_a_trial_of_no_numbers_judges_nobody():
    good, matrix = good_family()
    matrix.returns[3, 5] = np.nan
    for one in decide_gates("good", good, matrix, rules=RULES):
        assert not one.is_passed
        assert f"trial {matrix.trial_ids[3]}" in one.distances["reason"]


def test_an_empty_ledger_is_not_passed():
    no_days = TrialMatrix("none", ("a",), ("a",), np.zeros((1, 0)))
    for one in decide_gates("x", np.zeros(0), no_days, rules=RULES):
        assert not one.is_passed
    empty = TrialMatrix("none", (), (), np.zeros((0, N_DAYS)))
    for one in decide_gates("x", series(1)[0], empty, rules=RULES):
        assert not one.is_passed
        assert "ledger is empty" in one.distances["reason"]


def test_the_distances_are_where_the_verdict_turns():
    good, matrix = good_family(sharpe=1.5)
    dsr, reality, pbo = decide_gates("good", good, matrix, days=DAYS, rules=RULES)
    needed, i = dsr.distances, dsr.inputs
    shape = {k: i[k] for k in ("skewness", "kurtosis")}
    shape["trial_variance"] = i["luck_variance"]
    at = deflated_sharpe(
        needed["sharpe_needed"], i["n_obs"], n_trials=i["n_trials"], **shape
    )
    assert at == pytest.approx(RULES.dsr_min)
    assert not dsr.is_passed
    assert needed["distance"] == i["dsr"] - RULES.dsr_min < 0
    later = i["n_obs"] + needed["further_days"]
    for n_obs, is_enough in ((later, True), (later - 2, False)):
        value = deflated_sharpe(i["sharpe"], n_obs, n_trials=i["n_trials"], **shape)
        assert (value >= RULES.dsr_min) == is_enough
    fewer = needed["trials_allowed"]
    for n_trials, is_enough in ((fewer, True), (fewer + 1, False)):
        value = deflated_sharpe(i["sharpe"], i["n_obs"], n_trials=n_trials, **shape)
        assert (value >= RULES.dsr_min) == is_enough
    assert f"{needed['further_days']} more days" in needed["change"]
    assert "at 40 trials and 1500 days" in needed["change"]
    sharpe = reality.distances["sharpe_needed"]
    assert reality.is_passed == (i["sharpe"] > sharpe)
    spare = pbo.distances["splits_to_change"]
    n_lower = pbo.inputs["n_splits_lower_half"] - spare
    assert n_lower / pbo.inputs["n_splits"] <= RULES.pbo_max


def test_a_loser_is_told_that_no_time_will_help():
    _, matrix = good_family()
    worst = matrix.returns[np.argmin(matrix.sharpes)]
    dsr, reality, _ = decide_gates("worst", worst, matrix, rules=RULES)
    assert dsr.distances["further_days"] is reality.distances["further_days"] is None
    assert dsr.distances["trials_allowed"] == 0
    assert "more days" not in dsr.distances["change"]


def test_the_baseline_is_reported_and_decides_nothing():
    good, matrix = good_family(sharpe=3.0)
    alone = decide_gates("good", good, matrix, rules=RULES)[1]
    better = good + 0.0005
    beside = decide_gates("good", good, matrix, rules=RULES, baseline=better)[1]
    assert alone.inputs["p_value_against_baseline"] is None
    assert beside.inputs["p_value_against_baseline"] > 0.5
    assert beside.inputs["p_value"] == alone.inputs["p_value"]
    assert beside.is_passed


def test_seeds_and_families_draw_their_own_resamples():
    good, matrix = good_family(sharpe=1.2)
    base = decide_gates("good", good, matrix, rules=RULES)
    other = decide_gates("good", good, matrix, rules=replace(RULES, seed=1))
    assert base[1].distances["sharpe_needed"] != other[1].distances["sharpe_needed"]
    assert family_seed("a", RULES) != family_seed("b", RULES)
    assert base[0].inputs == other[0].inputs


def test_verdicts_are_rows_of_the_table_and_come_once():
    good, matrix = good_family()
    verdicts = decide_gates("good", good, matrix, rules=RULES, days=DAYS)
    table = verdict_table([*verdicts, verdicts[0]], decided_at=NOW, run_id="run")
    assert table.schema.equals(GATE_VERDICTS.to_arrow())
    assert table.num_rows == 3
    row = table.to_pylist()[0]
    assert row["subject"] == "good"
    assert json.loads(row["inputs"])["n_trials"] == 40
    assert json.loads(row["thresholds"])["dsr_min"] == 0.95
    assert row["verdict_id"] == verdicts[0].verdict_id
    with pytest.raises(ValidationError, match="aware of its time zone"):
        verdict_table(verdicts, decided_at=NOW.replace(tzinfo=None), run_id="run")


def test_series_of_another_length_are_refused():
    good, matrix = good_family()
    for arguments in (
        {"returns": good[:-1]},
        {"returns": good, "baseline": good[:-1]},
        {"returns": good, "days": DAYS[:-1]},
    ):
        with pytest.raises(ValidationError, match="shape"):
            decide_gates("good", matrix=matrix, rules=RULES, **arguments)
    with pytest.raises(ValidationError, match="baseline: finite"):
        decide_gates("good", good, matrix, baseline=good * np.nan, rules=RULES)


@pytest.mark.parametrize(
    "rules",
    [
        {"dsr_min": 1.0},
        {"reality_p_max": 0.0},
        {"pbo_max": 1.2},
        {"n_boot": 10},
        {"n_blocks": 7},
        {"min_obs": 8},
        {"seed": -1},
    ],
)
def test_rules_that_make_no_sense_are_refused(rules):
    with pytest.raises(ValidationError, match=next(iter(rules))):
        GateRules(**rules)


def test_searches_of_noise_hardly_ever_pass_all_gates():
    # One search: 60 trials, some alike; its best one before the gates.
    n_passed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((60, 900)) + 0.7 * rng.standard_normal(900)
        matrix = family(0.01 * noise)
        best = matrix.returns[np.nanargmax(matrix.sharpes)]
        verdicts = decide_gates("best", best, matrix, rules=RULES)
        n_passed += all(one.is_passed for one in verdicts)
    assert n_passed <= 1


def test_how_much_of_the_book_a_trial_used_changes_no_verdict():
    good, matrix = good_family(sharpe=1.2)
    scales = np.geomspace(0.01, 20, matrix.n_trials)
    candidate = int(np.abs(matrix.returns - good).max(axis=1).argmin())
    scales[candidate] = 1.0
    scaled = replace(matrix, returns=matrix.returns * scales[:, None])
    for one, other in zip(
        decide_gates("good", good, matrix, baseline=matrix.returns[0], rules=RULES),
        decide_gates("good", good, scaled, baseline=scaled.returns[0], rules=RULES),
        strict=True,
    ):
        assert one.is_passed == other.is_passed
        for name in ("p_value", "p_value_of_best", "p_value_against_baseline", "dsr"):
            assert one.inputs.get(name) == pytest.approx(other.inputs.get(name))


def test_trials_that_bleed_on_costs_do_not_raise_what_luck_explains():
    good, matrix = good_family(sharpe=1.5)
    rng = np.random.default_rng(5)
    costs = rng.uniform(0.05, 0.2, (20, 1)) * 0.01
    bleeding = family(
        good[None], series(2, n_trials=39), series(3, n_trials=20) - costs
    )
    plain = decide_gates("good", good, matrix, rules=RULES)[0].inputs
    found = decide_gates("good", good, bleeding, rules=RULES)[0].inputs
    assert found["trial_variance"] > 4 * plain["trial_variance"]
    assert found["luck_variance"] == pytest.approx(1 / N_DAYS, rel=0.2)
    assert found["dsr_at_trial_variance"] < 0.01 < found["dsr"] < plain["dsr"]


def test_luck_has_the_variance_of_sharpe_ratios_without_skill():
    rng = np.random.default_rng(8)
    for memory in (0.0, 0.3, -0.3):
        noise = rng.standard_normal((2000, 300))
        for row in range(1, 2000):
            noise[row] += memory * noise[row - 1]
        scaled = noise / noise.std(axis=0, ddof=1)
        found = sampling_variance(scaled, block=15.0)
        seen = float(np.var(scaled.mean(axis=0)))
        assert found == pytest.approx(max(seen, 1 / 2000), rel=0.2)
