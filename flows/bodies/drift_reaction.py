"""What a drift report alarms about, and what is done about it."""

from dataclasses import asdict
from datetime import datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.model_registry import read_registry
from flows.bodies.retrain_requests import Request
from flows.runs import Run
from lab.evaluation.decisions import record_decision
from lab.lifecycle.reaction import PROBATION, Alarm, Reaction, alarm_of, react
from lab.lifecycle.rollback import rollback_targets
from lakehouse.errors import RefusedError
from lakehouse.store import Lake

DECIDER: Final = "drift-reaction"
_KIND: Final = pa.timestamp("us", tz="UTC")


def alarms_between(
    lake: Lake, model: str, *, after: datetime, until: datetime
) -> list[Alarm]:
    """Return the alarms of a model's reports, by the end of their window.

    Parameters
    ----------
    lake : Lake
        Where to read.
    model : str
        Registered model.
    after, until : datetime
        Ends of the windows, the first excluded.

    Notes
    -----
    Point in time: a report is known at the end of its window.
    """
    ends = pc.field("window_end")
    rows = lake.read(
        "drift_reports",
        filter=(pc.field("model_name") == model)
        & pc.field("is_alarm")
        & (ends > pa.scalar(after, _KIND))
        & (ends <= pa.scalar(until, _KIND)),
    ).to_pylist()
    windows = sorted({row["window_end"] for row in rows})
    found = [
        alarm_of([row for row in rows if row["window_end"] == end]) for end in windows
    ]
    return [alarm for alarm in found if alarm is not None]


def alarm_at(lake: Lake, model: str, window_end: datetime) -> Alarm:
    """Return the alarm of one report.

    Raises
    ------
    RefusedError
        If the report does not alarm, or there is none.
    """
    rows = lake.read(
        "drift_reports",
        filter=(pc.field("model_name") == model)
        & (pc.field("window_end") == pa.scalar(window_end, _KIND)),
    ).to_pylist()
    alarm = alarm_of(rows)
    if alarm is None:
        said = "does not alarm" if rows else "is not there"
        raise RefusedError(
            f"{model}: the drift report of {window_end.isoformat()} {said}; run"
            " `alphalake drift` first"
        )
    return alarm


def decide_reaction(run: Run, alarm: Alarm, request: Request) -> Reaction:
    """Decide what follows from an alarm, and record it once per request.

    Parameters
    ----------
    run : Run
        Where to read and write.
    alarm : Alarm
        As it was reported: an event's own words decide nothing.
    request : Request
        The request that it made. What was registered since is an answer to it: a killed
        attempt's own candidate is no reason to wait.
    """
    lake, model = run.workplace.lake, alarm.model_name
    registry = read_registry(lake)
    spare = [one.version for one in rollback_targets(registry, model)]
    champion = registry.champion(model)
    promoted_at = None if champion is None else champion.promoted_at
    if promoted_at == registry.last_rollback(model):
        promoted_at = None  # it came back, and is not on probation again
    trained = [one.registered_at for one in registry.versions(model)]
    trained_at = max(
        (one for one in trained if one < request.requested_at), default=None
    )
    reaction = react(
        alarm,
        champion=None if champion is None else champion.version,
        promoted_at=promoted_at,
        has_archived=bool(spare),
        trained_at=trained_at,
    )
    record = record_decision(
        run_id=run.run_id,
        ts=run.now,
        agent_id=DECIDER,
        model={"name": "reaction", "version": "1", "probation_days": PROBATION.days},
        input_snapshot={
            "request_id": request.request_id,
            "model": model,
            "window_end": alarm.window_end.isoformat(),
            "version": alarm.version,
            "inputs": list(alarm.inputs),
            "performance": list(alarm.performance),
            "champion": None if champion is None else champion.version,
            "promoted_at": None if promoted_at is None else promoted_at.isoformat(),
            "trained_at": None if trained_at is None else trained_at.isoformat(),
            "archived": spare,
        },
        output=asdict(reaction),
        rationale=reaction.why,
    )
    run.append(
        "decision_records",
        record,
        window=f"{DECIDER}/decision_records/{request.request_id}",
    )
    return reaction
