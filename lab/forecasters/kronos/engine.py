"""Weights arranged for inference, and products of fixed shapes.

The modules stay what training and checkpoints need. Generation works on a `Prepared`
copy: projections that share an input are one matrix, embeddings are looked up already
projected, nothing is ever written after `prepare`. Any number of threads may share it.

Notes
-----
Bit-identity on the CPU. A row's product in float32 depends on how many rows the matrix
has: below about 16 rows the library sums in another order, and with several threads
it may cut the sum anywhere. So rows go through in tiles of one fixed size, the last one
padded, and a row's result does not depend on its neighbours, on its place in the tile
or on how many there are. Measured to hold with 1 to 4 threads inside a product; with 16
the library cuts sums within a tile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from lab.errors import ForecastError
from lab.forecasters.kronos.config import DEPENDENCY_HEADS
from lab.forecasters.kronos.layers import EPSILON, Block, inverse_frequencies
from lab.forecasters.kronos.network import TIME_TABLES, KronosNetwork
from lab.forecasters.kronos.tokenizer import KronosTokenizer
from lab.forecasters.kronos.weights import check_pair

WIDE_ROWS: Final = 128
"""Rows of a tile where many tokens go through at once."""

NARROW_ROWS: Final = 24
"""Rows of a tile where each path has one new token."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A linear layer: weight of shape (n_out, n_in), bias of shape (n_out,) or None."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return (rows, n_out) for `x` (rows, n_in)."""
        return functional.linear(x, self.weight, self.bias)

    def into(self, x: Tensor, out: Tensor) -> None:
        """Write the product into `out` (rows, n_out)."""
        if self.bias is None:
            torch.mm(x, self.weight.T, out=out)
        else:
            torch.addmm(self.bias, x, self.weight.T, out=out)

    def onto(self, x: Tensor, out: Tensor) -> None:
        """Add the product to `out` (rows, n_out)."""
        if self.bias is not None:
            out += self.bias
        out.addmm_(x, self.weight.T)


@dataclass(frozen=True, slots=True)
class Layer:
    """One block: q, k and v as one matrix, both gates of the feed-forward as one.

    The weights of the two norms are multiplied into `qkv` and `gates`. In every head of
    q and k the channels that rotate together lie side by side: scores do not depend on
    the channels' order. q is divided by sqrt(h).
    """

    qkv: Matrix
    out: Matrix
    gates: Matrix
    down: Matrix


@dataclass(frozen=True, slots=True)
class Stack:
    """Blocks that follow each other.

    Attributes
    ----------
    layers : tuple of Layer
    n_heads, head : int
        Heads and their size.
    frequencies : Tensor of shape (head / 2,), float32
        Of the rotary positions.
    """

    layers: tuple[Layer, ...]
    n_heads: int
    head: int
    frequencies: Tensor


@dataclass(frozen=True, slots=True)
class TokenizerEngine:
    """The tokenizer's weights, float32."""

    n_bits: int
    s1_bits: int
    embed: Matrix
    encoder: Stack
    quant_embed: Matrix
    post_quant_embed: Matrix
    decoder: Stack
    head: Matrix


@dataclass(frozen=True, slots=True)
class NetworkEngine:
    """The predictor's weights.

    Attributes
    ----------
    width : int
        Channels of a hidden state.
    s1_rows, s2_rows : Tensor of shape (V1, d), (V2, d)
        Each token's share of the fused embedding.
    time_rows : tuple of Tensor
        The time tables, in the order of the stamps' columns.
    stack : Stack
    norm : Tensor of shape (d,)
    s1_head, s2_head : Matrix
        From states after a norm.
    query_rows : Tensor of shape (V1, d)
        Each coarse token's query in the dependency layer, divided by sqrt(d / 4).
    dependency_kv, dependency_out : Matrix
        The first from states before the final norm, whose weight is multiplied in.
    dependency_norm : Tensor of shape (d,)
    """

    width: int
    s1_rows: Tensor
    s2_rows: Tensor
    time_rows: tuple[Tensor, ...]
    stack: Stack
    norm: Tensor
    s1_head: Matrix
    s2_head: Matrix
    query_rows: Tensor
    dependency_kv: Matrix
    dependency_out: Matrix
    dependency_norm: Tensor


@dataclass(frozen=True, slots=True)
class Prepared:
    """Both models, ready for `generate`.

    Attributes
    ----------
    tokenizer : TokenizerEngine
    network : NetworkEngine
    device : torch.device
    dtype : torch.dtype
        Of the predictor; the tokenizer is float32 always.
    wide_rows, narrow_rows : int
        Rows of a tile; 0 puts all rows into one product.
    has_fixed_steps : bool
        Whether cached steps run over buffers of their final size, see `fixed_steps`.
    """

    tokenizer: TokenizerEngine
    network: NetworkEngine
    device: torch.device
    dtype: torch.dtype
    wide_rows: int
    narrow_rows: int
    has_fixed_steps: bool


