"""Compiled passes over rows, instruments and variants.

Every pass keeps its state per instrument and variant and runs its innermost loop over
variants, which lie side by side in memory: the loop becomes vector instructions, and
100 variants cost little more than a few. Sums run in a fixed order, so numbers do not
depend on how many variants share a pass or where it was cut.

`state` of an instrument on a row is a sum of `FILL` (its target is traded there) and
`EXIT` (what is held is closed there at its last close).
"""

# ruff: noqa: PLR0917 - compiled functions are called with arrays by position

from typing import Final

import numpy as np
from numba import njit

from lab.arrays import AnyArray, FloatArray, IntArray

FILL: Final = 1
EXIT: Final = 2
RUIN: Final = 1e-12
"""A book left with no more than this share of itself is ruined."""

_TILE: Final = 64  # rows worked on at a time: their results stay in the cache
_FAR: Final = 1e60  # equity is scaled back beyond this, by a power of two

_compiled = njit(cache=True, fastmath=False, nogil=True, error_model="numpy")


@_compiled
def fixed_rows(
    targets: AnyArray,
    rows: tuple[int, int],
    columns: tuple[int, int],
    step: FloatArray,
    state: AnyArray,
    limit: float,
    held: FloatArray,
    gross: FloatArray,
    cost_base: FloatArray,
) -> int:
    """Trade rows at their close on fixed notional; return the first bad row or -1.

    Parameters
    ----------
    targets : ndarray of shape (n_obs, n_assets, n_variants), any float or int
        Target weights.
    rows, columns : tuple of int
        First row (variant) and the one after the last.
    step : ndarray of shape (n_obs, n_assets), float64
        Return from the instrument's close before; 0 where there is none.
    state : ndarray of shape (n_obs, n_assets), int8
        `FILL` and `EXIT`.
    limit : float
        Largest sum of absolute weights of a row.
    held : ndarray of shape (n_assets, n_columns), float64
        Weights in force, changed in place.
    gross, cost_base : ndarray of shape (n_rows, n_columns), float64
        Written.
    """
    first, last = columns
    n = last - first
    budget = np.empty(n)
    bad = -1
    for t in range(rows[0], rows[1]):
        g = gross[t - rows[0]]
        q = cost_base[t - rows[0]]
        for v in range(n):
            g[v] = 0.0
            q[v] = 0.0
            budget[v] = 0.0
        for i in range(targets.shape[1]):
            r = step[t, i]
            s = state[t, i]
            h = held[i]
            wanted = targets[t, i, first:last]
            if s == FILL:
                for v in range(n):
                    w = float(wanted[v])
                    g[v] += h[v] * r
                    q[v] += abs(w - h[v])
                    h[v] = w
                    budget[v] += abs(w)
            else:
                for v in range(n):
                    g[v] += h[v] * r
                    budget[v] += abs(float(wanted[v]))
                if s & EXIT:
                    for v in range(n):
                        q[v] += abs(h[v])
                        h[v] = 0.0
        n_bad = 0
        for v in range(n):
            n_bad += not (budget[v] <= limit)
        if n_bad > 0 and bad < 0:
            bad = t
    return bad


