"""The predictor: a causal transformer over pairs of tokens.

At every position it gives the distribution of the next coarse token, and of the next
fine token given the coarse one. The time of the step being predicted is no input; it
enters once its token has been appended.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lab.forecasters.kronos.config import DEPENDENCY_HEADS, NetworkConfig
from lab.forecasters.kronos.layers import Attention, Block, RMSNorm

TIME_TABLES = (
    ("minute", 60),
    ("hour", 24),
    ("weekday", 7),
    ("day", 32),
    ("month", 13),
)
"""Time features in their order, with the rows of each table."""


class Losses(NamedTuple):
    """Cross-entropies of a batch: their mean, coarse, fine; tensors of shape ()."""

    total: Tensor
    ce1: Tensor
    ce2: Tensor


class _FixedTable(nn.Module):
    # A time table that training leaves alone, under its published name.
    def __init__(self, n_rows: int, width: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(n_rows, width)
        self.emb.weight.requires_grad = False

    def forward(self, rows: Tensor) -> Tensor:
        return self.emb(rows)  # type: ignore[no-any-return]


class TimeEmbedding(nn.Module):
    """Sum of five table rows: minute, hour, weekday, day of month, month."""

    def __init__(self, width: int, *, is_learned: bool) -> None:
        super().__init__()
        for name, n_rows in TIME_TABLES:
            table = nn.Embedding if is_learned else _FixedTable
            setattr(self, f"{name}_embed", table(n_rows, width))

    def forward(self, stamp: Tensor) -> Tensor:
        """Return (B, T, d) for `stamp` (B, T, 5)."""
        columns = stamp.long().unbind(dim=-1)
        parts = [
            getattr(self, f"{name}_embed")(column)
            for (name, _), column in zip(TIME_TABLES, columns, strict=True)
        ]
        minute, hour, weekday, day, month = parts
        return hour + weekday + day + month + minute  # type: ignore[no-any-return]


class TokenEmbedding(nn.Module):
    """Both tokens' rows, scaled, side by side, mixed down to the width."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        d = config.d_model
        self.emb_s1 = nn.Embedding(1 << config.s1_bits, d)
        self.emb_s2 = nn.Embedding(1 << config.s2_bits, d)
        self.fusion_proj = nn.Linear(2 * d, d)
        self.scale: float = d**0.5

    def forward(self, s1: Tensor, s2: Tensor) -> Tensor:
        """Return (B, T, d) for tokens (B, T)."""
        both = torch.cat([self.emb_s1(s1), self.emb_s2(s2)], dim=-1)
        return self.fusion_proj(both * self.scale)  # type: ignore[no-any-return]


