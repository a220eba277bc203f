import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lab.errors import TrainingError
from lab.learning.metrics import (
    acted,
    auc,
    auc_standard_error,
    fold_auc,
    regression_figures,
    trading_figures,
)

DAY = np.datetime64("2024-01-01", "us")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_ranked_right(rows):
    scores = np.array([one for one, _ in rows], dtype=float)
    labels = np.array([one for _, one in rows], dtype=float)
    if labels.min() == labels.max():
        with pytest.raises(TrainingError, match="some of both"):
            auc(scores, labels)
        return
    ones, zeros = scores[labels > 0.5], scores[labels < 0.5]
    gap = ones[:, None] - zeros[None, :]
    assert auc(scores, labels) == pytest.approx(((gap > 0) + 0.5 * (gap == 0)).mean())


def test_the_standard_error_is_mann_whitneys():
    labels = np.array([1.0] * 30 + [0.0] * 50)
    z = (0.6 - 0.5) / auc_standard_error(labels)
    u = 0.6 * 30 * 50
    expected = (u - 750) / math.sqrt(30 * 50 * 81 / 12)
    assert z == pytest.approx(expected)
    assert 2 * stats.norm.sf(z) < 0.2


def test_rows_of_two_folds_are_not_compared():
    scores = np.array([0.0, 1.0, 10.0, 11.0])
    labels = np.array([0.0, 1.0, 0.0, 1.0])
    assert auc(scores, labels) == 0.75
    assert fold_auc(scores, labels, np.array([0, 0, 1, 1]))[0] == 1.0
    assert fold_auc(scores, np.ones(4), np.zeros(4, dtype=np.int64)) is None


def test_one_fold_is_the_plain_figure():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=200), (rng.random(200) < 0.3).astype(float)
    found = fold_auc(scores, labels, np.zeros(200, dtype=np.int64))
    assert found == pytest.approx((auc(scores, labels), auc_standard_error(labels)))


def test_taken_rows_earn_their_outcome_and_signs_pay_the_round_trip():
    scores, outcomes = np.array([1.0, -1.0, 0.0]), np.array([0.02, -0.03, 0.05])
    np.testing.assert_array_equal(
        acted(scores, outcomes, 0.0, cost=None), [0.02, np.nan, np.nan]
    )
    np.testing.assert_allclose(
        acted(scores, outcomes, 0.0, cost=0.001), [0.019, 0.029, np.nan]
    )


def test_figures_of_a_known_curve():
    known = DAY + np.array([0, 0, 1, 2]).astype("m8[D]")
    found = trading_figures(np.array([0.02, np.nan, -0.05, 0.01]), known)
    daily = np.array([0.02, -0.05, 0.01])
    assert found["profit_total"] == pytest.approx(-0.02)
    assert found["max_drawdown"] == pytest.approx(0.05)
    assert found["win_rate"] == pytest.approx(2 / 3)
    assert found["trades_count"] == 3.0
    assert found["sharpe_ratio"] == pytest.approx(
        daily.mean() / daily.std(ddof=1) * math.sqrt(365.25)
    )


def test_nothing_done_has_no_ratio():
    found = trading_figures(np.full(3, np.nan), np.full(3, DAY))
    assert found["sharpe_ratio"] is None
    assert found["win_rate"] is None
    assert (found["profit_total"], found["trades_count"]) == (0.0, 0.0)


def test_signs_of_unmoved_rows_do_not_count():
    found = regression_figures(np.array([1.0, -1.0, 1.0]), np.array([2.0, 3.0, 0.0]))
    assert found["sign_match"] == 0.5
    assert found["baseline_squared_error"] == pytest.approx(13 / 3)
