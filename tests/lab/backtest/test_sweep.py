"""Block sums against simulated rows, and the choice against the obvious loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.backtest.engine import BPS, Fill, simulate
from lab.backtest.sweep import BlockSums, select, sweep
from lab.errors import BacktestError
from tests.lab.backtest.random_panels import random_panel, random_positions

SEEDS = st.integers(0, 2**32 - 1)
FILLS = st.sampled_from(list(Fill))


def random_edges(seed, n_obs):
    rng = np.random.default_rng([seed, 2])
    edges = np.flatnonzero(rng.random(n_obs + 1) < 0.08)
    return edges if len(edges) > 1 else np.array([0, n_obs])


@settings(max_examples=150, deadline=None)
@given(
    seed=SEEDS,
    shape=st.tuples(st.integers(1, 300), st.integers(1, 4), st.integers(1, 5)),
    fill=FILLS,
    is_clean=st.booleans(),
)
def test_block_sums_are_the_sums_of_simulated_rows(seed, shape, fill, is_clean):
    n_obs, n_assets, n_variants = shape
    panel = random_panel(seed, n_obs, n_assets, is_clean=is_clean)
    positions = random_positions(seed, n_obs, n_assets, n_variants)
    edges = random_edges(seed, n_obs)
    sums = sweep(panel, positions, edges, fill=fill)
    rows = simulate(panel, positions, fill=fill)
    g, q = rows.gross, rows.cost_base
    for block, part in enumerate(map(slice, edges[:-1], edges[1:])):
        columns = (g, q, g * g, g * q, q * q)
        expected = np.array([each[part].sum(axis=0) for each in columns])
        np.testing.assert_allclose(sums.sums[block], expected, rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(sums.n, np.diff(edges))


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, fill=FILLS, n_assets=st.integers(1, 3))
def test_sums_do_not_depend_on_how_variants_are_handed_over(seed, fill, n_assets):
    panel = random_panel(seed, 90, n_assets)
    positions = random_positions(seed, 90, n_assets, 7)
    edges = np.array([3, 40, 41, 90])
    whole = sweep(panel, positions, edges, fill=fill)
    single = sweep(panel, (positions[:, :, k] for k in range(7)), edges, fill=fill)
    pieces = sweep(panel, [positions[:, :, :3], positions[:, :, 3:]], edges, fill=fill)
    np.testing.assert_array_equal(whole.sums, single.sums)
    np.testing.assert_array_equal(whole.sums, pieces.sums)


def test_more_variants_than_a_pass_takes_are_the_same_too():
    panel = random_panel(4, 60, 2)
    positions = random_positions(4, 60, 2, 300)
    edges = np.array([0, 30, 60])
    whole = sweep(panel, positions, edges)
    part = sweep(panel, positions[:, :, 250:], edges)
    np.testing.assert_array_equal(whole.sums[:, :, 250:], part.sums)
    rows = simulate(panel, positions)
    part_rows = simulate(panel, positions[:, :, 250:])
    np.testing.assert_array_equal(rows.gross[:, 250:], part_rows.gross)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, fill=FILLS)
def test_the_choice_is_that_of_the_obvious_loop(seed, fill):
    panel = random_panel(seed, 200, 3, is_clean=True)
    positions = random_positions(seed, 200, 3, 9)
    positions[:, :, 2] = positions[:, :, 6]
    positions[:, :, 4] = 0
    edges = np.arange(0, 201, 20)
    windows = [(slice(k, k + 6), slice(k + 6, k + 7)) for k in range(4)]
    found = select(sweep(panel, positions, edges, fill=fill), windows, (0, 5, 10, 20))
    rows = simulate(panel, positions, fill=fill)
    for number, (train, test) in enumerate(windows):
        for rung, bps in enumerate((0, 5, 10, 20)):
            net = rows.gross - bps * BPS * rows.cost_base
            trained = net[edges[train.start] : edges[train.stop]]
            tested = net[edges[test.start] : edges[test.stop]]
            spread = trained.std(axis=0, ddof=1)
            sharpe = trained.mean(axis=0) / np.where(spread > 0, spread, np.nan)
            sharpe = np.where(np.isnan(sharpe), -np.inf, sharpe)
            best = int(np.argmax(sharpe))
            assert found.chosen[number, rung] == (2 if best == 6 else best)
            np.testing.assert_allclose(
                found.train_sharpe[number, rung], sharpe[best], rtol=1e-8
            )
            tested = tested[:, best]
            np.testing.assert_allclose(
                found.test_sharpe[number, rung],
                tested.mean() / tested.std(ddof=1),
                rtol=1e-8,
            )


def test_a_variant_without_spread_is_chosen_only_if_none_has_any():
    panel = random_panel(1, 40, 1, is_clean=True)
    positions = np.zeros((40, 1, 3))
    edges, windows = np.array([0, 20, 40]), [(slice(0, 1), slice(1, 2))]
    none = select(sweep(panel, positions, edges), windows, (10,))
    assert none.chosen.tolist() == [[0]]
    assert np.isnan(none.train_sharpe).all()
    positions[::3, 0, 2] = 1.0
    loser = select(sweep(panel, positions, edges), windows, (500,))
    assert loser.chosen.tolist() == [[2]]
    assert loser.train_sharpe[0, 0] < 0


def test_means_and_sharpe_ratios_over_blocks():
    panel = random_panel(2, 60, 2, is_clean=True)
    positions = random_positions(2, 60, 2, 3)
    sums = sweep(panel, positions, np.array([0, 20, 40, 60]))
    net = simulate(panel, positions).net(10)[20:]
    np.testing.assert_allclose(sums.mean(slice(1, 3), 10), net.mean(axis=0))
    np.testing.assert_allclose(
        sums.sharpe(slice(1, 3), 10), net.mean(axis=0) / net.std(axis=0, ddof=1)
    )
    assert (sums.n_blocks, sums.n_variants) == (3, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
@pytest.mark.parametrize("fill", list(Fill))
def test_other_number_types_sum_the_same(dtype, fill):
    panel = random_panel(2, 200, 1)
    positions = np.sign(random_positions(2, 200, 1, 3))
    edges = np.array([0, 100, 200])
    found = sweep(panel, positions.astype(dtype), edges, fill=fill)
    expected = sweep(panel, positions, edges, fill=fill)
    np.testing.assert_array_equal(found.sums, expected.sums)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([0], "at least two"),
        ([0, 20, 20], "increasing"),
        ([-1, 20], "from -1 to 20"),
        ([0, 41], "rows 0 to 40"),
    ],
)
def test_blocks_that_cannot_be_are_refused(edges, message):
    with pytest.raises(BacktestError, match=message):
        sweep(random_panel(1, 40, 1), np.zeros((40, 1, 1)), np.array(edges))


@pytest.mark.parametrize("n_assets", [1, 2])
@pytest.mark.parametrize("fill", list(Fill))
@pytest.mark.parametrize("value", [np.nan, 1.1])
def test_weights_that_cannot_be_are_refused(n_assets, fill, value):
    panel = random_panel(1, 80, n_assets, is_clean=True)
    positions = np.zeros((80, n_assets, 2))
    positions[45, 0, 1] = value
    with pytest.raises(BacktestError, match=rf"variant 1 at {panel.ts[45]}"):
        sweep(panel, positions, np.array([0, 40, 80]), fill=fill)


def test_no_variants_and_windows_that_look_ahead_are_refused():
    panel = random_panel(1, 40, 1)
    with pytest.raises(BacktestError, match="no positions"):
        sweep(panel, [], np.array([0, 40]))
    sums = BlockSums(np.array([10, 10]), np.zeros((2, 5, 1)))
    with pytest.raises(BacktestError, match="reach into the test"):
        select(sums, [(slice(0, 2), slice(1, 2))], (0,))
    with pytest.raises(BacktestError, match="no rows"):
        select(sums, [(slice(0, 1), slice(2, 3))], (0,))
