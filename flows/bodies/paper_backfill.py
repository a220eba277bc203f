"""Replay the locked baseline over the stored bars: orders to learn from, at once."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from flows.bodies.market_panel import open_panel
from flows.bodies.paper_rows import (
    BACKFILL,
    EVERYTHING,
    of_book,
    order_rows,
    orders_table,
    read_regimes,
    stored_equal,
    summary,
    told_period,
)
from flows.runs import Run
from lab.backtest.panel import AlignedPanel
from lab.evaluation.decisions import record_decision
from lab.paper.frozen import order_features
from lab.paper.orders import COST_BPS, replay
from lab.paper.signals import signal_positions
from lab.sleeves.phase37 import LOCKED_HASH, Phase37
from lakehouse.errors import RefusedError

DECIDER: Final = "paper-backfill"


def run_backfill(run: Run, *, timeframe: str, as_of: str | None) -> str:
    """Trade phase37 row by row over every stored bar, from an empty book.

    The orders take the place of those of an earlier backfill on the same bars' length:
    what is stored follows from the bars alone. Their origin says what they are, and
    nothing but training reads it.

    Parameters
    ----------
    run : Run
        Where to read and write.
    timeframe : str
        `1h` or `1d`.
    as_of : str or None
        Bars known by then; all if not given.

    Returns
    -------
    str
        One line: how many orders, over which years.

    Raises
    ------
    InputError
        If `as_of` is not a time or later than now, or no bar was known by then.
    RefusedError
        If the baseline is not the locked one.

    Notes
    -----
    Point in time: row t fills what was decided on row t - 1 from bars known there;
    features are those of the deciding row.
    """
    baseline = Phase37()
    if baseline.content_hash != LOCKED_HASH:
        raise RefusedError("phase37: its content is not the locked one; nothing traded")
    panel = open_panel(run, timeframe=timeframe, as_of=as_of, years=EVERYTHING)
    rows = _rows(run, panel, baseline)
    n_orders, n_closed, won = summary(rows)
    period = told_period(panel.ts[0], panel.ts[-1])
    told = (
        f"phase37 on {timeframe} bars, {period}: {n_closed} closed orders,"
        f" {n_orders - n_closed} open, {won:.1%} won after costs"
    )
    is_new = _replace(run, timeframe, orders_table(rows))
    # What is stored already may be of a run that was killed before its record.
    _record(run, panel, _digest(rows), n_orders=n_orders, n_closed=n_closed)
    if not is_new:
        return f"{told}; all stored already"
    run.count("orders", n_orders)
    return told


def _rows(run: Run, panel: AlignedPanel, baseline: Phase37) -> list[dict[str, Any]]:
    targets = baseline.positions(panel)
    book, closed = replay(panel, targets)
    orders = [*closed, *book.open_orders()]
    features = order_features(
        panel,
        orders,
        sleeve_id=baseline.sleeve_id,
        positions=signal_positions(panel, read_regimes(run)),
    )
    return order_rows(
        panel,
        orders,
        features,
        sleeve_id=baseline.sleeve_id,
        origin=BACKFILL,
        run_id=run.run_id,
    )


def _replace(run: Run, timeframe: str, rows: pa.Table) -> bool:
    # One commit: an older backfill is there whole, or the new one is.
    stored = run.read("bot_orders", filter=of_book(timeframe, BACKFILL))
    if stored_equal(stored, rows):
        return False
    predicate = f"origin = '{BACKFILL}' AND timeframe = '{timeframe}'"
    lake = run.workplace.lake
    run.commit(lambda: lake.replace("bot_orders", rows, predicate=predicate))
    run.note_written(["bot_orders"])
    run.count("rows_written", rows.num_rows)
    return True


def _digest(rows: Sequence[Mapping[str, Any]]) -> str:
    told = [{**row, "run_id": None} for row in rows]
    told.sort(key=lambda row: str(row["order_id"]))
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:32]


def _record(run: Run, panel: AlignedPanel, orders: str, **counted: int) -> None:
    record = record_decision(
        run_id=run.run_id,
        ts=run.now,
        agent_id=DECIDER,
        model={"name": "phase37", "version": LOCKED_HASH, "cost_bps": COST_BPS},
        input_snapshot={
            "timeframe": panel.timeframe,
            "as_of": run.parameters["as_of"],
            "tables": dict(run.tables_read),
        },
        output=counted,
        rationale="orders of the locked baseline over the stored bars, to learn from",
    )
    window = f"paper/decision_records/backfill/{panel.timeframe}/{orders}"
    run.append("decision_records", record, window=window)
