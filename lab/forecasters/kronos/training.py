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
from typing import Final, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lab.arrays import IntArray
from lab.errors import TrainingError
from lab.forecasters.kronos.adapter import EventAdapter
from lab.forecasters.kronos.bigram import TokenPairs
from lab.forecasters.kronos.network import KronosNetwork
from lab.forecasters.kronos.tokenizer import KronosTokenizer, tokenizer_loss
from lab.forecasters.kronos.windows import Batch, Split, Windows

Given = Literal["target", "sampled"]
Dependency = Literal["rotary", "both"]

_JUDGED: Final = 64  # windows of a validation batch


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


class Metrics(NamedTuple):
    """Validation figures of a predictor, nats.

    Attributes
    ----------
    ce : float
        Mean of `ce1` and `ce2`.
    ce1, ce2 : float
        Cross-entropy of the coarse token, and of the fine one given the true coarse
        one.
    ce2_generation : float
        The fine token's under the attention with which forecasts are generated.
    """

    ce: float
    ce1: float
    ce2: float
    ce2_generation: float


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


class PredictorLoss(NamedTuple):
    """Cross-entropies of a batch as tensors of shape (); see `Metrics`."""

    total: Tensor
    ce1: Tensor
    ce2: Tensor
    ce2_generation: Tensor


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
    network: nn.Module,
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
    frozen = cast("KronosNetwork", network)

    def loss(batch: Batch) -> Tensor:
        tokens = encoded(tokenizer, batch)
        parts = predictor_loss(frozen, tokens, batch, adapter=adapter, generator=draws)
        if config.dependency == "rotary":
            return parts.total
        return (parts.ce1 + (parts.ce2 + parts.ce2_generation) / 2) / 2

    modules = (network,) if adapter is None else (network, adapter)
    stage = _Stage(
        modules, loss, lambda: evaluate(frozen, tokenizer, judged, adapter=adapter).ce
    )
    return _train(stage, split.train, config, generator, progress)


def encoded(tokenizer: KronosTokenizer, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return both tokens of a batch, (B, n_rows) each, without gradients."""
    with torch.no_grad():
        return tokenizer.encode(torch.from_numpy(batch.values))


def predictor_loss(
    network: KronosNetwork,
    tokens: tuple[Tensor, Tensor],
    batch: Batch,
    *,
    adapter: EventAdapter | None = None,
    generator: torch.Generator | None = None,
) -> PredictorLoss:
    """Return next-token cross-entropies over all positions of a batch.

    Parameters
    ----------
    network : KronosNetwork
        In whichever mode it is; the dependency layer is causal in both.
    tokens : tuple of Tensor of shape (B, n_rows), int64
        Coarse and fine tokens; the first n_rows - 1 are inputs.
    batch : Batch
        Their stamps and events.
    adapter : EventAdapter, optional
        Conditions on the batch's events.
    generator : torch.Generator, optional
        Where given, the fine token is told a coarse token drawn from the network's own
        distribution instead of the true one.
    """
    s1, s2 = tokens
    stamps = torch.from_numpy(batch.stamps)[:, :-1]
    extra = None
    if adapter is not None and batch.events is not None:
        extra = adapter(torch.from_numpy(batch.events))[:, :-1]
    h = network.hidden(s1[:, :-1], s2[:, :-1], stamps, extra=extra)
    logits = network.s1_logits(h)
    given = s1[:, 1:]
    if generator is not None:
        chances = logits.detach().softmax(dim=-1).flatten(0, 1)
        given = torch.multinomial(chances, 1, generator=generator).view_as(given)
    ce1 = _cross_entropy(logits, s1)
    ce2 = _cross_entropy(network.s2_logits_teacher(h, given, is_causal=True), s2)
    ce2_generation = _cross_entropy(_generation_logits(network, h, given), s2)
    return PredictorLoss((ce1 + ce2) / 2, ce1, ce2, ce2_generation)


def _generation_logits(network: KronosNetwork, h: Tensor, s1_next: Tensor) -> Tensor:
    # Position t's logits are those that `s2_logits_last` gives for states 0 to t.
    mixed = network.dep_layer.cross_attn(
        network.embedding.emb_s1(s1_next), h, is_causal=True, is_rotated=False
    )
    logits: Tensor = network.head.proj_s2(network.dep_layer.norm(h + mixed))
    return logits


def _cross_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def evaluate(
    network: KronosNetwork,
    tokenizer: KronosTokenizer,
    windows: Windows,
    *,
    adapter: EventAdapter | None = None,
) -> Metrics:
    """Return a predictor's cross-entropies on windows, in evaluation mode.

    Raises
    ------
    TrainingError
        If there are no windows.

    Notes
    -----
    Point in time: the fine token's logits at a position never see a later one, which
    the reference's own validation does.
    """
    _require(windows)
    sums = np.zeros(3)
    with torch.no_grad(), _judging(network, adapter):
        for chosen in _chunks(windows.n_windows):
            batch = windows.batch(chosen)
            parts = predictor_loss(
                network, encoded(tokenizer, batch), batch, adapter=adapter
            )
            sums += len(chosen) * np.array([float(one) for one in parts[1:]])
    ce1, ce2, generated = (float(one) for one in sums / windows.n_windows)
    return Metrics((ce1 + ce2) / 2, ce1, ce2, generated)


def rebuilt_error(tokenizer: KronosTokenizer, windows: Windows) -> float:
    """Return the mean squared error of bars rebuilt from both tokens.

    Raises
    ------
    TrainingError
        If there are no windows.
    """
    _require(windows)
    total = 0.0
    with torch.no_grad(), _judging(tokenizer):
        for chosen in _chunks(windows.n_windows):
            x = torch.from_numpy(windows.batch(chosen).values)
            rebuilt = tokenizer.decode(*tokenizer.encode(x))
            total += len(chosen) * float(functional.mse_loss(rebuilt, x))
    return total / windows.n_windows


def token_pairs(tokenizer: KronosTokenizer, windows: Windows) -> TokenPairs:
    """Return the tokens of all windows, for a bigram."""
    parts = [
        encoded(tokenizer, windows.batch(chosen))
        for chosen in _chunks(windows.n_windows)
    ]
    s1, s2 = (torch.cat([one[k] for one in parts]).numpy() for k in (0, 1))
    return TokenPairs(s1, s2)


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
    _require(windows)
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
                _check_finite(float(loss), step)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, config.clip_norm)
                optimizer.step()
                schedule.step()
            is_judged = step % config.validate_every == 0 or step == config.steps
            seen = watch.look(step, stage.validate()) if is_judged else None
            report = StepReport(step, config.steps, float(loss), seen)
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


@contextmanager
def _judging(*modules: nn.Module | None) -> Iterator[None]:
    # Back to the mode it was in: validation must not end training's dropout.
    was = [(one, one.training) for one in modules if one is not None]
    for one, _ in was:
        one.eval()
    try:
        yield
    finally:
        for one, is_training in was:
            one.train(is_training)


def _chunks(n: int) -> list[IntArray]:
    rows = np.arange(n, dtype=np.int64)
    return [rows[k : k + _JUDGED] for k in range(0, n, _JUDGED)]


def _require(windows: Windows) -> None:
    if windows.n_windows == 0:
        raise TrainingError("training: no windows")


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise TrainingError(f"training: the loss is {loss} after {step} steps")
