"""What generation keeps of a group of series with equally long histories.

Series-major rows: path s of series b is row b * S + s. Everything lives as long as one
call and belongs to it alone.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lab.forecasters.kronos.attention import (
    KeyValue,
    Tail,
    attend_newest,
    run_prefixes,
    run_tails,
    turned,
    turns,
)
from lab.forecasters.kronos.config import DEPENDENCY_HEADS
from lab.forecasters.kronos.engine import (
    NetworkEngine,
    normed,
    project,
    scaled_product,
    with_rows,
)

TAIL_ROWS = 1_024
"""Rows of tails recomputed at once, to bound memory."""

_AHEAD_ROWS = 2_048


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of one call.

    Attributes
    ----------
    n_paths, horizon, window : int
        Paths per series, steps, tokens the network looks at.
    is_exact : bool
        Whether steps past the window are recomputed as the reference does.
    wide_rows : int
        Rows of a tile of many tokens.
    """

    n_paths: int
    horizon: int
    window: int
    is_exact: bool
    wide_rows: int


class Caches(NamedTuple):
    """All of a started group's caches.

    Attributes
    ----------
    prefix : list of KeyValue
        The histories', per block.
    tails : list of Tail
        Room for the paths', per block.
    old : KeyValue
        The dependency layer's, of the histories.
    new : Tail
        Room for the dependency layer's, of the paths.
    """

    prefix: list[KeyValue]
    tails: list[Tail]
    old: KeyValue
    new: Tail


