"""The walk-forward of policies: trained on what came before each block, walked over it.

Block by block, for every seed, a network is trained on all days up to the block's first
decision, distilled into a table on the same days, and the tables walk over the block.
All blocks of one seed are one walk of one book. The last networks, trained on every
day, are what is shipped; they have no days out of sample yet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np

from flows.parallel import LOCAL, map_tasks
from flows.policy_training.ppo import PPOSettings, train_network
from lab.errors import PolicyError
from lab.policy.days import SleeveDays
from lab.policy.environment import AllocationEnv, Problem
from lab.policy.evaluate import (
    Chooser,
    Walked,
    by_network,
    by_table,
    distil,
    walk,
)
from lab.policy.lookup import Lookup
from lab.policy.menu import Menu
from lab.policy.network import Network
from lab.policy.rewards import EARNS_AFTER, RewardRules
from lab.policy.state import StatePlan, market_states

MIN_TRAIN_DAYS: Final = 400
BLOCK_DAYS: Final = 250


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """How policies are trained and tried.

    Attributes
    ----------
    seeds : tuple of int
        Trainings of each block.
    min_train_days : int
        Days before the first block.
    block_days : int
        Decisions with one training; the last block may be shorter.
    ppo : PPOSettings
        How each is trained.
    rules : RewardRules
        Rewards; their scale is set by each training's own days.
    states : StatePlan
        How far back states look.
    """

    seeds: tuple[int, ...]
    min_train_days: int = MIN_TRAIN_DAYS
    block_days: int = BLOCK_DAYS
    ppo: PPOSettings = field(default_factory=PPOSettings)
    rules: RewardRules = field(default_factory=RewardRules)
    states: StatePlan = field(default_factory=StatePlan)

    def __post_init__(self) -> None:
        """Refuse what cannot be walked."""
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise PolicyError(f"policy plan: seeds {self.seeds}: one or more, unique")
        if self.block_days < 1 or self.min_train_days <= self.states.warm_up:
            raise PolicyError(
                f"policy plan: blocks of {self.block_days} days after"
                f" {self.min_train_days}; 1 or more after more than the"
                f" {self.states.warm_up} to warm up"
            )

    def blocks(self, n_days: int) -> list[range]:
        """Return the rows decided on in each block.

        Parameters
        ----------
        n_days : int
            Days there are.

        Notes
        -----
        Point in time: the first row of a block is the last that its training knows; the
        first return it earns is `EARNS_AFTER` rows later.
        """
        stop = n_days - EARNS_AFTER
        begins = range(self.min_train_days - 1, stop, self.block_days)
        return [range(one, min(one + self.block_days, stop)) for one in begins]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a walk-forward leaves.

    Attributes
    ----------
    networks : tuple of Network, n_seeds
        Trained on all days.
    tables : tuple of Lookup, n_seeds
        Each distilled from one of them.
    table : Lookup
        Distilled from their mean: what is published.
    seed_walks : tuple of Walked, n_seeds
        Out of sample, by each seed's tables.
    table_walk : Walked
        Out of sample, by the tables of the mean.
    network_walk : Walked
        Out of sample, by the mean of the networks themselves.
    fidelity : float
        Share of out-of-sample days on which the tables choose as the networks do.
    rows : range
        Rows decided on out of sample.
    """

    networks: tuple[Network, ...]
    tables: tuple[Lookup, ...]
    table: Lookup
    seed_walks: tuple[Walked, ...]
    table_walk: Walked
    network_walk: Walked
    fidelity: float
    rows: range


def train_policies(
    days: SleeveDays,
    plan: PolicyPlan,
    *,
    ray: str | None = None,
    workers: int | None = None,
) -> Trained:
    """Train by walk-forward, then on all days.

    Parameters
    ----------
    days : SleeveDays
        Days known at the decision time.
    plan : PolicyPlan
        Seeds, blocks, and how to train.
    ray : str, optional
        Address of a Ray cluster; a Ray of this machine is started if not given.
    workers : int, optional
        Processes on this machine; one a core if not given.

    Raises
    ------
    PolicyError
        If there is no block to walk over.

    Notes
    -----
    Point in time: the networks and tables of a block know the days up to its first
    decision and none later. Numbers do not depend on where they were trained.
    """
    blocks = plan.blocks(days.n_days)
    if not blocks:
        raise PolicyError(
            f"{days.n_days} days; {plan.min_train_days + EARNS_AFTER} or more are needed"
            " to walk forward"
        )
    stops = [block.start + 1 for block in blocks] + [days.n_days]
    tasks = [(stop, seed) for stop in stops for seed in plan.seeds]
    found = dict(
        map_tasks(
            train_one, tasks, common=(days, plan), ray=ray or LOCAL, workers=workers
        )
    )
    networks = {task: found[number] for number, task in enumerate(tasks)}
    return walk_forward(days, plan, networks)


