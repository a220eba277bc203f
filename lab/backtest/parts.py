"""One variant's results by instrument, and its trades from entry to exit."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lab.arrays import AnyArray, FloatArray
from lab.backtest.engine import Fill, as_targets, simulate
from lab.backtest.panel import AlignedPanel
from lab.backtest.steps import EXIT, steps_of
from lab.errors import BacktestError


@dataclass(frozen=True, slots=True)
class AssetParts:
    """What each instrument did to a book.

    Attributes
    ----------
    legs : ndarray of shape (2, n_obs, n_assets), float64
        Earned before and after the row's fill, as shares of the book before the row.
        Over the instruments and both legs they sum to the gross return.
    costs : ndarray of shape (2, n_obs, n_assets), float64
        Cost base of the row's fill, and of an exit after it.
    weight : ndarray of shape (2, n_obs, n_assets), float64
        Held before and after the fill, as shares of the book then.
    state : ndarray of shape (n_obs, n_assets), int8
        1 where a target could be filled, plus 2 where a holding was closed.
    """

    legs: FloatArray
    costs: FloatArray
    weight: FloatArray
    state: AnyArray

    @property
    def gross(self) -> FloatArray:
        """Part of the gross return, (n_obs, n_assets)."""
        return np.asarray(self.legs.sum(axis=0), dtype=np.float64)

    @property
    def cost_base(self) -> FloatArray:
        """Part of the cost base, (n_obs, n_assets)."""
        return np.asarray(self.costs.sum(axis=0), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Trade:
    """One holding from flat or the other side to flat or the other side.

    Attributes
    ----------
    symbol : str
        Instrument.
    side : {"long", "short"}
        Which way.
    entry_ts, exit_ts : datetime64[us]
        Opens of the bars of its first and last fill; `exit_ts` is NaT while it is open.
    entry_price, exit_price : float
        Where they filled; NaN while it is open.
    weight : float
        Largest absolute weight after a fill.
    gross : float
        Sum of its parts of the book's gross returns, not compounded.
    cost_base : float
        Sum of its parts of the cost base, the exit's included.
    """

    symbol: str
    side: Literal["long", "short"]
    entry_ts: np.datetime64
    exit_ts: np.datetime64
    entry_price: float
    exit_price: float
    weight: float
    gross: float
    cost_base: float


def asset_parts(
    panel: AlignedPanel, positions: AnyArray, *, fill: Fill, gross: FloatArray
) -> AssetParts:
    """Split a simulated variant by instrument.

    Parameters
    ----------
    panel, positions, fill
        As they were simulated; positions of shape (n_obs, n_assets).
    gross : ndarray of shape (n_obs,), float64
        The gross returns that `simulate` found.

    Notes
    -----
    Point in time: as `simulate`.
    """
    from lab.backtest import asset_kernels

    targets = np.require(positions, dtype=np.float64, requirements=["C", "W"])
    steps = steps_of(panel, fill)
    shape = (2, panel.n_obs, panel.n_assets)
    legs, costs, weight = (np.zeros(shape) for _ in range(3))
    if fill.is_compounding:
        asset_kernels.asset_rows_compounding(
            targets, steps.before, steps.after, steps.state,
            np.ascontiguousarray(gross), legs, costs, weight,
        )  # fmt: skip
    else:
        asset_kernels.asset_rows_fixed(
            targets, steps.before, steps.state, legs, costs, weight
        )
    return AssetParts(legs, costs, weight, steps.state)


def trade_list(
    panel: AlignedPanel, positions: AnyArray, *, fill: Fill = Fill.NEXT_OPEN
) -> tuple[Trade, ...]:
    """Return the trades of one variant, by instrument and then by time.

    The fill that turns a holding over to the other side ends one trade and begins the
    next; its cost is shared by what it closed and what it opened.

    Parameters
    ----------
    panel : AlignedPanel
        Bars.
    positions : ndarray of shape (n_obs, n_assets) or (n_obs, n_assets, 1)
        Target weights.
    fill : Fill, default next_open
        Where they are traded.

    Raises
    ------
    BacktestError
        As `simulate`; if there is more than one variant.

    Notes
    -----
    Point in time: a trade's entry uses nothing after it; the last one of an instrument
    may still be open.
    """
    targets = as_targets(panel, positions)
    if targets.shape[2] != 1:
        raise BacktestError(f"trades of {targets.shape[2]} variants: of 1")
    gross = simulate(panel, targets, fill=fill).gross[:, 0]
    parts = asset_parts(panel, targets[:, :, 0], fill=fill, gross=gross)
    is_ruined = fill.is_compounding and bool(np.any(gross <= -1.0))
    last = int(np.argmax(gross <= -1.0)) if is_ruined else panel.n_obs
    found: list[Trade] = []
    for column in range(panel.n_assets):
        found += _Walk(panel, parts, fill, column).trades(last)
    return tuple(found)


class _Walk:
    """One instrument's rows in order, a holding opened and closed at its fills."""

    def __init__(
        self, panel: AlignedPanel, parts: AssetParts, fill: Fill, column: int
    ) -> None:
        self.panel, self.column = panel, column
        self.legs, self.costs = parts.legs[:, :, column], parts.costs[:, :, column]
        self.weight, self.state = parts.weight[:, :, column], parts.state[:, column]
        self.close = panel.close[:, column]
        is_open_fill = fill is Fill.NEXT_OPEN
        self.fills = panel.open[:, column] if is_open_fill else self.close
        self.found: list[Trade] = []
        self.entry = -1
        self.gross = self.cost = self.largest = 0.0

    def trades(self, ruined: int) -> list[Trade]:
        """Return the trades up to the row on which the book was ruined."""
        is_busy = ((self.weight != 0) | (self.legs != 0)).any(axis=0)
        is_busy |= (self.state & EXIT) > 0
        for row in map(int, np.flatnonzero(is_busy[: ruined + 1])):
            self._step(row)
        if self.entry >= 0:
            is_over = ruined < self.panel.n_obs
            self._end(ruined if is_over else -1, self._last_close(ruined))
        return self.found

    def _step(self, row: int) -> None:
        old, new = self.weight[0, row], self.weight[1, row]
        self.gross += self.legs[0, row]
        traded = abs(new - old)
        opened = 0.0
        if np.sign(new) != np.sign(old):
            opened = abs(new) / traded
            self.cost += self.costs[0, row] * (1.0 - opened)
            if self.entry >= 0:
                self._end(row, float(self.fills[row]))
            if new != 0:
                self.entry = row
        if self.entry < 0:
            return
        is_same = self.entry < row
        self.cost += self.costs[0, row] * (1.0 if is_same else opened)
        self.gross += self.legs[1, row]
        self.largest = max(self.largest, abs(new))
        if self.state[row] & EXIT:
            self.cost += self.costs[1, row]
            self._end(row, self._last_close(row))

    def _last_close(self, row: int) -> float:
        known = self.close[: row + 1]
        return float(known[np.isfinite(known)][-1])

    def _end(self, row: int, price: float) -> None:
        is_open = row < 0
        self.found.append(
            Trade(
                symbol=self.panel.symbols[self.column],
                side="long" if self.weight[1, self.entry] > 0 else "short",
                entry_ts=self.panel.ts[self.entry],
                exit_ts=np.datetime64("NaT", "us") if is_open else self.panel.ts[row],
                entry_price=float(self.fills[self.entry]),
                exit_price=float("nan") if is_open else price,
                weight=float(self.largest),
                gross=float(self.gross),
                cost_base=float(self.cost),
            )
        )
        self.entry = -1
        self.gross = self.cost = self.largest = 0.0
