"""Requests to retrain: each entered once, worked on by one process at a time.

A request is a row of `retrain_requests` whose key names model, trigger and window. Of
any number of deliveries of one event, one enters the row. Whoever works on it holds a
file lock, and so does the training's own process; the kernel drops the lock when both
are gone. So a request that is unfinished while its lock is free was left by a killed
process, and whoever finds it goes on with it. Another host does not see the lock; there
the training may be made twice, to the same bytes, which the registry enters once.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from flows.runs import Run
from lab.lifecycle.retraining import request_id
from lakehouse.errors import RefusedError
from lakehouse.schema.lifecycle import RETRAIN_REQUESTS
from lakehouse.store import Lake

TABLE: Final = "retrain_requests"


class UnderWayError(RefusedError):
    """Another process works on the request."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to retrain.

    Attributes
    ----------
    request_id, model_name, trigger : str
        The first is the hash of the others and the window.
    requested_at : datetime
        When it was entered: what the training may know, unless it is told otherwise.
    run_id : str
        Run that worked on it last.
    outcome : mapping or None
        How it ended; None while it has not.
    """

    request_id: str
    model_name: str
    trigger: str
    requested_at: datetime
    run_id: str
    outcome: Mapping[str, Any] | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Request":
        """Return the request of a stored row."""
        said = row["outcome"]
        return cls(**{**row, "outcome": None if said is None else json.loads(said)})

    def to_rows(self) -> pa.Table:
        """Return it as the one row of a table."""
        said = None
        if self.outcome is not None:
            said = json.dumps(dict(self.outcome), sort_keys=True, allow_nan=False)
        row = {
            "request_id": self.request_id,
            "model_name": self.model_name,
            "trigger": self.trigger,
            "requested_at": self.requested_at,
            "outcome": said,
            "run_id": self.run_id,
        }
        return pa.Table.from_pylist([row], schema=RETRAIN_REQUESTS.to_arrow())


def enter_request(run: Run, *, model: str, trigger: str, window: str) -> Request:
    """Enter a request, or return the one that was entered before.

    Parameters
    ----------
    run : Run
        Where to read and write.
    model, trigger, window : str
        What makes it the request it is.

    Raises
    ------
    LifecycleError
        If the trigger is unknown.
    """
    wanted = Request(
        request_id(model, trigger, window), model, trigger, run.now, run.run_id
    )
    lake = run.workplace.lake
    stored = find_request(lake, wanted.request_id)
    if stored is None:
        run.append(
            TABLE, wanted.to_rows(), window=f"retrain/{TABLE}/{wanted.request_id}"
        )
        stored = find_request(lake, wanted.request_id)
    return wanted if stored is None else stored


def find_request(lake: Lake, name: str) -> Request | None:
    """Return the newest state of a request; None if it was never entered."""
    rows = lake.read(TABLE, filter=pc.field("request_id") == name).to_pylist()
    return Request.from_row(rows[0]) if rows else None


def read_requests(lake: Lake, model: str) -> list[Request]:
    """Return every request of a model, oldest first."""
    rows = lake.read(TABLE, filter=pc.field("model_name") == model)
    return [Request.from_row(row) for row in rows.sort_by("requested_at").to_pylist()]


def close_request(run: Run, request: Request, **outcome: Any) -> Request:
    """Write how a request ended.

    Parameters
    ----------
    run : Run
        Who worked on it.
    request : Request
        Which.
    **outcome
        JSON.
    """
    closed = replace(request, run_id=run.run_id, outcome=outcome)
    run.upsert(TABLE, closed.to_rows())
    return closed


@contextmanager
def held(folder: Path, request: Request) -> Iterator[int]:
    """Work on a request while no other process of this host does.

    Parameters
    ----------
    folder : Path
        Where the locks are; made if missing.
    request : Request
        Which.

    Yields
    ------
    int
        Descriptor of the lock, for a child to keep.

    Raises
    ------
    UnderWayError
        If another process works on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{request.request_id}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnderWayError(
                f"{request.model_name}: request {request.request_id} is worked on by"
                " another process"
            ) from error
        yield file.fileno()
