from functools import lru_cache

import numpy as np
import pytest

from lab.backtest.ledger import TrialMatrix
from lab.backtest.walkforward import walk_forward
from lab.backtest.windows import WalkForwardPlan
from lab.errors import BacktestError, EvolutionError
from lab.evolution.alphabet import Scope
from lab.evolution.breeding import random_genome
from lab.evolution.diversity import MAX_CORRELATION
from lab.evolution.expression import BOOK_RISK
from lab.evolution.fitness import OutOfSample, fitness_of, trial_configuration
from lab.evolution.search import search
from lab.evolution.sleeve import GenomeSleeve
from tests.lab.evolution.markets import noise, trending

PLAN = WalkForwardPlan()
PANEL = noise(900)
HOUR = np.timedelta64(1, "h")


@lru_cache
def found(seed=0, generations=3):
    return search(PANEL, PLAN, generations=generations, rng=np.random.default_rng(seed))


def genomes(count, seed=0):
    rng = np.random.default_rng(seed)
    return [random_genome(rng, Scope.of(PANEL)) for _ in range(count)]


class Counting:
    """Evaluates as the search itself would, and remembers whom."""

    def __init__(self, panel=PANEL, *, at_most=None):
        self.ground = OutOfSample.of(panel, PLAN)
        self.seen = []
        self.at_most = at_most

    def __call__(self, wanted):
        self.seen += [one.genome_id for one in wanted]
        if self.at_most is not None and len(self.seen) > self.at_most:
            raise KeyboardInterrupt
        return self.ground.series(wanted)


def same(one, other):
    return (
        one.genealogy == other.genealogy
        and [t.configuration for t in one.trials]
        == [t.configuration for t in other.trials]
        and all(
            np.array_equal(a.returns, b.returns)
            for a, b in zip(one.trials, other.trials, strict=True)
        )
        and [v.verdict_id for v in one.verdicts]
        == [v.verdict_id for v in other.verdicts]
        and one.candidates == other.candidates
    )


def test_a_genomes_trial_is_its_walk_forward_to_the_last_bit():
    ground = OutOfSample.of(PANEL, PLAN)
    wanted = genomes(12)
    together = ground.series(wanted)
    for genome, series in zip(wanted, together, strict=True):
        walk = walk_forward(PANEL, [GenomeSleeve(genome)], PLAN)
        (trial,) = walk.trials
        assert trial.configuration == trial_configuration(genome, PLAN)
        np.testing.assert_array_equal(series, trial.returns.astype(np.float32))
        np.testing.assert_array_equal(series, ground.series([genome])[0])


@pytest.mark.parametrize("fill", ["next_open", "next_close", "same_close"])
def test_hours_become_days_as_in_the_walk_forward(fill):
    panel = noise(24 * 90, step=HOUR, timeframe="1h")
    plan = WalkForwardPlan(train_days=30, test_days=10, fill=fill)
    wanted = genomes(4, seed=2)
    together = OutOfSample.of(panel, plan).series(wanted)
    assert together.shape[1] <= 60
    for genome, series in zip(wanted, together, strict=True):
        (trial,) = walk_forward(panel, [GenomeSleeve(genome)], plan).trials
        assert trial.configuration == trial_configuration(genome, plan)
        np.testing.assert_array_equal(series, trial.returns.astype(np.float32))


def test_a_seed_gives_the_same_search_whoever_evaluates():
    def one_by_one(wanted):
        ground = OutOfSample.of(PANEL, PLAN)
        return np.concatenate([ground.series([one]) for one in wanted])

    again = search(
        PANEL, PLAN, generations=3, rng=np.random.default_rng(0), evaluate=one_by_one
    )
    assert same(again, found())
    assert not same(found(seed=1), found())


def test_everything_evaluated_is_a_trial_refused_or_not():
    evaluator = Counting()
    result = search(
        PANEL, PLAN, generations=3, rng=np.random.default_rng(0), evaluate=evaluator
    )
    refused = [one for one in result.genealogy if not one.is_kept]
    assert refused
    assert [one.genome.genome_id for one in result.genealogy] == evaluator.seen
    assert len(set(evaluator.seen)) == len(evaluator.seen)
    assert len(result.trials) == len(evaluator.seen) == result.matrix.n_trials
    n_inputs = {one.inputs["n_trials"] for one in result.verdicts if one.gate == "dsr"}
    assert n_inputs == {result.matrix.n_trials}


