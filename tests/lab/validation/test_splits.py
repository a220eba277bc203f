"""Purged k-fold and combinatorial purged cross-validation."""

from itertools import pairwise
from math import comb

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lab.errors import ValidationError
from lab.validation.splits import combinatorial_purged, purged_k_fold


@st.composite
def labelled_rows(draw):
    n_obs = draw(st.integers(12, 80))
    reach = draw(st.integers(0, 6))
    spans = draw(st.lists(st.integers(0, reach), min_size=n_obs, max_size=n_obs))
    return n_obs, np.arange(n_obs) + np.array(spans), draw(st.integers(0, 4))


def check(split, n_obs, ends, embargo):
    """The definitions, row by row."""
    assert np.all(np.diff(split.train) > 0)
    assert np.all(np.diff(split.test) > 0)
    assert not set(split.train) & set(split.test)
    tested = set(split.test)
    seen = {row for t in split.test for row in range(t, ends[t] + 1)}
    for row in split.train:
        assert not seen & set(range(row, ends[row] + 1))
    # A block's end is the last row its labels look at; the embargo follows it.
    runs = [t for t in split.test if t - 1 not in tested]
    for first in runs:
        stop = first
        while stop in tested:
            stop += 1
        last = max(ends[first:stop])
        assert not set(split.train) & set(range(last + 1, last + 1 + embargo))
    # Nothing is dropped without a reason.
    dropped = set(range(n_obs)) - set(split.train) - tested
    for row in dropped:
        assert any(
            ends[row] >= first and row <= _last(first, tested, ends) + embargo
            for first in runs
        )


def _last(first, tested, ends):
    stop = first
    while stop in tested:
        stop += 1
    return max(ends[first:stop])


@settings(max_examples=60, deadline=None)
@given(labelled_rows(), st.integers(2, 6))
def test_folds_are_disjoint_ordered_and_purged_by_definition(rows, n_folds):
    n_obs, ends, embargo = rows
    try:
        splits = purged_k_fold(n_obs, n_folds, label_ends=ends, embargo=embargo)
    except ValidationError as error:
        assume("leaves no rows" not in str(error))
        raise
    assert len(splits) == n_folds
    assert np.array_equal(np.concatenate([s.test for s in splits]), np.arange(n_obs))
    sizes = [len(s.test) for s in splits]
    assert max(sizes) - min(sizes) <= 1
    for split in splits:
        check(split, n_obs, ends, embargo)


@settings(max_examples=40, deadline=None)
@given(labelled_rows(), st.integers(3, 6), st.data())
def test_every_path_is_complete_and_every_test_is_in_one_path(rows, n_groups, data):
    n_obs, ends, embargo = rows
    n_tested = data.draw(st.integers(1, n_groups - 1))
    try:
        found = combinatorial_purged(
            n_obs, n_groups, n_tested, label_ends=ends, embargo=embargo
        )
    except ValidationError as error:
        assume("leaves no rows" not in str(error))
        raise
    assert len(found.splits) == comb(n_groups, n_tested)
    assert found.n_paths == comb(n_groups - 1, n_tested - 1)
    for split in found.splits:
        check(split, n_obs, ends, embargo)
    used = []
    for path in found.paths:
        covered = []
        for group, number in enumerate(path):
            split = found.splits[number]
            assert group in split.groups
            first, stop = found.edges[group], found.edges[group + 1]
            part = split.test[(split.test >= first) & (split.test < stop)]
            covered += list(part)
            used.append((group, number))
        assert covered == list(range(n_obs))
    assert len(used) == len(set(used)) == n_tested * len(found.splits)


def test_the_book_s_example_of_six_groups_two_tested_has_fifteen_splits_five_paths():
    # López de Prado (2018), figure 12.1.
    found = combinatorial_purged(60, 6, 2)
    assert (len(found.splits), found.n_paths) == (15, 5)


def test_a_label_span_purges_before_and_after_and_the_embargo_follows():
    middle = purged_k_fold(30, 3, label_ends=2, embargo=3)[1]
    assert list(middle.test) == list(range(10, 20))
    # Labels of 8 and 9 reach row 10; the test's reach row 21; then three more.
    assert list(middle.train) == [*range(8), *range(25, 30)]


def test_without_labels_or_embargo_it_is_plain_k_fold():
    for split in purged_k_fold(23, 4):
        assert len(split.train) + len(split.test) == 23
    edges = [s.test[0] for s in purged_k_fold(23, 4)]
    assert all(a < b for a, b in pairwise(edges))


def test_neighbouring_groups_are_one_block():
    found = combinatorial_purged(40, 4, 2, label_ends=1, embargo=2)
    assert list(found.splits[0].train) == list(range(23, 40))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_obs": 5, "n_folds": 6}, "6 folds of 5 rows"),
        ({"n_obs": 5, "n_folds": 1}, "1 folds of 5 rows"),
        ({"n_obs": 9, "n_folds": 3, "embargo": -1}, "embargo -1"),
        ({"n_obs": 9, "n_folds": 3, "label_ends": -1}, "label of row 0 ends before"),
        ({"n_obs": 9, "n_folds": 3, "label_ends": np.arange(4)}, "shape"),
        ({"n_obs": 9, "n_folds": 3, "label_ends": 9}, "leaves no rows"),
    ],
)
def test_cuts_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValidationError, match=message):
        purged_k_fold(**arguments)


def test_testing_no_group_or_all_is_refused():
    for n_tested in (0, 4):
        with pytest.raises(ValidationError, match="groups tested"):
            combinatorial_purged(20, 4, n_tested)
    with pytest.raises(ValidationError, match="20000 at most"):
        combinatorial_purged(100, 40, 20)
