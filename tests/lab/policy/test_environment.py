"""States, rewards and the environment by hand-worked numbers and Gymnasium's checker."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from lab.errors import PolicyError
from lab.policy.days import families_of, newest_known
from lab.policy.environment import AllocationEnv, Problem
from lab.policy.menu import Menu
from lab.policy.rewards import Book, RewardRules
from lab.policy.state import StatePlan, forecast_agreement, market_states
from tests.lab.policy.toy import SLEEVES, days_of, planted, rough

PLAN = StatePlan(volatility_days=5, usual_days=20, momentum_days=10, warm_up=10)


def problem_of(days, **options) -> Problem:
    return Problem(
        days, market_states(days, PLAN), Menu.of(days.sleeves), RewardRules(), **options
    )


def test_the_environment_keeps_gymnasiums_contract():
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it advises on render modes
        check_env(AllocationEnv(problem_of(rough())), skip_render_check=True)


def test_a_choice_earns_from_the_row_after_the_one_that_it_is_traded_on():
    net = np.zeros((40, 3))
    net[22] = (0.02, 0.0, 0.0)
    problem = replace(problem_of(days_of(net)), hold_days=1, episode_days=10)
    menu = problem.menu
    env = AllocationEnv(problem)
    only_a = np.array([menu.names.index("a"), menu.levels.index(1.0)])
    env.reset(seed=0, options={"row": 18})
    rewards = [env.step(only_a)[1] for _ in range(5)]
    cost = np.log(1 - 10e-4) - 0.1 * 10e-4
    expected = np.array([cost, 0.0, np.log(1.02), 0.0, 0.0]) / 0.01
    assert rewards == pytest.approx(expected, abs=1e-3)


def test_a_choice_is_kept_for_its_days_and_its_rewards_add_up():
    days = rough()
    action = np.array([0, 2])
    each = AllocationEnv(replace(problem_of(days), hold_days=1, episode_days=20))
    week = AllocationEnv(replace(problem_of(days), hold_days=5, episode_days=20))
    for env in (each, week):
        env.reset(seed=0, options={"row": 50})
    single = [each.step(action) for _ in range(20)]
    kept = [week.step(action) for _ in range(4)]
    assert sum(one[1] for one in kept) == pytest.approx(sum(one[1] for one in single))
    assert [one[3] for one in kept] == [False, False, False, True]
    assert not any(one[2] for one in kept)
    np.testing.assert_array_equal(kept[-1][0], single[-1][0])


def test_moving_is_free_over_half_the_ramp_and_then_rises_to_its_cost():
    days = days_of(np.zeros((60, 3)))
    problem = replace(problem_of(days), hold_days=1, episode_days=40)
    env = AllocationEnv(problem, ramp=4)
    env.reset(seed=0, options={"row": 12})
    places = [problem.menu.names.index(name) for name in ("a", "b")]
    costs = [-env.step(np.array([places[k % 2], 2]))[1] for k in range(6)]
    assert costs[:2] == [0.0, 0.0]
    assert costs[2] == pytest.approx(costs[3] / 2, rel=0.01)
    assert costs[4] == pytest.approx(costs[3], rel=0.01)


def test_relative_rewards_differ_by_the_same_whatever_is_chosen():
    problem = replace(problem_of(rough()), hold_days=5, episode_days=20)
    gaps = []
    for action in ([0, 2], [3, 1], [1, 0]):
        rewards = []
        for is_relative in (False, True):
            env = AllocationEnv(problem, is_relative=is_relative)
            env.reset(seed=0, options={"row": 40})
            rewards.append([env.step(np.array(action))[1] for _ in range(4)])
        gaps.append(np.subtract(*rewards))
    assert np.ptp(gaps[0]) > 0
    np.testing.assert_allclose(gaps[1], gaps[0])
    np.testing.assert_allclose(gaps[2], gaps[0])


def test_a_drawdown_is_seen_a_row_late_and_costs_reward():
    book = Book(1, cost_bps=0.0)
    full = np.array([1.0])
    book.earn(full, np.array([-0.1]))
    assert book.drawdown == 0.0
    assert book.growth == pytest.approx(0.1)
    book.earn(full, np.array([0.0]))
    assert book.drawdown == pytest.approx(0.1)
    rules = RewardRules(drawdown_penalty=0.5, scale=1.0)
    assert rules.reward(-0.1, 0.1) == pytest.approx(np.log(0.9) - 0.05)
    assert rules.reward(0.1, -0.1) == pytest.approx(np.log(1.1))


def test_turnover_counts_what_has_drifted():
    book = Book(2, cost_bps=100.0)
    half = np.array([0.5, 0.5])
    net, turnover = book.earn(half, np.array([0.1, 0.0]))
    assert turnover == pytest.approx(1.0)
    assert net == pytest.approx(0.05 - 0.01)
    _, turnover = book.earn(half, np.zeros(2))
    held = np.array([0.55, 0.5]) / 1.04
    assert turnover == pytest.approx(np.abs(half - held).sum())


def test_a_book_that_lost_everything_stays_lost():
    book = Book(1, cost_bps=0.0)
    book.earn(np.array([1.0]), np.array([-1.0]))
    book.earn(np.array([1.0]), np.array([0.5]))
    book.earn(np.array([1.0]), np.array([0.5]))
    assert book.drawdown == 1.0


def test_states_name_what_they_hold():
    days = rough()
    states = market_states(days, PLAN)
    seen = states.observation(100, 0.1)
    assert seen.shape == (states.n_features,) == (len(states.names),)
    told = dict(zip(states.names, seen, strict=True))
    if np.isfinite(days.regime[100]).all():
        assert told["p_calm"] == days.regime[100, 0]
    assert told["drawdown"] == pytest.approx(np.tanh(1.0))
    assert np.isfinite(states.observations[PLAN.warm_up :]).all()


def test_the_family_that_rose_leads():
    net = np.zeros((60, 3))
    net[:, 1] = np.tile((0.002, 0.001), 30)
    net[:, 2] = np.tile((-0.002, -0.001), 30)
    days = days_of(net, sleeves=("phase37", "rsi-reversion", "time-series-momentum"))
    states = market_states(days, PLAN)
    assert states.families == ("baseline", "reversion", "trend")
    assert set(states.leader[PLAN.warm_up :]) == {1}
    assert states.breadth[-1] == pytest.approx(1 / 3)


def test_models_agree_where_their_signs_do():
    moves = np.array([[[0.1, 0.1]], [[0.2, -0.2]], [[np.nan, np.nan]]])
    assert forecast_agreement(moves) == pytest.approx([0.5])
    assert np.isnan(forecast_agreement(moves[:1])).all()


def test_the_newest_row_counts_from_the_moment_it_was_known():
    at = np.array(["2020-01-01", "2020-01-02", "2020-02-01"], "datetime64[us]")
    known = at[1:2]
    month = np.timedelta64(20, "D")
    found = newest_known(np.array([7.0]), known, at, max_age=month)
    np.testing.assert_array_equal(found, [np.nan, 7.0, np.nan])


def test_a_menu_offers_all_alike_the_families_and_each_alone():
    sleeves = (
        "follow-kronos",
        "genome-7",
        "pairs-reversion",
        "phase37",
        "rsi-reversion",
    )
    menu = Menu.of(sleeves)
    assert menu.names == ("equal", "family:reversion", *sleeves)
    np.testing.assert_allclose(menu.shares[1], [0, 0, 0.5, 0, 0.5])
    assert set(families_of(sleeves)) == {"forecast", "evolved", "reversion", "baseline"}
    assert menu.target(0, menu.levels.index(0.0)).sum() == 0.0
    assert menu.target(3, menu.levels.index(0.5)).sum() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sleeves": ("b", "a", "phase37")}, "sorted and unique"),
        ({"net": np.full((300, 3), np.nan)}, "finite and at least -1"),
        ({"net": np.zeros((299, 3))}, r"net of shape \(299, 3\)"),
        ({"agreement": np.zeros(2)}, "agreement of shape"),
    ],
)
def test_days_that_no_policy_can_work_with_are_refused(change, message):
    with pytest.raises(PolicyError, match=message):
        replace(rough(), **change)


def test_parts_that_do_not_belong_together_are_refused():
    days = planted(100)
    other = Menu.of(("a", "b"))
    with pytest.raises(PolicyError, match="other sleeves"):
        Problem(days, market_states(days, PLAN), other, RewardRules())
    short = days.until(11)
    with pytest.raises(PolicyError, match="leave none to decide on"):
        Problem(short, market_states(short, PLAN), Menu.of(SLEEVES), RewardRules())
    with pytest.raises(PolicyError, match="scale above 0"):
        RewardRules(scale=0.0)
