"""Compiled passes over rows, instruments and variants.

Every pass keeps its state per instrument and variant and runs its innermost loop over
variants, which lie side by side in memory: the loop becomes vector instructions, and
100 variants cost little more than a few. Arrays are indexed in place; a view of a row
would cost more than the row. Sums run in a fixed order, so numbers do not depend on how
many variants share a pass. Compiled code is kept on disk until this file changes, so
nothing here may call a compiled function of another file.

Parameters that recur:

- `targets` (n_obs, n_assets, n_variants), float64, float32 or int8: target weights.
- `before`, `after`, `state` (n_obs, n_assets): see `lab.backtest.steps.Steps`; on fixed
  notional `step` is the leg from close to close.
- `limit`: the largest sum of absolute weights; passes return the first row above it, or
  one that is not finite, else -1.
- outputs (n_rows, n_variants) are written; `exposure`, the sum of absolute weights held
  at the row's close, is added to, and has no rows if it is not wanted.
"""

# ruff: noqa: PLR0917, PLR0912, PLR0915, C901 - arrays go by position, a call costs a row

from typing import Final

import numpy as np
from numba import njit

from lab.arrays import AnyArray, FloatArray, IntArray
from lab.backtest.steps import EXIT, FILL, RUIN

_TILE: Final = 32  # rows worked on at a time: their results stay in the cache
_LONG_TILE: Final = 256  # the same for one instrument
_FAR: Final = 1e60  # equity is scaled back beyond this, by a power of two
_CALM: Final = 0.2  # no book of one instrument is ruined by legs up to this size

_compiled = njit(cache=True, fastmath=False, nogil=True, error_model="numpy")


@_compiled
def fixed_rows(
    targets: AnyArray,
    rows: tuple[int, int],
    step: FloatArray,
    state: AnyArray,
    limit: float,
    held: FloatArray,
    gross: FloatArray,
    cost_base: FloatArray,
    exposure: FloatArray,
) -> int:
    """Trade rows at their close; `held` (n_assets, n_variants) is changed in place."""
    n_assets, n = held.shape
    if n == 1 and len(exposure) == 0:
        return _fix_single(targets, rows, step, state, limit, held, gross, cost_base)
    budget = np.empty(n)
    bad = -1
    for t in range(rows[0], rows[1]):
        k = t - rows[0]
        for v in range(n):
            gross[k, v] = 0.0
            cost_base[k, v] = 0.0
            budget[v] = 0.0
        for i in range(n_assets):
            r = step[t, i]
            if state[t, i] == FILL:
                for v in range(n):
                    w = float(targets[t, i, v])
                    h = held[i, v]
                    gross[k, v] += h * r
                    cost_base[k, v] += abs(w - h)
                    budget[v] += abs(w)
                    held[i, v] = w
            else:
                for v in range(n):
                    gross[k, v] += held[i, v] * r
                    budget[v] += abs(float(targets[t, i, v]))
            if state[t, i] & EXIT:
                for v in range(n):
                    cost_base[k, v] += abs(held[i, v])
                    held[i, v] = 0.0
        n_over = 0
        for v in range(n):
            n_over += not (budget[v] <= limit)
        if n_over > 0 and bad < 0:
            bad = t
        if k < len(exposure):
            for i in range(n_assets):
                for v in range(n):
                    exposure[k, v] += abs(held[i, v])
    return bad


@_compiled
def _fix_single(
    targets: AnyArray,
    rows: tuple[int, int],
    step: FloatArray,
    state: AnyArray,
    limit: float,
    held: FloatArray,
    gross: FloatArray,
    cost_base: FloatArray,
) -> int:
    # `fixed_rows` of a single variant: sums stay in registers.
    bad = -1
    for t in range(rows[0], rows[1]):
        g = q = budget = 0.0
        for i in range(len(held)):
            h, w, s = held[i, 0], float(targets[t, i, 0]), state[t, i]
            g += h * step[t, i]
            budget += abs(w)
            if s == FILL:
                q += abs(w - h)
                held[i, 0] = w
            elif s & EXIT:
                q += abs(h)
                held[i, 0] = 0.0
        gross[t - rows[0], 0] = g
        cost_base[t - rows[0], 0] = q
        if not budget <= limit and bad < 0:
            bad = t
    return bad


