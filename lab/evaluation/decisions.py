"""What a decider saw, decided and why, as a row of `decision_records`."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa

from lab.errors import DecisionError
from lakehouse.schema.telemetry import DECISION_RECORDS


def record_decision(
    *,
    run_id: str,
    ts: datetime,
    agent_id: str,
    model: Mapping[str, Any],
    input_snapshot: Mapping[str, Any],
    output: Mapping[str, Any],
    rationale: str,
) -> pa.Table:
    """Return one decision as a one-row table.

    Parameters
    ----------
    run_id : str
        The run in which it was taken.
    ts : datetime
        Clock time of the decision, aware.
    agent_id : str
        The decider: a gate, selector, allocator, publisher, ...
    model : mapping
        Version and parameters of the decider.
    input_snapshot : mapping
        What it saw. With `run_id` and `agent_id` this is the decision's identity:
        recording the same decision again gives the same `decision_id`.
    output : mapping
        What it decided.
    rationale : str
        Why, in words.

    Returns
    -------
    pyarrow.Table
        With the schema of `decision_records`.

    Raises
    ------
    DecisionError
        If a mapping is not JSON (NaN and infinity are not), or `ts` has no time zone.

    Notes
    -----
    Point in time: `input_snapshot` must hold only what was known at `ts`; this function
    stores what it is given.
    """
    if ts.tzinfo is None:
        raise DecisionError(
            f"decision of {agent_id}: ts must be aware of its time zone"
        )
    snapshot = _canonical(input_snapshot, agent_id, "input_snapshot")
    identity = _canonical([run_id, agent_id, snapshot], agent_id, "identity")
    row = {
        "decision_id": hashlib.sha256(identity.encode()).hexdigest()[:32],
        "run_id": run_id,
        "ts": ts,
        "agent_id": agent_id,
        "model": _canonical(model, agent_id, "model"),
        "input_snapshot": snapshot,
        "output": _canonical(output, agent_id, "output"),
        "rationale": rationale,
    }
    return pa.Table.from_pylist([row], schema=DECISION_RECORDS.to_arrow())


def _canonical(value: Any, agent_id: str, what: str) -> str:
    # Keys sorted, no spaces: equal content gives equal text.
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DecisionError(f"decision of {agent_id}: {what}: {error}") from error
