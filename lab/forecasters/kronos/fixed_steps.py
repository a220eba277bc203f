"""Cached steps whose every shape is the same: what a GPU can replay as one graph.

On a GPU a step's products are so quick that launching them one by one takes longer than
they do. Here a step reads and writes buffers of their final size, masks what is yet to
come, asks nothing back, and is captured once per call. It serves calls in which nothing
leaves the window; all others go step by step as on a CPU. Bits are not promised here.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lab.errors import ForecastError
from lab.forecasters.kronos.attention import KeyValue, Tail, turned, turns
from lab.forecasters.kronos.cache import Group
from lab.forecasters.kronos.engine import finish, normed, scaled
from lab.forecasters.kronos.filtering import Filter, chances
from lab.forecasters.kronos.sampling import inverted

_MIN_CAPTURED = 8


def run_fixed(
    group: Group, tokens: tuple[Tensor, Tensor], uniforms: Tensor, by: Filter
) -> None:
    """Sample all steps but the first, in place.

    Parameters
    ----------
    group : Group
        Started; none of its steps lets a token leave the window.
    tokens : pair of Tensor of shape (B * S, horizon), int64
        Coarse and fine tokens; the first column is given.
    uniforms : Tensor of shape (B * S, 2 * horizon), float64
        Draws.
    by : Filter
        Temperature, top-k and top-p.

    Raises
    ------
    ForecastError
        If the network's logits are not finite.
    """
    step = FixedStep(group, tokens, uniforms, by)
    horizon = tokens[0].shape[1]
    is_captured = uniforms.is_cuda and horizon >= _MIN_CAPTURED
    advance = captured(step) if is_captured else step
    for _ in range(1, horizon):
        advance()
    if not bool(step.is_finite):
        raise ForecastError("kronos: the network's logits are not finite")


class FixedStep:
    """One step over buffers; calling it makes the next token pair of every path.

    Parameters
    ----------
    group, tokens, uniforms, by
        As in `run_fixed`.
    """

    def __init__(
        self,
        group: Group,
        tokens: tuple[Tensor, Tensor],
        uniforms: Tensor,
        by: Filter,
    ) -> None:
        self.group = group
        self.s1, self.s2 = tokens
        self.uniforms = uniforms
        self.by = by
        self.caches = group.caches()
        device, horizon = uniforms.device, tokens[0].shape[1]
        self.at = torch.ones(1, dtype=torch.int64, device=device)
        self.is_finite = torch.ones((), dtype=torch.bool, device=device)
        self.places = torch.arange(horizon - 1, device=device)
        stack = group.engine.stack
        self.turns = turns(stack, group.length + horizon - 1)[group.length :]

    def reset(self) -> None:
        """Start over at the second token pair."""
        self.at.fill_(1)
        self.is_finite.fill_(value=True)

    def __call__(self) -> None:
        """Append the tokens of the step before and draw the next ones."""
        engine, group = self.group.engine, self.group
        shape = (group.n_series, group.plan.n_paths)
        before = self.at - 1
        is_later = self.places > before
        x = self._inputs(before)
        by = self.turns.index_select(0, before)
        for layer, history, tail in zip(
            engine.stack.layers, self.caches.prefix, self.caches.tails, strict=True
        ):
            qkv = layer.qkv(scaled(x))
            parts = qkv.view(*shape, 3, engine.stack.n_heads, engine.stack.head)
            q, k, v = parts.unbind(dim=2)
            _store(tail, before, turned(k, by), v)
            finish(layer, x, _attend(turned(q, by), history, tail, is_later), 0)
        kv = engine.dependency_kv(scaled(x)).view(
            *shape, 2, self.caches.new.k.shape[2], -1
        )
        _store(self.caches.new, before, kv[:, :, 0], kv[:, :, 1])
        hidden = normed(x, engine.norm)
        s1 = self._draw(engine.s1_head(hidden), self.s1, 2 * self.at)
        q = engine.query_rows[s1].view(*shape, self.caches.new.k.shape[2], -1)
        mixed = _attend(q, self.caches.old, self.caches.new, is_later)
        states = hidden + engine.dependency_out(mixed)
        logits = engine.s2_head(normed(states, engine.dependency_norm))
        self._draw(logits, self.s2, 2 * self.at + 1)
        self.at += 1

    def _inputs(self, before: Tensor) -> Tensor:
        engine, group = self.group.engine, self.group
        s1, s2 = (one.index_select(1, before)[:, 0] for one in (self.s1, self.s2))
        added = group.future.index_select(1, before)
        added = added.expand(-1, group.plan.n_paths, -1).reshape(-1, engine.width)
        return engine.s1_rows[s1] + engine.s2_rows[s2] + added

    def _draw(self, logits: Tensor, into: Tensor, column: Tensor) -> Tensor:
        uniforms = self.uniforms.index_select(1, column)[:, 0]
        tokens, is_finite = inverted(chances(logits, self.by), uniforms)
        self.is_finite &= is_finite
        into.index_copy_(1, self.at, tokens[:, None])
        return tokens


def captured(step: FixedStep) -> Callable[[], None]:
    """Return the replay of a step as one CUDA graph."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(side)
    step.reset()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        step()
    step.reset()
    return graph.replay


def _store(tail: Tail, place: Tensor, k: Tensor, v: Tensor) -> None:
    tail.k.index_copy_(3, place, k.unsqueeze(3))
    tail.v.index_copy_(3, place, v.unsqueeze(3))


def _attend(q: Tensor, history: KeyValue, tail: Tail, is_later: Tensor) -> Tensor:
    # `attention.attend_newest` without blocks, over all of the tail's room.
    n_old = history.v.shape[2]
    old = q.transpose(1, 2) @ history.k  # (B, H, S, T)
    own = (tail.k @ q.unsqueeze(-1)).squeeze(-1)  # (B, S, H, n)
    own = own.masked_fill(is_later, float("-inf")).transpose(1, 2)
    scores = torch.cat([old, own], dim=-1)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    out = (weights[..., :n_old] @ history.v).transpose(1, 2)  # (B, S, H, h)
    recent = weights[..., n_old:].transpose(1, 2).unsqueeze(-2)
    return (out + (recent @ tail.v).squeeze(-2)).flatten(2).flatten(0, 1)
