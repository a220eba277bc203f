"""The closed loop of models, through a real Prefect server, worker and automations.

A synthetic market changes its regime: drift fires, the retraining runs, the candidate
is judged, the alias moves. Then a person brings the old champion back: it is rolled
back, and another alarm within the cooldown is recorded and not acted on. Nothing but
events starts a run here; the test advances the clock, adds the days' orders and runs
`drift`, as its schedule would.
"""

import json
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flows.bodies.compare import run_compare
from flows.bodies.drift import run_drift
from flows.bodies.model_registry import read_registry
from flows.bodies.promotion import run_promote
from flows.bodies.train_winprob import run_train_winprob
from flows.processes import Crew, crew
from flows.signals_out import DRIFT_DETECTED, ROLLBACK_REQUESTED, model_resource
from flows.tracking import aliases_of
from flows.wiring import open_workplace
from lakehouse.clock import freeze_clock
from tests.flows.conftest import forget_settings, run_plainly
from tests.simulators.model_market import ModelMarket, live_through, model_market
from tests.simulators.places import Place
from tests.simulators.server import ask, prefect_server

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("prefect")]

TRAINED, CHANGE, DRIFTED, SPOILT = 260, 300, 360, 362
SETTINGS = {
    "n_estimators": 30,
    "max_depth": 3,
    "learning_rate": 0.1,
    "train_period_days": 90,
    "backtest_period_days": 15,
    "half_life_days": 15.0,
}


