"""The walk-forward flow: what it writes, once, and what it says."""

import importlib
import json
import re
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import lab.sleeves
from flows.bodies.candidates import resolve_sleeve
from flows.bodies.ingest import ingest_bars
from flows.bodies.market_panel import append_trials, content_hash, open_panel
from flows.bodies.replay import replay_run
from flows.bodies.sleeve_registry import NewSleeve, register_sleeves
from flows.bodies.walk_job import Broken, walk_unit
from flows.bodies.walkforward import run_walkforward
from flows.runs import Outcome, Run
from flows.wiring import open_workplace
from lab.backtest.ledger import Trial, TrialMatrix
from lab.backtest.walkforward import WalkForwardPlan
from lab.errors import BacktestError, SleeveError
from lab.evolution.alphabet import Scope
from lab.evolution.breeding import random_genome
from lab.evolution.sleeve import GenomeSleeve
from lab.lifecycle.gather import speakers
from lab.sleeves.catalogue import sleeves
from lab.sleeves.phase37 import Phase37
from lakehouse.errors import InputError
from lakehouse.query import connect
from tests.flows.conftest import forget_settings, run_plainly
from tests.lab.sleeves.panels import panel
from tests.simulators import walks
from tests.simulators.places import Place

SHORT = {"train_days": walks.TRAIN_DAYS, "workers": 1}
FEW = ["rsi-reversion", "time-series-momentum"]
FOLLOWERS = "follow-chronos2, follow-ensemble, follow-kronos: skipped, no 1d forecasts"


@pytest.fixture
def bars(place: Place, tmp_path: Path) -> Place:
    walks.ingest(tmp_path / "bars")
    return place


def walked(**changed: object) -> Outcome:
    asked = {"sleeves": FEW} | SHORT | changed
    return run_plainly("walk-forward", run_walkforward, **asked)


def rows(table: str) -> pa.Table:
    return open_workplace().lake.read(table)


def test_the_whole_catalogue_is_walked_judged_and_registered(bars: Place):
    done = walked(sleeves=None)
    names = sorted(
        name
        for name, made in sleeves().items()
        if not made.needs and "1d" in made.timeframes
    )
    assert done.counts["sleeves_walked"] == len(names)
    assert any(note.startswith(FOLLOWERS) for note in done.notes)
    assert any(note.startswith("gates: ") for note in done.notes)
    snapshots, returns = rows("wf_snapshots"), rows("sleeve_returns")
    assert sorted(pc.unique(snapshots["sleeve_id"]).to_pylist()) == names
    assert sorted(pc.unique(snapshots["slippage_bps"]).to_pylist()) == [0, 5, 10, 20]
    assert set(returns["run_id"].to_pylist()) == {done.run_id}
    assert returns.num_rows % (4 * len(names)) == 0
    matrix = TrialMatrix.from_tables(rows("trials"), rows("trial_returns"))
    n_variants = {name: len(sleeves()[name].variants()) for name in names}
    n_tried = sum(n + (n > 1) for n in n_variants.values())
    assert matrix.n_trials == n_tried == done.counts["trials"]
    assert set(rows("trials")["origin"].to_pylist()) == {"walkforward"}
    assert sorted(rows("sleeves")["sleeve_id"].to_pylist()) == names
    assert rows("gate_verdicts").num_rows == 3 * len(names)
    with connect(bars.root) as session:
        (shown,) = session.sql(
            "SELECT count(*) AS n, count(DISTINCT sleeve_id) AS sleeves"
            " FROM sleeve_returns_v1"
        ).rows()
    assert shown == {"n": returns.num_rows, "sleeves": len(names)}


