"""Policies from sleeve returns to a published table, on a real Ray."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import gymnasium
import numpy as np
import pytest

from flows.bodies.compare import run_compare
from flows.bodies.model_registry import load_files, read_registry
from flows.bodies.policy_artefact import policy_lookup, why_weighted
from flows.bodies.publish import publish_artefacts
from flows.bodies.train_policy import run_train_policy
from flows.policy_training.bundle import read_tables
from flows.policy_training.ppo import PPOSettings, train_network
from flows.policy_training.walk import (
    PolicyPlan,
    train_one,
    train_policies,
    walk_forward,
)
from flows.runs import Run
from flows.wiring import open_workplace
from lab.errors import PolicyError
from lab.policy.environment import AllocationEnv, Problem
from lab.policy.menu import Menu
from lab.policy.network import choices
from lab.policy.rewards import RewardRules
from lab.policy.state import market_states
from lakehouse.errors import InputError, RefusedError
from lakehouse.query import connect
from tests.flows.conftest import run_plainly
from tests.lab.policy.toy import planted
from tests.simulators.models import enter
from tests.simulators.sleeves import write_walk

pytestmark = pytest.mark.xdist_group("policy")
QUICK = PPOSettings(iterations=1, steps=256, n_envs=8, minibatch=128, epochs=2)
SLEEVES = ("phase37", "rsi-reversion", "time-series-momentum")


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """A cluster of one node, one core; this process is connected to it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False},
    )
    yield cluster.address
    cluster.shutdown()


