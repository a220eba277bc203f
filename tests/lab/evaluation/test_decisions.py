from datetime import timedelta

import pytest

from lab.errors import DecisionError
from lab.evaluation.decisions import record_decision
from lakehouse.schema.telemetry import DECISION_RECORDS
from tests.lab.toy_market import moment

DECISION = {
    "run_id": "run-1",
    "ts": moment("2022-03-04T21:00"),
    "agent_id": "publisher",
    "model": {"version": "1"},
    "input_snapshot": {"b": [1, 2.5], "a": {"y": None, "x": "é"}},
    "output": {"published": True},
    "rationale": "newest forecasts of all symbols",
}


def record(**changes):
    return record_decision(**{**DECISION, **changes}).to_pylist()[0]


def test_a_decision_is_one_row_of_decision_records():
    table = record_decision(**DECISION)
    assert table.schema.equals(DECISION_RECORDS.to_arrow())
    assert table.num_rows == 1
    row = record()
    assert row["input_snapshot"] == '{"a":{"x":"\\u00e9","y":null},"b":[1,2.5]}'
    assert row["output"] == '{"published":true}'
    assert row["ts"] == DECISION["ts"]
    assert len(row["decision_id"]) == 32


def test_the_same_decision_has_the_same_identity_whatever_the_order_of_keys():
    turned = {"a": {"x": "é", "y": None}, "b": [1, 2.5]}
    later = DECISION["ts"] + timedelta(hours=1)
    same = record(input_snapshot=turned, ts=later, output={}, rationale="again")
    assert same["decision_id"] == record()["decision_id"]


@pytest.mark.parametrize(
    "change",
    [{"run_id": "run-2"}, {"agent_id": "gate"}, {"input_snapshot": {"a": 1}}],
)
def test_another_run_decider_or_input_is_another_decision(change):
    assert record(**change)["decision_id"] != record()["decision_id"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_snapshot": {"a": float("nan")}}, "input_snapshot: Out of range float"),
        ({"output": {"a": object()}}, "output: Object of type object"),
        ({"model": {1: 2, "a": 3}}, "model: "),
        (
            {"ts": moment("2022-03-04").replace(tzinfo=None)},
            "aware of their? time zone|aware of its",
        ),
    ],
)
def test_what_is_no_record_is_refused(change, message):
    with pytest.raises(DecisionError, match=message):
        record(**change)