class DependencyLayer(nn.Module):
    """Hidden states informed by the coarse token that comes next."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cross_attn = Attention(width, DEPENDENCY_HEADS)
        self.norm = RMSNorm(width)


class _Head(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.proj_s1 = nn.Linear(config.d_model, 1 << config.s1_bits)
        self.proj_s2 = nn.Linear(config.d_model, 1 << config.s2_bits)


class KronosNetwork(nn.Module):
    """Kronos' predictor.

    Parameters
    ----------
    config : NetworkConfig
        Sizes, as the checkpoint states them.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = TokenEmbedding(config)
        self.time_emb = TimeEmbedding(config.d_model, is_learned=config.learn_te)
        self.token_dropout = nn.Dropout(config.token_dropout_p)
        self.transformer = nn.ModuleList(
            Block(
                config.d_model,
                config.n_heads,
                config.ff_dim,
                ffn_dropout_p=config.ffn_dropout_p,
                attn_dropout_p=config.attn_dropout_p,
                resid_dropout_p=config.resid_dropout_p,
            )
            for _ in range(config.n_layers)
        )
        self.norm = RMSNorm(config.d_model)
        self.dep_layer = DependencyLayer(config.d_model)
        self.head = _Head(config)

    def inputs(
        self,
        s1: Tensor,
        s2: Tensor,
        stamp: Tensor | None,
        *,
        extra: Tensor | None = None,
    ) -> Tensor:
        """Return what the first block is given, (B, T, d); see `hidden`."""
        x: Tensor = self.embedding(s1, s2)
        if stamp is not None:
            x = x + self.time_emb(stamp)
        return x if extra is None else x + extra

    def hidden(
        self,
        s1: Tensor,
        s2: Tensor,
        stamp: Tensor | None,
        *,
        extra: Tensor | None = None,
    ) -> Tensor:
        """Return the hidden states after the final norm.

        Parameters
        ----------
        s1, s2 : Tensor of shape (B, T), int64
            Coarse and fine tokens.
        stamp : Tensor of shape (B, T, 5), integer-valued, or None
            Minute, hour, weekday (Monday 0), day of month, month; None adds no time.
        extra : Tensor of shape (B, T, d), optional
            Added to the input embedding, event conditioning for one.

        Returns
        -------
        Tensor of shape (B, T, d), float32

        Notes
        -----
        Point in time: state t depends on positions 0 to t only.
        """
        x = self.token_dropout(self.inputs(s1, s2, stamp, extra=extra))
        for block in self.transformer:
            x = block(x)
        return self.norm(x)  # type: ignore[no-any-return]

    def s1_logits(self, h: Tensor) -> Tensor:
        """Return logits (..., V1) of the next coarse token for states (..., d)."""
        return self.head.proj_s1(h)  # type: ignore[no-any-return]

    def s2_logits_last(self, h: Tensor, s1_next: Tensor) -> Tensor:
        """Return the fine token's logits after the last position, as generation does.

        Nothing is rotated and nothing masked: the one query sees all of `h`.

        Parameters
        ----------
        h : Tensor of shape (B, T, d)
            Hidden states.
        s1_next : Tensor of shape (B, 1), int64
            Coarse token that comes next.

        Returns
        -------
        Tensor of shape (B, V2)
        """
        mixed = self.dep_layer.cross_attn(
            self.embedding.emb_s1(s1_next), h, is_causal=False, is_rotated=False
        )
        return self.head.proj_s2(self.dep_layer.norm(h[:, -1] + mixed[:, 0]))  # type: ignore[no-any-return]

    def s2_logits_teacher(
        self, h: Tensor, s1_next: Tensor, *, is_causal: bool
    ) -> Tensor:
        """Return the fine token's logits at every position, rotated.

        Parameters
        ----------
        h : Tensor of shape (B, T, d)
            Hidden states.
        s1_next : Tensor of shape (B, T), int64
            Coarse token that follows each position.
        is_causal : bool
            False repeats the reference's evaluation mode, which sees later states.

        Returns
        -------
        Tensor of shape (B, T, V2)
        """
        mixed = self.dep_layer.cross_attn(
            self.embedding.emb_s1(s1_next), h, is_causal=is_causal
        )
        return self.head.proj_s2(self.dep_layer.norm(h + mixed))  # type: ignore[no-any-return]

    def losses(
        self,
        s1: Tensor,
        s2: Tensor,
        stamp: Tensor | None,
        *,
        extra: Tensor | None = None,
        s1_given: str = "target",
        generator: torch.Generator | None = None,
    ) -> Losses:
        """Return next-token cross-entropies; the dependency layer is always causal.

        Parameters
        ----------
        s1, s2 : Tensor of shape (B, T + 1), int64
            Inputs are the first T tokens, targets the last T.
        stamp, extra : Tensor of shape (B, T or T + 1, ...), or None
            As in `hidden`; a row beyond T is not read.
        s1_given : {"target", "sampled"}, default "target"
            Whether the fine token is told the true next coarse token or one drawn
            from the network's own distribution.
        generator : torch.Generator, optional
            Source of those draws.
        """
        n = s1.shape[1] - 1
        h = self.hidden(
            s1[:, :-1],
            s2[:, :-1],
            None if stamp is None else stamp[:, :n],
            extra=None if extra is None else extra[:, :n],
        )
        logits1 = self.s1_logits(h)
        given = s1[:, 1:]
        if s1_given == "sampled":
            chances = logits1.detach().softmax(dim=-1).flatten(0, 1)
            drawn = torch.multinomial(chances, 1, generator=generator)
            given = drawn.view_as(given)
        logits2 = self.s2_logits_teacher(h, given, is_causal=True)
        ce1 = functional.cross_entropy(logits1.flatten(0, 1), s1[:, 1:].flatten())
        ce2 = functional.cross_entropy(logits2.flatten(0, 1), s2[:, 1:].flatten())
        return Losses((ce1 + ce2) / 2, ce1, ce2)
