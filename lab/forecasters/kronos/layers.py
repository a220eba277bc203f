"""Blocks that the tokenizer and the predictor share. Shapes at the end of a line.

No module keeps anything between calls: rotary tables are computed where they are used,
so one model serves many threads.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON: Final = 1e-5
_ROTARY_BASE: Final = 10000.0


def inverse_frequencies(head: int, device: torch.device | None = None) -> Tensor:
    """Return the rotary frequencies of a head of even size `head`, float32.

    Returns
    -------
    Tensor of shape (head / 2,), float32
    """
    steps = torch.arange(0, head, 2, dtype=torch.float32, device=device)
    return 1.0 / (_ROTARY_BASE ** (steps / head))


def rotary_table(frequencies: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of positions 0 to `length` - 1.

    Parameters
    ----------
    frequencies : Tensor of shape (head / 2,), float32
        As `inverse_frequencies` gives them.
    length : int, tokens
        Positions wanted.

    Returns
    -------
    cos, sin : Tensor of shape (length, head), float32
        The half table twice, not interleaved.

    References
    ----------
    .. [1] Su et al. (2021), RoFormer: enhanced transformer with rotary position
       embedding.
    """
    steps = torch.arange(length, dtype=torch.float32, device=frequencies.device)
    angles = torch.outer(steps, frequencies.float())
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the last axis: its first half pairs with its second half."""
    low, high = x.chunk(2, dim=-1)
    return (x * cos + torch.cat([-high, low], dim=-1) * sin).to(x.dtype)


class RMSNorm(nn.Module):
    """Division by the root mean square, in float32, and a weight per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` normalised over its last axis."""
        full = x.float()
        mean = full.pow(2).mean(dim=-1, keepdim=True)
        return self.weight * (full * torch.rsqrt(mean + EPSILON)).to(x.dtype)


class Rotary(nn.Module):
    """Holder of the frequencies, which published checkpoints carry."""

    inv_freq: Tensor

    def __init__(self, head: int) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("inv_freq", inverse_frequencies(head))

    def fill(self) -> None:
        """Compute the frequencies."""
        self.inv_freq.copy_(inverse_frequencies(self.head))


class Attention(nn.Module):
    """Multi-head attention with rotary positions.

    Parameters
    ----------
    width, n_heads : int
    attn_dropout_p, resid_dropout_p : float
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        *,
        attn_dropout_p: float = 0.0,
        resid_dropout_p: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attn_dropout_p = attn_dropout_p
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.rotary = Rotary(width // n_heads)
        self.resid_dropout = nn.Dropout(resid_dropout_p)

    def heads(self, x: Tensor) -> Tensor:
        """Split the channels into heads: (B, T, d) to (B, H, T, d / H)."""
        return x.view(*x.shape[:-1], self.n_heads, -1).transpose(1, 2)

    def forward(
        self,
        x: Tensor,
        given: Tensor | None = None,
        *,
        is_causal: bool = True,
        is_rotated: bool = True,
    ) -> Tensor:
        """Attend from `x` (B, Tq, d) to `given` (B, T, d), by default to itself."""
        given = x if given is None else given
        q = self.heads(self.q_proj(x))  # (B, H, Tq, h)
        k = self.heads(self.k_proj(given))  # (B, H, T, h)
        v = self.heads(self.v_proj(given))
        if is_rotated:
            cos, sin = rotary_table(self.rotary.inv_freq, q.shape[-2])
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        mixed = functional.scaled_dot_product_attention(
            q,
            k,
            v,
            is_causal=is_causal,
            dropout_p=self.attn_dropout_p if self.training else 0.0,
        )
        out = self.out_proj(mixed.transpose(1, 2).flatten(-2))
        return self.resid_dropout(out)  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Gated feed-forward: w2(silu(w1 x) * (w3 x)), no biases."""

    def __init__(self, width: int, ff_dim: int, dropout_p: float) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, ff_dim, bias=False)
        self.w3 = nn.Linear(width, ff_dim, bias=False)
        self.w2 = nn.Linear(ff_dim, width, bias=False)
        self.ffn_dropout = nn.Dropout(dropout_p)

    def forward(self, x: Tensor) -> Tensor:
        """Return an array of the shape of `x`."""
        gated = functional.silu(self.w1(x)) * self.w3(x)
        return self.ffn_dropout(self.w2(gated))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Causal attention and feed-forward, each after a norm and added to its input."""

    def __init__(
        self,
        width: int,
        n_heads: int,
        ff_dim: int,
        *,
        ffn_dropout_p: float,
        attn_dropout_p: float,
        resid_dropout_p: float,
    ) -> None:
        super().__init__()
        self.norm1 = RMSNorm(width)
        self.self_attn = Attention(
            width,
            n_heads,
            attn_dropout_p=attn_dropout_p,
            resid_dropout_p=resid_dropout_p,
        )
        self.norm2 = RMSNorm(width)
        self.ffn = FeedForward(width, ff_dim, ffn_dropout_p)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, d) for `x` (B, T, d)."""
        x = x + self.self_attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))  # type: ignore[no-any-return]
