"""The published description executed naively: the oracle and the yardstick.

Every step runs all layers over the full window of every path, all heads over all
positions, and the paths of a series repeat its history. Slow on purpose; nothing here
is shared with `generate` but the modules and the draws.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lab.arrays import FloatArray
from lab.forecasters.kronos.filtering import Filter, chances
from lab.forecasters.kronos.generate import History, Paths
from lab.forecasters.kronos.network import KronosNetwork
from lab.forecasters.kronos.normalise import CLIP
from lab.forecasters.kronos.sampling import draw
from lab.forecasters.kronos.tokenizer import KronosTokenizer


def generate_naively(
    tokenizer: KronosTokenizer,
    network: KronosNetwork,
    histories: Sequence[History],
    uniforms: FloatArray,
    *,
    window: int,
    by: Filter | None = None,
) -> Paths:
    """Return what `generate` returns in its exact mode, the slow way.

    Parameters
    ----------
    tokenizer : KronosTokenizer
        In evaluation mode.
    network : KronosNetwork
        In evaluation mode.
    histories : sequence of History
        All of the same length.
    uniforms : ndarray of shape (B, S, 2 * horizon), float64
        Two numbers in [0, 1) for every step of every path.
    window : int, tokens
        Most tokens the network and the decoder look at.
    by : Filter, optional
        Temperature, top-k and top-p.

    Returns
    -------
    Paths
    """
    n_series, n_paths, n_draws = uniforms.shape
    horizon = n_draws // 2
    bars, stamp, extra = repeated(histories, n_paths)
    draws = torch.from_numpy(uniforms.reshape(-1, n_draws))
    with torch.inference_mode():
        s1, s2 = tokenizer.encode(bars.clamp(-CLIP, CLIP))
        length = s1.shape[1]
        for step in range(horizon):
            seen = slice(max(0, length + step - window), length + step)
            more = None if extra is None else extra[:, seen]
            pair = next_pair(
                network,
                (s1[:, seen], s2[:, seen]),
                stamp[:, seen],
                draws[:, 2 * step : 2 * step + 2],
                by=by or Filter(),
                extra=more,
            )
            s1 = torch.cat([s1, pair[0][:, None]], dim=1)
            s2 = torch.cat([s2, pair[1][:, None]], dim=1)
        decoded = tokenizer.decode(s1[:, -window:], s2[:, -window:])[:, -horizon:]
    shape = (n_series, n_paths, horizon)
    return Paths(
        decoded.reshape(*shape, -1),
        s1[:, length:].reshape(shape),
        s2[:, length:].reshape(shape),
    )


def next_pair(
    network: KronosNetwork,
    tokens: tuple[Tensor, Tensor],
    stamp: Tensor,
    draws: Tensor,
    *,
    by: Filter,
    extra: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the next token pair of every row, from its full window.

    Parameters
    ----------
    network : KronosNetwork
        In evaluation mode.
    tokens : pair of Tensor of shape (rows, T), int64
        Coarse and fine tokens of the window.
    stamp : Tensor of shape (rows, T, 5)
        Their time stamps.
    draws : Tensor of shape (rows, 2), float64
        Numbers in [0, 1).
    by : Filter
        Temperature, top-k and top-p.
    extra : Tensor of shape (rows, T, d), optional
        Added to the input embeddings.

    Returns
    -------
    s1, s2 : Tensor of shape (rows,), int64
    """
    h = network.hidden(*tokens, stamp, extra=extra)
    coarse = draw(chances(network.s1_logits(h)[:, -1], by), draws[:, 0])
    layer = network.dep_layer
    query = network.embedding.emb_s1(coarse[:, None])
    mixed = layer.cross_attn(query, h, is_causal=False, is_rotated=False)
    logits = network.head.proj_s2(layer.norm(h + mixed))[:, -1]
    return coarse, draw(chances(logits, by), draws[:, 1])


def repeated(
    histories: Sequence[History], n_paths: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return bars, stamps (history, then future) and conditioning, once per path."""
    bars = torch.from_numpy(np.stack([one.x for one in histories]))
    stamp = torch.from_numpy(
        np.stack([np.concatenate([one.stamp, one.future]) for one in histories])
    )
    extras = [one.extra for one in histories if one.extra is not None]
    extra = torch.stack(extras).repeat_interleave(n_paths, dim=0) if extras else None
    return (
        bars.repeat_interleave(n_paths, dim=0),
        stamp.repeat_interleave(n_paths, dim=0),
        extra,
    )
