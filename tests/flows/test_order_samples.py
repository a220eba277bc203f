"""Orders to learn from: winners are held for weeks, losers for days, and some are open."""

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from flows.bodies.model_registry import read_registry
from flows.bodies.order_samples import closed_orders, read_order_samples
from flows.bodies.train_winprob import run_train_winprob
from flows.runs import Run
from lab.learning.feature_sets import ORDER_FEATURES
from lakehouse.schema.lifecycle import BOT_ORDERS
from tests.flows.conftest import run_plainly

pytestmark = pytest.mark.xdist_group("order-samples")

NOW = datetime(2018, 10, 1, tzinfo=UTC)
DAY = np.timedelta64(1, "D")
N_DAYS, A_DAY = 500, 6


def episodes(seed: int) -> pa.Table:
    """Orders of 500 days up to now; half of them win, after 10 to 40 days."""
    rng = np.random.default_rng(seed)
    now = np.datetime64(NOW.replace(tzinfo=None), "us")
    entry = now - np.repeat(np.arange(N_DAYS, 0, -1), A_DAY) * DAY
    n = len(entry)
    is_win = rng.random(n) < 0.5
    held = np.where(is_win, rng.integers(10, 41, n), rng.integers(1, 6, n))
    leave = entry + held * DAY
    is_open = leave > now
    blank = dict.fromkeys(ORDER_FEATURES.names)
    hints = is_win + rng.normal(size=n)
    rows = [
        {
            "order_id": f"order-{k:05d}",
            "sleeve_id": "phase37",
            "symbol": "SP500",
            "timeframe": "1d",
            "origin": "backfill",
            "side": "long",
            "decided_at": (entry[k] - DAY).item().replace(tzinfo=UTC),
            "entry_ts": entry[k].item().replace(tzinfo=UTC),
            "entry_price": 100.0,
            "exit_ts": None if is_open[k] else leave[k].item().replace(tzinfo=UTC),
            "exit_price": None if is_open[k] else 101.0,
            "size": 0.1,
            "costs": 0.0001,
            "pnl_net": None if is_open[k] else (0.001 if is_win[k] else -0.001),
            "features": json.dumps(blank | {"momentum_20": float(hints[k])}),
            "run_id": "backfill",
        }
        for k in range(n)
    ]
    return pa.Table.from_pylist(rows, schema=BOT_ORDERS.to_arrow())


@pytest.fixture
def filled(workplace):
    workplace.lake.append("bot_orders", episodes(0), window="orders")
    return workplace


def newest_wins(start: np.ndarray, label: np.ndarray) -> np.ndarray:
    return label[start > start.max() - 30 * DAY]


def test_the_newest_orders_wait_until_those_of_their_time_are_closed(filled):
    run = Run(filled, "train-winprob", "check")
    closed = closed_orders(run, as_of=NOW, columns=("entry_ts", "pnl_net"))
    pnl = closed["pnl_net"].to_numpy()
    entry = closed["entry_ts"].cast(pa.timestamp("us")).to_numpy()
    assert newest_wins(entry, pnl > 0).mean() < 0.35  # what training saw before
    samples = read_order_samples(run, as_of=NOW).samples
    wins = newest_wins(samples.start, samples.label)
    assert abs(wins.mean() - 0.5) < 2.58 * np.sqrt(0.25 / len(wins))
    n_waiting = closed.num_rows - len(samples)
    assert run.counts["orders_waiting"] == n_waiting > 50
    assert run.notes == [
        f"{n_waiting} closed orders wait: fewer than 95 % of the orders of their time"
        " are closed, and losers close first"
    ]


def test_an_order_that_was_open_then_is_open_whatever_came_of_it(filled):
    """At an earlier moment the rows are those that a run of that time had."""
    run = Run(filled, "train-winprob", "check")
    early = datetime(2018, 7, 1, tzinfo=UTC)
    found = read_order_samples(run, as_of=early).samples
    limit = np.datetime64(early.replace(tzinfo=None), "us")
    assert (found.end <= limit).all()
    assert 30 * DAY < limit - found.start.max() < 45 * DAY
    wins = newest_wins(found.start, found.label)
    assert abs(wins.mean() - 0.5) < 2.58 * np.sqrt(0.25 / len(wins))


def test_a_training_is_checked_on_a_block_that_wins_as_often_as_orders_do(filled):
    settings = {"n_estimators": 20, "max_depth": 2, "learning_rate": 0.1}
    done = run_plainly("train-winprob", run_train_winprob, config=settings)
    assert done.counts["orders_waiting"] > 50
    (version,) = read_registry(filled.lake).versions("winprob")
    block = version.manifest["last_block"]
    rows = filled.lake.read("model_predictions").to_pylist()
    last = max(row["as_of"] for row in rows)
    wins = [row["label"] for row in rows if (last - row["as_of"]).days < 30]
    assert len(wins) >= block["n_rows"] > 100
    assert abs(np.mean(wins) - 0.5) < 2.58 * np.sqrt(0.25 / len(wins))
