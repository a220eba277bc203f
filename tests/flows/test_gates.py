"""Gates: every sleeve of a walk-forward has its verdicts, each kept once."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa
import pytest

from flows.bodies.gates import Judged, decide_sleeve_gates, run_gates
from flows.bodies.sleeve_registry import NewSleeve, register_sleeves
from flows.runs import Run
from flows.wiring import open_workplace
from lab.lifecycle.evidence import GATES
from lakehouse.errors import InputError
from lakehouse.store import Commit, Lake
from tests.flows.conftest import forget_settings, run_plainly
from tests.lab.lifecycle.walks import FIRST_DAY, Walk, noise
from tests.simulators.places import Place

N_DAYS = 400
ENDED = FIRST_DAY + timedelta(days=N_DAYS, hours=5)


def at(monkeypatch: pytest.MonkeyPatch, moment: object) -> None:
    monkeypatch.setenv("ALPHALAKE_NOW", str(moment))
    forget_settings()


def store(walk: Walk, *, lake: Lake | None = None) -> None:
    lake = lake or open_workplace().lake
    for table, rows in walk.tables().items():
        lake.append(table, rows, window=f"test/{table}/{walk.run_id}")


def make_walk(run_id: str = "walk-forward-1", **changed: object) -> Walk:
    names = ("good", "phase37", "weak")
    means = {"good": 0.002, "phase37": 0.0003, "weak": 0.0}
    found: dict[str, object] = {
        "returns": {n: noise(k, N_DAYS, mean=means[n]) for k, n in enumerate(names)},
        "variants": {
            name: tuple(noise(50 + 9 * k + n, N_DAYS, mean=0.0) for n in range(4))
            for k, name in enumerate(names)
        },
        "family": "f" * 32,
    }
    return Walk(run_id, ENDED, **(found | changed))  # type: ignore[arg-type]


@pytest.fixture
def walked(place: Place, monkeypatch: pytest.MonkeyPatch) -> Walk:
    at(monkeypatch, ENDED + timedelta(minutes=10))
    walk = make_walk()
    store(walk)
    entries = [NewSleeve(name, "{}", "test") for name in walk.returns]
    register_sleeves(Run(open_workplace(), "walk-forward", walk.run_id), entries)
    return walk


def new_run(flow: str = "walk-forward") -> Run:
    return Run(open_workplace(), flow, f"{flow}-0")


def judged(walk: Walk) -> Judged:
    return Judged(walk.run_id, walk.family, walk.fill)


def test_every_sleeve_of_a_run_is_judged_the_baseline_too(walked: Walk):
    run = new_run()
    found = decide_sleeve_gates(run, judged(walked))

    assert list(found) == ["good", "phase37", "weak"]
    assert [one.gate for one in found["good"]] == list(GATES)
    assert all(one.is_passed for one in found["good"])
    assert not any(one.is_passed for one in found["weak"][:2])
    rows = open_workplace().lake.read("gate_verdicts").to_pylist()
    assert len(rows) == 9
    assert {row["run_id"] for row in rows} == {walked.run_id}
    inputs = [json.loads(row["inputs"]) for row in rows]
    assert {one["run_id"] for one in inputs} == {walked.run_id}
    assert {one["n_trials"] for one in inputs} == {15}
    records = _gate_records()
    assert len(records) == 3
    by_sleeve = {
        json.loads(row["input_snapshot"])["sleeve_id"]: json.loads(row["output"])
        for row in records
    }
    assert by_sleeve["good"] == dict.fromkeys(GATES, True)


def _gate_records() -> list[dict[str, object]]:
    rows = open_workplace().lake.read("decision_records").to_pylist()
    return [row for row in rows if row["agent_id"] == "gates"]


def test_judging_again_writes_nothing_even_later(
    walked: Walk, monkeypatch: pytest.MonkeyPatch
):
    decide_sleeve_gates(new_run(), judged(walked), sleeve_ids=["good"])
    lake = open_workplace().lake
    before = [lake.version(name) for name in ("gate_verdicts", "decision_records")]
    at(monkeypatch, ENDED + timedelta(days=1))
    decide_sleeve_gates(new_run("gates"), judged(walked), sleeve_ids=["good"])
    assert before == [
        lake.version(name) for name in ("gate_verdicts", "decision_records")
    ]
    decide_sleeve_gates(new_run(), judged(walked))
    assert lake.read("gate_verdicts").num_rows == 9


class KilledError(Exception):
    """The process ends here."""


@dataclass(slots=True)
class KilledRun(Run):
    """A run that is killed before it appends to one table."""

    killed_at: str = ""

    def append(
        self, table: str, rows: pa.Table, *, window: str | Sequence[str]
    ) -> Commit:
        if table == self.killed_at:
            raise KilledError
        return Run.append(self, table, rows, window=window)


@pytest.mark.parametrize("table", ["gate_verdicts", "decision_records"])
def test_a_kill_before_any_write_leaves_what_the_next_attempt_completes(
    walked: Walk, table: str
):
    run = KilledRun(open_workplace(), "walk-forward", "killed", killed_at=table)
    with pytest.raises(KilledError):
        decide_sleeve_gates(run, judged(walked))
    decide_sleeve_gates(new_run(), judged(walked))
    assert open_workplace().lake.read("gate_verdicts").num_rows == 9
    assert len(_gate_records()) == 3


def test_equal_numbers_of_the_next_week_have_verdicts_of_their_own(walked: Walk):
    decide_sleeve_gates(new_run(), judged(walked))
    again = make_walk("walk-forward-2")
    tables = again.tables()
    lake = open_workplace().lake
    for table in ("sleeve_returns", "wf_snapshots", "runs"):
        lake.append(table, tables[table], window=f"test/{table}/2")
    decide_sleeve_gates(new_run(), judged(again))
    assert lake.read("gate_verdicts").num_rows == 18


def test_what_is_tried_later_counts_later(walked: Walk):
    decide_sleeve_gates(new_run(), judged(walked), sleeve_ids=["good"])
    more = make_walk(
        "walk-forward-3",
        returns={"bred": noise(699, N_DAYS)},
        variants={"bred": tuple(noise(700 + n, N_DAYS) for n in range(30))},
    )
    tables, lake = more.tables(), open_workplace().lake
    for table in ("trials", "trial_returns"):
        lake.append(table, tables[table], window=f"test/{table}/3")
    found = decide_sleeve_gates(new_run(), judged(walked), sleeve_ids=["good"])
    assert found["good"][0].inputs["n_trials"] == 46
    assert lake.read("gate_verdicts").num_rows == 6


def test_the_verb_judges_the_newest_run_and_counts_what_failed(walked: Walk):
    good = run_plainly("gates", run_gates, sleeve="good")
    assert good.message == f"good: 3 of 3 gates passed on {walked.run_id}"
    assert good.counts["gates_failed"] == 0
    assert len(good.notes) == 3
    weak = run_plainly("gates", run_gates, sleeve="weak")
    assert weak.counts["gates_failed"] >= 2
    assert weak.notes[0].startswith("dsr: DSR ")
    assert all("\n" not in note for note in weak.notes)
    rows = open_workplace().lake.read("gate_verdicts").to_pylist()
    assert {row["run_id"] for row in rows} == {good.run_id, weak.run_id}


def test_a_same_close_run_never_passes(place: Place, monkeypatch: pytest.MonkeyPatch):
    at(monkeypatch, ENDED + timedelta(minutes=10))
    walk = make_walk(fill="same_close")
    store(walk)
    found = decide_sleeve_gates(new_run(), judged(walk))
    assert not any(one.is_passed for group in found.values() for one in group)


def test_what_cannot_be_judged_is_refused_in_one_line(walked: Walk):
    with pytest.raises(InputError, match="--sleeve goood: unknown; did you mean good"):
        run_plainly("gates", run_gates, sleeve="goood")
    register_sleeves(new_run(), [NewSleeve("new", "{}", "test")])
    with pytest.raises(InputError, match="--sleeve new: no completed walk-forward"):
        run_plainly("gates", run_gates, sleeve="new")
    with pytest.raises(InputError, match="has no returns of new"):
        decide_sleeve_gates(new_run(), judged(walked), sleeve_ids=["new"])
    with pytest.raises(InputError, match="no trials of its family 'g'"):
        decide_sleeve_gates(new_run(), Judged(walked.run_id, "g"))
