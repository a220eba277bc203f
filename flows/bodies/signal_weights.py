"""The published weights of the orchestrator's signals: phase37 fixed, others earned."""

import pyarrow as pa

from lab.paper.combine import BASELINE, GROSS_CAP
from lab.paper.signals import SIGNALS
from lakehouse.query import Session
from lakehouse.schema.artefacts import SIGNAL_WEIGHTS

KIND = "signal"
"""Kind of the rows of `production_sleeve_set` that give a signal a weight."""

_BASELINE = """
SELECT runtime_weight, changed_at FROM production_sleeve_set
WHERE kind = 'sleeve' AND artefact_id = ?
ORDER BY seq DESC LIMIT 1
"""
_GIVEN = """
SELECT artefact_id AS signal, runtime_weight, changed_at FROM production_sleeve_set
WHERE kind = ?
QUALIFY row_number() OVER (PARTITION BY artefact_id ORDER BY seq DESC) = 1
"""


def signal_weights(session: Session) -> pa.Table:
    """Return the weight of every signal, and of the baseline beside them.

    A signal has the weight that the newest row of `production_sleeve_set` of kind
    `signal` gives it, 0 without one: it is watched, every decision of it and what that
    would have made, until two persons approve more. The baseline is fixed.

    Parameters
    ----------
    session : Session
        Pinned versions of the lake.

    Returns
    -------
    pyarrow.Table
        With the schema of `artefact_signal_weights`; empty until the baseline is
        registered.
    """
    schema = SIGNAL_WEIGHTS.to_arrow()
    fixed = list(session.sql(_BASELINE, params=[BASELINE]).rows())
    if not fixed:
        return schema.empty_table()
    given = {row["signal"]: row for row in session.sql(_GIVEN, params=[KIND]).rows()}
    rows = [
        {
            "signal": BASELINE,
            "runtime_weight": fixed[0]["runtime_weight"],
            "is_fixed": True,
            "gross_cap": GROSS_CAP,
            "why": "the locked baseline: nothing may dilute it",
            "changed_at": fixed[0]["changed_at"],
        }
    ]
    for name in SIGNALS:
        own = given.get(name)
        rows.append(
            {
                "signal": name,
                "runtime_weight": own["runtime_weight"] if own else 0.0,
                "is_fixed": False,
                "gross_cap": GROSS_CAP,
                "why": "set in production_sleeve_set"
                if own
                else "watched at weight 0: nothing was approved",
                "changed_at": own["changed_at"] if own else fixed[0]["changed_at"],
            }
        )
    return pa.Table.from_pylist(rows, schema=schema)


def why_unearned(rows: pa.Table) -> str | None:
    """Return why signal weights must not be published, or None.

    Parameters
    ----------
    rows : pyarrow.Table
        Rows of `signal_weights`.
    """
    for row in rows.to_pylist():
        name, weight = row["signal"], row["runtime_weight"]
        if name == BASELINE and weight != 1.0:
            return f"{name} has weight {weight:g}; locked at 1"
        if name != BASELINE and weight != 0.0:
            return f"{name} has weight {weight:g}; 0 until two persons can approve more"
    return None
