import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.forecasters.paths import (
    band,
    drift_free_paths,
    filtered_returns,
    request_generator,
    stationary_indices,
    thinned,
    volatility_path,
)
from tests.lab.toy_market import moment

BASE = {
    "model": "naive 1",
    "symbol": "BTC",
    "timeframe": "1h",
    "as_of": moment("2022-03-04T21:00"),
    "seed": 0,
}


@pytest.mark.parametrize(
    "change",
    [
        {"model": "naive 2"},
        {"symbol": "ETH"},
        {"timeframe": "1d"},
        {"as_of": moment("2022-03-04T21:01")},
        {"seed": 1},
    ],
)
def test_each_part_of_a_request_makes_its_own_draws(change):
    first = request_generator(**BASE).random(4)
    assert (first == request_generator(**BASE).random(4)).all()
    assert (first != request_generator(**{**BASE, **change}).random(4)).any()


def slow_stationary_indices(seed, n_obs, n_paths, n_steps, mean_block):
    """Politis and Romano's description, one draw at a time."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(n_obs, size=(n_paths, n_steps))
    uniforms = rng.random((n_paths, n_steps))
    rows = np.empty((n_paths, n_steps), dtype=np.int64)
    for path in range(n_paths):
        for step in range(n_steps):
            if step == 0 or uniforms[path, step] < 1 / mean_block:
                rows[path, step] = starts[path, step]
            else:
                rows[path, step] = (rows[path, step - 1] + 1) % n_obs
    return rows


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    n_obs=st.integers(1, 50),
    n_steps=st.integers(1, 30),
    mean_block=st.floats(1, 20),
)
def test_the_bootstrap_is_the_one_of_the_paper(seed, n_obs, n_steps, mean_block):
    shape = {"n_paths": 7, "n_steps": n_steps, "mean_block": mean_block}
    found = stationary_indices(np.random.default_rng(seed), n_obs, **shape)
    assert (found == slow_stationary_indices(seed, n_obs, **shape)).all()


def test_blocks_have_the_mean_length_asked_for():
    rng = np.random.default_rng(0)
    rows = stationary_indices(rng, 10_000, n_paths=200, n_steps=500, mean_block=10)
    n_blocks = 200 + np.count_nonzero(np.diff(rows, axis=1) != 1)
    assert rows.size / n_blocks == pytest.approx(10, rel=0.05)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(n_paths=st.integers(2, 60), seed=st.integers(0, 1000))
def test_bands_are_weibulls_quantiles(n_paths, seed):
    paths = np.random.default_rng(seed).standard_normal((n_paths, 5))
    expected = np.quantile(paths, [0.1, 0.5, 0.9], axis=0, method="weibull")
    np.testing.assert_allclose(band(paths), expected)
    assert (np.diff(band(paths), axis=0) >= 0).all()


def test_paths_have_no_drift():
    steps = 0.3 + np.random.default_rng(0).standard_normal((50, 20))
    paths = drift_free_paths(steps, 12.0)
    np.testing.assert_allclose(np.log(paths / 12.0).mean(axis=0), 0, atol=1e-12)


def test_volatility_closes_half_the_distance_each_half_life():
    found = volatility_path(3.0, 1.0, n_steps=21, half_life=10)
    assert found[0] == pytest.approx(3.0)
    assert found[10] ** 2 == pytest.approx(5.0)
    assert found[20] ** 2 == pytest.approx(3.0)


def test_the_filter_finds_the_volatility_of_the_moment():
    rng = np.random.default_rng(0)
    volatility = np.repeat([0.01, 0.03], 500)
    residuals, current, usual = filtered_returns(
        volatility * rng.standard_normal(1000), half_life=20
    )
    assert len(residuals) == 980
    assert residuals.mean() == pytest.approx(0, abs=1e-12)
    assert residuals.std() == pytest.approx(1, abs=0.1)
    assert current == pytest.approx(0.03, rel=0.25)
    assert usual == pytest.approx(np.sqrt((0.01**2 + 0.03**2) / 2), rel=0.1)


def test_thinned_paths_are_some_of_the_paths():
    paths = np.arange(400.0).reshape(400, 1)
    assert thinned(paths, 4).ravel().tolist() == [0, 100, 200, 300]
    assert thinned(paths, 400).shape == (400, 1)
    assert thinned(paths, 0) is None
