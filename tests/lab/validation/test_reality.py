"""White's Reality Check and Hansen's SPA: obvious versions, arch, size and power."""

import numpy as np
import pytest
from arch.bootstrap import SPA
from scipy import stats

from lab.errors import ValidationError
from lab.validation.bootstrap import draw_counts, stationary_indices
from lab.validation.reality import (
    long_run_variance,
    reality_check,
    superior_predictive_ability,
)


def slow_tests(excess, indices, block, *, is_studentized=True):
    """Both tests as the papers write them, resample by resample."""
    n_obs, n_models = excess.shape
    means = excess.mean(axis=0)
    variance = slow_variance(excess, block)
    error = np.sqrt(variance / n_obs)
    scale = error if is_studentized else np.ones(n_models)
    floor = -error * np.sqrt(2 * np.log(np.log(n_obs)))
    centres = {
        "lower": np.maximum(means, 0),
        "consistent": np.where(means >= floor, means, 0),
        "upper": means,
    }
    statistic = max((means / scale).max(), 0)
    beyond = dict.fromkeys((*centres, "reality"), 0)
    for drawn in indices:
        own = excess[drawn].mean(axis=0)
        for name, centre in centres.items():
            beyond[name] += max(((own - centre) / scale).max(), 0) >= statistic
        beyond["reality"] += (own - means).max() >= means.max()
    return {name: (1 + n) / (1 + len(indices)) for name, n in beyond.items()}


def slow_variance(series, block):
    """Politis and Romano (1994), lemma 1, term by term."""
    n_obs, q = len(series), 1 / block
    centred = series - series.mean(axis=0)
    total = np.sum(centred**2, axis=0)
    for i in range(1, n_obs):
        weight = (1 - i / n_obs) * (1 - q) ** i + i / n_obs * (1 - q) ** (n_obs - i)
        total += 2 * weight * np.sum(centred[i:] * centred[:-i], axis=0)
    return total / n_obs


def family(seed, n_obs=400, n_models=60, *, common=0.0, lag=0.0):
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((n_obs + 1, n_models))
    noise += common * rng.standard_normal((n_obs + 1, 1))
    return 0.01 * (noise[1:] + lag * noise[:-1])


@pytest.mark.parametrize("is_studentized", [True, False])
@pytest.mark.parametrize("n_obs", [199, 300])
def test_both_tests_are_what_the_papers_write(is_studentized, n_obs):
    excess = family(3, n_obs, 150, lag=0.4) - 0.0006
    excess[:, 7] += 0.0018
    excess[:, 9] *= 5
    excess[:, 11] -= 0.01
    block = 6.0
    indices = stationary_indices(n_obs, 300, block=block, rng=np.random.default_rng(5))
    expected = slow_tests(excess, indices, block, is_studentized=is_studentized)
    found = superior_predictive_ability(
        excess,
        n_boot=300,
        block=block,
        rng=np.random.default_rng(5),
        is_studentized=is_studentized,
    )
    assert found.lower == expected["lower"]
    assert found.consistent == expected["consistent"]
    assert found.upper == expected["upper"]
    assert expected["lower"] <= expected["consistent"] <= expected["upper"]
    check = reality_check(excess, n_boot=300, block=block, rng=np.random.default_rng(5))
    assert check.p_value == expected["reality"]


def test_the_long_run_variance_is_the_sum_over_all_lags():
    for n_obs, block in ((61, 1.0), (100, 7.5), (257, 40.0)):
        series = family(n_obs, n_obs, 5, lag=0.5)
        np.testing.assert_allclose(
            long_run_variance(series, block=block),
            slow_variance(series, block),
            rtol=1e-9,
        )


def test_resampled_means_have_the_long_run_variance():
    series = family(1, 500, 3, lag=0.8)
    counts = draw_counts(500, 20_000, block=10.0, rng=np.random.default_rng(2))
    drawn = (counts @ series / 500).var(axis=0) * 500
    np.testing.assert_allclose(drawn, long_run_variance(series, block=10.0), rtol=0.05)


