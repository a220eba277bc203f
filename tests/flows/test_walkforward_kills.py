"""A walk-forward killed at random and run again: the rows of an unbroken one."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flows.bodies.walkforward import run_walkforward
from lakehouse.clock import Clock
from lakehouse.store import Lake
from tests.flows.conftest import forget_settings, run_plainly
from tests.simulators import walks
from tests.simulators.flow_kills import kill_once
from tests.simulators.places import Place

pytestmark = pytest.mark.xdist_group("walk_kills")
WORDS = ["verb", "walkforward", "--train-days", str(walks.TRAIN_DAYS), "--workers", "2"]
# What an attempt writes about itself is told apart: its name and the clock's time.
TABLES = {
    "sleeve_returns": (),
    "wf_snapshots": (),
    "trials": (),
    "trial_returns": (),
    "gate_verdicts": (),
    "sleeves": ("run_id",),
    "production_sleeve_set": ("run_id",),
}


def lake_of(place: Place) -> Lake:
    return Lake.open(place.root, clock=Clock())


def content(place: Place, table: str) -> list[dict[str, object]]:
    found = lake_of(place).read(table).drop_columns(list(TABLES[table]))
    return sorted(found.to_pylist(), key=str)


def finished(place: Place) -> set[str]:
    rows = lake_of(place).read("wf_snapshots", columns=["sleeve_id"])
    return set(pc.unique(rows["sleeve_id"]).to_pylist())


def completed(place: Place) -> list[dict[str, object]]:
    rows: pa.Table = lake_of(place).read(
        "runs", filter=pc.field("flow") == "walk-forward"
    )
    return [row for row in rows.to_pylist() if row["status"] == "completed"]


@pytest.mark.parametrize(
    "n_kills",
    [pytest.param(2, id="few"), pytest.param(20, id="many", marks=pytest.mark.full)],
)
def test_a_walk_forward_killed_at_random_ends_with_the_rows_of_an_unbroken_run(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_kills: int
):
    walks.ingest(tmp_path / "bars")
    whole = Place(tmp_path / "whole", now=place.now)
    for name, value in whole.environment.items():
        monkeypatch.setenv(name, value)
    forget_settings()
    walks.ingest(tmp_path / "bars")
    run_plainly("walk-forward", run_walkforward, train_days=walks.TRAIN_DAYS, workers=1)

    dice = random.Random(n_kills)
    n_killed = 0
    before: set[str] = set()
    while not completed(place):
        before = finished(place)
        delay_s = dice.uniform(0.8, 2.8) if n_killed < n_kills else 120
        was_killed, said = kill_once(place, WORDS, delay_s=delay_s)
        assert said == ""
        n_killed += was_killed
        assert before <= finished(place)

    (run,) = completed(place)
    (unbroken,) = completed(whole)
    assert run["run_id"] == unbroken["run_id"]
    assert n_killed > n_kills // 4
    for table in TABLES:
        assert content(place, table) == content(whole, table), table
    # What an earlier attempt had finished was not worked on again, nor written.
    names = finished(place)
    counts = json.loads(str(run["counts"]))
    assert counts["sleeves_kept"] == len(before)
    assert counts["sleeves_walked"] == len(names - before)
    assert lake_of(place).version("wf_snapshots") == len(names)
