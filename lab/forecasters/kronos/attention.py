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
from lab.forecasters.kronos.layers import rotary_table

PATH_BLOCK: Final = 2
"""Paths whose queries go against a history in one product, whatever their number."""


_FAST_BYTES: Final = 1 << 20

BLOCK_ROWS: Final = 4096
"""Tokens that go through all blocks together, to stay in fast memory."""


class KeyValue(NamedTuple):
    """Keys and values of histories in a layer.

    Attributes
    ----------
    k : Tensor of shape (B, H, h, T)
        Keys.
    v : Tensor of shape (B, H, T, h)
        Values.
    """

    k: Tensor
    v: Tensor

    def since(self, start: int) -> "KeyValue":
        """Return the positions from `start` on."""
        return KeyValue(self.k[..., start:], self.v[:, :, start:])

    def for_few(self) -> "KeyValue":
        """Return the same with positions next to each other, quicker for few queries."""
        return KeyValue(self.k.contiguous(), self.v)

    def of(self, series: slice) -> "KeyValue":
        """Return some of the series."""
        return KeyValue(self.k[series], self.v[series])


class Tail(NamedTuple):
    """Keys and values of each path's own tokens: tensors of shape (B, S, H, n, h)."""

    k: Tensor
    v: Tensor

    def until(self, stop: int) -> "Tail":
        """Return the positions before `stop`."""
        return Tail(self.k[:, :, :, :stop], self.v[:, :, :, :stop])


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

    def of(self, series: slice) -> "Prefix":
        """Return some of the series."""
        return Prefix(self.hidden[series], [one.of(series) for one in self.layers])


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
    has_hidden: bool = True,
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
    has_hidden : bool, default True
        Whether the last block's states are wanted, not only its keys and values.

    Returns
    -------
    list of Prefix
        One per input.
    """
    found = [_room(stack, one) for one in inputs]
    for jobs in _blocks(inputs):
        mine = [found[job].of(series) for job, series in jobs]
        x = _packed([inputs[job][series] for job, series in jobs], tile)
        qkv = x.new_empty(len(x), 3 * x.shape[1])
        mixed = torch.zeros_like(x)
        for number, layer in enumerate(stack.layers):
            if number or projected is None:
                project(layer, x, qkv, tile)
            is_wanted = has_hidden or number + 1 < len(stack.layers)
            start = 0
            for one, (job, series) in zip(mine, jobs, strict=True):
                stop = start + one.hidden.shape[0] * one.hidden.shape[1]
                own = qkv[start:stop].view(*one.hidden.shape[:2], qkv.shape[1])
                if number == 0 and projected is not None:
                    own = projected[job][series]
                into = mixed[start:stop] if is_wanted else None
                _attend_itself(stack, own, one.layers[number], into)
                start = stop
            if is_wanted:
                finish(layer, x, mixed, tile)
        start = 0
        for one in mine:
            stop = start + one.hidden.shape[0] * one.hidden.shape[1]
            one.hidden.copy_(x[start:stop].view(one.hidden.shape))
            start = stop
    return found


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
    prefix : sequence of KeyValue
        The histories, per block; they may be empty.
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
    room = rows.new_empty(len(rows), 3 * shape[3])
    mixed = torch.zeros_like(rows)
    into = mixed[:n_rows].view(shape)
    start = prefix[0].v.shape[2] if prefix else 0
    by = turns(stack, start + shape[2])[start:]
    size = (shape[0], stack.n_heads, start + shape[2], stack.head)
    keys, values = x.new_empty(size), x.new_empty(size)
    for number, layer in enumerate(stack.layers):
        if number == 0 and projected is not None:
            qkv = projected
        else:
            project(layer, rows, room, tile)
            qkv = room[:n_rows].view(*shape[:3], -1)
        keys[:, :, :start] = prefix[number].k.transpose(2, 3)
        values[:, :, :start] = prefix[number].v
        for path in range(shape[1]):
            q, k, v = split_heads(stack, qkv[:, path])
            turned(k, by, out=keys[:, :, start:])
            values[:, :, start:] = v
            into[:, path] = _attend_last(turned(q, by), keys, values)
        finish(layer, rows, mixed, tile)
    return rows[:n_rows].view(shape)


def attend_newest(q: Tensor, history: KeyValue, tail: Tail) -> Tensor:
    """Attend from each path's newest token to its series' history and its own tail.

    Parameters
    ----------
    q : Tensor of shape (B, S, H, h)
        Queries, rotated; `engine` has divided them by sqrt(h).
    history : KeyValue
        Shared by a series' paths.
    tail : Tail
        Each path's own, its newest token included; may be empty.

    Returns
    -------
    Tensor of shape (B * S, H * h)
    """
    n_series, n_paths, n_heads, head = q.shape
    n_old, n_new = history.k.shape[3], tail.k.shape[3]
    n_padded = padded(n_paths, PATH_BLOCK)
    scores = q.new_zeros(n_series, n_heads, n_padded, n_old + n_new)
    by_head = q.new_zeros(n_series, n_heads, n_padded, head)
    by_head[:, :, :n_paths] = q.transpose(1, 2)
    _against(by_head, history.k, scores[..., :n_old])
    if n_new:
        own = multiply(
            q.reshape(-1, 1, head), tail.k.flatten(0, 2).transpose(1, 2)
        ).view(n_series, n_paths, n_heads, n_new)
        scores[:, :, :n_paths, n_old:] = own.transpose(1, 2)
    weights = scores.softmax(dim=-1)
    mixed = torch.empty_like(by_head)
    _against(weights[..., :n_old], history.v, mixed)
    out = mixed[:, :, :n_paths].transpose(1, 2)
    if n_new:
        recent = weights[:, :, :n_paths, n_old:].transpose(1, 2).reshape(-1, 1, n_new)
        out = out + multiply(recent, tail.v.flatten(0, 2)).view(out.shape)
    return out.reshape(n_series * n_paths, n_heads * head)


def _against(left: Tensor, right: Tensor, out: Tensor) -> None:
    # Products (B, H, S, m) of paths' rows (B, H, S, n) and histories (B, H, n, m), a
    # block of paths at a time. Where there are several blocks, few enough series at a
    # time that their histories are still in fast memory for the next block.
    n_series, n_heads, n_paths, _ = left.shape
    size = PATH_BLOCK if left.device.type == "cpu" else n_paths
    n_each = n_series
    if n_paths > size:
        n_each = max(1, _FAST_BYTES // max(1, right[0].nbytes))
    for first in range(0, n_series, n_each):
        series = slice(first, first + n_each)
        flat = right[series].flatten(0, 1)
        for start in range(0, n_paths, size):
            paths = slice(start, start + size)
            found = multiply(left[series, :, paths].flatten(0, 1), flat)
            out[series, :, paths] = found.view(-1, n_heads, size, out.shape[-1])


def split_heads(stack: Stack, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k and v of shape (B, H, T, h) from (B, T, 3 d)."""
    parts = qkv.view(*qkv.shape[:2], 3, stack.n_heads, stack.head)
    q, k, v = parts.permute(2, 0, 3, 1, 4)
    return q, k, v


