"""The same tasks on a real Ray cluster of two nodes, with identical numbers."""

import os
from collections.abc import Iterator

import numpy as np
import pytest

from flows.bodies.walk_job import walk_unit
from flows.parallel import map_tasks
from lab.backtest.walkforward import WalkForwardPlan
from lab.errors import BacktestError
from lab.sleeves.catalogue import find
from tests.lab.backtest.test_walkforward import market
from tests.simulators import tasks

pytestmark = pytest.mark.xdist_group("ray")
PLAN = WalkForwardPlan(train_days=120)
NAMES = ("moving-average-cross", "phase37", "pairs-reversion")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Two nodes of this machine, one core each."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False},
    )
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


def test_a_walk_forward_on_two_nodes_has_identical_numbers(address: str):
    shared = (market(n_obs=500), PLAN)
    units = [find(name).variants() for name in NAMES]
    alone = dict(map_tasks(walk_unit, units, common=shared, workers=1))
    spread = dict(map_tasks(walk_unit, units, common=shared, ray=address))
    assert sorted(spread) == [0, 1, 2]
    for number, walk in alone.items():
        other = spread[number]
        assert other.sleeve_id == walk.sleeve_id == NAMES[number]
        for name in ("gross", "net", "turnover", "trades", "chosen", "weights"):
            np.testing.assert_array_equal(getattr(other, name), getattr(walk, name))
        for ours, theirs in zip(walk.trials, other.trials, strict=True):
            assert ours.configuration == theirs.configuration
            np.testing.assert_array_equal(ours.returns, theirs.returns)


def test_both_nodes_work_and_errors_come_back_as_they_were(address: str):
    found = dict(map_tasks(tasks.node, range(6), common=None, ray=address))
    assert len(set(found.values())) == 2
    with pytest.raises(BacktestError, match="task 2: no bars"):
        list(map_tasks(tasks.failing, range(4), common=None, ray=address))