@dataclass(slots=True)
class Group:
    """Caches of series with equally long histories.

    Attributes
    ----------
    engine : NetworkEngine
    plan : Plan
    rows : slice
        Its paths among all rows of the call.
    base : Tensor of shape (B, L, d)
        Input embeddings of the histories, at most `window` tokens of them.
    future : Tensor of shape (B, horizon, d)
        What the steps' stamps and conditioning add to their tokens' embeddings.
    """

    engine: NetworkEngine
    plan: Plan
    rows: slice
    base: Tensor
    future: Tensor
    _base_qkv: Tensor | None = None
    _prefix: list[KeyValue] = field(default_factory=list)
    _tails: list[Tail] = field(default_factory=list)
    _old: KeyValue | None = None
    _new: Tail | None = None
    _tail_x: Tensor | None = None
    _tail_qkv: Tensor | None = None
    _ahead: dict[int, tuple[list[KeyValue], KeyValue]] = field(default_factory=dict)

    @property
    def n_series(self) -> int:
        """Number of series."""
        return len(self.base)

    @property
    def length(self) -> int:
        """Tokens of history inside the first window."""
        return self.base.shape[1]

    def offset(self, step: int) -> int:
        """Return how many history tokens have left the window at a step."""
        return max(0, self.length + step - self.plan.window)

    def is_recomputed(self, step: int) -> bool:
        """Return whether a step must run over the whole window again."""
        return self.plan.is_exact and self.offset(step) > 0

    def start(self) -> Tensor:
        """Run over the histories; return the newest states (B * S, d)."""
        plan, stack = self.plan, self.engine.stack
        shape = self.base.shape
        if self.is_recomputed(plan.horizon - 1):
            flat = self.base.reshape(-1, shape[-1])
            self._base_qkv = _projected(self.engine, flat, plan.wide_rows).view(
                *shape[:2], -1
            )
            steps = (self.n_series, plan.n_paths, plan.horizon - 1)
            self._tail_x = flat.new_zeros(*steps, shape[-1])
            self._tail_qkv = flat.new_zeros(*steps, 3 * shape[-1])
        known = None if self._base_qkv is None else [self._base_qkv]
        found = run_prefixes(stack, [self.base], plan.wide_rows, projected=known)[0]
        self._prefix = [one.for_few() for one in found.layers]
        self._old = self._history_kv(found.hidden)
        n_cached = sum(not self.is_recomputed(step) for step in range(1, plan.horizon))
        heads = [(stack.n_heads, stack.head)] * len(stack.layers)
        self._tails = [self._room(*size, n_cached) for size in heads]
        width = self.engine.width // DEPENDENCY_HEADS
        self._new = self._room(DEPENDENCY_HEADS, width, n_cached)
        newest = found.hidden[:, -1:].expand(-1, plan.n_paths, -1)
        return normed(newest.reshape(-1, shape[-1]), self.engine.norm)

    def caches(self) -> Caches:
        """Return the caches of a started group, to read and to fill."""
        if self._old is None or self._new is None:
            raise RuntimeError("the group has not started")
        return Caches(self._prefix, self._tails, self._old, self._new)

    def remember(self, step: int, x: Tensor, qkv: Tensor) -> None:
        """Keep a step's input and its first projection, where it is needed again."""
        if self._tail_x is None or self._tail_qkv is None:
            return
        shape = (self.n_series, self.plan.n_paths, -1)
        self._tail_x[:, :, step - 1] = x.view(shape)
        self._tail_qkv[:, :, step - 1] = qkv.view(shape)

    def attend(self, number: int, qkv: Tensor, step: int) -> Tensor:
        """Attend from the newest tokens in block `number`; (B * S, d) from (…, 3 d)."""
        stack = self.engine.stack
        shape = (self.n_series, self.plan.n_paths, 3, stack.n_heads, stack.head)
        q, k, v = qkv.view(shape).unbind(dim=2)
        by = turns(stack, self.length + step)[-1:]
        tail = self._tails[number]
        tail.k[:, :, :, step - 1] = turned(k, by)
        tail.v[:, :, :, step - 1] = v
        return attend_newest(
            turned(q, by),
            self._prefix[number].since(self.offset(step)),
            tail.until(step),
        )

    def keep_newest(self, kv: Tensor, step: int) -> None:
        """Keep the dependency layer's keys and values (B * S, 2 d) of a step."""
        if self._new is None:
            return
        both = _dependency_heads(kv.view(self.n_series, self.plan.n_paths, 1, -1))
        self._new.k[:, :, :, step - 1] = both.k[:, :, :, 0]
        self._new.v[:, :, :, step - 1] = both.v[:, :, :, 0]

    def recompute(self, step: int) -> Tensor:
        """Run over the window without what has left it; the newest states (B * S, d).

        The part of the history that is left is run once per series; it sees no
        sampled token, so several steps' are run at once where they are small.
        """
        offset = self.offset(step)
        if offset not in self._ahead:
            self._tails, self._prefix = [], []
            self._look_ahead(offset)
        prefix, self._old = self._ahead.pop(offset)
        n_each = max(1, TAIL_ROWS // (self.plan.n_paths * step))
        parts = [
            self._run_tail(slice(start, start + n_each), prefix, step)
            for start in range(0, self.n_series, n_each)
        ]
        self._new = Tail(
            torch.cat([part[1].k for part in parts]),
            torch.cat([part[1].v for part in parts]),
        )
        return torch.cat([part[0] for part in parts])

    def ask_dependency(self, q: Tensor, step: int) -> Tensor:
        """Attend from the coarse tokens' queries (B * S, d) to all states in sight."""
        if self._old is None or self._new is None:
            raise RuntimeError("the group has not started")
        shape = (self.n_series, self.plan.n_paths, DEPENDENCY_HEADS, -1)
        offset = 0 if self.is_recomputed(step) else self.offset(step)
        old, new = self._old.since(offset), self._new.until(step)
        return attend_newest(q.view(shape), old, new)

    def _look_ahead(self, offset: int) -> None:
        if self._base_qkv is None:
            raise RuntimeError("the group has not started")
        rows = self.n_series * (self.length - offset)
        last = self.offset(self.plan.horizon - 1)
        offsets = range(offset, min(last, offset + _AHEAD_ROWS // rows) + 1)
        inputs = [self.base[:, start:] for start in offsets]
        known = [self._base_qkv[:, start:] for start in offsets]
        found = run_prefixes(
            self.engine.stack, inputs, self.plan.wide_rows, projected=known
        )
        for start, prefix in zip(offsets, found, strict=True):
            self._ahead[start] = (prefix.layers, self._history_kv(prefix.hidden))

    def _run_tail(
        self, series: slice, prefix: list[KeyValue], step: int
    ) -> tuple[Tensor, Tail]:
        if self._tail_x is None or self._tail_qkv is None:
            raise RuntimeError("the group has not started")
        mine = [one.of(series) for one in prefix]
        out = run_tails(
            self.engine.stack,
            self._tail_x[series, :, :step],
            mine,
            self.plan.wide_rows,
            projected=self._tail_qkv[series, :, :step],
        )
        newest = normed(out[:, :, -1].flatten(0, 1), self.engine.norm)
        return newest, _dependency_heads(self._dependency_kv(out))

    def _history_kv(self, hidden: Tensor) -> KeyValue:
        kv = self._dependency_kv(hidden)
        k, v = kv.view(*kv.shape[:-1], 2, DEPENDENCY_HEADS, -1).unbind(dim=2)
        return KeyValue(
            k.permute(0, 2, 3, 1).contiguous(), v.transpose(1, 2).contiguous()
        )

    def _dependency_kv(self, hidden: Tensor) -> Tensor:
        # Of states before the final norm (..., d): (..., 2 d).
        flat = hidden.reshape(-1, hidden.shape[-1])
        kv = scaled_product(flat, self.engine.dependency_kv, self.plan.wide_rows)
        return kv.view(*hidden.shape[:-1], -1)

    def _room(self, n_heads: int, head: int, n_steps: int) -> Tail:
        shape = (self.n_series, self.plan.n_paths, n_heads, n_steps, head)
        return Tail(self.base.new_zeros(shape), self.base.new_zeros(shape))


def _projected(engine: NetworkEngine, flat: Tensor, tile: int) -> Tensor:
    rows = with_rows(flat, tile)
    out = rows.new_empty(len(rows), 3 * engine.width)
    project(engine.stack.layers[0], rows, out, tile)
    return out[: len(flat)]


def _dependency_heads(kv: Tensor) -> Tail:
    # (B, S, n, 2 d) to keys and values of shape (B, S, 4, n, d / 4).
    parts = kv.view(*kv.shape[:-1], 2, DEPENDENCY_HEADS, -1)
    k, v = parts.permute(3, 0, 1, 4, 2, 5).contiguous()
    return Tail(k, v)
