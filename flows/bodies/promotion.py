"""Move models between stages by hand or on an alarm: promote and roll back."""

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from flows.bodies.model_registry import (
    ModelEvent,
    ModelVersion,
    Registry,
    append_events,
    load_files,
    mirror,
    read_registry,
    settle,
)
from flows.bodies.sleeve_registry import near_names
from flows.runs import Run
from flows.settings import load_flow_settings
from lab.evaluation.decisions import record_decision
from lab.lifecycle.model_stages import BY_PROMOTION, BY_ROLLBACK
from lab.lifecycle.rollback import check_cause, cooling_until, rollback_targets
from lakehouse.errors import InputError, RefusedError

MANUAL: Final = "manual"


@dataclass(frozen=True, slots=True)
class Decided:
    """By whom, why and when a move was decided.

    Attributes
    ----------
    who, why : str
        Person or flow, and the reason.
    at : datetime
        Clock time, aware.
    """

    who: str
    why: str
    at: datetime


def run_promote(run: Run, *, model: str, version: str, why: str) -> str:
    """Make a version the champion by hand; the one before is archived.

    Any registered version may be promoted, one that missed its thresholds too: the
    chain says that a person did it, and what was missed. It stays at weight 0.

    Parameters
    ----------
    run : Run
        Where to read and write.
    model, version : str
        A registered version.
    why : str
        Reason, in words; it is kept.

    Raises
    ------
    InputError
        If there is no such version, or no reason is given.
    RefusedError
        If its files are not those that were registered, or the chain is broken.
    """
    require_reason(why)
    wanted = find_version(read_registry(run.workplace.lake), model, version)
    load_files(run.workplace.lake, wanted)
    decided = Decided(person(), why, run.now)

    def plan(registry: Registry) -> list[ModelEvent]:
        if find_version(registry, model, version).promoted_at is not None:
            return []
        return promotion_events(registry, wanted, decided, {"by": MANUAL})

    events = append_events(run, plan)
    mirror(run)
    if not events:
        return f"{model} {version} is the champion already"
    run.count("models_promoted", 1)
    return f"{model} {version} is the champion{_archived(events)}"


def run_rollback(
    run: Run, *, model: str = "winprob", why: str, cause: str = MANUAL
) -> str:
    """Return to the newest archived version whose artefact still verifies.

    The champion is archived and is not returned to by another rollback. Within the
    cooldown after a rollback, an alarm is recorded and not acted on, and a person is
    refused; so it is where there is no version to return to.

    Parameters
    ----------
    run : Run
        Where to read and write.
    model : str
        Whose champion is taken back.
    why : str
        Reason, in words; it is kept.
    cause : str
        `manual`, or the alarm: `drift` or `performance`.

    Raises
    ------
    InputError
        If the model has no champion, or no reason is given.
    LifecycleError
        If the cause is unknown.
    RefusedError
        If a person asks within the cooldown, or there is no version to return to; or
        the chain is broken.

    Notes
    -----
    Point in time: the cooldown is counted by the run's clock from the last rollback in
    the chain, so it outlives every process.
    """
    require_reason(why)
    check_cause(cause)
    cooldown = timedelta(hours=load_flow_settings().rollback_cooldown_hours)
    who = person() if cause == MANUAL else run.flow
    decided = Decided(who, why, run.now)
    run.parameters["cooldown_hours"] = cooldown / timedelta(hours=1)
    settle(run)  # what a killed run left out; a refusal below writes nothing

    def plan(registry: Registry) -> list[ModelEvent]:
        champion = _champion(registry, model)
        last = registry.last_rollback(model)
        until = cooling_until(last, decided.at, cooldown=cooldown)
        target, skipped = (None, []) if until else _sound(run, registry, model)
        evidence = {"cause": cause, "skipped": skipped}
        if target is not None:
            return _rollback_events(champion, target, decided, evidence)
        said = _no_rollback(model, until)
        if cause == MANUAL:
            _record_refusal(run, champion, why, said, skipped)
            raise RefusedError(said)
        evidence |= {"not_acted_on": said}
        return [_event(champion, "alarm", decided, evidence)]

    events = append_events(run, plan)
    mirror(run)
    newest = events[-1]
    if newest.event == "alarm":
        run.count("alarms_recorded", 1)
        return f"alarm recorded, not acted on: {newest.evidence['not_acted_on']}"
    run.count("models_rolled_back", 1)
    run.notes += [
        f"{model} {one['version']} was passed over: {one['why']}"
        for one in newest.evidence["skipped"]
    ]
    return f"{model} {newest.version} is the champion again{_archived(events)}"


