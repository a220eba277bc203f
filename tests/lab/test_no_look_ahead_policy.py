"""No policy sees the future: states, rewards and the table, with altered later days."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.policy.environment import AllocationEnv, Problem
from lab.policy.evaluate import by_table, distil, walk
from lab.policy.menu import Menu
from lab.policy.rewards import EARNS_AFTER, RewardRules
from lab.policy.state import market_states
from tests.lab.policy.test_lookup import MENU, PLAN, network_of
from tests.lab.policy.toy import SLEEVES, rough

DAYS = rough(320)
CUTS = st.integers(min_value=140, max_value=300)
FUTURES = ("other", "absent", "unknown", "crash")


def altered(days, cut, kind, seed):
    """The same days before `cut`, others from it on."""
    if kind == "absent":
        return days.until(cut)
    rng = np.random.default_rng(seed)
    net, regime, agreement = days.net.copy(), days.regime.copy(), days.agreement.copy()
    if kind == "crash":
        net[cut:] = -0.9
    elif kind == "unknown":
        regime[cut:], agreement[cut:] = np.nan, np.nan
    else:
        net[cut:] = rng.normal(0, 0.1, net[cut:].shape)
        regime[cut:] = rng.dirichlet((1, 1, 1), len(net) - cut)
        agreement[cut:] = rng.random(len(net) - cut)
    return replace(days, net=net, regime=regime, agreement=agreement)


@settings(max_examples=30, deadline=None)
@given(cut=CUTS, kind=st.sampled_from(FUTURES), seed=st.integers(0, 9))
def test_states_up_to_a_day_do_not_depend_on_later_days(cut, kind, seed):
    one, other = (
        market_states(days, PLAN) for days in (DAYS, altered(DAYS, cut, kind, seed))
    )
    for name in (
        "regime",
        "volatility",
        "breadth",
        "leader",
        "agreement",
        "observations",
    ):
        np.testing.assert_array_equal(
            getattr(one, name)[:cut], getattr(other, name)[:cut]
        )


def steps_of(days, actions, stop):
    problem = Problem(
        days, market_states(days, PLAN), Menu.of(SLEEVES), RewardRules(), hold_days=1
    )
    env = AllocationEnv(problem)
    seen, _ = env.reset(seed=0, options={"row": 30})
    found = []
    for row in range(30, stop):
        found.append(seen)
        seen, reward, *_ = env.step(actions[row])
        found.append(np.array([reward]))
    return np.concatenate(found)


@settings(max_examples=15, deadline=None)
@given(cut=CUTS, kind=st.sampled_from(FUTURES), seed=st.integers(0, 9))
def test_rewards_are_of_the_days_a_choice_earns_and_no_later_ones(cut, kind, seed):
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, MENU.heads, (400, 2))
    stop = min(cut - EARNS_AFTER, 140)  # the last reward is of the day before the cut
    one = steps_of(DAYS, actions, stop)
    other = steps_of(altered(DAYS, cut, kind, seed), actions, stop)
    np.testing.assert_array_equal(one, other)


@settings(max_examples=10, deadline=None)
@given(
    cut=CUTS, kind=st.sampled_from(FUTURES[:1] + FUTURES[2:]), seed=st.integers(0, 9)
)
def test_a_table_and_its_choices_do_not_depend_on_later_days(cut, kind, seed):
    tables, walks = [], []
    for days in (DAYS, altered(DAYS, cut, kind, seed)):
        known = days.until(cut)
        states = market_states(known, PLAN)
        network = network_of(states, seed=seed)
        table = distil([network], known, states, MENU, cost_bps=10.0)
        tables.append(table.to_json())
        every = market_states(days, PLAN)
        walks.append(
            walk(days, MENU, by_table(table, every), rows=range(20, 318), cost_bps=10.0)
        )
    assert tables[0] == tables[1]
    one, other = walks
    before = one.rows < cut
    for name in ("allocation", "level", "drawdowns"):
        np.testing.assert_array_equal(
            getattr(one, name)[before], getattr(other, name)[before]
        )
    earned = one.rows + EARNS_AFTER < cut
    np.testing.assert_array_equal(one.net[earned], other.net[earned])


def test_the_comparison_finds_a_state_that_looks_one_day_ahead():
    later = altered(DAYS, 200, "crash", 0)
    ahead = [market_states(days, PLAN).volatility[1:] for days in (DAYS, later)]
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(ahead[0][:200], ahead[1][:200])