def test_the_gates_judge_the_series_that_the_ledger_has(bars: Place):
    walked()
    matrix = TrialMatrix.from_tables(rows("trials"), rows("trial_returns"))
    of_sleeve = pc.and_(
        pc.equal(rows("sleeve_returns")["sleeve_id"], "rsi-reversion"),
        pc.equal(rows("sleeve_returns")["slippage_bps"], 10.0),
    )
    net = rows("sleeve_returns").filter(of_sleeve)["return_net"].to_numpy()
    stitched = next(
        k
        for k, text in enumerate(matrix.configurations)
        if "walk_forward" in text and "rsi-reversion" in text
    )
    np.testing.assert_allclose(
        matrix.returns[stitched], net[: matrix.n_days], rtol=1e-6, atol=1e-12
    )
    assert matrix.n_days < len(net)  # the newest window is still growing


def test_asking_again_is_the_same_job_and_writes_nothing(bars: Place):
    first = walked()
    lake = open_workplace().lake
    tables = ("sleeve_returns", "wf_snapshots", "trials", "gate_verdicts", "sleeves")
    before = [lake.version(table) for table in tables]
    again = walked(workers=2)
    assert again.run_id == first.run_id
    assert "complete already" in again.message
    assert [lake.version(table) for table in tables] == before
    assert (
        rows("runs").filter(pc.equal(rows("runs")["run_id"], first.run_id)).num_rows
        == 1
    )


def test_the_moment_of_the_newest_bar_is_the_same_job_whenever_it_is_asked(
    bars: Place, monkeypatch: pytest.MonkeyPatch
):
    first = walked()
    newest = first.parameters["as_of"]
    assert newest == str((walks.BEGIN + timedelta(days=walks.N_DAYS)).isoformat())
    assert walked(as_of=newest).run_id == first.run_id
    other = walked(as_of=(walks.BEGIN + timedelta(days=590)).isoformat())
    assert other.run_id != first.run_id


def test_a_series_that_nobody_trades_does_not_say_when_the_newest_bar_was(
    bars: Place, tmp_path: Path
):
    before = open_panel(
        Run(open_workplace(), "walk-forward", "r"), timeframe="1d", as_of=None, years=1
    )
    lines = ["symbol,ts,open,high,low,close,volume"]
    for day in range(walks.N_DAYS + 60):
        ts = walks.BEGIN + timedelta(days=day)
        lines.append(f"VIX,{ts:%Y-%m-%dT%H:%M:%SZ},20,21,19,20,0")
    file = tmp_path / "VIX.csv"
    file.write_text("\n".join(lines) + "\n")
    run_plainly(
        "ingest-ohlcv",
        ingest_bars,
        source="files",
        path=str(file),
        timeframe="1d",
        options={"asset_class": "crypto"},
    )
    run = Run(open_workplace(), "walk-forward", "r")
    panel = open_panel(run, timeframe="1d", as_of=None, years=1)
    newest = walks.BEGIN + timedelta(days=walks.N_DAYS)
    assert run.parameters["as_of"] == newest.isoformat()
    assert content_hash(panel) == content_hash(before)
    # Nor does it move the years that are read back from a later moment.
    later = (newest + timedelta(days=50)).isoformat()
    panel = open_panel(run, timeframe="1d", as_of=later, years=1)
    assert content_hash(panel) == content_hash(before)
    named = open_panel(run, timeframe="1d", as_of=None, years=1, symbols=["VIX"])
    assert named.ts[-1] > panel.ts[-1]


