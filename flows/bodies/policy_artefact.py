"""The policy's lookup table as it is published: every bucket, at weight 0."""

from typing import Final

import pyarrow as pa

from flows.bodies.model_registry import load_files
from flows.runs import Run
from lab.errors import LifecycleError, PolicyError
from lab.lifecycle.model_stages import ModelVersion, registry_of
from lakehouse.errors import RefusedError
from lakehouse.query import Session
from lakehouse.schema.artefacts import POLICY_LOOKUP

MODEL: Final = "policy"
_LOOKUP: Final = "lookup.json"
_CHAIN: Final = "SELECT * FROM model_events ORDER BY seq"
_HELD: Final = """
SELECT version, runtime_weight FROM production_sleeve_set
WHERE kind = 'policy' AND artefact_id = 'policy'
ORDER BY seq DESC LIMIT 1
"""


def policy_lookup(session: Session, run: Run) -> pa.Table:
    """Return the table of the champion, else of the newest version in Staging.

    Parameters
    ----------
    session : Session
        Pinned versions of the lake.
    run : Run
        Where the model's files are.

    Returns
    -------
    pyarrow.Table
        With the schema of `artefact_policy_lookup`, one row a bucket; empty while no
        version may be asked.

    Raises
    ------
    RefusedError
        If the chain of events does not fit together.

    Notes
    -----
    A version whose files are not those registered is not published: the one that is
    stays, and a note says so.
    """
    schema = POLICY_LOOKUP.to_arrow()
    chosen = _chosen(session)
    if chosen is None:
        return schema.empty_table()
    try:
        rows = _rows(chosen, load_files(run.workplace.lake, chosen))
    except (RefusedError, PolicyError) as error:
        run.count("artefacts_refused", 1)
        run.notes.append(f"policy_lookup not published: {error}")
        stored = session.sql("SELECT * FROM artefact_policy_lookup").arrow()
        return stored.select(schema.names).cast(schema)
    # A weight belongs to the version it was given to.
    held = {row["version"]: row["runtime_weight"] for row in session.sql(_HELD).rows()}
    weight = held.get(chosen.version, 0.0)
    return pa.Table.from_pylist(
        [{**row, "runtime_weight": weight} for row in rows], schema=schema
    )


def why_weighted(rows: pa.Table) -> str | None:
    """Return why a policy must not be published, or None.

    Parameters
    ----------
    rows : pyarrow.Table
        As `policy_lookup` returned it.
    """
    for row in rows.slice(0, 1).to_pylist():
        if row["runtime_weight"] != 0:
            version = row["policy_version"]
            return f"{version} has weight {row['runtime_weight']:g}; a candidate has 0"
    return None


def _chosen(session: Session) -> ModelVersion | None:
    try:
        registry = registry_of(session.sql(_CHAIN).rows())
    except LifecycleError as error:
        raise RefusedError(f"table model_events: {error}") from error
    return registry.champion(MODEL) or registry.challenger(MODEL)


def _rows(chosen: ModelVersion, files: dict[str, bytes]) -> list[dict[str, object]]:
    from lab.policy.lookup import Lookup

    table = Lookup.from_json(files.get(_LOOKUP, b""))
    hold_days = chosen.manifest["config"]["hold_days"]
    same = {
        "policy_version": chosen.version,
        "hold_days": hold_days,
        "run_id": chosen.run_id,
    }
    return [{**row, **same} for row in table.rows()]