@pytest.mark.parametrize("gain", [0.0, 0.0012, 0.002])
@pytest.mark.parametrize("common", [0.0, 1.0])
def test_p_values_agree_with_arch_within_monte_carlo_error(gain, common):
    n_boot = 2000
    excess = family(17, 500, 40, common=common, lag=0.3)
    excess[:, :20] -= 0.003
    excess[:, 30] += gain
    peer = SPA(np.zeros(500), -excess, block_size=8, reps=n_boot, seed=3)
    peer.compute()
    found = superior_predictive_ability(
        excess,
        n_boot=n_boot,
        block=8,
        rng=np.random.default_rng(4),
        is_studentized=False,
    )
    for name in ("lower", "consistent", "upper"):
        ours, theirs = getattr(found, name), float(peer.pvalues[name])
        middle = (ours + theirs) / 2
        # Two independent counts of n_boot each: four standard errors, and add-one.
        error = np.sqrt(2 * middle * (1 - middle) / n_boot)
        assert abs(ours - theirs) <= 4 * error + 1 / n_boot


def test_the_reality_check_is_hansens_upper_bound_without_studentising():
    excess = family(23)
    excess[:, 2] += 0.001
    arguments = {"n_boot": 500, "block": 3.0}
    check = reality_check(excess, rng=np.random.default_rng(1), **arguments)
    ability = superior_predictive_ability(
        excess, rng=np.random.default_rng(1), is_studentized=False, **arguments
    )
    assert check.p_value == ability.upper


def test_reality_check_p_values_are_uniform_under_the_null():
    p = []
    for seed in range(400):
        excess = family(1000 + seed, 250, 25, common=0.7)
        rng = np.random.default_rng(seed)
        p.append(reality_check(excess, n_boot=200, block=1.0, rng=rng).p_value)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.045)


def test_a_candidate_picked_in_advance_is_judged_as_if_it_had_been_searched_for():
    # The adjusted p of any one of many true nulls is below 5 % much less than 5 % of
    # the time; that of any of them at all, about 5 %.
    one, best = [], []
    for seed in range(300):
        check = reality_check(
            family(seed, 250, 40),
            n_boot=200,
            block=1.0,
            rng=np.random.default_rng(seed),
        )
        one.append(check.p_values[0] <= 0.05)
        best.append(check.p_values.min() <= 0.05)
        assert check.p_values.min() == check.p_value
    assert np.mean(one) <= 0.02
    assert np.mean(best) == pytest.approx(0.05, abs=0.05)


def test_dependence_needs_blocks():
    # With strong dependence, independent draws find luck far too often; blocks do not.
    sizes = {}
    for block in (1.0, 15.0):
        found = [
            reality_check(
                family(seed, 400, 5, lag=0.9),
                n_boot=200,
                block=block,
                rng=np.random.default_rng(seed),
            ).p_value
            <= 0.05
            for seed in range(200)
        ]
        sizes[block] = np.mean(found)
    assert sizes[1.0] > 0.1
    assert sizes[15.0] < 0.1


def test_the_needed_mean_is_where_the_p_value_turns():
    check = reality_check(
        family(8), n_boot=999, block=2.0, rng=np.random.default_rng(1)
    )
    for level in (0.05, 0.01, 0.5):
        needed = check.needed_mean(level)
        assert check.p_of(np.nextafter(needed, np.inf)) <= level
        assert check.p_of(needed) > level
    assert np.isinf(check.needed_mean(0.0005))


def test_a_clear_winner_has_the_smallest_p_value_and_a_loser_the_largest():
    excess = family(5)
    excess[:, 4] += 0.01
    check = reality_check(excess, n_boot=99, block=2.0, rng=np.random.default_rng(0))
    assert check.p_value == check.p_values[4] == 0.01
    hopeless = superior_predictive_ability(
        family(5) - 0.01, n_boot=99, block=2.0, rng=np.random.default_rng(0)
    )
    assert (hopeless.statistic, hopeless.consistent) == (0.0, 1.0)


def test_a_trial_that_never_trades_takes_part():
    excess = family(5, n_models=3)
    excess[:, 1] = 0
    found = superior_predictive_ability(
        excess, n_boot=99, block=2.0, rng=np.random.default_rng(0)
    )
    assert 0 < found.consistent <= 1


def test_the_same_seed_gives_the_same_bits():
    runs = [
        reality_check(family(2), n_boot=150, block=4.0, rng=np.random.default_rng(7))
        for _ in range(2)
    ]
    assert np.array_equal(runs[0].maxima, runs[1].maxima)


def test_nothing_to_test_is_refused():
    for excess in (np.zeros((5, 0)), np.zeros((1, 3)), np.zeros(5)):
        with pytest.raises(ValidationError, match="excess returns of shape"):
            reality_check(excess, block=1.0, rng=np.random.default_rng(0))
    with pytest.raises(ValidationError, match="finite"):
        superior_predictive_ability(
            np.full((5, 2), np.nan), block=1.0, rng=np.random.default_rng(0)
        )
