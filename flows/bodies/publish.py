"""Publish the signed artefacts whose content changed."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from flows.bodies.calibration_weeks import calibration
from flows.bodies.checkpoints import model_digests
from flows.bodies.policy_artefact import policy_lookup, why_weighted
from flows.bodies.signal_weights import signal_weights, why_unearned
from flows.bodies.sleeve_book import sleeve_book, sleeve_set, why_unlocked
from flows.bodies.winprob_artefact import why_watched, winprob_model
from flows.manifests import code_commit, lock_hash
from flows.runs import Run
from lab.evaluation.decisions import record_decision
from lakehouse.query import Session, connect
from lakehouse.schema.catalogue import table_spec
from lakehouse.trust.manifest import Manifest, build_manifest

if TYPE_CHECKING:
    from lakehouse.trust.publishing import PublishReport, Repository

VALID_FOR: Final = timedelta(days=30)
# A manifest is renewed, content unchanged, once less than this is left of it.
RENEW_BELOW: Final = timedelta(days=10)
AUTHOR: Final = "lab"
RECENT_BARS: Final = 500
# No calendar spreads 500 bars over more days than this.
_SPAN_DAYS: Final = {"1h": 150, "1d": 1000}

_QUERIES: Final = {
    "latest_predictions": """
        SELECT newest.*, bands.p10 AS band_p10, bands.p90 AS band_p90,
               bands.coverage AS band_coverage, bands.horizons AS band_horizons,
               bands.n_labels AS band_n_labels
        FROM ml_predictions_latest AS newest
        LEFT JOIN conformal_bands AS bands USING (prediction_id)
    """,
    "signal_performance": "SELECT * FROM signal_performance",
    "evaluation_report": "SELECT * FROM skill_verdicts",
    "instruments": "SELECT * FROM instruments",
    "recent_bars": f"""
        SELECT bars.* FROM ohlcv AS bars
        JOIN ohlcv_latest AS newest USING (symbol, timeframe)
        WHERE bars.ts > newest.ts - CASE bars.timeframe
            WHEN '1h' THEN INTERVAL {_SPAN_DAYS["1h"]} DAY
            ELSE INTERVAL {_SPAN_DAYS["1d"]} DAY END
        QUALIFY row_number() OVER (
            PARTITION BY symbol, timeframe ORDER BY bars.ts DESC) <= {RECENT_BARS}
    """,  # noqa: S608 - constants
}
_BUILT: Final[Mapping[str, Callable[[Session], pa.Table]]] = {
    "sleeve_set": sleeve_set,
    "sleeve_book": sleeve_book,
    "signal_weights": signal_weights,
    "calibration": calibration,
}
# Models are files beside the tables.
_MODELS: Final[Mapping[str, Callable[[Session, Run], pa.Table]]] = {
    "winprob": winprob_model,
    "policy_lookup": policy_lookup,
}
KINDS: Final = (*_QUERIES, *_BUILT, *_MODELS)
_LOCKS: Final[Mapping[str, Callable[[pa.Table], str | None]]] = {
    "sleeve_set": why_unlocked,
    "signal_weights": why_unearned,
    "winprob": why_watched,
    "policy_lookup": why_weighted,
}


def publish_artefacts(run: Run) -> str:
    """Replace the artefact tables that changed, sign their manifests, show them.

    Parameters
    ----------
    run : Run
        Where to read, write and sign.

    Raises
    ------
    TrustError
        If the repository is missing, damaged, or a key that must sign is not here.

    Notes
    -----
    Point in time: every artefact is built from one pinned set of table versions.
    """
    repository = run.workplace.repository()
    published = repository.manifests()
    # One thread: sums in another order would differ in their last digits.
    with connect(run.workplace.root, threads=1) as session:
        content = {kind: read_content(session, kind) for kind in (*_QUERIES, *_BUILT)}
        for kind, build in _MODELS.items():
            spec = table_spec(f"artefact_{kind}")
            content[kind] = in_key_order(build(session, run), spec.key)
        run.tables_read |= {
            name: version
            for name, version in session.versions.items()
            if not name.startswith("artefact_")
        }
    keep_locked(run, content)
    due = []
    for kind, rows in content.items():
        if rows.num_rows == 0 and kind not in published:
            continue
        is_changed = replace_if_changed(run, kind, rows)
        if is_changed or is_due(published.get(kind), run, kind):
            due.append(kind)
    if not due:
        return "nothing changed since the last publication"
    run.count("artefacts", len(due))
    return _publish(run, repository, due, content)


def keep_locked(run: Run, content: dict[str, pa.Table]) -> None:
    """Drop weights that must not be published: those before stay, and it is said.

    Parameters
    ----------
    run : Run
        Where it is noted.
    content : dict of str to pyarrow.Table
        What is to be published, by kind.
    """
    for kind, why_not in _LOCKS.items():
        if kind in content and (why := why_not(content[kind])) is not None:
            del content[kind]
            run.count("artefacts_refused", 1)
            run.notes.append(f"{kind} not published: {why}")


def _publish(
    run: Run,
    repository: "Repository",
    kinds: list[str],
    content: Mapping[str, pa.Table],
) -> str:
    lake, now = run.workplace.lake, run.now
    manifests = [
        build_manifest(
            lake,
            kind,
            valid_until=now + VALID_FOR,
            as_of=as_of(content[kind], default=now),
            author=AUTHOR,
            code_commit=code_commit(),
            lock_hash=lock_hash(),
            metrics={"n_rows": float(content[kind].num_rows)},
            models=models_behind(run, content[kind]),
        )
        for kind in kinds
    ]
    report = run.commit(lambda: repository.publish(manifests))
    run.notes += report.notes
    _record(run, manifests, report)
    return f"version {report.version} published: {', '.join(kinds)}"


def models_behind(run: Run, rows: pa.Table) -> dict[str, str]:
    """Return the sha256 of every model file behind an artefact's rows."""
    named = set(rows.column_names)
    version = "model_version" if "model_version" in named else "version"
    if not {"model_name", version} <= named:
        return {}
    names, versions = rows["model_name"], rows[version]
    pairs = set(zip(names.to_pylist(), versions.to_pylist(), strict=True))
    return model_digests(run, pairs)