@dataclass(frozen=True)
class Lab:
    """A place with a server, a worker and a market that goes on day by day."""

    place: Place
    market: ModelMarket
    worker: Crew

    def advance(self, first: int, last: int, *, origin: str) -> None:
        """Let the orders of some days happen, predicted and settled."""
        live_through(self.market, self.place.root, first, last, origin=origin)

    def emit(self, event: str, **payload: str) -> None:
        """Deliver an event to the server once more, as a server may."""
        body = {
            "id": str(uuid4()),
            "event": event,
            "occurred": datetime.now(UTC).isoformat(),
            "resource": {"prefect.resource.id": model_resource("winprob")},
            "payload": {"model": "winprob", **payload},
        }
        request = urllib.request.Request(
            f"{self.place.api_url}/events",
            data=json.dumps([body]).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20):
            pass

    def drift(self) -> str:
        """Run `alphalake drift` on the server."""
        done = self.place.verb("drift", "--model", "winprob")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def wait_for_runs(self, timeout_s: float = 240, **wanted: int) -> None:
        """Wait until so many runs of each flow have completed."""
        deadline = time.monotonic() + timeout_s
        found: Counter[str] = Counter()
        while any(found[name] < n for name, n in wanted.items()):
            assert time.monotonic() < deadline, f"{found}, wanted {wanted}: {self.log}"
            assert self.worker.is_whole(), self.log
            time.sleep(1)
            with suppress(TimeoutError):  # a busy machine: asked again
                found = self.completed()

    def completed(self) -> Counter[str]:
        """Return how many runs of each flow have completed; none may have failed."""
        api = self.place.api_url
        names = {one["id"]: one["name"] for one in ask(api, "flows/filter")}
        runs = ask(api, "flow_runs/filter")
        ended = {"FAILED", "CRASHED"}
        assert not [run["state"] for run in runs if run["state_type"] in ended]
        return Counter(
            names[run["flow_id"]] for run in runs if run["state_type"] == "COMPLETED"
        )

    @property
    def log(self) -> str:
        return (self.place.folder / "worker.log").read_text()[-3000:]

    def champion(self) -> str:
        """Return the version that has the alias `champion`."""
        registry = read_registry(open_workplace().lake)
        return aliases_of(registry, "winprob")["champion"]

    def events(self) -> list[tuple[str, str]]:
        """Return the chain's events, each with its version."""
        rows = sorted(self.rows("model_events"), key=lambda row: row["seq"])
        return [(row["event"], row["version"]) for row in rows]

    def rows(self, table: str, **equal: object) -> list[dict[str, Any]]:
        rows = open_workplace().lake.read(table).to_pylist()
        return [row for row in rows if all(row[name] == equal[name] for name in equal)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("loop")
    market = model_market(n_days=SPOILT + 10, change=CHANGE)
    with (
        prefect_server(folder) as api,
        crew() as members,
        pytest.MonkeyPatch.context() as patch,
    ):
        place = Place(folder, api_url=api)
        for name, value in place.environment.items():
            patch.setenv(name, value)
        patch.delenv("ALPHALAKE_NOW", raising=False)
        forget_settings()
        freeze_clock(place.root, market.moment(TRAINED))
        made = place.verb("init")
        assert made.returncode == 0, made.stderr
        members.start(
            "worker",
            [
                str(Path(sys.executable).parent / "prefect"),
                *("worker", "start", "--pool", "lab"),
            ],
            log=folder / "worker.log",
            environment={**place.environment, "PREFECT_WORKER_QUERY_SECONDS": "1"},
        )
        yield Lab(place, market, members)
    forget_settings()


def test_the_loop_closes_from_a_regime_change_to_a_rollback(lab: Lab):
    old = a_champion_of_the_calm_market(lab)
    new = drift_is_answered_by_a_better_champion(lab, old)
    a_bad_champion_is_rolled_back_once(lab, bad=old, good=new)


def a_champion_of_the_calm_market(lab: Lab) -> str:
    lab.advance(0, TRAINED, origin="backfill")
    run_plainly("train-winprob", run_train_winprob, config=SETTINGS)
    decided = run_plainly("compare", run_compare)
    assert decided.message.startswith("PROMOTE"), decided.message
    lab.advance(TRAINED, CHANGE, origin="live")
    quiet = run_plainly("drift", run_drift, model="winprob")
    assert "no drift" in quiet.message
    return lab.champion()


def drift_is_answered_by_a_better_champion(lab: Lab, old: str) -> str:
    lab.advance(CHANGE, DRIFTED, origin="live")
    assert "significant drift" in lab.drift()
    alarms = lab.rows("drift_reports", is_alarm=True)
    assert {"accuracy", "profit_total", "reversion_5"} <= {
        row["feature"] for row in alarms
    }
    [window] = {row["window_end"].isoformat() for row in alarms}
    lab.emit(DRIFT_DETECTED, window=window)  # delivered twice
    lab.wait_for_runs(drift=1, retrain=2, compare=1, **{"train-winprob": 1})

    [request] = lab.rows("retrain_requests")
    outcome = json.loads(request["outcome"])
    assert (request["trigger"], outcome["status"]) == ("drift", "trained")
    [new] = outcome["versions"]
    assert lab.champion() == new != old
    assert lab.events() == [
        ("register", old),
        ("promote", old),
        ("register", new),
        ("archive", old),
        ("promote", new),
    ]
    [verdict] = [
        json.loads(row["output"])
        for row in lab.rows("decision_records", agent_id="model-compare")
        if json.loads(row["input_snapshot"])["champion"] == old
    ]
    assert verdict["decision"] == "PROMOTE"
    assert verdict["confidence"] >= 0.8
    assert verdict["standard_error"] > 0
    weights = {row["runtime_weight"] for row in lab.rows("production_sleeve_set")}
    assert weights == {0.0}
    return new


def a_bad_champion_is_rolled_back_once(lab: Lab, *, bad: str, good: str) -> None:
    run_plainly("promote", run_promote, model="winprob", version=bad, why="a mistake")
    assert lab.champion() == bad
    lab.advance(DRIFTED, SPOILT, origin="live")
    lab.drift()
    lab.wait_for_runs(drift=2, retrain=3, rollback=1)
    assert lab.champion() == good
    [reaction] = [
        row
        for row in lab.rows("decision_records", agent_id="drift-reaction")
        if json.loads(row["output"])["action"] == "rollback"
    ]
    assert "within 60 days of its promotion" in reaction["rationale"]

    lab.emit(ROLLBACK_REQUESTED, why="still worse", cause="performance")
    lab.wait_for_runs(rollback=2)
    assert lab.champion() == good
    assert lab.events()[5:] == [
        ("archive", good),
        ("promote", bad),
        ("archive", bad),
        ("rollback", good),
        ("alarm", good),
    ]
    assert len(lab.rows("model_versions")) == 2
