"""Where a sleeve goes next: at most one stage a day, by its rules.

In this order:

1. The locked baseline is moved by nobody; a rule of retirement it breaks is an alarm.
2. Nothing moves twice on one day, and nothing leaves `retired`.
3. A sleeve with a book (`paper`, `canary`, `live`) that breaks a rule of retirement is
   retired.
4. A sleeve that fails a rule of any earlier research stage falls back one stage. Days
   once spent in paper or canary are not asked for again.
5. A sleeve that meets every rule of its own stage goes up one, but never beyond
   `canary`, and not into a stage with a book while it would be retired there. From
   `paper` it goes up on live telemetry alone: rows of replays and backfills, of a past
   `--as-of` or of a clock that was turned back count for nothing.

What is not known neither promotes nor demotes. The same evidence on the same day gives
the same answer; after its move was made, it gives none.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from lab.lifecycle.evidence import Evidence
from lab.lifecycle.rules import DEFAULT_RULES, LifecycleRules
from lab.lifecycle.schedule import next_decision
from lab.lifecycle.stages import (
    LADDER,
    LAST_PROMOTED,
    LAST_RESEARCHED,
    LOCKED,
    RETIRED,
    TRADED,
    above,
    below,
    earlier,
)
from lab.lifecycle.thresholds import Distance, measure

_CLOSED: Final = "live stays closed until two persons' approval exists"


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to become of a sleeve.

    Attributes
    ----------
    sleeve_id : str
        Sleeve.
    from_stage : str
        Where it is.
    to_stage : str or None
        Where it goes; None when it stays.
    why : str
        Reason, in words.
    distances : tuple of Distance
        Every threshold, in the order of the stages.
    alarms : tuple of str
        Rules of retirement that it breaks.
    expected_date : datetime or None
        When it may go up next, as things go; None when not at this rate.
    """

    sleeve_id: str
    from_stage: str
    to_stage: str | None
    why: str
    distances: tuple[Distance, ...]
    alarms: tuple[str, ...]
    expected_date: datetime | None

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        expected = self.expected_date
        return {
            "sleeve_id": self.sleeve_id,
            "stage": self.from_stage,
            "to_stage": self.to_stage,
            "why": self.why,
            "distances": [one.document() for one in self.distances],
            "alarms": list(self.alarms),
            "expected_date": None if expected is None else expected.isoformat(),
        }


def decide(
    stage: str, evidence: Evidence, rules: LifecycleRules = DEFAULT_RULES
) -> Decision:
    """Decide on one sleeve.

    Parameters
    ----------
    stage : str
        Where it is.
    evidence : Evidence
        What is known of it at `evidence.as_of`.
    rules : LifecycleRules
        What is asked.

    Raises
    ------
    LifecycleError
        If there is no such stage.

    Notes
    -----
    Point in time: decides on the evidence alone.
    """
    distances = measure(evidence, rules, stage=stage)
    broken = [one for one in distances if one.stage == RETIRED and one.is_met is False]
    to_stage, why = _target(stage, evidence, distances)
    return Decision(
        sleeve_id=evidence.sleeve_id,
        from_stage=stage,
        to_stage=to_stage,
        why=why,
        distances=distances,
        alarms=tuple(str(one) for one in broken),
        expected_date=_expected(stage, to_stage, evidence, distances),
    )


def reached(evidence: Evidence, rules: LifecycleRules = DEFAULT_RULES) -> str:
    """Return the stage that a sleeve from `genesis` would climb to on this evidence.

    What the null battery counts: it is `paper` exactly if daily decisions on unchanged
    evidence would bring the sleeve there.
    """
    stage = "genesis"
    distances = measure(evidence, rules, stage=stage)
    while stage != LAST_RESEARCHED and not _blocking(stage, distances):
        stage = above(stage) or stage
    return stage


def _target(
    stage: str, evidence: Evidence, distances: tuple[Distance, ...]
) -> tuple[str | None, str]:
    fixed = _fixed(stage, evidence)
    if fixed is not None:
        return None, fixed
    if stage in TRADED:
        broken = _unmet(distances, (RETIRED,))
        if broken:
            return RETIRED, f"retired: {_listed(broken)}"
    failed = [
        one
        for one in _unmet(distances, earlier(stage))
        if one.stage not in TRADED and one.is_met is False
    ]
    if failed:
        return below(stage), f"no longer meets {_listed(failed)}"
    if stage in TRADED and LADDER.index(stage) >= LADDER.index(LAST_PROMOTED):
        return None, f"promotion stops at {LAST_PROMOTED}: {_CLOSED}"
    blocking = _blocking(stage, distances)
    if blocking:
        return None, f"stays: {_listed(blocking)}"
    met = [one for one in distances if one.stage == stage]
    return above(stage), f"meets {_listed(met)}"


def _fixed(stage: str, evidence: Evidence) -> str | None:
    if evidence.sleeve_id == LOCKED:
        return "the locked baseline is moved by nobody"
    if stage == RETIRED:
        return "retired for good; a new version takes a new name"
    moved = evidence.moved_at
    if moved is not None and moved.date() >= evidence.as_of.date():
        return f"moved on {moved:%Y-%m-%d} already; one stage a day"
    return None


def _blocking(stage: str, distances: tuple[Distance, ...]) -> list[Distance]:
    """Return what keeps a sleeve from the next stage."""
    asked = {stage}
    if stage == LAST_RESEARCHED:
        # What research showed must still be known, and hold, before anything is earned.
        asked |= set(earlier(stage))
    own = [one for one in distances if one.stage in asked and one.is_met is not True]
    if above(stage) in TRADED:
        own += _unmet(distances, (RETIRED,))
    return own


def _unmet(distances: tuple[Distance, ...], stages: tuple[str, ...]) -> list[Distance]:
    return [one for one in distances if one.stage in stages and one.is_met is False]


def _listed(distances: list[Distance]) -> str:
    return "; ".join(str(one) for one in distances)


def _expected(
    stage: str,
    to_stage: str | None,
    evidence: Evidence,
    distances: tuple[Distance, ...],
) -> datetime | None:
    if evidence.sleeve_id == LOCKED or stage in {LAST_PROMOTED, "live", RETIRED}:
        return None
    if to_stage is not None and to_stage == above(stage):
        return evidence.as_of
    blocking = _blocking(stage, distances)
    if to_stage is not None or any(one.expected is None for one in blocking):
        return None
    return max(
        (one.expected for one in blocking if one.expected is not None),
        default=next_decision(evidence.as_of),
    )
