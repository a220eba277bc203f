"""`alphalake null-battery` counts promotions on noise, keeps every search, and goes on."""

import json

import pytest

from flows.bodies import null_battery as body
from flows.bodies.null_battery import one_search, run_null_battery
from flows.wiring import open_workplace
from lab.backtest.walkforward import WalkForwardPlan
from lab.validation.null_battery import BatteryPlan
from lab.validation.null_markets import sample_panel
from lakehouse.errors import InputError, RefusedError
from tests.flows.conftest import run_plainly

pytestmark = pytest.mark.xdist_group("null-battery-flow")


@pytest.fixture
def small(monkeypatch):
    """Short markets and few genomes: the whole ones are searched in the lab's tests."""
    plan = BatteryPlan(WalkForwardPlan(years=2.0), population=4)
    monkeypatch.setattr(body, "DEFAULT_PLAN", plan)
    monkeypatch.setattr(
        body, "sample_panel", lambda: sample_panel(n_assets=5, years=2.0)
    )
    monkeypatch.setattr(body, "CHUNK", 2)


def evaluations():
    rows = open_workplace().lake.read("evaluations").to_pylist()
    return {row["metric"]: row for row in rows if row["module"] == "null-battery"}


@pytest.mark.usefixtures("small")
def test_a_battery_is_counted_kept_and_gone_on_with(workplace, monkeypatch):
    done = run_plainly("null-battery", run_null_battery, n=3, power=1, workers=1)
    assert done.message.startswith(
        "0 of 3 searches on noise promoted a sleeve to paper"
    )
    kept = evaluations()
    report = json.loads(kept["report"]["detail"])
    assert set(report["shares"]) == {"walk", "shuffle", "events", "all"}
    assert set(report["power"]) == {"0.5", "1", "2", "3"}
    assert kept["false_promotions/all"]["value"] == 0.0
    assert report["shares"]["all"]["upper_bound_95"] == pytest.approx(0.632, abs=1e-3)
    assert sum(f"{report['job']}/" in name for name in kept) == 3 + 4
    assert any("shaped like a sample panel" in note for note in done.notes)
    decision = workplace.lake.read("decision_records").to_pylist()[-1]
    assert decision["agent_id"] == "null-battery"
    assert json.loads(decision["output"])["is_held"]

    asked = []
    real = one_search

    def counted(shared, task):
        asked.append(task)
        return real(shared, task)

    monkeypatch.setattr(body, "one_search", counted)
    again = run_plainly("null-battery", run_null_battery, n=5, power=1, workers=1)
    assert asked == [(None, 3), (None, 4)]
    assert again.notes[1] == "outcomes kept by an earlier attempt: 7"


@pytest.mark.usefixtures("small", "workplace")
def test_a_chain_that_promotes_noise_is_refused(monkeypatch):
    def promoting(shared, task):
        return {
            **one_search(shared, (None, 0)),
            "number": task[1],
            "promoted": ["luck"],
        }

    monkeypatch.setattr(body, "one_search", promoting)
    with pytest.raises(RefusedError, match=r"3 of 3 searches .* 2 are allowed: luck"):
        run_plainly("null-battery", run_null_battery, n=3, power=0, workers=1)
    assert evaluations()["false_promotions/all"]["value"] == 1.0


@pytest.mark.usefixtures("small", "workplace")
def test_processes_and_their_number_change_no_outcome():
    done = [
        run_plainly("null-battery", run_null_battery, n=2, seed=3, power=0, workers=k)
        for k in (1,)
    ]
    alone = json.loads(evaluations()["report"]["detail"])
    assert done[0].counts["searches"] == 2
    panel = sample_panel(n_assets=5, years=2.0)
    from flows.parallel import map_tasks

    shared = panel, body.DEFAULT_PLAN, 3
    spread = dict(
        map_tasks(one_search, [(None, 0), (None, 1)], common=shared, workers=2)
    )
    names = [f"{alone['job']}/null/{number}" for number in (0, 1)]
    stored = [json.loads(evaluations()[name]["detail"]) for name in names]
    assert [spread[0], spread[1]] == stored


@pytest.mark.usefixtures("workplace")
def test_counts_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="n 0, power 0: at least 1 and 0"):
        run_plainly("null-battery", run_null_battery, n=0)
