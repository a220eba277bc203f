"""The Gymnasium environment: a choice of allocation and risk level, kept for some days.

Episodes are stretches of the training days that begin anywhere; a book begins flat. The
end of a stretch is a truncation, never a terminal state: the days go on after it.

A policy that tries things at random trades all the time. At full costs it would learn
to stay in cash before it had learnt which sleeves earn anything, and in cash there is
nothing more to learn. So moving costs nothing over the first half of the first `ramp`
steps, and rises to its own cost over the second (a curriculum, [2]_); what is learnt
after that is learnt at full costs.

What the market did is the same whatever is chosen. A relative reward is less what the
mean of all choices earned on the same rows: which choice is best stays the same, and
the noise that no choice can change goes (an input-dependent baseline, [3]_).

References
----------
.. [1] Towers et al. (2024), Gymnasium: a standard interface for reinforcement learning
   environments, arXiv:2407.17032.
.. [2] Bengio et al. (2009), Curriculum learning, ICML.
.. [3] Mao et al. (2019), Variance reduction for reinforcement learning in input-driven
   environments, ICLR.
"""

from dataclasses import dataclass
from typing import Any, Final

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lab.arrays import FloatArray
from lab.errors import PolicyError
from lab.policy.days import SleeveDays
from lab.policy.menu import Menu
from lab.policy.rewards import EARNS_AFTER, HOLD_DAYS, Book, RewardRules
from lab.policy.state import MarketStates

EPISODE_DAYS: Final = 125
Observation = NDArray[np.float32]
Action = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Problem:
    """What there is to learn from: days, their states, the menu and the rewards.

    Attributes
    ----------
    days : SleeveDays
        Training days and no later ones.
    states : MarketStates
        Of the same days.
    menu : Menu
        Choices, over the same sleeves.
    rules : RewardRules
        Rewards.
    episode_days : int
        Longest episode; shorter where there are fewer days.
    hold_days : int
        Days for which a choice is kept; the last of an episode may be cut short.

    Raises
    ------
    PolicyError
        If sleeves or days differ, or there is no day to learn from.
    """

    days: SleeveDays
    states: MarketStates
    menu: Menu
    rules: RewardRules
    episode_days: int = EPISODE_DAYS
    hold_days: int = HOLD_DAYS

    def __post_init__(self) -> None:
        """Refuse parts that do not belong together."""
        if self.menu.sleeves != self.days.sleeves:
            raise PolicyError("policy problem: menu and days have other sleeves")
        if len(self.states.regime) != self.days.n_days:
            raise PolicyError("policy problem: states and days differ in number")
        if self.n_decisions < 1 or min(self.episode_days, self.hold_days) < 1:
            raise PolicyError(
                f"policy problem: {self.days.n_days} days leave none to decide on"
                f" after {self.states.warm_up} to warm up"
            )

    @property
    def n_decisions(self) -> int:
        """Days on which a choice can be made whose return is among the days."""
        return self.days.n_days - EARNS_AFTER - self.states.warm_up


class AllocationEnv(gymnasium.Env[Observation, Action]):
    """Allocation over sleeves.

    The observation is `MarketStates.observation` as float32, shape (n_features,); the
    action is (allocation, level), places in the menu; the reward is the sum over the
    rows which the choice earns, the first of them `EARNS_AFTER` rows on.

    Parameters
    ----------
    problem : Problem
        What is learnt from.
    ramp : int
        Steps of this environment after which moving costs its own; 0 from the start.
    is_relative : bool
        Whether rewards are less what the mean of all choices earned, before costs.

    Notes
    -----
    Point in time: the observation on row t is made of rows up to t, the book's own
    drawdown included; the reward of a choice on row t of rows up to
    t + `EARNS_AFTER` + `hold_days` - 1.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium's

    def __init__(
        self, problem: Problem, *, ramp: int = 0, is_relative: bool = False
    ) -> None:
        self.problem = problem
        self._ramp, self._n_steps = ramp, 0
        self._usual = _usual(problem) if is_relative else np.zeros(problem.days.n_days)
        shape = (problem.states.n_features,)
        self.observation_space = gymnasium.spaces.Box(-10.0, 10.0, shape, np.float32)
        heads = list(problem.menu.heads)
        self.action_space: gymnasium.spaces.Space[Action] = (
            gymnasium.spaces.MultiDiscrete(heads)
        )
        self._row = self._stop = 0
        self._book = self._new_book()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Parameters
        ----------
        seed : int, optional
            Seeds the choice of where episodes begin.
        options : dict, optional
            `row`: where this one begins, instead of anywhere.
        """
        super().reset(seed=seed)
        problem = self.problem
        length = min(problem.episode_days, problem.n_decisions)
        latest = problem.n_decisions - length
        begin = problem.states.warm_up + int(self.np_random.integers(latest + 1))
        self._row = int((options or {}).get("row", begin))
        self._stop = min(self._row + length, problem.days.n_days - EARNS_AFTER)
        self._book = self._new_book()
        return self._observation(), {}

    def step(
        self, action: Action
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Choose, and keep the choice for `hold_days`.

        Parameters
        ----------
        action : ndarray of shape (2,), int64
            Allocation and level.
        """
        problem = self.problem
        target = problem.menu.target(int(action[0]), int(action[1]))
        self._n_steps += 1
        ease = self._ease()
        until = min(self._row + problem.hold_days, self._stop)
        reward = 0.0
        for row in range(self._row, until):
            net, _ = self._book.earn(target, problem.days.net[row + EARNS_AFTER], ease)
            reward += problem.rules.reward(net, self._book.growth)
            reward -= float(self._usual[row + EARNS_AFTER])
        self._row = until
        return self._observation(), reward, False, self._row >= self._stop, {}

    def _ease(self) -> float:
        # Nothing over the first half of the ramp, then more with each step.
        if not self._ramp:
            return 1.0
        return min(max(2.0 * self._n_steps / self._ramp - 1.0, 0.0), 1.0)

    def _observation(self) -> Observation:
        found = self.problem.states.observation(self._row, self._book.drawdown)
        return np.asarray(np.clip(found, -10.0, 10.0), dtype=np.float32)

    def _new_book(self) -> Book:
        problem = self.problem
        return Book(len(problem.menu.sleeves), cost_bps=problem.rules.cost_bps)


def _usual(problem: Problem) -> FloatArray:
    menu = problem.menu
    mean = menu.shares.mean(axis=0) * float(np.mean(menu.levels))
    earned = np.log1p(np.maximum(problem.days.net @ mean, -0.99))
    return np.asarray(earned / problem.rules.scale)
