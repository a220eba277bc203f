"""Move every sleeve by the rules, one stage at most, and say how far each is."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.moments import decision_moment
from flows.bodies.sleeve_registry import Move, append_moves, near_names, read_chain
from flows.runs import Run
from flows.wiring import Workplace
from lab.lifecycle.decide import Decision, decide
from lab.lifecycle.evidence import GATES, Evidence
from lab.lifecycle.gather import (
    CLOCKED,
    JUDGED_BPS,
    STRESSED_BPS,
    Frames,
    Registered,
    Speaker,
    backtest_trial,
    evidence_of,
    registered,
    speakers,
)
from lab.lifecycle.rules import DEFAULT_RULES, LifecycleRules, parse_rules
from lab.lifecycle.stages import LADDER, LOCKED, RETIRED
from lab.lifecycle.why import outcome_line, why_document, why_lines
from lakehouse.errors import InputError

Read = Callable[..., pa.Table]
_RETURN_COLUMNS: Final = (
    "run_id",
    "sleeve_id",
    "timeframe",
    "ts",
    "slippage_bps",
    "return_net",
    "phase",
    "known_ts",
)


@dataclass(frozen=True, slots=True)
class Explained:
    """Where a sleeve stands.

    Attributes
    ----------
    document : dict
        JSON.
    lines : list of str
        For a person.
    """

    document: dict[str, Any]
    lines: list[str]


@dataclass(frozen=True, slots=True)
class _Known:
    # Everything that is decided on, read once; heads are hashes of last transitions.
    heads: Mapping[str, str]
    stages: Mapping[str, str]
    evidence: Mapping[str, Evidence]
    speakers: Mapping[str, Speaker]


def run_lifecycle(
    run: Run, *, as_of: str | None = None, rules: str | None = None
) -> str:
    """Decide on every sleeve and make the moves.

    Gates whose family was searched on since their verdict are judged again first. What
    an earlier run left unfinished is finished.

    Parameters
    ----------
    run : Run
        Where to read and write.
    as_of : str, optional
        Decision time; the clock's now if not given.
    rules : str, optional
        TOML file with rules of one's own.

    Raises
    ------
    InputError
        If `as_of` is not a time or later than now, or there is no such file.
    LifecycleError
        If the file's rules cannot be used.
    RefusedError
        If the chain of transitions is broken.

    Notes
    -----
    Point in time: decides on rows that were known by `as_of`, of runs that had ended,
    by verdicts decided until then.
    """
    chosen = read_rules(rules)
    now = decision_moment(run, as_of)
    run.parameters |= {"as_of": now.isoformat(), "rules": asdict(chosen)}
    if now == run.now:
        _judge_again(run, now, chosen)
    known = _know(run.read, read_chain(run.workplace.lake), now, chosen)
    decisions: dict[str, Decision] = {}

    def plan(newest: Mapping[str, Mapping[str, Any]]) -> list[Move]:
        decisions.clear()
        for name, evidence in known.evidence.items():
            if newest[name]["row_hash"] == known.heads[name]:
                decisions[name] = decide(known.stages[name], evidence, chosen)
        return [
            _move(one, known.evidence[name], chosen, now)
            for name, one in decisions.items()
            if one.to_stage is not None
        ]

    append_moves(run, plan)
    later = sorted(set(known.evidence) - set(decisions))
    if later:
        run.notes.append(f"moved later than {now.isoformat()}: {', '.join(later)}")
    return _summary(run, decisions)


def explain(
    workplace: Workplace,
    sleeve_id: str,
    *,
    as_of: str | None = None,
    rules: Path | None = None,
) -> Explained:
    """Say how far a sleeve is from every threshold; nothing is written.

    Parameters
    ----------
    workplace : Workplace
        Where to read.
    sleeve_id : str
        Which.
    as_of : str, optional
        Use only what was known then; else now.
    rules : Path, optional
        TOML file with rules of one's own.

    Raises
    ------
    InputError
        If there is no such sleeve or file, or `as_of` is not a time or later than now.
    LifecycleError
        If the file's rules cannot be used.
    RefusedError
        If the chain of transitions is broken.

    Notes
    -----
    Point in time: as `run_lifecycle`.
    """
    chosen = read_rules(None if rules is None else str(rules))
    now = decision_moment(Run(workplace, "sleeve-lifecycle", "why"), as_of)
    chain = read_chain(workplace.lake)
    known = _know(workplace.lake.read, chain, now, chosen, only=sleeve_id)
    if sleeve_id not in known.evidence:
        names = set(registered(chain, as_of=now))
        hint = near_names(sleeve_id, names)
        raise InputError(
            f"--why {sleeve_id}: no sleeve of that name{hint}"
            if hint
            else f"--why {sleeve_id}: no sleeve is registered yet; "
            "run `alphalake walkforward` first"
        )
    evidence = known.evidence[sleeve_id]
    decision = decide(known.stages[sleeve_id], evidence, chosen)
    return Explained(why_document(decision, evidence), why_lines(decision, evidence))


def read_rules(file: str | None) -> LifecycleRules:
    """Return the rules of a TOML file, the default ones without a file.

    Raises
    ------
    InputError
        If it cannot be read.
    LifecycleError
        If its rules cannot be used.
    """
    if file is None:
        return DEFAULT_RULES
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--rules {file}: cannot be read: {error}") from error
    return parse_rules(text, where=file)


def _know(
    read: Read,
    chain: pa.Table,
    now: datetime,
    rules: LifecycleRules,
    *,
    only: str | None = None,
) -> _Known:
    rows = chain.filter(pc.field("decided_at") <= now).to_pylist()
    stages = {row["sleeve_id"]: row["to_stage"] for row in rows}
    heads = {row["sleeve_id"]: row["row_hash"] for row in rows}
    sleeves = registered(chain, as_of=now)
    if only is not None:
        sleeves = {name: one for name, one in sleeves.items() if name == only}
    runs = read("runs", filter=pc.field("flow") == "walk-forward")
    walked = read(
        "wf_snapshots",
        columns=["run_id", "sleeve_id", "timeframe"],
        filter=pc.field("slippage_bps") == JUDGED_BPS,
    )
    found = speakers(runs, walked, as_of=now, timeframe=rules.timeframe)
    found = {name: one for name, one in found.items() if name in sleeves}
    frames = _frames(read, sleeves, found, now)
    evidence = {
        name: evidence_of(one, frames, speaker=found.get(name), as_of=now, rules=rules)
        for name, one in sleeves.items()
    }
    return _Known(heads, stages, evidence, found)


def _frames(
    read: Read,
    sleeves: Mapping[str, Registered],
    found: Mapping[str, Speaker],
    now: datetime,
) -> Frames:
    in_runs = _among("run_id", {one.run_id for one in found.values()})
    is_asked = pc.field("slippage_bps").isin([JUDGED_BPS, STRESSED_BPS])
    in_family = _among("family", {one.family for one in found.values()})
    trials = read("trials", filter=in_family)
    chosen = [
        backtest_trial(trials, sleeves[name], family=one.family, as_of=now)
        for name, one in found.items()
    ]
    ids = {one["trial_id"] for one in chosen if one is not None}
    return Frames(
        wf_snapshots=read("wf_snapshots", filter=in_runs),
        sleeve_returns=read(
            "sleeve_returns", columns=_RETURN_COLUMNS, filter=in_runs & is_asked
        ),
        trials=trials,
        trial_returns=read(
            "trial_returns",
            filter=in_family & _among("trial_id", ids),
        ),
        gate_verdicts=read("gate_verdicts", filter=_among("subject", sleeves)),
        bot_shadow_decisions=read(
            "bot_shadow_decisions", filter=_among("signal", {*sleeves, *CLOCKED})
        ),
    )


def _among(column: str, values: Collection[str]) -> pc.Expression:
    # Typed, so that none at all is no error.
    return pc.field(column).isin(pa.array(sorted(values), pa.string()))


def _judge_again(run: Run, now: datetime, rules: LifecycleRules) -> None:
    # Read beside the run's pins: what is judged here is decided on below.
    lake = run.workplace.lake
    known = _know(lake.read, read_chain(lake), now, rules)
    due: dict[Speaker, list[str]] = {}
    for name, evidence in known.evidence.items():
        if _needs_gates(known.stages[name], evidence):
            due.setdefault(known.speakers[name], []).append(name)
    if not due:
        return
    from flows.bodies.gates import Judged, decide_sleeve_gates

    for one, names in due.items():
        judged = Judged(one.run_id, one.family, one.fill)
        decide_sleeve_gates(run, judged, sleeve_ids=names)
        run.notes.append(f"{', '.join(names)}: judged again by the gates")


def _needs_gates(stage: str, evidence: Evidence) -> bool:
    if evidence.sleeve_id == LOCKED or stage == RETIRED or not evidence.n_trials:
        return False
    if LADDER.index(stage) < LADDER.index("walk_forward_multi_fold"):
        return False
    return evidence.walked is not None and any(
        name not in evidence.gates or evidence.is_out_of_date(name) for name in GATES
    )


def _move(
    decision: Decision, evidence: Evidence, rules: LifecycleRules, now: datetime
) -> Move:
    content = {**evidence.figures(), "rules": asdict(rules)}
    return Move(
        decision.sleeve_id,
        decision.from_stage,
        str(decision.to_stage),
        decision.why,
        content,
        now,
    )


def _summary(run: Run, decisions: Mapping[str, Decision]) -> str:
    if not decisions:
        return "no sleeve is registered yet; `alphalake walkforward` enters them"
    run.notes += [outcome_line(one) for _, one in sorted(decisions.items())]
    moved = {name: _kind(one) for name, one in decisions.items()}
    told = []
    for kind in ("promoted", "demoted", "retired"):
        n_moved = sum(one == kind for one in moved.values())
        run.count(f"sleeves_{kind}", n_moved)
        told.append(f"{n_moved} {kind}")
    n_alarms = sum(bool(one.alarms) for one in decisions.values() if _is_held(one))
    run.count("alarms", n_alarms)
    alarm = "; ALARM: the locked baseline breaks a rule of retirement"
    return (
        f"{len(decisions)} sleeves decided on: {', '.join(told)}"
        f"{alarm if n_alarms else ''}"
    )


def _is_held(decision: Decision) -> bool:
    return decision.sleeve_id == LOCKED


def _kind(decision: Decision) -> str:
    if decision.to_stage is None:
        return "stays"
    if decision.to_stage == RETIRED:
        return RETIRED
    is_up = LADDER.index(decision.to_stage) > LADDER.index(decision.from_stage)
    return "promoted" if is_up else "demoted"
