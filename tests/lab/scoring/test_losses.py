"""Losses against hand-worked values, closed forms and slow reference versions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import ScoringError
from lab.scoring.coverage import (
    is_covered,
    pit_from_band,
    pit_from_samples,
    winkler_score,
)
from lab.scoring.crps import crps_from_quantiles, crps_from_samples
from lab.scoring.performance import hit_rate, sharpe_ratio
from lab.scoring.point import direction, mase, naive_scale, skill
from lab.scoring.quantile import pinball_loss, weighted_quantile_loss

LEVELS = np.array([0.1, 0.5, 0.9])
STANDARD_NORMAL = np.array([[-1.2815515655446004, 0.0, 1.2815515655446004]])


def one(*values):
    return np.array([values], dtype=np.float64)


def test_pinball_by_hand():
    # y = 12: above p10 = 8 by 4, above p50 = 10 by 2, below p90 = 13 by 1.
    loss = pinball_loss(one(8, 10, 13), LEVELS, np.array([12.0]))
    np.testing.assert_allclose(loss, [[0.4, 1.0, 0.1]])


def test_pinball_is_least_at_the_quantile():
    outcomes = np.arange(1000.0)
    guesses = np.arange(1000.0)
    for level in LEVELS:
        mean = [
            pinball_loss(np.full((1000, 1), guess), np.array([level]), outcomes).mean()
            for guess in guesses[::10]
        ]
        assert abs(guesses[::10][int(np.argmin(mean))] - level * 1000) <= 10


def test_weighted_quantile_loss_by_hand():
    quantiles = np.array([[8.0, 10.0, 13.0], [8.0, 10.0, 13.0]])
    actual = np.array([12.0, 10.0])
    # Pinball sums per level: 0.4 + 0.2, 1.0 + 0, 0.1 + 0.3; outcomes sum to 22.
    expected = np.mean([2 * 0.6 / 22, 2 * 1.0 / 22, 2 * 0.4 / 22])
    assert weighted_quantile_loss(quantiles, LEVELS, actual) == pytest.approx(expected)


def test_weighted_quantile_loss_needs_an_outcome():
    with pytest.raises(ScoringError, match="all outcomes are zero"):
        weighted_quantile_loss(one(0, 0, 0), LEVELS, np.zeros(1))


@pytest.mark.parametrize(
    ("quantiles", "levels", "message"),
    [
        (np.ones((2, 3)), LEVELS, r"shape \(2, 3\), allowed is \(1, 3\)"),
        (np.ones((1, 2)), np.array([0.9, 0.1]), "must increase between 0 and 1"),
        (np.ones((1, 2)), np.array([0.5, 1.0]), "must increase between 0 and 1"),
    ],
)
def test_quantiles_that_do_not_fit_are_refused(quantiles, levels, message):
    with pytest.raises(ScoringError, match=message):
        pinball_loss(quantiles, levels, np.ones(1))


def slow_fair_crps(samples, actual):
    m = len(samples)
    error = sum(abs(x - actual) for x in samples) / m
    spread = sum(abs(a - b) for a in samples for b in samples)
    return error - spread / (2 * m * (m - 1))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    samples=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12),
    actual=st.floats(-1e3, 1e3),
)
def test_crps_equals_its_double_sum(samples, actual):
    found = crps_from_samples(one(*samples), np.array([actual]))[0]
    assert found == pytest.approx(slow_fair_crps(samples, actual), abs=1e-9)


def test_crps_of_samples_tends_to_the_normal_closed_form():
    # Gneiting and Raftery (2007), eq. 21 at y = 0: (√2 − 1) / √π = 0.2337.
    samples = np.random.default_rng(0).standard_normal((4000, 20))
    found = crps_from_samples(samples, np.zeros(4000)).mean()
    assert found == pytest.approx((np.sqrt(2) - 1) / np.sqrt(np.pi), abs=0.003)


@pytest.mark.parametrize("n_samples", [2, 5, 50])
def test_fair_crps_does_not_favour_large_ensembles(n_samples):
    rng = np.random.default_rng(1)
    n_obs = 200_000 // n_samples
    samples, actual = (
        rng.standard_normal((n_obs, n_samples)),
        rng.standard_normal(n_obs),
    )
    # A perfect forecast of a standard normal scores 1 / √π on average.
    expected = 1 / np.sqrt(np.pi)
    assert crps_from_samples(samples, actual).mean() == pytest.approx(
        expected, abs=0.02
    )


def test_crps_of_a_point_forecast_is_its_absolute_error():
    actual = np.array([7.0])
    assert crps_from_samples(one(5, 5, 5), actual) == pytest.approx([2])
    assert crps_from_quantiles(one(5, 5, 5), LEVELS, actual) == pytest.approx([2])


def test_crps_of_three_quantiles_by_hand():
    # Pinball 0.4, 1.0, 0.1 with weights 0.3, 0.4, 0.3, doubled.
    found = crps_from_quantiles(one(8, 10, 13), LEVELS, np.array([12.0]))
    assert found == pytest.approx([2 * (0.3 * 0.4 + 0.4 * 1.0 + 0.3 * 0.1)])


def test_crps_of_many_quantiles_tends_to_the_closed_form():
    from scipy.stats import norm

    levels = (np.arange(999) + 1) / 1000
    found = crps_from_quantiles(norm.ppf(levels)[None, :], levels, np.zeros(1))
    assert found == pytest.approx([(np.sqrt(2) - 1) / np.sqrt(np.pi)], abs=1e-3)


def test_too_few_samples_are_refused():
    with pytest.raises(ScoringError, match="1 given, at least 2 are needed"):
        crps_from_samples(np.ones((3, 1)), np.ones(3))
    with pytest.raises(ScoringError, match=r"allowed is \(2, n_samples\)"):
        crps_from_samples(np.ones((3, 4)), np.ones(2))


def test_bands_cover_their_borders():
    actual = np.array([1.0, 2.0, 3.0, 0.9, 3.1])
    found = is_covered(np.full(5, 1.0), np.full(5, 3.0), actual)
    assert found.tolist() == [True, True, True, False, False]


def test_winkler_by_hand():
    # Width 2; at 80 % each unit outside costs 10.
    actual = np.array([2.0, 4.0, 0.5])
    found = winkler_score(np.full(3, 1.0), np.full(3, 3.0), actual)
    assert found == pytest.approx([2, 12, 7])
    with pytest.raises(ScoringError, match="coverage 80"):
        winkler_score(actual, actual, actual, coverage=80)


def test_pit_of_samples_is_the_middle_of_its_bin():
    samples = np.tile([1.0, 2.0, 3.0, 4.0], (4, 1))
    found = pit_from_samples(samples, np.array([0.0, 2.5, 9.0, 2.0]))
    assert found == pytest.approx([0.1, 0.5, 0.9, 0.4])


def test_pit_of_a_perfect_sampler_is_uniform():
    rng = np.random.default_rng(2)
    pit = pit_from_samples(rng.random((20_000, 9)), rng.random(20_000))
    counts = np.histogram(pit, bins=10, range=(0, 1))[0]
    assert counts.min() > 1850
    assert counts.max() < 2150


def test_pit_of_a_band_meets_its_quantiles():
    p10, p50, p90 = (np.full(7, value) for value in (8.0, 10.0, 14.0))
    actual = np.array([8.0, 10.0, 14.0, 9.0, 12.0, -1e6, 1e6])
    expected = [0.1, 0.5, 0.9, 0.3, 0.7, 0.0, 1.0]
    np.testing.assert_allclose(
        pit_from_band(p10, p50, p90, actual), expected, atol=1e-9
    )


def test_pit_of_a_band_without_width_is_all_or_nothing():
    p = np.full(3, 5.0)
    found = pit_from_band(p, p, p, np.array([4.0, 5.0, 6.0]))
    assert found.tolist() == [0.0, 0.5, 1.0]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.floats(-50, 50), min_size=5, max_size=5))
def test_pit_of_a_band_rises_with_the_outcome(values):
    p10, p50, p90, *actual = values
    p10, p50, p90 = sorted([p10, p50, p90])
    low, high = sorted(actual)
    found = [
        pit_from_band(*(np.array([v]) for v in (p10, p50, p90, y)))[0]
        for y in (low, high)
    ]
    assert 0 <= found[0] <= found[1] <= 1


def test_mase_by_hand():
    # Changes 1, 2, 1, 4: mean 2. Errors 3 and 1: mean 2. So 1.
    close = np.array([1.0, 2.0, 4.0, 3.0, 7.0])
    assert naive_scale(close) == 2
    assert mase(np.array([7.0, 7.0]), np.array([10.0, 6.0]), close) == 1


def test_mase_of_the_naive_forecast_is_one_in_sample():
    close = 100 + np.cumsum(np.random.default_rng(3).standard_normal(300))
    assert mase(close[:-1], close[1:], close) == pytest.approx(1)


def test_mase_needs_a_price_that_moved():
    with pytest.raises(ScoringError, match="never change"):
        mase(np.ones(1), np.ones(1), np.ones(5))
    with pytest.raises(ScoringError, match="1 closes given"):
        naive_scale(np.ones(1))


def test_directions_and_hit_rate_leave_flat_moves_out():
    start = np.array([1.0, 1.0, 1.0, 1.0])
    predicted = direction(start, np.array([2.0, 0.5, 1.0, 2.0]))
    actual = direction(start, np.array([3.0, 3.0, 3.0, 1.0]))
    assert predicted.tolist() == [1, -1, 0, 1]
    assert hit_rate(predicted, actual) == 0.5
    assert hit_rate(predicted[2:], actual[2:]) is None


def test_skill_is_one_when_perfect_and_zero_at_the_reference():
    reference = np.array([1.0, 3.0])
    assert skill(np.zeros(2), reference) == 1
    assert skill(reference, reference) == 0
    assert skill(np.array([4.0, 4.0]), reference) == -1
    assert skill(reference, np.zeros(2)) is None


def test_sharpe_by_hand():
    # Mean 0.02, sample deviation 0.01.
    returns = np.array([0.01, 0.02, 0.03])
    assert sharpe_ratio(returns, periods_per_year=252) == pytest.approx(
        2 * np.sqrt(252)
    )
    assert sharpe_ratio(returns[:1], periods_per_year=252) is None
    assert sharpe_ratio(np.ones(3), periods_per_year=252) is None
    with pytest.raises(ScoringError, match="must be positive"):
        sharpe_ratio(returns, periods_per_year=0)