def test_processes_write_the_rows_of_one_process(
    bars: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one = walked()
    found = rows("sleeve_returns").sort_by(
        [("sleeve_id", "ascending"), ("slippage_bps", "ascending"), ("ts", "ascending")]
    )
    other = Place(tmp_path / "other", now=bars.now)
    for name, value in other.environment.items():
        monkeypatch.setenv(name, value)
    forget_settings()
    walks.ingest(tmp_path / "bars")
    two = walked(workers=2)
    assert two.run_id == one.run_id
    again = rows("sleeve_returns").sort_by(
        [("sleeve_id", "ascending"), ("slippage_bps", "ascending"), ("ts", "ascending")]
    )
    assert again.equals(found)


def test_a_later_run_says_what_got_worse_and_keeps_the_ledger_of_the_month(
    bars: Place, tmp_path: Path
):
    early = (walks.BEGIN + timedelta(days=596)).isoformat()
    first = walked(as_of=early)
    second = walked()
    assert second.counts.get("trials", 0) == 0  # the same complete windows
    assert second.parameters["family"] == first.parameters["family"]
    assert any(note.startswith(f"against {first.run_id}") for note in second.notes)
    with connect(bars.root) as session:
        found = session.sql("SELECT * FROM wf_degradation").rows()
    assert {row["run_id"] for row in found} == {second.run_id}
    assert {row["run_id_before"] for row in found} == {first.run_id}
    assert len(found) == 3 * 4
    one = next(
        r for r in found if r["sleeve_id"] == "phase37" and r["slippage_bps"] == 5
    )
    own = {
        run_id: rows("sleeve_returns")
        .filter(
            pc.and_(
                pc.equal(rows("sleeve_returns")["run_id"], run_id),
                pc.and_(
                    pc.equal(rows("sleeve_returns")["sleeve_id"], "phase37"),
                    pc.equal(rows("sleeve_returns")["slippage_bps"], 5.0),
                ),
            )
        )
        .sort_by("ts")["return_net"]
        .to_numpy()
        for run_id in (first.run_id, second.run_id)
    }
    old, new = own[first.run_id], own[second.run_id]
    np.testing.assert_allclose(new[: len(old)], old, atol=1e-15)
    since = np.prod(1 + new[len(old) :]) - 1
    assert one["return_since"] == pytest.approx(since, abs=1e-12)
    sharpe = new.mean() / new.std(ddof=1) * np.sqrt(365.25)
    assert one["sharpe"] == pytest.approx(sharpe, rel=1e-6)
    assert one["change"] == pytest.approx(one["sharpe"] - one["sharpe_before"])


def test_a_replay_gives_every_number_again(bars: Place):
    done = walked()
    report = replay_run(open_workplace(), done.run_id)
    n_rows = rows("sleeve_returns").num_rows + rows("wf_snapshots").num_rows
    assert report.is_equal
    assert report.n_rows == n_rows
    assert report.n_numbers > n_rows


def test_a_bred_sleeve_of_the_registry_is_walked_beside_the_catalogue(bars: Place):
    genome = GenomeSleeve(random_genome(np.random.default_rng(1), Scope(("crypto",))))
    entry = NewSleeve(genome.sleeve_id, genome.configuration, "evolution")
    register_sleeves(Run(open_workplace(), "evolve", "evolve-1"), [entry])
    done = walked(sleeves=[genome.sleeve_id])
    assert done.parameters["sleeves"] == ["phase37", genome.sleeve_id]
    names = set(rows("wf_snapshots")["sleeve_id"].to_pylist())
    assert names == {"phase37", genome.sleeve_id}
    assert genome.configuration in rows("trials")["configuration"].to_pylist()


def test_a_configuration_is_the_sleeve_that_it_was_written_by():
    for name, made in sleeves().items():
        for one in made.variants()[:3]:
            again = resolve_sleeve(one.configuration)
            assert again.sleeve_id == name
            assert again == one
    assert resolve_sleeve(Phase37().configuration) == Phase37()
    with pytest.raises(InputError, match="no JSON of a sleeve"):
        resolve_sleeve("[]")
    with pytest.raises(InputError, match="no JSON of a sleeve"):
        resolve_sleeve("{")
    with pytest.raises(SleeveError, match="no sleeve 'nobody'"):
        resolve_sleeve('{"sleeve": "nobody", "parameters": {}}')


def test_a_ladder_without_the_judged_rung_is_walked_and_not_judged(bars: Place):
    done = walked(slippage="0,20")
    assert any("they need the rung of 10 bps" in note for note in done.notes)
    assert sorted(set(rows("wf_snapshots")["slippage_bps"].to_pylist())) == [0, 20]
    assert rows("gate_verdicts").num_rows == 0
    assert rows("trials").num_rows == done.counts["trials"]


def test_a_part_of_the_sleeves_or_another_plan_speaks_for_no_sleeve(place: Place):
    run_plainly("ingest-ohlcv", ingest_bars, source="sample", timeframe="1d")
    whole = run_plainly("walk-forward", run_walkforward, workers=1)
    assert whole.parameters["is_standard"]
    part = run_plainly("walk-forward", run_walkforward, sleeves=FEW, workers=1)
    other = run_plainly("walk-forward", run_walkforward, train_days=365, workers=1)
    for one in (part, other):
        assert not one.parameters["is_standard"]
        assert "it is kept, but moves no sleeve" in one.notes[-1]
    ended = rows("runs"), rows("wf_snapshots")
    asked = {"as_of": open_workplace().clock.now(), "timeframe": "1d"}
    found = speakers(*ended, **asked)
    assert {one.run_id for one in found.values()} == {whole.run_id}
    with connect(open_workplace().root) as session:
        shown = session.sql("SELECT DISTINCT run_id FROM sleeve_returns_v1").rows()
    assert [row["run_id"] for row in shown] == [whole.run_id]


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"sleeves": ["nobody"]}, InputError, "--sleeves: no sleeve nobody; one of"),
        ({"slippage": "five"}, InputError, "--slippage five: numbers of basis points"),
        ({"slippage": "5,5"}, BacktestError, "different numbers"),
        ({"as_of": "soon"}, InputError, "--as-of"),
        ({"as_of": "2019-01-01T00:00:00Z"}, InputError, "later than now"),
        ({"as_of": "2010-01-01T00:00:00Z"}, InputError, "no 1d bars known by 2010"),
        ({"timeframe": "1h"}, InputError, "no 1h bars known by"),
        ({"train_days": 900}, BacktestError, "too short for 900 days of train"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    bars: Place, wrong: dict[str, object], error: type[Exception], words: str
):
    with pytest.raises(error, match=words):
        walked(**wrong)
    assert rows("sleeve_returns").num_rows == 0


