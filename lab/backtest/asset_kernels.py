"""The smaller compiled passes: instruments' steps, trades and parts, and windows.

A module of its own: a compiled function is kept on disk until its own file changes, so
none may call one of another file.
"""

# ruff: noqa: PLR0917 - compiled functions are called with arrays by position

import numpy as np
from numba import njit

from lab.arrays import AnyArray, BoolArray, FloatArray, IntArray
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


@_compiled
def count_trades(
    targets: AnyArray,
    lag: int,
    state: AnyArray,
    gross: FloatArray,
    trades: IntArray,
) -> None:
    """Count the instruments traded because their target changed.

    A target decided on row t is filled on row t + `lag` at the earliest. With a lag
    books compound, and from the row on that ruins one, as `gross` (n_obs, n_variants)
    tells, none are counted. `trades` of the same shape starts at 0.
    """
    n_obs, n_assets, n = targets.shape
    wanted, is_ruined = np.zeros((n_assets, n)), np.zeros(n, dtype=np.bool_)
    for t in range(lag, n_obs):
        for i in range(n_assets):
            if state[t, i] & FILL:
                for v in range(n):
                    w = float(targets[t - lag, i, v])
                    trades[t, v] += w != wanted[i, v]
                    wanted[i, v] = w
            if state[t, i] & EXIT:
                for v in range(n):
                    trades[t, v] += wanted[i, v] != 0.0
                    wanted[i, v] = 0.0
        for v in range(n):
            is_ruined[v] |= lag > 0 and gross[t, v] == -1.0
            if is_ruined[v]:
                trades[t, v] = 0


@_compiled
def column_steps(
    price: FloatArray,
    close: FloatArray,
    is_break: BoolArray,
    is_at_open: int,
    before: FloatArray,
    after: FloatArray,
    state: AnyArray,
    found: IntArray,
) -> None:
    """Write every instrument's legs and fills; see `lab.backtest.steps`.

    Parameters
    ----------
    price : ndarray of shape (n_obs, n_assets), float64
        Where targets fill: opens, or closes.
    is_at_open : int
        1 if those are opens, else 0.
    close, is_break : ndarray of shape (n_obs, n_assets)
        Of the panel.
    before, after, state : ndarray of shape (n_obs, n_assets)
        Start at 0. A bar that closes at 0 is the instrument's last.
    found : ndarray of shape (n_assets, 3), int64
        Starts at -1. Written: row of the last bar, first row of a price that cannot be,
        and the row after the first gap.
    """
    n_obs, n_assets = close.shape
    last = np.full(n_assets, np.nan)
    for t in range(n_obs):
        for i in range(n_assets):
            c, p = close[t, i], price[t, i]
            if np.isnan(c):
                continue
            is_over = last[i] == 0.0
            is_wrong = not (0.0 <= c < np.inf) or (is_over and c > 0.0)
            is_price = p > 0.0 or (not is_at_open and last[i] > 0.0)
            is_wrong |= not (is_over or (is_price and p < np.inf))
            if is_wrong and found[i, 1] < 0:
                found[i, 1] = t
            if is_over:
                continue
            if found[i, 0] >= 0:
                if found[i, 0] < t - 1 and found[i, 2] < 0:
                    found[i, 2] = t
                if not is_break[t, i]:
                    before[t, i] = p / last[i] - 1.0
            after[t, i] = c / p - 1.0 if p > 0.0 else 0.0
            state[t, i] = FILL
            found[i, 0] = t
            last[i] = c


@_compiled
def window_sharpes(
    n: IntArray,
    sums: FloatArray,
    windows: IntArray,
    costs: FloatArray,
    least: float,
    sharpe: FloatArray,
) -> None:
    """Write the Sharpe ratios of a row over runs of blocks.

    Parameters
    ----------
    n : ndarray of shape (n_blocks,), int64
        Rows.
    sums : ndarray of shape (n_blocks, 5, n_variants), float64
        Of g, q, g*g, g*q, q*q.
    windows : ndarray of shape (n_windows, 2), int64
        First block of each, and the one after its last.
    costs : ndarray of shape (n_costs,), float64
        Per unit of turnover.
    least : float
        NaN is written where the variance is no more than this share of the mean square,
        or there are fewer than two rows.
    sharpe : ndarray of shape (n_windows, n_costs, n_variants), float64
        Written.
    """
    total = np.empty(sums.shape[1:])
    for window in range(len(windows)):
        rows = 0
        total[:] = 0.0
        for block in range(windows[window, 0], windows[window, 1]):
            rows += n[block]
            for k in range(5):
                for v in range(sums.shape[2]):
                    total[k, v] += sums[block, k, v]
        for rung in range(len(costs)):
            c = costs[rung]
            for v in range(sums.shape[2]):
                mean = (total[0, v] - c * total[1, v]) / rows
                square = total[2, v] - 2.0 * c * total[3, v] + c * c * total[4, v]
                spread = square / rows - mean * mean
                deviation = np.sqrt(max(spread, 0.0) * rows / max(rows - 1, 1))
                is_flat = (spread <= least * square / rows) | (rows < 2)
                sharpe[window, rung, v] = np.nan if is_flat else mean / deviation
