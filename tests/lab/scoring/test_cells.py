"""Coverage of a cell against its promise, overlaps counted as blocks."""

import numpy as np
import pytest

from lab.errors import ScoringError
from lab.scoring.cells import check_coverage


def test_independent_outcomes_have_the_binomial_error():
    is_covered = np.arange(100) % 10 != 0
    found = check_coverage(is_covered, np.arange(100))
    assert found.coverage == pytest.approx(0.9)
    assert found.standard_error == pytest.approx(0.04)
    assert found.distance() == pytest.approx(2.5)
    assert found.n_blocks == 100


def test_outcomes_that_go_together_prove_less():
    is_covered = np.repeat(np.arange(20) % 10 != 0, 5)
    alone = check_coverage(is_covered, np.arange(100))
    together = check_coverage(is_covered, np.repeat(np.arange(20), 5))
    assert together.standard_error > 1.4 * alone.standard_error
    # Two blocks of five missed, eighteen covered: sums of -4 and +1.
    assert together.standard_error == pytest.approx(np.sqrt(2 * 16 + 18) / 100)


def test_a_few_blocks_that_agree_prove_nothing():
    found = check_coverage(np.ones(30, dtype=bool), np.zeros(30, dtype=np.int64))
    assert found.distance() == pytest.approx(1)


def test_the_error_is_as_large_as_the_share_really_varies():
    rng = np.random.default_rng(0)
    block = np.repeat(np.arange(40), 6)
    shares, errors = [], []
    for _ in range(400):
        is_covered = np.repeat(rng.random(40) < 0.8, 6)
        found = check_coverage(is_covered, block)
        shares.append(found.coverage)
        errors.append(found.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(shares), rel=0.1)


@pytest.mark.parametrize("n_blocks", [0, 3])
def test_blocks_that_do_not_belong_to_outcomes_are_refused(n_blocks):
    with pytest.raises(ScoringError, match=f"0 outcomes and {n_blocks} block numbers"):
        check_coverage(np.zeros(0, dtype=bool), np.arange(n_blocks))
