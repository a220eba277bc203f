"""A decision in words: how far from every threshold, what would change it, and when."""

from typing import Any, Final

from lab.lifecycle.decide import Decision
from lab.lifecycle.evidence import Evidence
from lab.lifecycle.stages import LOCKED, RETIRED, TRADED, above
from lab.lifecycle.thresholds import NOT_AT_THIS_RATE, Distance

_MARKS: Final = {True: "met", False: "not met", None: "not known"}
_MINUTES: Final = "%Y-%m-%d %H:%M"


def outcome_line(decision: Decision) -> str:
    """Return what becomes of a sleeve, in one line."""
    name, stage = decision.sleeve_id, decision.from_stage
    if decision.to_stage is not None:
        return f"{name}: {stage} -> {decision.to_stage}: {decision.why}"
    alarm = f"; ALARM {'; '.join(decision.alarms)}" if decision.alarms else ""
    return f"{name}: {stage}: {decision.why}{_expected(decision)}{alarm}"


def why_lines(decision: Decision, evidence: Evidence) -> list[str]:
    """Return the distance to every threshold, what would change it, and when.

    Parameters
    ----------
    decision : Decision
        What was decided.
    evidence : Evidence
        On what.
    """
    run = f"{evidence.run_id} on {evidence.timeframe} bars" if evidence.run_id else ""
    lines = [
        f"{decision.sleeve_id}: in {decision.from_stage} since"
        f" {evidence.entered_at:{_MINUTES}} UTC, {evidence.stage_days:.1f} days",
        f"evidence: {run or 'no completed walk-forward'},"
        f" as of {evidence.as_of:{_MINUTES}} UTC",
        outcome_line(decision),
    ]
    stage = ""
    for one in decision.distances:
        if one.stage != stage:
            stage = one.stage
            lines.append(_heading(stage))
        lines.append(f"  {_told(one)}")
    return lines


def why_document(decision: Decision, evidence: Evidence) -> dict[str, Any]:
    """Return the same as JSON."""
    return {
        **decision.document(),
        "entered_at": evidence.entered_at.isoformat(),
        "evidence": evidence.figures(),
    }


def _heading(stage: str) -> str:
    if stage == RETIRED:
        return f"retired from {', '.join(TRADED)} unless"
    return f"{stage} -> {above(stage)}"


def _told(one: Distance) -> str:
    short = f", {one.gap:.4g} short" if one.gap and one.is_met is False else ""
    change = f"; {one.change}" if one.change else ""
    when = f"; expected {one.expected:{_MINUTES}} UTC" if one.expected else ""
    return f"{_MARKS[one.is_met]}: {one}{short}{change}{when}"


def _expected(decision: Decision) -> str:
    if decision.sleeve_id == LOCKED or decision.from_stage in {*TRADED, RETIRED}:
        return ""
    if decision.expected_date is None:
        return f"; next stage {NOT_AT_THIS_RATE}"
    return f"; next stage expected {decision.expected_date:{_MINUTES}} UTC"