def test_a_panel_knows_nothing_after_its_moment(bars: Place):
    run = Run(open_workplace(), "walk-forward", "r")
    moment = walks.BEGIN + timedelta(days=500)
    panel = open_panel(run, timeframe="1d", as_of=moment.isoformat(), years=8)
    whole = open_panel(run, timeframe="1d", as_of=None, years=8)
    assert panel.known_ts[-1] <= np.datetime64(moment.replace(tzinfo=None))
    assert content_hash(panel) == content_hash(whole.until(panel.n_obs))
    assert content_hash(panel) != content_hash(whole)
    some = open_panel(
        run, timeframe="1d", as_of=None, years=8, symbols=list(walks.SYMBOLS[:2])
    )
    assert some.symbols == walks.SYMBOLS[:2]
    with pytest.raises(InputError, match="no 1d bars of ZZZ"):
        open_panel(run, timeframe="1d", as_of=None, years=8, symbols=["ZZZ", "AAAUSDT"])


def test_a_trial_is_entered_once_whoever_tries_it_again(place: Place):
    days = np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]").astype(
        "datetime64[us]"
    )
    rng = np.random.default_rng(0)
    trials = [Trial(json.dumps({"n": k}), rng.normal(size=len(days))) for k in range(4)]
    asked = {"family": "f", "origin": "tests", "days": days}
    first = Run(open_workplace(), "evolve", "r1")
    assert append_trials(first, trials[:3], **asked) == 3
    again = Run(open_workplace(), "tune", "r2")
    assert append_trials(again, [*trials, trials[0]], **asked) == 1
    assert append_trials(again, trials, **asked) == 0
    # A revised bar does not rewrite what was found on the family's days.
    assert (
        append_trials(
            again, [Trial(trials[0].configuration, days.astype(float))], **asked
        )
        == 0
    )
    assert rows("trials").num_rows == rows("trial_returns").num_rows == 4
    assert sorted(rows("trials")["run_id"].to_pylist()) == ["r1", "r1", "r1", "r2"]


