"""Months of daily decisions under the simulated clock, on evidence planted each week."""

import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import numpy as np
import pytest

from flows.bodies.gates import Judged, decide_sleeve_gates
from flows.bodies.lifecycle import explain, run_lifecycle
from flows.bodies.sleeve_registry import NewSleeve, read_chain, register_sleeves
from flows.runs import Outcome, Run
from flows.wiring import open_workplace
from lab.arrays import FloatArray
from lab.errors import LifecycleError
from lab.lifecycle.chain import verify_chain
from lab.lifecycle.stages import is_move
from lakehouse.errors import InputError
from tests.flows.conftest import forget_settings, run_plainly
from tests.lab.lifecycle.walks import FIRST_DAY, Walk, configuration, noise
from tests.simulators.places import REPOSITORY, Place, bare_environment

N_DAYS = 425
# A Monday at 05:00, a few hours after the last day's bars were known.
MONDAY = FIRST_DAY + timedelta(days=N_DAYS + 1, hours=5)
DAY = timedelta(days=1)
NAMES = ("good", "phase37", "weak")


def at(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    monkeypatch.setenv("ALPHALAKE_NOW", moment.isoformat())
    forget_settings()


def planted(seed: int, n_days: int, mean: float, last_90: float) -> FloatArray:
    """Return returns of one mean, and of another one over the last 90 days."""
    early = noise(seed, n_days - 90, mean=mean)
    return np.concatenate([early, noise(seed + 1, 90, mean=last_90)])


def walk_at(moment: datetime, good: FloatArray) -> Walk:
    """Store a completed walk-forward with its gates, as of now."""
    n_days, family = len(good), f"{len(good):032d}"
    returns = {
        "good": good,
        "phase37": planted(20, n_days, 0.0005, -0.002),
        "weak": noise(30, n_days, mean=0.0001),
    }
    variants = {
        name: (made, *(noise(40 + 9 * k + n, n_days) for n in range(3)))
        for k, (name, made) in enumerate(returns.items())
    }
    walk = Walk(f"walk-forward-{n_days}", moment, returns, variants, family=family)
    lake, tables = open_workplace().lake, walk.tables()
    run = Run(open_workplace(), "walk-forward", "walk-forward-0")
    for table in ("sleeve_returns", "wf_snapshots", "trials", "trial_returns"):
        lake.append(table, tables[table], window=f"test/{table}/{n_days}")
    register_sleeves(
        run, [NewSleeve(name, configuration(name), "test") for name in NAMES]
    )
    decide_sleeve_gates(run, Judged(walk.run_id, family))
    lake.append("runs", tables["runs"], window=f"test/runs/{n_days}")
    return walk


def decide_at(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> Outcome:
    at(monkeypatch, moment)
    return run_plainly("sleeve-lifecycle", run_lifecycle)


def stages() -> dict[str, str]:
    rows = open_workplace().lake.read("sleeves").to_pylist()
    return {row["sleeve_id"]: row["stage"] for row in rows}


def path_of(sleeve: str) -> list[str]:
    rows = read_chain(open_workplace().lake).to_pylist()
    return [row["to_stage"] for row in rows if row["sleeve_id"] == sleeve]


def check_consistent() -> None:
    """Require a whole chain, lawful moves, and derived tables that follow it."""
    lake = open_workplace().lake
    chain = lake.read("sleeve_transitions").sort_by("seq")
    assert verify_chain(chain) is None
    now: dict[str, str] = {}
    days = set()
    for row in chain.to_pylist():
        name = row["sleeve_id"]
        assert row["from_stage"] == now.get(name)
        assert is_move(row["from_stage"], row["to_stage"])
        if row["from_stage"] is not None:
            assert (name, row["decided_at"].date()) not in days
            days.add((name, row["decided_at"].date()))
        now[name] = row["to_stage"]
    assert stages() == now
    weights = {
        row["artefact_id"]: row["runtime_weight"]
        for row in lake.read("production_sleeve_set").sort_by("seq").to_pylist()
    }
    assert weights == {name: float(name == "phase37") for name in now}
    records = [
        json.loads(row["output"])["chain"]["seq"]
        for row in lake.read("decision_records").to_pylist()
        if row["agent_id"] in {"sleeve-registry", "sleeve-lifecycle"}
    ]
    assert sorted(records) == list(range(chain.num_rows))


@pytest.fixture
def walked(place: Place, monkeypatch: pytest.MonkeyPatch) -> Walk:
    assert MONDAY.weekday() == 0
    at(monkeypatch, MONDAY)
    return walk_at(MONDAY, noise(1, N_DAYS, mean=0.003))


def test_good_evidence_takes_four_days_to_paper_and_stops_there(
    walked: Walk, monkeypatch: pytest.MonkeyPatch
):
    seen = []
    for day in (*range(7), 45):
        outcome = decide_at(monkeypatch, MONDAY + timedelta(days=day, hours=1))
        seen.append(stages()["good"])
        if day == 2:
            before = [outcome.message, stages()]
            again = decide_at(monkeypatch, MONDAY + timedelta(days=day, hours=9))
            assert stages() == before[1]
            assert "0 promoted" in again.message
    assert seen[:5] == [
        "backtest",
        "walk_forward",
        "walk_forward_multi_fold",
        "paper",
        "paper",
    ]
    assert path_of("phase37") == ["live"]
    assert path_of("weak") == ["genesis", "backtest"]
    rows = (
        open_workplace().lake.read("production_sleeve_set").sort_by("seq").to_pylist()
    )
    assert [r["stage"] for r in rows if r["artefact_id"] == "good"] == [
        "candidate",
        "shadow",
    ]
    check_consistent()


def test_a_sleeve_whose_evidence_turns_is_retired(
    walked: Walk, monkeypatch: pytest.MonkeyPatch
):
    for day in range(4):
        decide_at(monkeypatch, MONDAY + timedelta(days=day, hours=1))
    assert stages()["good"] == "paper"
    later = MONDAY + timedelta(days=91)
    at(monkeypatch, later)
    walk_at(later, planted(1, N_DAYS + 91, 0.003, -0.001))
    outcome = decide_at(monkeypatch, later + timedelta(hours=1))
    assert "1 retired" in outcome.message
    assert stages()["good"] == "retired"
    for day in (1, 2):
        decide_at(monkeypatch, later + timedelta(days=day, hours=1))
    assert path_of("good")[-1] == "retired"
    rows = (
        open_workplace().lake.read("production_sleeve_set").sort_by("seq").to_pylist()
    )
    assert rows[-1]["stage"] == "retired"
    check_consistent()


def test_a_sleeve_whose_record_weakens_falls_one_stage_a_day(
    walked: Walk, monkeypatch: pytest.MonkeyPatch
):
    for day in range(4):
        decide_at(monkeypatch, MONDAY + timedelta(days=day, hours=1))
    later = MONDAY + timedelta(days=91)
    at(monkeypatch, later)
    # Recent days are fine, the whole record is not: nothing to retire it for.
    walk_at(later, planted(1, N_DAYS + 91, -0.0002, 0.0015))
    for day in range(6):
        outcome = decide_at(monkeypatch, later + timedelta(days=day, hours=1))
        if day == 0:
            assert "1 demoted" in outcome.message
    assert path_of("good") == [
        "genesis",
        "backtest",
        "walk_forward",
        "walk_forward_multi_fold",
        "paper",
        "walk_forward_multi_fold",
        "walk_forward",
        "backtest",
    ]
    check_consistent()


def test_the_locked_baseline_alarms_and_stays(
    walked: Walk, monkeypatch: pytest.MonkeyPatch
):
    outcome = decide_at(monkeypatch, MONDAY + timedelta(hours=1))
    assert outcome.message == (
        "3 sleeves decided on: 2 promoted, 0 demoted, 0 retired; ALARM: the locked"
        " baseline breaks a rule of retirement"
    )
    assert outcome.counts["alarms"] == 1
    note = next(one for one in outcome.notes if one.startswith("phase37"))
    assert "moved by nobody; ALARM 90-day Sharpe" in note


def test_gates_count_what_was_tried_since_before_a_sleeve_enters_paper(
    walked: Walk, monkeypatch: pytest.MonkeyPatch
):
    for day in range(3):
        decide_at(monkeypatch, MONDAY + timedelta(days=day, hours=1))
    at(monkeypatch, MONDAY + timedelta(days=2, hours=2))
    # An evolution tries 60 more, as good as this one: which was chosen was luck.
    bred = Walk(
        "evolve-1",
        MONDAY + timedelta(days=2, hours=2),
        {"bred": noise(900, N_DAYS, mean=0.002)},
        {"bred": tuple(noise(901 + n, N_DAYS, mean=0.002) for n in range(60))},
        family=walked.family,
    )
    tables, lake = bred.tables(), open_workplace().lake
    for table in ("trials", "trial_returns"):
        lake.append(table, tables[table], window=f"test/{table}/bred")
    outcome = decide_at(monkeypatch, MONDAY + timedelta(days=3, hours=1))
    assert "good: judged again by the gates" in outcome.notes
    assert stages()["good"] == "walk_forward_multi_fold"
    why = explain(open_workplace(), "good").lines
    assert any("not met: gate" in line for line in why)


def test_rows_of_the_future_do_not_change_a_decision(
    walked: Walk, monkeypatch: pytest.MonkeyPatch
):
    as_of = MONDAY + timedelta(hours=1)
    told = explain(open_workplace_at(monkeypatch, as_of), "good")
    later = MONDAY + timedelta(days=91)
    at(monkeypatch, later)
    walk_at(later, planted(1, N_DAYS + 91, -0.002, -0.002))
    again = explain(open_workplace(), "good", as_of=as_of.isoformat())
    assert again == told
    assert explain(open_workplace(), "good") != told
    outcome = run_plainly("sleeve-lifecycle", run_lifecycle, as_of=as_of.isoformat())
    assert "2 promoted" in outcome.message
    assert stages()["good"] == "backtest"


def open_workplace_at(monkeypatch: pytest.MonkeyPatch, moment: datetime):
    at(monkeypatch, moment)
    return open_workplace()


def test_an_earlier_decision_time_does_not_move_what_moved_later(
    walked: Walk, monkeypatch: pytest.MonkeyPatch
):
    decide_at(monkeypatch, MONDAY + timedelta(days=1))
    outcome = run_plainly(
        "sleeve-lifecycle", run_lifecycle, as_of=(MONDAY + DAY / 2).isoformat()
    )
    assert "0 promoted, 0 demoted" in outcome.message
    assert any(note.startswith("moved later than") for note in outcome.notes)
    assert stages()["good"] == "backtest"


def test_why_tells_every_distance_what_would_change_it_and_when(
    walked: Walk, monkeypatch: pytest.MonkeyPatch
):
    decide_at(monkeypatch, MONDAY + timedelta(hours=1))
    found = explain(open_workplace(), "weak")
    text = "\n".join(found.lines)
    assert "weak: in backtest since" in text
    assert "not met: backtest Sharpe" in text
    assert "not at this rate" in text
    assert "gate dsr" in text
    assert "days in paper" in text
    assert found.document["stage"] == "backtest"
    rules = [one["rule"] for one in found.document["distances"]]
    assert len(rules) == 16
    assert json.loads(json.dumps(found.document)) == found.document
    good = explain(open_workplace(), "good")
    tomorrow = (MONDAY + timedelta(days=1, hours=1)).isoformat()
    assert good.document["expected_date"] == tomorrow


def test_an_unknown_sleeve_is_told_in_one_line_with_near_names(
    walked: Walk, place: Place
):
    with pytest.raises(InputError, match="--why goood: no sleeve of that name; did"):
        explain(open_workplace(), "goood")


def test_nothing_is_decided_where_nothing_is_registered(place: Place):
    outcome = run_plainly("sleeve-lifecycle", run_lifecycle)
    assert outcome.message.startswith("no sleeve is registered yet")
    with pytest.raises(InputError, match="no sleeve is registered yet"):
        explain(open_workplace(), "good")


def test_rules_of_ones_own_move_and_bad_ones_are_refused(
    walked: Walk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    file = tmp_path / "rules.toml"
    file.write_text("backtest_trades_min = 100000\n")
    for day in range(2):
        at(monkeypatch, MONDAY + timedelta(days=day, hours=1))
        run_plainly("sleeve-lifecycle", run_lifecycle, rules=str(file))
    assert stages()["good"] == "backtest"
    file.write_text("backtest_trade_min = 3\n")
    with pytest.raises(LifecycleError, match="no rule backtest_trade_min"):
        run_plainly("sleeve-lifecycle", run_lifecycle, rules=str(file))
    with pytest.raises(InputError, match="cannot be read"):
        run_plainly("sleeve-lifecycle", run_lifecycle, rules=str(tmp_path / "no"))


DECIDER = """
from flows.bodies.lifecycle import run_lifecycle
from flows.runs import execute
from flows.wiring import open_workplace
place = open_workplace()
print("ready", flush=True)
execute("sleeve-lifecycle", run_lifecycle, workplace=place, parameters={})
"""


def start_decider(place: Place, moment: datetime) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", DECIDER],
        cwd=REPOSITORY,
        env={
            **bare_environment(),
            **place.environment,
            "ALPHALAKE_NOW": moment.isoformat(),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_deciders_at_once_move_a_sleeve_once(walked: Walk, place: Place):
    moment = MONDAY + timedelta(hours=1)
    deciders = [start_decider(place, moment) for _ in range(2)]
    for decider in deciders:
        _, said = decider.communicate(timeout=60)
        assert decider.returncode == 0, said
    assert path_of("good") == ["genesis", "backtest"]
    check_consistent()


@pytest.mark.parametrize(
    "n_kills",
    [pytest.param(4, id="few"), pytest.param(50, id="many", marks=pytest.mark.full)],
)
def test_killed_decisions_leave_a_consistent_chain(
    walked: Walk, place: Place, monkeypatch: pytest.MonkeyPatch, n_kills: int
):
    dice, n_killed = Random(7), 0
    for number in range(n_kills):
        # Evidence that turns and turns back: there is always something to move.
        if number % 12 == 6:
            moment = MONDAY + timedelta(days=91 + number)
            at(monkeypatch, moment)
            walk_at(moment, planted(1, N_DAYS + 91 + number, -0.0002, 0.0015))
        moment = MONDAY + timedelta(days=number + (91 if number > 5 else 0), hours=1)
        process = start_decider(place, moment)
        try:
            process.wait(timeout=dice.uniform(0.02, 0.4))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        n_killed += process.returncode == -signal.SIGKILL
        assert verify_chain(open_workplace().lake.read("sleeve_transitions")) is None
    assert n_killed > n_kills // 4
    decide_at(monkeypatch, MONDAY + timedelta(days=300))
    check_consistent()
