"""The stationary bootstrap and its block length, against other implementations."""

import numpy as np
import pytest
from arch.bootstrap import optimal_block_length

from lab.errors import ValidationError
from lab.validation.bootstrap import (
    automatic_block_length,
    draw_counts,
    stationary_indices,
)


def moving(rng, n_obs, coefficient):
    """Return an autoregressive series."""
    noise = rng.standard_normal(n_obs)
    series = np.zeros(n_obs)
    for row in range(1, n_obs):
        series[row] = coefficient * series[row - 1] + noise[row]
    return series


def test_automatic_block_length_is_that_of_arch():
    rng = np.random.default_rng(2)
    for n_obs in (60, 500, 2000):
        series = np.array(
            [moving(rng, n_obs, c) for c in (-0.6, 0.0, 0.3, 0.7, 0.95)]
        ).T
        expected = optimal_block_length(series)["stationary"].to_numpy()
        found = automatic_block_length(series)
        np.testing.assert_allclose(found, np.maximum(expected, 1.0), rtol=1e-9)


def test_block_length_is_near_the_optimum_of_the_papers_processes():
    # Politis and White (2004), section 3: AR(1), n = 800. With the true autocovariances
    # s c^k the corrected optimum is (G² n / D)^(1/3), G = Σ |k| s c^k, D = (Σ s c^k)².
    rng = np.random.default_rng(4)
    for c in (0.7, 0.1):
        variance = 1 / (1 - c**2)
        slope = 2 * variance * c / (1 - c) ** 2
        spectrum = variance * (1 + c) / (1 - c)
        optimum = (slope**2 / spectrum**2 * 800) ** (1 / 3)
        series = np.array([moving(rng, 1300, c)[500:] for _ in range(200)]).T
        assert np.median(automatic_block_length(series)) == pytest.approx(
            optimum, rel=0.25, abs=1.0
        )


def test_a_series_that_does_not_vary_needs_no_blocks():
    assert list(automatic_block_length(np.ones((50, 2)))) == [1.0, 1.0]


def test_blocks_have_the_mean_length_wrap_around_and_start_anywhere():
    drawn = stationary_indices(300, 2000, block=12.0, rng=np.random.default_rng(1))
    assert drawn.shape == (2000, 300)
    assert drawn.min() == 0
    assert drawn.max() == 299
    goes_on = drawn[:, 1:] == (drawn[:, :-1] + 1) % 300
    # A new block starts with probability 1/12, and once in 300 just where it would go on.
    expected = 1 - (1 - 1 / 300) / 12
    assert goes_on.mean() == pytest.approx(expected, abs=0.002)
    assert np.any((drawn[:, :-1] == 299) & (drawn[:, 1:] == 0))
    frequency = np.bincount(drawn.ravel(), minlength=300) / drawn.size
    np.testing.assert_allclose(frequency, 1 / 300, rtol=0.1)


def test_blocks_of_one_are_independent_draws():
    drawn = stationary_indices(50, 4000, block=1.0, rng=np.random.default_rng(1))
    goes_on = drawn[:, 1:] == (drawn[:, :-1] + 1) % 50
    assert goes_on.mean() == pytest.approx(1 / 50, abs=0.002)


def test_counts_are_the_draws_counted_whatever_their_number():
    few = stationary_indices(70, 300, block=5.0, rng=np.random.default_rng(9))
    counts = draw_counts(70, 300, block=5.0, rng=np.random.default_rng(9))
    expected = np.array([np.bincount(row, minlength=70) for row in few])
    assert np.array_equal(counts, expected)
    # The first 256 resamples are those of a larger number.
    many = draw_counts(70, 900, block=5.0, rng=np.random.default_rng(9))
    assert np.array_equal(many[:256], counts[:256])


def test_resampled_means_vary_as_the_series_depends():
    # The exact variance of the mean under the stationary bootstrap is lemma 1 of Politis
    # and Romano (1994): see long_run_variance, tested with it.
    rng = np.random.default_rng(6)
    series = moving(rng, 1000, 0.6)
    counts = draw_counts(1000, 4000, block=25.0, rng=rng)
    spread = (counts @ series / 1000).std()
    independent = series.std() / np.sqrt(1000)
    assert 1.5 * independent < spread < 2.5 * independent


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5, 2.0), "0 rows"),
        ((5, 0, 2.0), "0 resamples"),
        ((5, 5, 0.5), "block length 0.5"),
        ((5, 5, np.nan), "block length nan"),
    ],
)
def test_draws_that_make_no_sense_are_refused(arguments, message):
    n_obs, n_boot, block = arguments
    for draw in (stationary_indices, draw_counts):
        with pytest.raises(ValidationError, match=message):
            draw(n_obs, n_boot, block=block, rng=np.random.default_rng(0))


def test_too_short_a_series_has_no_block_length():
    with pytest.raises(ValidationError, match="9 rows or more"):
        automatic_block_length(np.ones((8, 2)))
