"""Many variants in one pass, and the choice among them by training windows.

A pass leaves five sums per block of rows and variant: of gross returns, of their cost
base, and of the products of the two. They give mean and variance of the net return at
any slippage over any run of blocks, so neither another rung nor another window needs
another pass.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lab.arrays import AnyArray, FloatArray, IntArray
from lab.backtest.engine import (
    BPS,
    MAX_WEIGHT,
    Fill,
    as_targets,
    check_weights,
    column_chunks,
)
from lab.backtest.panel import AlignedPanel
from lab.backtest.steps import Steps, steps_of
from lab.errors import BacktestError

_NO_SPREAD: Final = 1e-12  # variance below this share of the mean square is rounding


@dataclass(frozen=True, slots=True)
class BlockSums:
    """Sums over blocks of rows.

    Attributes
    ----------
    n : ndarray of shape (n_blocks,), int64
        Rows.
    sums : ndarray of shape (n_blocks, 5, n_variants), float64
        Of g, q, g*g, g*q, q*q: gross return g and cost base q of each row.
    """

    n: IntArray
    sums: FloatArray

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return len(self.n)

    @property
    def n_variants(self) -> int:
        """Number of variants."""
        return int(self.sums.shape[2])

    def mean(self, blocks: slice, slippage_bps: float) -> FloatArray:
        """Return the mean net return of a row over some blocks, (n_variants,)."""
        total = self.sums[blocks].sum(axis=0)
        earned = total[0] - slippage_bps * BPS * total[1]
        mean: FloatArray = earned / self.n[blocks].sum()
        return mean

    def sharpe(self, blocks: slice, slippage_bps: float) -> FloatArray:
        """Return the Sharpe ratio of a row over some blocks, (n_variants,).

        Mean over sample standard deviation (ddof 1) of the net returns, not
        annualised; NaN for fewer than two rows or returns that do not vary.
        """
        sharpe: FloatArray = _sharpes(self, [blocks], [slippage_bps])[0, 0]
        return sharpe


@dataclass(frozen=True, slots=True)
class Selection:
    """Which variant each training window chose at each slippage.

    Attributes
    ----------
    chosen : ndarray of shape (n_windows, n_slippages), int64
        Number of the variant.
    train_sharpe, test_sharpe : ndarray of shape (n_windows, n_slippages), float64
        Its Sharpe ratio of a row in training and test blocks; NaN where undefined.
    slippages_bps : tuple of float
        One a column.
    """

    chosen: IntArray
    train_sharpe: FloatArray
    test_sharpe: FloatArray
    slippages_bps: tuple[float, ...]


def sweep(
    panel: AlignedPanel,
    positions: AnyArray | Iterable[AnyArray],
    blocks: IntArray,
    *,
    fill: Fill = Fill.NEXT_OPEN,
) -> BlockSums:
    """Simulate every variant over the panel and sum its rows by block.

    Parameters
    ----------
    panel : AlignedPanel
        Bars.
    positions : ndarray of shape (n_obs, n_assets, n_variants), or an iterable
        Target weights of all variants, or of one after the other, each
        (n_obs, n_assets) or a few together (n_obs, n_assets, n); then only a few are
        held in memory at a time.
    blocks : ndarray of shape (n_blocks + 1,), int64
        Rows at which blocks begin, and the one after the last.
    fill : Fill, default next_open
        Where targets are traded.

    Returns
    -------
    BlockSums
        The same, to the last bit, however the variants were handed over.

    Raises
    ------
    BacktestError
        As `simulate`; if blocks do not rise within the panel; if no variant is given.

    Notes
    -----
    Point in time: a block's sums use rows up to its end; books start flat on the
    panel's first row and are carried into the first block.
    """
    edges = _edges(panel, blocks)
    steps = steps_of(panel, fill)
    if isinstance(positions, np.ndarray):
        found = [_sums(panel, as_targets(panel, positions), steps, edges, fill)]
    else:
        found = [
            _sums(panel, targets, steps, edges, fill)
            for targets in (as_targets(panel, each) for each in positions)
        ]
    if not found:
        raise BacktestError("sweep: no positions given")
    return BlockSums(np.diff(edges), np.concatenate(found, axis=2))


def select(
    sums: BlockSums,
    windows: Sequence[tuple[slice, slice]],
    slippages_bps: Sequence[float],
) -> Selection:
    """Choose the variant of the best training Sharpe ratio, for each slippage.

    Ties go to the lowest number. A variant without a Sharpe ratio (no spread) is chosen
    only if none has one, and then the first is.

    Parameters
    ----------
    sums : BlockSums
        What the variants earned.
    windows : sequence of (slice, slice)
        Training and test blocks.
    slippages_bps : sequence of float
        Costs per unit of turnover, basis points.

    Raises
    ------
    BacktestError
        If a window's blocks have no rows, or training reaches into its test.

    Notes
    -----
    Point in time: the choice sees training blocks alone, and these end before their
    test blocks start.
    """
    if not windows:
        raise BacktestError("select: no windows given")
    for number, (train, test) in enumerate(windows):
        if train.indices(sums.n_blocks)[1] > test.indices(sums.n_blocks)[0]:
            raise BacktestError(f"window {number}: training blocks reach into the test")
    trained = _sharpes(sums, [train for train, _ in windows], slippages_bps)
    best = np.argmax(np.where(np.isfinite(trained), trained, -np.inf), axis=2)
    tested = _sharpes(sums, [test for _, test in windows], slippages_bps)
    return Selection(
        chosen=best,
        train_sharpe=np.take_along_axis(trained, best[:, :, None], axis=2)[:, :, 0],
        test_sharpe=np.take_along_axis(tested, best[:, :, None], axis=2)[:, :, 0],
        slippages_bps=tuple(map(float, slippages_bps)),
    )


def _sharpes(
    sums: BlockSums, spans: Sequence[slice], slippages_bps: Sequence[float]
) -> FloatArray:
    # Of a row, over each run of blocks: (n_windows, n_slippages, n_variants).
    from lab.backtest import asset_kernels

    edges = np.array([blocks.indices(sums.n_blocks)[:2] for blocks in spans])
    for start, stop in edges[edges[:, 0] >= edges[:, 1]]:
        raise BacktestError(f"blocks {start}..{stop}: no rows")
    costs = np.asarray(slippages_bps, dtype=np.float64) * BPS
    sharpe = np.empty((len(edges), len(costs), sums.n_variants))
    asset_kernels.window_sharpes(sums.n, sums.sums, edges, costs, _NO_SPREAD, sharpe)
    return sharpe


def _edges(panel: AlignedPanel, blocks: IntArray) -> IntArray:
    edges = np.ascontiguousarray(blocks, dtype=np.int64)
    if edges.ndim != 1 or len(edges) < 2 or bool(np.any(np.diff(edges) < 1)):
        raise BacktestError("blocks: at least two row numbers, increasing")
    if edges[0] < 0 or edges[-1] > panel.n_obs:
        raise BacktestError(
            f"blocks reach from {edges[0]} to {edges[-1]}, the panel has rows 0 to "
            f"{panel.n_obs}"
        )
    return edges


def _sums(
    panel: AlignedPanel,
    targets: AnyArray,
    steps: Steps,
    edges: IntArray,
    fill: Fill,
) -> FloatArray:
    from lab.backtest import kernels

    found = []
    for chunk in column_chunks(targets):
        sums = np.zeros((len(edges) - 1, 5, chunk.shape[2]))
        if fill.is_compounding:
            bad = kernels.sweep_compounding(
                chunk, steps.before, steps.after, steps.state, MAX_WEIGHT,
                edges, sums,
            )  # fmt: skip
        else:
            bad = kernels.sweep_fixed(
                chunk, steps.before, steps.state, MAX_WEIGHT, edges, sums
            )
        if bad >= 0:
            check_weights(panel, chunk[bad : bad + 2], row=bad)  # found in pairs
        found.append(sums)
    return np.concatenate(found, axis=2)