@_compiled
def compounding_rows(
    targets: AnyArray,
    rows: tuple[int, int],
    before: FloatArray,
    after: FloatArray,
    state: AnyArray,
    limit: float,
    book: tuple[FloatArray, FloatArray, FloatArray],
    gross: FloatArray,
    cost_base: FloatArray,
    turnover: FloatArray,
    exposure: FloatArray,
) -> int:
    """Trade rows within their bar, compounding: row t fills the targets of row t - 1.

    `book` is changed in place: money in each instrument (n_assets, n_variants), equity
    (n_variants,), 0 once it is ruined, and what the coming row's first leg adds to it.
    """
    n_obs = len(before)
    amount, equity, ahead = book
    n_assets, n = amount.shape
    if n == 1 and len(exposure) == 0:
        return _compound_single(
            targets, rows, before, after, state, limit, book, gross, cost_base, turnover
        )
    budget, opened, end, late = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    bad = -1
    for t in range(rows[0], rows[1]):
        k = t - rows[0]
        decided = max(t - 1, 0)
        for v in range(n):
            opened[v] = equity[v] + ahead[v]
            end[v] = opened[v]
            ahead[v] = 0.0
            turnover[k, v] = 0.0
            budget[v] = 0.0
            late[v] = 0.0
        for i in range(n_assets):
            grown = 1.0 + before[t, i]
            leg = after[t, i]
            is_held = t + 1 < n_obs and not state[t, i] & EXIT
            coming = before[t + 1, i] if is_held else 0.0
            if state[t, i] & FILL and t > 0:
                for v in range(n):
                    w = float(targets[decided, i, v])
                    new = w * opened[v]
                    turnover[k, v] += abs(new - amount[i, v] * grown)
                    gain = new * leg
                    end[v] += gain
                    ahead[v] += (new + gain) * coming
                    budget[v] += abs(w)
                    amount[i, v] = new + gain
            else:
                for v in range(n):
                    old = amount[i, v] * grown
                    gain = old * leg
                    end[v] += gain
                    ahead[v] += (old + gain) * coming
                    budget[v] += abs(float(targets[decided, i, v]))
                    amount[i, v] = old + gain
            if state[t, i] & EXIT:
                for v in range(n):
                    late[v] += abs(amount[i, v])
                    amount[i, v] = 0.0
        n_over = 0
        n_odd = 0
        for v in range(n):
            n_over += not (budget[v] <= limit)
            was = equity[v]
            is_alive = was > 0.0
            share = 1.0 / (was * opened[v]) if is_alive else 0.0
            grown = end[v] * opened[v] * share
            gross[k, v] = grown - 1.0 if is_alive else 0.0
            cost_base[k, v] = (turnover[k, v] * end[v] + late[v] * opened[v]) * share
            turnover[k, v] *= was * share
            lost = (opened[v] <= RUIN * was) | (end[v] <= RUIN * was)
            far = (end[v] > _FAR) | (end[v] < 1.0 / _FAR)
            n_odd += (lost | far | (late[v] > 0.0)) & is_alive
            equity[v] = end[v] if is_alive else 0.0
            end[v] = was
        if n_over > 0 and bad < 0:
            bad = decided
        if n_odd > 0:
            _settle(
                amount, equity, ahead, opened, end, late,
                gross[k], cost_base[k], turnover[k],
            )  # fmt: skip
        if k < len(exposure):
            for i in range(n_assets):
                for v in range(n):
                    if equity[v] > 0.0:
                        exposure[k, v] += abs(amount[i, v]) / equity[v]
    return bad


@_compiled
def _compound_single(
    targets: AnyArray,
    rows: tuple[int, int],
    before: FloatArray,
    after: FloatArray,
    state: AnyArray,
    limit: float,
    book: tuple[FloatArray, FloatArray, FloatArray],
    gross: FloatArray,
    cost_base: FloatArray,
    turnover: FloatArray,
) -> int:
    # `compounding_rows` of a single variant: sums stay in registers.
    amount, equity, ahead = book
    bad = -1
    was, coming = equity[0], ahead[0]
    row = np.empty((3, 1))
    for t in range(rows[0], rows[1]):
        k = t - rows[0]
        opened = was + coming
        end, traded, late, budget, coming = opened, 0.0, 0.0, 0.0, 0.0
        decided, then = max(t - 1, 0), min(t + 1, len(before) - 1)
        for i in range(len(amount)):
            w, s = float(targets[decided, i, 0]), state[t, i]
            budget += abs(w)
            new = amount[i, 0] * (1.0 + before[t, i])
            if s & FILL and t > 0:
                traded += abs(w * opened - new)
                new = w * opened
            gain = new * after[t, i]
            end += gain
            new += gain
            if s & EXIT:
                late += abs(new)
                new = 0.0
            coming += new * before[then, i]
            amount[i, 0] = new
        coming = coming if then > t else 0.0
        share = 1.0 / (was * opened) if was > 0.0 else 0.0
        grown = end * opened * share
        gross[k, 0] = grown - 1.0 if was > 0.0 else 0.0
        cost_base[k, 0] = (traded * end + late * opened) * share
        turnover[k, 0] = traded * was * share
        is_lost = opened <= RUIN * was or end <= RUIN * was
        is_far = end > _FAR or end < 1.0 / _FAR
        if was > 0.0 and (is_lost or is_far or late > 0.0):
            equity[0], ahead[0] = end, coming
            row[0], row[1], row[2] = opened, was, late
            _settle(
                amount, equity, ahead, row[0], row[1], row[2],
                gross[k], cost_base[k], turnover[k],
            )  # fmt: skip
            end, coming = equity[0], ahead[0]
        was = end if was > 0.0 else 0.0
        if not budget <= limit and bad < 0:
            bad = decided
    equity[0], ahead[0] = was, coming
    return bad


