"""Champion against challenger: what promotes, what never does, and how often by chance."""

from dataclasses import replace

import numpy as np
import pytest

from lab.arrays import FloatArray, TimeArray
from lab.errors import ValidationError
from lab.learning.comparison import (
    DEFAULT_RULES,
    RULES,
    Acted,
    ComparisonRules,
    compare,
)

N_DAYS, A_DAY = 120, 4
DAYS: TimeArray = np.repeat(
    np.arange("2026-01-01", N_DAYS, dtype="datetime64[D]"), A_DAY
)


def acted(outcome: FloatArray, loss: FloatArray | None = None, cost=0.0) -> Acted:
    return Acted(outcome, np.full(len(outcome), cost), loss)


def noise(seed: int, scale: float = 0.01) -> FloatArray:
    return np.random.default_rng(seed).normal(0.0, scale, N_DAYS * A_DAY)


def test_a_better_challenger_is_promoted_with_its_standard_error():
    base = noise(1)
    better = base + 0.001 + noise(2, 0.002)
    found = compare(acted(base), acted(better), days=DAYS, seed=3)
    assert found.decision == "PROMOTE"
    assert found.confidence is not None
    assert found.confidence > 0.99
    assert found.n_days == N_DAYS
    daily = (better - base).reshape(N_DAYS, A_DAY).sum(axis=1)
    assert found.improvement == pytest.approx(daily.mean())
    assert found.total == pytest.approx(daily.sum())
    independent = daily.std(ddof=1) / np.sqrt(N_DAYS)
    assert found.standard_error == pytest.approx(independent, rel=0.35)
    assert "P(difference > 0)" in found.why


def test_a_worse_challenger_is_not_and_the_champion_stays():
    base = noise(1)
    worse = base - 0.001 + noise(2, 0.002)
    found = compare(acted(base), acted(worse), days=DAYS)
    assert found.decision == "KEEP"
    assert found.confidence is not None
    assert found.confidence < 0.2
    assert found.why.startswith("the challenger earns less")


def test_ties_never_promote():
    base = noise(1)
    rounded = base * (1.0 + 1e-15)
    for same in (base, rounded, base.copy()):
        found = compare(acted(base), acted(same), days=DAYS)
        assert found.decision == "KEEP"
        assert found.confidence == 0.0
        assert found.why.startswith("a tie")
    loss = np.full(len(base), 0.5)
    better_loss = compare(acted(base, loss), acted(base, loss - 0.1), days=DAYS)
    assert better_loss.decision == "INCONCLUSIVE"
    assert better_loss.why.startswith("both earned the same on each of")


def test_an_equal_challenger_is_promoted_no_oftener_than_the_confidence_allows():
    n_trials, promoted = 200, 0
    rules = replace(DEFAULT_RULES, n_boot=400)
    for seed in range(n_trials):
        left, right = noise(2 * seed + 1000), noise(2 * seed + 1001)
        found = compare(acted(left), acted(right), days=DAYS, rules=rules, seed=seed)
        promoted += found.decision == "PROMOTE"
    assert promoted / n_trials <= 0.2 + 2.33 * np.sqrt(0.2 * 0.8 / n_trials)
    assert promoted > 0


def test_too_few_common_days_or_rows_need_more_data():
    base = noise(1)
    few_days = np.datetime64("2026-01-28") > DAYS
    found = compare(
        acted(base[few_days]), acted(base[few_days] + 0.01), days=DAYS[few_days]
    )
    assert found.decision == "NEEDS_MORE_DATA"
    assert found.why == "27 of 28 common days, 108 of 200 common rows"
    nothing = compare(acted(base[:0]), acted(base[:0]), days=DAYS[:0])
    assert nothing.decision == "NEEDS_MORE_DATA"
    assert nothing.n_rows == 0


def test_a_profit_that_higher_costs_eat_is_not_promoted():
    base = noise(1)
    better = base + 0.001
    plain = compare(acted(base), acted(better), days=DAYS)
    assert plain.decision == "PROMOTE"
    dear = compare(acted(base), acted(better, cost=0.002), days=DAYS)
    assert dear.decision == "INCONCLUSIVE"
    assert dear.stressed_improvement is not None
    assert dear.stressed_improvement < 0 < (dear.improvement or 0)
    assert "2 x the costs" in dear.why


def test_costs_that_are_not_recorded_are_assumed_where_it_acted():
    base = np.zeros(N_DAYS * A_DAY)
    better = base + 0.0005
    unknown = np.full(len(base), np.nan)
    found = compare(Acted(base, unknown), Acted(better, unknown), days=DAYS)
    assert found.decision == "INCONCLUSIVE"
    assert found.stressed_improvement == pytest.approx(A_DAY * (0.0005 - 0.001))


