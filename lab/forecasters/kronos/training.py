"""Both stages of training: the tokenizer, then the predictor on its frozen tokens.

Deterministic: the windows' order, drawn tokens and dropout all come from the generator
that is passed in, so the same seed gives the same weights on the same machine and
number of threads. Validation computes what training does, on later windows: the
dependency layer is causal in both, so no target is visible to its own prediction.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lab.errors import TrainingError
from lab.forecasters.kronos.adapter import EventAdapter
from lab.forecasters.kronos.losses import (
    encoded,
    evaluate,
    predictor_loss,
    rebuilt_error,
    require_windows,
)
from lab.forecasters.kronos.network import KronosNetwork
from lab.forecasters.kronos.tokenizer import KronosTokenizer, tokenizer_loss
from lab.forecasters.kronos.windows import Batch, Split, Windows

Given = Literal["target", "sampled"]
Dependency = Literal["rotary", "both"]


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How a stage is trained.

    Attributes
    ----------
    steps, batch_size : int
        Optimiser steps, windows of each.
    learning_rate : float
        Peak of the one-cycle schedule: from a tenth up over the first 3 % of the
        steps, then down.
    betas, weight_decay, clip_norm
        Of AdamW, and the largest norm of the gradient.
    validate_every, n_validation : int
        Steps between validations, windows of each.
    patience : int or None
        Validations without improvement before training ends; None never ends it.
    s1_given : {"target", "sampled"}
        Which coarse token the fine one is told in training: the true one, or one drawn
        from the network's own distribution. Validation always tells the true one.
    dependency : {"rotary", "both"}
        `both` also trains the fine token under the unrotated attention with which
        forecasts are generated.
    """

    steps: int
    batch_size: int = 32
    learning_rate: float = 4e-5
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip_norm: float = 3.0
    validate_every: int = 100
    n_validation: int = 256
    patience: int | None = None
    s1_given: Given = "target"
    dependency: Dependency = "rotary"

    def __post_init__(self) -> None:
        """Refuse numbers with which nothing can be trained."""
        counts = (self.steps, self.batch_size, self.validate_every, self.n_validation)
        if min(counts) < 1 or (self.patience is not None and self.patience < 1):
            raise TrainingError(
                f"training: steps {self.steps}, batch size {self.batch_size}, validate"
                f" every {self.validate_every}, validation windows {self.n_validation},"
                f" patience {self.patience}: all at least 1"
            )
        if not 0 < self.learning_rate < 1 or self.clip_norm <= 0:
            raise TrainingError(
                f"training: learning rate {self.learning_rate} between 0 and 1,"
                f" clip norm {self.clip_norm} above 0"
            )


def tokenizer_config(steps: int) -> TrainingConfig:
    """Return the tokenizer stage's settings: AdamW 2e-4, decay 0.1, norm 2."""
    return TrainingConfig(steps, learning_rate=2e-4, betas=(0.9, 0.999), clip_norm=2.0)


class StepReport(NamedTuple):
    """What a progress callback is told.

    Attributes
    ----------
    step, steps : int
        Steps done and planned.
    loss : float
        Training loss of the step.
    validation : float or None
        Validation loss, where this step had one; 0 steps done is before training.
    """

    step: int
    steps: int
    loss: float
    validation: float | None


Progress = Callable[[StepReport], bool]
"""Called after every step; returns whether to go on."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """How a stage went; the module itself holds the best weights seen.

    Attributes
    ----------
    steps : int
        Steps done.
    before, best : float
        Validation loss before the first step, and of the weights kept.
    best_step : int
        Step after which those were seen; 0 if training never helped.
    history : tuple of (int, float)
        Step and validation loss.
    """

    steps: int
    before: float
    best: float
    best_step: int
    history: tuple[tuple[int, float], ...]


def train_tokenizer(
    tokenizer: KronosTokenizer,
    split: Split,
    config: TrainingConfig,
    generator: torch.Generator,
    *,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a tokenizer in place, and leave the best weights in it.

    Parameters
    ----------
    tokenizer : KronosTokenizer
        Changed.
    split : Split
        Windows to learn from and to judge by.
    config : TrainingConfig
        See `tokenizer_config`.
    generator : torch.Generator
        Source of all randomness.
    progress : callable, optional
        Called after every step; returns whether to go on.

    Raises
    ------
    TrainingError
        If a side of the split is empty, or the loss stops being finite.

    Notes
    -----
    Point in time: judged by the squared error of windows later than all training bars.
    """
    judged = split.validation.spread(config.n_validation)

    def loss(batch: Batch) -> Tensor:
        x = torch.from_numpy(batch.values)
        return tokenizer_loss(tokenizer.training_forward(x), x)

    stage = _Stage((tokenizer,), loss, lambda: rebuilt_error(tokenizer, judged))
    return _train(stage, split.train, config, generator, progress)


