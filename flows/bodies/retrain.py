"""Train models anew: on their schedule, on a drift alarm or by hand, once per window."""

from datetime import UTC, datetime, timedelta
from typing import Final

from flows.bodies.drift_reaction import alarms_between
from flows.bodies.model_registry import read_registry
from flows.bodies.moments import decision_moment
from flows.bodies.retrain_requests import UnderWayError, find_request, read_requests
from flows.bodies.retrain_work import TRAINERS, answer
from flows.runs import Run
from flows.signals_out import (
    COMPARE_DUE,
    RETRAIN_COMPLETED,
    announce,
    last_told,
    model_resource,
)
from lab.lifecycle.retraining import check_trigger, due_at, request_id, window_name
from lakehouse.clock import parse_moment
from lakehouse.errors import InputError, LakehouseError, RefusedError

LOOK_BACK: Final = timedelta(days=7)
"""How far back the schedule looks for alarms that no event told."""

LOOK_AGAIN: Final = timedelta(days=7)
"""How long a challenger that was not decided on waits for the next comparison: each look
is another chance to be promoted by luck, so there are few."""


def run_retrain(
    run: Run,
    *,
    model: str | None = "winprob",
    trigger: str = "manual",
    window: str | None = None,
    as_of: str | None = None,
    seed: int = 0,
) -> str:
    """Answer a request to retrain, exactly once however often it is delivered.

    Parameters
    ----------
    run : Run
        Where to read and write.
    model : str, optional
        Registered model. For `scheduled`, each that was ever trained if None.
    trigger : str
        `scheduled` trains what is due and answers alarms that no event told. `drift`
        answers an alarm by training, or by asking for a rollback. `manual` trains.
    window : str, optional
        For `drift` the end of the report's window, the newest alarm if not given; for
        `manual` a name of one's own, the decision time if not given.
    as_of : str, optional
        Only what was known by then counts; the time of the request if not given.
    seed : int
        Of the training.

    Returns
    -------
    str
        One line.

    Raises
    ------
    InputError
        If the model, `window` or `as_of` cannot be used.
    LifecycleError
        If the trigger is unknown.
    RefusedError
        If there is no such alarm, another process works on the request, or the training
        refused, for want of data for instance.
    LakehouseError
        If the training failed or its process was killed.

    Notes
    -----
    Point in time: the training knows what was known at `as_of`, or when the request was
    entered, whenever it is worked on.
    """
    check_trigger(trigger)
    moment = decision_moment(run, as_of)
    run.parameters |= {"model": model, "trigger": trigger, "as_of": as_of}
    run.seeds["training"] = seed
    if trigger == "scheduled":
        return _on_schedule(run, model, moment, as_of=as_of, seed=seed)
    if model is None:
        raise InputError(f"--trigger {trigger}: name the model")
    _check_model(model)
    name = _window(run, model, trigger, window, moment)
    return answer(run, model, trigger, name, as_of=as_of, seed=seed)


def _check_model(model: str) -> None:
    if model not in TRAINERS:
        raise InputError(f"--model {model}: one of {', '.join(TRAINERS)}")


def _window(
    run: Run, model: str, trigger: str, window: str | None, moment: datetime
) -> str:
    if window is not None:
        if trigger == "drift":
            return window_name(trigger, parse_moment(window, what="--window"))
        return window
    if trigger == "manual":
        return window_name(trigger, moment)
    past = datetime.min.replace(tzinfo=UTC)
    alarms = alarms_between(run.workplace.lake, model, after=past, until=moment)
    if not alarms:
        raise RefusedError(f"{model}: no drift report alarms by {moment.isoformat()}")
    return window_name(trigger, alarms[-1].window_end)


def _on_schedule(
    run: Run,
    model: str | None,
    moment: datetime,
    *,
    as_of: str | None,
    seed: int,
) -> str:
    registered = read_registry(run.workplace.lake).model_names
    names = [one for one in registered if one in TRAINERS] if model is None else [model]
    lines, errors = [], []
    for name in names:
        _check_model(name)
        for find in (_untold, _due):  # an answered alarm may leave nothing due
            for trigger, window in find(run, name, moment):
                try:
                    line = answer(run, name, trigger, window, as_of=as_of, seed=seed)
                except UnderWayError as error:
                    line = str(error)
                except LakehouseError as error:
                    errors.append(error)
                    continue
                lines.append(line)
        _tell_comparison(run, name, moment)
    if errors:
        # Every model had its turn; what failed is not hidden by what did not.
        run.notes += [*lines, *(str(error) for error in errors[1:])]
        raise errors[0]
    return "; ".join(lines) or _nothing_due(run, names)


def _untold(run: Run, model: str, moment: datetime) -> list[tuple[str, str]]:
    lake = run.workplace.lake
    alarms = alarms_between(lake, model, after=moment - LOOK_BACK, until=moment)
    found = []
    for alarm in alarms:
        window = window_name("drift", alarm.window_end)
        request = find_request(lake, request_id(model, "drift", window))
        if request is None or request.outcome is None:
            found.append(("drift", window))
    return found


def _due(run: Run, model: str, moment: datetime) -> list[tuple[str, str]]:
    due = due_at(model, _trained(run, model))
    is_due = due is None or due <= moment
    return [("scheduled", window_name("scheduled", moment))] if is_due else []


def _trained(run: Run, model: str) -> list[datetime]:
    versions = read_registry(run.workplace.lake).versions(model)
    ended = [
        one.requested_at
        for one in read_requests(run.workplace.lake, model)
        if one.outcome is not None and one.outcome["status"] == "trained"
    ]
    return [*(one.registered_at for one in versions), *ended]


def _nothing_due(run: Run, models: list[str]) -> str:
    said = []
    for model in models:
        due = due_at(model, _trained(run, model))
        said.append(f"{model} is due {due:%Y-%m-%d}" if due else f"{model} is due")
    return f"nothing to train: {', '.join(said) or 'no model is registered'}"


def _tell_comparison(run: Run, model: str, moment: datetime) -> None:
    challenger = read_registry(run.workplace.lake).challenger(model)
    if challenger is None:
        return
    resource = model_resource(model)
    looks = [
        last_told(run.workplace.lake, event, resource=resource)
        for event in (RETRAIN_COMPLETED, COMPARE_DUE)
    ]
    # A candidate of `train` was not told of: it is looked at here first.
    last = max((look for look in looks if look), default=None)
    is_new = last is None or last < challenger.registered_at
    if is_new or (last is not None and moment - last >= LOOK_AGAIN):
        payload = {"model": model, "version": challenger.version}
        announce(run, COMPARE_DUE, resource=resource, payload=payload)
