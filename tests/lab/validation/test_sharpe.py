"""Sharpe ratio statistics against the papers' own figures, and their size under the null."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lab.errors import ValidationError
from lab.validation.sharpe import (
    allowed_trials,
    deflated_sharpe,
    expected_maximum_sharpe,
    is_constant,
    minimum_track_record,
    moments,
    needed_sharpe,
    probabilistic_sharpe,
)

DAYS = 250


def test_probabilistic_sharpe_of_the_papers_hedge_fund():
    # Bailey and López de Prado (2012), section 4: 24 months, Sharpe 0.458 a month.
    fund = {"skewness": -2.448, "kurtosis": 10.164}
    assert probabilistic_sharpe(0.458, 24, **fund) == pytest.approx(0.913, abs=5e-4)
    assert probabilistic_sharpe(0.458, 24) == pytest.approx(0.982, abs=5e-4)


@pytest.mark.parametrize(
    ("a_year", "shape", "years"),
    [
        (252, {}, 2.73),
        (52, {}, 2.83),
        (12, {}, 3.24),
        (12, {"skewness": -0.72, "kurtosis": 5.78}, 4.99),
    ],
)
def test_minimum_track_record_of_the_papers_examples(a_year, shape, years):
    # Bailey and López de Prado (2012), section 5: an annual 2 against an annual 1.
    root = math.sqrt(a_year)
    found = minimum_track_record(2 / root, benchmark=1 / root, **shape)
    assert found / a_year == pytest.approx(years, abs=5e-3)


def test_expected_maximum_of_the_papers_examples():
    # Bailey et al. (2014), Pseudo-mathematics, section 3: 1.57 of ten trials; five years
    # of data allow 45 before an annual Sharpe of 1 is to be expected of luck.
    assert expected_maximum_sharpe(1.0, 10) == pytest.approx(1.57, abs=5e-3)
    assert expected_maximum_sharpe(1 / 5, 45) == pytest.approx(1.0, abs=5e-3)
    assert expected_maximum_sharpe(1.0, 1) == 0


def test_deflated_sharpe_of_the_papers_example():
    # Bailey and López de Prado (2014), numerical example: 100 trials whose annual
    # Sharpe ratios have variance 1/2, an annual 2.5 over 1,250 days of 250 a year.
    case = {"skewness": -3.0, "kurtosis": 10.0, "trial_variance": 0.5 / DAYS}
    sharpe = 2.5 / math.sqrt(DAYS)
    assert expected_maximum_sharpe(0.5 / DAYS, 100) == pytest.approx(0.1132, abs=5e-5)
    found = deflated_sharpe(sharpe, 1250, n_trials=100, **case)
    assert found == pytest.approx(0.900, abs=5e-4)
    # It would have passed with 46 trials; of normal returns, with 88.
    assert deflated_sharpe(sharpe, 1250, n_trials=46, **case) == pytest.approx(
        0.9505, abs=5e-4
    )
    normal = case | {"skewness": 0.0, "kurtosis": 3.0}
    assert deflated_sharpe(sharpe, 1250, n_trials=88, **normal) == pytest.approx(
        0.9505, abs=5e-4
    )
    assert allowed_trials(sharpe, 1250, **case) == 46
    assert allowed_trials(sharpe, 1250, **normal) == 88


def test_one_trial_is_deflated_by_nothing():
    shape = {"skewness": -1.0, "kurtosis": 6.0}
    assert deflated_sharpe(
        0.1, 500, trial_variance=0.4, n_trials=1, **shape
    ) == probabilistic_sharpe(0.1, 500, **shape)


def test_moments_are_scipys():
    returns = np.random.default_rng(1).gamma(2.0, 0.01, 700) - 0.015
    found = moments(returns)
    assert found.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1))
    assert found.skewness == pytest.approx(stats.skew(returns))
    assert found.kurtosis == pytest.approx(stats.kurtosis(returns, fisher=False))


settled = settings(max_examples=80, deadline=None)
shapes = st.tuples(st.floats(-3, 1), st.floats(0.5, 12)).map(
    # No distribution has a kurtosis of skewness² + 1 or less.
    lambda pair: {"skewness": pair[0], "kurtosis": pair[0] ** 2 + 1 + pair[1]}
)


@settled
@given(shapes, st.integers(200, 5000), st.floats(0, 0.2), st.floats(0.6, 0.99))
def test_the_needed_sharpe_is_just_enough(shape, n_obs, benchmark, confidence):
    found = needed_sharpe(n_obs, benchmark=benchmark, confidence=confidence, **shape)
    reached = probabilistic_sharpe(found, n_obs, benchmark=benchmark, **shape)
    assert reached == pytest.approx(confidence, abs=1e-9)


@settled
@given(shapes, st.floats(0.02, 0.3), st.floats(0.6, 0.99))
def test_the_minimum_track_record_is_just_enough(shape, sharpe, confidence):
    found = minimum_track_record(sharpe, confidence=confidence, **shape)
    n_obs = max(math.ceil(found), 2)
    assert probabilistic_sharpe(sharpe, n_obs, **shape) >= confidence - 1e-12
    if n_obs > 3:
        assert probabilistic_sharpe(sharpe, n_obs - 2, **shape) < confidence


@settled
@given(shapes, st.floats(-0.1, 0.3), st.integers(60, 3000), st.floats(1e-5, 1e-2))
def test_the_allowed_trials_are_the_last_that_pass(shape, sharpe, n_obs, variance):
    case = {"trial_variance": variance, **shape}
    most = allowed_trials(sharpe, n_obs, **case)
    if most is None:
        assert deflated_sharpe(sharpe, n_obs, n_trials=10**9, **case) >= 0.95
        return
    if most:
        assert deflated_sharpe(sharpe, n_obs, n_trials=most, **case) >= 0.95 - 1e-12
    assert deflated_sharpe(sharpe, n_obs, n_trials=most + 1, **case) < 0.95


@settled
@given(shapes, st.floats(0.01, 0.2), st.integers(2, 10_000))
def test_more_trials_never_raise_the_deflated_sharpe(shape, sharpe, n_trials):
    case = {"trial_variance": 0.001, **shape}
    found = [
        deflated_sharpe(sharpe, 1000, n_trials=n, **case)
        for n in (n_trials, n_trials + 1, 2 * n_trials)
    ]
    assert found == sorted(found, reverse=True)


def test_the_expected_maximum_is_that_of_simulated_trials():
    rng = np.random.default_rng(5)
    for n_trials in (10, 100, 1000):
        maxima = rng.standard_normal((4000, n_trials)).max(axis=1)
        found = expected_maximum_sharpe(1.0, n_trials)
        assert found == pytest.approx(maxima.mean(), abs=0.04)


@pytest.mark.parametrize("kind", ["normal", "student", "skewed"])
def test_probabilistic_sharpe_is_uniform_under_the_null(kind):
    rng = np.random.default_rng(11)
    shape = (3000, 800)
    draws = {
        "normal": lambda: rng.standard_normal(shape),
        "student": lambda: rng.standard_t(6, shape),
        "skewed": lambda: 2.0 - rng.gamma(2.0, 1.0, shape),
    }[kind]()
    p = []
    for returns in draws:
        one = moments(returns)
        p.append(
            1
            - probabilistic_sharpe(
                one.sharpe, one.n_obs, skewness=one.skewness, kurtosis=one.kurtosis
            )
        )
    assert stats.kstest(p, "uniform").pvalue > 0.01
    # Five standard errors around the size that is used.
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.02)


def test_series_without_a_sharpe_ratio_are_refused():
    for returns in (np.zeros(9), np.full(9, 0.1), np.r_[np.nan, np.ones(4)]):
        assert is_constant(returns)
        with pytest.raises(ValidationError, match="finite and not all the same"):
            moments(returns)
    with pytest.raises(ValidationError, match="at least 2"):
        moments(np.ones(1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: probabilistic_sharpe(0.1, 1), "1 observations"),
        (lambda: probabilistic_sharpe(1.0, 9, skewness=4, kurtosis=3), "no distribut"),
        (lambda: expected_maximum_sharpe(0.1, 0), "0 trials"),
        (lambda: expected_maximum_sharpe(-0.1, 5), "variance -0.1"),
        (lambda: expected_maximum_sharpe(math.nan, 5), "variance nan"),
        (lambda: minimum_track_record(0.1, confidence=1.0), "confidence 1.0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValidationError, match=message):
        call()


def test_a_sharpe_ratio_below_its_benchmark_needs_for_ever():
    assert math.isinf(minimum_track_record(0.1, benchmark=0.1))
    tails = {"skewness": 0.0, "kurtosis": 400.0}
    assert math.isinf(needed_sharpe(100, benchmark=0.0, **tails))
