"""The one write path: rows are checked against their declaration, then committed once.

What holds after every call, whatever was killed or repeated:

- A *window* (`flow/table/2024-01-01T10`) is stored once. Its name is in the commit
  itself; a second append of it changes nothing. A window so late that the log has
  forgotten it is recognised row by row by its keys.
- A key is stored once. Every commit is planned on one version and lands only as the
  next one, so two writers cannot both find a key absent.
- Readers see whole commits. Data files written by a killed writer are named by no
  commit and go with the next vacuum.

On a local disk this covers killed processes, not power loss: nothing is fsynced.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from lakehouse.clock import Clock
from lakehouse.errors import InputError, VersionNotFoundError
from lakehouse.schema.catalogue import table_spec
from lakehouse.storage.commits import StoredFile, TableHandle
from lakehouse.storage.files import read_files
from lakehouse.storage.latest import LatestTable
from lakehouse.storage.location import Location
from lakehouse.storage.writes import AppendWrite, Commit, ReplaceWrite, UpsertWrite

__all__ = ["Commit", "Lake"]


@dataclass(slots=True)
class _Opened:
    handle: TableHandle
    latest: LatestTable | None
    lock: threading.RLock = field(default_factory=threading.RLock)


class Lake:
    """Tables under one root.

    Safe for threads; writers in other processes and on other machines are expected.

    Attributes
    ----------
    root : str
        Folder or `s3://bucket/prefix`.
    clock : Clock
        Each commit carries its time as `alphalake.now`.
    storage_options : dict of str to str
        delta-rs options; empty for a folder.
    """

    def __init__(self, location: Location, clock: Clock) -> None:
        self.location = location
        self.root = location.root
        self.clock = clock
        self.storage_options = location.storage_options
        self._tables: dict[str, _Opened] = {}
        self._lock = threading.Lock()
        self._is_probed = False

    @classmethod
    def open(cls, root: str, *, clock: Clock) -> "Lake":
        """Open a root; nothing is created or read.

        Raises
        ------
        InputError
            If the root is neither a folder nor an `s3://` URI.
        """
        return cls(Location.of(root), clock)

    def _opened(self, table: str) -> _Opened:
        with self._lock:
            if table not in self._tables:
                spec = table_spec(table)
                handle = TableHandle(self.location, spec, self.clock)
                latest = LatestTable(handle) if spec.latest is not None else None
                self._tables[table] = _Opened(handle, latest)
            return self._tables[table]

    @contextmanager
    def hold(self, table: str) -> Iterator[tuple[TableHandle, LatestTable | None]]:
        """Hold one table's handle and newest rows: for `lakehouse.maintenance`."""
        opened = self._writable(table)
        with opened.lock:
            yield opened.handle, opened.latest

    def _writable(self, table: str) -> _Opened:
        opened = self._opened(table)
        with self._lock:
            if self.location.is_remote and not self._is_probed:
                from lakehouse.storage.probe import require_conditional_put

                require_conditional_put(self.location)
                self._is_probed = True
        return opened

    def append(
        self, table: str, rows: pa.Table, *, window: str | Sequence[str]
    ) -> Commit:
        """Store new rows, exactly once per window.

        Parameters
        ----------
        table : str
            A declared table.
        rows : pyarrow.Table
            Fits the declaration. May be empty: the window is then done without rows.
        window : str or sequence of str
            Names that end in the logical window; one commit may carry many. When only
            some are done, the rows of these are recognised by their keys.

        Raises
        ------
        SchemaError
            If rows do not fit, or a key is stored with different content.
        CommitConflictError
            If other writers kept winning.
        """
        opened = self._writable(table)
        with opened.lock:
            return AppendWrite(opened.handle, opened.latest, rows, window).run()

    def upsert(
        self, table: str, rows: pa.Table, *, window: str | None = None
    ) -> Commit:
        """Insert rows or replace the stored rows of equal key.

        Only files that hold a changed key are rewritten. Rows stored already with
        equal content are left alone.

        Raises
        ------
        SchemaError
            If rows do not fit the declaration.
        RefusedError
            If the table is append-only.
        CommitConflictError
            If other writers kept winning.
        """
        opened = self._writable(table)
        with opened.lock:
            return UpsertWrite(opened.handle, opened.latest, rows, window).run()

    def replace(
        self,
        table: str,
        rows: pa.Table,
        *,
        predicate: str | None = None,
        window: str | None = None,
    ) -> Commit:
        """Replace the whole table, or the rows for which `predicate` holds.

        Parameters
        ----------
        table : str
            A declared table.
        rows : pyarrow.Table
            With a predicate, each row must satisfy it.
        predicate : str, optional
            SQL over the table's columns, e.g. `run_id = 'r1'`. Stored rows for which
            it is null stay.
        window : str, optional
            Done once, as in `append`.

        Raises
        ------
        SchemaError
            If rows do not fit the declaration or the predicate, or a key is stored
            outside the predicate.
        RefusedError
            If the table is append-only.
        CommitConflictError
            If other writers kept winning.
        """
        opened = self._writable(table)
        with opened.lock:
            return ReplaceWrite(
                opened.handle, opened.latest, rows, window, predicate=predicate
            ).run()

    def read(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        filter: Any = None,  # noqa: A002
        version: int | None = None,
    ) -> pa.Table:
        """Read rows of one version.

        Parameters
        ----------
        table : str
            A declared table.
        columns : sequence of str, optional
            All declared ones by default.
        filter : pyarrow.compute.Expression, optional
            Rows to read, e.g. `pc.field("symbol") == "BTC"`.
        version : int, optional
            The newest by default.

        Raises
        ------
        VersionNotFoundError
        """
        opened = self._opened(table)
        spec = opened.handle.spec
        with opened.lock:
            files = self._files(opened, version)
        return read_files(self.location, spec, files, columns=columns, where=filter)

    def _files(self, opened: _Opened, version: int | None) -> list[StoredFile]:
        handle = opened.handle
        delta = handle.refresh()
        newest = delta.version() if delta is not None else -1
        if version is not None and not 0 <= version <= newest:
            raise VersionNotFoundError(
                f"table {handle.spec.name}: no version {version}; newest: "
                f"{newest if newest >= 0 else 'none, never written'}"
            )
        if delta is None:
            return []
        if version is not None and version != newest:
            delta = handle.at(version)
            return TableHandle(self.location, handle.spec, self.clock).files(delta)
        return handle.files(delta)

    def latest(self, table: str) -> pa.Table:
        """Return the newest row per `spec.latest.key`, without `spec.latest.exclude`.

        Raises
        ------
        InputError
            If the table keeps no newest rows.
        """
        opened = self._opened(table)
        if opened.latest is None:
            raise InputError(f"table {table} keeps no newest rows")
        with opened.lock:
            return opened.latest.current()

    def version(self, table: str) -> int | None:
        """Return the newest version; None when the table was never written."""
        opened = self._opened(table)
        with opened.lock:
            delta = opened.handle.refresh()
            return None if delta is None else int(delta.version())

    def has_window(self, table: str, window: str) -> bool:
        """Return whether a window is done, as far back as the log remembers."""
        opened = self._opened(table)
        with opened.lock:
            delta = opened.handle.refresh()
            return delta is not None and all(opened.handle.has_windows(delta, [window]))

    def data_files(self, table: str, *, version: int | None = None) -> list[str]:
        """Return the data files of a version, relative to the table's folder, sorted.

        Raises
        ------
        VersionNotFoundError
        """
        opened = self._opened(table)
        with opened.lock:
            return sorted(file.path for file in self._files(opened, version))

    def table_id(self, table: str) -> str:
        """Return the Delta table's id.

        Raises
        ------
        VersionNotFoundError
            If the table was never written.
        """
        opened = self._opened(table)
        with opened.lock:
            delta = opened.handle.refresh()
            if delta is None:
                raise VersionNotFoundError(f"table {table}: never written")
            return str(delta.metadata().id)