def train_one(common: tuple[SleeveDays, PolicyPlan], task: tuple[int, int]) -> Network:
    """Train one network on the first days.

    Parameters
    ----------
    common : tuple of SleeveDays and PolicyPlan
        All days, and how to train.
    task : tuple of int and int
        How many days it may know, and the seed.
    """
    days, plan = common
    stop, seed = task
    known = days.until(stop)
    scale = float(np.std(known.net.mean(axis=1)))
    problem = Problem(
        known,
        market_states(known, plan.states),
        Menu.of(known.sleeves),
        replace(plan.rules, scale=max(scale, 1e-6)),
    )
    # The last fifth of the training is at full costs.
    each = plan.ppo.iterations * plan.ppo.steps // plan.ppo.n_envs
    make_env = partial(AllocationEnv, problem, ramp=each * 4 // 5, is_relative=True)
    return train_network(make_env, plan.ppo, seed=seed)[0]


@dataclass(frozen=True, slots=True)
class _Distilled:
    # Of one span of training days: the seeds' networks and tables, and the mean's.
    networks: tuple[Network, ...]
    tables: tuple[Lookup, ...]
    table: Lookup


def _distil_all(
    days: SleeveDays,
    plan: PolicyPlan,
    networks: Mapping[tuple[int, int], Network],
    stop: int,
) -> _Distilled:
    known = days.until(stop)
    states = market_states(known, plan.states)
    own = tuple(networks[stop, seed] for seed in plan.seeds)
    make = partial(
        distil,
        days=known,
        states=states,
        menu=Menu.of(known.sleeves),
        cost_bps=plan.rules.cost_bps,
    )
    return _Distilled(own, tuple(make([one]) for one in own), make(own))


def walk_forward(
    days: SleeveDays,
    plan: PolicyPlan,
    networks: Mapping[tuple[int, int], Network],
) -> Trained:
    """Distil the networks of each block and walk them over it.

    Parameters
    ----------
    days : SleeveDays
        All days.
    plan : PolicyPlan
        How they were trained.
    networks : mapping of (int, int) to Network
        By the number of days that each knows, and its seed: for every block the days
        up to its first decision, that row included, and all days.

    Notes
    -----
    Point in time: as `train_policies`.
    """
    blocks = plan.blocks(days.n_days)
    stops = [block.start + 1 for block in blocks] + [days.n_days]
    distilled = [_distil_all(days, plan, networks, stop) for stop in stops]
    rows = range(blocks[0].start, blocks[-1].stop)
    states = market_states(days, plan.states)
    go = partial(
        walk,
        days,
        Menu.of(days.sleeves),
        rows=rows,
        cost_bps=plan.rules.cost_bps,
    )
    *past, last = distilled
    by_seed = [
        _in_turn(blocks, [by_table(one.tables[k], states) for one in past])
        for k in range(len(plan.seeds))
    ]
    tables = _in_turn(blocks, [by_table(one.table, states) for one in past])
    nets = _in_turn(
        blocks, [by_network(one.networks, states, one.table.menu) for one in past]
    )
    network_walk = go(nets)
    return Trained(
        networks=last.networks,
        tables=last.tables,
        table=last.table,
        seed_walks=tuple(go(one) for one in by_seed),
        table_walk=go(tables),
        network_walk=network_walk,
        fidelity=_agreed(network_walk, tables),
        rows=rows,
    )


def _in_turn(blocks: Sequence[range], choosers: Sequence[Chooser]) -> Chooser:
    begins = [block.start for block in blocks]

    def choose(row: int, drawdown: float) -> tuple[int, int]:
        place = int(np.searchsorted(begins, row, side="right")) - 1
        return choosers[place](row, drawdown)

    return choose


def _agreed(walked: Walked, tables: Chooser) -> float:
    same = [
        tables(row, drawdown) == (allocation, level)
        for row, drawdown, allocation, level in zip(
            walked.rows.tolist(),
            walked.drawdowns.tolist(),
            walked.allocation.tolist(),
            walked.level.tolist(),
            strict=True,
        )
    ]
    return float(np.mean(same))
