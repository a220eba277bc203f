"""A model is registered once, whoever trains it and however often he is killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from flows.bodies.checkpoints import register_version
from flows.bodies.maintain import maintain_tables
from flows.bodies.model_registry import (
    load_files,
    read_chain,
    read_registry,
    settle,
    verify_models,
)
from flows.bodies.promotion import run_promote
from flows.wiring import open_workplace
from lab.errors import CheckpointError
from lab.lifecycle.chain import verify_chain
from lakehouse.errors import RefusedError
from tests.flows.conftest import forget_settings, run_plainly
from tests.simulators.models import enter, new_run, ridge
from tests.simulators.places import REPOSITORY, Place, bare_environment

DERIVED = ("model_versions", "decision_records")


def model_file(place: Place, version: str, name: str = "model.json") -> Path:
    return Path(place.root) / "models" / "winprob" / version / name


def check_derived() -> int:
    """Require that the tables say what the chain says, once each; return the versions."""
    lake = open_workplace().lake
    chain = read_chain(lake)
    assert verify_chain(chain) is None
    registry = read_registry(lake)
    stored = {row["version"]: row for row in lake.read("model_versions").to_pylist()}
    assert len(stored) == lake.read("model_versions").num_rows
    assert {name: row["stage"] for name, row in stored.items()} == {
        one.version: one.stage for one in registry.by_key.values()
    }
    records = lake.read("decision_records").to_pylist()
    seqs = sorted(json.loads(row["output"])["chain"]["seq"] for row in records)
    assert seqs == list(range(chain.num_rows))
    assert verify_models(lake) == chain.num_rows
    return len(stored)


def test_a_version_is_entered_once_with_its_manifest_and_its_record(place: Place):
    run = new_run()
    run.seeds["training"] = 7
    run.tables_read["bot_orders"] = 3
    first = enter("a", run=run)
    before = {name: open_workplace().lake.version(name) for name in DERIVED}
    again = enter("a", auc=0.1)
    lake = open_workplace().lake
    assert {name: lake.version(name) for name in DERIVED} == before
    assert again == first
    assert first.stage == "Staging"
    assert first.metrics == {"auc": 0.6, "brier": 0.24, "unknown": None}
    assert first.manifest["seeds"] == {"training": 7}
    assert first.manifest["tables_read"] == {"bot_orders": 3}
    for name in ("code_commit", "lock_hash", "environment", "parameters", "sha256"):
        assert name in first.manifest
    assert load_files(lake, first) == {"model.json": ridge("a")}
    assert check_derived() == 1


def test_a_version_below_its_thresholds_is_registered_at_none(place: Place):
    assert enter("bad", auc=0.4).stage == "None"
    registry = read_registry(open_workplace().lake)
    assert registry.challenger("winprob") is None
    (row,) = read_chain(open_workplace().lake).to_pylist()
    assert json.loads(row["evidence"])["missed"] == ["auc >= 0.5"]


def test_forecasters_stay_registered_at_none_beside_models(place: Place):
    card = {"sha256": {"weights": "0" * 64}, "metrics": {}}
    register_version(new_run("forecast"), "kronos", "k1", card, cutoff=None)
    trained = enter("a")
    run_promote(new_run("promote"), model="winprob", version=trained.version, why="so")
    register_version(new_run("forecast"), "kronos", "k2", card, cutoff=None)
    lake = open_workplace().lake
    found = {
        (row["model_name"], row["version"]): row["stage"]
        for row in lake.read("model_versions").to_pylist()
    }
    assert found == {
        ("kronos", "k1"): "None",
        ("kronos", "k2"): "None",
        ("winprob", trained.version): "Production",
    }
    assert read_registry(lake).model_names == ("winprob",)
    assert verify_models(lake) == 2


def test_what_cannot_be_kept_is_refused_and_registers_nothing(place: Place):
    with pytest.raises(CheckpointError, match="small letters"):
        enter("a", model="Win Prob")
    with pytest.raises(CheckpointError, match="files are missing"):
        enter("a", files={})
    assert open_workplace().lake.read("model_events").num_rows == 0


@pytest.mark.parametrize("harm", ["altered", "missing", "swapped"])
def test_a_corrupt_model_file_is_refused_by_hash(place: Place, harm: str):
    one, other = enter("a"), enter("b")
    path = model_file(place, one.version)
    if harm == "altered":
        path.write_bytes(path.read_bytes()[:-1] + b" ")
    elif harm == "missing":
        path.unlink()
    else:  # another version's files and card under this one's name
        card = json.loads(model_file(place, other.version, "card.json").read_text())
        path.write_bytes(ridge("b"))
        card["version"] = one.version
        model_file(place, one.version, "card.json").write_text(json.dumps(card))
    lake = open_workplace().lake
    with pytest.raises(RefusedError, match=f"winprob {one.version}: refused: .*"):
        load_files(lake, one)
    with pytest.raises(RefusedError, match="refused"):
        verify_models(lake)
    with pytest.raises(RefusedError, match="refused"):
        run_promote(new_run(), model="winprob", version=one.version, why="so")
    assert read_registry(lake).champion("winprob") is None
    assert load_files(lake, other) == {"model.json": ridge("b")}


def start_trainer(place: Place, names: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.simulators.models", *names],
        cwd=REPOSITORY,
        env={**bare_environment(), **place.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    "n_kills",
    [pytest.param(4, id="few"), pytest.param(60, id="many", marks=pytest.mark.full)],
)
def test_a_killed_training_leaves_the_registry_as_it_was(place: Place, n_kills: int):
    dice, n_killed, told = Random(5), 0, set[str]()
    for number in range(n_kills):
        trainer = start_trainer(place, [f"m{number}-{one}" for one in range(30)])
        try:
            trainer.wait(timeout=dice.uniform(0.0, 1.2))
        except subprocess.TimeoutExpired:
            os.kill(trainer.pid, signal.SIGKILL)
        said, errors = trainer.communicate(timeout=60)
        assert "Traceback" not in errors, errors
        n_killed += trainer.returncode == -signal.SIGKILL
        told |= set(said.split("\n")[:-1])
        lake = open_workplace().lake
        versions = read_registry(lake).versions("winprob")
        registered = {one.version for one in versions}
        # Each that was told is there; of the one that was cut off, all or nothing.
        assert told <= registered
        assert len(registered - told) <= 1
        told = registered
        for one in versions:
            assert load_files(lake, one)
    assert n_killed > n_kills // 4
    settle(new_run())
    assert check_derived() == len(told)
    enter("last")
    assert check_derived() == len(told) + 1


def test_two_trainers_cannot_fork_the_chain(place: Place):
    names = [f"shared-{n}" for n in range(3)]
    trainers = [
        start_trainer(place, [*names, *(f"{who}-{n}" for n in range(3))])
        for who in ("one", "two")
    ]
    for trainer in trainers:
        _, said = trainer.communicate(timeout=120)
        assert trainer.returncode == 0, said
    assert check_derived() == 3 + 6


def test_a_cut_or_altered_chain_is_refused_by_name(place: Place):
    one = enter("a")
    folder = Path(place.root) / "tables" / "model_events"
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    folder.rmdir()
    missing = "table model_events: row 0: missing: the chain reached row 0"
    with pytest.raises(RefusedError, match=missing):
        enter("b")
    with pytest.raises(RefusedError, match=missing):
        run_promote(new_run(), model="winprob", version=one.version, why="so")


def test_a_row_of_model_versions_that_was_altered_is_found(place: Place):
    enter("a")
    lake = open_workplace().lake
    row = lake.read("model_versions")
    forged = row.set_column(
        row.schema.get_field_index("metrics"), "metrics", [['{"auc":0.99}']]
    )
    lake.upsert("model_versions", forged)
    with pytest.raises(RefusedError, match=r"model_versions: winprob .* altered"):
        verify_models(open_workplace().lake)
    enter("b")  # the next writer makes it anew
    assert check_derived() == 2


@pytest.mark.parametrize(
    "forged",
    [{"version": "f"}, {"model_name": "kronos", "version": "f", "stage": "Production"}],
)
def test_a_row_of_model_versions_that_nobody_registered_is_found(
    place: Place, forged: dict[str, str]
):
    enter("a")
    stored = open_workplace().lake.read("model_versions")
    row = stored.to_pylist()[0] | forged
    open_workplace().lake.upsert(
        "model_versions", pa.Table.from_pylist([row], schema=stored.schema)
    )
    with pytest.raises(RefusedError, match="f: no row of model_events registers it"):
        verify_models(open_workplace().lake)


def test_verify_proves_model_events(workplace, place: Place):
    one = enter("a")
    done = place.verb("verify")
    assert done.returncode == 0, done.stderr
    assert "model_events: 1 rows, chain whole" in done.stdout
    model_file(place, one.version).write_bytes(b"{}")
    done = place.verb("verify")
    assert done.returncode == 1
    assert "model.json is altered" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_models_that_may_be_rolled_back_to_are_never_pruned(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    old = [enter(name) for name in ("a", "b")]
    poor = enter("poor", auc=0.1)
    for one in old:
        run_promote(new_run(), model="winprob", version=one.version, why="so")
    enter("newest")
    monkeypatch.setenv("ALPHALAKE_NOW", "2020-01-01T00:00:00+00:00")
    forget_settings()
    done = run_plainly("maintain", maintain_tables)
    assert done.counts["checkpoints_pruned"] == 1
    assert not model_file(place, poor.version).exists()
    lake = open_workplace().lake
    for one in read_registry(lake).archived("winprob"):
        assert load_files(lake, one)
    assert verify_models(lake) > 0