@_compiled
def compounding_rows(
    targets: AnyArray,
    rows: tuple[int, int],
    columns: tuple[int, int],
    before: FloatArray,
    after: FloatArray,
    state: AnyArray,
    limit: float,
    amount: FloatArray,
    equity: FloatArray,
    ahead: FloatArray,
    gross: FloatArray,
    cost_base: FloatArray,
    turnover: FloatArray,
) -> int:
    """Trade rows within their bar, compounding; return the first bad row or -1.

    Row t fills the targets decided on row t - 1. An instrument's bar has a leg before
    the fill and one after it.

    Parameters
    ----------
    targets, rows, columns, state, limit
        As for `fixed_rows`.
    before, after : ndarray of shape (n_obs, n_assets), float64
        Return of either leg; 0 where there is none.
    amount : ndarray of shape (n_assets, n_columns), float64
        Money in each instrument, changed in place.
    equity : ndarray of shape (n_columns,), float64
        Money of the book, changed in place; 0 once it is ruined.
    ahead : ndarray of shape (n_columns,), float64
        What the coming row's first leg adds to the equity, changed in place.
    gross, cost_base, turnover : ndarray of shape (n_rows, n_columns), float64
        Written.
    """
    first, last = columns
    n = last - first
    n_obs, n_assets = before.shape
    budget, opened, end, late = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    bad = -1
    for t in range(rows[0], rows[1]):
        g = gross[t - rows[0]]
        q = cost_base[t - rows[0]]
        traded = turnover[t - rows[0]]
        is_exit_row = False
        for v in range(n):
            opened[v] = equity[v] + ahead[v]
            end[v] = opened[v]
            ahead[v] = 0.0
            traded[v] = 0.0
            late[v] = 0.0
            budget[v] = 0.0
        for i in range(n_assets):
            r1 = 1.0 + before[t, i]
            r2 = after[t, i]
            r3 = before[t + 1, i] if t + 1 < n_obs else 0.0
            s = state[t, i]
            a = amount[i]
            wanted = targets[max(t - 1, 0), i, first:last]
            if s & FILL and t > 0:
                for v in range(n):
                    w = float(wanted[v])
                    new = w * opened[v]
                    traded[v] += abs(new - a[v] * r1)
                    gain = new * r2
                    new += gain
                    end[v] += gain
                    a[v] = new
                    ahead[v] += new * r3
                    budget[v] += abs(w)
            else:
                for v in range(n):
                    old = a[v] * r1
                    gain = old * r2
                    old += gain
                    end[v] += gain
                    a[v] = old
                    ahead[v] += old * r3
                    budget[v] += abs(float(wanted[v]))
            if s & EXIT:
                is_exit_row = True
                for v in range(n):
                    late[v] += abs(a[v])
                    a[v] = 0.0
        n_bad = 0
        n_odd = 0
        for v in range(n):
            n_bad += not (budget[v] <= limit)
            was = equity[v]
            scale = 1.0 / (was * opened[v]) if was > 0.0 else 0.0
            grown = end[v] * opened[v] * scale
            g[v] = grown - 1.0 if was > 0.0 else 0.0
            q[v] = traded[v] * end[v] * scale
            traded[v] *= was * scale
            floor = RUIN * was
            lost = (opened[v] <= floor) | (end[v] <= floor)
            far = (end[v] > _FAR) | (end[v] < 1.0 / _FAR)
            n_odd += (lost | far) & (was > 0.0)
            equity[v] = end[v] if was > 0.0 else 0.0
            end[v] = was
        if n_bad > 0 and bad < 0:
            bad = t - 1
        if is_exit_row:
            for v in range(n):
                if end[v] > 0.0:
                    q[v] += late[v] / end[v]
                    traded[v] += late[v] / equity[v]
        if n_odd > 0:
            _settle(amount, equity, ahead, opened, end, g, q, traded)
    return bad


@_compiled
def _settle(
    amount: FloatArray,
    equity: FloatArray,
    ahead: FloatArray,
    opened: FloatArray,
    was: FloatArray,
    gross: FloatArray,
    cost_base: FloatArray,
    turnover: FloatArray,
) -> None:
    # Ruined books are closed; far ones are scaled, which changes no bit of a return.
    for v in range(len(equity)):
        if was[v] <= 0.0:
            continue
        is_lost_before = opened[v] <= RUIN * was[v]
        if is_lost_before or equity[v] <= RUIN * was[v]:
            gross[v] = -1.0
            cost_base[v] = 0.0
            if is_lost_before:
                turnover[v] = 0.0
            equity[v] = 0.0
            ahead[v] = 0.0
            for i in range(len(amount)):
                amount[i, v] = 0.0
        elif equity[v] > _FAR or equity[v] < 1.0 / _FAR:
            factor = 2.0 ** -np.floor(np.log2(equity[v]))
            equity[v] *= factor
            ahead[v] *= factor
            for i in range(len(amount)):
                amount[i, v] *= factor


@_compiled
def add_sums(
    gross: FloatArray, cost_base: FloatArray, n_rows: int, sums: FloatArray
) -> None:
    """Add rows to the five sums: g, q, g*g, g*q, q*q; `sums` is (5, n_variants)."""
    n = sums.shape[1]
    sum_g, sum_q, sum_gg = sums[0], sums[1], sums[2]
    sum_gq, sum_qq = sums[3], sums[4]
    whole = n_rows - n_rows % 2
    for k in range(0, whole, 2):
        g0, g1 = gross[k], gross[k + 1]
        q0, q1 = cost_base[k], cost_base[k + 1]
        for v in range(n):
            sum_g[v] += g0[v] + g1[v]
            sum_q[v] += q0[v] + q1[v]
            sum_gg[v] += g0[v] * g0[v] + g1[v] * g1[v]
            sum_gq[v] += g0[v] * q0[v] + g1[v] * q1[v]
            sum_qq[v] += q0[v] * q0[v] + q1[v] * q1[v]
    for k in range(whole, n_rows):
        g0, q0 = gross[k], cost_base[k]
        for v in range(n):
            sum_g[v] += g0[v]
            sum_q[v] += q0[v]
            sum_gg[v] += g0[v] * g0[v]
            sum_gq[v] += g0[v] * q0[v]
            sum_qq[v] += q0[v] * q0[v]


