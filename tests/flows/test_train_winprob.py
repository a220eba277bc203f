"""From closed orders to a published probability, and back to what came of it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flows.bodies.calibration_weeks import calibrate_weeks, live_weeks_running
from flows.bodies.model_registry import read_registry
from flows.bodies.order_predictions import (
    predict_orders,
    settle_predictions,
    settled_rows,
)
from flows.bodies.publish import publish_artefacts
from flows.bodies.train_winprob import run_train_winprob
from flows.runs import Outcome, Run, execute
from flows.setup import set_up_trust
from flows.wiring import Workplace
from lab.learning.feature_sets import ORDER_FEATURES
from lakehouse.clock import Clock
from lakehouse.errors import InputError, RefusedError
from lakehouse.store import Lake
from lakehouse.trust.fetching import LocalFetcher
from lakehouse.trust.tokens import issue, state_folder
from lakehouse.trust.verification import TrustedClient
from tests.flows.conftest import forget_settings
from tests.simulators.model_market import ModelMarket, model_market
from tests.simulators.winprob import serving

pytestmark = pytest.mark.xdist_group("winprob")

MARKET_DAYS, SEEN = 300, 200
CONFIG = {"n_estimators": 40, "max_depth": 3, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def market() -> ModelMarket:
    return model_market(n_days=MARKET_DAYS, change=MARKET_DAYS, begin="2021-06-01")


def at(workplace: Workplace, moment: datetime) -> Workplace:
    """The same place at another moment."""
    clock = Clock(moment, "argument")
    lake = Lake.open(workplace.root, clock=clock)
    return Workplace(lake, clock, workplace.keys, workplace.state)


def run(workplace: Workplace, body, **parameters) -> Outcome:
    return execute("test", body, workplace=workplace, parameters=parameters)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, market) -> Iterator[tuple[Workplace, Outcome]]:
    """A lake with 200 days of backfilled orders and a model of them."""
    folder = tmp_path_factory.mktemp("winprob")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("ALPHALAKE_TRACKING", "none")
    forget_settings()
    clock = Clock(market.moment(SEEN + 1), "argument")
    lake = Lake.open(str(folder / "lake"), clock=clock)
    workplace = Workplace(lake, clock, folder / "keys", folder / "state")
    set_up_trust(workplace)
    lake.append("bot_orders", market.orders(0, SEEN, origin="backfill"), window="a")
    yield workplace, run(workplace, run_train_winprob, config=CONFIG)
    monkeypatch.undo()
    forget_settings()


def predictions(workplace: Workplace, origin: str) -> pa.Table:
    return workplace.lake.read("model_predictions", filter=pc.field("origin") == origin)


def test_a_training_registers_a_staged_model_that_knows_something(trained, market):
    workplace, outcome = trained
    assert outcome.status == "completed", outcome.message
    one = read_registry(workplace.lake).challenger("winprob")
    assert one.stage == "Staging"
    assert one.version in outcome.message
    assert one.metrics["auc"] > 0.6
    assert one.metrics["log_loss"] < one.metrics["baseline_log_loss"]
    assert one.metrics["ece"] < 0.05
    assert one.manifest["cutoff"] == market.moment(SEEN).isoformat()
    assert {"gain", "shap"} == set(one.manifest["importance"])


def test_out_of_fold_rows_are_kept_settled(trained, market):
    workplace, _ = trained
    rows = predictions(workplace, "out_of_fold")
    assert rows.num_rows > 1000
    orders = {
        row["order_id"]: row
        for row in market.orders(0, SEEN, origin="backfill").to_pylist()
    }
    taken = 0
    for row in rows.slice(0, 500).to_pylist():
        order = orders[row["subject_id"]]
        assert row["label"] == float(order["pnl_net"] > 0)
        assert row["settled_at"] == order["exit_ts"]
        assert row["as_of"] == order["decided_at"]
        assert row["outcome"] in {0.0, order["pnl_net"]}
        assert row["costs"] == (order["costs"] if row["outcome"] else 0.0)
        assert len(row["features"]) == len(ORDER_FEATURES.names)
        taken += row["outcome"] != 0.0
    assert 50 < taken < 450


def test_the_same_training_again_is_the_same_version_and_adds_nothing(trained):
    workplace, _ = trained
    before = read_registry(workplace.lake).challenger("winprob").version
    n_rows = predictions(workplace, "out_of_fold").num_rows
    again = run(workplace, run_train_winprob, config=CONFIG)
    assert again.status == "completed", again.message
    assert len(read_registry(workplace.lake).versions("winprob")) == 1
    assert before in again.message
    assert predictions(workplace, "out_of_fold").num_rows == n_rows
    held = workplace.lake.read("production_sleeve_set").to_pylist()
    assert [(row["kind"], row["version"], row["runtime_weight"]) for row in held] == [
        ("winprob", before, 0.0)
    ]


def test_too_few_orders_are_refused_in_the_words_of_the_verdict(trained, market):
    workplace, _ = trained
    early = market.moment(75).isoformat()
    with pytest.raises(RefusedError, match=r"NEEDS_MORE_DATA: .* 300 are needed"):
        run(workplace, run_train_winprob, as_of=early)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"learner": "forest"}, "one of xgboost, catboost, lightgbm"),
        ({"learner": "ridge"}, "one of xgboost, catboost, lightgbm"),
        ({"config": {"trees": 3}}, "unknown trees"),
        ({"config": {"objective": "regression"}}, "classification on order-v1"),
        ({"as_of": "2099-01-01T00:00:00+00:00"}, "later than now"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(trained, parameters, said):
    with pytest.raises(InputError, match=said):
        run(trained[0], run_train_winprob, **parameters)


def live(workplace: Workplace, market: ModelMarket, first: int, last: int) -> None:
    """Open the orders of some days one by one, then close them, as a trader does."""
    closed = market.orders(first, last, origin="live")
    opened = closed
    for name in ("exit_ts", "exit_price", "pnl_net"):
        place = opened.schema.get_field_index(name)
        field = opened.schema.field(name)
        opened = opened.set_column(place, field, pa.nulls(len(opened), field.type))
    workplace.lake.append("bot_orders", opened, window=f"open/{first}")

    def body(one: Run) -> str:
        predict_orders(one, opened, origin="live")
        predict_orders(one, opened, origin="live")
        settle_predictions(one)
        one.upsert("bot_orders", closed)
        settle_predictions(one)
        return "traded"

    assert run(workplace, body).status == "completed"


@pytest.fixture(scope="module")
def traded(trained, market) -> Workplace:
    """Five weeks of live orders later."""
    workplace = at(trained[0], market.moment(SEEN + 43))
    live(workplace, market, SEEN, SEEN + 42)
    return workplace


def test_live_orders_are_predicted_once_and_settled_when_they_close(traded, market):
    rows = predictions(traded, "live").to_pylist()
    cutoff = market.moment(SEEN)
    assert len(rows) == 16 * 41  # those decided before the newest label are left out
    assert all(row["as_of"] >= cutoff for row in rows)
    assert all(row["settled_at"] is not None for row in rows)
    labels = np.array([row["label"] for row in rows])
    chances = np.array([row["prediction"] for row in rows])
    assert chances[labels == 1].mean() > chances[labels == 0].mean() + 0.03


def test_a_live_prediction_whose_order_closed_in_replay_is_never_settled(
    traded, market
):
    """Else what counts for nothing would count in weeks, comparisons and drift."""
    said = predictions(traded, "live").slice(0, 20)
    blank = [
        row | dict.fromkeys(("label", "outcome", "costs", "settled_at"))
        for row in said.to_pylist()
    ]
    parts = (0, SEEN, "backfill"), (SEEN, SEEN + 42, "live")
    orders = pa.concat_tables([market.orders(*days, origin=o) for *days, o in parts])
    place = orders.schema.get_field_index("origin")
    replayed = pc.is_in(orders["order_id"], said["subject_id"].slice(0, 8))
    origin = pc.if_else(replayed, "replay", orders["origin"])
    closed = orders.set_column(place, orders.schema.field(place), origin)
    found = settled_rows(blank, closed)
    assert found == said.slice(8).to_pylist()
    # What was said in replay may settle: it says so itself.
    told = settled_rows([row | {"origin": "replay"} for row in blank], closed)
    assert len(told) == 20


def test_weeks_are_measured_once_they_are_over(traded):
    rows = traded.lake.read("signal_calibration").to_pylist()
    own = [row for row in rows if (row["signal"], row["origin"]) == ("winprob", "live")]
    assert len(own) >= 5
    for row in own:
        assert row["week"].weekday() == 0
        assert row["week"] + timedelta(days=7) <= traded.clock.now()
        assert row["log_loss"] > 0
        assert 0 <= row["ece"] <= 1
    full = [row for row in own if row["n_settled"] == 16 * 7]
    assert len(full) >= 4
    won = live_weeks_running(traded.lake, as_of=traded.clock.now())
    expected = 0
    for row in sorted(own, key=lambda row: row["week"], reverse=True):
        if row["log_loss"] > row["baseline_log_loss"] / 1.05 or row["n_settled"] < 50:
            break
        expected += 1
    assert won == expected


def verified(workplace: Workplace, kind: str) -> pa.Table:
    client = TrustedClient(
        workplace.key_store().trusted_root(),
        LocalFetcher(workplace.root),
        None,
        workplace.clock,
    )
    client.refresh()
    return client.load(kind)


def test_what_is_published_answers_over_http(traded, market):
    outcome = run(traded, publish_artefacts)
    assert outcome.status == "completed", outcome.message
    assert "winprob" in outcome.message
    assert "calibration" in outcome.message
    (row,) = verified(traded, "winprob").to_pylist()
    version = read_registry(traded.lake).challenger("winprob").version
    assert (row["version"], row["runtime_weight"]) == (version, 0.0)
    assert json.loads(row["metrics"])["reliability"]
    assert verified(traded, "calibration").num_rows >= 5
    again = run(traded, publish_artefacts)
    assert "nothing changed" in again.message
    stored = predictions(traded, "live").slice(0, 50).to_pylist()
    rows = [one["features"] for one in stored]
    with serving(traded) as url:
        state = state_folder(traded.state, (traded.keys / "root.json").read_bytes())
        token = issue(state, "predict", now=traded.clock.now())
        answer = httpx.post(
            f"{url}/ml/predict",
            headers={"Authorization": f"Bearer {token}"},
            json={"rows": rows, "contributions": True},
            timeout=20,
        )
    assert answer.status_code == 200, answer.text
    got = answer.json()
    assert (got["model_version"], got["stale"]) == (version, False)
    told = [one["probability"] for one in got["predictions"]]
    assert told == [one["prediction"] for one in stored]


def test_a_weight_that_nobody_approved_is_not_published(traded):
    held = traded.lake.read("production_sleeve_set")
    row = held.to_pylist()[-1]
    row |= {"seq": row["seq"] + 1, "runtime_weight": 0.5}
    schema = held.schema
    traded.lake.append(
        "production_sleeve_set", pa.Table.from_pylist([row], schema=schema), window="x"
    )
    outcome = run(traded, publish_artefacts)
    assert any("winprob not published" in note for note in outcome.notes)
    assert verified(traded, "winprob")["runtime_weight"].to_pylist() == [0.0]


def test_predictions_know_nothing_of_the_future(traded, market):
    """Orders that close later change no stored label, base rate or week before them."""
    before = traded.lake.read("signal_calibration").to_pylist()
    rows = predictions(traded, "live").to_pylist()
    later = at(traded, market.moment(SEEN + 51))
    live(later, market, SEEN + 42, SEEN + 50)
    after = {
        (row["signal"], row["week"], row["origin"]): row
        for row in later.lake.read("signal_calibration").to_pylist()
    }
    for row in before:
        if row["week"] + timedelta(days=7) <= datetime(2022, 1, 24, tzinfo=UTC):
            assert after[row["signal"], row["week"], row["origin"]] == row
    kept = {row["subject_id"]: row for row in predictions(later, "live").to_pylist()}
    assert all(kept[row["subject_id"]] == row for row in rows)


def test_orders_that_are_backfilled_later_change_no_week_that_was_measured(traded):
    """A base rate made worse afterwards would win weeks that were lost."""
    before = traded.lake.read("signal_calibration").to_pylist()
    closed = traded.lake.read("bot_orders").to_pylist()
    losses = [
        row | {"order_id": f"late-{row['order_id']}", "pnl_net": -1.0} for row in closed
    ]
    table = pa.Table.from_pylist(losses, schema=traded.lake.read("bot_orders").schema)
    traded.lake.append("bot_orders", table, window="backfilled-later")

    def body(one: Run) -> str:
        calibrate_weeks(one)
        return "measured"

    assert run(traded, body).status == "completed"
    assert traded.lake.read("signal_calibration").to_pylist() == before


@pytest.mark.full
@pytest.mark.parametrize("is_shuffled", [False, True], ids=["planted", "shuffled"])
def test_over_ten_thousand_orders_luck_ranks_nothing_and_skill_is_calibrated(
    tmp_path, monkeypatch, is_shuffled
):
    monkeypatch.setenv("ALPHALAKE_TRACKING", "none")
    forget_settings()
    many = model_market(n_days=800, change=800, begin="2019-01-01", seed=3)
    orders = many.orders(0, 798, origin="backfill")
    if is_shuffled:
        place = orders.schema.get_field_index("pnl_net")
        pnl = np.random.default_rng(5).permutation(orders["pnl_net"].to_numpy())
        orders = orders.set_column(place, orders.schema.field(place), pa.array(pnl))
    clock = Clock(many.moment(799), "argument")
    lake = Lake.open(str(tmp_path / "lake"), clock=clock)
    workplace = Workplace(lake, clock, tmp_path / "keys", tmp_path / "state")
    lake.append("bot_orders", orders, window="a")
    outcome = run(workplace, run_train_winprob, config=CONFIG)
    forget_settings()
    assert outcome.status == "completed", outcome.message
    (one,) = read_registry(lake).versions("winprob")
    figures = one.metrics
    assert figures["n_rows"] >= 10_000
    if is_shuffled:
        assert abs(figures["auc"] - 0.5) <= 2.58 * figures["auc_standard_error"]
    else:
        assert figures["auc"] > 0.65
        assert figures["ece"] <= 0.03
