"""One locked DuckDB over the files of pinned table versions.

Tables are opened when a statement first names them, so that a session over many tables
starts at once; a statement that needs more than is open gets a new locked database, as
the list of readable files cannot grow after the lock. Whatever passes the gate, the
database itself can reach only those files, loads nothing and keeps its settings.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock, Timer
from typing import Any, Final

import duckdb
import pyarrow as pa

from lakehouse.errors import LakehouseError, QueryError
from lakehouse.schema._spec import TableSpec
from lakehouse.schema.catalogue import TABLES
from lakehouse.sql.gate import CheckedQuery, check_query, explain_error
from lakehouse.sql.pinning import Snapshot, snapshot
from lakehouse.sql.relations import (
    LATEST,
    NAMES,
    VIEWS,
    comments,
    create_view,
    declared_columns,
    latest_columns,
    latest_rows,
    literal,
    owner,
    parquet_files,
    quoted,
    unopened_columns,
)
from lakehouse.storage.location import Location

Parameters = Sequence[Any] | Mapping[str, Any] | None
_VERSION_KEY: Final = b"delta_version"
_KEPT: Final = "kept"  # schema of newest rows held in memory, out of sight


def lakeless_connection(
    *, threads: int | None = None, memory_limit: str | None = None
) -> duckdb.DuckDBPyConnection:
    """Return an empty in-memory database that loads no extension and no variable."""
    spill = Path(tempfile.gettempdir()) / f"alphalake-sql-{uuid.uuid4().hex}"
    config: dict[str, Any] = {
        "threads": threads or os.cpu_count() or 1,
        "temp_directory": str(spill),
        "python_enable_replacements": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if memory_limit is not None:
        config["memory_limit"] = memory_limit
    try:
        connection = duckdb.connect(":memory:", config=config)
    except duckdb.Error as error:
        raise QueryError(explain_error(error, "")) from error
    connection.execute("SET TimeZone = 'UTC'")
    return connection


class Engine:
    """The database behind one session.

    Parameters
    ----------
    location : Location
        Root of the lake.
    versions : mapping of str to int
        Pinned versions; declared tables that are absent are empty.
    tables : collection of str
        Tables that the session offers.
    threads : int, optional
        Worker threads; all processors by default.
    memory_limit : str, optional
        DuckDB size, e.g. `4GB`; beyond it results spill to a temporary folder.
    """

    def __init__(
        self,
        location: Location,
        versions: Mapping[str, int],
        *,
        tables: Collection[str],
        threads: int | None = None,
        memory_limit: str | None = None,
    ) -> None:
        self._location = location
        self._versions = versions
        self._threads = threads
        self._memory_limit = memory_limit
        self._lock = Lock()
        self._needs: dict[str, frozenset[str]] = {}
        self._open: frozenset[str] = frozenset()
        self._is_locked = False
        self._is_documented = False
        self._connection = self._connect()
        self._known = self._offered(frozenset(tables))

    def run(
        self, sql: str, params: Parameters = None, *, timeout_s: float | None = None
    ) -> pa.Table:
        """Check a statement, open what it names and run it.

        Parameters
        ----------
        sql : str
            One reading statement.
        params : sequence or mapping, optional
            Values of its `?` or `$name`.
        timeout_s : float, optional
            Seconds after which it is interrupted.

        Raises
        ------
        QueryRefusedError
            If it would do anything but read the lake.
        QueryError
            If it is wrong, or takes too much time or memory.
        """
        with self._lock:
            checked = check_query(self._connection, sql, self._known)
            self._prepare(checked)
            return self._fetch(checked.text, params, timeout_s)

    def close(self) -> None:
        """Close the database and drop what it spilled."""
        with self._lock:
            self._disconnect()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        return lakeless_connection(
            threads=self._threads, memory_limit=self._memory_limit
        )

    def _disconnect(self) -> None:
        with suppress(duckdb.Error):
            rows = self._connection.execute(
                "SELECT current_setting('temp_directory')"
            ).fetchall()
            self._connection.close()
            shutil.rmtree(rows[0][0], ignore_errors=True)

    def _offered(self, tables: frozenset[str]) -> frozenset[str]:
        if tables == TABLES.keys():
            return NAMES
        latest = {name for name, spec in LATEST.items() if spec.name in tables}
        return frozenset(
            tables
            | latest
            | {name for name in VIEWS if self._base_tables({name}) <= tables}
        )

    def _closure(self, names: Iterable[str]) -> list[str]:
        # Names and all that they are made of, each after what it needs.
        ordered: dict[str, None] = {}
        for name in sorted(names):
            for needed in self._closure(self._needed(name)):
                ordered[needed] = None
            ordered[name] = None
        return list(ordered)

    def _needed(self, name: str) -> frozenset[str]:
        if name in LATEST:
            return frozenset({LATEST[name].name})
        if name not in VIEWS:
            return frozenset()
        if name not in self._needs:
            view = VIEWS[name][1]
            self._needs[name] = check_query(self._connection, view.sql, NAMES).relations
        return self._needs[name]

    def _base_tables(self, names: Iterable[str]) -> frozenset[str]:
        return frozenset(name for name in self._closure(names) if name in TABLES)

    def _prepare(self, checked: CheckedQuery) -> None:
        needs_comments = checked.is_about_catalogue
        is_open = self._is_locked and checked.relations <= self._open
        if is_open and (self._is_documented or not needs_comments):
            return
        wanted = self._open | checked.relations
        if self._is_locked:
            self._disconnect()
            self._connection, self._is_locked = self._connect(), False
            self._open, self._is_documented = frozenset(), False
        self._build(wanted, has_comments=needs_comments)
        self._open, self._is_documented = wanted, needs_comments

    def _build(self, wanted: frozenset[str], *, has_comments: bool) -> None:
        found = {
            name: snapshot(self._location, name, self._versions[name])
            for name in sorted(self._base_tables(wanted) & self._versions.keys())
        }
        try:
            self._restrict(found)
            opened = self._closure(wanted)
            for name in opened:
                self._offer(name, found)
            if has_comments:
                self._document(frozenset(opened))
            self._connection.execute("SET lock_configuration = true")
        except duckdb.Error as error:
            self._is_locked = True  # never used again as it is
            raise QueryError(explain_error(error, "")) from error
        self._is_locked = True

    def _restrict(self, found: Mapping[str, Snapshot]) -> None:
        files = [path for table in found.values() for path in table.files]
        allowed = [] if self._location.is_remote else files
        self._connection.execute(
            f"SET allowed_paths = [{', '.join(map(literal, allowed))}]"
        )
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute(f"CREATE SCHEMA {_KEPT}")

    def _offer(self, name: str, found: Mapping[str, Snapshot]) -> None:
        if name in TABLES:
            self._offer_table(TABLES[name], found.get(name))
        elif name in LATEST:
            self._offer_latest(name, LATEST[name])
        else:
            self._connection.execute(create_view(name, VIEWS[name][1].sql))

    def _offer_table(self, spec: TableSpec, found: Snapshot | None) -> None:
        if found is None or not found.files:
            query = declared_columns(spec.columns, (), None)
            self._connection.execute(create_view(spec.name, query))
            return
        relation = self._relation(spec, found)
        query = declared_columns(spec.columns, found.columns, relation)
        try:
            self._connection.execute(create_view(spec.name, query))
        except duckdb.BinderException:
            # The table has gained columns that none of these files carries yet.
            names = f"SELECT * FROM {relation} LIMIT 0"  # noqa: S608 -- quoted names
            present = self._connection.sql(names).columns
            query = declared_columns(spec.columns, present, relation)
            self._connection.execute(create_view(spec.name, query))

    def _relation(self, spec: TableSpec, found: Snapshot) -> str:
        if not self._location.is_remote:
            return parquet_files(found.files)
        from pyarrow import dataset  # here, because only object stores pay for it

        # Not delta-rs's own dataset: it takes a column without statistics for one
        # without a matching row.
        declared = spec.to_arrow()
        names = [name for name in declared.names if name in found.columns]
        files = dataset.dataset(
            list(found.files),
            schema=pa.schema([declared.field(name) for name in names]),
            format="parquet",
            filesystem=self._location.filesystem,
        )
        self._connection.register(f"__{spec.name}", files)
        return quoted(f"__{spec.name}")

    def _offer_latest(self, name: str, spec: TableSpec) -> None:
        latest = spec.latest
        if latest is None:
            return
        kept = self._kept_rows(spec)
        if kept is None:
            query = latest_rows(spec, latest)
        else:
            stored = f"{_KEPT}.{quoted(name)}"
            self._connection.register("__kept", kept)
            self._connection.execute(f"CREATE TABLE {stored} AS FROM __kept")
            self._connection.unregister("__kept")
            columns = latest_columns(spec, latest)
            query = declared_columns(columns, kept.column_names, stored)
        self._connection.execute(create_view(name, query))

    def _kept_rows(self, spec: TableSpec) -> pa.Table | None:
        # The kept newest rows, if they stand for the very version that is pinned.
        path = self._location.path("latest", f"{spec.name}.arrow")
        try:
            payload = self._location.read_bytes(path)
            if payload is None:
                return None
            rows = pa.ipc.open_file(pa.BufferReader(payload)).read_all()
            version = int((rows.schema.metadata or {})[_VERSION_KEY])
        except (LakehouseError, pa.ArrowInvalid, KeyError, ValueError):
            return None
        return rows if version == self._versions.get(spec.name) else None

    def _document(self, opened: frozenset[str]) -> None:
        # Every relation with its columns and comments; those not opened cannot be run.
        for name in self._closure(self._known):
            if name in opened:
                continue
            spec = owner(name)
            if name in VIEWS:
                query = VIEWS[name][1].sql
            elif name in LATEST and spec.latest is not None:
                query = unopened_columns(latest_columns(spec, spec.latest))
            else:
                query = unopened_columns(spec.columns)
            self._connection.execute(create_view(name, query))
        rows = self._connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns()"
            " WHERE NOT internal AND schema_name = 'main'"
            " AND NOT starts_with(table_name, '__')"
        ).fetchall()
        columns_of: dict[str, list[str]] = {}
        for table, column in rows:
            columns_of.setdefault(table, []).append(column)
        self._connection.execute(";".join(comments(columns_of)))

    def _located(
        self, error: duckdb.Error, sql: str, params: Parameters
    ) -> duckdb.Error:
        # A relation's error lacks the place in the text; a statement's has it.
        if not isinstance(error, duckdb.BinderException | duckdb.CatalogException):
            return error
        try:
            self._connection.execute(sql, params)
            self._connection.abort()
        except duckdb.Error as again:
            return again
        return error

    def _fetch(self, sql: str, params: Parameters, timeout_s: float | None) -> pa.Table:
        timer = Timer(timeout_s, self._connection.interrupt) if timeout_s else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            return self._connection.sql(sql, params=params).to_arrow_table()
        except duckdb.InterruptException as error:
            raise QueryError(f"stopped after {timeout_s:g} s") from error
        except duckdb.Error as error:
            located = self._located(error, sql, params)
            raise QueryError(explain_error(located, sql)) from error
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise QueryError(str(error).partition("\n")[0]) from error
        finally:
            if timer is not None:
                timer.cancel()
                timer.join()
