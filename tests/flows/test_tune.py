"""Searching settings: the study goes on, every trial is in the ledger, kills lose none."""

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flows.bodies import tune as body
from flows.bodies.model_registry import read_registry
from flows.bodies.order_samples import read_order_samples
from flows.bodies.train_winprob import run_train_winprob
from flows.bodies.tune import run_tune
from flows.runs import Run, execute
from flows.studies import StudyStore, tuned_config, with_tuned
from lab.bars.timeframes import to_moment
from lab.errors import TrainingError
from lab.learning.config import TrainingConfig
from lab.learning.feature_sets import ORDER_FEATURES
from lab.learning.search import SPACES, searched_rows, try_next
from lakehouse.errors import InputError, RefusedError
from lakehouse.schema.lifecycle import BOT_ORDERS
from tests.flows.conftest import run_plainly

pytestmark = pytest.mark.xdist_group("tune")
LATER = datetime(2018, 10, 1, tzinfo=UTC)


def orders(n=700, seed=0):
    """Closed backfill orders over a year and a half whose momentum says who wins."""
    rng = np.random.default_rng(seed)
    begin = np.datetime64("2017-01-02", "us")
    entry = begin + np.sort(rng.integers(0, 560, n)) * np.timedelta64(1, "D")
    rows = []
    for k, moment in enumerate(entry):
        features = {name: float(rng.normal()) for name in ORDER_FEATURES.names}
        is_win = rng.random() < 1 / (1 + np.exp(-1.5 * features["momentum_20"]))
        rows.append(
            {
                "order_id": f"order-{k:05d}",
                "sleeve_id": "phase37",
                "symbol": "SP500" if k % 2 else "NASDAQ",
                "timeframe": "1d",
                "origin": "backfill",
                "side": "long",
                "decided_at": moment.item().replace(tzinfo=UTC),
                "entry_ts": moment.item().replace(tzinfo=UTC),
                "entry_price": 100.0,
                "exit_ts": (moment + np.timedelta64(3, "D")).item().replace(tzinfo=UTC),
                "exit_price": 101.0,
                "size": 0.1,
                "costs": 0.0001,
                "pnl_net": 0.001 if is_win else -0.001,
                "features": json.dumps(features),
                "run_id": "backfill",
            }
        )
    names = BOT_ORDERS.to_arrow().names
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in names} for row in rows],
        schema=BOT_ORDERS.to_arrow(),
    )


@pytest.fixture
def filled(workplace):
    workplace.lake.append("bot_orders", orders(), window="orders")
    return workplace


def ledger(workplace):
    rows = workplace.lake.read("trials").to_pylist()
    return sorted(rows, key=lambda row: row["trial_id"])


def stored(workplace):
    found = {}
    for row in workplace.lake.read("trials").to_pylist():
        found[row["trial_id"]] = (row["sharpe"], row["configuration"])
    return found


def test_a_search_that_is_taken_up_again_is_one_that_never_stopped(filled):
    first = run_plainly("tune", run_tune, trials=1)
    study = first.parameters["study"]
    again = run_plainly("tune", run_tune, trials=2)
    assert again.parameters["study"] == study
    assert "3 in the study" in again.message
    records = StudyStore(filled.root).records(study)
    in_one_go = _in_memory(filled, study, 3)
    assert [one.to_json() for one in records] == [one.to_json() for one in in_one_go]
    assert len(ledger(filled)) == 3
    assert first.counts["ledger"] + again.counts["ledger"] == 3
    returns = filled.lake.read("trial_returns")["returns"].to_pylist()
    assert len({len(one) for one in returns}) == 1
    assert {row["origin"] for row in ledger(filled)} == {"tune"}


def _in_memory(workplace, study, n):
    run = Run(workplace, "tune", "check")
    opened = body._open(run, "winprob", "xgboost", seed=0, moment=LATER)
    assert opened.name == study
    records = []
    for _ in range(n):
        tried = try_next(records, opened.samples, opened.base, seed=0)
        records.append(tried.record)
    return records


def test_a_kill_between_ledger_and_study_costs_no_trial_and_enters_none_twice(filled):
    first = run_plainly("tune", run_tune, trials=1)
    study = Path(filled.root) / "studies" / first.parameters["study"]
    (study / "000000.json").unlink()  # what a kill between the two writes leaves
    before = stored(filled)
    assert len(before) == 1
    done = run_plainly("tune", run_tune, trials=1)
    assert done.counts["trials"] == 1
    assert done.counts["ledger"] == 0
    assert stored(filled) == before
    assert (study / "000000.json").exists()


