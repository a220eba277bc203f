"""The win-probability model as it is published: whole, signed, at weight 0."""

from typing import Any, Final

import pyarrow as pa

from flows.bodies.model_registry import load_files
from flows.manifests import to_json
from flows.runs import Run
from lab.errors import LifecycleError
from lab.learning.bundle import CALIBRATOR, CONFIG, SCHEMA
from lab.learning.learners import MODEL_FILES
from lab.lifecycle.model_stages import ModelVersion, registry_of
from lakehouse.clock import parse_moment
from lakehouse.errors import RefusedError
from lakehouse.query import Session
from lakehouse.schema.artefacts import WINPROB
from lakehouse.schema.lifecycle import PRODUCTION_SLEEVE_SET

MODEL: Final = "winprob"
_CHAIN: Final = "SELECT * FROM model_events ORDER BY seq"
_HELD: Final = """
SELECT version, runtime_weight FROM production_sleeve_set
WHERE kind = 'winprob' AND artefact_id = 'winprob'
ORDER BY seq DESC LIMIT 1
"""
_UNSIGNED: Final = "0" * 64


def winprob_model(session: Session, run: Run) -> pa.Table:
    """Return the champion, else the newest version in Staging.

    Parameters
    ----------
    session : Session
        Pinned versions of the lake.
    run : Run
        Where the model's files are.

    Returns
    -------
    pyarrow.Table
        With the schema of `artefact_winprob`; empty while no version may be asked.

    Raises
    ------
    RefusedError
        If the chain of events does not fit together.

    Notes
    -----
    A version whose files are not those registered is not published: the one that is
    stays, and a note says so.
    """
    schema = WINPROB.to_arrow()
    chosen = _chosen(session)
    if chosen is None:
        return schema.empty_table()
    try:
        files = load_files(run.workplace.lake, chosen)
    except RefusedError as error:
        run.count("artefacts_refused", 1)
        run.notes.append(f"winprob not published: {error}")
        return _published(session)
    return pa.Table.from_pylist([_row(chosen, files, session)], schema=schema)


def why_watched(rows: pa.Table) -> str | None:
    """Return why a model must not be published, or None.

    Parameters
    ----------
    rows : pyarrow.Table
        As `winprob_model` returned it.
    """
    for row in rows.to_pylist():
        if row["runtime_weight"] != 0:
            return f"{row['version']} has weight {row['runtime_weight']:g}; a candidate has 0"
    return None


def enter_candidate(run: Run, version: str, *, model: str = MODEL) -> None:
    """Enter a version into `production_sleeve_set` at weight 0, once.

    Parameters
    ----------
    run : Run
        Where to write.
    version : str
        Of the model.
    model : str
        Registered model; its name and kind in the set.
    """
    held = run.workplace.lake.read("production_sleeve_set").to_pylist()
    own = [row for row in held if row["artefact_id"] == model]
    newest = max(own, key=lambda row: int(row["seq"]), default=None)
    if newest is not None and (newest["kind"], newest["version"]) == (model, version):
        return
    seq = 0 if newest is None else newest["seq"] + 1
    row = {
        "artefact_id": model,
        "seq": seq,
        "kind": model,
        "version": version,
        "manifest_sha256": _UNSIGNED,
        "stage": "shadow",
        "runtime_weight": 0.0,
        "changed_at": run.now,
        "run_id": run.run_id,
    }
    run.append(
        "production_sleeve_set",
        pa.Table.from_pylist([row], schema=PRODUCTION_SLEEVE_SET.to_arrow()),
        window=f"{model}/production_sleeve_set/{seq}/{version}",
    )


def _chosen(session: Session) -> ModelVersion | None:
    try:
        registry = registry_of(session.sql(_CHAIN).rows())
    except LifecycleError as error:
        raise RefusedError(f"table model_events: {error}") from error
    return registry.champion(MODEL) or registry.challenger(MODEL)


def _row(
    chosen: ModelVersion, files: dict[str, bytes], session: Session
) -> dict[str, Any]:
    manifest = chosen.manifest
    learner = manifest["config"]["model"]
    # A weight belongs to the version it was given to.
    held = {row["version"]: row["runtime_weight"] for row in session.sql(_HELD).rows()}
    return {
        "model_name": MODEL,
        "version": chosen.version,
        "learner": learner,
        "model": files[MODEL_FILES[learner]],
        "calibrator": files[CALIBRATOR].decode(),
        "schema": files[SCHEMA].decode(),
        "config": files[CONFIG].decode(),
        "metrics": to_json(
            {
                "stage": chosen.stage,
                "out_of_fold": chosen.metrics,
                "last_block": manifest.get("last_block"),
                "reliability": manifest.get("reliability"),
            }
        ),
        "runtime_weight": held.get(chosen.version, 0.0),
        "trained_until": parse_moment(manifest["cutoff"], what="cutoff"),
        "run_id": chosen.run_id,
    }


def _published(session: Session) -> pa.Table:
    schema = WINPROB.to_arrow()
    rows = session.sql("SELECT * FROM artefact_winprob").arrow()
    return rows.select(schema.names).cast(schema)
