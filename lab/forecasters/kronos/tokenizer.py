"""The tokenizer: a bar to a pair of integers and back.

An encoder turns normalised bars into vectors whose signs are the bits of two tokens,
the coarse one first; a decoder turns bits into bars. Both are causal: value t depends
on rows 0 to t only. Bits are little-endian: the first dimension is the least
significant one.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lab.errors import ForecastError
from lab.forecasters.kronos.config import TokenizerConfig
from lab.forecasters.kronos.layers import Block


class Reconstruction(NamedTuple):
    """What a training step of the tokenizer needs.

    Attributes
    ----------
    coarse, fine : Tensor of shape (B, T, d_in)
        Bars rebuilt from the coarse bits alone and from all bits.
    bsq : Tensor of shape ()
        Loss of the quantiser; may be negative.
    quantized : Tensor of shape (B, T, n_bits)
        Straight-through code, +-1 / sqrt(n_bits).
    """

    coarse: Tensor
    fine: Tensor
    bsq: Tensor
    quantized: Tensor


class Quantiser(nn.Module):
    """Holder of two buffers of published checkpoints; no number comes from them."""

    basis: Tensor
    group_basis: Tensor

    def __init__(self, n_bits: int, group_size: int) -> None:
        super().__init__()
        self.register_buffer("basis", _powers(n_bits))
        self.register_buffer("group_basis", _powers(group_size))

    def fill(self) -> None:
        """Compute the buffers."""
        for buffer in (self.basis, self.group_basis):
            buffer.copy_(_powers(len(buffer)))


class _Holder(nn.Module):
    # Gives the buffers their published names, `tokenizer.bsq.*`.
    def __init__(self, n_bits: int, group_size: int) -> None:
        super().__init__()
        self.bsq = Quantiser(n_bits, group_size)


class KronosTokenizer(nn.Module):
    """Tokenizer with binary spherical quantisation.

    Parameters
    ----------
    config : TokenizerConfig
        Sizes, as the checkpoint states them.

    References
    ----------
    .. [1] Zhao, Xiong and Krähenbühl (2024), Image and video tokenization with binary
       spherical quantization.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        d, n_bits = config.d_model, config.n_bits
        self.embed = nn.Linear(config.d_in, d)
        self.head = nn.Linear(d, config.d_in)
        self.encoder = _blocks(config, config.n_enc_layers - 1)
        self.decoder = _blocks(config, config.n_dec_layers - 1)
        self.quant_embed = nn.Linear(d, n_bits)
        self.post_quant_embed_pre = nn.Linear(config.s1_bits, d)
        self.post_quant_embed = nn.Linear(n_bits, d)
        self.tokenizer = _Holder(n_bits, config.group_size)

    def prequantised(self, x: Tensor) -> Tensor:
        """Return the vectors whose signs are the bits.

        Parameters
        ----------
        x : Tensor of shape (B, L, d_in), float32
            Normalised and clipped bars.

        Returns
        -------
        Tensor of shape (B, L, n_bits), float32
        """
        z = self.embed(x)
        for block in self.encoder:
            z = block(z)
        return self.quant_embed(z)  # type: ignore[no-any-return]

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coarse and the fine token of every bar.

        Parameters
        ----------
        x : Tensor of shape (B, L, d_in), float32
            Normalised and clipped bars.

        Returns
        -------
        s1, s2 : Tensor of shape (B, L), int64
        """
        return bits_to_tokens(self.prequantised(x), self.config.s1_bits)

    def encode_full(self, x: Tensor) -> Tensor:
        """Return one integer per bar, s1 + s2 * 2 ** s1_bits; not for the predictor.

        Returns
        -------
        Tensor of shape (B, L), int64
        """
        s1, s2 = self.encode(x)
        return s1 + (s2 << self.config.s1_bits)

    def decode(self, s1: Tensor, s2: Tensor) -> Tensor:
        """Return the normalised bars of token pairs, not clipped.

        Parameters
        ----------
        s1, s2 : Tensor of shape (B, T), int64
            Coarse and fine tokens.

        Returns
        -------
        Tensor of shape (B, T, d_in), float32

        Raises
        ------
        ForecastError
            If the two tokens have different numbers of bits, which the published
            decoding cannot tell apart.
        """
        code = tokens_to_code(s1, s2, self.config).to(self.head.weight.dtype)
        return self._decoded(self.post_quant_embed(code))

    def training_forward(self, x: Tensor) -> Reconstruction:
        """Return both reconstructions of `x` (B, T, d_in) and the quantiser's loss."""
        u = functional.normalize(self.prequantised(x), dim=-1)
        sign = torch.where(u > 0, 1.0, -1.0).to(u.dtype)
        scale: float = self.config.n_bits**-0.5
        quantized = (u + (sign - u).detach()) * scale
        coarse = quantized[..., : self.config.s1_bits]
        return Reconstruction(
            coarse=self._decoded(self.post_quant_embed_pre(coarse)),
            fine=self._decoded(self.post_quant_embed(quantized)),
            bsq=self._quantiser_loss(u, quantized),
            quantized=quantized,
        )

    def _decoded(self, z: Tensor) -> Tensor:
        for block in self.decoder:
            z = block(z)
        return self.head(z)  # type: ignore[no-any-return]

    def _quantiser_loss(self, u: Tensor, quantized: Tensor) -> Tensor:
        # Commitment, and an entropy term: sure about each bar, diverse over all bars.
        config = self.config
        commitment = (quantized.detach() - u).pow(2).sum(dim=-1).mean()
        p = torch.sigmoid(-4.0 * u / config.n_bits**0.5)
        each = _entropy(p).sum(dim=-1).mean()
        overall = _entropy(p.mean(dim=(0, 1))).sum()
        entropy = config.gamma0 * each - config.gamma * overall
        return config.beta * commitment + config.zeta * entropy