@_compiled
def _settle(
    amount: FloatArray,
    equity: FloatArray,
    ahead: FloatArray,
    opened: FloatArray,
    was: FloatArray,
    late: FloatArray,
    gross: FloatArray,
    cost_base: FloatArray,
    turnover: FloatArray,
) -> None:
    # Ruined books are closed; far ones are scaled, which changes no bit of a return.
    for v in range(len(equity)):
        if was[v] <= 0.0:
            continue
        factor = 1.0
        is_lost_before = opened[v] <= RUIN * was[v]
        if is_lost_before or equity[v] <= RUIN * was[v]:
            gross[v] = -1.0
            cost_base[v] = 0.0
            turnover[v] = 0.0 if is_lost_before else turnover[v]
            factor = 0.0
        else:
            turnover[v] += late[v] / equity[v]
            if equity[v] > _FAR or equity[v] < 1.0 / _FAR:
                factor = 2.0 ** -np.floor(np.log2(equity[v]))
        equity[v] *= factor
        ahead[v] *= factor
        for i in range(len(amount)):
            amount[i, v] *= factor


@_compiled
def _add(
    gross: FloatArray, cost_base: FloatArray, n_rows: int, block: int, sums: FloatArray
) -> None:
    # Rows to the five sums, two at a time: g, q, g*g, g*q, q*q.
    if n_rows % 2:
        gross[n_rows] = 0.0
        cost_base[n_rows] = 0.0
    for k in range(0, n_rows, 2):
        for v in range(sums.shape[2]):
            g0, g1 = gross[k, v], gross[k + 1, v]
            q0, q1 = cost_base[k, v], cost_base[k + 1, v]
            sums[block, 0, v] += g0 + g1
            sums[block, 1, v] += q0 + q1
            sums[block, 2, v] += g0 * g0 + g1 * g1
            sums[block, 3, v] += g0 * q0 + g1 * q1
            sums[block, 4, v] += q0 * q0 + q1 * q1


@_compiled
def sweep_fixed(
    targets: AnyArray,
    step: FloatArray,
    state: AnyArray,
    limit: float,
    edges: IntArray,
    sums: FloatArray,
) -> int:
    """Sum blocks of rows traded at their close; `sums` is (n_blocks, 5, n_variants)."""
    n_assets, n = targets.shape[1:]
    held = np.zeros((n_assets, n))
    tile = _LONG_TILE if n_assets == 1 else _TILE
    gross, cost_base = np.empty((tile, n)), np.empty((tile, n))
    exposure = np.empty((0, n))
    bad = -1
    for block in range(-1, len(edges) - 1):
        stop = edges[block + 1]
        for t in range(edges[block] if block >= 0 else 0, stop, tile):
            rows = t, min(t + tile, stop)
            n_rows = rows[1] - t
            is_alone = block >= 0 and n_assets == 1 and n_rows % 2 == 0
            for k in range(t, rows[1]):
                is_alone = is_alone and state[k, 0] == FILL
            if is_alone:
                found = _fix_alone(targets, rows, step, limit, held, block, sums)
            else:
                found = fixed_rows(
                    targets, rows, step, state, limit, held, gross, cost_base, exposure
                )
                if block >= 0:
                    _add(gross, cost_base, n_rows, block, sums)
            bad = found if bad < 0 else bad
    return bad


