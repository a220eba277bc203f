"""A tokenizer to start training from: a ruler set by hand.

Training a small tokenizer from random weights leaves most of its codes unused. This one
starts as an analogue-to-digital converter: the coarse token numbers the level of the
close on a ruler, finer near the look-back's mean, and the fine token numbers the size
of body, range and volume. Codes are Gray codes, so neighbours differ in one bit, and
each bit is the sign of a piecewise-linear function of the bar, which is what one gated
block can compute. Attention starts at zero and is left to training.
"""

from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor

from lab.arrays import AnyArray, FloatArray, IntArray
from lab.errors import TrainingError
from lab.forecasters.kronos.config import TokenizerConfig
from lab.forecasters.kronos.layers import Block
from lab.forecasters.kronos.tokenizer import KronosTokenizer
from lab.forecasters.kronos.weights import new_tokenizer

# Constant channels that outweigh the others, so that the norm is nearly constant. The
# decoder's bits are of one size anyway.
_ANCHOR: Final = 300.0
_DECODER_ANCHOR: Final = 10.0
_END: Final = 5.0  # the ruler for closes ends where values are clipped
_SHARP: Final = 1000.0  # turns silu into a ramp
# Rows read body, range and volume off a bar: open, high, low, close, volume, amount.
_CLOSE: Final = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
_SIDES: Final = (
    (1.0, 0.0, 0.0, -1.0, 0.0, 0.0),
    (0.0, 1.0, -1.0, 0.0, 0.0, 0.0),
    (0.0, 0.0, 0.0, 0.0, 0.5, 0.5),
)
# A bar from close, body, range and volume.
_BAR: Final = (
    (1.0, 1.0, 0.0, 0.0),
    (1.0, 0.5, 0.5, 0.0),
    (1.0, 0.5, -0.5, 0.0),
    (1.0, 0.0, 0.0, 0.0),
    (0.0, 0.0, 0.0, 1.0),
    (0.0, 0.0, 0.0, 1.0),
)


@dataclass(frozen=True, slots=True)
class _Scale:
    """One quantity on a ruler of `2 ** n_bits` cells.

    Attributes
    ----------
    n_bits : int
        Bits of its Gray code.
    edges : ndarray of shape (2 ** n_bits + 1,), float64
        Borders of the cells; the outer two are the ends of the ruler.
    centres : ndarray of shape (2 ** n_bits,), float64
        What a cell stands for.
    """

    n_bits: int
    edges: FloatArray
    centres: FloatArray

    @property
    def nodes(self) -> FloatArray:
        """Return every second border: where the bits' functions bend."""
        return self.edges[::2]

    def heights(self) -> FloatArray:
        """Return each bit's function at the nodes, (n_bits, n_nodes).

        Zero at the borders where the bit flips, 1 and -1 half-way between them. The
        finest bit flips between nodes.
        """
        place = np.arange(0, len(self.edges), 2)
        found = []
        for bit in range(self.n_bits):
            period = 2 ** (self.n_bits - bit + 1)
            if bit == 0:
                found.append(place / (period / 4) - 1.0)
                continue
            phase = (place % period) / period
            found.append(1.0 - 4.0 * np.abs(phase - 0.5))
        heights: FloatArray = np.array(found)
        return heights

    def codes(self) -> IntArray:
        """Return the signs of every cell's bits, (2 ** n_bits, n_bits)."""
        n_cells = 2**self.n_bits
        cells = np.arange(n_cells) + 0.5
        place = np.arange(0, n_cells + 1, 2)
        heights = self.heights()
        signs: IntArray = np.array(
            [np.interp(cells, place, one) > 0 for one in heights]
        ).T.astype(np.int64)
        return signs * 2 - 1


def ruled_tokenizer(
    config: TokenizerConfig, sample: AnyArray, generator: torch.Generator
) -> KronosTokenizer:
    """Return a tokenizer that measures close, body, range and volume.

    Parameters
    ----------
    config : TokenizerConfig
        At least one block on either side, and room for the ruler: `ff_dim` of
        2 ** s1_bits and the cells of the fine token, at least 7 bits each.
    sample : ndarray of shape (n_windows, n_rows, 6), float32
        Scaled training windows, from which the rulers' marks come.
    generator : torch.Generator
        Source of the weights that the ruler leaves free.

    Raises
    ------
    TrainingError
        If the ruler does not fit into the configuration.
    """
    bits = _fine_bits(config.s2_bits)
    n_units = 2**config.s1_bits + sum(2**n for n in bits)
    n_channels = 5 + config.n_bits
    if config.ff_dim < n_units or config.d_model < n_channels or config.d_in != 6:
        raise TrainingError(
            f"ruler of {config.s1_bits} + {config.s2_bits} bits: needs ff_dim >="
            f" {n_units}, d_model >= {n_channels} and 6 columns, not {config.ff_dim},"
            f" {config.d_model} and {config.d_in}"
        )
    bars = sample.reshape(-1, 6).astype(np.float64)
    scales = [_close_scale(bars @ np.array(_CLOSE), config.s1_bits)]
    scales += [
        _quantile_scale(bars @ np.array(side), n)
        for side, n in zip(_SIDES, bits, strict=True)
    ]
    tokenizer = new_tokenizer(config, generator)
    with torch.no_grad():
        for block in (*tokenizer.encoder, *tokenizer.decoder):
            _silence(cast("Block", block))
        _set_encoder(tokenizer, scales)
        _set_decoder(tokenizer, scales)
    return tokenizer


def _fine_bits(s2_bits: int) -> tuple[int, int, int]:
    # Body, range, volume; two bits each and the range takes what is left.
    if s2_bits < 6:
        raise TrainingError(f"ruler: {s2_bits} bits in the fine token, at least 6")
    return 2, s2_bits - 4, 2


