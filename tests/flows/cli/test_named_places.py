"""Flows that are named as `module:name` until they are needed are there."""

import re

import pytest

from flows.cli.training import KINDS
from flows.isolation import named
from tests.simulators.places import REPOSITORY

PLACES = sorted(
    {
        place
        for file in (REPOSITORY / "flows").rglob("*.py")
        for place in re.findall(r'"(flows\.[\w.]+:\w+)"', file.read_text())
    }
    | {place for kind in KINDS.values() for place in (kind.body, kind.entry)}
)


@pytest.mark.parametrize("place", PLACES)
def test_a_named_flow_or_body_is_there(place):
    assert callable(named(place))


def test_every_kind_of_place_was_found():
    assert len(PLACES) > 30
