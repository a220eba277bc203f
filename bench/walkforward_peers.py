"""The peers of W1 that need no environment of their own: NumPy, and a fused pass.

All three know the contract and nothing else: closes and weights of one instrument in,
the variant chosen by each window at each rung out.
"""

import numpy as np
from numba import njit

BLOCK, TRAIN = 720, 6
SLIPPAGES = (0.0, 5.0, 10.0, 20.0)


def plain_numpy(close, weights):
    """Choose with whole arrays, one rung after the other."""
    w = weights.astype(np.float64)
    steps = close[1:] / close[:-1] - 1
    gross = np.zeros_like(w)
    gross[1:] = w[:-1] * steps[:, None]
    traded = np.abs(np.diff(w, axis=0, prepend=0))
    n_blocks = len(w) // BLOCK
    chosen = np.empty((n_blocks - TRAIN, len(SLIPPAGES)), dtype=np.int64)
    for rung, bps in enumerate(SLIPPAGES):
        net = gross - bps * 1e-4 * traded
        blocks = net[: n_blocks * BLOCK].reshape(n_blocks, BLOCK, -1)
        total, square = blocks.sum(axis=1), (blocks * blocks).sum(axis=1)
        chosen[:, rung] = _best(total, square)
    return chosen


def blocked_numpy(close, weights):
    """Choose from five sums a block, which serve every rung, made in the cache."""
    steps = np.concatenate([[0.0], close[1:] / close[:-1] - 1])
    n_blocks = len(close) // BLOCK
    sums = np.empty((5, n_blocks, weights.shape[1]))
    before = np.zeros((1, weights.shape[1]))
    for block in range(n_blocks):
        rows = slice(block * BLOCK, (block + 1) * BLOCK)
        w = np.concatenate([before, weights[rows]])
        before = w[-1:]
        g = w[:-1] * steps[rows, None]
        q = np.abs(w[1:] - w[:-1])
        sums[0, block], sums[1, block] = g.sum(axis=0), q.sum(axis=0)
        for number, pair in enumerate(((g, g), (g, q), (q, q)), 2):
            sums[number, block] = np.einsum("tv,tv->v", *pair)
    g, q, gg, gq, qq = sums
    costs = [bps * 1e-4 for bps in SLIPPAGES]
    return np.stack(
        [_best(g - c * q, gg - 2 * c * gq + c * c * qq) for c in costs], axis=1
    )


def _best(total, square):
    n = TRAIN * BLOCK
    windows = np.lib.stride_tricks.sliding_window_view
    mean = windows(total, TRAIN, axis=0)[:-1].sum(axis=-1) / n
    variance = (windows(square, TRAIN, axis=0)[:-1].sum(axis=-1) - n * mean**2) / (
        n - 1
    )
    sharpe = np.where(variance > 1e-18, mean / np.sqrt(np.maximum(variance, 1e-18)), -9)
    return np.argmax(sharpe, axis=1)


def fused(close, weights):
    """Choose in one compiled pass made for this contract and no other."""
    n_blocks = len(close) // BLOCK
    sums = np.zeros((n_blocks, 5, weights.shape[1]))
    chosen = np.empty((n_blocks - TRAIN, len(SLIPPAGES)), dtype=np.int64)
    _fused(close, weights, np.array(SLIPPAGES) * 1e-4, sums, chosen)
    return chosen


@njit(cache=True, error_model="numpy")
def _fused(close, weights, costs, sums, chosen):
    n_variants = weights.shape[1]
    held = np.zeros(n_variants)
    for block in range(len(sums)):
        for t in range(block * BLOCK, (block + 1) * BLOCK, 2):
            r = close[t] / close[t - 1] - 1.0 if t > 0 else 0.0
            s = close[t + 1] / close[t] - 1.0
            for v in range(n_variants):
                h, w, x = held[v], float(weights[t, v]), float(weights[t + 1, v])
                g0, q0, g1, q1 = h * r, abs(w - h), w * s, abs(x - w)
                held[v] = x
                sums[block, 0, v] += g0 + g1
                sums[block, 1, v] += q0 + q1
                sums[block, 2, v] += g0 * g0 + g1 * g1
                sums[block, 3, v] += g0 * q0 + g1 * q1
                sums[block, 4, v] += q0 * q0 + q1 * q1
    total = np.empty(5)
    n = TRAIN * BLOCK
    for window in range(len(chosen)):
        chosen[window] = 0
        best = np.full(len(costs), -np.inf)
        for v in range(n_variants):
            for k in range(5):
                total[k] = sums[window : window + TRAIN, k, v].sum()
            for rung in range(len(costs)):
                c = costs[rung]
                mean = (total[0] - c * total[1]) / n
                square = total[2] - 2.0 * c * total[3] + c * c * total[4]
                variance = (square - n * mean * mean) / (n - 1)
                if variance > 1e-18 and mean / np.sqrt(variance) > best[rung]:
                    best[rung] = mean / np.sqrt(variance)
                    chosen[window, rung] = v


@njit(cache=True, error_model="numpy")
def fused_book(steps, weights, n_blocks):
    """Sum one variant of a book of many instruments in one compiled pass."""
    sums = np.zeros((n_blocks, 5))
    held = np.zeros(weights.shape[1])
    for block in range(n_blocks):
        for t in range(block * BLOCK, (block + 1) * BLOCK):
            g = q = 0.0
            for i in range(weights.shape[1]):
                g += held[i] * steps[t, i]
                q += abs(weights[t, i] - held[i])
                held[i] = weights[t, i]
            sums[block, 0] += g
            sums[block, 1] += q
            sums[block, 2] += g * g
            sums[block, 3] += g * q
            sums[block, 4] += q * q
    return sums
