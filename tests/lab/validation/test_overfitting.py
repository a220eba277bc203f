"""PBO by CSCV: an obvious twin, known cases, hard cases."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy.stats import rankdata

from lab.errors import ValidationError
from lab.validation.overfitting import (
    block_edges,
    probability_of_backtest_overfitting,
    split_members,
)


def slow_cscv(returns, n_blocks):
    """The paper's steps, split by split; constant halves as our docstring says."""
    blocks = np.split(returns, block_edges(len(returns), n_blocks)[1:-1])
    logits, chosen, inside, outside = [], [], [], []
    for train in combinations(range(n_blocks), n_blocks // 2):
        test = [block for block in range(n_blocks) if block not in train]
        own = sharpes(np.concatenate([blocks[block] for block in train]))
        other = sharpes(np.concatenate([blocks[block] for block in test]))
        best = int(np.argmax(np.where(np.isnan(own), -np.inf, own)))
        other = np.where(np.isnan(other), 0.0, other)
        relative = rankdata(other)[best] / (len(other) + 1)
        logits.append(np.log(relative / (1 - relative)))
        chosen.append(best)
        inside.append(own[best])
        outside.append(other[best])
    return (*map(np.array, (logits, chosen, inside, outside)),)


def sharpes(returns):
    found = np.full(returns.shape[1], np.nan)
    varies = np.ptp(returns, axis=0) > 0
    part = returns[:, varies]
    found[varies] = part.mean(axis=0) / part.std(axis=0, ddof=1)
    return found


def noise(seed, n_obs=480, n_trials=40):
    return 0.01 * np.random.default_rng(seed).standard_normal((n_obs, n_trials))


@pytest.mark.parametrize(
    ("n_obs", "n_trials", "n_blocks"),
    [(120, 7, 6), (480, 40, 8), (125, 2, 6), (331, 33, 10), (50, 5, 2)],
)
def test_it_is_the_papers_algorithm(n_obs, n_trials, n_blocks):
    returns = noise(n_obs, n_obs, n_trials) + 0.0003
    returns[:, 1] += 0.001
    logits, chosen, inside, outside = slow_cscv(returns, n_blocks)
    found = probability_of_backtest_overfitting(returns, n_blocks=n_blocks)
    assert len(found.logits) == comb(n_blocks, n_blocks // 2)
    assert np.array_equal(found.chosen, chosen)
    np.testing.assert_allclose(found.logits, logits, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.in_sample, inside, rtol=1e-9)
    np.testing.assert_allclose(found.out_of_sample, outside, rtol=1e-9, atol=1e-12)
    assert found.pbo == np.mean(logits <= 1e-12)
    assert found.loss_probability == np.mean(outside < 0)
    assert found.degradation == pytest.approx(np.polyfit(inside, outside, 1)[0])


def test_trials_that_rest_for_whole_halves_are_ranked_as_doing_nothing():
    returns = noise(4, 240, 12)
    returns[:120, 3] = 0
    returns[80:, 5] = 0
    returns[:40, 5] += 0.02  # best by far wherever it trades
    logits, chosen, _, outside = slow_cscv(returns, 6)
    found = probability_of_backtest_overfitting(returns, n_blocks=6)
    assert np.array_equal(found.chosen, chosen)
    np.testing.assert_allclose(found.logits, logits, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.out_of_sample, outside, rtol=1e-9, atol=1e-12)
    assert 5 in chosen
    assert 0.0 in outside


def test_noise_alone_is_overfitted_half_the_time():
    found = [
        probability_of_backtest_overfitting(noise(seed), n_blocks=8).pbo
        for seed in range(60)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.1)


def test_one_trial_that_dominates_is_never_overfitted():
    returns = noise(1)
    returns[:, 17] += 0.004
    found = probability_of_backtest_overfitting(returns)
    assert found.pbo < 0.001
    assert set(found.chosen) == {17}
    assert found.loss_probability == 0


def test_trials_whose_gains_are_in_one_half_of_the_time_are_overfitted():
    # Mean returns over the whole span are the same: what is gained here is lost there.
    returns = noise(2, 480, 60)
    returns -= returns.mean(axis=0)
    found = probability_of_backtest_overfitting(returns, n_blocks=8)
    assert found.pbo > 0.95
    assert found.degradation == pytest.approx(-1.0, abs=0.1)


def test_scale_and_constant_trials_change_nothing():
    returns = noise(3, 320, 20)
    alone = probability_of_backtest_overfitting(returns, n_blocks=8)
    idle = np.insert(returns * 7.0, [0, 9], 0.0, axis=1)
    found = probability_of_backtest_overfitting(idle, n_blocks=8)
    assert found.pbo == alone.pbo
    assert found.n_trials == alone.n_trials == 20
    assert np.array_equal(
        found.chosen, np.where(alone.chosen >= 9, alone.chosen + 2, alone.chosen + 1)
    )


def test_twins_share_their_rank():
    returns = noise(6, 200, 1)
    twins = np.repeat(returns, 8, axis=1)
    found = probability_of_backtest_overfitting(twins, n_blocks=4)
    np.testing.assert_allclose(found.logits, 0, atol=1e-12)
    assert found.pbo == 1.0


def test_returns_far_from_zero_lose_no_digits():
    returns = noise(7, 240, 10) * 1e-3 + 50.0
    _, chosen, inside, _ = slow_cscv(returns, 6)
    found = probability_of_backtest_overfitting(returns, n_blocks=6)
    assert np.array_equal(found.chosen, chosen)
    np.testing.assert_allclose(found.in_sample, inside, rtol=1e-9)


def test_members_are_every_half_and_the_complements_count_from_the_end():
    members = split_members(6)
    assert members.shape == (20, 6)
    assert np.all(members.sum(axis=1) == 3)
    assert np.array_equal(~members[::-1], members)
    assert list(block_edges(10, 4)) == [0, 2, 5, 7, 10]


@pytest.mark.parametrize(
    ("returns", "n_blocks", "message"),
    [
        (np.zeros((50, 3)), 8, "0 trials that vary"),
        (noise(1, 50, 1), 8, "1 trials that vary"),
        (noise(1, 50, 3), 7, "7 blocks: an even number"),
        (noise(1, 50, 3), 0, "0 blocks"),
        (noise(1, 500, 3), 24, "20 at most"),
        (noise(1, 15, 3), 8, "2 rows or more for"),
        (np.full((50, 3), np.nan), 8, "finite"),
    ],
)
def test_what_cannot_be_split_is_refused(returns, n_blocks, message):
    with pytest.raises(ValidationError, match=message):
        probability_of_backtest_overfitting(returns, n_blocks=n_blocks)
