"""The same tasks on a real Ray cluster of two nodes, with identical numbers."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flows.bodies.replay import replay_run
from flows.bodies.walkforward import run_walkforward
from flows.parallel import WorkerLostError, map_tasks
from flows.wiring import open_workplace
from lab.backtest.walkforward import WalkForwardPlan
from lab.errors import BacktestError
from lab.sleeves.catalogue import find
from tests.flows.conftest import run_plainly
from tests.lab.backtest.test_walkforward import market
from tests.simulators import tasks, walks
from tests.simulators.places import Place

pytestmark = pytest.mark.xdist_group("ray")
PLAN = WalkForwardPlan(train_days=120)
NAMES = ("moving-average-cross", "phase37", "pairs-reversion", "rsi-reversion")


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
    alone = dict(map_tasks(tasks.walk_somewhere, units, common=shared, workers=1))
    spread = dict(map_tasks(tasks.walk_somewhere, units, common=shared, ray=address))
    assert sorted(spread) == list(range(len(NAMES)))
    assert len({node for _, node in spread.values()}) == 2
    for number, (walk, _) in alone.items():
        other, _ = spread[number]
        assert other.sleeve_id == walk.sleeve_id == NAMES[number]
        for name in ("gross", "net", "turnover", "trades", "chosen", "weights"):
            np.testing.assert_array_equal(getattr(other, name), getattr(walk, name))
        for ours, theirs in zip(walk.trials, other.trials, strict=True):
            assert ours.configuration == theirs.configuration
            np.testing.assert_array_equal(ours.returns, theirs.returns)


@pytest.mark.full
def test_errors_come_back_as_they_were_and_a_lost_task_in_one_line(address: str):
    with pytest.raises(BacktestError, match=r"^task 2: no bars$"):
        list(map_tasks(tasks.failing, range(4), common=None, ray=address))
    with pytest.raises(WorkerLostError, match=f"Ray at {address}: "):
        list(map_tasks(tasks.killed, range(2), common=None, ray=address))


@pytest.mark.full
def test_a_verb_walks_on_a_cluster_and_writes_the_rows_of_one_process(
    address: str, place: Place, tmp_path: Path
):
    walks.ingest(tmp_path / "bars")
    asked = {"sleeves": ["rsi-reversion", "pairs-reversion"], "train_days": 120}
    found = run_plainly("walk-forward", run_walkforward, ray=address, **asked)
    report = replay_run(open_workplace(), found.run_id)
    assert report.is_equal
    assert report.n_rows > 0
