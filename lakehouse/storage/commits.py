"""One Delta table, opened once, and the compare-and-swap that every write goes through.

A commit names the version it was planned on and succeeds only if it becomes the very
next one (`max_commit_retries=0`); else the writer looks again at what others did and
plans anew. So whatever was checked before a commit (is this window done, are these
keys stored) still holds when it lands. Data files that were already written are used
again by the next attempt.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Field, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from lakehouse.clock import Clock
from lakehouse.errors import CommitConflictError, StoreError, UnsupportedTableError
from lakehouse.schema._spec import TableSpec
from lakehouse.settings import load_settings
from lakehouse.storage.keys import column_codes
from lakehouse.storage.location import Location

NOW_KEY: Final = "alphalake.now"
CONFIGURATION: Final = {
    # Windows older than this are known by their rows' keys only.
    "delta.setTransactionRetentionDuration": "interval 400 days",
    # How far back a run's pinned versions can be replayed.
    "delta.logRetentionDuration": "interval 180 days",
    "delta.deletedFileRetentionDuration": "interval 7 days",
    "delta.checkpointInterval": "50",
}
_UNREADABLE: Final = frozenset({"deletionVectors", "columnMapping"})
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A data file of one version of a table."""

    path: str
    size: int
    n_rows: int


class TableHandle:
    """A table of a lake that may not exist yet.

    Not safe for threads by itself; `Lake` holds one lock per table.
    """

    def __init__(self, location: Location, spec: TableSpec, clock: Clock) -> None:
        self.location = location
        self.spec = spec
        self._clock = clock
        self._delta: DeltaTable | None = None
        self._checked_version = -1
        self._actions: tuple[int, Any] = (-1, None)

    def refresh(self) -> DeltaTable | None:
        """Return the table at its newest version; None when it was never written."""
        try:
            if self._delta is None:
                self._delta = self._open()
            else:
                self._delta.update_incremental()
        except TableNotFoundError:
            self._delta = None
        except (DeltaError, OSError) as error:
            self._delta = None
            raise StoreError(
                f"table {self.spec.name}: cannot be opened: {error}"
            ) from error
        if self._delta is not None:
            self._check_protocol(self._delta)
        return self._delta

    def at(self, version: int) -> DeltaTable:
        """Open the table at an older version."""
        try:
            found = self._open(version)
        except (DeltaError, OSError) as error:
            raise StoreError(
                f"table {self.spec.name}: version {version} cannot be opened: {error}"
            ) from error
        check_protocol(found, self.spec.name)
        return found

    def _open(self, version: int | None = None) -> DeltaTable:
        return DeltaTable(
            self.location.table_uri(self.spec.name),
            version=version,
            storage_options=self.location.storage_options or None,
        )

    def _check_protocol(self, delta: DeltaTable) -> None:
        if delta.version() != self._checked_version:
            check_protocol(delta, self.spec.name)
            self._checked_version = delta.version()

    def ensure(self) -> DeltaTable:
        """Return the table at its newest version, created or widened as declared."""
        found = self.refresh()
        if found is None:
            self._create()
            found = self.refresh()
        if found is None:
            raise StoreError(f"table {self.spec.name}: created, but cannot be opened")
        stored = {field.name for field in found.schema().fields}
        if missing := [c.name for c in self.spec.columns if c.name not in stored]:
            found = self._add_columns(found, missing)
        return found

    def _create(self) -> None:
        try:
            DeltaTable.create(
                self.location.table_uri(self.spec.name),
                Schema.from_arrow(self.spec.to_arrow()),
                mode="ignore",
                name=self.spec.name,
                description=self.spec.description,
                configuration=CONFIGURATION,
                storage_options=self.location.storage_options or None,
                commit_properties=self._properties(()),
            )
        except CommitFailedError:
            return  # another writer created it first
        except (DeltaError, OSError) as error:
            raise StoreError(
                f"table {self.spec.name}: cannot be created: {error}"
            ) from error

    def _add_columns(self, found: DeltaTable, names: Sequence[str]) -> DeltaTable:
        # A column declared after rows were stored is unknown for them: nullable on disk.
        declared = Schema.from_arrow(
            pa.schema(
                [
                    self.spec.column(n).to_field().with_nullable(nullable=True)
                    for n in names
                ]
            )
        )
        fields = [Field(f.name, f.type, nullable=True) for f in declared.fields]
        try:
            found.alter.add_columns(fields, commit_properties=self._properties(()))
        except (DeltaError, OSError) as error:
            refreshed = self.refresh()
            stored = {f.name for f in refreshed.schema().fields} if refreshed else set()
            if not set(names) <= stored:
                raise StoreError(
                    f"table {self.spec.name}: cannot add {', '.join(names)}: {error}"
                ) from error
        return self.refresh() or found

    def _properties(self, windows: Sequence[str]) -> CommitProperties:
        written_at = int(time.time() * 1000)
        return CommitProperties(
            custom_metadata={NOW_KEY: self._clock.now().astimezone(UTC).isoformat()},
            max_commit_retries=0,
            app_transactions=[Transaction(w, 1, written_at) for w in windows],
        )

    def has_windows(self, delta: DeltaTable, windows: Sequence[str]) -> list[bool]:
        """Return which windows the table's log names."""
        return [delta.transaction_version(w) is not None for w in windows]

    def actions(self, delta: DeltaTable) -> Any:
        """Return the data files with their bounds, one row each (pyarrow.Table)."""
        version = delta.version()
        if self._actions[0] != version:
            # `pa.table` would import pandas to see whether this is a data frame.
            actions = delta.get_add_actions(flatten=True)
            stream = pa.RecordBatchReader.from_stream(actions)
            self._actions = (version, stream.read_all())
        return self._actions[1]

    def files(self, delta: DeltaTable) -> list[StoredFile]:
        """Return every data file."""
        return stored_files(self.actions(delta))

    def files_touching(self, delta: DeltaTable, rows: pa.Table) -> list[StoredFile]:
        """Return the files whose bounds leave room for a key of `rows`."""
        actions = self.actions(delta)
        mask = np.ones(actions.num_rows, dtype=np.bool_)
        for name in dict.fromkeys((self.spec.time or self.spec.key[0], *self.spec.key)):
            if not mask.any() or not rows.num_rows:
                break
            mask &= _overlaps(actions, rows, name)
        return stored_files(actions.filter(pa.array(mask)))

    def commit(
        self,
        delta: DeltaTable,
        *,
        adds: Sequence[AddAction],
        removes: Sequence[StoredFile] = (),
        windows: Sequence[str] = (),
        data_change: bool = True,
    ) -> int:
        """Commit as the version after `delta`'s; return it.

        Raises
        ------
        deltalake.exceptions.CommitFailedError
            If another writer took that version; caught by `with_retries`.
        """
        version = delta.version() + 1
        removed_at = int(time.time() * 1000)
        gone = [
            RemoveAction(f.path, data_change, removed_at, f.size, {}) for f in removes
        ]
        try:
            delta.create_write_transaction(
                [*adds, *gone],
                "append",
                delta.schema(),
                commit_properties=self._properties(windows),
            )
        except CommitFailedError:
            raise
        except (DeltaError, OSError) as error:
            raise StoreError(
                f"table {self.spec.name}: cannot commit: {error}"
            ) from error
        return version


