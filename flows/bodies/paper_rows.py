"""Rows of the paper trader: orders and regime calls, from and to tables."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.runs import Run
from lab.backtest.panel import AlignedPanel
from lab.bars.timeframes import to_moment
from lab.paper.frozen import decision_times
from lab.paper.orders import COST_BPS, Order
from lab.paper.signals import RegimeCalls
from lakehouse.schema.lifecycle import BOT_ORDERS

EVERYTHING: Final = 60.0
"""Years: more than is stored."""

BACKFILL: Final = "backfill"
_PAPER: Final = "paper"


def order_id(order: Order, *, sleeve_id: str, timeframe: str, origin: str) -> str:
    """Return an order's identity: the same position of the same book, the same id.

    The paper book and the backfill are books of their own; `live` and `replay` are
    one.
    """
    book = BACKFILL if origin == BACKFILL else _PAPER
    entry = str(order.entry_ts.astype("datetime64[us]"))
    content = json.dumps([book, sleeve_id, order.symbol, timeframe, entry])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def order_rows(
    panel: AlignedPanel,
    orders: Sequence[Order],
    features: Sequence[Mapping[str, float | None]],
    *,
    sleeve_id: str,
    origin: str,
    run_id: str,
) -> list[dict[str, Any]]:
    """Return orders as rows of `bot_orders`; the panel has the rows that decided."""
    timeframe, decided = panel.timeframe, decision_times(panel, orders)
    return [
        {
            "order_id": order_id(
                one, sleeve_id=sleeve_id, timeframe=timeframe, origin=origin
            ),
            "sleeve_id": sleeve_id,
            "symbol": one.symbol,
            "timeframe": timeframe,
            "origin": origin,
            "side": one.side,
            "decided_at": to_moment(moment),
            "entry_ts": to_moment(one.entry_ts),
            "entry_price": one.entry_price,
            "size": one.size,
            "features": to_text(known),
            "run_id": run_id,
            **outcome_of(one),
        }
        for one, known, moment in zip(orders, features, decided, strict=True)
    ]


def outcome_of(order: Order) -> dict[str, Any]:
    """Return what a row of `bot_orders` says of an order's end, and its costs so far."""
    is_open = order.is_open
    return {
        "exit_ts": None if is_open else to_moment(order.exit_ts),
        "exit_price": None if is_open else order.exit_price,
        "costs": order.costs(COST_BPS),
        "pnl_net": None if is_open else order.pnl_net(COST_BPS),
    }


def orders_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows with the schema of `bot_orders`."""
    return pa.Table.from_pylist(list(rows), schema=BOT_ORDERS.to_arrow())


def to_text(content: Mapping[str, Any]) -> str:
    """Return canonical JSON."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def read_regimes(run: Run) -> RegimeCalls:
    """Return the stored calls of the market's regime, in the order they were known."""
    rows = run.read("regimes", columns=["known_ts", "p_turbulent"]).sort_by("known_ts")
    known = rows["known_ts"].cast(pa.timestamp("us")).to_numpy()
    return RegimeCalls(
        np.asarray(known, dtype="datetime64[us]"), rows["p_turbulent"].to_numpy()
    )


def told_period(first: np.datetime64, last: np.datetime64) -> str:
    """Return two moments for a message."""
    return f"{to_moment(first):%Y-%m-%d} to {to_moment(last):%Y-%m-%d}"


def summary(rows: Sequence[Mapping[str, Any]]) -> tuple[int, int, float]:
    """Return how many orders there are, how many are closed, and the share that won."""
    closed = [row for row in rows if row["exit_ts"] is not None]
    won = sum(row["pnl_net"] > 0 for row in closed)
    return len(rows), len(closed), won / len(closed) if closed else 0.0


def stored_equal(stored: pa.Table, rows: pa.Table) -> bool:
    """Return whether both hold the same orders, whichever run wrote them."""
    if stored.num_rows != rows.num_rows:
        return False
    keys = [("order_id", "ascending")]
    left, right = (one.drop(["run_id"]).sort_by(keys) for one in (stored, rows))
    return bool(left.combine_chunks().cast(right.schema).equals(right.combine_chunks()))


def of_book(timeframe: str, origin: str) -> pc.Expression:
    """Return the filter of one origin's orders on one bar length."""
    return (pc.field("timeframe") == timeframe) & (pc.field("origin") == origin)
