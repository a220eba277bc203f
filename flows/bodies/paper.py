"""Trade on paper, bar by bar: what the verified artefacts and newest forecasts say.

What is decided on a bar is filled at the open of each instrument's next bar, as in the
backtest, however late the run: a decision never uses more than was known with its bar.
A bar is traded exactly once and after the one before it; a run that comes late does all
that were left out, in order. Orders and shadow decisions are written first, the
decision records of the bars last: see `flows.bodies.paper_state`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.paper_artefacts import read_published
from flows.bodies.paper_backfill import run_backfill
from flows.bodies.paper_rows import (
    order_id,
    order_rows,
    orders_table,
    outcome_of,
    read_regimes,
)
from flows.bodies.paper_shadows import write_shadows
from flows.bodies.paper_state import Desk, open_desk, see
from flows.bodies.paper_trading import Filled, Traded, View, look, trade
from flows.runs import Run
from lab.backtest.panel import AlignedPanel
from lab.bars.timeframes import step, to_moment
from lab.paper.combine import BASELINE
from lab.paper.frozen import order_features
from lab.paper.origins import LIVE, REPLAY


def run_paper(
    run: Run,
    *,
    timeframe: str = "1h",
    as_of: str | None = None,
    is_backfill: bool = False,
) -> str:
    """Trade every bar that was not traded yet, in order; or replay phase37 alone.

    The first run begins with the newest bar; stored history is for `--backfill`.

    Parameters
    ----------
    run : Run
        Where to read and write.
    timeframe : str
        `1h` or `1d`.
    as_of : str, optional
        Only bars known by then; now if not given.
    is_backfill : bool, default False
        Replay the locked baseline over all stored bars, see `run_backfill`.

    Returns
    -------
    str
        One line: which bars, what was opened and closed.

    Raises
    ------
    InputError
        If `as_of` is not a time or later than now, or no bar was known by then.
    RefusedError
        If the artefacts do not verify: it is recorded, positions are kept, and the bars
        stay to be traded.
    PaperError
        If a record holds no books, or an instrument that is held has no bars any more.

    Notes
    -----
    Point in time: each bar is decided on with bars, forecasts and releases that were
    known with it.
    """
    step(timeframe)
    if is_backfill:
        return run_backfill(run, timeframe=timeframe, as_of=as_of)
    desk, panel = open_desk(run, timeframe=timeframe, as_of=as_of)
    rows = _open_rows(desk, panel)
    if not rows:
        return f"no {timeframe} bar since {_shown(desk.bar)}: everything is traded"
    published = read_published(run, timeframe=timeframe)
    run.notes += published.notes
    view = look(run, panel, rows, published=published, regimes=read_regimes(run))
    witness = see(run, panel)
    if witness.is_turned_back:
        run.notes.append(
            f"the lake holds rows from as late as {witness.newest_seen.isoformat()}:"
            " nothing decided now counts as live"
        )
    traded, steps = trade(
        run, desk, panel, rows, view=view, published=published, witness=witness
    )
    n_shadows, n_settled = write_shadows(run, panel, steps, traded)
    _write_orders(run, panel, traded, view)
    for window, record in traded.records:
        run.append("decision_records", record, window=window)
    return _told(run, desk, traded, n_shadows=n_shadows, n_settled=n_settled)


def _open_rows(desk: Desk, panel: AlignedPanel) -> list[int]:
    if desk.bar is None:
        return [panel.n_obs - 1]
    first = int(np.searchsorted(panel.ts, desk.bar, side="right"))
    return list(range(first, panel.n_obs))


def _write_orders(run: Run, panel: AlignedPanel, traded: Traded, view: View) -> None:
    # An order keeps the features and the origin that it was opened with.
    rows: dict[str, dict[str, Any]] = {}
    for sleeve_id in dict.fromkeys(one.sleeve_id for one in traded.opened):
        own = [one for one in traded.opened if one.sleeve_id == sleeve_id]
        for row in _fresh(run, panel, own, view):
            rows[row["order_id"]] = row
    fresh = set(rows)
    stored = _stored(run, panel.timeframe, traded.closed)
    for one in traded.closed:
        name = _id(one, panel.timeframe)
        before = rows.get(name) or stored.get(name)
        if before is None:  # killed between two writes, and the records went missing
            (before,) = _fresh(run, panel, [one], view)
        rows[name] = before | _end(one, before, run.run_id)
    if not rows:
        return
    table = orders_table(list(rows.values()))
    run.upsert("bot_orders", table)
    opened = pc.is_in(table["order_id"], pa.array(sorted(fresh), pa.string()))
    _predict(run, table.filter(opened))
    if traded.closed:
        from flows.bodies.order_predictions import settle_predictions

        settle_predictions(run)


def _id(one: Filled, timeframe: str) -> str:
    return order_id(
        one.order, sleeve_id=one.sleeve_id, timeframe=timeframe, origin=one.origin
    )


def _fresh(
    run: Run, panel: AlignedPanel, own: Sequence[Filled], view: View
) -> list[dict[str, Any]]:
    orders, sleeve_id = [one.order for one in own], own[0].sleeve_id
    features = order_features(
        panel, orders, sleeve_id=sleeve_id, positions=view.signals
    )
    return [
        row
        for one, known in zip(own, features, strict=True)
        for row in order_rows(
            panel,
            [one.order],
            [known],
            sleeve_id=sleeve_id,
            origin=one.origin,
            run_id=run.run_id,
        )
    ]


def _end(one: Filled, before: dict[str, Any], run_id: str) -> dict[str, Any]:
    # Live from its entry to its exit, or it counts for nothing.
    origin = LIVE if before["origin"] == one.origin == LIVE else REPLAY
    return {**outcome_of(one.order), "origin": origin, "run_id": run_id}


def _stored(
    run: Run, timeframe: str, closed: Sequence[Filled]
) -> dict[str, dict[str, Any]]:
    names = sorted({_id(one, timeframe) for one in closed})
    if not names:
        return {}
    wanted = pc.field("order_id").isin(pa.array(names, pa.string()))
    rows = run.read("bot_orders", filter=wanted).to_pylist()
    return {row["order_id"]: row for row in rows}


def _predict(run: Run, orders: pa.Table) -> None:
    # Champion and challenger say what they think of each order that was opened.
    from flows.bodies.order_predictions import predict_orders

    for origin in (LIVE, REPLAY):
        own = orders.filter(pc.equal(orders["origin"], origin))
        if own.num_rows:
            predict_orders(run, own, origin=origin)


def _told(
    run: Run, desk: Desk, traded: Traded, *, n_shadows: int, n_settled: int
) -> str:
    n_live = sum(one == LIVE for one in traded.origins)
    counted = {
        "bars": len(traded.origins),
        "bars_live": n_live,
        "orders_opened": len(traded.opened),
        "orders_closed": len(traded.closed),
        "shadow_decisions": n_shadows,
        "shadow_settled": n_settled,
    }
    for name, value in counted.items():
        run.count(name, value)
    book = desk.books[BASELINE]
    n_held, gross = np.count_nonzero(book.amount), np.abs(book.weights).sum()
    bars = f"{len(traded.origins)} {desk.timeframe} bars up to {_shown(desk.bar)}"
    return (
        f"{bars}, {n_live} live: {len(traded.opened)} orders opened,"
        f" {len(traded.closed)} closed; phase37 holds {n_held} instruments, gross"
        f" {gross:.3f}; {n_shadows} shadow decisions, {n_settled} settled"
    )


def _shown(bar: np.datetime64 | None) -> str:
    return "the first" if bar is None else f"{to_moment(bar):%Y-%m-%d %H:%M}"
