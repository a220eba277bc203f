"""Closed orders of the lake as rows to learn from."""

from datetime import datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from flows.runs import Run
from lab.errors import FeatureError
from lab.learning.feature_sets import ORDER_FEATURES
from lab.learning.ripeness import ripe_rows
from lab.learning.winprob import OrderRows, order_samples
from lakehouse.errors import RefusedError

COLUMNS: Final = (
    "order_id",
    "symbol",
    "timeframe",
    "decided_at",
    "entry_ts",
    "exit_ts",
    "costs",
    "pnl_net",
    "features",
)
_MOMENT: Final = pa.timestamp("us", "UTC")


def read_order_samples(run: Run, *, as_of: datetime) -> OrderRows:
    """Return the closed orders to learn from, and to check what was learnt.

    Their features are today's definition of them. Orders of every origin may teach;
    only live ones count anywhere else. Near `as_of` only those are closed that closed
    early, and losers close first: closed orders that were decided after the newest
    moment up to which 95 % of the orders, open ones among them, are closed wait until
    they are. A note says how many; see `lab.learning.ripeness`.

    Parameters
    ----------
    run : Run
        Where to read.
    as_of : datetime
        Decision time.

    Raises
    ------
    RefusedError
        If an order's features cannot be read.

    Notes
    -----
    Point in time: orders with `exit_ts` <= `as_of`; of the others only that they were
    open then.
    """
    rows = _ripe(run, as_of)
    try:
        found = order_samples(rows, names=ORDER_FEATURES.names, as_of=as_of)
    except FeatureError as error:
        raise RefusedError(f"table bot_orders: {error}") from error
    if found.n_odd:
        run.count("orders_of_other_features", found.n_odd)
        run.notes.append(
            f"{found.n_odd} closed orders hold features of another definition than"
            f" {ORDER_FEATURES.name}: not learnt from"
        )
    return found


def _ripe(run: Run, as_of: datetime) -> pa.Table:
    moment = pa.scalar(as_of, _MOMENT)
    orders = run.read(
        "bot_orders",
        columns=list(COLUMNS),
        filter=pc.field("decided_at") <= moment,
    ).sort_by([("decided_at", "ascending"), ("order_id", "ascending")])
    is_closed = pc.fill_null(pc.less_equal(orders["exit_ts"], moment), fill_value=False)
    decided = orders["decided_at"].cast(pa.timestamp("us")).to_numpy()
    n_ripe = ripe_rows(decided, is_closed.to_numpy())
    n_waiting = int(pc.sum(is_closed.slice(n_ripe), min_count=0).as_py())
    if n_waiting:
        run.count("orders_waiting", n_waiting)
        run.notes.append(
            f"{n_waiting} closed orders wait: fewer than 95 % of the orders of their"
            " time are closed, and losers close first"
        )
    return orders.slice(0, n_ripe).filter(is_closed.slice(0, n_ripe))


def closed_orders(
    run: Run, *, as_of: datetime, columns: tuple[str, ...] = COLUMNS
) -> pa.Table:
    """Return the orders that were closed by `as_of`.

    Notes
    -----
    Point in time: `exit_ts` <= `as_of`; open orders have none.
    """
    moment = pa.scalar(as_of, _MOMENT)
    return run.read(
        "bot_orders",
        columns=list(columns),
        filter=pc.field("exit_ts").is_valid() & (pc.field("exit_ts") <= moment),
    )
