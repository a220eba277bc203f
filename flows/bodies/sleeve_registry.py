"""The one writer of sleeves' stages: a hash chain, and what is derived from it.

`sleeve_transitions` is the truth. Its rows carry the number that follows the newest
stored one as their key, so an append is a compare-and-swap: of two writers that saw
the same head, one lands, the other finds its number taken, looks again at what the
chain says and plans anew. `sleeves`, `production_sleeve_set` and the decision records
are made from the chain's rows alone, each time anew: whatever a killed run left out,
the next one adds, with the same content.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from flows.runs import Run
from lab.evaluation.decisions import record_decision
from lab.lifecycle.chain import Head, head_of, link, verify_chain
from lab.lifecycle.stages import LADDER, LOCKED, RETIRED, TRADED, is_move
from lakehouse.errors import (
    CommitConflictError,
    InputError,
    RefusedError,
    SchemaError,
)
from lakehouse.schema.lifecycle import (
    PRODUCTION_SLEEVE_SET,
    SLEEVE_TRANSITIONS,
    SLEEVES,
)
from lakehouse.store import Lake

REGISTRY: Final = "sleeve-registry"
DECIDER: Final = "sleeve-lifecycle"
CHAIN: Final = "sleeve_transitions"
_ATTEMPTS: Final = 50
_UNSIGNED: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class NewSleeve:
    """A sleeve to register.

    Attributes
    ----------
    sleeve_id : str
        Name in every table.
    configuration : str
        JSON of its class and parameters, or of its genome.
    author : str
        Who proposed it: `catalogue`, `evolution`, a person.
    stage : str
        `genesis`; `live` for the locked baseline, whatever is said here.
    why : str
        Reason, in words.
    evidence : mapping
        JSON: verdict ids and figures that speak for it.
    """

    sleeve_id: str
    configuration: str
    author: str
    stage: str = "genesis"
    why: str = "registered"
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Move:
    """A change of stage that was decided.

    Attributes
    ----------
    sleeve_id, from_stage, to_stage, why : str
        As in `sleeve_transitions`; `from_stage` is None for a new sleeve.
    evidence : mapping
        JSON: verdict ids and figures.
    decided_at : datetime
        Decision time.
    """

    sleeve_id: str
    from_stage: str | None
    to_stage: str
    why: str
    evidence: Mapping[str, Any]
    decided_at: datetime


Planner = Callable[[Mapping[str, Mapping[str, Any]]], Sequence[Move]]


def register_sleeves(run: Run, entries: Sequence[NewSleeve]) -> tuple[str, ...]:
    """Enter sleeves that are not known yet, each exactly once.

    Parameters
    ----------
    run : Run
        Where to read and write.
    entries : sequence of NewSleeve
        Those known already are passed over, whatever their configuration.

    Returns
    -------
    tuple of str
        The sleeves that were entered.

    Raises
    ------
    InputError
        If a configuration is not JSON, or a new sleeve is to start elsewhere than at
        `genesis`.
    RefusedError
        If the chain of transitions is broken.
    """
    for entry in entries:
        _check(entry)
    now, wanted = run.now, {entry.sleeve_id: entry for entry in entries}

    def plan(newest: Mapping[str, Mapping[str, Any]]) -> list[Move]:
        return [_entry(one, now) for name, one in wanted.items() if name not in newest]

    entered = tuple(move.sleeve_id for move in append_moves(run, plan))
    run.count("sleeves_registered", len(entered))
    run.notes += _changed(run.workplace.lake, wanted)
    return entered


def append_moves(run: Run, plan: Planner) -> list[Move]:
    """Append to the chain what `plan` decides on its newest state, then derive the rest.

    Parameters
    ----------
    run : Run
        Where to read and write.
    plan : callable
        From the last transition of each sleeve to moves, at most one a sleeve. Asked
        again when another writer came first: what that one did must be left out.

    Returns
    -------
    list of Move
        Those appended.

    Raises
    ------
    RefusedError
        If the chain is broken, or a move is not to a neighbouring stage.
    CommitConflictError
        If other writers kept winning.
    """
    for _ in range(_ATTEMPTS):
        chain = read_chain(run.workplace.lake)
        moves = list(plan(newest_transitions(chain)))
        if not moves or _append(run, chain, moves):
            settle(run)
            return moves
    raise CommitConflictError(
        f"table {CHAIN}: other writers won {_ATTEMPTS} times in a row; nothing written"
    )


def read_chain(lake: Lake) -> pa.Table:
    """Return the newest chain of transitions, in order, once it is proven whole.

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


