import numpy as np
import pytest
from scipy.stats import ks_2samp

from lab.drift.permutation import block_permutation
from lab.drift.profile import ReferenceProfile
from lab.errors import DriftError
from tests.lab.drift.simulated import autoregressive


def permuted(rows, n_reference, *, seed=0, moments=None, **options):
    n = len(rows)
    moments = np.arange(n) if moments is None else moments
    times = moments.astype("datetime64[us]")
    names = [f"x{k}" for k in range(rows.shape[1])]
    profile = ReferenceProfile.of(rows[:n_reference], names, times=times[:n_reference])
    return block_permutation(
        profile,
        rows[n_reference:],
        moments[n_reference:],
        rng=np.random.default_rng(seed),
        **options,
    )


def test_at_least_5000_permutations_on_at_most_5000_rows_and_more_for_many_tests():
    rows = autoregressive(np.random.default_rng(0), 30_000, 2, 0.3)
    found = permuted(rows, 12_000)
    assert found.n_permutations == 5_000
    assert 4_000 < found.n_rows <= 5_000
    assert permuted(rows, 12_000, n_tests=120).n_permutations == 12_000


def test_equal_seeds_give_equal_p_values():
    rows = autoregressive(np.random.default_rng(1), 1_500, 4, 0.6)
    one, other, another = (permuted(rows, 900, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.p_values, other.p_values)
    assert (one.p_values != another.p_values).any()


def test_dependence_that_deceives_ks_does_not_deceive_blocks():
    alarms, deceived, n = 0, 0, 60
    for seed in range(n):
        rows = autoregressive(np.random.default_rng([2, seed]), 1_300, 1, 0.9)
        deceived += ks_2samp(rows[:1_000, 0], rows[1_000:, 0]).pvalue < 0.05
        alarms += permuted(rows, 1_000).p_values[0] <= 0.05
    assert deceived / n > 0.5
    assert alarms / n <= 0.05 + 2.33 * np.sqrt(0.05 * 0.95 / n)


def test_instruments_of_one_moment_move_together():
    # One common factor: 20 instruments are hardly more than one.
    alarms, n = 0, 60
    moments = np.repeat(np.arange(250), 20)
    for seed in range(n):
        rng = np.random.default_rng([3, seed])
        factor = np.repeat(autoregressive(rng, 250, 1, 0.5), 20, axis=0)
        rows = factor + 0.3 * rng.standard_normal((5_000, 1))
        alarms += permuted(rows, 3_000, moments=moments).p_values[0] <= 0.05
    assert alarms / n <= 0.05 + 2.33 * np.sqrt(0.05 * 0.95 / n)


def test_a_change_of_spread_of_missing_values_and_of_a_rare_value_are_found():
    rng = np.random.default_rng(40)
    rows = rng.standard_normal((2_000, 4))
    rows[1_400:, 0] *= 1.6
    rows[1_400:, 1][rng.random(600) < 0.2] = np.nan
    rows[:, 2] = rng.random(2_000) < 0.02
    rows[1_400:, 2] = rng.random(600) < 0.12
    found = permuted(rows, 1_400)
    assert (found.p_values[:3] < 0.002).all()
    assert found.p_values[3] > 0.05


def test_what_never_varies_is_never_drift_and_what_is_always_missing_neither():
    rows = np.zeros((900, 2))
    rows[:, 1] = np.nan
    assert permuted(rows, 500).p_values.tolist() == [1.0, 1.0]


def test_one_wild_value_decides_nothing():
    rows = np.random.default_rng(5).standard_normal((900, 1))
    calm = permuted(rows, 500).p_values
    rows[700] = 1e12
    np.testing.assert_allclose(permuted(rows, 500).p_values, calm, atol=0.05)


def test_the_cusum_says_since_when():
    rows = autoregressive(np.random.default_rng(6), 3_000, 1, 0.3)
    rows[2_700:] += 1.0
    found = permuted(rows, 2_000)
    assert found.cusum_p[0] <= found.distance_p[0]
    assert abs(int(found.since[0]) - 2_700) <= 2 * found.block


def test_too_few_moments_are_refused():
    rows = np.zeros((1_000, 1))
    moments = np.repeat(np.arange(10), 100)
    with pytest.raises(DriftError, match="reference: 5 moments, at least 12"):
        permuted(rows, 500, moments=moments)