@pytest.fixture
def connected(ray_address: str) -> Iterator[None]:
    """RLlib in this process needs a Ray that runs."""
    import ray

    ray.init(address=ray_address, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


class IdentityEnv(gymnasium.Env):
    """The best action is the state that is seen: 1 for each of its two parts."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (5,), np.float32)
    action_space = gymnasium.spaces.MultiDiscrete([3, 2])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n_steps = 0
        return self._drawn(), {}

    def step(self, action):
        reward = float(sum(np.asarray(action) == self.state))
        self.n_steps += 1
        return self._drawn(), reward, False, self.n_steps >= 16, {}

    def _drawn(self):
        self.state = self.np_random.integers((3, 2))
        seen = np.zeros(5, np.float32)
        seen[[self.state[0], 3 + self.state[1]]] = 1.0
        return seen


def test_the_known_best_action_is_learnt_and_the_same_seed_learns_the_same(
    connected: None,
):
    settings = PPOSettings(
        iterations=6, steps=1024, n_envs=8, minibatch=128, learning_rate=3e-3
    )
    network, returns = train_network(IdentityEnv, settings, seed=1)
    assert returns[-1] > returns[0] + 5
    states = np.array([[a, b] for a in range(3) for b in range(2)])
    seen = np.zeros((6, 5))
    seen[np.arange(6), states[:, 0]] = 1.0
    seen[np.arange(6), 3 + states[:, 1]] = 1.0
    np.testing.assert_array_equal(np.column_stack(choices([network], seen)), states)
    one, other = (train_network(IdentityEnv, QUICK, seed=3)[0] for _ in range(2))
    assert one.to_bytes() == other.to_bytes()


def test_the_sleeve_that_earns_in_a_regime_is_held_in_it(connected: None):
    days = planted(600)
    states = market_states(days)
    problem = Problem(days, states, Menu.of(days.sleeves), RewardRules(scale=0.005))
    network, _ = train_network(
        partial(AllocationEnv, problem, ramp=256, is_relative=True),
        PPOSettings(iterations=8, steps=1024),
        seed=2,
    )
    rows = np.arange(60, 600)
    allocation, level = choices([network], states.many(rows, np.zeros(len(rows))))
    names = np.array(problem.menu.names)[allocation]
    is_calm = states.regime[rows] == 0
    assert (names[is_calm] == "a").mean() > 0.9
    assert (names[~is_calm] == "b").mean() > 0.9
    assert np.array(problem.menu.levels)[level].mean() > 0.45


def test_a_block_knows_what_came_before_it_and_nothing_later(connected: None):
    days = planted(470)
    plan = PolicyPlan(seeds=(5,), min_train_days=300, block_days=100, ppo=QUICK)
    assert plan.blocks(470) == [range(299, 399), range(399, 468)]
    net = days.net.copy()
    net[400:] = np.random.default_rng(8).normal(0, 0.02, net[400:].shape)
    other = replace(days, net=net)
    before, after = (
        {(stop, 5): train_one((one, plan), (stop, 5)) for stop in (400, 470)}
        for one in (days, other)
    )
    assert before[400, 5].to_bytes() == after[400, 5].to_bytes()
    assert before[470, 5].to_bytes() != after[470, 5].to_bytes()
    walks = [
        walk_forward(one, plan, {**found, (300, 5): found[400, 5]})
        for one, found in ((days, before), (other, after))
    ]
    is_before = walks[0].table_walk.ts < days.ts[400]
    assert is_before.sum() == 99
    for name in ("network_walk", "table_walk"):
        np.testing.assert_array_equal(
            *(getattr(one, name).net[is_before] for one in walks)
        )
    assert walks[0].table.to_json() != walks[1].table.to_json()


@pytest.mark.full
def test_a_cluster_walks_forward_as_this_process_does(ray_address: str):
    days = planted(470)
    plan = PolicyPlan(seeds=(5, 6), min_train_days=300, block_days=100, ppo=QUICK)
    one, other = (train_policies(days, plan, ray=ray_address) for _ in range(2))
    np.testing.assert_array_equal(one.table_walk.net, other.table_walk.net)
    assert one.table.to_json() == other.table.to_json()


@pytest.mark.full
def test_training_here_and_on_a_worker_gives_the_same_weights(
    ray_address: str, connected: None
):
    import ray

    days = planted(470)
    plan = PolicyPlan(seeds=(5,), min_train_days=300, block_days=100, ppo=QUICK)
    here = train_one((days, plan), (470, 5))
    there = ray.get(ray.remote(train_one).remote((days, plan), (470, 5)))
    assert here.to_bytes() == there.to_bytes()


def walked(n_days: int) -> None:
    """A lake with one completed walk-forward."""
    place = open_workplace()
    ended = datetime(2018, 9, 30, tzinfo=UTC)
    write_walk(
        place.lake,
        f"walk-forward-{n_days}",
        ended=ended,
        sleeves=SLEEVES,
        n_days=n_days,
    )


def test_a_policy_is_trained_registered_compared_and_published_at_weight_0(
    ray_address: str, workplace: object
):
    walked(470)
    found = run_plainly("train-policy", run_train_policy, ray=ray_address, iterations=1)
    place = open_workplace()
    registry = read_registry(place.lake)
    (version,) = registry.versions("policy")
    assert version.stage == "Staging"
    assert f"policy {version.version}: stage Staging, weight 0" in found.message
    beside = version.manifest["out_of_sample"]
    assert {"policy", "equal_weight", "phase37", "seed_0", "seed_4"} <= set(beside)
    assert version.metrics["n_seeds"] == 5
    assert 0.0 <= version.metrics["fidelity"] <= 1.0
    files = load_files(place.lake, version)
    assert len(read_tables(files)) == 5
    assert not [name for name in files if name.endswith((".pkl", ".pt"))]
    rows = place.lake.read("model_predictions")
    assert rows.num_rows == found.counts["predictions"] == 5 * 69
    days = {name.split("#")[0] for name in rows["subject_id"].to_pylist()}
    assert len(days) == 69
    assert min(rows["as_of"].to_pylist()) < min(rows["settled_at"].to_pylist())

    told = run_plainly("compare", run_compare, model="policy").message
    assert told.startswith(("KEEP", "INCONCLUSIVE"))

    run_plainly("publish", publish_artefacts)
    lookup = place.lake.read("artefact_policy_lookup")
    assert set(lookup["policy_version"].to_pylist()) == {version.version}
    assert set(lookup["runtime_weight"].to_pylist()) == {0.0}
    assert set(lookup["fidelity"].to_pylist()) == {version.metrics["fidelity"]}
    assert set(lookup["hold_days"].to_pylist()) == {5}
    for row in lookup.to_pylist():
        shares = json.loads(row["action"]).values()
        assert sum(shares) == pytest.approx(1.0 if row["risk_level"] else 0.0)


def test_a_policy_is_registered_once_its_days_out_of_sample_are_there(
    ray_address: str, workplace: object
):
    """Of no policy that is compared may a kill have cut the rows off."""
    walked(470)
    lake = open_workplace().lake
    enter("another", model="winprob")
    events = lake.read("model_events")
    (event,) = events.to_pylist()
    broken = type(events).from_pylist([event | {"seq": 2}], schema=events.schema)
    lake.append("model_events", broken, window="broken")
    with pytest.raises(RefusedError, match="model_events"):
        run_plainly(
            "train-policy", run_train_policy, ray=ray_address, iterations=1, seeds=1
        )
    rows = lake.read("model_predictions")
    assert set(rows["model_name"].to_pylist()) == {"policy"}
    assert rows.num_rows == 69


def test_a_policy_with_a_weight_is_not_published(workplace: object):
    schema_rows = open_workplace()
    with connect(schema_rows.root, threads=1) as session:
        run = Run(schema_rows, "publish", "publish-test")
        empty = policy_lookup(session, run)
    assert empty.num_rows == 0
    assert why_weighted(empty) is None
    names = empty.schema.names
    row = dict.fromkeys(names) | {"policy_version": "abc", "runtime_weight": 0.5}
    weighted = type(empty).from_pylist([row])
    assert why_weighted(weighted) == "abc has weight 0.5; a candidate has 0"


@pytest.mark.full
def test_a_champion_is_told_on_the_days_after_those_it_learnt_from(
    ray_address: str, workplace: object
):
    from flows.bodies.promotion import run_promote

    ask = partial(run_plainly, "train-policy", run_train_policy, ray=ray_address)
    walked(470)
    ask(iterations=1, seeds=1)
    lake = open_workplace().lake
    (old,) = read_registry(lake).versions("policy")
    assert old.stage == "None"  # one seed is no evidence
    run_plainly(
        "promote", run_promote, model="policy", version=old.version, why="a test"
    )
    place = open_workplace()
    write_walk(
        place.lake,
        "walk-forward-later",
        ended=datetime(2018, 9, 30, 12, tzinfo=UTC),
        sleeves=SLEEVES,
        n_days=520,
    )
    ask(iterations=1, seeds=1)
    rows = lake.read("model_predictions").to_pylist()
    own = [row for row in rows if row["version"] == old.version]
    cutoff = datetime.fromisoformat(old.manifest["cutoff"])
    later = [row for row in own if row["as_of"] >= cutoff]
    assert len(own) == len({row["subject_id"] for row in own}) == 69 + 49
    assert len(later) == 49
    assert all(row["settled_at"] > cutoff for row in later)


def test_too_few_days_or_a_count_of_nothing_are_refused_in_a_line(workplace: object):
    with pytest.raises(RefusedError, match="NEEDS_MORE_DATA: no sleeve returns"):
        run_plainly("train-policy", run_train_policy)
    walked(100)
    with pytest.raises(RefusedError, match="NEEDS_MORE_DATA: 100 days; 402 or more"):
        run_plainly("train-policy", run_train_policy)
    with pytest.raises(InputError, match="--seeds 0"):
        run_plainly("train-policy", run_train_policy, seeds=0)
    with pytest.raises(PolicyError, match="one or more, unique"):
        PolicyPlan(seeds=(1, 1))
