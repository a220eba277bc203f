"""What the two stages of training minimise, and what they are judged by."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lab.arrays import IntArray
from lab.errors import TrainingError
from lab.forecasters.kronos.adapter import EventAdapter
from lab.forecasters.kronos.bigram import TokenPairs
from lab.forecasters.kronos.network import KronosNetwork
from lab.forecasters.kronos.tokenizer import KronosTokenizer
from lab.forecasters.kronos.windows import Batch, Windows

_JUDGED: Final = 64  # windows of a validation batch


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


class PredictorLoss(NamedTuple):
    """Cross-entropies of a batch as tensors of shape (); see `Metrics`."""

    total: Tensor
    ce1: Tensor
    ce2: Tensor
    ce2_generation: Tensor


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
    require_windows(windows)
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
    require_windows(windows)
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


def require_windows(windows: Windows) -> None:
    """Refuse an empty set.

    Raises
    ------
    TrainingError
        If there are no windows.
    """
    if windows.n_windows == 0:
        raise TrainingError("training: no windows")


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
