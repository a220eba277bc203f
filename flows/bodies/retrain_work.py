"""Work on one request to retrain: train in a process of its own, or ask for a rollback."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from flows.bodies.drift_reaction import alarm_at, decide_reaction
from flows.bodies.model_registry import read_registry
from flows.bodies.retrain_requests import (
    Request,
    close_request,
    enter_request,
    find_request,
    held,
)
from flows.isolation import Order, RunLostError, run_isolated
from flows.runs import Run
from flows.signals_out import (
    RETRAIN_COMPLETED,
    ROLLBACK_REQUESTED,
    announce,
    model_resource,
)
from flows.studies import tuned_config
from lakehouse.clock import parse_moment
from lakehouse.errors import LakehouseError, RefusedError

_GBM: Final = ("flows.bodies.train_gbm:run_train_gbm", "flows.train_models:train_gbm")
TRAINERS: Final[Mapping[str, Order]] = MappingProxyType(
    {
        "winprob": Order(
            "train-winprob",
            "flows.bodies.train_winprob:run_train_winprob",
            "flows.train_models:train_winprob",
        ),
        "gbm-1d": Order("train-gbm", *_GBM, {"timeframe": "1d"}),
        "gbm-1h": Order("train-gbm", *_GBM, {"timeframe": "1h"}),
        "policy": Order(
            "train-policy",
            "flows.bodies.train_policy:run_train_policy",
            "flows.train_policy:train_policy",
        ),
    }
)
"""Registered model to the flow that trains it."""


def answer(
    run: Run, model: str, trigger: str, window: str, *, as_of: str | None, seed: int
) -> str:
    """Work on a request unless it was answered before.

    Parameters
    ----------
    run : Run
        Where to read and write.
    model, trigger, window : str
        What makes it the request it is.
    as_of : str or None
        What the training may know; the time of the request if None.
    seed : int
        Of the training.

    Raises
    ------
    RefusedError
        If another process works on it, there is no such alarm, or the training refused.
    LakehouseError
        If the training failed; the request is closed. If its process was killed, the
        request stays open, and the next delivery goes on with it.
    """
    lake = run.workplace.lake
    # An event's own words decide nothing: the report is read.
    alarm = None if trigger != "drift" else alarm_at(lake, model, parse_moment(window))
    request = enter_request(run, model=model, trigger=trigger, window=window)
    with held(run.workplace.state / "retrain", request) as lock:
        # Under the lock: it may have ended since.
        request = find_request(lake, request.request_id) or request
        if request.outcome is not None:
            run.count("requests_repeated", 1)
            line = f"{model}: this request was answered: {request.outcome['message']}"
            if trigger == "manual":
                run.notes.append("another --window NAME asks anew")
            _tell_completed(run, request, window)
            return line
        run.count("requests", 1)
        if alarm is not None:
            reaction = decide_reaction(run, alarm, request)
            if reaction.action == "rollback":
                return _ask_rollback(run, request, reaction.why, cause=alarm.cause)
            if reaction.action == "wait":
                close_request(run, request, status="waiting", message=reaction.why)
                return f"{model}: {reaction.why}"
        return _train(run, request, window, as_of=as_of, seed=seed, lock=lock)


def _ask_rollback(run: Run, request: Request, why: str, *, cause: str) -> str:
    payload = {"model": request.model_name, "why": why, "cause": cause}
    resource = model_resource(request.model_name)
    message = f"rollback: {why}"
    # Told before it is closed: a run that is killed between tells it again, and a
    # rollback that is asked for twice is made once, by its cooldown.
    if not announce(run, ROLLBACK_REQUESTED, resource=resource, payload=payload):
        run.notes.append(
            f"no server to ask: alphalake rollback --model {request.model_name}"
        )
    close_request(run, request, status="rollback", message=message)
    return f"{request.model_name}: {message}"


def _train(
    run: Run,
    request: Request,
    window: str,
    *,
    as_of: str | None,
    seed: int,
    lock: int,
) -> str:
    moment = as_of or request.requested_at.isoformat()
    order = _order(run, request.model_name, as_of=moment, seed=seed)
    try:
        done = run_isolated(order, keep_open=[lock])
    except RunLostError:
        raise  # unfinished: the next delivery, or the schedule, goes on with it
    except LakehouseError as error:
        status = "refused" if isinstance(error, RefusedError) else "failed"
        close_request(run, request, status=status, message=str(error), as_of=moment)
        raise
    closed = close_request(
        run,
        request,
        status="trained",
        message=done.message,
        as_of=moment,
        training_run_id=done.run_id,
        versions=_versions(run, request, done.run_id),
        is_told=False,
    )
    run.count("trained", 1)
    _tell_completed(run, closed, window)
    return f"{request.model_name}: {done.message}"


def _order(run: Run, model: str, *, as_of: str, seed: int) -> Order:
    # With the newest search's settings, which the training takes by itself; else with
    # the champion's own, so that only what was seen differs.
    order = TRAINERS[model]
    champion = read_registry(run.workplace.lake).champion(model)
    stored = {} if champion is None else champion.manifest.get("config", {})
    if "model" not in stored:
        stored = {}  # a policy's description is no setting of its training
    settings = {name: stored[name] for name in stored if name not in {"model", "seed"}}
    chosen: dict[str, Any] = {"as_of": as_of, "seed": seed}
    if settings:
        learner = stored["model"]
        root, until = run.workplace.root, parse_moment(as_of)
        searched = tuned_config(root, model=model, learner=learner, until=until)
        chosen |= {"learner": learner, "config": settings if searched is None else None}
    return replace(order, parameters={**order.parameters, **chosen})


def _versions(run: Run, request: Request, training_run_id: str) -> list[str]:
    # Those of this training; of an earlier, killed attempt at it if they were entered.
    versions = read_registry(run.workplace.lake).versions(request.model_name)
    own = [one.version for one in versions if one.run_id == training_run_id]
    since = [
        one.version for one in versions if one.registered_at >= request.requested_at
    ]
    return own or since


def _tell_completed(run: Run, request: Request, window: str) -> None:
    outcome = dict(request.outcome or {})
    if outcome.get("status") != "trained" or outcome["is_told"]:
        return
    payload = {
        "model": request.model_name,
        "window": window,
        "request_id": request.request_id,
        "versions": outcome["versions"],
    }
    resource = model_resource(request.model_name)
    if announce(run, RETRAIN_COMPLETED, resource=resource, payload=payload):
        close_request(run, request, **{**outcome, "is_told": True})
    elif read_registry(run.workplace.lake).challenger(request.model_name):
        run.notes.append(f"next: alphalake compare --model {request.model_name}")
