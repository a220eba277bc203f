"""The schema of a model: what is locked in cannot be altered unseen."""

import json

import numpy as np
import pytest

from lab.errors import FeatureError
from lab.learning.schema import FeatureSchema, matrix_of

TRAIN = np.random.default_rng(0).standard_normal((200, 3))
SCHEMA = FeatureSchema.fit(("a", "b", "c"), TRAIN)


def test_a_schema_survives_json():
    again = FeatureSchema.from_json(SCHEMA.to_json().encode(), sha256=SCHEMA.sha256)
    assert again.names == ("a", "b", "c")
    assert again.to_json() == SCHEMA.to_json()
    np.testing.assert_array_equal(again.is_novel(TRAIN), SCHEMA.is_novel(TRAIN))


def altered(**changes):
    return json.dumps({**json.loads(SCHEMA.to_json()), **changes})


DAMAGED = {
    "not JSON": ("{", "not JSON"),
    "another thing": ("[]", "a schema has"),
    "one more field": (altered(more=1), "a schema has"),
    "names swapped": (altered(names=["b", "a", "c"]), "not those of the definition"),
    "names no list": (altered(names="abc"), "names must be a list"),
    "another hash": (altered(sha256="0" * 64), "it was altered"),
    "another definition": (
        altered(definition='{"names":["a","b","d"]}'),
        "it was altered",
    ),
    "no guard": (altered(guard={}), "novelty: a guard has"),
}


@pytest.mark.parametrize("name", sorted(DAMAGED))
def test_what_is_no_schema_is_refused(name):
    text, reason = DAMAGED[name]
    with pytest.raises(FeatureError, match=reason):
        FeatureSchema.from_json(text)


def test_any_flipped_letter_of_names_definition_or_hash_is_refused():
    text = SCHEMA.to_json()
    start = text.index('"names"')
    places = [
        *range(text.index('"definition"'), text.index('"guard"')),
        *range(start, len(text)),
    ]
    for place in places:
        flipped = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
        with pytest.raises(FeatureError, match=r"schema|features"):
            FeatureSchema.from_json(flipped)


def test_rows_by_name_become_columns_in_order():
    found = SCHEMA.matrix([{"c": 3, "a": 1.0, "b": None}])
    np.testing.assert_array_equal(found, [[1.0, np.nan, 3.0]])
    assert matrix_of(("a", "b"), []).shape == (0, 2)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"a": 1.0, "b": 2.0}, "row 0: missing: c"),
        ({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}, "row 0: unknown: d"),
        ({"a": 1.0, "b": 2.0, "c": "3"}, "'3' is no number"),
    ],
)
def test_other_rows_are_refused(row, reason):
    with pytest.raises(FeatureError, match=reason):
        SCHEMA.matrix([row])


@pytest.mark.parametrize("names", [(), ("a", "a", "b"), ("a", "", "b")])
def test_names_that_name_nothing_are_refused(names):
    with pytest.raises(FeatureError, match="features: "):
        FeatureSchema.fit(names, TRAIN)
