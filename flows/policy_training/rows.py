"""What policies did out of sample, as rows of `model_predictions`.

One row a day and seed: `subject_id` is the day, `#` and the seed's number. The
prediction is the level of risk, the score the place of the allocation in the menu, the
outcome the day's return after costs. Comparisons read them.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.model_registry import ModelVersion
from flows.policy_training.bundle import read_config, read_tables, schema_sha256
from flows.policy_training.inputs import PolicyInputs
from flows.runs import Run
from lab.arrays import AnyArray
from lab.bars.timeframes import to_instant
from lab.policy.days import SleeveDays
from lab.policy.evaluate import Walked, by_table, walk
from lab.policy.lookup import Lookup
from lab.policy.rewards import BPS, EARNS_AFTER
from lab.policy.state import StatePlan, market_states
from lakehouse.clock import parse_moment
from lakehouse.schema.lifecycle import MODEL_PREDICTIONS

TABLE: Final = "model_predictions"
SYMBOL: Final = "SLEEVES"
"""Where an instrument's name would stand: the book of all sleeves."""

_UTC: Final = pa.timestamp("us", tz="UTC")


def walk_on(
    version: ModelVersion, files: Mapping[str, bytes], inputs: PolicyInputs
) -> list[tuple[Lookup, Walked]]:
    """Walk a registered policy's tables over the days after those it learnt from.

    Parameters
    ----------
    version : ModelVersion
        The policy.
    files : mapping of str to bytes
        Its files, verified.
    inputs : PolicyInputs
        Days known now.

    Returns
    -------
    list of (Lookup, Walked)
        One for each seed; empty if a sleeve of it has no returns any more, or there
        is no later day yet.

    Notes
    -----
    Point in time: the first decision is on the newest day that it was trained on.
    """
    tables = read_tables(files)
    plan = StatePlan(**read_config(files)["plan"]["states"])
    sleeves = tables[0].menu.sleeves
    if not set(sleeves) <= set(inputs.days.sleeves):
        return []
    days = inputs.days.of(sleeves)
    cutoff = parse_moment(version.manifest["cutoff"], what="cutoff")
    begin = int(np.searchsorted(days.known_ts, to_instant(cutoff)))
    rows = range(max(begin, plan.warm_up), days.n_days - EARNS_AFTER)
    if len(rows) == 0:
        return []
    states = market_states(days, plan)
    cost = inputs.slippage_bps
    return [
        (one, walk(days, one.menu, by_table(one, states), rows=rows, cost_bps=cost))
        for one in tables
    ]


def append_walks(
    run: Run,
    version: str,
    walks: list[Walked],
    *,
    days: SleeveDays,
    config: Mapping[str, Any],
    cost_bps: float,
) -> int:
    """Keep what a version did out of sample, each day and seed once.

    Parameters
    ----------
    run : Run
        Where to write.
    version : str
        Of the policy.
    walks : list of Walked, n_seeds
        Out of sample, by each seed's tables.
    days : SleeveDays
        The days they walked over.
    config : mapping
        Of the policy: its states.
    cost_bps : float
        Cost of one unit of turnover.

    Returns
    -------
    int
        Rows that are new.

    Notes
    -----
    Point in time: `as_of` is when the row decided on was known, `settled_at` when the
    day it earned was. A day that is stored stays as it was first told.
    """
    if not walks or not len(walks[0].rows):
        return 0
    plan = StatePlan(**config["plan"]["states"])
    parts = [_rows(walked, number, days, plan) for number, walked in enumerate(walks)]
    table = pa.concat_tables(parts)
    same = {
        "model_name": "policy",
        "version": version,
        "origin": "out_of_fold",
        "symbol": SYMBOL,
        "timeframe": config["timeframe"],
        "schema_sha256": schema_sha256(config),
        "run_id": run.run_id,
    }
    for name, value in same.items():
        table = table.append_column(
            name, pa.repeat(pa.scalar(value, pa.string()), len(table))
        )
    costs = pc.multiply(table["turnover"], cost_bps * BPS)
    table = table.append_column("costs", costs)
    stored = run.workplace.lake.read(
        TABLE,
        columns=["subject_id"],
        filter=(pc.field("model_name") == "policy") & (pc.field("version") == version),
    )["subject_id"]
    is_known = pc.is_in(table["subject_id"], value_set=stored.combine_chunks())
    schema = MODEL_PREDICTIONS.to_arrow()
    new = table.filter(pc.invert(is_known)).select(schema.names).cast(schema)
    if new.num_rows:
        first, last = (call(new["subject_id"]).as_py() for call in (pc.min, pc.max))
        window = f"out_of_fold/policy/{version}/{first}/{last}"
        run.append(TABLE, new, window=window)
    count: int = new.num_rows
    return count


def _rows(walked: Walked, number: int, days: SleeveDays, plan: StatePlan) -> pa.Table:
    states = market_states(days, plan)
    seen = states.many(walked.rows, walked.drawdowns)
    names = np.datetime_as_string(walked.ts, unit="D")
    n = len(walked.rows)
    return pa.table(
        {
            "subject_id": pa.array([f"{day}#{number}" for day in names], pa.string()),
            "as_of": _times(days.known_ts[walked.rows]),
            "prediction": walked.level.astype(np.float64),
            "score": walked.allocation.astype(np.float64),
            "features": pa.array(list(seen), pa.list_(pa.float64())),
            "is_novel": np.zeros(n, dtype=bool),
            "label": pa.nulls(n, pa.float64()),
            "outcome": walked.net,
            "turnover": walked.turnover,
            "settled_at": _times(days.known_ts[walked.rows + EARNS_AFTER]),
        }
    )


def _times(values: AnyArray) -> pa.Array:
    return pa.array(values.astype("datetime64[us]")).cast(_UTC)