BAD = """
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lab.sleeves._base import Sleeve, ranged


@dataclass(frozen=True)
class Mine(Sleeve):
    sleeve_id: ClassVar[str] = "mine"
    lookback: int = ranged({default}, 2, 50, tried=(5, 6))

    def positions(self, panel):
        close = np.nan_to_num(panel.close)
        {body}
"""


@pytest.fixture
def own_sleeve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Add a user's file to the catalogue while the test runs."""

    def add(source: str) -> None:
        (tmp_path / "mine.py").write_text(source, encoding="utf-8")
        importlib.invalidate_caches()

    monkeypatch.setattr(lab.sleeves, "__path__", [*lab.sleeves.__path__, str(tmp_path)])
    yield add
    sys.modules.pop("lab.sleeves.mine", None)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise KeyError('two\\nlines')", "KeyError: "),
        ("return np.full(close.shape, np.nan)", "positions must be finite"),
        ("return np.zeros(3)", r"positions of shape \(3,\)"),
        ("return None", "AttributeError: "),
        ("return np.full(close.shape, 2.0)", "add up to more than 1"),
        (
            "return np.sign(np.roll(close, -1, axis=0) - close) / panel.n_assets",
            "leaks: weights of ....-..-.. are others",
        ),
    ],
)
def test_what_is_wrong_with_a_sleeve_is_its_result(own_sleeve, body: str, told: str):
    own_sleeve(BAD.format(default=5, body=body))
    plan = WalkForwardPlan(train_days=60, years=1)
    noise = np.random.default_rng(0).normal(0, 0.02, (300, 2))
    bars = panel(100 * np.exp(np.cumsum(noise, axis=0)))
    found = walk_unit((bars, plan), sleeves()["mine"].variants())
    assert isinstance(found, Broken)
    assert found.sleeve_id == "mine"
    assert re.search(told, found.reason)
    assert "\n" not in found.reason


def test_a_broken_sleeve_is_left_out_and_told_and_the_others_run(
    bars: Place, own_sleeve
):
    own_sleeve(BAD.format(default=5, body="raise ValueError('no')"))
    done = walked(sleeves=["mine", *FEW])
    assert "mine: skipped, ValueError: no" in done.notes
    assert (done.counts["sleeves_walked"], done.counts["sleeves_skipped"]) == (3, 1)
    assert done.parameters["sleeves"] == ["phase37", *FEW]
    for table in ("sleeve_returns", "wf_snapshots", "sleeves"):
        assert set(rows(table)["sleeve_id"].to_pylist()) == {"phase37", *FEW}
    assert replay_run(open_workplace(), done.run_id).is_equal


@pytest.mark.parametrize("source", ["def (:\n", "import nothing_there\n"])
def test_a_file_that_cannot_be_imported_hides_only_its_own_sleeves(
    bars: Place, own_sleeve, source: str
):
    own_sleeve(source)
    done = walked()
    assert any(note.startswith("lab/sleeves/mine.py: skipped, ") for note in done.notes)
    assert done.counts["sleeves_skipped"] == 1
    with pytest.raises(InputError, match=r"no sleeve mine; .*; lab/sleeves/mine\.py: "):
        walked(sleeves=["mine"])


def test_defaults_out_of_range_are_told_and_the_others_run(bars: Place, own_sleeve):
    own_sleeve(BAD.format(default=99, body="return close * 0.0"))
    assert any(one.startswith("mine: skipped, ") for one in walked().notes)


def test_no_sleeve_left_beside_the_baseline_is_an_error(bars: Place, own_sleeve):
    own_sleeve(BAD.format(default=5, body="raise ValueError('no')"))
    told = "^no sleeve is left beside phase37: mine: skipped, ValueError: no$"
    with pytest.raises(SleeveError, match=told):
        walked(sleeves=["mine"])


def test_a_broken_baseline_is_an_error(bars: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Phase37, "positions", lambda self, panel: panel.close * np.nan)
    with pytest.raises(SleeveError, match=r"^phase37: .*positions must be finite$"):
        walked()