def test_a_better_profit_with_worse_predictions_is_not_promoted():
    base = noise(1)
    better = base + 0.001
    loss = np.full(len(base), 0.5)
    worse = compare(acted(base, loss), acted(better, loss + 0.01), days=DAYS)
    assert worse.decision == "INCONCLUSIVE"
    assert "predictions are worse" in worse.why
    equal = compare(acted(base, loss), acted(better, loss), days=DAYS)
    assert equal.decision == "PROMOTE"
    asked = replace(DEFAULT_RULES, is_loss_decisive=True)
    strict = compare(acted(base, loss), acted(better, loss), days=DAYS, rules=asked)
    assert strict.decision == "INCONCLUSIVE"
    unlabelled = compare(acted(base), acted(better), days=DAYS, rules=asked)
    assert unlabelled.decision == "INCONCLUSIVE"


def test_a_handful_of_lucky_days_does_not_promote():
    base = noise(1)
    better = base.copy()
    better[: 5 * A_DAY] += 0.01
    found = compare(acted(base), acted(better), days=DAYS)
    assert (found.confidence or 0) > 0.8
    assert found.decision == "INCONCLUSIVE"
    assert "differ on 5 days only" in found.why


def test_the_same_rows_and_seed_give_the_same_verdict_in_any_order():
    base, other = noise(1), noise(2)
    order = np.random.default_rng(5).permutation(len(base))
    first = compare(acted(base), acted(other), days=DAYS, seed=7)
    assert compare(acted(base), acted(other), days=DAYS, seed=7) == first
    shuffled = compare(
        acted(base[order]), acted(other[order]), days=DAYS[order], seed=7
    )
    assert shuffled.decision == first.decision
    assert shuffled.confidence == pytest.approx(first.confidence)
    assert compare(acted(base), acted(other), days=DAYS, seed=8) != first


def test_dependent_days_widen_the_standard_error():
    n_days = 500
    shocks = np.random.default_rng(1).normal(0.0, 0.01, n_days)
    slow = np.convolve(shocks, np.ones(8), mode="full")[:n_days]
    days = np.arange("2025-01-01", n_days, dtype="datetime64[D]")
    found = compare(acted(np.zeros(n_days)), acted(slow), days=days)
    assert (found.standard_error or 0) > 1.5 * slow.std() / np.sqrt(n_days)
    assert (found.block or 0) > 3


def policy(n_days: int, mean: float, *, seed: int, recent: float = 0.0) -> FloatArray:
    daily = np.random.default_rng(seed).normal(mean, 0.005, n_days)
    daily[-28:] += recent
    return daily


@pytest.mark.parametrize(
    ("n_days", "mean", "recent", "decision"),
    [
        (250, 0.003, 0.003, "PROMOTE"),
        (170, 0.003, 0.003, "INCONCLUSIVE"),
        (250, 0.003, -0.02, "KEEP"),
        (250, -0.0007, 0.004, "INCONCLUSIVE"),
    ],
)
def test_a_policy_needs_a_higher_28_day_sharpe_and_180_days(
    n_days, mean, recent, decision
):
    days = np.arange("2026-01-01", n_days, dtype="datetime64[D]")
    champion = policy(n_days, 0.0, seed=1)
    challenger = policy(n_days, mean, seed=1, recent=recent) + policy(
        n_days, 0.0, seed=9
    )
    found = compare(
        acted(champion), acted(challenger), days=days, rules=RULES["policy"]
    )
    assert found.decision == decision, found.why
    assert found.sharpe_challenger is not None
    if decision == "KEEP":
        assert "champion" not in found.why, "there may be none to compare with"


def test_of_several_trainings_the_median_sharpe_counts():
    n_days = 200
    days = np.arange("2026-01-01", n_days, dtype="datetime64[D]")
    champion = policy(n_days, 0.001, seed=1)
    seeds = [policy(n_days, mean, seed=2) for mean in (-0.001, 0.0, 0.05)]
    found = compare(
        acted(np.tile(champion, 3)),
        acted(np.concatenate(seeds)),
        days=np.tile(days, 3),
        rules=RULES["policy"],
        series=np.repeat(np.arange(3), n_days),
    )
    alone = compare(acted(champion), acted(seeds[1]), days=days, rules=RULES["policy"])
    assert found.sharpe_challenger == pytest.approx(alone.sharpe_challenger)
    assert found.n_days == n_days
    mean = np.mean(seeds, axis=0) - champion
    assert found.improvement == pytest.approx(mean.mean())


def test_what_cannot_be_compared_is_refused_in_one_line():
    base = noise(1)
    with pytest.raises(ValidationError, match="the same"):
        compare(acted(base), acted(base[1:]), days=DAYS)
    broken = base.copy()
    broken[3] = np.nan
    with pytest.raises(ValidationError, match="finite"):
        compare(acted(base), acted(broken), days=DAYS)
    with pytest.raises(ValidationError, match=r"min_confidence 0\.5"):
        ComparisonRules(min_confidence=0.5)
    with pytest.raises(ValidationError, match="days_min 3"):
        ComparisonRules(days_min=3)