def train_network(
    network: KronosNetwork,
    tokenizer: KronosTokenizer,
    split: Split,
    config: TrainingConfig,
    generator: torch.Generator,
    *,
    adapter: EventAdapter | None = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a predictor in place, and leave the best weights in it.

    Parameters
    ----------
    network : KronosNetwork
        Changed, as far as its parameters take gradients.
    tokenizer : KronosTokenizer
        Frozen.
    split : Split
        Windows to learn from and to judge by.
    config : TrainingConfig
        Steps, rates and which coarse token the fine one is told.
    generator : torch.Generator
        Source of all randomness.
    adapter : EventAdapter, optional
        Trained along; the windows must bring events then.
    progress : callable, optional
        Called after every step; returns whether to go on.

    Raises
    ------
    TrainingError
        If a side of the split is empty, an adapter has no events to learn from, or the
        loss stops being finite.

    Notes
    -----
    Point in time: judged by the cross-entropy of windows later than all training bars,
    computed causally.
    """
    if adapter is not None and not (
        split.train.has_events and split.validation.has_events
    ):
        raise TrainingError("training: an event adapter, but windows without events")
    judged = split.validation.spread(config.n_validation)
    draws = generator if config.s1_given == "sampled" else None

    def loss(batch: Batch) -> Tensor:
        tokens = encoded(tokenizer, batch)
        parts = predictor_loss(network, tokens, batch, adapter=adapter, generator=draws)
        if config.dependency == "rotary":
            return parts.total
        return (parts.ce1 + (parts.ce2 + parts.ce2_generation) / 2) / 2

    modules = (network,) if adapter is None else (network, adapter)
    stage = _Stage(
        modules, loss, lambda: evaluate(network, tokenizer, judged, adapter=adapter).ce
    )
    return _train(stage, split.train, config, generator, progress)


@dataclass(frozen=True, slots=True)
class _Stage:
    modules: tuple[nn.Module, ...]
    loss: Callable[[Batch], Tensor]
    validate: Callable[[], float]

    def parameters(self) -> list[nn.Parameter]:
        return [
            one
            for module in self.modules
            for one in module.parameters()
            if one.requires_grad
        ]


def _train(
    stage: _Stage,
    windows: Windows,
    config: TrainingConfig,
    generator: torch.Generator,
    progress: Progress | None,
) -> TrainingResult:
    require_windows(windows)
    parameters = stage.parameters()
    if not parameters:
        raise TrainingError("training: no parameter takes gradients")
    watch = _Watch(parameters, stage.validate(), config.patience)
    optimizer = torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=config.learning_rate,
        total_steps=config.steps + 1,
        pct_start=0.03,
        div_factor=10,
        cycle_momentum=False,
    )
    batches = _batches(windows, config.batch_size, generator)
    step = 0
    with _drawing_from(generator):
        for step in range(1, config.steps + 1):
            with _learning(*stage.modules):
                loss = stage.loss(next(batches))
                _check_finite(float(loss.detach()), step)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(parameters, config.clip_norm)
                optimizer.step()
                schedule.step()
            is_judged = step % config.validate_every == 0 or step == config.steps
            seen = watch.look(step, stage.validate()) if is_judged else None
            report = StepReport(step, config.steps, float(loss.detach()), seen)
            goes_on = progress is None or progress(report)
            if not goes_on or watch.is_over:
                break
    if watch.last_step < step:
        watch.look(step, stage.validate())
    return watch.finish(step)


class _Watch:
    # Keeps the best parameters seen, and says when there is no more improvement.
    def __init__(
        self, parameters: list[nn.Parameter], before: float, patience: int | None
    ) -> None:
        _check_finite(before, 0)
        self.parameters = parameters
        self.history = [(0, before)]
        self.best, self.best_step = before, 0
        self.kept = self._copy()
        self.patience = math.inf if patience is None else patience
        self.n_worse = 0

    @property
    def is_over(self) -> bool:
        return self.n_worse >= self.patience

    @property
    def last_step(self) -> int:
        return self.history[-1][0]

    def look(self, step: int, loss: float) -> float:
        _check_finite(loss, step)
        self.history.append((step, loss))
        if loss < self.best:
            self.best, self.best_step, self.kept = loss, step, self._copy()
            self.n_worse = 0
        else:
            self.n_worse += 1
        return loss

    def finish(self, steps: int) -> TrainingResult:
        with torch.no_grad():
            for parameter, kept in zip(self.parameters, self.kept, strict=True):
                parameter.copy_(kept)
        return TrainingResult(
            steps,
            self.history[0][1],
            self.best,
            self.best_step,
            tuple(self.history),
        )

    def _copy(self) -> list[Tensor]:
        return [one.detach().clone() for one in self.parameters]


def _batches(
    windows: Windows, size: int, generator: torch.Generator
) -> Iterator[Batch]:
    # Epoch after epoch, reshuffled; a batch may span two epochs.
    rng = np.random.default_rng(_draw(generator))
    waiting = windows.order(rng)
    while True:
        while len(waiting) < size:
            waiting = np.concatenate([waiting, windows.order(rng)])
        yield windows.batch(waiting[:size])
        waiting = waiting[size:]


def _draw(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (1,), generator=generator))


@contextmanager
def _drawing_from(generator: torch.Generator) -> Iterator[None]:
    # Dropout knows only torch's global generator: seeded here, restored afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_draw(generator))
        yield


@contextmanager
def _learning(*modules: nn.Module) -> Iterator[None]:
    for one in modules:
        one.train()
    try:
        yield
    finally:
        for one in modules:
            one.eval()


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise TrainingError(f"training: the loss is {loss} after {step} steps")
