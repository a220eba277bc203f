"""What a walk-forward found, as rows of `sleeve_returns` and `wf_snapshots`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from lab.arrays import FloatArray, IntArray, TimeArray
from lab.backtest.panel import AlignedPanel
from lab.backtest.walkforward import SleeveWalk
from lab.bars.timeframes import to_moment
from lakehouse.schema.research import SLEEVE_RETURNS, WF_SNAPSHOTS

_YEAR = np.timedelta64(31_557_600_000_000, "us")
_MOMENT = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Figures of each window and rung, all of shape (n_windows, n_rungs).

    Attributes
    ----------
    sharpe : ndarray, float64
        Annualised net Sharpe of the test span; NaN where returns do not vary.
    return_net : ndarray, float64
        Compounded net return of the test span.
    max_drawdown : ndarray, float64
        Largest loss from a peak of the span's equity, its start included.
    trades : ndarray, int64
        Instruments traded with a changed target.
    """

    sharpe: FloatArray
    return_net: FloatArray
    max_drawdown: FloatArray
    trades: IntArray


def snapshots_of(walk: SleeveWalk) -> Snapshots:
    """Return the figures of each window, annualised by the days that were observed."""
    shape = (len(walk.windows), len(walk.slippages_bps))
    sharpe = np.full(shape, np.nan)
    total, drawdown = np.zeros(shape), np.zeros(shape)
    trades = np.zeros(shape, dtype=np.int64)
    scale = np.sqrt(days_a_year(walk.calendar.days))
    for row, window in enumerate(walk.windows):
        days = walk.calendar.window == window.number
        net = walk.net[days]
        equity = np.cumprod(1.0 + net, axis=0)
        peak = np.maximum.accumulate(np.maximum(equity, 1.0), axis=0)
        total[row] = equity[-1] - 1.0
        drawdown[row] = (1.0 - equity / peak).max(axis=0)
        trades[row] = walk.trades[days].sum(axis=0)
        if len(net) > 1:
            varies = np.ptp(net, axis=0) > 0
            spread = np.where(varies, net.std(axis=0, ddof=1), np.nan)
            sharpe[row] = scale * net.mean(axis=0) / spread
    return Snapshots(sharpe, total, drawdown, trades)


def days_a_year(days: TimeArray) -> float:
    """Return how many of a calendar's days fall in a year, from those observed."""
    if len(days) < 2:
        return 1.0
    return float((len(days) - 1) / ((days[-1] - days[0]) / _YEAR))


def walk_frames(
    walk: SleeveWalk,
    panel: AlignedPanel,
    *,
    run_id: str,
    baseline: Mapping[tuple[int, float], float] | None = None,
) -> tuple[pa.Table, pa.Table]:
    """Return a walked sleeve as rows of `sleeve_returns` and `wf_snapshots`.

    Parameters
    ----------
    walk : SleeveWalk
        What was found.
    panel : AlignedPanel
        On which.
    run_id : str
        The job.
    baseline : mapping of (window, slippage_bps) to float, optional
        The baseline's Sharpe; the ratio to it is null where it is not positive.

    Notes
    -----
    Point in time: a day's return is known when the last bar of the day is.
    """
    return (
        _returns(walk, panel, run_id),
        _snapshot_rows(walk, panel, run_id, baseline or {}),
    )


def sharpes_of(walk: SleeveWalk) -> dict[tuple[int, float], float]:
    """Return the Sharpe of each (window, slippage_bps) that has one."""
    found = snapshots_of(walk).sharpe
    return {
        (window.number, slippage): float(found[row, rung])
        for row, window in enumerate(walk.windows)
        for rung, slippage in enumerate(walk.slippages_bps)
        if np.isfinite(found[row, rung])
    }


def _returns(walk: SleeveWalk, panel: AlignedPanel, run_id: str) -> pa.Table:
    calendar, n_rungs = walk.calendar, len(walk.slippages_bps)
    n_days = len(calendar.days)
    n_rows = n_days * n_rungs
    last = np.append(calendar.first_row[1:], calendar.rows.stop - calendar.rows.start)
    known = panel.known_ts[calendar.rows][last - 1]
    slippage = np.repeat(np.array(walk.slippages_bps, dtype=np.float64), n_days)

    def text(value: str) -> pa.Array:
        return pa.array([value] * n_rows, pa.string())

    def tiled(times: TimeArray) -> pa.Array:
        return pa.array(np.tile(times, n_rungs)).cast(_MOMENT)

    columns = {
        "sleeve_id": text(walk.sleeve_id),
        "timeframe": text(panel.timeframe),
        "ts": tiled(calendar.days),
        "slippage_bps": slippage,
        "return_gross": walk.gross.T.ravel(),
        "return_net": walk.net.T.ravel(),
        "turnover": walk.turnover.T.ravel(),
        "window": np.tile(calendar.window, n_rungs),
        "phase": text("test"),
        "known_ts": tiled(known),
        "run_id": text(run_id),
    }
    return pa.table(columns).cast(SLEEVE_RETURNS.to_arrow())


def _snapshot_rows(
    walk: SleeveWalk,
    panel: AlignedPanel,
    run_id: str,
    baseline: Mapping[tuple[int, float], float],
) -> pa.Table:
    figures = snapshots_of(walk)
    rows: list[dict[str, Any]] = []
    for row, window in enumerate(walk.windows):
        last = window.test.stop - 1
        for rung, slippage in enumerate(walk.slippages_bps):
            sharpe = _or_null(figures.sharpe[row, rung])
            rows.append(
                {
                    "run_id": run_id,
                    "sleeve_id": walk.sleeve_id,
                    "timeframe": panel.timeframe,
                    "window": window.number,
                    "slippage_bps": slippage,
                    "train_start": _moment(panel, window.train.start),
                    "test_start": _moment(panel, window.test.start),
                    "test_end": _moment(panel, last),
                    "sharpe": sharpe,
                    "return_net": float(figures.return_net[row, rung]),
                    "max_drawdown": float(figures.max_drawdown[row, rung]),
                    "trades": int(figures.trades[row, rung]),
                    "baseline_ratio": _ratio(
                        sharpe, baseline.get((window.number, slippage))
                    ),
                    "parameters": _parameters(
                        walk.configurations[walk.chosen[row, rung]]
                    ),
                    "weights": _weights(walk, panel, row, rung),
                    "known_ts": to_moment(panel.known_ts[last]),
                }
            )
    return pa.Table.from_pylist(rows, schema=WF_SNAPSHOTS.to_arrow())


def _weights(walk: SleeveWalk, panel: AlignedPanel, row: int, rung: int) -> str | None:
    # After the last bar, by symbol; older windows have none.
    if row < len(walk.windows) - 1:
        return None
    held = zip(panel.symbols, walk.weights[rung].tolist(), strict=True)
    return json.dumps({name: weight for name, weight in held if weight}, sort_keys=True)


def _moment(panel: AlignedPanel, row: int) -> datetime:
    return to_moment(panel.ts[row])


def _or_null(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _ratio(sharpe: float | None, baseline: float | None) -> float | None:
    # Over a baseline that lost, a ratio would rank backwards.
    if sharpe is None or baseline is None or baseline <= 0.0:
        return None
    return sharpe / baseline


def _parameters(configuration: str) -> str:
    content = json.loads(configuration)
    chosen = (
        content.get("parameters", content) if isinstance(content, dict) else content
    )
    return json.dumps(chosen, sort_keys=True, separators=(",", ":"))