@_compiled
def _fix_alone(
    targets: AnyArray,
    rows: tuple[int, int],
    step: FloatArray,
    limit: float,
    held: FloatArray,
    block: int,
    sums: FloatArray,
) -> int:
    # Rows of one instrument that all fill, two at a time, straight into the sums.
    bad = -1
    for t in range(rows[0], rows[1] - 1, 2):
        r, s = step[t, 0], step[t + 1, 0]
        n_over = 0
        for v in range(sums.shape[2]):
            h, w, x = held[0, v], float(targets[t, 0, v]), float(targets[t + 1, 0, v])
            n_over += not ((abs(w) <= limit) & (abs(x) <= limit))
            g0, q0, g1, q1 = h * r, abs(w - h), w * s, abs(x - w)
            held[0, v] = x
            sums[block, 0, v] += g0 + g1
            sums[block, 1, v] += q0 + q1
            sums[block, 2, v] += g0 * g0 + g1 * g1
            sums[block, 3, v] += g0 * q0 + g1 * q1
            sums[block, 4, v] += q0 * q0 + q1 * q1
        if n_over > 0 and bad < 0:
            bad = t
    return bad


@_compiled
def sweep_compounding(
    targets: AnyArray,
    before: FloatArray,
    after: FloatArray,
    state: AnyArray,
    limit: float,
    edges: IntArray,
    sums: FloatArray,
) -> int:
    """Sum blocks of compounding rows; `sums` is (n_blocks, 5, n_variants)."""
    n_assets, n = targets.shape[1:]
    book = np.zeros((n_assets, n)), np.ones(n), np.zeros(n)
    tile = _LONG_TILE if n_assets == 1 else _TILE
    gross, cost_base = np.empty((tile, n)), np.empty((tile, n))
    turnover, exposure = np.empty((tile, n)), np.empty((0, n))
    bad = -1
    for block in range(-1, len(edges) - 1):
        stop = edges[block + 1]
        for t in range(edges[block] if block >= 0 else 0, stop, tile):
            rows = t, min(t + tile, stop)
            n_rows = rows[1] - t
            is_alone = block >= 0 and n_assets == 1 and n_rows % 2 == 0 and t > 0
            if is_alone and _is_calm(rows, before, after, state, book[0], book[1]):
                found = _compound_alone(
                    targets, rows, before, after, limit, book, block, sums
                )
            else:
                found = compounding_rows(
                    targets, rows, before, after, state, limit,
                    book, gross, cost_base, turnover, exposure,
                )  # fmt: skip
                if block >= 0:
                    _add(gross, cost_base, n_rows, block, sums)
            bad = found if bad < 0 else bad
    return bad


@_compiled
def _is_calm(
    rows: tuple[int, int],
    before: FloatArray,
    after: FloatArray,
    state: AnyArray,
    amount: FloatArray,
    equity: FloatArray,
) -> bool:
    # Whether one instrument fills on all rows and no book can be ruined on them.
    for t in range(rows[0], rows[1]):
        if state[t, 0] != FILL or max(abs(before[t, 0]), abs(after[t, 0])) > _CALM:
            return False
    n_odd = 0
    for v in range(len(equity)):
        n_odd += not (abs(amount[0, v]) < 2.0 * equity[v])
    return n_odd == 0


@_compiled
def _compound_alone(
    targets: AnyArray,
    rows: tuple[int, int],
    before: FloatArray,
    after: FloatArray,
    limit: float,
    book: tuple[FloatArray, FloatArray, FloatArray],
    block: int,
    sums: FloatArray,
) -> int:
    # Calm rows of one instrument, two at a time, straight into the sums.
    amount, equity, ahead = book
    bad = -1
    n = len(equity)
    for v in range(n):
        amount[0, v] /= equity[v]
        equity[v] = 1.0
    for t in range(rows[0], rows[1] - 1, 2):
        a0, b0, a1, b1 = before[t, 0], after[t, 0], before[t + 1, 0], after[t + 1, 0]
        n_over = 0
        for v in range(n):
            h, w, x = amount[0, v], float(targets[t - 1, 0, v]), float(targets[t, 0, v])
            n_over += not ((abs(w) <= limit) & (abs(x) <= limit))
            opened, grown = 1.0 + h * a0, 1.0 + w * b0
            g0 = opened * grown - 1.0
            q0 = abs(w * opened - h * (1.0 + a0)) * grown
            h = w * (1.0 + b0) / grown
            opened, grown = 1.0 + h * a1, 1.0 + x * b1
            g1 = opened * grown - 1.0
            q1 = abs(x * opened - h * (1.0 + a1)) * grown
            amount[0, v] = x * (1.0 + b1) / grown
            sums[block, 0, v] += g0 + g1
            sums[block, 1, v] += q0 + q1
            sums[block, 2, v] += g0 * g0 + g1 * g1
            sums[block, 3, v] += g0 * q0 + g1 * q1
            sums[block, 4, v] += q0 * q0 + q1 * q1
        if n_over > 0 and bad < 0:
            bad = t - 1
    coming = before[rows[1], 0] if rows[1] < len(before) else 0.0
    for v in range(n):
        ahead[v] = amount[0, v] * coming
    return bad
