"""The stages of a sleeve, in order, and which of them lie next to each other."""

from typing import Final

from lab.errors import LifecycleError
from lakehouse.schema.lifecycle import STAGES

LOCKED: Final = "phase37"
"""The baseline: live from the start, moved by nobody."""

LAST_RESEARCHED: Final = "paper"
"""As far as research alone leads: what comes after is earned in live time, on paper."""

LAST_PROMOTED: Final = "canary"
"""Promotion ends here: money is moved by two persons, never by a rule alone."""

RETIRED: Final = "retired"

TRADED: Final = ("paper", "canary", "live")
"""Stages with a book that can lose: what the rules of retirement are for."""

LADDER: Final = STAGES[: STAGES.index(RETIRED)]
"""Every stage but the last, which is entered from any traded one."""


def above(stage: str) -> str | None:
    """Return the stage that a promotion from `stage` leads to; None at the top."""
    spot = _spot(stage)
    return LADDER[spot + 1] if spot + 1 < len(LADDER) else None


def below(stage: str) -> str | None:
    """Return the stage that a demotion from `stage` leads to; None at the bottom."""
    spot = _spot(stage)
    return LADDER[spot - 1] if spot else None


def earlier(stage: str) -> tuple[str, ...]:
    """Return the stages that come before `stage`, lowest first."""
    return LADDER[: _spot(stage)]


def is_move(from_stage: str | None, to_stage: str) -> bool:
    """Return whether a sleeve may go from one stage to the other.

    None is where a sleeve comes from that was just registered.
    """
    if from_stage is None:
        return to_stage in {LADDER[0], "live"}
    if from_stage == RETIRED:
        return False
    if to_stage == RETIRED:
        return from_stage in TRADED
    return to_stage in {above(from_stage), below(from_stage)}


def _spot(stage: str) -> int:
    if stage not in LADDER:
        raise LifecycleError(f"stage {stage!r}: one of {', '.join(LADDER)}")
    return LADDER.index(stage)
