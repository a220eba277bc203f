"""Shadow decisions, written when they are taken and again when they settle."""

from datetime import timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.paper_trading import Traded
from flows.runs import Run
from lab.backtest.panel import AlignedPanel
from lab.backtest.steps import Steps
from lab.bars.timeframes import to_instant, to_moment
from lab.paper.shadow import Settled, Shadow, settle
from lakehouse.schema.lifecycle import BOT_SHADOW_DECISIONS

AROUND: Final = timedelta(days=40)
"""Decisions read before the oldest that is pending: the one before it is among them."""

_MOMENT: Final = pa.timestamp("us", tz="UTC")


def write_shadows(
    run: Run, panel: AlignedPanel, steps: Steps, traded: Traded
) -> tuple[int, int]:
    """Write new decisions at weight 0, and the outcome of those that settled.

    Parameters
    ----------
    run : Run
        Where to read and write.
    panel : AlignedPanel
        Bars.
    steps : Steps
        Of the panel.
    traded : Traded
        With the new decisions.

    Returns
    -------
    tuple of int
        How many are new, how many settled.

    Notes
    -----
    Point in time: a decision settles by bars known by the panel's last row.
    """
    stored = _stored(run, panel)
    new = {
        _key(one): _row(one, origin, panel, run)
        for one, origin in traded.shadows.items()
    }
    rows = {**stored, **new}
    decided = {key: row["weight"] for key, row in rows.items()}
    pending = [
        _shadow(key, row) for key, row in rows.items() if row["settled_at"] is None
    ]
    found = settle(
        panel, steps, [one for one in pending if one.symbol in panel.symbols], decided
    )
    for one, outcome in found.items():
        rows[_key(one)] = rows[_key(one)] | _outcome(outcome)
    changed = {*new, *(_key(one) for one in found)}
    if changed:
        table = [rows[key] for key in sorted(changed)]
        schema = BOT_SHADOW_DECISIONS.to_arrow()
        run.upsert("bot_shadow_decisions", pa.Table.from_pylist(table, schema=schema))
    return len(new), len(found)


_Key = tuple[str, str, np.datetime64]


def _key(one: Shadow) -> _Key:
    return one.signal, one.symbol, one.known


def _shadow(key: _Key, row: dict[str, Any]) -> Shadow:
    return Shadow(*key, weight=row["weight"])


def _outcome(settled: Settled) -> dict[str, Any]:
    return {
        "settled_at": to_moment(settled.known),
        "counterfactual_pnl": settled.pnl,
    }


def _row(one: Shadow, origin: str, panel: AlignedPanel, run: Run) -> dict[str, Any]:
    return {
        "decision_id": one.decision_id(panel.timeframe),
        "signal": one.signal,
        "symbol": one.symbol,
        "timeframe": panel.timeframe,
        "origin": origin,
        "decided_at": to_moment(one.known),
        "weight": one.weight,
        "settled_at": None,
        "counterfactual_pnl": None,
        "run_id": run.run_id,
    }


def _stored(run: Run, panel: AlignedPanel) -> dict[_Key, dict[str, Any]]:
    own = pc.field("timeframe") == panel.timeframe
    open_ones = run.read(
        "bot_shadow_decisions",
        columns=["decided_at"],
        filter=own & pc.field("settled_at").is_null(),
    )["decided_at"]
    oldest = pc.min(open_ones).as_py() if len(open_ones) else None
    if oldest is None:
        return {}
    floor = pa.scalar(oldest - AROUND, _MOMENT)
    rows = run.read(
        "bot_shadow_decisions", filter=own & (pc.field("decided_at") >= floor)
    )
    return {
        (row["signal"], row["symbol"], to_instant(row["decided_at"])): row
        for row in rows.to_pylist()
    }
