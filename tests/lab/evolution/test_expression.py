import numpy as np
import pytest

from lab.evolution.alphabet import FILTERS, SIGNALS, SIZINGS, UNIVERSES, Scope
from lab.evolution.breeding import draw_part, random_genome
from lab.evolution.expression import weights_of
from lab.evolution.genome import Genome, make_part
from lab.evolution.sleeve import GenomeSleeve
from lab.sleeves.own_bars import OwnBars
from lab.sleeves.signals import average_cross
from tests.lab.evolution.markets import noise

PANEL = noise(700)
SCOPE = Scope.of(PANEL)
EVERY = {
    "signals": SIGNALS,
    "filters": FILTERS,
    "sizing": SIZINGS,
    "universe": UNIVERSES,
}


def random_genomes(count, seed=0, panel=PANEL):
    rng = np.random.default_rng(seed)
    return [random_genome(rng, Scope.of(panel)) for _ in range(count)]


def genome(*, signals=None, filters=(), sizing=None, universe=None):
    trend = {"lookback": 20, "threshold": 0.0, "weight": 1.0}
    return Genome(
        signals=signals or (make_part("trend", trend),),
        filters=filters,
        sizing=sizing or make_part("equal", {"cap": 1.0, "hold": 1}),
        universe=universe or make_part("all", {}),
    )


def of_each_kind(seed):
    rng = np.random.default_rng(seed)
    for role, kinds in EVERY.items():
        for kind in kinds:
            part = draw_part(role, kind, rng, SCOPE)
            start = genome()
            yield start.with_parts(role, (part,))


@pytest.mark.parametrize("seed", range(3))
def test_the_future_of_a_panel_does_not_move_a_weight(seed):
    rng = np.random.default_rng(seed)
    for one in (*random_genomes(25, seed=seed), *of_each_kind(seed)):
        sleeve = GenomeSleeve(one)
        whole = sleeve.positions(PANEL)
        for row in rng.integers(0, PANEL.n_obs, 4):
            seen = sleeve.positions(PANEL.until(int(row) + 1))
            np.testing.assert_array_equal(seen, whole[: row + 1], err_msg=one.text)
            np.testing.assert_array_equal(sleeve.positions_at(PANEL, row), whole[row])


@pytest.mark.full
@pytest.mark.parametrize("seed", range(10, 40))
def test_the_future_of_a_panel_does_not_move_a_weight_at_length(seed):
    panel = noise(800, seed=seed)
    rng = np.random.default_rng(seed)
    for one in random_genomes(40, seed=seed, panel=panel):
        whole = GenomeSleeve(one).positions(panel)
        for row in rng.integers(0, panel.n_obs, 6):
            seen = GenomeSleeve(one).positions(panel.until(int(row) + 1))
            np.testing.assert_array_equal(seen, whole[: row + 1], err_msg=one.text)


def test_weights_are_finite_and_never_more_than_the_book():
    for one in (*random_genomes(60), *of_each_kind(9)):
        weights = GenomeSleeve(one).positions(PANEL)
        assert weights.shape == PANEL.close.shape
        assert np.isfinite(weights).all()
        assert np.abs(weights).sum(axis=1).max() <= 1 + 1e-12


def test_every_kind_of_signal_has_an_opinion():
    rng = np.random.default_rng(1)
    for kind in SIGNALS:
        part = draw_part("signals", kind, rng, SCOPE)
        one = genome(signals=(part,))
        held = [GenomeSleeve(one).positions(noise(900, seed=seed)) for seed in range(3)]
        assert np.any(held), kind


def test_opinions_are_held_for_as_long_as_declared():
    sizing = make_part("equal", {"cap": 1.0, "hold": 28})
    slow = np.sign(GenomeSleeve(genome(sizing=sizing)).positions(PANEL))
    fast = np.sign(GenomeSleeve(genome()).positions(PANEL))
    turns = [np.count_nonzero(np.diff(one[:, 0])) for one in (slow, fast)]
    assert turns[0] <= 700 // 28 + 1 < turns[1]


def test_a_weekday_filter_changes_its_mind_on_that_day_only():
    on_wednesday = make_part("weekday", {"day": 2})
    side = np.sign(GenomeSleeve(genome(filters=(on_wednesday,))).positions(PANEL)[:, 0])
    changed = np.flatnonzero(np.diff(side)) + 1
    changed = changed[changed > 100]  # its risk is known by then
    assert len(changed) > 20
    weekday = (PANEL.ts[changed].astype("datetime64[D]").astype(int) + 3) % 7
    assert set(weekday) == {2}


def test_a_trend_filter_leaves_only_positions_with_the_trend():
    with_trend = genome(filters=(make_part("trend", {"window": 50}),))
    held = np.sign(GenomeSleeve(with_trend).positions(PANEL))
    free = np.sign(GenomeSleeve(genome()).positions(PANEL))
    above = average_cross(PANEL, fast=1, slow=50, band=0.0)
    np.testing.assert_array_equal(held, np.where(free * above > 0, free, 0))
    assert 0 < np.count_nonzero(held) < np.count_nonzero(free)


def test_an_asset_class_holds_its_own_instruments_only():
    universe = make_part("asset-class", {"asset_class": "fx"})
    held = np.any(GenomeSleeve(genome(universe=universe)).positions(PANEL), axis=0)
    assert [
        c for c, is_held in zip(PANEL.asset_classes, held, strict=True) if is_held
    ] == [
        "fx",
        "fx",
    ]


def test_the_most_liquid_are_those_with_the_largest_traded_value_then():
    universe = make_part("most-liquid", {"count": 2, "window": 20})
    weights = GenomeSleeve(genome(universe=universe)).positions(PANEL)
    assert (np.count_nonzero(weights, axis=1) <= 2).all()
    assert not weights[:, 3].any()  # its volume is unknown
    value = np.nan_to_num(PANEL.volume * PANEL.close)
    monday = next(r for r in range(400, 420) if np.isfinite(PANEL.close[r]).all())
    held = set(np.flatnonzero(weights[monday]))
    own = [
        value[: monday + 1][PANEL.has_bar[: monday + 1, k], k][-20:].sum()
        for k in range(8)
    ]
    assert held <= set(np.argsort(own)[-3:])


def test_the_least_volatile_are_few_and_calm():
    universe = make_part("least-volatile", {"count": 3, "window": 60})
    weights = GenomeSleeve(genome(universe=universe)).positions(PANEL)
    assert (np.count_nonzero(weights, axis=1) <= 3).all()
    assert np.any(weights)


def test_bars_taken_out_once_give_the_same_weights():
    bars = OwnBars.of(PANEL)
    for one in random_genomes(10, seed=4):
        np.testing.assert_array_equal(
            weights_of(one, bars), GenomeSleeve(one).positions(PANEL)
        )