@_compiled
def sweep_fixed(
    targets: AnyArray,
    columns: tuple[int, int],
    step: FloatArray,
    state: AnyArray,
    limit: float,
    edges: IntArray,
    sums: FloatArray,
) -> int:
    """Sum blocks of rows traded at their close; `sums` is (n_blocks, 5, n_columns)."""
    n = columns[1] - columns[0]
    held = np.zeros((targets.shape[1], n))
    gross, cost_base = np.empty((_TILE, n)), np.empty((_TILE, n))
    bad = -1
    for block in range(-1, len(edges) - 1):
        start = edges[block] if block >= 0 else 0
        stop = edges[block + 1]
        for t in range(start, stop, _TILE):
            rows = (t, min(t + _TILE, stop))
            found = fixed_rows(
                targets, rows, columns, step, state, limit, held, gross, cost_base
            )
            bad = found if bad < 0 else bad
            if block >= 0:
                add_sums(gross, cost_base, rows[1] - t, sums[block])
    return bad


@_compiled
def sweep_compounding(
    targets: AnyArray,
    columns: tuple[int, int],
    before: FloatArray,
    after: FloatArray,
    state: AnyArray,
    limit: float,
    edges: IntArray,
    sums: FloatArray,
) -> int:
    """Sum blocks of compounding rows; `sums` is (n_blocks, 5, n_columns)."""
    n = columns[1] - columns[0]
    amount, equity, ahead = np.zeros((targets.shape[1], n)), np.ones(n), np.zeros(n)
    gross, cost_base = np.empty((_TILE, n)), np.empty((_TILE, n))
    turnover = np.empty((_TILE, n))
    bad = -1
    for block in range(-1, len(edges) - 1):
        start = edges[block] if block >= 0 else 0
        stop = edges[block + 1]
        for t in range(start, stop, _TILE):
            rows = (t, min(t + _TILE, stop))
            found = compounding_rows(
                targets, rows, columns, before, after, state, limit,
                amount, equity, ahead, gross, cost_base, turnover,
            )  # fmt: skip
            bad = found if bad < 0 else bad
            if block >= 0:
                add_sums(gross, cost_base, rows[1] - t, sums[block])
    return bad


@_compiled
def run_fixed(
    targets: AnyArray,
    columns: tuple[int, int],
    step: FloatArray,
    state: AnyArray,
    limit: float,
    gross: FloatArray,
    cost_base: FloatArray,
    trades: IntArray,
    exposure: FloatArray,
) -> int:
    """Write every row of books traded at their close; outputs (n_obs, n_columns)."""
    n = columns[1] - columns[0]
    n_obs, n_assets = step.shape
    held, wanted = np.zeros((n_assets, n)), np.zeros((n_assets, n))
    bad = -1
    for t in range(n_obs):
        found = fixed_rows(
            targets, (t, t + 1), columns, step, state, limit, held,
            gross[t : t + 1], cost_base[t : t + 1],
        )  # fmt: skip
        bad = found if bad < 0 else bad
        for i in range(n_assets):
            new = targets[t, i, columns[0] : columns[1]]
            _count(new, state[t, i], wanted[i], trades[t])
            for v in range(n):
                exposure[t, v] += abs(held[i, v])
    return bad


@_compiled
def run_compounding(
    targets: AnyArray,
    columns: tuple[int, int],
    before: FloatArray,
    after: FloatArray,
    state: AnyArray,
    limit: float,
    gross: FloatArray,
    cost_base: FloatArray,
    turnover: FloatArray,
    trades: IntArray,
    exposure: FloatArray,
) -> int:
    """Write every row of compounding books; outputs (n_obs, n_columns)."""
    n = columns[1] - columns[0]
    n_obs, n_assets = before.shape
    amount, equity, ahead = np.zeros((n_assets, n)), np.ones(n), np.zeros(n)
    wanted = np.zeros((n_assets, n))
    bad = -1
    for t in range(n_obs):
        found = compounding_rows(
            targets, (t, t + 1), columns, before, after, state, limit,
            amount, equity, ahead,
            gross[t : t + 1], cost_base[t : t + 1], turnover[t : t + 1],
        )  # fmt: skip
        bad = found if bad < 0 else bad
        for i in range(n_assets):
            if t > 0:
                new = targets[t - 1, i, columns[0] : columns[1]]
                _count(new, state[t, i], wanted[i], trades[t])
            for v in range(n):
                if equity[v] > 0.0:
                    exposure[t, v] += abs(amount[i, v]) / equity[v]
        for v in range(n):
            if turnover[t, v] == 0.0:
                trades[t, v] = 0
    return bad


@_compiled
def _count(targets: AnyArray, state: int, wanted: FloatArray, trades: IntArray) -> None:
    # Instruments whose target changed against the last one filled.
    if state & FILL:
        for v in range(len(wanted)):
            trades[v] += float(targets[v]) != wanted[v]
            wanted[v] = float(targets[v])
    if state & EXIT:
        for v in range(len(wanted)):
            trades[v] += wanted[v] != 0.0
            wanted[v] = 0.0


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
        As for `compounding_rows`.
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