def newest_transitions(chain: pa.Table) -> dict[str, dict[str, Any]]:
    """Return each sleeve's last transition, by sleeve."""
    return {row["sleeve_id"]: row for row in chain.to_pylist()}


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
        rows = chain.to_pylist()
        sleeves = _sleeves(rows)
        run.upsert("sleeves", pa.Table.from_pylist(sleeves, schema=SLEEVES.to_arrow()))
        _settle_set(run, sleeves)
        _settle_records(run, rows)
        settled = head_of(chain)


def near_names(name: str, known: Collection[str]) -> str:
    """Return the known names that are most like `name`, as the end of a message."""
    near = get_close_matches(name, sorted(known), n=3, cutoff=0.5) or sorted(known)
    return f"; did you mean {', '.join(near[:10])}?" if near else ""


def _check(entry: NewSleeve) -> None:
    where = f"sleeve {entry.sleeve_id!r}"
    if not entry.sleeve_id or entry.sleeve_id != entry.sleeve_id.strip():
        raise InputError(f"{where}: a name is needed")
    if entry.stage != LADDER[0] and entry.sleeve_id != LOCKED:
        raise InputError(f"{where}: stage {entry.stage!r}; a new sleeve is at genesis")
    try:
        json.loads(entry.configuration)
    except ValueError as error:
        raise InputError(f"{where}: configuration is not JSON: {error}") from error


def _changed(lake: Lake, wanted: Mapping[str, NewSleeve]) -> list[str]:
    rows = lake.read("sleeves", columns=["sleeve_id", "configuration"]).to_pylist()
    stored = {row["sleeve_id"]: row["configuration"] for row in rows}
    names = [
        name
        for name, entry in sorted(wanted.items())
        if stored.get(name, entry.configuration) != entry.configuration
    ]
    return [
        f"{name}: registered with another configuration, which stays; a changed sleeve"
        " takes a new name"
        for name in names
    ]


def _entry(entry: NewSleeve, now: datetime) -> Move:
    # The first row of a sleeve keeps what `sleeves` says of it.
    evidence = {
        **entry.evidence,
        "configuration": entry.configuration,
        "author": entry.author,
    }
    stage = "live" if entry.sleeve_id == LOCKED else LADDER[0]
    return Move(entry.sleeve_id, None, stage, entry.why, evidence, now)


def _append(run: Run, chain: pa.Table, moves: Sequence[Move]) -> bool:
    for move in moves:
        if not is_move(move.from_stage, move.to_stage):
            raise RefusedError(
                f"sleeve {move.sleeve_id}: no move from {move.from_stage} to "
                f"{move.to_stage}; one stage at a time"
            )
    head = head_of(chain)
    rows = link(
        head,
        [_row(move, run.run_id) for move in moves],
        schema=SLEEVE_TRANSITIONS.to_arrow(),
    )
    windows = [f"{run.flow}/{CHAIN}/{_window(move)}" for move in moves]
    try:
        written = run.append(CHAIN, rows, window=windows)
    except SchemaError:
        if head_of(run.workplace.lake.read(CHAIN)) == head:
            raise
        return False  # its number was taken: plan on what is there now
    return written.is_new


