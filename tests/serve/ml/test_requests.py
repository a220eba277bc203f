"""Rows of a request, from bytes to a matrix."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import MalformedError
from serve.ml.requests import RowReader
from serve.ml.schemas import MAX_ROWS

NAMES = ("b", "a", "hour sin", "__class__")
reader = RowReader(NAMES)


def body(rows, **more) -> bytes:
    return msgspec.json.encode({"rows": rows, **more})


def test_rows_by_name_and_by_order_are_the_same():
    by_name = [{"a": 2, "b": 1.5, "__class__": 4, "hour sin": None}]
    for rows in (by_name, [[1.5, 2, None, 4]]):
        values, is_explained = reader.read(body(rows, contributions=True))
        np.testing.assert_array_equal(values, [[1.5, 2, np.nan, 4]])
        assert values.dtype == np.float64
        assert is_explained
    both = reader.read(body([*by_name, [1, 2, 3, 4]]))[0]
    assert both.shape == (2, 4)


def test_lists_may_name_their_order():
    order = ["__class__", "a", "b", "hour sin"]
    values, _ = reader.read(body([[4, 2, 1, 3]], features=order))
    np.testing.assert_array_equal(values, [[1, 2, 3, 4]])
    values, _ = reader.read(body([[1, 2, 3, 4]], features=list(NAMES)))
    np.testing.assert_array_equal(values, [[1, 2, 3, 4]])
    one, _ = RowReader(("x",)).read(body([[7.0]], features=["x"]))
    assert one.tolist() == [[7.0]]


GOOD = {"a": 1, "b": 1, "hour sin": 1, "__class__": 1}


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "truncated"),
        (b"\xff", "malformed|invalid"),
        (b"[]", "Expected `object`"),
        (body([]), "length >= 1"),
        (body([{**GOOD, "c": 1}]), "unknown field `c`"),
        (body([{k: v for k, v in GOOD.items() if k != "a"}]), "missing.*`a`"),
        (body([{**GOOD, "a": "1"}]), "Expected `float"),
        (body([{**GOOD, "a": True}]), "Expected `float"),
        (body([{**GOOD, "a": 1e31}]), "1e\\+?30"),
        (b'{"rows": [[1, 2, 3, NaN]]}', "malformed|invalid"),
        (b'{"rows": [[1, 2, 3, 1e999]]}', "out of range|<= 1e"),
        (body([[1, 2, 3]]), "length >= 4"),
        (body([[1, 2, 3, 4, 5]]), "length <= 4"),
        (body([GOOD], row=1), "unknown field `row`"),
        (body([GOOD], contributions=1), "Expected `bool`"),
        (body([GOOD] * 101, contributions=True), "101 rows: at most 100"),
        (body([[1, 2, 3, 4]], features=["a"]), "missing: __class__, b, hour sin"),
        (body([[1, 2, 3, 4]], features=[*NAMES, "z"]), "unknown: z"),
        (body([[1, 2, 3, 4]], features=[*NAMES, "a"]), "twice"),
    ],
)
def test_what_is_no_request_is_refused_in_one_line(sent, said):
    with pytest.raises(MalformedError, match=said) as caught:
        reader.read(sent)
    assert "\n" not in caught.value.detail


def test_rows_are_counted():
    small = RowReader(("x",))
    assert len(small.read(body([[1]] * MAX_ROWS))[0]) == MAX_ROWS
    with pytest.raises(MalformedError, match=f"length <= {MAX_ROWS}"):
        small.read(body([[1]] * (MAX_ROWS + 1)))


number = st.none() | st.floats(-1e30, 1e30) | st.integers(-(10**9), 10**9)


@given(st.lists(st.lists(number, min_size=4, max_size=4), min_size=1, max_size=5))
def test_values_arrive_as_they_were_sent(rows):
    values, _ = reader.read(json.dumps({"rows": rows}).encode())
    expected = [[np.nan if one is None else float(one) for one in row] for row in rows]
    np.testing.assert_array_equal(values, np.array(expected, np.float64))
