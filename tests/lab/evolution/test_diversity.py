import numpy as np
import pytest

from lab.evolution.diversity import distinct, likeness, standardised


def series(count, n_days=400, seed=0):
    return np.random.default_rng(seed).standard_normal((count, n_days))


def test_likeness_is_the_correlation_with_the_nearest():
    one, *others = series(6)
    others[2] = 0.8 * one + 0.4 * others[2]
    found = likeness(standardised(one), [standardised(each) for each in others])
    expected = np.corrcoef([one, *others])[0, 1:]
    assert found.nearest == 2
    assert found.max_correlation == pytest.approx(expected.max(), abs=1e-12)
    near = np.sort(expected)[::-1][:3]
    assert found.novelty == pytest.approx(1 - near.mean(), abs=1e-12)


def test_a_copy_is_not_new_and_the_opposite_is():
    one = standardised(series(1)[0])
    assert likeness(one, [one]).max_correlation == pytest.approx(1.0)
    assert likeness(one, [one]).novelty == pytest.approx(0.0)
    assert likeness(one, [-one]).novelty == pytest.approx(2.0)
    assert likeness(one, []).novelty == 1.0


def test_scaling_a_book_does_not_make_it_new():
    one = series(1)[0]
    assert likeness(standardised(3 * one + 1), [standardised(one)]).novelty < 1e-12


def test_a_series_that_never_varies_is_like_nothing():
    flat = standardised(np.full(10, 0.01))
    assert not flat.any()
    assert likeness(flat, [standardised(series(1, 10)[0])]).max_correlation == 0.0


def test_copies_of_a_better_one_do_not_survive():
    base = series(4)
    rows = np.vstack([base[0], base[0] * 2 + 0.01 * base[1], base[2], base[3]])
    shapes = standardised(rows)
    assert distinct(np.array([1, 0, 2, 3]), shapes, count=4) == [1, 2, 3]
    assert distinct(np.array([0, 1, 2, 3]), shapes, count=2) == [0, 2]
