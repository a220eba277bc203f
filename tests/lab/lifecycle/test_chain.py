"""A hash chain: what was appended is what is found, else the first bad row is named."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import LifecycleError
from lab.lifecycle.chain import (
    FIRST_HASH,
    ChainBreak,
    Head,
    head_of,
    link,
    row_hash,
    verify_chain,
)
from lakehouse.schema.lifecycle import SLEEVE_TRANSITIONS

SCHEMA = SLEEVE_TRANSITIONS.to_arrow()
START = datetime(2021, 1, 4, 6, tzinfo=UTC)


def content(number: int) -> dict[str, Any]:
    return {
        "sleeve_id": f"sleeve-{number % 3}",
        "from_stage": None if number < 3 else "genesis",
        "to_stage": "genesis" if number < 3 else "backtest",
        "why": f"reason {number}",
        "evidence": json.dumps({"n": number}),
        "decided_at": START + timedelta(days=number),
        "run_id": "run-1",
    }


def chain(n_rows: int) -> list[dict[str, Any]]:
    rows = [content(number) for number in range(n_rows)]
    return link(Head(), rows, schema=SCHEMA).to_pylist()


def verified(rows: list[dict[str, Any]]) -> ChainBreak | None:
    return verify_chain(pa.Table.from_pylist(rows, schema=SCHEMA))


def test_an_appended_chain_holds_in_any_order_of_rows():
    rows = chain(7)
    assert verified(rows) is None
    assert verified(rows[::-1]) is None
    assert verified([]) is None
    assert [row["seq"] for row in rows] == list(range(7))
    assert rows[0]["previous_hash"] == FIRST_HASH


def test_a_chain_appended_in_parts_is_the_chain_appended_at_once():
    first = link(Head(), [content(n) for n in range(4)], schema=SCHEMA)
    rest = link(head_of(first), [content(n) for n in range(4, 7)], schema=SCHEMA)
    assert pa.concat_tables([first, rest]).to_pylist() == chain(7)


def test_a_time_hashes_alike_in_every_zone():
    row = content(3)
    elsewhere = {
        **row,
        "decided_at": row["decided_at"].astimezone(timezone(timedelta(hours=5))),
    }
    assert row_hash(FIRST_HASH, row) == row_hash(FIRST_HASH, elsewhere)


CHANGES: dict[str, Any] = {
    "sleeve_id": "another",
    "from_stage": "walk_forward",
    "to_stage": "live",
    "why": "a better reason",
    "evidence": "{}",
    "decided_at": START - timedelta(seconds=1),
    "run_id": "run-2",
    "row_hash": "f" * 64,
}


@settings(deadline=None, max_examples=60)
@given(n_rows=st.integers(2, 9), data=st.data())
def test_an_altered_row_is_named_whatever_column_it_is(n_rows: int, data: Any):
    spot = data.draw(st.integers(0, n_rows - 1))
    column = data.draw(st.sampled_from(sorted(CHANGES)))
    rows = chain(n_rows)
    if rows[spot][column] == CHANGES[column]:
        return
    rows[spot][column] = CHANGES[column]
    found = verified(rows)
    assert found is not None
    assert found.seq == spot


@settings(deadline=None, max_examples=60)
@given(n_rows=st.integers(2, 9), data=st.data())
def test_an_altered_and_rehashed_row_breaks_at_the_next(n_rows: int, data: Any):
    spot = data.draw(st.integers(0, n_rows - 2))
    rows = chain(n_rows)
    rows[spot]["why"] = "a better reason"
    rows[spot]["row_hash"] = row_hash(rows[spot]["previous_hash"], rows[spot])
    found = verified(rows)
    assert found == ChainBreak(spot + 1, "does not follow the row before it")


@settings(deadline=None, max_examples=60)
@given(n_rows=st.integers(2, 9), data=st.data())
def test_a_dropped_row_is_named(n_rows: int, data: Any):
    spot = data.draw(st.integers(0, n_rows - 2))
    rows = chain(n_rows)
    del rows[spot]
    found = verified(rows)
    assert found is not None
    assert found.seq == spot
    assert str(found) == f"row {spot}: missing: row {spot + 1} comes next"


@settings(deadline=None, max_examples=60)
@given(n_rows=st.integers(2, 9), data=st.data())
def test_a_doubled_row_is_named(n_rows: int, data: Any):
    spot = data.draw(st.integers(0, n_rows - 1))
    rows = chain(n_rows)
    rows.insert(0, dict(rows[spot]))
    found = verified(rows)
    assert found == ChainBreak(spot, "there is a second row of this number")


@settings(deadline=None, max_examples=60)
@given(n_rows=st.integers(2, 9), data=st.data())
def test_swapped_rows_are_named_at_the_first_of_them(n_rows: int, data: Any):
    pair = data.draw(
        st.lists(st.integers(0, n_rows - 1), min_size=2, max_size=2, unique=True)
    )
    first, second = sorted(pair)
    rows = chain(n_rows)
    rows[first]["seq"], rows[second]["seq"] = second, first
    found = verified(rows)
    assert found is not None
    assert found.seq == first


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_a_chain_that_was_cut_lacks_a_head_that_was_seen(kept: int):
    whole = link(Head(), [content(n) for n in range(5)], schema=SCHEMA)
    seen = [head_of(whole), head_of(whole.slice(0, 2))]
    assert verify_chain(whole, seen=seen) is None
    found = verify_chain(whole.slice(0, kept), seen=seen)
    assert found is not None
    assert found.seq == kept


def test_a_chain_made_anew_lacks_a_head_that_was_seen():
    whole = link(Head(), [content(n) for n in range(5)], schema=SCHEMA)
    anew = [{**content(n), "why": "better"} for n in range(5)]
    forged = link(Head(), anew, schema=SCHEMA)
    assert verify_chain(forged) is None
    found = verify_chain(forged, seen=[head_of(whole)])
    assert found is not None
    assert str(found) == "row 4: not the row that was appended under its number"


def test_what_is_not_plain_is_refused():
    naive = content(1) | {"decided_at": datetime(2021, 1, 1)}  # noqa: DTZ001
    with pytest.raises(LifecycleError, match="aware of their time zone"):
        row_hash(FIRST_HASH, naive)
    with pytest.raises(LifecycleError, match="chain row"):
        row_hash(FIRST_HASH, content(1) | {"seq": 4, "why": float("nan")})
