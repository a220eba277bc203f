"""`alphalake evolve` is a job: seeded, gone on with after a kill, never done twice."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from flows.bodies.evolve import run_evolve
from flows.bodies.ingest import ingest_bars
from flows.bodies.sleeve_registry import NewSleeve, register_sleeves
from flows.bodies.walkforward import run_walkforward
from flows.runs import Run
from flows.wiring import open_workplace
from lab.errors import EvolutionError
from lab.evolution.genome import from_text
from lab.evolution.sleeve import GenomeSleeve, sleeve_from
from tests.flows.conftest import NOW, forget_settings, run_plainly
from tests.simulators.flow_kills import kill_once
from tests.simulators.places import Place

pytestmark = pytest.mark.xdist_group("evolve")

TABLES = (
    "genomes",
    "trials",
    "trial_returns",
    "gate_verdicts",
    "decision_records",
    "sleeves",
    "sleeve_transitions",
)
SMALL = {"population": 6, "generations": 2}
KILLS = [
    pytest.param(3, id="few"),
    pytest.param(20, id="many", marks=pytest.mark.full),
]


def rows(table):
    """Everything stored, sorted: the order of commits is no content."""
    found = open_workplace().lake.read(table).to_pylist()
    return sorted(found, key=lambda row: json.dumps(row, sort_keys=True, default=str))


def everything():
    return {table: rows(table) for table in TABLES}


@pytest.fixture
def bars(workplace):
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    return workplace


@pytest.fixture
def at(tmp_path, monkeypatch):
    """Go to a place of one's own by name, with bars in it."""

    def go(name):
        place = Place(tmp_path / name, now=NOW)
        is_new = not place.folder.exists()
        place.folder.mkdir(exist_ok=True)
        for key, value in place.environment.items():
            monkeypatch.setenv(key, value)
        forget_settings()
        if is_new:
            assert place.verb("keys", "init").returncode in {0, 2}
            run_plainly("ingest-ohlcv", ingest_bars, source="sample")
        return place

    yield go
    forget_settings()


@pytest.mark.usefixtures("bars")
def test_a_cycle_keeps_its_genealogy_trials_verdicts_and_decision():
    done = run_plainly("evolve", run_evolve, **SMALL)
    genomes, trials = rows("genomes"), rows("trials")
    assert done.run_id.startswith("evolve-")
    assert {row["run_id"] for row in (*genomes, *trials)} == {done.run_id}
    assert {row["origin"] for row in trials} == {"evolution"}
    assert len({row["family"] for row in trials}) == 1
    assert {row["trial_id"] for row in genomes} == {row["trial_id"] for row in trials}
    by_trial = {row["trial_id"]: row for row in trials}
    known = {row["genome_id"] for row in genomes}
    for row in genomes:
        genome = from_text(row["configuration"])
        trial = by_trial[row["trial_id"]]
        assert genome.genome_id == row["genome_id"]
        assert sleeve_from(trial["configuration"]).genome == genome
        if trial["sharpe"] is None:
            assert row["fitness"] is None
        else:
            assert row["fitness"] == pytest.approx(trial["sharpe"], rel=1e-9)
        assert set(json.loads(row["parents"])) <= known
    assert sorted(row["place"] for row in genomes) == list(range(len(genomes)))

    verdicts = rows("gate_verdicts")
    assert len(verdicts) == 3 * done.counts["judged"] == 6
    dsr = [json.loads(row["inputs"]) for row in verdicts if row["gate"] == "dsr"]
    assert {one["n_trials"] for one in dsr} == {len(trials)}
    (record,) = rows("decision_records")
    assert record["agent_id"] == "evolution"
    assert json.loads(record["output"]) == {"candidates": []}
    assert rows("sleeves") == []
    assert f"{len(trials)} trials" in done.message


