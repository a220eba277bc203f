import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from lab.drift.kernels import ks_sorted
from lab.drift.profile import ReferenceProfile
from lab.drift.statistics import EMPTY_SHARE, ks_p_values, shifts
from lab.errors import DriftError

VALUES = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=60)


@given(VALUES, VALUES)
@settings(max_examples=60, deadline=None)
def test_ks_of_sorted_samples_is_the_largest_distance_ties_or_not(one, other):
    found = ks_sorted(np.sort(np.array(one)), np.sort(np.array(other)))
    at = np.unique(one + other)
    shares = [(np.array(each)[:, None] <= at).mean(axis=0) for each in (one, other)]
    assert found == pytest.approx(np.abs(shares[0] - shares[1]).max(), abs=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    old = rng.standard_normal((4_000, 3))
    new = rng.standard_normal((700, 3)) * [1.0, 1.5, 1.0] + [0.0, 0.0, 0.4]
    new[::9, 0] = np.nan
    profile = ReferenceProfile.of(old, ["a", "b", "c"])
    found = shifts(profile, new)
    p_values = ks_p_values(profile, found)
    for k, one in enumerate(found):
        known = new[np.isfinite(new[:, k]), k]
        edges = np.quantile(old[:, k], np.arange(1, 10) / 10)
        cells = [
            np.bincount(np.searchsorted(edges, part), minlength=10) / len(part)
            for part in (old[:, k], known)
        ]
        then, now = (np.where(cell > 0, cell, EMPTY_SHARE) for cell in cells)
        expected = ks_2samp(old[:, k], known, method="asymp")
        assert one.psi == pytest.approx(np.sum((now - then) * np.log(now / then)))
        assert one.ks == pytest.approx(expected.statistic, abs=1e-15)
        assert p_values[k] == pytest.approx(expected.pvalue, abs=1e-4)
        sd = old[:, k].std()
        assert one.mean_shift == pytest.approx((known.mean() - old[:, k].mean()) / sd)
        assert one.std_shift == pytest.approx(known.std() / sd - 1.0)
    assert found[0].missing_shift == pytest.approx(len(new[::9]) / len(new))


def test_a_constant_that_changes_moves_all_of_its_mass():
    profile = ReferenceProfile.of(np.full((400, 1), 3.0), ["a"])
    same, other = (shifts(profile, np.full((50, 1), value))[0] for value in (3.0, 2.0))
    assert (same.psi, same.ks) == (0.0, 0.0)
    assert other.psi > 10
    assert other.ks == 1.0
    assert np.isnan(other.mean_shift)


def test_a_column_without_values_has_no_figures_but_its_missing_share():
    profile = ReferenceProfile.of(np.random.default_rng(0).random((400, 1)), ["a"])
    [found] = shifts(profile, np.full((50, 1), np.nan))
    assert np.isnan([found.psi, found.ks, found.mean_shift]).all()
    assert found.missing_shift == 1.0


def test_windows_that_do_not_fit_are_refused():
    profile = ReferenceProfile.of(np.zeros((40, 2)), ["a", "b"])
    with pytest.raises(DriftError, match="2 columns"):
        shifts(profile, np.zeros((40, 3)))
    with pytest.raises(DriftError, match="no rows"):
        shifts(profile, np.zeros((0, 2)))
