"""Sleeves are entered once, whoever enters them and however often he is killed."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from flows.bodies.sleeve_registry import (
    Move,
    NewSleeve,
    append_moves,
    newest_transitions,
    read_chain,
    register_sleeves,
    settle,
)
from flows.runs import Run
from flows.wiring import open_workplace
from lab.lifecycle.chain import verify_chain
from lakehouse.errors import InputError, RefusedError
from tests.simulators.places import REPOSITORY, Place, bare_environment

DERIVED = ("sleeves", "production_sleeve_set", "decision_records")

WRITER = """
import sys
from flows.bodies.sleeve_registry import NewSleeve, register_sleeves
from flows.runs import Run
from flows.wiring import open_workplace
place = open_workplace()
print("ready", flush=True)
for name in sys.argv[2:]:
    run = Run(place, "walk-forward", sys.argv[1])
    register_sleeves(run, [NewSleeve(one, "{}", "test") for one in name.split("+")])
"""


def new_run(flow: str = "walk-forward") -> Run:
    return Run(open_workplace(), flow, f"{flow}-1")


def start_writer(place: Place, run_id: str, names: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, run_id, *names],
        cwd=REPOSITORY,
        env={**bare_environment(), **place.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def check_derived(n_sleeves: int) -> None:
    """Require that the derived tables say what the chain says, once each."""
    lake = open_workplace().lake
    chain = read_chain(lake)
    assert verify_chain(chain) is None
    newest = newest_transitions(chain)
    assert len(newest) == n_sleeves
    sleeves = lake.read("sleeves").to_pylist()
    assert {row["sleeve_id"]: row["stage"] for row in sleeves} == {
        name: row["to_stage"] for name, row in newest.items()
    }
    in_set = lake.read("production_sleeve_set").to_pylist()
    assert sorted(row["artefact_id"] for row in in_set) == sorted(newest)
    records = lake.read("decision_records").to_pylist()
    seqs = sorted(json.loads(row["output"])["chain"]["seq"] for row in records)
    assert seqs == list(range(chain.num_rows))


def test_a_sleeve_is_entered_once_with_its_weight_and_its_record(place: Place):
    entries = [
        NewSleeve("phase37", '{"sleeve":"phase37"}', "catalogue"),
        NewSleeve("trend", '{"sleeve":"trend"}', "catalogue", evidence={"trades": 7}),
    ]
    assert register_sleeves(new_run(), entries) == ("phase37", "trend")
    before = {name: open_workplace().lake.version(name) for name in DERIVED}
    assert register_sleeves(new_run("evolve"), entries) == ()

    lake = open_workplace().lake
    assert {name: lake.version(name) for name in DERIVED} == before
    found = {row["sleeve_id"]: row for row in lake.read("sleeves").to_pylist()}
    assert found["phase37"]["stage"] == "live"
    assert found["trend"]["stage"] == "genesis"
    assert found["trend"]["configuration"] == '{"sleeve":"trend"}'
    assert found["trend"]["author"] == "catalogue"
    in_set = {
        row["artefact_id"]: (row["stage"], row["runtime_weight"])
        for row in lake.read("production_sleeve_set").to_pylist()
    }
    assert in_set == {"phase37": ("live", 1.0), "trend": ("candidate", 0.0)}
    check_derived(2)


def test_a_changed_configuration_is_told_and_the_registered_one_stays(place: Place):
    register_sleeves(new_run(), [NewSleeve("trend", '{"speed":1}', "catalogue")])
    run = new_run()
    register_sleeves(run, [NewSleeve("trend", '{"speed":2}', "catalogue")])
    assert [note.split(",")[0] for note in run.notes] == [
        "trend: registered with another configuration"
    ]
    stored = open_workplace().lake.read("sleeves").to_pylist()
    assert stored[0]["configuration"] == '{"speed":1}'


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (NewSleeve("a", "{}", "me", stage="paper"), "a new sleeve is at genesis"),
        (NewSleeve("a", "{}", "me", stage="live"), "a new sleeve is at genesis"),
        (NewSleeve("a", "no", "me"), "configuration is not JSON"),
        (NewSleeve("", "{}", "me"), "a name is needed"),
    ],
)
def test_what_is_no_new_sleeve_is_refused_in_one_line(
    place: Place, entry: NewSleeve, message: str
):
    with pytest.raises(InputError, match=message):
        register_sleeves(new_run(), [NewSleeve("good", "{}", "me"), entry])
    assert open_workplace().lake.read("sleeve_transitions").num_rows == 0


def test_no_move_skips_a_stage(place: Place):
    register_sleeves(new_run(), [NewSleeve("a", "{}", "me")])
    now = datetime(2018, 10, 2, tzinfo=UTC)
    for to_stage in ("walk_forward", "paper", "live", "retired"):
        move = Move("a", "genesis", to_stage, "so", {}, now)
        with pytest.raises(RefusedError, match="one stage at a time"):
            append_moves(new_run(), lambda _, move=move: [move])
    assert open_workplace().lake.read("sleeve_transitions").num_rows == 1


def test_two_processes_cannot_fork_the_chain(place: Place):
    shared = [f"shared-{n}+shared-{n + 1}" for n in range(4)]
    writers = []
    for who in ("one", "two"):
        own = [f"{who}-{n}" for n in range(4)]
        names = [name for pair in zip(shared, own, strict=True) for name in pair]
        writers.append(start_writer(place, who, names))
    for writer in writers:
        _, said = writer.communicate(timeout=120)
        assert writer.returncode == 0, said
    lake = open_workplace().lake
    rows = lake.read("sleeve_transitions").to_pylist()
    assert len(rows) == 5 + 8
    assert {row["run_id"] for row in rows} == {"one", "two"}
    check_derived(13)


@pytest.mark.parametrize(
    "n_kills",
    [pytest.param(3, id="few"), pytest.param(50, id="many", marks=pytest.mark.full)],
)
def test_killed_writers_leave_a_chain_that_the_next_one_completes(
    place: Place, n_kills: int
):
    names = [f"sleeve-{n}" for n in range(12 * n_kills)]
    dice, n_killed = Random(3), 0
    for _ in range(n_kills):
        writer = start_writer(place, "killed", names)
        try:
            writer.wait(timeout=dice.uniform(0.0, 1.0))
        except subprocess.TimeoutExpired:
            os.kill(writer.pid, signal.SIGKILL)
        writer.communicate(timeout=60)
        n_killed += writer.returncode == -signal.SIGKILL
    assert n_killed > n_kills // 4
    register_sleeves(new_run(), [NewSleeve("last", "{}", "me")])
    settle(new_run())
    check_derived(open_workplace().lake.read("sleeve_transitions").num_rows)


def test_a_cut_chain_is_refused_by_name(place: Place):
    register_sleeves(new_run(), [NewSleeve("a", "{}", "me"), NewSleeve("b", "{}", "x")])
    folder = Path(place.root) / "tables" / "sleeve_transitions"
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    folder.rmdir()
    with pytest.raises(RefusedError, match="row 0: missing: the chain reached row 0"):
        register_sleeves(new_run(), [NewSleeve("c", "{}", "me")])
