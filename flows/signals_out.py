"""Tell the world what a run found: an event on the Prefect server, a telemetry row always.

An event is a nudge, never the truth: whoever it wakes reads the lake. It may be
delivered twice or not at all, so what follows from it happens once by its own key, and
`retrain` on its schedule finds what no event told.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import pyarrow.compute as pc

from flows.runs import Run
from flows.telemetry import telemetry_rows
from lakehouse.clock import Clock
from lakehouse.errors import InputError
from lakehouse.store import Lake

DRIFT_DETECTED: Final = "alphalake.drift.detected"
RETRAIN_COMPLETED: Final = "alphalake.retrain.completed"
COMPARE_DUE: Final = "alphalake.compare.due"
ROLLBACK_REQUESTED: Final = "alphalake.rollback.requested"
_RESOURCE: Final = "alphalake.model."


def model_resource(model_name: str) -> str:
    """Return the resource of a registered model's events."""
    return f"{_RESOURCE}{model_name}"


def announce(
    run: Run, event: str, *, resource: str, payload: Mapping[str, Any]
) -> bool:
    """Tell what a run found, once per run, event and resource.

    Parameters
    ----------
    run : Run
        Who tells it. Only the run of a Prefect server sends an event.
    event : str
        Dotted name, e.g. `alphalake.drift.detected`.
    resource : str
        What it is about, e.g. `alphalake.model.winprob`.
    payload : mapping
        JSON: what whoever is woken must know to look it up, such as `model` and
        `window`.

    Returns
    -------
    bool
        Whether the server took the event. If not, the run's notes say so.

    Raises
    ------
    InputError
        If the payload is not JSON.

    Notes
    -----
    Point in time: the telemetry row carries the run's clock, the event the wall's, as
    everything of Prefect does. Told again by the same run, the event keeps its id, so
    the server counts it once.
    """
    try:
        text = json.dumps(
            dict(payload), sort_keys=True, separators=(",", ":"), allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"event {event}: payload is not JSON: {error}") from error
    is_sent = run.steps.prefect_run_id is not None and _send(
        run, event, resource=resource, payload=json.loads(text)
    )
    rows = telemetry_rows(
        {_metric(event, resource): (1.0, "1")},
        ts=run.now,
        run_id=run.run_id,
        labels={
            "resource": resource,
            "payload": text,
            "is_sent": json.dumps(is_sent),
        },
    )
    run.append(
        "telemetry",
        rows,
        window=f"{run.flow}/telemetry/{run.run_id}/{event}/{resource}",
    )
    return is_sent


def last_told(lake: Lake, event: str, *, resource: str) -> datetime | None:
    """Return when an event was told last, by the clock; None if it never was."""
    rows = lake.read(
        "telemetry",
        columns=["ts"],
        filter=pc.field("name") == _metric(event, resource),
    )
    return max(rows["ts"].to_pylist(), default=None)


def _metric(event: str, resource: str) -> str:
    return f"{event}.{resource.removeprefix('alphalake.')}"


def _send(run: Run, event: str, *, resource: str, payload: Mapping[str, Any]) -> bool:
    import httpx
    from prefect.client.orchestration import get_client

    name = f"{run.run_id}/{event}/{resource}"
    body = {
        "id": str(UUID(bytes=hashlib.sha256(name.encode()).digest()[:16], version=4)),
        "event": event,
        "occurred": Clock().now().isoformat(),
        "resource": {"prefect.resource.id": resource},
        "related": [
            {
                "prefect.resource.id": f"prefect.flow-run.{run.steps.prefect_run_id}",
                "prefect.resource.role": "flow-run",
            }
        ],
        "payload": dict(payload),
    }
    try:
        with get_client(sync_client=True) as client:
            client.request("POST", "/events", json=[body]).raise_for_status()
    except httpx.HTTPError as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        run.notes.append(f"event {event} of {resource} was not taken: {first}")
        return False
    return True
