import numpy as np
import pytest

from lab.drift.profile import MAX_ROWS, ReferenceProfile, take_stretches
from lab.errors import DriftError

DAY = np.timedelta64(1, "D")
START = np.datetime64("2020-01-01", "us")


def rows_of_a_panel(seed: int, n_days: int, n_assets: int, n_features: int):
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((n_days * n_assets, n_features))
    return table, START + np.repeat(np.arange(n_days), n_assets) * DAY


def test_a_profile_survives_its_bytes_and_equal_rows_give_equal_bytes():
    table, times = rows_of_a_panel(0, 800, 9, 3)
    table[::7, 1] = np.nan
    made = ReferenceProfile.of(table, ["a", "b", "c"], times=times)
    data = made.to_bytes()
    again = ReferenceProfile.from_bytes(data)
    assert again.to_bytes() == data
    assert ReferenceProfile.of(table, ["a", "b", "c"], times=times).to_bytes() == data
    assert again.names == ("a", "b", "c")
    np.testing.assert_array_equal(again.rows, made.rows)
    np.testing.assert_array_equal(again.moments, made.moments)
    assert again.features[1].n_missing == len(table[::7])
    for one, other in zip(made.features, again.features, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.shares, other.shares)


@pytest.mark.parametrize(
    "damage", [lambda d: d[:900], lambda d: b"x" + d, lambda d: b""]
)
def test_bytes_that_are_no_profile_are_refused_in_one_line(damage):
    data = ReferenceProfile.of(np.zeros((20, 2)), ["a", "b"]).to_bytes()
    with pytest.raises(DriftError, match="reference profile") as refused:
        ReferenceProfile.from_bytes(damage(data))
    assert "\n" not in str(refused.value)


def test_ten_bins_hold_a_tenth_each_and_a_value_that_repeats_has_a_bin_of_its_own():
    rng = np.random.default_rng(1)
    table = rng.standard_normal((1_000, 3))
    table[:950, 1] = 1.0
    table[:, 2] = 5.0
    smooth, mostly_one, constant = ReferenceProfile.of(table, ["a", "b", "c"]).features
    np.testing.assert_allclose(smooth.shares, 0.1)
    assert mostly_one.shares.max() == pytest.approx(0.95, abs=0.005)
    assert constant.shares.tolist() == [0.0, 1.0, 0.0]


def test_kept_rows_are_whole_moments_in_stretches_spread_over_the_time():
    _, times = rows_of_a_panel(2, 2_000, 23, 1)
    kept, stretch = take_stretches(times.astype(np.int64), MAX_ROWS)
    assert 0.95 * MAX_ROWS < len(kept) <= MAX_ROWS
    assert kept[0] == 0
    assert kept[-1] == len(times) - 1
    assert len(np.unique(stretch)) == 5
    _, counts = np.unique(times[kept], return_counts=True)
    assert set(counts.tolist()) == {23}
    for number in range(5):
        assert (np.diff(kept[stretch == number]) == 1).all()


def test_many_rows_keep_order_statistics_within_one_in_as_many_points():
    table = np.random.default_rng(3).standard_normal((50_000, 1))
    exact = ReferenceProfile.of(table, ["a"], points=None).features[0]
    thin = ReferenceProfile.of(table, ["a"], points=1_000).features[0]
    at = np.linspace(-3, 3, 601)
    shares = [
        np.searchsorted(one.values, at) / len(one.values) for one in (exact, thin)
    ]
    assert np.abs(shares[0] - shares[1]).max() <= 1 / 1_000


@pytest.mark.parametrize(
    ("table", "names", "times", "told"),
    [
        (np.zeros((5, 2)), ["a"], None, "one column for each of 1 names"),
        (np.zeros((5, 2)), ["a", "a"], None, "a name repeats"),
        (np.zeros((0, 1)), ["a"], None, "rows"),
        (np.zeros((2, 1)), ["a"], np.array([START]), "1 times of 2 rows"),
        (np.zeros((2, 1)), ["a"], np.array([START, START - DAY]), "not in time order"),
    ],
)
def test_rows_that_do_not_fit_are_refused(table, names, times, told):
    with pytest.raises(DriftError, match=told):
        ReferenceProfile.of(table, names, times=times)
