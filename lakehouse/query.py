"""Read-only SQL over the lake, every table at one pinned version.

A session never changes anything and reads nothing but the files of the versions it
pinned: SQL passes a gate (one statement, only kinds of syntax that compute) and runs on
a locked DuckDB that may open exactly those files and no others. The database connection
itself is not handed out.
"""

from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from lakehouse.errors import QueryError, TableNotFoundError
from lakehouse.schema.catalogue import TABLES
from lakehouse.sql.catalogue_file import write_catalogue
from lakehouse.sql.engine import Engine, Parameters
from lakehouse.sql.pinning import open_location, pin_versions, snapshot
from lakehouse.storage.location import Location

if TYPE_CHECKING:
    import polars as pl

__all__ = ["PinnedFiles", "Result", "Session", "connect", "write_catalogue"]

DEFAULT_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class PinnedFiles:
    """Data files of one table at one version.

    Attributes
    ----------
    filesystem : pyarrow.fs.FileSystem
        Opens them.
    paths : tuple of str
        Absolute paths, or keys on an object store.
    """

    filesystem: Any
    paths: tuple[str, ...]


class Result:
    """Rows that a query returned.

    Parameters
    ----------
    rows : pyarrow.Table
        Repeated column names get a number.
    """

    __slots__ = ("_rows",)

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows.rename_columns(_unique(rows.column_names))

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    @property
    def columns(self) -> list[str]:
        """Column names, each once."""
        return list(self._rows.column_names)

    def arrow(self) -> pa.Table:
        """Return an Arrow table; times are `timestamp[us, UTC]`."""
        return self._rows

    def pl(self) -> "pl.DataFrame":
        """Return a Polars frame."""
        import polars as pl

        return pl.DataFrame(self._rows)

    def rows(self) -> list[dict[str, Any]]:
        """Return one dictionary of Python values per row.

        Raises
        ------
        QueryError
            If a time lies outside the years that Python knows.
        """
        try:
            return list(self._rows.to_pylist())
        except (OverflowError, ValueError) as error:
            raise QueryError(f"a value has no Python form: {error}") from error


def _unique(names: list[str]) -> list[str]:
    taken = set(names)
    seen: set[str] = set()
    unique = []
    for name in names:
        number, chosen = 2, name
        while chosen in seen or (chosen != name and chosen in taken):
            chosen, number = f"{name}_{number}", number + 1
        seen.add(chosen)
        unique.append(chosen)
    return unique


class Session:
    """Read-only SQL over pinned table versions; made by `connect`.

    One statement runs at a time: give each thread a session of its own.
    """

    def __init__(
        self,
        location: Location,
        versions: dict[str, int],
        *,
        tables: Collection[str],
        threads: int | None,
        memory_limit: str | None,
        timeout_s: float | None,
    ) -> None:
        self._location = location
        self._versions = versions
        self._tables = frozenset(tables)
        self._timeout_s = timeout_s
        self.__engine = Engine(
            location,
            versions,
            tables=self._tables,
            threads=threads,
            memory_limit=memory_limit,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def versions(self) -> dict[str, int]:
        """Pinned Delta version per table; tables without rows to read are absent."""
        return dict(self._versions)

    def sql(self, query: str, params: Parameters = None) -> Result:
        """Run one reading statement.

        Parameters
        ----------
        query : str
            SELECT (also WITH, FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW, a PIVOT that lists
            its values) or EXPLAIN of one.
        params : sequence or mapping, optional
            Values for `?` or `$name`.

        Returns
        -------
        Result

        Raises
        ------
        QueryRefusedError
            If it would do anything but read the lake.
        QueryError
            If it is wrong, or takes too much time or memory.

        Notes
        -----
        Point in time: every table is read at the version in `versions`, however long the
        session lives. A row's own `known_ts` still says when it could be known.
        """
        return Result(self.__engine.run(query, params, timeout_s=self._timeout_s))

    def files(self, table: str) -> PinnedFiles:
        """Return the data files of a table at its pinned version.

        Parameters
        ----------
        table : str
            Declared table; one that was never written has no files.

        Raises
        ------
        TableNotFoundError
            If the session does not offer the table.
        """
        if table not in self._tables:
            known = ", ".join(sorted(self._tables))
            raise TableNotFoundError(f"no table {table!r}; tables: {known}")
        paths: tuple[str, ...] = ()
        if table in self._versions:
            paths = snapshot(self._location, table, self._versions[table]).files
        return PinnedFiles(self._location.filesystem, paths)

    def close(self) -> None:
        """Release the database; the lake is not touched."""
        self.__engine.close()


def connect(
    root: str,
    *,
    at: str | None = None,
    tables: Collection[str] | None = None,
    threads: int | None = None,
    memory_limit: str | None = None,
    timeout_s: float | None = DEFAULT_TIMEOUT_S,
) -> Session:
    """Open a read-only SQL session over a lake.

    Parameters
    ----------
    root : str
        Folder or `s3://bucket/prefix`.
    at : str, optional
        An ISO 8601 time, or `TABLE=VERSION,…` (others at their newest); default newest.
    tables : collection of str, optional
        Offer only these; all declared tables by default.
    threads : int, optional
        Worker threads; all processors by default.
    memory_limit : str, optional
        Size such as `4GB`; DuckDB's default is 80 % of memory. Beyond it results spill
        to the system's temporary folder.
    timeout_s : float or None
        Seconds after which a statement is stopped.

    Returns
    -------
    Session

    Raises
    ------
    InputError
        If there is no lake or `at` is malformed.
    TableNotFoundError
        If a named table is not declared.
    VersionNotFoundError
        If a version does not exist, or a time lies before the first commit.

    Notes
    -----
    Point in time: a time selects, per table, the newest version whose commit carries an
    `alphalake.now` at or before it. Tables first written later are empty.
    """
    location = open_location(root)
    chosen = tuple(TABLES if tables is None else tables)
    versions = pin_versions(location, at=at, tables=chosen)
    return Session(
        location,
        versions,
        tables=chosen,
        threads=threads,
        memory_limit=memory_limit,
        timeout_s=timeout_s,
    )