def test_every_generation_fills_its_places_with_no_two_alike():
    result = found()
    for generation in (1, 2, 3):
        own = [one for one in result.genealogy if one.generation == generation]
        kept = [one for one in own if one.is_kept]
        assert len(kept) <= 20
        assert all(one.max_correlation <= MAX_CORRELATION for one in kept)
        copies = [one for one in own if not one.is_kept and one.fitness is not None]
        assert all(one.max_correlation > MAX_CORRELATION for one in copies)
        assert all("correlates" in one.why for one in copies)
    returns = {
        one.genome.genome_id: trial.returns
        for one, trial in zip(result.genealogy, result.trials, strict=True)
        if one.is_kept and one.generation == 1
    }
    correlations = np.corrcoef(list(returns.values()))
    assert np.triu(correlations, 1).max() <= MAX_CORRELATION + 1e-9


def test_children_come_from_the_top_quarter():
    result = found()
    first = [one for one in result.genealogy if one.generation == 1]
    second = [one for one in result.genealogy if one.generation == 2]
    assert {one.operator for one in first} == {"random"}
    ranked = sorted(
        (one for one in first if one.fitness is not None), key=lambda one: -one.fitness
    )
    best = {one.genome.genome_id for one in ranked[:6]}
    parents = {name for one in second for name in one.parents}
    assert parents
    assert parents <= best
    assert any(one.operator == "random" for one in second)


def test_breeding_finds_fitter_genomes_than_drawing_did():
    gained = []
    for seed in range(3):
        result = found(seed=seed)
        best = {
            generation: max(
                one.fitness
                for one in result.genealogy
                if one.generation <= generation and one.fitness is not None
            )
            for generation in (1, 3)
        }
        gained.append(best[3] - best[1])
    assert min(gained) >= 0
    assert max(gained) > 0


def test_the_best_quarter_is_judged_by_every_trial():
    result = found()
    assert len(result.finalists) == 5
    assert len(result.verdicts) == 15
    scored = {one.genome.genome_id: one.fitness for one in result.genealogy}
    fitness = [scored[one.genome.genome_id] for one in result.finalists]
    assert fitness == sorted(fitness, reverse=True)
    assert fitness[0] == max(value for value in scored.values() if value is not None)
    told = [one for one in result.genealogy if "judged" in one.why]
    assert {one.genome for one in told} == {one.genome for one in result.finalists}


def test_a_search_begun_again_finds_its_trials_and_takes_the_same_course():
    whole = found()
    for at_most in (25, 45, 70):
        partial = Counting(at_most=at_most)
        with pytest.raises(KeyboardInterrupt):
            search(
                PANEL,
                PLAN,
                generations=3,
                rng=np.random.default_rng(0),
                evaluate=partial,
            )
        stored = [
            trial
            for trial, one in zip(whole.trials, whole.genealogy, strict=True)
            if one.genome.genome_id in partial.seen[:at_most]
        ]
        ledger = TrialMatrix.from_trials(stored, family=whole.family)
        rest = Counting()
        again = search(
            PANEL,
            PLAN,
            generations=3,
            rng=np.random.default_rng(0),
            trials_before=ledger,
            evaluate=rest,
        )
        assert same(again, whole)
        assert len(rest.seen) == len(whole.trials) - len(stored)
        assert not set(rest.seen) & set(partial.seen[:at_most])


def test_the_next_cycle_breeds_from_the_last_and_repeats_none_of_it():
    first = found(generations=1)
    rest = Counting()
    stock = [one.genome for one in first.genealogy]
    second = search(
        PANEL,
        PLAN,
        rng=np.random.default_rng(5),
        trials_before=first.matrix,
        stock=stock,
        evaluate=rest,
    )
    ids = {one.genome_id for one in stock}
    assert not ids & set(rest.seen)
    assert not ids & {one.genome.genome_id for one in second.genealogy}
    parents = {name for one in second.genealogy for name in one.parents}
    assert parents
    assert parents <= ids
    assert second.matrix.n_trials == first.matrix.n_trials + len(second.trials)