def turns(stack: Stack, length: int) -> Tensor:
    """Return the rotations of positions 0 to `length` - 1, (length, h / 2) complex."""
    cos, sin = rotary_table(stack.frequencies, length)
    half = stack.head // 2
    return torch.complex(cos[:, :half], sin[:, :half])


def turned(x: Tensor, by: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Rotate pairs of neighbouring channels.

    Parameters
    ----------
    x : Tensor of shape (..., T, h)
        Queries or keys.
    by : Tensor of shape (T, h / 2), complex64
        Rotation of each position.
    out : Tensor of the shape of `x`, float32, optional
        Where to write.

    Returns
    -------
    Tensor of the shape of `x`
        Contiguous unless `out` is not.
    """
    shape = (*x.shape[:-1], -1, 2)
    full = x.float()
    into = torch.empty_like(full, memory_format=torch.contiguous_format)
    if out is not None and out.dtype == full.dtype:
        into = out
    torch.mul(
        torch.view_as_complex(full.view(shape)),
        by,
        out=torch.view_as_complex(into.view(shape)),
    )
    if out is None or out is into:
        return into.to(x.dtype)
    return out.copy_(into)


def _attend_itself(
    stack: Stack, qkv: Tensor, cache: KeyValue, mixed: Tensor | None
) -> None:
    # Causal attention of histories (B, T, 3 d); fills their cache and `mixed`
    # (B * T, d), if any.
    n_series, _, _, length = cache.k.shape
    if length == 0:
        return
    q, k, v = split_heads(stack, qkv)
    by = turns(stack, length)
    k = turned(k, by, out=cache.k.transpose(2, 3))
    cache.v.copy_(v)
    if mixed is not None:
        out = functional.scaled_dot_product_attention(
            turned(q, by), k, cache.v, is_causal=True, scale=1.0
        )
        mixed.view(n_series, length, stack.n_heads, -1).copy_(out.transpose(1, 2))


def _room(stack: Stack, x: Tensor) -> Prefix:
    # A prefix without values for histories (B, T, d).
    shape = (x.shape[0], stack.n_heads, x.shape[1], stack.head)
    layers = [
        KeyValue(x.new_empty(shape).transpose(2, 3), x.new_empty(shape))
        for _ in stack.layers
    ]
    return Prefix(torch.empty_like(x), layers)


def _blocks(inputs: Sequence[Tensor]) -> list[list[tuple[int, slice]]]:
    # Series of every input, as many together as fit a block.
    blocks: list[list[tuple[int, slice]]] = [[]]
    n_rows = 0
    for number, one in enumerate(inputs):
        n_series, length = one.shape[:2]
        n_each = max(1, BLOCK_ROWS // max(1, length))
        for start in range(0, n_series, n_each):
            part = slice(start, min(n_series, start + n_each))
            n_more = (part.stop - start) * length
            if blocks[-1] and n_rows + n_more > BLOCK_ROWS:
                blocks.append([])
                n_rows = 0
            blocks[-1].append((number, part))
            n_rows += n_more
    return blocks


def _attend_last(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    # Attention of the last n positions (B, H, n, h) of (B, H, T, h), causal; (B, n, d).
    n_new = q.shape[2]
    scores = multiply(q.flatten(0, 1), keys.flatten(0, 1).transpose(1, 2))
    later = torch.ones(n_new, n_new, dtype=torch.bool, device=q.device).triu(1)
    scores[..., -n_new:].masked_fill_(later, float("-inf"))
    mixed = multiply(scores.softmax(dim=-1), values.flatten(0, 1))
    return mixed.view(q.shape).transpose(1, 2).flatten(2)


def _packed(parts: Sequence[Tensor], tile: int) -> Tensor:
    # Rows of all parts one after another, zeros up to whole tiles.
    n_rows = sum(part.shape[:-1].numel() for part in parts)
    out = parts[0].new_zeros(padded(n_rows, tile), parts[0].shape[-1])
    _pack(parts, out)
    return out


def _pack(parts: Sequence[Tensor], out: Tensor) -> None:
    start = 0
    for part in parts:
        stop = start + part.shape[:-1].numel()
        out[start:stop].view(part.shape).copy_(part)
        start = stop