def with_retries(table: str, attempt: Callable[[], _T]) -> _T:
    """Call `attempt` until no other writer gets in between.

    Raises
    ------
    CommitConflictError
        After `max_commit_retries` attempts.
    """
    attempts = load_settings().max_commit_retries
    for delay in _delays(attempts):
        try:
            return attempt()
        except CommitFailedError:
            time.sleep(delay)
    raise CommitConflictError(
        f"table {table}: other writers won {attempts} times in a row; nothing written"
    )


def _delays(attempts: int) -> Iterator[float]:
    for n in range(attempts):
        yield random.uniform(0.0, min(0.5, 0.005 * 1.5**n))  # noqa: S311


def check_protocol(delta: DeltaTable, table: str) -> None:
    """Refuse a table whose files cannot be read plainly.

    Raises
    ------
    UnsupportedTableError
        If it uses deletion vectors or column mapping.
    """
    protocol = delta.protocol()
    used = set(protocol.reader_features or ()) & _UNREADABLE
    mode = delta.metadata().configuration.get("delta.columnMapping.mode", "none")
    if mode not in (None, "none"):
        used.add("columnMapping")
    if used:
        raise UnsupportedTableError(
            f"table {table}: written with {', '.join(sorted(used))}, which plain file "
            "readers misread; rewrite it without"
        )


def stored_files(actions: pa.Table) -> list[StoredFile]:
    """Return the files of an add-action table."""
    return [
        StoredFile(path, size, n_rows or 0)
        for path, size, n_rows in zip(
            (unquote(path) for path in actions.column("path").to_pylist()),
            actions.column("size_bytes").to_pylist(),
            actions.column("num_records").to_pylist(),
            strict=True,
        )
    ]


def _overlaps(actions: pa.Table, rows: pa.Table, name: str) -> Any:
    """Tell which files may hold one of `rows`' values of column `name`."""
    if f"min.{name}" not in actions.column_names:
        return np.ones(actions.num_rows, dtype=np.bool_)
    least, most = actions.column(f"min.{name}"), actions.column(f"max.{name}")
    values = rows.column(name)
    if pa.types.is_dictionary(values.type):
        values = pc.unique(values).cast(values.type.value_type)
        values = pa.chunked_array([values])
    if pa.types.is_timestamp(values.type):
        return _holds_a_moment(least, most, values)
    bounds = pc.min_max(values).as_py()
    if bounds["min"] is None:
        return np.ones(actions.num_rows, dtype=np.bool_)
    inside = pc.and_(
        pc.less_equal(least, bounds["max"]), pc.greater_equal(most, bounds["min"])
    )
    return pc.fill_null(inside, fill_value=True).to_numpy(zero_copy_only=False)


def _holds_a_moment(least: Any, most: Any, values: pa.ChunkedArray) -> Any:
    kind = pa.timestamp("us", "UTC")
    unknown = pc.or_(pc.is_null(least), pc.is_null(most)).to_numpy()
    lows = column_codes(least.cast(kind))
    highs = column_codes(most.cast(kind))
    moments = np.sort(column_codes(values))
    spots = np.searchsorted(moments, lows)
    has_one = spots < len(moments)
    has_one &= moments[np.minimum(spots, len(moments) - 1)] <= highs
    return has_one | unknown