def test_genomes_of_an_earlier_span_are_all_tried_on_the_new_one():
    earlier = found(generations=1)
    inherited = [one.genome for one in earlier.genealogy]
    later = noise(1000)
    result = search(later, PLAN, rng=np.random.default_rng(5), inherited=inherited)
    assert result.family != earlier.family
    first = result.genealogy[: len(inherited)]
    assert [one.genome for one in first] == inherited
    assert {one.operator for one in first} == {"inherited"}
    assert {one.generation for one in first} == {0}
    assert result.matrix.n_trials == len(result.trials) > len(inherited)
    assert any(one.parents for one in result.genealogy[len(inherited) :])


def test_noise_has_no_candidates():
    for seed in range(3):
        assert found(seed=seed).candidates == ()


def test_what_follows_real_trends_passes_every_gate():
    passed = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        result = search(trending(seed=seed), PLAN, generations=3, rng=rng)
        assert set(result.candidates) <= set(result.finalists)
        marked = {one.genome for one in result.genealogy if one.is_candidate}
        assert marked == {one.genome for one in result.candidates}
        for sleeve in result.candidates:
            own = [one for one in result.verdicts if one.subject == sleeve.sleeve_id]
            assert [one.gate for one in own] == ["dsr", "reality_check", "pbo"]
            assert all(one.is_passed for one in own)
        passed += result.candidates
    assert passed


def test_books_are_of_about_one_risk():
    risks = [one.returns.std() * 365**0.5 for one in found().trials]
    assert max(risks) < 1.5 * BOOK_RISK


def test_what_fills_at_the_close_it_decides_on_is_no_candidate():
    plan = WalkForwardPlan(fill="same_close")
    result = search(trending(), plan, rng=np.random.default_rng(0))
    assert result.candidates == ()
    assert all('"fill":"same_close"' in one.configuration for one in result.trials)


def test_fitness_is_the_daily_sharpe_ratio_of_what_trades():
    returns = np.random.default_rng(0).normal(0.001, 0.01, 500)
    assert fitness_of(returns) == pytest.approx(returns.mean() / returns.std(ddof=1))
    assert fitness_of(np.zeros(500)) is None
    assert fitness_of(np.zeros(1)) is None


def test_a_genome_that_never_trades_is_a_trial_without_a_place():
    def flat(wanted):
        made = OutOfSample.of(PANEL, PLAN).series(wanted)
        made[::2] = 0.0
        return made

    result = search(PANEL, PLAN, rng=np.random.default_rng(0), evaluate=flat)
    idle = [one for one in result.genealogy if one.fitness is None]
    assert idle
    assert {one.why for one in idle} == {"never trades"}
    assert not any(one.is_kept for one in idle)
    assert result.matrix.n_trials == len(result.genealogy)


def test_a_search_in_which_nobody_trades_judges_nobody():
    result = search(
        PANEL,
        PLAN,
        population=4,
        rng=np.random.default_rng(0),
        evaluate=lambda wanted: 0.0 * OutOfSample.of(PANEL, PLAN).series(wanted),
    )
    assert result.verdicts == result.finalists == result.candidates == ()


def test_what_cannot_be_searched_is_refused_in_one_line():
    rng = np.random.default_rng(0)
    with pytest.raises(EvolutionError, match="population 3, generations 1: at least 4"):
        search(PANEL, PLAN, population=3, rng=rng)
    with pytest.raises(EvolutionError, match="generations 0"):
        search(PANEL, PLAN, generations=0, rng=rng)
    with pytest.raises(BacktestError, match="too short"):
        search(PANEL.until(100), PLAN, rng=rng)
    other = TrialMatrix.from_trials(found().trials, family="another")
    with pytest.raises(EvolutionError, match="trials of family another, not"):
        search(PANEL, PLAN, rng=rng, trials_before=other)
