"""One variant's rows split by instrument, compiled.

A module of its own: a compiled function is kept on disk until its own file changes, so
none may call one of another file.
"""

# ruff: noqa: PLR0917 - compiled functions are called with arrays by position

import numpy as np
from numba import njit

from lab.arrays import AnyArray, FloatArray
from lab.backtest.steps import EXIT, FILL, RUIN

_compiled = njit(cache=True, fastmath=False, nogil=True, error_model="numpy")


@_compiled
def asset_rows_compounding(
    targets: FloatArray,
    before: FloatArray,
    after: FloatArray,
    state: AnyArray,
    gross: FloatArray,
    legs: FloatArray,
    cost: FloatArray,
    weight: FloatArray,
) -> None:
    """Split one variant's rows by instrument.

    Parameters
    ----------
    targets, before, after, state : ndarray of shape (n_obs, n_assets)
        As for `kernels.compounding_rows`.
    gross : ndarray of shape (n_obs,), float64
        The book's return: it tells where the book was ruined.
    legs : ndarray of shape (2, n_obs, n_assets), float64
        Written: earned before and after the fill, as shares of the book before the row.
    cost : ndarray of shape (2, n_obs, n_assets), float64
        Written: cost base of the fill and of an exit after it.
    weight : ndarray of shape (2, n_obs, n_assets), float64
        Written: held before and after the fill, as shares of the book then.
    """
    n_obs, n_assets = before.shape
    held = np.zeros(n_assets)
    for t in range(n_obs):
        opened = 1.0
        for i in range(n_assets):
            legs[0, t, i] = held[i] * before[t, i]
            opened += legs[0, t, i]
        grown = 1.0 + gross[t]
        is_lost = grown <= 0.0
        for i in range(n_assets):
            old = held[i] * (1.0 + before[t, i])
            is_filled = state[t, i] & FILL and t > 0 and opened > RUIN
            new = targets[t - 1, i] * opened if is_filled else old
            if opened > RUIN:
                legs[1, t, i] = new * after[t, i]
                cost[0, t, i] = abs(new - old) / opened * grown
                weight[0, t, i] = old / opened
                weight[1, t, i] = new / opened
            held[i] = new * (1.0 + after[t, i])
            if state[t, i] & EXIT:
                cost[1, t, i] = abs(held[i])
                held[i] = 0.0
            if not is_lost:
                held[i] /= grown
        if is_lost:
            scale = -1.0 / legs[:, t].sum()
            legs[:, t] *= scale
            cost[:, t] = 0.0
            return


@_compiled
def asset_rows_fixed(
    targets: FloatArray,
    step: FloatArray,
    state: AnyArray,
    legs: FloatArray,
    cost: FloatArray,
    weight: FloatArray,
) -> None:
    """Split one variant's rows on fixed notional by instrument; outputs as above."""
    n_obs, n_assets = step.shape
    held = np.zeros(n_assets)
    for t in range(n_obs):
        for i in range(n_assets):
            legs[0, t, i] = held[i] * step[t, i]
            weight[0, t, i] = held[i]
            if state[t, i] == FILL:
                cost[0, t, i] = abs(targets[t, i] - held[i])
                held[i] = targets[t, i]
            weight[1, t, i] = held[i]
            if state[t, i] & EXIT:
                cost[1, t, i] = abs(held[i])
                held[i] = 0.0
