import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import TrainingError
from lab.learning.weights import recency, sample_weights, uniqueness
from tests.lab.learning.planted import planted

T0 = np.datetime64("2024-01-01", "us")


def lives(pairs):
    start, length = (np.array(one, dtype=np.int64) for one in zip(*pairs, strict=True))
    return T0 + start.astype("m8[s]"), T0 + (start + length).astype("m8[s]")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)), min_size=1, max_size=25)
)
def test_uniqueness_is_the_mean_over_seconds_of_one_over_concurrency(pairs):
    start, end = lives(pairs)
    alive = np.zeros((len(pairs), 60))
    for row, (first, length) in enumerate(pairs):
        alive[row, first : first + length] = 1.0
    share = alive / np.maximum(alive.sum(axis=0), 1.0)
    np.testing.assert_allclose(
        uniqueness(start, end), share.sum(axis=1) / alive.sum(axis=1), rtol=1e-12
    )


def test_labels_of_another_group_share_no_life():
    start, end = lives([(0, 10), (0, 10)])
    assert uniqueness(start, end).tolist() == [0.5, 0.5]
    groups = np.array(["a", "b"])
    assert uniqueness(start, end, groups=groups).tolist() == [1.0, 1.0]


def test_a_label_known_at_once_counts_whole():
    assert uniqueness(*lives([(5, 0)])).tolist() == [1.0]


def test_a_half_life_halves():
    known = T0 - np.array([0, 10, 20], dtype="m8[D]")
    found = recency(known, as_of=T0, half_life_days=10.0)
    np.testing.assert_allclose(found, [1.0, 0.5, 0.25])


def test_a_label_of_the_future_is_refused():
    with pytest.raises(TrainingError, match="was not known by"):
        recency(np.array([T0]), as_of=T0 - np.timedelta64(1, "s"), half_life_days=1.0)


def test_weights_have_mean_one_and_newer_rows_count_more():
    rows = planted(1, 2_000)
    found = sample_weights(rows, as_of=rows.end.max(), half_life_days=60.0)
    assert found.mean() == pytest.approx(1.0)
    assert found[-300:].mean() > 4 * found[:300].mean()
