"""False discovery rates against other implementations and by simulation."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lab.errors import ValidationError
from lab.validation.discovery import benjamini_hochberg


@pytest.mark.parametrize("is_dependent", [False, True])
def test_adjusted_values_are_those_of_scipy_and_statsmodels(is_dependent):
    rng = np.random.default_rng(3)
    for n_tests in (1, 2, 7, 200):
        p = rng.random(n_tests) ** 2
        p[: n_tests // 3] = np.round(p[: n_tests // 3], 1)  # ties
        found = benjamini_hochberg(p, rate=0.1, is_dependent=is_dependent)
        name = "by" if is_dependent else "bh"
        expected = stats.false_discovery_control(p, method=name)
        np.testing.assert_allclose(found.adjusted, expected, rtol=1e-12)
        is_rejected = multipletests(p, alpha=0.1, method=f"fdr_{name}")[0]
        assert np.array_equal(found.is_discovery, is_rejected)


def test_the_papers_own_example_rejects_four_at_five_per_cent():
    # Benjamini and Hochberg (1995), section 3.2: fifteen hypotheses on thrombolysis.
    p = np.array(
        [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
            0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000,
        ]
    )  # fmt: skip
    assert list(np.flatnonzero(benjamini_hochberg(p).is_discovery)) == [0, 1, 2, 3]


def test_what_was_not_tested_neither_counts_nor_is_found():
    p = np.array([np.nan, 0.01, np.nan, 0.03])
    found = benjamini_hochberg(p)
    np.testing.assert_allclose(found.adjusted, [np.nan, 0.02, np.nan, 0.03])
    assert list(found.is_discovery) == [False, True, False, True]
    assert benjamini_hochberg(np.full(3, np.nan)).is_discovery.sum() == 0


def test_the_share_of_false_ones_is_held():
    rng = np.random.default_rng(8)
    shares = []
    for _ in range(400):
        effects = np.r_[np.zeros(80), np.full(20, 3.0)]
        p = stats.norm.sf(rng.standard_normal(100) + effects)
        found = benjamini_hochberg(p, rate=0.2).is_discovery
        shares.append(found[:80].sum() / max(found.sum(), 1))
    # Exactly 0.2 times the share of true nulls.
    assert np.mean(shares) == pytest.approx(0.16, abs=0.015)


@pytest.mark.parametrize("value", [-0.1, 1.1, np.inf])
def test_values_that_are_no_probabilities_are_refused(value):
    with pytest.raises(ValidationError, match="0 to 1"):
        benjamini_hochberg(np.array([0.5, value]))


def test_a_rate_outside_its_range_is_refused():
    with pytest.raises(ValidationError, match="rate 0"):
        benjamini_hochberg(np.array([0.5]), rate=0)
