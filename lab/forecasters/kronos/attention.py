"""Attention over a shared history and over each path's own tail.

The history of a series is the same for all its sampled paths, so its keys and values
exist once per series; what was generated exists once per path. Shapes of every product
depend on the series itself only: its history's length, the step, a fixed block of
paths. That keeps a series' numbers the same alone and in any batch.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lab.forecasters.kronos.engine import Stack, finish, padded, project
from lab.forecasters.kronos.layers import rotary_table, rotate

PATH_BLOCK: Final = 4
"""Paths whose queries go against a history in one product, whatever their number."""


class KeyValue(NamedTuple):
    """Keys and values of a layer: tensors of shape (B, H, T, h)."""

    k: Tensor
    v: Tensor

    def since(self, start: int) -> "KeyValue":
        """Return the positions from `start` on."""
        return KeyValue(self.k[:, :, start:], self.v[:, :, start:])


class Prefix(NamedTuple):
    """What a run over histories leaves.

    Attributes
    ----------
    hidden : Tensor of shape (B, T, d)
        States after the last block.
    layers : list of KeyValue
        Of each block, keys rotated from position 0 on.
    """

    hidden: Tensor
    layers: list[KeyValue]


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """Multiply batches of matrices; a batch of one as the library does larger ones."""
    if len(left) == 1:
        twice = torch.bmm(left.expand(2, -1, -1).contiguous(), right.expand(2, -1, -1))
        return twice[:1]
    return torch.bmm(left, right)


def run_prefixes(
    stack: Stack,
    inputs: Sequence[Tensor],
    tile: int,
    *,
    projected: Sequence[Tensor] | None = None,
) -> list[Prefix]:
    """Run causal blocks over histories of several lengths at once.

    Parameters
    ----------
    stack : Stack
        The blocks.
    inputs : sequence of Tensor of shape (B_j, T_j, d)
        Histories by length; not changed.
    tile : int
        Rows of a tile.
    projected : sequence of Tensor of shape (B_j, T_j, 3 d), optional
        The first block's q, k and v before rotation, where they are known already.

    Returns
    -------
    list of Prefix
        One per input.
    """
    sizes = [one.shape[0] * one.shape[1] for one in inputs]
    x = _packed(inputs, tile)
    caches: list[list[KeyValue]] = [[] for _ in inputs]
    for number, layer in enumerate(stack.layers):
        if number == 0 and projected is not None:
            qkv = _packed(projected, tile)
        else:
            qkv = project(layer, x, tile)
        mixed = torch.zeros_like(x)
        start = 0
        for one, size, cache in zip(inputs, sizes, caches, strict=True):
            rows = slice(start, start + size)
            q, k, v = split_heads(stack, qkv[rows].view(*one.shape[:2], -1))
            cos, sin = rotary_table(stack.frequencies, one.shape[1])
            k = rotate(k, cos, sin)
            out = functional.scaled_dot_product_attention(
                rotate(q, cos, sin), k, v, is_causal=True
            )
            mixed[rows] = out.transpose(1, 2).reshape(size, -1)
            cache.append(KeyValue(k, v.contiguous()))
            start += size
        finish(layer, x, mixed, tile)
    parts = torch.split(x[: sum(sizes)], sizes)
    hidden = [part.view(one.shape) for part, one in zip(parts, inputs, strict=True)]
    return [Prefix(*pair) for pair in zip(hidden, caches, strict=True)]


def run_tails(
    stack: Stack,
    x: Tensor,
    prefix: Sequence[KeyValue],
    tile: int,
    *,
    projected: Tensor | None = None,
) -> Tensor:
    """Run causal blocks over each path's tail, after its series' history.

    Parameters
    ----------
    stack : Stack
        The blocks.
    x : Tensor of shape (B, S, n, d)
        Tails; not changed.
    prefix : sequence of KeyValue of shape (B, H, T, h)
        The histories, per block; T may be 0.
    tile : int
        Rows of a tile.
    projected : Tensor of shape (B, S, n, 3 d), optional
        The first block's q, k and v before rotation, where they are known already.

    Returns
    -------
    Tensor of shape (B, S, n, d)
    """
    shape = x.shape
    n_rows = shape[0] * shape[1] * shape[2]
    rows = _packed([x], tile)
    start = prefix[0].k.shape[2] if prefix else 0
    table = rotary_table(stack.frequencies, start + shape[2])
    cos, sin = (part[start:] for part in table)
    for number, layer in enumerate(stack.layers):
        if number == 0 and projected is not None:
            qkv = projected
        else:
            qkv = project(layer, rows, tile)[:n_rows].view(*shape[:3], -1)
        mixed = torch.zeros_like(rows)
        into = mixed[:n_rows].view(shape)
        for path in range(shape[1]):
            q, k, v = split_heads(stack, qkv[:, path])
            own = KeyValue(rotate(k, cos, sin), v)
            into[:, path] = _after(prefix[number], rotate(q, cos, sin), own)
        finish(layer, rows, mixed, tile)
    return rows[:n_rows].view(shape)


def attend_newest(q: Tensor, history: KeyValue, tail: KeyValue) -> Tensor:
    """Attend from each path's newest token to its series' history and its own tail.

    Parameters
    ----------
    q : Tensor of shape (B, S, H, h)
        Queries, rotated and divided by sqrt(h).
    history : KeyValue of shape (B, H, T, h)
        Shared by a series' paths.
    tail : KeyValue of shape (B, S, H, n, h)
        Each path's own, its newest token included; n may be 0.

    Returns
    -------
    Tensor of shape (B * S, H * h)
    """
    n_series, n_paths, n_heads, head = q.shape
    n_old, n_new = history.k.shape[2], tail.k.shape[3]
    n_padded = padded(n_paths, PATH_BLOCK)
    by_head = q.new_zeros(n_series, n_heads, n_padded, head)
    by_head[:, :, :n_paths] = q.transpose(1, 2)
    scores = q.new_zeros(n_series, n_heads, n_padded, n_old + n_new)
    flat_k = history.k.flatten(0, 1).transpose(1, 2)
    blocks = range(0, n_padded, PATH_BLOCK)
    for start in blocks:
        block = by_head[:, :, start : start + PATH_BLOCK].flatten(0, 1)
        found = multiply(block, flat_k)
        scores[:, :, start : start + PATH_BLOCK, :n_old] = found.view(
            n_series, n_heads, PATH_BLOCK, n_old
        )
    if n_new:
        own = multiply(
            q.reshape(-1, 1, head), tail.k.flatten(0, 2).transpose(1, 2)
        ).view(n_series, n_paths, n_heads, n_new)
        scores[:, :, :n_paths, n_old:] = own.transpose(1, 2)
    weights = scores.softmax(dim=-1)
    flat_v = history.v.flatten(0, 1)
    mixed = torch.cat(
        [
            multiply(
                weights[:, :, start : start + PATH_BLOCK, :n_old].flatten(0, 1), flat_v
            )
            for start in blocks
        ],
        dim=1,
    )
    out = mixed.view(n_series, n_heads, n_padded, head)[:, :, :n_paths].transpose(1, 2)
    if n_new:
        recent = weights[:, :, :n_paths, n_old:].transpose(1, 2).reshape(-1, 1, n_new)
        out = out + multiply(recent, tail.v.flatten(0, 2)).view(out.shape)
    return out.reshape(n_series * n_paths, n_heads * head)


def split_heads(stack: Stack, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k and v of shape (B, H, T, h) from (B, T, 3 d)."""
    parts = qkv.view(*qkv.shape[:2], 3, stack.n_heads, stack.head)
    q, k, v = parts.permute(2, 0, 3, 1, 4)
    return q, k, v