@pytest.mark.usefixtures("bars")
def test_a_repeat_does_nothing_and_another_seed_goes_on_from_it():
    first = run_plainly("evolve", run_evolve, **SMALL)
    kept = everything()
    again = run_plainly("evolve", run_evolve, **SMALL)
    assert again.run_id == first.run_id
    assert "was done already" in again.message
    assert everything() == kept

    second = run_plainly("evolve", run_evolve, seed=1, **SMALL)
    assert second.run_id != first.run_id
    genomes = rows("genomes")
    old = {row["genome_id"] for row in genomes if row["cycle"] == 1}
    new = {row["genome_id"] for row in genomes if row["cycle"] == 2}
    assert old
    assert new
    assert not old & new
    parents = {
        name
        for row in genomes
        if row["cycle"] == 2 and row["generation"] == 1
        for name in json.loads(row["parents"])
    }
    assert parents & old
    dsr = [json.loads(r["inputs"]) for r in rows("gate_verdicts") if r["gate"] == "dsr"]
    assert max(one["n_trials"] for one in dsr) == len(rows("trials"))


@pytest.mark.usefixtures("bars")
def test_a_later_span_tries_every_earlier_genome_again():
    run_plainly("evolve", run_evolve, as_of="2018-06-01", **SMALL)
    earlier = {row["genome_id"] for row in rows("genomes")}
    run_plainly("evolve", run_evolve, as_of="2018-09-01", **SMALL)
    found = [row for row in rows("genomes") if row["cycle"] == 2]
    inherited = {row["genome_id"] for row in found if row["operator"] == "inherited"}
    assert inherited == earlier
    assert {row["generation"] for row in found if row["genome_id"] in earlier} == {0}
    family = {row["family"] for row in found}
    assert len(family) == 1
    n_trials = sum(row["family"] in family for row in rows("trials"))
    assert n_trials == len(found)


@pytest.mark.usefixtures("bars")
def test_a_bred_sleeve_is_judged_on_later_days_among_all_that_it_was_chosen_from():
    run_plainly("evolve", run_evolve, as_of="2018-06-01", **SMALL)
    bred = {row["sleeve_id"]: row["configuration"] for row in rows("genomes")}
    chosen = GenomeSleeve(from_text(bred[min(bred)]))
    entry = NewSleeve(chosen.sleeve_id, chosen.configuration, "evolution")
    register_sleeves(Run(open_workplace(), "evolve", "evolve-1"), [entry])
    asked = {"sleeves": [chosen.sleeve_id], "as_of": "2018-09-01", "workers": 1}
    done = run_plainly("walk-forward", run_walkforward, **asked)
    family = done.parameters["family"]
    tried = [r["configuration"] for r in rows("trials") if r["family"] == family]
    assert {json.loads(one)["sleeve"] for one in tried} == {"phase37", *bred}
    counted = [
        json.loads(row["inputs"])["n_trials"]
        for row in rows("gate_verdicts")
        if row["subject"] == chosen.sleeve_id
        and json.loads(row["inputs"])["family"] == family
    ]
    assert counted == [len(bred) + 1] * 3
    # The search that goes on there finds them tried.
    later = run_plainly("evolve", run_evolve, as_of="2018-09-01", **SMALL)
    fresh = {row["sleeve_id"] for row in rows("genomes")} - set(bred)
    assert later.counts["trials"] == len(fresh)


def test_the_rows_are_the_same_on_more_processes(at):
    kept = {}
    for workers in (1, 2):
        at(f"workers-{workers}")
        run_plainly("evolve", run_evolve, population=12, workers=workers)
        kept[workers] = everything()
    assert kept[1]["genomes"]
    assert kept[1] == kept[2]


@pytest.mark.full
def test_the_rows_are_the_same_on_ray(at):
    kept = {}
    for ray in (None, "local"):
        at(f"ray-{ray}")
        run_plainly("evolve", run_evolve, ray=ray, workers=2, population=12)
        kept[ray] = everything()
    assert kept["local"] == kept[None]


@pytest.mark.parametrize("n_kills", KILLS)
def test_a_killed_cycle_ends_with_the_rows_of_an_unbroken_one(at, n_kills):
    words = ["evolve", "--population", "8", "--generations", "4"]
    at("unbroken")
    run_plainly("evolve", run_evolve, population=8, generations=4)
    expected = everything()

    place = at("killed")
    rng = random.Random(5)
    was_killed, longest_s = 0, 1.5
    for _ in range(n_kills):
        delay_s = rng.uniform(0.1, longest_s)
        is_killed, said = kill_once(place, ["verb", *words], delay_s=delay_s)
        was_killed += is_killed
        assert is_killed or not said, said
    run_plainly("evolve", run_evolve, population=8, generations=4)
    assert was_killed > n_kills // 3
    assert everything() == expected


