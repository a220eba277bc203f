"""The engine: target weights in, returns of a book before and after costs out.

Rules:

- A target decided on row t is traded at the instrument's next bar after t: at its open
  (`next_open`, the default) or its close (`next_close`). Until then, and while there is
  no bar, what is held drifts. At each fill the holding is brought to its target.
- Returns compound: a target is a share of the book as it is at the fill. Costs are
  taken from the book per unit of turnover; net at a slippage `c` is
  `gross - c * cost_base`, so one pass serves every rung of the ladder.
- A book whose equity is gone is ruined: that row returns -1, every later one 0.
- `same_close` is another contract, kept to compare engines:
  `net[t] = w[t-1] * r[t] - c * |w[t] - w[t-1]|` on fixed notional, without compounding
  and without ruin. It trades on the close it decides on; no result of it can promote.

Gaps, breaks, delistings and worthless instruments: see `lab.backtest.steps`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from lab.arrays import AnyArray, FloatArray, IntArray
from lab.backtest.panel import AlignedPanel
from lab.backtest.steps import Fill, Steps, steps_of
from lab.errors import BacktestError

__all__ = ["BPS", "MAX_WEIGHT", "Fill", "Simulation", "as_targets", "simulate"]

BPS: Final = 1e-4
MAX_WEIGHT: Final = 1.0 + 1e-6
"""Largest sum of absolute target weights of a row; the excess is for rounding in
float32."""

_COLUMNS: Final = 128  # variants a pass: their state fits the cache


@dataclass(frozen=True, slots=True)
class Simulation:
    """Row by row results of one or many variants.

    Attributes
    ----------
    gross : ndarray of shape (n_obs, n_variants), float64
        Simple return of the book, marked at the row's close, before costs.
    cost_base : ndarray of shape (n_obs, n_variants), float64
        What a slippage of 1 would cost: turnover, as a share of the book before the
        row. `(1 + g1) * (1 - c * turnover) * (1 + g2) - 1` is `gross - c * cost_base`.
    turnover : ndarray of shape (n_obs, n_variants), float64
        Sum of absolute changes of weight, as a share of the book at the fill.
    trades : ndarray of shape (n_obs, n_variants), int64
        Instruments traded because their target changed; rebalancing what has drifted
        from an unchanged target is turnover, but no trade. None on a row of ruin.
    exposure : ndarray of shape (n_obs, n_variants), float64
        Sum of absolute weights held at the row's close, after its trades.
    fill : Fill
        Where targets were traded.
    asset_gross, asset_cost_base : ndarray of shape (n_obs, n_assets) or None
        Each instrument's part of `gross` and `cost_base` of a single variant.
    """

    gross: FloatArray
    cost_base: FloatArray
    turnover: FloatArray
    trades: IntArray
    exposure: FloatArray
    fill: Fill
    asset_gross: FloatArray | None = None
    asset_cost_base: FloatArray | None = None

    def net(self, slippage_bps: float) -> FloatArray:
        """Return the returns after costs, shape (n_obs, n_variants).

        A compounding book whose costs take the rest of it is ruined: -1, then 0.

        Parameters
        ----------
        slippage_bps : float
            Cost per unit of turnover, in basis points.

        Raises
        ------
        BacktestError
            If it is negative or not finite.
        """
        if not 0 <= slippage_bps < np.inf:
            raise BacktestError(f"slippage {slippage_bps} bps: must be 0 or more")
        net: FloatArray = self.gross - slippage_bps * BPS * self.cost_base
        if not self.fill.is_compounding:
            return net
        for variant in np.flatnonzero((net <= -1.0).any(axis=0)):
            row = int(np.argmax(net[:, variant] <= -1.0))
            net[row, variant] = -1.0
            net[row + 1 :, variant] = 0.0
        return net


def simulate(
    panel: AlignedPanel,
    positions: AnyArray,
    *,
    fill: Fill = Fill.NEXT_OPEN,
    is_by_asset: bool = False,
) -> Simulation:
    """Trade target weights on a panel.

    Parameters
    ----------
    panel : AlignedPanel
        Bars.
    positions : ndarray of shape (n_obs, n_assets) or (n_obs, n_assets, n_variants)
        Target weights decided on each row; float64, float32 or int8 (others are
        converted). The absolute weights of a row sum to at most 1.
    fill : Fill, default next_open
        Where they are traded.
    is_by_asset : bool, default False
        Also return each instrument's part, of a single variant.

    Returns
    -------
    Simulation
        With the last axis of variants, 1 for one.

    Raises
    ------
    BacktestError
        If positions have another shape, are not finite or sum to more than 1; if a
        price cannot be traded; if parts are asked for of many variants.

    Notes
    -----
    Point in time: row t of the result uses targets decided before t (`same_close`: by
    t) and bars up to t.
    """
    targets = as_targets(panel, positions)
    if is_by_asset and targets.shape[2] != 1:
        raise BacktestError(f"parts by instrument of {targets.shape[2]} variants: of 1")
    steps = steps_of(panel, fill)
    parts = [_run(panel, chunk, steps, fill) for chunk in column_chunks(targets)]
    check_weights(panel, targets[-1:], row=panel.n_obs - 1)
    joined = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
    gross, cost_base, turnover, trades, exposure = joined
    result = Simulation(gross, cost_base, turnover, trades, exposure, fill)
    if not is_by_asset:
        return result
    from lab.backtest.parts import asset_parts

    found = asset_parts(panel, targets[:, :, 0], fill=fill, gross=gross[:, 0])
    return replace(result, asset_gross=found.gross, asset_cost_base=found.cost_base)


def as_targets(panel: AlignedPanel, positions: AnyArray) -> AnyArray:
    """Return positions as the compiled passes read them: C order, three axes.

    Raises
    ------
    BacktestError
        If the shape is not the panel's.
    """
    targets = np.asarray(positions)
    if targets.ndim == 2:
        targets = targets[:, :, None]
    if targets.ndim != 3 or targets.shape[:2] != (panel.n_obs, panel.n_assets):
        raise BacktestError(
            f"positions have shape {np.shape(positions)}, not "
            f"({panel.n_obs}, {panel.n_assets}) with or without an axis of variants"
        )
    if min(targets.shape) == 0:
        raise BacktestError(f"positions are empty: shape {targets.shape}")
    if targets.dtype not in (np.float64, np.float32, np.int8):
        if targets.dtype.kind not in "fiub":
            raise BacktestError(f"positions are {targets.dtype}, must be numbers")
        targets = targets.astype(np.float64)
    return np.require(targets, requirements=["C", "W"])


def check_weights(panel: AlignedPanel, targets: AnyArray, *, row: int) -> None:
    """Refuse weights that are not finite or sum to more than 1.

    Parameters
    ----------
    panel : AlignedPanel
        For the message.
    targets : ndarray of shape (n_rows, n_assets, n_variants)
        Target weights.
    row : int
        The panel's row of the first of them.

    Raises
    ------
    BacktestError
        Naming the first row.
    """
    total = np.abs(targets.astype(np.float64)).sum(axis=1)
    wrong = np.argwhere(~(total <= MAX_WEIGHT))
    if len(wrong) == 0:
        return
    at, variant = wrong[0]
    where = f"positions of variant {variant} at {panel.ts[row + at]}"
    if not np.isfinite(total[at, variant]):
        raise BacktestError(f"{where} are not finite")
    raise BacktestError(
        f"{where}: absolute weights sum to {total[at, variant]:.6g}, at most 1"
    )


def column_chunks(targets: AnyArray) -> Iterator[AnyArray]:
    """Return targets some variants at a time, side by side in memory."""
    for start in range(0, targets.shape[2], _COLUMNS):
        yield np.ascontiguousarray(targets[:, :, start : start + _COLUMNS])


def _run(
    panel: AlignedPanel, targets: AnyArray, steps: Steps, fill: Fill
) -> tuple[AnyArray, ...]:
    from lab.backtest import asset_kernels, kernels

    n_obs, n_assets, n = targets.shape
    gross, cost_base, exposure = (np.zeros((n_obs, n)) for _ in range(3))
    held, trades = np.zeros((n_assets, n)), np.zeros((n_obs, n), dtype=np.int64)
    if fill.is_compounding:
        turnover = np.zeros((n_obs, n))
        bad = kernels.compounding_rows(
            targets, (0, n_obs), steps.before, steps.after, steps.state, MAX_WEIGHT,
            (held, np.ones(n), np.zeros(n)), gross, cost_base, turnover, exposure,
        )  # fmt: skip
    else:
        turnover = cost_base
        bad = kernels.fixed_rows(
            targets, (0, n_obs), steps.before, steps.state, MAX_WEIGHT,
            held, gross, cost_base, exposure,
        )  # fmt: skip
    if bad >= 0:
        check_weights(panel, targets[bad : bad + 1], row=bad)
    asset_kernels.count_trades(targets, fill.lag, steps.state, gross, trades)
    return gross, cost_base, turnover, trades, exposure