def _row(move: Move, run_id: str) -> dict[str, Any]:
    evidence = json.dumps(
        move.evidence, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return {
        "sleeve_id": move.sleeve_id,
        "from_stage": move.from_stage,
        "to_stage": move.to_stage,
        "why": move.why,
        "evidence": evidence,
        "decided_at": move.decided_at,
        "run_id": run_id,
    }


def _window(move: Move) -> str:
    # A sleeve moves once a day, so this names the decision whoever takes it.
    day = "new" if move.from_stage is None else f"{move.decided_at:%Y-%m-%d}"
    return f"{move.sleeve_id}/{day}"


def _sleeves(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = row["sleeve_id"]
        if row["from_stage"] is None:
            first = json.loads(row["evidence"])
            found[name] = {key: first[key] for key in ("configuration", "author")}
        found[name] |= {
            "sleeve_id": name,
            "stage": row["to_stage"],
            "entered_at": row["decided_at"],
            "run_id": row["run_id"],
        }
    return list(found.values())


def _settle_set(run: Run, sleeves: Sequence[Mapping[str, Any]]) -> None:
    for _ in range(_ATTEMPTS):
        rows = _new_set_rows(run.workplace.lake, sleeves)
        if not rows:
            return
        table = pa.Table.from_pylist(rows, schema=PRODUCTION_SLEEVE_SET.to_arrow())
        windows = [
            f"{REGISTRY}/production_sleeve_set/{row['artefact_id']}/{row['seq']}"
            for row in rows
        ]
        try:
            run.append("production_sleeve_set", table, window=windows)
        except SchemaError:
            if _new_set_rows(run.workplace.lake, sleeves) == rows:
                raise
        else:
            return
    raise CommitConflictError(
        f"table production_sleeve_set: other writers won {_ATTEMPTS} times in a row"
    )


def _new_set_rows(
    lake: Lake, sleeves: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    from lab.sleeves.phase37 import RUNTIME_WEIGHT

    newest: dict[str, dict[str, Any]] = {}
    for row in lake.read("production_sleeve_set").sort_by("seq").to_pylist():
        newest[row["artefact_id"]] = row
    rows = []
    for sleeve in sleeves:
        last = newest.get(sleeve["sleeve_id"])
        stage = _set_stage(sleeve["stage"])
        if last is not None and (
            last["stage"] == stage or last["changed_at"] > sleeve["entered_at"]
        ):
            continue
        is_locked = sleeve["sleeve_id"] == LOCKED
        rows.append(
            {
                "artefact_id": sleeve["sleeve_id"],
                "seq": 0 if last is None else last["seq"] + 1,
                "kind": "sleeve",
                "version": _version(sleeve["configuration"]),
                "manifest_sha256": _UNSIGNED,
                "stage": stage,
                "runtime_weight": RUNTIME_WEIGHT if is_locked else 0.0,
                "changed_at": sleeve["entered_at"],
                "run_id": sleeve["run_id"],
            }
        )
    return rows


def _set_stage(stage: str) -> str:
    if stage in {"live", RETIRED}:
        return stage
    return "shadow" if stage in TRADED else "candidate"


def _version(configuration: str) -> str:
    return hashlib.sha256(configuration.encode()).hexdigest()[:12]


def _settle_records(run: Run, rows: Iterable[Mapping[str, Any]]) -> None:
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
    evidence = json.loads(row["evidence"])
    is_new = row["from_stage"] is None
    return record_decision(
        run_id=row["run_id"],
        ts=row["decided_at"],
        agent_id=REGISTRY if is_new else DECIDER,
        model={"name": "register-once" if is_new else "stage-rules", "version": "1"},
        input_snapshot={"sleeve_id": row["sleeve_id"], "evidence": evidence},
        output={
            "from_stage": row["from_stage"],
            "to_stage": row["to_stage"],
            "chain": {"seq": row["seq"], "row_hash": row["row_hash"]},
        },
        rationale=row["why"],
    )


def _seen_heads(lake: Lake) -> list[Head]:
    outputs = [json.loads(text) for text in _records(lake, "output").to_pylist()]
    chains = [output["chain"] for output in outputs]
    return [Head(chain["seq"], chain["row_hash"]) for chain in chains]


def _records(lake: Lake, column: str) -> pa.ChunkedArray:
    wanted = pc.field("agent_id").isin([REGISTRY, DECIDER])
    return lake.read("decision_records", columns=[column], filter=wanted)[column]