def bits_to_tokens(z: Tensor, s1_bits: int) -> tuple[Tensor, Tensor]:
    """Return both tokens from the signs of `z`; an exact zero gives a zero bit.

    Parameters
    ----------
    z : Tensor of shape (..., n_bits)
        Numbers of which only the signs count.
    s1_bits : int
        How many of them make the coarse token.

    Returns
    -------
    s1, s2 : Tensor of shape (...), int64
    """
    bits = (z > 0).long()
    weights = 1 << torch.arange(z.shape[-1], device=z.device)
    s1 = (bits[..., :s1_bits] * weights[:s1_bits]).sum(dim=-1)
    s2 = (bits[..., s1_bits:] * weights[: z.shape[-1] - s1_bits]).sum(dim=-1)
    return s1, s2


def tokens_to_code(s1: Tensor, s2: Tensor, config: TokenizerConfig) -> Tensor:
    """Return the code of token pairs: their bits as +-1 / sqrt(n_bits).

    Returns
    -------
    Tensor of shape (..., n_bits), float32

    Raises
    ------
    ForecastError
        If the two tokens have different numbers of bits.
    """
    if config.s1_bits != config.s2_bits:
        raise ForecastError(
            f"tokenizer with {config.s1_bits} and {config.s2_bits} bits: pairs can be"
            " decoded only where both tokens have the same number"
        )
    places = torch.arange(config.s1_bits, device=s1.device)
    bits = torch.cat([(s[..., None] >> places) & 1 for s in (s1, s2)], dim=-1)
    scale: float = config.n_bits**-0.5
    return (2.0 * bits.float() - 1.0) * scale


def full_to_pair(full: Tensor, s1_bits: int) -> tuple[Tensor, Tensor]:
    """Split the single integer of `encode_full` into the pair of tokens."""
    return full & ((1 << s1_bits) - 1), full >> s1_bits


def tokenizer_loss(rebuilt: Reconstruction, x: Tensor) -> Tensor:
    """Return the training loss: mean of both squared errors and the quantiser's."""
    coarse = functional.mse_loss(rebuilt.coarse, x)
    fine = functional.mse_loss(rebuilt.fine, x)
    return (coarse + fine + rebuilt.bsq) / 2


def _blocks(config: TokenizerConfig, n_blocks: int) -> nn.ModuleList:
    return nn.ModuleList(
        Block(
            config.d_model,
            config.n_heads,
            config.ff_dim,
            ffn_dropout_p=config.ffn_dropout_p,
            attn_dropout_p=config.attn_dropout_p,
            resid_dropout_p=config.resid_dropout_p,
        )
        for _ in range(n_blocks)
    )


def _powers(n: int) -> Tensor:
    return 2 ** torch.arange(n - 1, -1, -1, dtype=torch.int64)


def _entropy(p: Tensor) -> Tensor:
    return -(p * torch.log(p + 1e-8) + (1 - p) * torch.log(1 - p + 1e-8))