def _close_scale(values: FloatArray, n_bits: int) -> _Scale:
    # Finer where closes are: half of the marks by their frequency, half even.
    even = np.linspace(-_END, _END, 101)
    inside = np.sort(values[np.abs(values) < 0.99 * _END])
    share = np.searchsorted(inside, even) / max(1, len(inside))
    place = 0.5 * share + 0.5 * (even + _END) / (2 * _END)
    edges = np.interp(np.linspace(0, 1, 2**n_bits + 1), place, even)
    return _Scale(n_bits, edges, (edges[1:] + edges[:-1]) / 2)


def _quantile_scale(values: FloatArray, n_bits: int) -> _Scale:
    # Quantiles of a quantity that is often the same would fall together.
    _, first = np.unique(values.round(6), return_index=True)
    inner = np.quantile(values[first], np.linspace(0, 1, 2**n_bits + 1))
    edges = np.maximum.accumulate(inner) + np.arange(len(inner)) * 1e-4
    cell = np.clip(np.searchsorted(edges, values) - 1, 0, 2**n_bits - 1)
    counts = np.bincount(cell, minlength=2**n_bits)
    sums = np.bincount(cell, weights=values, minlength=2**n_bits)
    middle = (edges[1:] + edges[:-1]) / 2
    centres = np.where(counts > 0, sums / np.maximum(counts, 1), middle)
    return _Scale(n_bits, edges, centres)


def _silence(block: Block) -> None:
    block.self_attn.out_proj.weight.zero_()
    block.self_attn.out_proj.bias.zero_()
    block.ffn.w2.weight.zero_()


def _tensor(values: AnyArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float()


def _set_encoder(tokenizer: KronosTokenizer, scales: list[_Scale]) -> None:
    # Channels: the anchor, four quantities, then one per bit.
    embed, out = tokenizer.embed, tokenizer.quant_embed
    block = cast("Block", tokenizer.encoder[0])
    embed.weight.zero_()
    embed.bias.zero_()
    embed.bias[0] = _ANCHOR
    embed.weight[1:5] = _tensor(np.array([_CLOSE, *_SIDES]))
    scale = _ANCHOR / tokenizer.config.d_model**0.5
    block.norm2.weight.fill_(scale)
    block.norm2.weight[0] = scale / _ANCHOR
    out.weight.zero_()
    out.bias.zero_()
    unit, bit = 0, 0
    for number, one in enumerate(scales):
        nodes, heights = one.nodes, one.heights()
        slopes = np.diff(heights, axis=1) / np.diff(nodes)
        rows = slice(unit, unit + len(nodes) - 2)
        bits = slice(bit, bit + one.n_bits)
        block.ffn.w1.weight[rows] = 0.0
        block.ffn.w1.weight[rows, 1 + number] = _SHARP
        block.ffn.w1.weight[rows, 0] = _tensor(-_SHARP * nodes[1:-1])
        block.ffn.w3.weight[rows] = 0.0
        block.ffn.w3.weight[rows, 0] = 1.0 / _SHARP
        channels = slice(5 + bit, 5 + bit + one.n_bits)
        block.ffn.w2.weight[channels, rows] = _tensor(np.diff(slopes, axis=1))
        out.weight[bits, channels] = torch.eye(one.n_bits)
        out.weight[bits, 1 + number] = _tensor(slopes[:, 0])
        out.bias[bits] = _tensor(heights[:, 0] - slopes[:, 0] * nodes[0])
        unit, bit = unit + len(nodes) - 2, bit + one.n_bits


def _set_decoder(tokenizer: KronosTokenizer, scales: list[_Scale]) -> None:
    config, head = tokenizer.config, tokenizer.head
    block = cast("Block", tokenizer.decoder[0])
    unit_bit = config.n_bits**0.5
    for layer, n_bits in (
        (tokenizer.post_quant_embed, config.n_bits),
        (tokenizer.post_quant_embed_pre, config.s1_bits),
    ):
        layer.weight.zero_()
        layer.bias.zero_()
        layer.bias[0] = _DECODER_ANCHOR
        layer.weight[5 : 5 + n_bits] = torch.eye(n_bits) * unit_bit
    scale = ((_DECODER_ANCHOR**2 + config.n_bits) / config.d_model) ** 0.5
    block.norm2.weight.fill_(scale)
    block.norm2.weight[0] = scale / _DECODER_ANCHOR
    unit, bit = 0, 0
    for number, one in enumerate(scales):
        codes = one.codes()
        rows = slice(unit, unit + len(codes))
        # A unit fires, by one, where all its bits agree.
        block.ffn.w1.weight[rows] = 0.0
        block.ffn.w1.weight[rows, 5 + bit : 5 + bit + one.n_bits] = _tensor(
            _SHARP * codes
        )
        block.ffn.w1.weight[rows, 0] = -_SHARP * (one.n_bits - 1)
        block.ffn.w3.weight[rows] = 0.0
        block.ffn.w3.weight[rows, 0] = 1.0 / _SHARP
        block.ffn.w2.weight[1 + number, rows] = _tensor(one.centres)
        unit, bit = unit + len(codes), bit + one.n_bits
    head.weight.zero_()
    head.bias.zero_()
    head.weight[:, 1:5] = _tensor(np.array(_BAR))


def freeze_codes(tokenizer: KronosTokenizer) -> None:
    """Leave only the decoding side to training: the codes stay as they are."""
    for part in (tokenizer.embed, tokenizer.encoder, tokenizer.quant_embed):
        part.requires_grad_(requires_grad=False)
