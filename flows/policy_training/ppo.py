"""PPO by Ray RLlib: an environment in, the weights of a network out.

Everything runs in the calling process (no env runners, no remote learners), on one
thread and seeded, so the same arguments give the same weights to the last bit, here and
on any worker. RLlib's checkpoints are pickles: none is written, weights leave as arrays.

References
----------
.. [1] Schulman et al. (2017), Proximal policy optimization algorithms, arXiv:1707.06347.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lab.arrays import FloatArray
from lab.errors import PolicyError
from lab.policy.network import Network

_LAYERS: Final = (
    "encoder.actor_encoder.net.mlp.0",
    "encoder.actor_encoder.net.mlp.2",
    "pi.net.mlp.0",
)
"""Where RLlib's default module keeps the actor's layers, input first."""

_RLLIB_ENV: Final = "rllib-single-agent-env-v0"


@dataclass(frozen=True, slots=True)
class PPOSettings:
    """How PPO learns; the defaults suit some thousand noisy days.

    Days come as they come whatever is chosen: a choice matters later only by what it
    costs to leave it and by the drawdown it left. A low discount keeps the noise of
    later days out of its credit.

    Attributes
    ----------
    iterations : int
        Rounds of sampling and learning.
    steps : int
        Environment steps of a round.
    n_envs : int
        Copies of the environment, stepped together.
    minibatch, epochs : int
        Rows of a gradient step, and passes over a round's steps.
    learning_rate, gamma, lambda_, clip, entropy : float
        Step size; discount; of the generalised advantage estimate; of the surrogate;
        weight of the entropy bonus.
    hidden : tuple of int
        Widths of the two layers.
    """

    iterations: int = 10
    steps: int = 2048
    n_envs: int = 16
    minibatch: int = 256
    epochs: int = 8
    learning_rate: float = 1e-3
    gamma: float = 0.5
    lambda_: float = 0.9
    clip: float = 0.2
    entropy: float = 0.003
    hidden: tuple[int, int] = (32, 32)

    def __post_init__(self) -> None:
        """Refuse counts of nothing."""
        counts = (self.iterations, self.steps, self.n_envs, self.minibatch, self.epochs)
        if min(counts) < 1 or self.minibatch > self.steps:
            raise PolicyError(
                f"PPO settings {counts}: counts of 1 or more, minibatch <= steps"
            )


def train_network(
    make_env: Callable[[], Any],
    settings: PPOSettings,
    *,
    seed: int,
) -> tuple[Network, FloatArray]:
    """Train a network by PPO.

    Parameters
    ----------
    make_env : callable
        Returns a new Gymnasium environment with discrete actions.
    settings : PPOSettings
        How long and how.
    seed : int
        Randomness.

    Returns
    -------
    network : Network
        The actor: observation to the probability of each choice.
    returns : ndarray of shape (iterations,), float64
        Mean return of the episodes that ended in each round; NaN where none did.

    Raises
    ------
    PolicyError
        If RLlib's network is not of the layout that is read here.

    Notes
    -----
    Point in time: what the environment holds is all that is learnt from.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import gymnasium
    import torch

    torch.set_num_threads(1)
    # RLlib registers its vector environment anew and Gymnasium would warn of that.
    gymnasium.registry.pop(_RLLIB_ENV, None)
    algorithm = _config(make_env, settings, seed=seed).build_algo()
    try:
        returns = [_mean_return(algorithm.train()) for _ in range(settings.iterations)]
        state = algorithm.get_module().get_state(inference_only=True)
    finally:
        algorithm.stop()
    return _network(state, _heads(make_env())), np.array(returns)


def _config(make_env: Callable[[], Any], settings: PPOSettings, *, seed: int) -> Any:
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.tune.registry import register_env

    register_env("alphalake", lambda _: make_env())
    return (
        PPOConfig()  # type: ignore[no-untyped-call]
        .environment("alphalake")
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=settings.n_envs,
            rollout_fragment_length="auto",
        )
        .learners(num_learners=0, num_gpus_per_learner=0)
        .training(
            train_batch_size_per_learner=settings.steps,
            minibatch_size=settings.minibatch,
            num_epochs=settings.epochs,
            lr=settings.learning_rate,
            gamma=settings.gamma,
            lambda_=settings.lambda_,
            clip_param=settings.clip,
            entropy_coeff=settings.entropy,
            use_kl_loss=False,
            grad_clip=0.5,
            grad_clip_by="global_norm",
        )
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=list(settings.hidden),
                fcnet_activation="tanh",
                vf_share_layers=False,
            )
        )
        .debugging(seed=seed, log_level="ERROR")
    )


def _mean_return(result: dict[str, Any]) -> float:
    found = result.get("env_runners", {}).get("episode_return_mean", np.nan)
    return float(found)


def _heads(env: Any) -> tuple[int, ...]:
    space = env.action_space
    return tuple(int(n) for n in getattr(space, "nvec", [getattr(space, "n", 0)]))


def _network(state: dict[str, Any], heads: tuple[int, ...]) -> Network:
    layers = []
    for name in _LAYERS:
        parts = [state.get(f"{name}.{part}") for part in ("weight", "bias")]
        if any(part is None for part in parts):
            raise PolicyError(f"RLlib's network has no layer {name}: {sorted(state)}")
        weight, bias = (np.array(part, dtype=np.float32) for part in parts)
        layers.append((weight, bias))
    return Network(tuple(layers), heads)
