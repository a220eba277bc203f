"""Point-in-time joins: the answer of a loop, and every check that can fail."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import FeatureError
from lab.learning.joins import latest_known

UTC_US = pa.timestamp("us", tz="UTC")
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


def hours(counts):
    return pa.array([BEGIN + timedelta(hours=int(one)) for one in counts], UTC_US)


def labels(rows):
    return pa.table(
        {
            "symbol": pa.array([row[0] for row in rows], pa.string()),
            "as_of": hours([row[1] for row in rows]),
            "label": pa.array(range(len(rows)), pa.int64()),
        }
    )


def features(rows):
    return pa.table(
        {
            "symbol": pa.array([row[0] for row in rows], pa.string()),
            "known_ts": hours([row[1] for row in rows]),
            "value": pa.array([float(k) for k in range(len(rows))]),
        }
    )


def by_loop(left, right, tolerance=None):
    found = []
    for row in left.to_pylist():
        known = [
            one
            for one in right.to_pylist()
            if one["symbol"] == row["symbol"] and one["known_ts"] <= row["as_of"]
        ]
        newest = max(known, key=lambda one: one["known_ts"], default=None)
        is_old = (
            newest is not None
            and tolerance is not None
            and row["as_of"] - newest["known_ts"] > tolerance
        )
        found.append(None if newest is None or is_old else newest["value"])
    return found


def random_sides(seed, n=60):
    rng = np.random.default_rng(seed)
    left = [(rng.choice(list("ABCX")), h) for h in np.sort(rng.integers(0, 50, n))]
    pairs = {(rng.choice(list("ABCY")), int(rng.integers(0, 50))) for _ in range(n)}
    # Entity after entity, as the lake's tables lie; labels lie in order of time.
    return labels(left), features(sorted(pairs))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), tolerance=st.sampled_from([None, 0, 3]))
def test_the_join_is_that_of_a_loop_over_all_rows(seed, tolerance):
    left, right = random_sides(seed)
    limit = None if tolerance is None else timedelta(hours=tolerance)
    joined = latest_known(left, right, by="symbol", tolerance=limit)
    assert joined.column_names == ["symbol", "as_of", "label", "known_ts", "value"]
    assert joined.select(left.column_names).equals(left)
    assert joined["value"].to_pylist() == by_loop(left, right, limit)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 49))
def test_rows_known_later_change_no_earlier_label(seed, cut):
    left, right = random_sides(seed)
    moment = BEGIN + timedelta(hours=cut)
    known = right.filter([one <= moment for one in right["known_ts"].to_pylist()])
    early = [one <= moment for one in left["as_of"].to_pylist()]
    whole = latest_known(left, right, by="symbol").filter(early)
    assert latest_known(left.filter(early), known, by="symbol").equals(whole)


def test_keys_of_two_columns_and_chunked_tables():
    left = labels([("A", 1), ("A", 2)]).append_column(
        "timeframe", pa.array(["1d", "1h"])
    )
    right = features([("A", 1), ("A", 1), ("B", 0)])
    right = right.append_column("timeframe", pa.array(["1d", "1h", "1d"]))
    chunked = pa.concat_tables([right.slice(0, 1), right.slice(1)])
    joined = latest_known(left, chunked, by=("symbol", "timeframe"))
    assert joined["value"].to_pylist() == [0.0, 1.0]


def test_an_empty_side_gives_empty_columns():
    joined = latest_known(labels([("A", 1)]), features([]), by="symbol")
    assert joined["value"].to_pylist() == [None]
    assert latest_known(labels([]), features([("A", 1)]), by="symbol").num_rows == 0


GOOD = labels([("A", 1), ("B", 2)]), features([("A", 0), ("B", 1)])
REFUSED = {
    "features out of order": (GOOD[0], features([("A", 2), ("A", 1)]), "out of order"),
    "labels out of order": (
        labels([("A", 2), ("A", 1)]),
        GOOD[1],
        "labels: as_of is out",
    ),
    "two of one moment": (
        GOOD[0],
        features([("A", 1), ("A", 1)]),
        "row 1 has the moment",
    ),
    "no time": (GOOD[0].drop(["as_of"]), GOOD[1], "labels: column missing: as_of"),
    "no key": (GOOD[0], GOOD[1].drop(["symbol"]), "features: column missing: symbol"),
    "a column of both": (
        GOOD[0],
        GOOD[1].append_column("label", pa.array([1, 2])),
        "in both tables: label",
    ),
    "a naive time": (
        GOOD[0],
        GOOD[1].set_column(1, "known_ts", GOOD[1]["known_ts"].cast(pa.timestamp("us"))),
        "not a time in UTC",
    ),
    "a null time": (
        GOOD[0],
        GOOD[1].set_column(1, "known_ts", pa.array([None, None], UTC_US)),
        "known_ts is null",
    ),
    "keys of other types": (
        GOOD[0],
        GOOD[1].set_column(0, "symbol", pa.array([1, 2])),
        "symbol is string in labels, int64",
    ),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_could_leak_or_be_guessed_is_refused(name):
    left, right, reason = REFUSED[name]
    with pytest.raises(FeatureError, match=reason):
        latest_known(left, right, by="symbol")


def test_a_negative_tolerance_is_refused():
    with pytest.raises(FeatureError, match="at least 0"):
        latest_known(*GOOD, by="symbol", tolerance=timedelta(hours=-1))
