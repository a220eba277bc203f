"""Judge walked sleeves by the three gates, and keep every verdict once.

A verdict names the walk-forward that it judged (`run_id` of its inputs), so that next
week's run of equal numbers has verdicts of its own. The family's trials are read from
the ledger as it is now: who judges later counts what was tried since.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.sleeve_registry import near_names
from flows.runs import Run
from lab.arrays import FloatArray, TimeArray
from lab.backtest.engine import Fill
from lab.backtest.ledger import TrialMatrix
from lab.evaluation.decisions import record_decision
from lab.lifecycle.gather import JUDGED_BPS, Speaker, speakers
from lab.lifecycle.rules import DEFAULT_RULES
from lab.lifecycle.stages import LOCKED
from lab.validation.gates import (
    FamilyEvidence,
    GateRules,
    GateVerdict,
    judge,
    verdict_table,
    weigh_family,
)
from lakehouse.errors import CommitConflictError, InputError, SchemaError

DECIDER: Final = "gates"
_ATTEMPTS: Final = 20

Verdicts = dict[str, tuple[GateVerdict, ...]]


@dataclass(frozen=True, slots=True)
class Judged:
    """A walk-forward that is to be judged.

    Attributes
    ----------
    run_id : str
        Its job, on its rows of `sleeve_returns`.
    family : str
        Its family in the ledger.
    fill : str
        How it filled.
    """

    run_id: str
    family: str
    fill: str = "next_open"


@dataclass(frozen=True, slots=True)
class _Walked:
    # Out-of-sample returns on the family's calendar, by sleeve.
    days: TimeArray
    returns: Mapping[str, FloatArray]


def run_gates(run: Run, *, sleeve: str) -> str:
    """Judge one sleeve's newest completed walk-forward.

    Counts `gates_passed` and `gates_failed`; says what would change each.

    Parameters
    ----------
    run : Run
        Where to read and write.
    sleeve : str
        Which.

    Raises
    ------
    InputError
        If there is no such sleeve, or it was not walked forward.

    Notes
    -----
    Point in time: runs that had finished and trials made by the run's clock.
    """
    speaker = _speaker(run, sleeve)
    run.parameters |= {"sleeve": sleeve, "walk_forward": speaker.run_id}
    judged = Judged(speaker.run_id, speaker.family, speaker.fill)
    verdicts = decide_sleeve_gates(run, judged, sleeve_ids=[sleeve])[sleeve]
    n_passed = sum(one.is_passed for one in verdicts)
    run.count("gates_passed", n_passed)
    run.count("gates_failed", len(verdicts) - n_passed)
    run.notes += [told(one) for one in verdicts]
    return f"{sleeve}: {n_passed} of {len(verdicts)} gates passed on {speaker.run_id}"


def decide_sleeve_gates(
    run: Run,
    judged: Judged,
    *,
    sleeve_ids: Collection[str] | None = None,
    rules: GateRules | None = None,
) -> Verdicts:
    """Judge sleeves of one walk-forward and keep the verdicts and decision records.

    Repeating it, or going on after a kill, writes what is missing and nothing twice.

    Parameters
    ----------
    run : Run
        Where to write. Tables are read at their newest version: a walk-forward judges
        the rows that it just wrote, before it is a completed run.
    judged : Judged
        The walk-forward.
    sleeve_ids : collection of str, optional
        Which of its sleeves, the locked baseline among them; all if not given.
    rules : GateRules, optional
        Thresholds and counts.

    Returns
    -------
    dict of str to tuple of GateVerdict
        Per sleeve, in the order of the gates.

    Raises
    ------
    InputError
        If the family has no trials, or a sleeve no returns in this walk-forward.
    ValidationError
        If returns and the family's calendar do not fit.
    """
    matrix, span_end = _family(run, judged)
    walked = _walked(run, judged, until=span_end, n_days=matrix.n_days)
    wanted = sorted(walked.returns if sleeve_ids is None else set(sleeve_ids))
    missing = [name for name in wanted if name not in walked.returns]
    if missing:
        raise InputError(f"{judged.run_id}: has no returns of {', '.join(missing)}")
    chosen = rules or GateRules()
    run.seeds["gates"] = chosen.seed
    evidence = weigh_family(matrix, chosen, baseline=walked.returns.get(LOCKED))
    verdicts = {name: _judge(name, walked, evidence, judged) for name in wanted}
    _keep(run, judged, verdicts)
    return verdicts


def told(verdict: GateVerdict) -> str:
    """Return a verdict in one line: the reason, and what would change it."""
    reason = "passed" if verdict.is_passed else verdict.distances["reason"]
    return f"{verdict.gate}: {reason}; {verdict.distances['change']}"


def _speaker(run: Run, sleeve: str) -> Speaker:
    runs = run.read("runs", filter=pc.field("flow") == "walk-forward")
    snapshots = run.read(
        "wf_snapshots",
        columns=["run_id", "sleeve_id", "timeframe"],
        filter=pc.field("slippage_bps") == JUDGED_BPS,
    )
    found = speakers(runs, snapshots, as_of=run.now, timeframe=DEFAULT_RULES.timeframe)
    if sleeve in found:
        return found[sleeve]
    known = set(run.read("sleeves", columns=["sleeve_id"])["sleeve_id"].to_pylist())
    if sleeve in known:
        raise InputError(
            f"--sleeve {sleeve}: no completed walk-forward of it; "
            "run `alphalake walkforward` first"
        )
    if not known:
        raise InputError(
            f"--sleeve {sleeve}: no sleeve is registered yet; "
            "run `alphalake walkforward` first"
        )
    raise InputError(f"--sleeve {sleeve}: unknown{near_names(sleeve, known)}")


def _family(run: Run, judged: Judged) -> tuple[TrialMatrix, Any]:
    in_family = pc.field("family") == judged.family
    lake = run.workplace.lake
    trials = lake.read("trials", filter=in_family)
    if trials.num_rows == 0:
        raise InputError(
            f"{judged.run_id}: no trials of its family {judged.family!r} in the ledger"
        )
    returns = lake.read("trial_returns", filter=in_family)
    return TrialMatrix.from_tables(trials, returns), pc.max(trials["span_end"])


def _walked(run: Run, judged: Judged, *, until: Any, n_days: int) -> _Walked:
    rows = run.workplace.lake.read(
        "sleeve_returns",
        columns=["sleeve_id", "ts", "return_net"],
        filter=(pc.field("run_id") == judged.run_id)
        & (pc.field("phase") == "test")
        & (pc.field("slippage_bps") == JUDGED_BPS)
        & (pc.field("ts") <= until),
    ).sort_by([("sleeve_id", "ascending"), ("ts", "ascending")])
    days = np.zeros(n_days, dtype="datetime64[us]")
    found: dict[str, FloatArray] = {}
    for name in pc.unique(rows["sleeve_id"]).to_pylist():
        own = rows.filter(pc.equal(rows["sleeve_id"], name))
        found[name] = own["return_net"].to_numpy()
        days = own["ts"].cast(pa.timestamp("us")).to_numpy()
    return _Walked(days, found)


def _judge(
    name: str, walked: _Walked, evidence: FamilyEvidence, judged: Judged
) -> tuple[GateVerdict, ...]:
    verdicts = judge(
        name, walked.returns[name], evidence, fill=Fill(judged.fill), days=walked.days
    )
    return tuple(
        replace(one, inputs={**one.inputs, "run_id": judged.run_id}) for one in verdicts
    )


def _keep(run: Run, judged: Judged, verdicts: Verdicts) -> None:
    # A walk-forward takes its job's name only once it is complete.
    is_own = run.flow == "walk-forward"
    rows = verdict_table(
        [one for group in verdicts.values() for one in group],
        decided_at=run.now,
        run_id=judged.run_id if is_own else run.run_id,
    )
    stored = _append_verdicts(run, rows)
    by_id = {row["verdict_id"]: row for row in stored}
    for group in verdicts.values():
        run.count("gate_verdicts", len(group))
    _append_records(
        run,
        [
            _record(judged, group, [by_id[one.verdict_id] for one in group])
            for group in verdicts.values()
        ],
    )


def _append_verdicts(run: Run, rows: pa.Table) -> list[dict[str, Any]]:
    """Append the verdicts that are not stored; return all as they are stored."""
    ids = rows["verdict_id"].to_pylist()
    wanted = pc.field("verdict_id").isin(ids)
    for _ in range(_ATTEMPTS):
        stored = run.workplace.lake.read("gate_verdicts", filter=wanted)
        known = stored["verdict_id"].combine_chunks()
        fresh = rows.filter(pc.invert(pc.is_in(rows["verdict_id"], value_set=known)))
        if fresh.num_rows == 0:
            return list(stored.to_pylist())
        windows = [
            f"{DECIDER}/gate_verdicts/{one}" for one in fresh["verdict_id"].to_pylist()
        ]
        try:
            run.append("gate_verdicts", fresh, window=windows)
        except SchemaError:
            if run.workplace.lake.read("gate_verdicts", filter=wanted).equals(stored):
                raise
    raise CommitConflictError(
        f"table gate_verdicts: other writers won {_ATTEMPTS} times in a row"
    )


def _record(
    judged: Judged,
    verdicts: Sequence[GateVerdict],
    stored: Sequence[Mapping[str, Any]],
) -> pa.Table:
    # From the stored rows alone, so that whoever writes it writes the same.
    first = min(stored, key=lambda row: (row["decided_at"], row["run_id"]))
    return record_decision(
        run_id=first["run_id"],
        ts=first["decided_at"],
        agent_id=DECIDER,
        model={
            "name": "dsr, reality_check, pbo",
            "version": "1",
            "thresholds": {one.gate: dict(one.thresholds) for one in verdicts},
        },
        input_snapshot={
            "sleeve_id": verdicts[0].subject,
            "walk_forward": judged.run_id,
            "family": judged.family,
            "verdicts": {one.gate: one.verdict_id for one in verdicts},
        },
        output={one.gate: one.is_passed for one in verdicts},
        rationale="; ".join(told(one) for one in verdicts),
    )


def _append_records(run: Run, records: Sequence[pa.Table]) -> None:
    rows = pa.concat_tables(records)
    ids = rows["decision_id"]
    stored = run.workplace.lake.read(
        "decision_records",
        columns=["decision_id"],
        filter=pc.field("decision_id").isin(ids.to_pylist()),
    )["decision_id"].combine_chunks()
    fresh = rows.filter(pc.invert(pc.is_in(ids, value_set=stored)))
    if fresh.num_rows:
        run.append(
            "decision_records",
            fresh,
            window=[
                f"{DECIDER}/decision_records/{one}"
                for one in fresh["decision_id"].to_pylist()
            ],
        )
