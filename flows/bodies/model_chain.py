"""The one writer of the chain of model events, and what is derived from it.

`model_events` is the truth, as `sleeve_transitions` is for sleeves: each row's key is
the number after the newest stored one, so an append is a compare-and-swap, and of two
writers one plans anew. `model_versions` and the decision records are made from the
chain alone, each time anew: whatever a killed run left out, the next one adds.

Forecasters' checkpoints (`flows.bodies.checkpoints`) are rows of `model_versions` at
stage None without an event: they are chosen by acceptance, never promoted here.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from flows.manifests import to_json
from flows.runs import Run
from lab.errors import LifecycleError
from lab.evaluation.decisions import record_decision
from lab.lifecycle.chain import Head, head_of, link, verify_chain
from lab.lifecycle.model_stages import ModelEvent, ModelVersion, Registry, registry_of
from lakehouse.errors import CommitConflictError, RefusedError, SchemaError
from lakehouse.schema.lifecycle import MODEL_EVENTS, MODEL_VERSIONS
from lakehouse.store import Lake

CHAIN: Final = "model_events"
DECIDER: Final = "model-registry"
_ATTEMPTS: Final = 50

Planner = Callable[[Registry], Sequence[ModelEvent]]


def append_events(run: Run, plan: Planner) -> list[ModelEvent]:
    """Append to the chain what `plan` decides on the newest registry, in one commit.

    Parameters
    ----------
    run : Run
        Where to read and write.
    plan : callable
        From the registry to events, in order. Asked again when another writer came
        first: what that one did must be left out.

    Returns
    -------
    list of ModelEvent
        Those appended.

    Raises
    ------
    RefusedError
        If the chain is broken, or an event does not fit its version's stage.
    CommitConflictError
        If other writers kept winning.
    """
    for _ in range(_ATTEMPTS):
        chain = read_chain(run.workplace.lake)
        registry = registry_in(chain)
        events = list(plan(registry))
        if not events or _append(run, chain, registry, events):
            settle(run)
            return events
    raise CommitConflictError(
        f"table {CHAIN}: other writers won {_ATTEMPTS} times in a row; nothing written"
    )


def read_chain(lake: Lake) -> pa.Table:
    """Return the newest chain of events, in order, once it is proven whole.

    Raises
    ------
    RefusedError
        If a row was altered, dropped, swapped or doubled: the first one is named.
    """
    # Heads first: another writer may append, and note its head, between the two.
    seen = _seen_heads(lake)
    chain = lake.read(CHAIN).sort_by("seq")
    found = verify_chain(chain, seen=seen)
    if found is not None:
        raise RefusedError(f"table {CHAIN}: {found}; nothing is decided on it")
    return chain


def read_registry(lake: Lake) -> Registry:
    """Return which versions there are and where they stand.

    Raises
    ------
    RefusedError
        If the chain is broken.
    """
    return registry_in(read_chain(lake))


def settle(run: Run) -> None:
    """Bring the tables that follow from the chain up to it; nothing if they are.

    Raises
    ------
    RefusedError
        If the chain is broken.
    """
    lake, settled = run.workplace.lake, Head()
    # Again if another writer appended: these rows may have gone over its newer ones.
    while (chain := read_chain(lake)).num_rows and head_of(chain) != settled:
        rows = [version_row(one) for one in registry_in(chain).by_key.values()]
        run.upsert(
            "model_versions",
            pa.Table.from_pylist(rows, schema=MODEL_VERSIONS.to_arrow()),
        )
        _settle_records(run, chain.to_pylist())
        settled = head_of(chain)


def version_row(one: ModelVersion) -> dict[str, Any]:
    """Return a version's row of `model_versions`."""
    return {
        "model_name": one.model_name,
        "version": one.version,
        "stage": one.stage,
        "metrics": to_json(one.metrics),
        "manifest": to_json(one.manifest),
        "artefact_sha256": one.artefact_sha256,
        "registered_at": one.registered_at,
        "run_id": one.run_id,
    }


def registry_in(chain: pa.Table) -> Registry:
    """Return what a proven chain says.

    Raises
    ------
    RefusedError
        If a row does not fit what came before it.
    """
    try:
        return registry_of(chain.to_pylist())
    except LifecycleError as error:
        raise RefusedError(
            f"table {CHAIN}: {error}; nothing is decided on it"
        ) from error


def _append(
    run: Run, chain: pa.Table, registry: Registry, events: Sequence[ModelEvent]
) -> bool:
    head = head_of(chain)
    rows = link(
        head,
        [_row(event, run.run_id) for event in events],
        schema=MODEL_EVENTS.to_arrow(),
    )
    try:
        for row in rows.to_pylist():
            registry = registry.after(row)
    except LifecycleError as error:
        raise RefusedError(str(error)) from error
    windows = [
        f"{DECIDER}/{CHAIN}/{row['seq']}/{row['row_hash']}" for row in rows.to_pylist()
    ]
    try:
        written = run.append(CHAIN, rows, window=windows)
    except SchemaError:
        if head_of(run.workplace.lake.read(CHAIN)) == head:
            raise
        return False  # its number was taken: plan on what is there now
    # A commit that landed though it seemed not to is ours by its hashes.
    return written.is_new or head_of(rows).row_hash in _hashes(run.workplace.lake)


def _hashes(lake: Lake) -> set[str]:
    return set(lake.read(CHAIN, columns=["row_hash"])["row_hash"].to_pylist())


def _row(event: ModelEvent, run_id: str) -> dict[str, Any]:
    return {
        "model_name": event.model_name,
        "version": event.version,
        "event": event.event,
        "who": event.who,
        "why": event.why,
        "evidence": to_json({"run_id": run_id, **event.evidence}),
        "decided_at": event.decided_at,
    }


def _settle_records(run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
    stored = set(_records(run.workplace.lake, "decision_id").to_pylist())
    made = {row["seq"]: _record(row) for row in rows}
    fresh = {
        seq: record
        for seq, record in made.items()
        if record["decision_id"][0].as_py() not in stored
    }
    if fresh:
        run.append(
            "decision_records",
            pa.concat_tables(fresh.values()),
            window=[f"{DECIDER}/decision_records/{seq}" for seq in fresh],
        )


def _record(row: Mapping[str, Any]) -> pa.Table:
    said = json.loads(row["evidence"])
    # The manifest stays in the chain; its hash is the row's.
    seen = {name: value for name, value in said.items() if name != "manifest"}
    return record_decision(
        run_id=said["run_id"],
        ts=row["decided_at"],
        agent_id=DECIDER,
        model={"name": "model-stages", "version": "1"},
        input_snapshot={
            "model_name": row["model_name"],
            "version": row["version"],
            "seq": row["seq"],
            "evidence": seen,
        },
        output={
            "event": row["event"],
            "who": row["who"],
            "chain": {"seq": row["seq"], "row_hash": row["row_hash"]},
        },
        rationale=row["why"],
    )


def _seen_heads(lake: Lake) -> list[Head]:
    outputs = [json.loads(text) for text in _records(lake, "output").to_pylist()]
    chains = [output["chain"] for output in outputs]
    return [Head(chain["seq"], chain["row_hash"]) for chain in chains]


def _records(lake: Lake, column: str) -> pa.ChunkedArray:
    wanted = pc.field("agent_id") == DECIDER
    return lake.read("decision_records", columns=[column], filter=wanted)[column]
