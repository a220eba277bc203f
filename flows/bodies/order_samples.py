"""Closed orders of the lake as rows to learn from."""

from datetime import datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from flows.runs import Run
from lab.errors import FeatureError
from lab.learning.feature_sets import ORDER_FEATURES
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


def read_order_samples(run: Run, *, as_of: datetime) -> OrderRows:
    """Return every closed order whose features are today's definition of them.

    Orders of every origin may teach; only live ones count anywhere else.

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
    Point in time: orders with `exit_ts` <= `as_of`.
    """
    rows = closed_orders(run, as_of=as_of)
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


def closed_orders(
    run: Run, *, as_of: datetime, columns: tuple[str, ...] = COLUMNS
) -> pa.Table:
    """Return the orders that were closed by `as_of`.

    Notes
    -----
    Point in time: `exit_ts` <= `as_of`; open orders have none.
    """
    moment = pa.scalar(as_of, pa.timestamp("us", "UTC"))
    return run.read(
        "bot_orders",
        columns=list(columns),
        filter=pc.field("exit_ts").is_valid() & (pc.field("exit_ts") <= moment),
    )
