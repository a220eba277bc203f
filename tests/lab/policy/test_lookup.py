"""The table: its grid, its bytes, its fidelity, and walks by it."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lab.errors import PolicyError
from lab.policy.benchmarks import baseline, buy_and_hold, equal_weight
from lab.policy.evaluate import (
    always,
    by_network,
    by_table,
    distil,
    fidelity,
    walk,
)
from lab.policy.lookup import DIMENSIONS, Grid, Lookup, majority
from lab.policy.menu import Menu
from lab.policy.network import Network, choices
from lab.policy.state import StatePlan, market_states
from tests.lab.policy.toy import SLEEVES, planted, rough

PLAN = StatePlan(volatility_days=5, usual_days=20, momentum_days=10, warm_up=10)
MENU = Menu.of(SLEEVES)


def network_of(states, *, seed=None, menu=MENU) -> Network:
    """Without a seed: full risk, `a` in calm and `b` else; with one, random weights."""
    n_out = sum(menu.heads)
    if seed is not None:
        rng = np.random.default_rng(seed)
        shapes = [(16, states.n_features), (n_out, 16)]
        return Network(
            tuple(
                (
                    rng.normal(0, 1, shape).astype(np.float32),
                    np.zeros(shape[0], np.float32),
                )
                for shape in shapes
            ),
            menu.heads,
        )
    weight = np.zeros((n_out, states.n_features), np.float32)
    weight[menu.names.index("a"), states.names.index("p_calm")] = 5.0
    bias = np.zeros(n_out, np.float32)
    bias[menu.names.index("b")] = 2.0
    bias[menu.heads[0] + menu.levels.index(1.0)] = 2.0
    return Network(((weight, bias),), menu.heads)


def test_a_policy_that_a_table_can_hold_is_held_wholly():
    days = planted()
    states = market_states(days, PLAN)
    table = distil([network_of(states)], days, states, MENU, cost_bps=0.0)
    assert table.fidelity == 1.0
    rows = range(PLAN.warm_up, days.n_days)
    asked = walk(
        days,
        MENU,
        by_network([network_of(states)], states, MENU),
        rows=rows,
        cost_bps=0.0,
    )
    looked = walk(days, MENU, by_table(table, states), rows=rows, cost_bps=0.0)
    np.testing.assert_array_equal(asked.net, looked.net)
    calm = [row for row in table.rows() if json.loads(row["state"])["regime"] == "calm"]
    assert {row["action"] for row in calm} == {'{"a":1.0}'}


def test_fidelity_is_counted_on_days_the_table_was_not_made_of():
    days = rough(600)
    states = market_states(days, PLAN)
    network = network_of(states, seed=4)
    table = distil([network], days, states, MENU, cost_bps=5.0)
    rows = range(PLAN.warm_up, days.n_days)
    own = walk(
        days,
        MENU,
        by_network([network], states, MENU),
        rows=rows,
        cost_bps=5.0,
        hold_days=1,
    )
    is_held_out = (np.arange(len(own.rows)) // 20) % 5 == 4
    assert table.fidelity == fidelity(table, own, states, is_held_out)
    assert fidelity(table, own, states, ~is_held_out) > table.fidelity
    assert 0.2 < table.fidelity < 1.0


def test_every_bucket_has_a_choice_and_unseen_ones_the_nearest():
    days = planted()
    states = market_states(days, PLAN)
    grid = Grid.fit(states, np.arange(10, 700), np.linspace(0, 0.1, 690))
    assert grid.sizes == (4, 3, 3, 3, len(states.families), 4)
    first, last = np.array([0]), np.array([grid.n_buckets - 1])
    buckets = np.concatenate([first, last, last])
    level = np.array([1, 2, 2])
    allocation, levels, visits = majority(grid, MENU, buckets, (level * 0, level))
    assert visits.sum() == 3
    assert levels[1] == 1
    assert levels[-2] == 2
    assert set(levels) == {1, 2}
    assert set(allocation) == {0}


def test_a_value_on_an_edge_belongs_above_it():
    states = market_states(rough(), PLAN)
    edges = dict.fromkeys(
        ("volatility", "drawdown", "breadth", "agreement"), (0.1, 0.2)
    )
    grid = Grid(states.families, edges)
    rows = np.array([50] * 5)
    depths = np.array([0.0999, 0.1, 0.15, 0.2, 0.9])
    cells = grid.cells()[grid.buckets(states, rows, depths)]
    place = DIMENSIONS.index("drawdown")
    assert cells[:, place].tolist() == [0, 1, 1, 2, 2]
    assert (np.diff(cells, axis=0)[:, :place] == 0).all()


def test_a_table_comes_back_from_its_bytes_and_damage_is_told():
    days = rough()
    states = market_states(days, PLAN)
    table = distil([network_of(states, seed=1)], days, states, MENU, cost_bps=5.0)
    data = table.to_json()
    assert Lookup.from_json(data).to_json() == data
    for broken in (
        data[:-10],
        b"[]",
        b"{}",
        data.replace(b'"levels":[0.0', b'"levels":[9'),
    ):
        with pytest.raises(PolicyError, match=r"^(lookup|menu): "):
            Lookup.from_json(broken)
    with pytest.raises(PolicyError, match="a choice outside"):
        replace(table, level=table.level + 7)


def test_the_published_rows_say_all_a_reader_needs():
    days = rough()
    states = market_states(days, PLAN)
    table = distil([network_of(states, seed=1)], days, states, MENU, cost_bps=5.0)
    rows = table.rows()
    assert [row["state_id"] for row in rows] == list(range(table.grid.n_buckets))
    # A reader without this package finds the bucket from the edges alone.
    at, depth = 120, 0.03
    wanted = {"regime": "unknown", "leader": states.families[states.leader[at]]}
    if states.regime[at] < 3:
        wanted["regime"] = ("calm", "normal", "turbulent")[states.regime[at]]
    edges = json.loads(rows[0]["edges"])
    values = {
        "volatility": states.volatility[at],
        "drawdown": depth,
        "breadth": states.breadth[at],
        "agreement": states.agreement[at],
    }
    for name, value in values.items():
        is_known = np.isfinite(value)
        wanted[name] = sum(value >= edge for edge in edges[name]) if is_known else 3
    (row,) = [one for one in rows if json.loads(one["state"]) == wanted]
    allocation, level = table.choose(states, np.array([at]), np.array([depth]))
    assert row["risk_level"] == MENU.levels[level[0]]
    held = json.loads(row["action"])
    shares = [held.get(name, 0.0) for name in SLEEVES]
    risky = MENU.shares[allocation[0]] * bool(row["risk_level"])
    np.testing.assert_array_equal(shares, risky)


def test_weights_come_back_from_safetensors_and_damage_is_told():
    from safetensors.numpy import load

    network = network_of(market_states(rough(), PLAN), seed=2)
    data = network.to_bytes()
    again = Network.from_bytes(data)
    assert again.to_bytes() == data
    assert again.heads == network.heads
    np.testing.assert_array_equal(load(data)["0.weight"], network.layers[0][0])
    for broken in (b"", data[:40], data[:-4], data[:8] + b"x" + data[9:]):
        with pytest.raises(PolicyError, match="policy network"):
            Network.from_bytes(broken)


def test_one_row_and_many_have_the_same_choices():
    states = market_states(rough(), PLAN)
    networks = [network_of(states, seed=seed) for seed in range(3)]
    rows = np.arange(20, 120)
    many = choices(networks, states.many(rows, np.zeros(100)))
    single = [choices(networks, states.observation(row, 0.0)[None]) for row in rows]
    for head in range(2):
        assert many[head].tolist() == [int(one[head][0]) for one in single]


def test_benchmarks_are_what_their_names_say():
    days = rough()
    rows = range(10, 200)
    span = slice(12, 202)
    np.testing.assert_allclose(
        equal_weight(days, rows=rows, cost_bps=0.0), days.net[span].mean(axis=1)
    )
    alone = baseline(days, rows=rows, cost_bps=10.0)
    # What was paid is taken from the book: its holding is brought back once.
    np.testing.assert_allclose(alone[1:], days.net[span, 2][1:], atol=2e-6)
    assert alone[0] == pytest.approx(days.net[12, 2] - 10e-4)
    market = np.full(days.n_days, 0.001)
    held = buy_and_hold(market, rows=rows, cost_bps=10.0)
    assert held[0] == pytest.approx(0.0)
    assert held[1:] == pytest.approx(0.001)
    walked = walk(days, MENU, always(0, 2), rows=rows, cost_bps=3.0)
    np.testing.assert_array_equal(
        walked.net, equal_weight(days, rows=rows, cost_bps=3.0)
    )
    np.testing.assert_array_equal(walked.ts, days.ts[span])
    with pytest.raises(PolicyError, match="phase37 has no returns"):
        baseline(days.of(("a", "b")), rows=rows, cost_bps=0.0)


def test_a_walk_decides_once_a_week():
    days = rough()
    asked = []

    def choose(row, drawdown):
        asked.append(row)
        return len(asked) % 3, 2

    walked = walk(days, MENU, choose, rows=range(50, 90), cost_bps=0.0)
    assert asked == list(range(50, 90, 5))
    assert all(
        (walked.allocation[k] == walked.allocation[k + 1]) or (k + 1) % 5 == 0
        for k, _ in enumerate(pairwise(walked.rows))
    )


def test_all_cash_is_one_choice_whatever_it_is_of():
    allocation, level = MENU.plain(np.array([3, 3, 1]), np.array([0, 2, 0]))
    assert allocation.tolist() == [0, 3, 0]
    assert level.tolist() == [0, 2, 0]