def prepare(
    tokenizer: KronosTokenizer,
    network: KronosNetwork,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Prepared:
    """Arrange a tokenizer's and a predictor's weights for inference.

    Parameters
    ----------
    tokenizer : KronosTokenizer
        Copied, not changed; its mode does not matter.
    network : KronosNetwork
        Likewise.
    device : str or torch.device, default "cpu"
        Where to work: cpu, cuda or mps.
    dtype : torch.dtype, default torch.float32
        Of the predictor: float32, or bfloat16 on an accelerator.

    Returns
    -------
    Prepared
        Independent of the modules from here on.

    Raises
    ------
    CheckpointError
        If the two do not belong together.
    ForecastError
        If a reduced precision is asked for on the CPU.
    """
    check_pair(tokenizer, network)
    place = torch.device(device)
    if place.type == "cpu" and dtype is not torch.float32:
        raise ForecastError(f"{dtype} on the CPU: allowed is float32")
    is_tiled = place.type == "cpu"
    with torch.inference_mode():
        return Prepared(
            tokenizer=_tokenizer_engine(tokenizer, place),
            network=_network_engine(network, place, dtype),
            device=place,
            dtype=dtype,
            wide_rows=WIDE_ROWS if is_tiled else 0,
            narrow_rows=NARROW_ROWS if is_tiled else 0,
            has_fixed_steps=place.type == "cuda",
        )


def cache_bytes(prepared: Prepared, window: int, n_paths: int, horizon: int) -> int:
    """Return the bytes that one series' keys and values take in a call."""
    engine = prepared.network
    n_tokens = window + n_paths * horizon
    n_values = 2 * (len(engine.stack.layers) + 1) * engine.width
    return n_tokens * n_values * engine.norm.element_size()


def padded(n_rows: int, tile: int) -> int:
    """Return `n_rows`, raised to a multiple of `tile` unless that is 0."""
    return n_rows if tile == 0 else -(-n_rows // tile) * tile


def with_rows(x: Tensor, tile: int) -> Tensor:
    """Return a copy of `x` (rows, ...) with rows of zeros up to whole tiles."""
    n_rows = padded(len(x), tile)
    out = x.new_zeros(n_rows, *x.shape[1:])
    out[: len(x)] = x
    return out


def tiles(n_rows: int, tile: int) -> Sequence[slice]:
    """Return the slices of whole tiles; one for all rows if `tile` is 0."""
    size = tile or max(1, n_rows)
    return [slice(start, start + size) for start in range(0, n_rows, size)]


def product(x: Tensor, matrix: Matrix, tile: int) -> Tensor:
    """Multiply tile by tile.

    Parameters
    ----------
    x : Tensor of shape (rows, n_in)
        Any number of rows.
    matrix : Matrix
        What to multiply by.
    tile : int
        Rows of a tile.

    Returns
    -------
    Tensor of shape (rows, n_out)
    """
    return _multiplied(x, matrix, tile, is_scaled=False)


def scaled_product(x: Tensor, matrix: Matrix, tile: int) -> Tensor:
    """Multiply tile by tile what `scaled` makes of `x`; see `product`."""
    return _multiplied(x, matrix, tile, is_scaled=True)


def _multiplied(x: Tensor, matrix: Matrix, tile: int, *, is_scaled: bool) -> Tensor:
    out = x.new_empty(padded(len(x), tile), len(matrix.weight))
    for rows in tiles(len(x), tile):
        part = x[rows]
        if tile and len(part) < tile:
            part = with_rows(part, tile)
        matrix.into(scaled(part) if is_scaled else part, out[rows])
    return out[: len(x)]


def normed(x: Tensor, weight: Tensor) -> Tensor:
    """Return `x` over its root mean square, times `weight`."""
    return functional.rms_norm(x, (x.shape[-1],), weight, EPSILON)


def scaled(x: Tensor) -> Tensor:
    """Return `x` over its root mean square, in two passes."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    scale = torch.rsqrt(length.square_().div_(x.shape[-1]).add_(EPSILON))
    return x * scale.to(x.dtype)


def project(layer: Layer, x: Tensor, out: Tensor, tile: int) -> None:
    """Write q, k and v (rows, 3 d) of whole tiles of hidden states (rows, d)."""
    for rows in tiles(len(x), tile):
        layer.qkv.into(scaled(x[rows]), out[rows])


def finish(layer: Layer, x: Tensor, mixed: Tensor, tile: int) -> None:
    """Complete a block in place, from what attention mixed.

    Parameters
    ----------
    layer : Layer
        The block.
    x, mixed : Tensor of shape (rows, d)
        Whole tiles of hidden states, and of values weighted by attention.
    tile : int
        Rows of a tile.
    """
    for rows in tiles(len(x), tile):
        part = x[rows]
        layer.out.onto(mixed[rows], part)
        gate, value = layer.gates(scaled(part)).chunk(2, dim=-1)
        layer.down.onto(functional.silu(gate).mul_(value), part)


def _tokenizer_engine(module: KronosTokenizer, device: torch.device) -> TokenizerEngine:
    config = module.config

    def matrix(linear: nn.Linear) -> Matrix:
        return _matrix(linear, device, torch.float32)

    def stack(blocks: nn.ModuleList) -> Stack:
        head = config.d_model // config.n_heads
        return _stack(blocks, config.n_heads, head, device, torch.float32)

    return TokenizerEngine(
        n_bits=config.n_bits,
        s1_bits=config.s1_bits,
        embed=matrix(module.embed),
        encoder=stack(module.encoder),
        quant_embed=matrix(module.quant_embed),
        post_quant_embed=matrix(module.post_quant_embed),
        decoder=stack(module.decoder),
        head=matrix(module.head),
    )


def _network_engine(
    module: KronosNetwork, device: torch.device, dtype: torch.dtype
) -> NetworkEngine:
    config, embedding = module.config, module.embedding
    attention = module.dep_layer.cross_attn
    width = config.d_model
    fused = embedding.fusion_proj
    left, right = fused.weight.chunk(2, dim=1)
    coarse = embedding.emb_s1.weight
    query = attention.q_proj(coarse) * (width // DEPENDENCY_HEADS) ** -0.5

    def moved(tensor: Tensor) -> Tensor:
        return tensor.detach().to(device=device, dtype=dtype, copy=True)

    def matrix(linear: nn.Linear) -> Matrix:
        return _matrix(linear, device, dtype)

    return NetworkEngine(
        width=width,
        s1_rows=moved((coarse * embedding.scale) @ left.T + fused.bias),
        s2_rows=moved((embedding.emb_s2.weight * embedding.scale) @ right.T),
        time_rows=tuple(
            moved(module.time_emb.get_parameter(f"{name}_embed.{suffix}"))
            for name, _ in TIME_TABLES
            for suffix in ["weight" if config.learn_te else "emb.weight"]
        ),
        stack=_stack(
            module.transformer, config.n_heads, width // config.n_heads, device, dtype
        ),
        norm=moved(module.norm.weight),
        s1_head=matrix(module.head.proj_s1),
        s2_head=matrix(module.head.proj_s2),
        query_rows=moved(query),
        dependency_kv=_joined(
            [attention.k_proj, attention.v_proj],
            device,
            dtype,
            norm=module.norm.weight,
        ),
        dependency_out=matrix(attention.out_proj),
        dependency_norm=moved(module.dep_layer.norm.weight),
    )


def _stack(
    blocks: nn.ModuleList,
    n_heads: int,
    head: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Stack:
    layers = tuple(
        _layer(block, device, dtype) for block in blocks if isinstance(block, Block)
    )
    return Stack(layers, n_heads, head, inverse_frequencies(head, device))


def _layer(block: Block, device: torch.device, dtype: torch.dtype) -> Layer:
    attention, ffn = block.self_attn, block.ffn
    joined = [attention.q_proj, attention.k_proj, attention.v_proj]
    return Layer(
        qkv=_paired(
            _joined(joined, device, dtype, norm=block.norm1.weight), attention.n_heads
        ),
        out=_matrix(attention.out_proj, device, dtype),
        gates=_joined([ffn.w1, ffn.w3], device, dtype, norm=block.norm2.weight),
        down=_matrix(ffn.w2, device, dtype),
    )


def _paired(qkv: Matrix, n_heads: int) -> Matrix:
    # Channels j and j + h / 2 of each head of q and k side by side; q over sqrt(h).
    width = len(qkv.weight) // 3
    scale = torch.ones(3 * width, device=qkv.weight.device, dtype=qkv.weight.dtype)
    scale[:width] = (width // n_heads) ** -0.5
    order = torch.arange(2 * width).view(2, n_heads, 2, -1).transpose(2, 3).flatten()
    rows = torch.cat([order, torch.arange(2 * width, 3 * width)])
    rows = rows.to(scale.device)
    bias = None if qkv.bias is None else (qkv.bias * scale)[rows]
    return Matrix((qkv.weight * scale[:, None])[rows], bias)


def _matrix(linear: nn.Linear, device: torch.device, dtype: torch.dtype) -> Matrix:
    return _joined([linear], device, dtype)


def _joined(
    linears: Sequence[nn.Linear],
    device: torch.device,
    dtype: torch.dtype,
    *,
    norm: Tensor | None = None,
) -> Matrix:
    weight = torch.cat([one.weight.detach() for one in linears])
    if norm is not None:
        weight *= norm
    biases: list[Tensor | None] = [one.bias for one in linears]
    known = [bias.detach() for bias in biases if bias is not None]
    bias = torch.cat(known).to(device, dtype) if known else None
    return Matrix(weight.to(device, dtype), bias)