def write_trend(path: Path) -> None:
    """Write random walks of eight instruments; the last one's drift turns at times."""
    rng = np.random.default_rng(0)
    moves = 0.02 * rng.standard_normal((1500, 8))
    moves[:, -1] += 0.02 * np.repeat(rng.choice([-1.0, 1.0], size=15), 100)
    closes = 100 * np.exp(np.cumsum(moves, axis=0))
    opens = np.vstack([np.full(8, 100.0), closes[:-1]])
    days = np.datetime64("2014-06-01") + np.arange(1500)
    lines = ["symbol,ts,open,high,low,close,volume"]
    for column in range(8):
        for day, o, c in zip(days, opens[:, column], closes[:, column], strict=True):
            prices = f"{o:.6f},{max(o, c):.6f},{min(o, c):.6f},{c:.6f}"
            lines.append(f"C{column},{day}T00:00:00Z,{prices},1")
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.usefixtures("workplace")
def test_a_genome_that_passes_every_gate_enters_genesis_and_is_walked(tmp_path):
    write_trend(tmp_path / "bars.csv")
    run_plainly(
        "ingest-ohlcv",
        ingest_bars,
        source="files",
        path=str(tmp_path / "bars.csv"),
        timeframe="1d",
        options={"asset_class": "crypto"},
    )
    done = [run_plainly("evolve", run_evolve, generations=2, seed=s) for s in (0, 1)]
    entered = {row["sleeve_id"]: row for row in rows("sleeves")}
    assert len(entered) == sum(one.counts["candidates"] for one in done) > 0
    assert {row["stage"] for row in entered.values()} == {"genesis"}
    assert {row["author"] for row in entered.values()} == {"evolution"}
    marked = {row["sleeve_id"] for row in rows("genomes") if row["is_candidate"]}
    assert set(entered) == marked
    verdicts = {row["verdict_id"]: row for row in rows("gate_verdicts")}
    for row in rows("sleeve_transitions"):
        named = json.loads(row["evidence"])["verdicts"]
        assert set(named) == {"dsr", "reality_check", "pbo"}
        assert all(verdicts[one]["is_passed"] for one in named.values())

    name = sorted(entered)[0]
    (trial,) = (row for row in rows("trials") if name in row["configuration"])
    run_plainly("walk-forward", run_walkforward, sleeves=[name], workers=1)
    assert {row["sleeve_id"] for row in rows("wf_snapshots")} == {name, "phase37"}
    # What is walked is the trial that it was in the search.
    assert [row for row in rows("trials") if name in row["configuration"]] == [trial]


@pytest.mark.usefixtures("bars")
def test_what_cannot_be_searched_is_refused_and_leaves_nothing():
    with pytest.raises(EvolutionError, match="population 2, generations 1"):
        run_plainly("evolve", run_evolve, population=2)
    assert rows("genomes") == rows("trials") == []


@pytest.mark.market
@pytest.mark.full
def test_one_cycle_on_the_real_daily_panel_takes_less_than_five_minutes(
    market: Path, tmp_path, monkeypatch
):
    place = Place(tmp_path, now="2021-03-01T00:00:00+00:00")
    for key, value in place.environment.items():
        monkeypatch.setenv(key, value)
    forget_settings()
    run_plainly(
        "ingest-ohlcv",
        ingest_bars,
        source="files",
        path=str(market / "ohlcv_1d.parquet"),
        timeframe="1d",
    )
    done = run_plainly("evolve", run_evolve)
    assert done.counts["genomes"] >= 20
    (seconds,) = {
        row["value"]
        for row in rows("telemetry")
        if row["name"] == "evolve.seconds" and row["run_id"] == done.run_id
    }
    assert seconds < 300
    forget_settings()