def _after(history: KeyValue, q: Tensor, own: KeyValue) -> Tensor:
    # Attention of one path's tail (B, H, n, h): all of the history, causal in itself.
    n_series, n_heads, n_new, head = q.shape
    n_old = history.k.shape[2]
    queries = (q * head**-0.5).reshape(-1, n_new, head)
    recent = multiply(queries, own.k.flatten(0, 1).transpose(1, 2))
    later = torch.ones(n_new, n_new, dtype=torch.bool, device=q.device).triu(1)
    recent = recent.masked_fill(later, float("-inf"))
    values = own.v.reshape(-1, n_new, head)
    if n_old == 0:
        mixed = multiply(recent.softmax(dim=-1), values)
    else:
        old = multiply(queries, history.k.flatten(0, 1).transpose(1, 2))
        weights = torch.cat([old, recent], dim=-1).softmax(dim=-1)
        mixed = multiply(weights[..., :n_old].contiguous(), history.v.flatten(0, 1))
        mixed = mixed + multiply(weights[..., n_old:].contiguous(), values)
    mixed = mixed.view(n_series, n_heads, n_new, head)
    return mixed.transpose(1, 2).flatten(2)


def _packed(parts: Sequence[Tensor], tile: int) -> Tensor:
    # Rows of all parts one after another, zeros up to whole tiles.
    flat = [part.reshape(-1, part.shape[-1]) for part in parts]
    n_rows = sum(len(one) for one in flat)
    out = flat[0].new_zeros(padded(n_rows, tile), flat[0].shape[-1])
    torch.cat(flat, out=out[:n_rows])
    return out
