"""One run of a flow body: pinned reads, idempotent writes, a manifest at the end.

The body of a flow is a plain function `body(run, **parameters) -> str`; it reads and
writes only through its `Run` and returns one line about the outcome. Where it runs,
under a Prefect server or without one, is decided by the `Steps` it is given.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from flows.manifests import RunManifest, Status
from flows.telemetry import telemetry_rows
from flows.wiring import Workplace
from lakehouse.errors import (
    CommitConflictError,
    LakehouseError,
    RefusedError,
    SourceUnavailableError,
)
from lakehouse.schema.catalogue import table_spec
from lakehouse.store import Commit

T = TypeVar("T")
FETCH_WAITS_S = (1.0, 3.0)
COMMIT_WAITS_S = (0.5, 2.0, 5.0)


class Steps(Protocol):
    """How the two steps that may be retried are run."""

    prefect_run_id: str | None

    def fetch(self, call: Callable[[], T]) -> T:
        """Run `call`, again while its source is unavailable."""

    def commit(self, call: Callable[[], T]) -> T:
        """Run `call`, again while another writer wins."""


class PlainSteps:
    """Steps of a run without a Prefect server."""

    prefect_run_id: str | None = None

    def fetch(self, call: Callable[[], T]) -> T:
        """Run `call`, again while its source is unavailable."""
        return _retry(call, SourceUnavailableError, FETCH_WAITS_S)

    def commit(self, call: Callable[[], T]) -> T:
        """Run `call`, again while another writer wins."""
        return _retry(call, CommitConflictError, COMMIT_WAITS_S)


def _retry(
    call: Callable[[], T], wanted: type[Exception], waits_s: Sequence[float]
) -> T:
    for wait_s in waits_s:
        try:
            return call()
        except wanted:
            time.sleep(wait_s)
    return call()


@dataclass(slots=True)
class Run:
    """What a flow body works with.

    Attributes
    ----------
    workplace : Workplace
        Lake, keys and clock.
    flow : str
        Base name of the flow.
    run_id : str
        Name of this run, on every row it writes.
    steps : Steps
        How fetches and commits are run.
    parameters, seeds : dict
        What goes into the manifest; a body puts the resolved values here.
    tables_read, tables_written : dict of str to int
        Table to version. Each table is read at the one version first pinned.
    counts : dict of str to int
        Rows read, good, quarantined, written, ...
    notes : list of str
        Lines for the user, beside the outcome.
    is_replay : bool
        Read only what `tables_read` pins; any other table was empty then.
    absent : set of str
        Tables that did not exist when they were first read.
    """

    workplace: Workplace
    flow: str
    run_id: str
    steps: Steps = field(default_factory=PlainSteps)
    parameters: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    tables_read: dict[str, int] = field(default_factory=dict)
    tables_written: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    is_replay: bool = False
    absent: set[str] = field(default_factory=set)

    @property
    def now(self) -> datetime:
        """The present, UTC."""
        return self.workplace.clock.now()

    def read(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,  # noqa: A002 - pyarrow's word
    ) -> pa.Table:
        """Read `table` at this run's one version of it."""
        lake = self.workplace.lake
        if table not in self.tables_read:
            is_gone = self.is_replay or table in self.absent
            version = None if is_gone else lake.version(table)
            if version is None:
                # What was absent at the first look stays so, as in a replay.
                self.absent.add(table)
                empty = table_spec(table).to_arrow().empty_table()
                return empty if columns is None else empty.select(list(columns))
            self.tables_read[table] = version
        return lake.read(
            table, columns=columns, filter=filter, version=self.tables_read[table]
        )

    def fetch(self, call: Callable[[], T]) -> T:
        """Ask a source, again while it is unavailable."""
        return self.steps.fetch(call)

    def commit(self, call: Callable[[], T]) -> T:
        """Write through `call`, again while another writer wins."""
        return self.steps.commit(call)

    def append(
        self, table: str, rows: pa.Table, *, window: str | Sequence[str]
    ) -> Commit:
        """Append `rows` once per window."""
        lake = self.workplace.lake
        return self._note(self.commit(lambda: lake.append(table, rows, window=window)))

    def upsert(self, table: str, rows: pa.Table) -> Commit:
        """Insert rows or replace the stored rows of equal key."""
        lake = self.workplace.lake
        return self._note(self.commit(lambda: lake.upsert(table, rows)))

    def replace(self, table: str, rows: pa.Table) -> Commit:
        """Replace the whole table."""
        lake = self.workplace.lake
        return self._note(self.commit(lambda: lake.replace(table, rows)))

    def note_written(self, tables: Sequence[str]) -> None:
        """Record the versions of tables that another module wrote for this run."""
        for table in tables:
            version = self.workplace.lake.version(table)
            if version is not None:
                self.tables_written[table] = version

    def count(self, name: str, value: int) -> None:
        """Add `value` to a count of the manifest."""
        self.counts[name] = self.counts.get(name, 0) + int(value)

    def _note(self, done: Commit) -> Commit:
        self.tables_written[done.table] = done.version
        if done.is_new:
            self.count("rows_written", done.n_rows)
        return done


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, for the caller.

    Attributes
    ----------
    run_id, flow, status, message : str
        As in `runs`.
    counts : dict of str to int
        Rows read, good, quarantined, written, ...
    notes : tuple of str
        Lines for the user.
    parameters : dict
        Resolved parameters.
    """

    run_id: str
    flow: str
    status: str
    message: str
    counts: dict[str, int]
    notes: tuple[str, ...]
    parameters: dict[str, Any]


Body = Callable[..., str]


def execute(
    flow: str,
    body: Body,
    *,
    workplace: Workplace,
    parameters: Mapping[str, Any],
    steps: Steps | None = None,
) -> Outcome:
    """Run a flow body and record it.

    Parameters
    ----------
    flow : str
        Base name of the flow.
    body : callable
        `body(run, **parameters)`, returning one line.
    workplace : Workplace
        Where it works.
    parameters : mapping
        Arguments of the body.
    steps : Steps, optional
        How fetches and commits are retried; plain loops by default.

    Raises
    ------
    LakehouseError
        Whatever the body raised, after the run was recorded as failed or refused.
    """
    run = Run(
        workplace,
        flow,
        f"{flow}-{uuid4().hex[:12]}",
        steps or PlainSteps(),
        parameters=dict(parameters),
    )
    started_at, tick = run.now, time.monotonic()
    try:
        message = body(run, **parameters)
    except BaseException as error:
        status: Status = "refused" if isinstance(error, RefusedError) else "failed"
        # The reason matters more than a record that cannot be written either.
        with suppress(LakehouseError, OSError):
            _record(run, status, _one_line(error), started_at, tick)
        raise
    _record(run, "completed", message, started_at, tick)
    return Outcome(
        run.run_id,
        flow,
        "completed",
        message,
        run.counts,
        tuple(run.notes),
        run.parameters,
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _record(
    run: Run, status: Status, message: str, started_at: datetime, tick: float
) -> None:
    manifest = RunManifest(
        run_id=run.run_id,
        flow=run.flow,
        status=status,
        started_at=started_at,
        finished_at=run.now,
        seconds=time.monotonic() - tick,
        message=message,
        parameters=run.parameters,
        seeds=run.seeds,
        tables_read=run.tables_read,
        tables_written=run.tables_written,
        counts=run.counts,
        prefect_run_id=run.steps.prefect_run_id,
    )
    figures: dict[str, tuple[float, str]] = {
        f"{run.flow}.{name}": (float(n), "1") for name, n in run.counts.items()
    }
    figures[f"{run.flow}.seconds"] = (manifest.seconds, "s")
    figures[f"{run.flow}.is_completed"] = (float(status == "completed"), "1")
    lake, window = run.workplace.lake, run.run_id
    rows = telemetry_rows(figures, ts=manifest.finished_at, run_id=run.run_id)
    run.commit(
        lambda: lake.append("telemetry", rows, window=f"{run.flow}/telemetry/{window}")
    )
    run.commit(
        lambda: lake.append(
            "runs", manifest.to_row(), window=f"{run.flow}/runs/{window}"
        )
    )