def promotion_events(
    registry: Registry,
    version: ModelVersion,
    decided: Decided,
    evidence: Mapping[str, Any],
) -> list[ModelEvent]:
    """Return what makes a version the champion: the one before goes in the same commit.

    Parameters
    ----------
    registry : Registry
        What the chain says.
    version : ModelVersion
        The next champion.
    decided : Decided
        By whom, why and when.
    evidence : mapping
        JSON: what speaks for it.
    """
    champion = registry.champion(version.model_name)
    stage = {"from_stage": version.stage}
    events = [_event(version, "promote", decided, {**evidence, **stage})]
    if champion is not None:
        gone = {"cause": BY_PROMOTION, "successor": version.version}
        events.insert(0, _event(champion, "archive", decided, gone))
    return events


def find_version(registry: Registry, model: str, version: str) -> ModelVersion:
    """Return a registered version.

    Raises
    ------
    InputError
        If there is none of that name; the nearest names are told.
    """
    require_model(registry, model)
    found = registry.version(model, version)
    if found is None:
        known = [one.version for one in registry.versions(model)]
        raise InputError(
            f"model {model}: no version {version!r}{near_names(version, known)}"
        )
    return found


def require_model(registry: Registry, model: str) -> None:
    """Refuse a model without a version.

    Raises
    ------
    InputError
        If none is registered; the nearest names are told.
    """
    if model not in registry.model_names:
        hint = near_names(model, registry.model_names)
        raise InputError(
            f"model {model!r}: no version is registered{hint}; `alphalake train` makes one"
        )


def require_reason(why: str) -> None:
    """Refuse an empty reason.

    Raises
    ------
    InputError
        If it is empty.
    """
    if not why.strip():
        raise InputError("--why: a reason is needed; it is kept in the chain")


def person() -> str:
    """Return who is at the keyboard, as the system says."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for this user id
        return "person"


def _champion(registry: Registry, model: str) -> ModelVersion:
    require_model(registry, model)
    champion = registry.champion(model)
    if champion is None:
        raise InputError(f"model {model}: no champion to take back")
    return champion


def _sound(
    run: Run, registry: Registry, model: str
) -> tuple[ModelVersion | None, list[dict[str, str]]]:
    skipped = []
    for one in rollback_targets(registry, model):
        try:
            load_files(run.workplace.lake, one)
        except RefusedError as error:
            skipped.append({"version": one.version, "why": str(error)})
        else:
            return one, skipped
    return None, skipped


def _no_rollback(model: str, until: datetime | None) -> str:
    if until is None:
        return f"model {model}: no archived version whose artefact still verifies"
    return f"model {model}: rolled back lately; not again before {until:%Y-%m-%d %H:%M} UTC"


def _rollback_events(
    champion: ModelVersion,
    target: ModelVersion,
    decided: Decided,
    evidence: Mapping[str, Any],
) -> list[ModelEvent]:
    gone = {"cause": BY_ROLLBACK, "successor": target.version}
    return [
        _event(champion, "archive", decided, gone),
        _event(target, "rollback", decided, evidence),
    ]


def _event(
    version: ModelVersion,
    event: str,
    decided: Decided,
    evidence: Mapping[str, Any],
) -> ModelEvent:
    return ModelEvent(
        version.model_name,
        version.version,
        event,
        decided.who,
        decided.why,
        evidence,
        decided.at,
    )


def _record_refusal(
    run: Run,
    champion: ModelVersion,
    why: str,
    said: str,
    skipped: Sequence[Mapping[str, str]],
) -> None:
    record = record_decision(
        run_id=run.run_id,
        ts=run.now,
        agent_id="model-rollback",
        model={"name": "cooldown", "version": "1"},
        input_snapshot={
            "model_name": champion.model_name,
            "champion": champion.version,
            "skipped": [dict(one) for one in skipped],
        },
        output={"decision": "REFUSED", "reason": said},
        rationale=why,
    )
    window = f"model-rollback/decision_records/{run.run_id}"
    run.append("decision_records", record, window=window)


def _archived(events: Sequence[ModelEvent]) -> str:
    gone = [one.version for one in events if one.event == "archive"]
    return f"; {gone[0]} is archived" if gone else ""