def test_a_damaged_trial_is_told_not_guessed(filled):
    first = run_plainly("tune", run_tune, trials=1)
    study = Path(filled.root) / "studies" / first.parameters["study"]
    (study / "000000.json").write_text('{"number": 0}', encoding="utf-8")
    with pytest.raises(TrainingError, match="study: not a trial"):
        run_plainly("tune", run_tune, trials=1)


def test_the_best_settings_are_kept_for_trainings_that_come_after_it(filled):
    run_plainly("tune", run_tune, trials=1)
    found = tuned_config(filled.root, model="winprob", learner="xgboost", until=LATER)
    assert found is not None
    assert found.model == "xgboost"
    early = datetime(2018, 1, 1, tzinfo=UTC)
    asked = {"model": "winprob", "learner": "xgboost"}
    assert tuned_config(filled.root, until=early, **asked) is None
    decisions = filled.lake.read("decision_records").to_pylist()
    assert [row["agent_id"] for row in decisions] == ["tune:winprob"]
    assert json.loads(decisions[0]["output"])["config"]["max_depth"] == found.max_depth


def test_nothing_known_later_than_as_of_is_searched_on(filled):
    early = run_plainly("tune", run_tune, trials=1, as_of="2018-03-01")
    late = run_plainly("tune", run_tune, trials=1)
    assert early.parameters["study"] != late.parameters["study"]
    spans = sorted(row["span_end"] for row in ledger(filled))
    assert spans[0] <= datetime(2018, 3, 1, tzinfo=UTC) < spans[1]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"model": "moon"}, "--model moon: one of winprob, gbm-1d, gbm-1h"),
        ({"learner": "ridge"}, "--learner ridge: one of xgboost, catboost, lightgbm"),
        ({"trials": 0}, "above 0"),
    ],
)
def test_what_cannot_be_searched_is_refused(workplace, words, reason):
    with pytest.raises(InputError, match=reason):
        execute("tune", run_tune, workplace=workplace, parameters=words)


def test_too_few_orders_are_told(workplace):
    workplace.lake.append("bot_orders", orders(200), window="orders")
    with pytest.raises(RefusedError, match=r"NEEDS_MORE_DATA: .* of 200 settled rows"):
        run_plainly("tune", run_tune)


def test_a_training_takes_the_settings_but_none_that_knew_its_last_block(filled):
    run = Run(filled, "train-winprob", "check")
    samples = read_order_samples(run, as_of=LATER).samples
    plain = TrainingConfig()
    assert with_tuned(run, samples, plain, model="winprob") == (plain, None)
    run_plainly("tune", run_tune, trials=1)
    tuned = tuned_config(filled.root, model="winprob", learner="xgboost", until=LATER)
    taken, until = with_tuned(run, samples, plain, model="winprob")
    for name in SPACES["xgboost"]:
        assert getattr(taken, name) == getattr(tuned, name)
    assert taken.is_expanding == plain.is_expanding
    assert run.notes == ["settings of the newest search: tuned-winprob-xgboost"]
    shorter = samples.known_by(samples.start[-1] - np.timedelta64(5, "D"))
    assert with_tuned(run, shorter, plain, model="winprob") == (plain, None)
    known = searched_rows(samples, plain)
    assert until == to_moment(known.end.max())
    assert known.end.max() <= samples.start[-1] - np.timedelta64(30, "D")


def test_a_version_says_what_its_settings_were_selected_on(filled):
    """So does one that is given those settings again, as a retraining is."""
    train = partial(run_plainly, "train-winprob", run_train_winprob)
    train(config={"n_estimators": 30})
    run_plainly("tune", run_tune, trials=2)
    train()
    plain, tuned = read_registry(filled.lake).versions("winprob")
    assert plain.manifest["tuned_until"] is None
    until = tuned.manifest["tuned_until"]
    assert "2018-01-01" < until < tuned.manifest["cutoff"]
    names = set(tuned.manifest["config"]) - {"model", "seed"}
    train(config={name: tuned.manifest["config"][name] for name in names}, seed=1)
    again = read_registry(filled.lake).versions("winprob")[-1]
    assert again.version != tuned.version
    assert again.manifest["tuned_until"] == until