def read_content(session: Session, kind: str) -> pa.Table:
    """Return what the artefact `kind` should hold now, in key order."""
    spec = table_spec(f"artefact_{kind}")
    schema = spec.to_arrow()
    if kind in _BUILT:
        rows = _BUILT[kind](session)
    else:
        rows = session.sql(_QUERIES[kind]).arrow().select(schema.names).cast(schema)
    return in_key_order(rows, spec.key)


def in_key_order(rows: pa.Table, key: tuple[str, ...]) -> pa.Table:
    """Return `rows` sorted by their key: the canonical form that is compared."""
    return rows.sort_by([(name, "ascending") for name in key]).combine_chunks()


def replace_if_changed(run: Run, kind: str, rows: pa.Table) -> bool:
    """Replace the artefact's table if its content differs; return whether it did."""
    table = f"artefact_{kind}"
    spec = table_spec(table)
    lake = run.workplace.lake
    if lake.version(table) is not None:
        stored = in_key_order(lake.read(table).select(rows.column_names), spec.key)
        if stored.cast(rows.schema).equals(rows):
            return False
    run.replace(table, rows)
    return True


def is_due(manifest: Manifest | None, run: Run, kind: str) -> bool:
    """Return whether an unchanged artefact needs a new manifest.

    True if none is published, the published one names another version of the table
    (a run was killed between the two), or it runs out soon.
    """
    if manifest is None:
        return True
    version = run.workplace.lake.version(f"artefact_{kind}")
    return (
        manifest.table_version != version
        or manifest.valid_until - run.now < RENEW_BELOW
    )


def as_of(rows: pa.Table, *, default: datetime) -> datetime:
    """Return the newest decision time of an artefact's rows."""
    for name in ("as_of", "last_as_of", "trained_until"):
        if name in rows.column_names and rows.num_rows:
            found: datetime = max(rows[name].to_pylist())
            return found
    return default


def _record(run: Run, manifests: list[Manifest], report: "PublishReport") -> None:
    decision = record_decision(
        run_id=run.run_id,
        ts=run.now,
        agent_id="publisher",
        model={"name": "publish-if-changed", "version": "1"},
        input_snapshot=dict(run.tables_read),
        output={
            "version": report.version,
            "artefacts": {
                one.kind: {"version": one.table_version, "sha256": one.sha256}
                for one in manifests
            },
        },
        rationale="content changed, or its manifest was about to run out",
    )
    run.append(
        "decision_records",
        decision,
        window=f"publish/decision_records/{run.run_id}",
    )
