from collections import Counter

import numpy as np
import pytest

from lab.errors import EvolutionError
from lab.evolution.alphabet import ROLES, Scope
from lab.evolution.breeding import Bred, breed, crossover, mutate, random_genome
from lab.evolution.genome import from_text
from tests.lab.evolution.markets import CLASSES, noise

SCOPE = Scope()


def drawn(count, seed=0, scope=SCOPE):
    rng = np.random.default_rng(seed)
    return [random_genome(rng, scope) for _ in range(count)]


def parts(genome):
    return {(role, part) for role in ROLES for part in genome.parts(role)}


def test_a_cross_has_only_parts_of_its_parents_each_about_as_often():
    rng = np.random.default_rng(1)
    first, second = drawn(2, seed=4)
    share = Counter()
    for _ in range(400):
        child = crossover(first, second, rng)
        assert parts(child) <= parts(first) | parts(second)
        share["sizing"] += child.sizing == first.sizing
        share["universe"] += child.universe == first.universe
    assert all(140 < share[role] < 260 for role in ("sizing", "universe"))


def test_a_mutation_is_one_valid_step():
    rng = np.random.default_rng(2)
    seen = Counter()
    for genome in drawn(600):
        child, operator = mutate(genome, rng, SCOPE)
        seen[operator] += 1
        assert from_text(child.text) == child
        assert len(parts(genome) - parts(child)) <= 1
        assert len(parts(child) - parts(genome)) <= 1
    assert set(seen) == {"jitter", "swap", "resize"}
    assert seen["jitter"] > seen["swap"] > seen["resize"]


def test_a_child_was_never_tried_before():
    parents = drawn(4)
    tried = {one.genome_id for one in parents}
    appeal = np.ones(4)
    operators = Counter()
    for k in range(300):
        rng = np.random.default_rng((7, k))
        child = breed(parents, appeal, rng, scope=SCOPE, tried=tried)
        assert child.genome.genome_id not in tried
        assert set(child.parents) <= {one.genome_id for one in parents}
        tried.add(child.genome.genome_id)
        operators[child.operator] += 1
    assert {"crossover", "crossover+jitter", "jitter", "swap"} <= set(operators)


def test_without_parents_a_genome_is_drawn():
    rng = np.random.default_rng(0)
    found = breed([], np.zeros(0), rng, scope=SCOPE, tried=set())
    assert found == Bred(found.genome, "random", ())


def test_an_appealing_parent_breeds_more_often():
    parents = drawn(3)
    count = Counter()
    for k in range(300):
        rng = np.random.default_rng((9, k))
        appeal = np.array([10.0, 1.0, 1.0])
        count.update(breed(parents, appeal, rng, scope=SCOPE, tried=set()).parents)
    ids = [one.genome_id for one in parents]
    assert count[ids[0]] > 1.3 * max(count[ids[1]], count[ids[2]])


def test_breeding_gives_up_when_nothing_is_new():
    class Everything(set):
        def __contains__(self, item):
            return True

    with pytest.raises(EvolutionError, match="nothing new in 100 tries"):
        breed(
            drawn(2),
            np.ones(2),
            np.random.default_rng(0),
            scope=SCOPE,
            tried=Everything(),
        )


def test_the_same_stream_breeds_the_same_child():
    parents = drawn(4)

    def child():
        rng = np.random.default_rng((3, 1))
        return breed(parents, np.ones(4), rng, scope=SCOPE, tried=set())

    assert child() == child()


def test_only_what_a_panel_has_is_drawn():
    scope = Scope(asset_classes=("fx",), has_surprises=False, has_volume=False)
    kinds = {
        p.kind
        for one in drawn(200, scope=scope)
        for role in ROLES
        for p in one.parts(role)
    }
    assert not kinds & {"surprise-drift", "most-liquid", "asset-class"}
    found = Scope.of(noise(50))
    assert found == Scope(
        tuple(sorted(set(CLASSES))), has_surprises=True, has_volume=True
    )
    named = {
        one.universe["asset_class"]
        for one in drawn(200, scope=found)
        if one.universe.kind == "asset-class"
    }
    assert named == set(CLASSES)
