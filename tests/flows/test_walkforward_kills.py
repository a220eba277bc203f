"""A walk-forward killed at random and run again: the rows of an unbroken one."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lakehouse.clock import Clock
from lakehouse.store import Lake
from tests.flows.conftest import forget_settings
from tests.simulators import walks
from tests.simulators.flow_kills import kill_once
from tests.simulators.places import Place

pytestmark = pytest.mark.xdist_group("walk_kills")
WORDS = ["verb", "walkforward", *walks.PLAN, "--workers", "2"]
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
    [pytest.param(3, id="few"), pytest.param(20, id="many", marks=pytest.mark.full)],
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
    assert kill_once(whole, WORDS, delay_s=120) == (False, "")

    dice = random.Random(n_kills)
    n_killed = n_kept = 0
    while n_killed < n_kills and not completed(place):
        before = finished(place)
        was_killed, said = kill_once(place, WORDS, delay_s=dice.uniform(0.8, 2.8))
        assert "Traceback" not in said, said
        n_killed += was_killed
        assert before <= finished(place)
        n_kept = max(n_kept, len(before))
    before = finished(place)
    assert kill_once(place, WORDS, delay_s=120) == (False, "")

    (run,) = completed(place)
    assert run["run_id"] == completed(whole)[0]["run_id"]
    assert n_killed > n_kills // 4
    for table in TABLES:
        assert content(place, table) == content(whole, table), table
    # A finished sleeve is one commit, whatever was killed since.
    n_sleeves = len(finished(place))
    assert lake_of(place).version("wf_snapshots") == n_sleeves
