from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from lab.errors import TrainingError
from lab.learning.samples import Samples
from tests.lab.learning.planted import planted


def columns(n_rows: int = 3) -> dict:
    day = np.datetime64("2024-01-01", "us")
    start = day + np.arange(n_rows)[::-1].astype("m8[D]")
    return {
        "names": ["a", "b"],
        "features": np.arange(2.0 * n_rows).reshape(n_rows, 2),
        "subject_id": [f"o{one}" for one in range(n_rows)],
        "symbol": ["X"] * n_rows,
        "timeframe": ["1d"] * n_rows,
        "start": start,
        "end": start + np.timedelta64(2, "D"),
        "label": np.ones(n_rows),
        "outcome": np.zeros(n_rows),
    }


def test_rows_come_in_the_order_of_their_decisions():
    found = Samples.of(**columns())
    assert found.subject_id.tolist() == ["o2", "o1", "o0"]
    assert found.features[0].tolist() == [4.0, 5.0]


def test_only_labels_known_at_a_moment_may_be_used():
    found = Samples.of(**columns()).known_by(datetime(2024, 1, 4, tzinfo=UTC))
    assert found.subject_id.tolist() == ["o2", "o1"]


def test_rows_between_two_moments_leave_the_second_out():
    day = np.datetime64("2024-01-01", "us")
    found = Samples.of(**columns()).between(day, day + np.timedelta64(2, "D"))
    assert len(found) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["a", "a"]}, "two features have one name"),
        ({"subject_id": ["o", "o", "p"]}, "a subject_id is there twice"),
        ({"label": [0.0, np.nan, 1.0]}, "label of o1 is not a number"),
        ({"outcome": [0.0, np.inf, 1.0]}, "outcome of o1 is not a number"),
        ({"features": np.full((3, 2), np.inf)}, "feature a is infinite"),
        ({"end": np.full(3, np.datetime64("NaT"))}, "lacks its start or end"),
        (
            {"end": np.full(3, np.datetime64("2024-01-02"))},
            "label of o0 is known before its start",
        ),
        ({"symbol": ["X"]}, "columns of different lengths"),
        ({"features": np.zeros((2, 3))}, "different lengths"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_refused(change, message):
    with pytest.raises(TrainingError, match=message):
        Samples.of(**(columns() | change))


def test_a_missing_column_is_named():
    rows = columns()
    del rows["outcome"]
    with pytest.raises(TrainingError, match="columns are subject_id"):
        Samples.of(**rows)


def test_rows_out_of_order_are_refused():
    found = planted(0, 50)
    with pytest.raises(TrainingError, match="start must not fall"):
        replace(
            found, start=found.start[::-1], end=found.end[::-1] + np.timedelta64(9, "D")
        )
