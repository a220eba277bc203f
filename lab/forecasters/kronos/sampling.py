"""Draws: one generator per path, known by its request, symbol, moment and number.

All draws of a path are made up front as uniform numbers and turned into tokens through
the inverse of the cumulative chances. So a path's draws depend on nothing but its own
name: not on the batch, on the number of other paths, or on what runs beside it.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import torch
from torch import Tensor

from lab.arrays import FloatArray
from lab.errors import ForecastError


def path_uniforms(
    *,
    seed: int,
    symbol: str,
    timeframe: str,
    as_of: datetime,
    n_paths: int,
    horizon: int,
) -> FloatArray:
    """Return the uniform numbers of one series' paths.

    Parameters
    ----------
    seed : int
        Of the request.
    symbol, timeframe : str
        Of the series.
    as_of : datetime
        Decision time, aware.
    n_paths : int
        Paths wanted; path k is the same whatever their number.
    horizon : int, steps
        Steps wanted; the first ones are the same whatever their number.

    Returns
    -------
    ndarray of shape (n_paths, 2 * horizon), float64
        In [0, 1); two a step, for the coarse and for the fine token.
    """
    moment = as_of.astimezone(UTC).isoformat(timespec="microseconds")
    name = "\x1f".join(("kronos", symbol, timeframe, moment))
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
    return np.stack(
        [
            np.random.default_rng([seed, digest, path]).random(2 * horizon)
            for path in range(n_paths)
        ]
    )


def seeded_uniforms(
    seed: int, *, n_series: int, n_paths: int, horizon: int
) -> FloatArray:
    """Return uniform numbers of unnamed series, which go by their position.

    Parameters
    ----------
    seed : int
        Of the request.
    n_series, n_paths, horizon : int
        Shape of the answer.

    Returns
    -------
    ndarray of shape (n_series, n_paths, 2 * horizon), float64
    """
    rows: Sequence[FloatArray] = [
        np.random.default_rng([seed, series, path]).random(2 * horizon)
        for series in range(n_series)
        for path in range(n_paths)
    ]
    return np.stack(rows).reshape(n_series, n_paths, 2 * horizon)


def draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Return one token per row by inverting the cumulative chances.

    Parameters
    ----------
    probabilities : Tensor of shape (rows, V), float32
        Chances in the vocabulary's order.
    uniforms : Tensor of shape (rows,), float64
        In [0, 1).

    Returns
    -------
    Tensor of shape (rows,), int64
        How many entries have a cumulative chance at or below the uniform number.

    Raises
    ------
    ForecastError
        If a chance is not a number: the network gave no finite logits.

    References
    ----------
    .. [1] Devroye (1986), Non-uniform random variate generation, ch. III.2.
    """
    tokens, is_finite = inverted(probabilities, uniforms)
    if not bool(is_finite):
        raise ForecastError("kronos: the network's logits are not finite")
    return tokens


def inverted(probabilities: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `draw` does, and whether all chances are numbers, unchecked.

    Returns
    -------
    tokens : Tensor of shape (rows,), int64
    is_finite : Tensor of shape (), bool
    """
    cumulative = probabilities.to(uniforms.dtype).cumsum(dim=-1)
    total = cumulative[:, -1:]
    tokens = (cumulative / total <= uniforms[:, None]).sum(dim=-1)
    return tokens, torch.isfinite(total).all()
