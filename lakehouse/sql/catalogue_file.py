"""A DuckDB file of views over the pinned files, for analysts' own clients.

The file holds no rows: it names data files by absolute path, at the versions that were
pinned when it was written. It is outside the gate, as the analyst's own client is.
"""

import uuid
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from lakehouse.errors import InputError, QueryError
from lakehouse.schema.catalogue import TABLES
from lakehouse.sql.gate import check_query, explain_error
from lakehouse.sql.pinning import open_location, pin_versions, snapshot
from lakehouse.sql.relations import (
    LATEST,
    NAMES,
    VIEWS,
    comments,
    create_view,
    declared_columns,
    latest_rows,
    parquet_files,
)
from lakehouse.storage.location import Location

VERSIONS_TABLE: Final = "lake_versions"
_MARK: Final = b"DUCK"
_MARK_AT: Final = 8


def write_catalogue(root: str, path: Path, *, at: str | None = None) -> int:
    """Write a DuckDB file of views over a lake.

    Parameters
    ----------
    root : str
        Folder of the lake.
    path : Path
        File to write; an earlier catalogue there is replaced whole.
    at : str, optional
        As in `lakehouse.query.connect`.

    Returns
    -------
    int
        Number of views.

    Raises
    ------
    InputError
        If the root is an object store or missing, or `path` lies in the lake or holds
        anything but an earlier catalogue.
    VersionNotFoundError
        If `at` names no version.

    Notes
    -----
    Point in time: the views keep showing the versions pinned now, listed in
    `lake_versions`; write the file anew to see later ones. Maintenance deletes files that
    no recent version names, after which an old catalogue fails to read.
    """
    location = open_location(root)
    if location.is_remote:
        raise InputError(
            "--catalog needs a lake on this machine: DuckDB reads s3:// only with an"
            " extension, which is never downloaded; use `alphalake sql`"
        )
    final = path.expanduser().absolute()
    _check_target(location, final)
    versions = pin_versions(location, at=at)
    draft = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
    try:
        n_views = _write(location, versions, draft)
        draft.replace(final)
    except duckdb.Error as error:
        raise QueryError(f"{final}: {explain_error(error, '')}") from error
    except OSError as error:
        raise InputError(f"{final}: cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    return n_views


def _check_target(location: Location, final: Path) -> None:
    if final.resolve().is_relative_to(Path(location.base).resolve()):
        raise InputError(f"--catalog {final}: choose a place outside the lake")
    if not final.parent.is_dir():
        raise InputError(f"--catalog {final}: no folder {final.parent}")
    if not final.exists():
        return
    try:
        with final.open("rb") as file:
            head = file.read(_MARK_AT + len(_MARK))
    except OSError as error:
        raise InputError(f"--catalog {final}: {error.strerror}") from error
    if head[_MARK_AT:] != _MARK or not _is_catalogue(final):
        raise InputError(
            f"--catalog {final}: exists and is not a catalogue; name another file"
        )


def _is_catalogue(path: Path) -> bool:
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            names = [
                name
                for (name,) in connection.execute(
                    "SELECT table_name FROM duckdb_tables() WHERE NOT internal"
                ).fetchall()
            ]
    except duckdb.Error as error:
        raise InputError(f"--catalog {path}: {explain_error(error, '')}") from error
    return names == [VERSIONS_TABLE]


def _write(location: Location, versions: dict[str, int], draft: Path) -> int:
    with duckdb.connect(str(draft)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.begin()
        connection.register("pinned", _version_rows(versions))
        connection.execute(f"CREATE TABLE {VERSIONS_TABLE} AS FROM pinned")
        connection.unregister("pinned")
        connection.execute(
            f"COMMENT ON TABLE {VERSIONS_TABLE} IS"
            " 'Delta version of each table that these views show.'"
        )
        _create_views(connection, location, versions)
        rows = connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
        columns_of: dict[str, list[str]] = {}
        for name, column in rows:
            if name in NAMES:
                columns_of.setdefault(name, []).append(column)
        connection.execute(";".join(comments(columns_of)))
        connection.commit()
    return len(columns_of)


def _version_rows(versions: dict[str, int]) -> pa.Table:
    return pa.table(
        {
            "table_name": pa.array(list(versions), pa.string()),
            "version": pa.array(list(versions.values()), pa.int64()),
        }
    )


def _create_views(
    connection: Any, location: Location, versions: dict[str, int]
) -> None:
    for spec in TABLES.values():
        found = (
            snapshot(location, spec.name, versions[spec.name])
            if spec.name in versions
            else None
        )
        relation = parquet_files(found.files) if found and found.files else None
        present = found.columns if found else ()
        if relation is not None:
            # A column can be newer than every file.
            present = tuple(connection.sql(f"FROM {relation} LIMIT 0").columns)
        query = declared_columns(spec.columns, present, relation)
        connection.execute(create_view(spec.name, query))
    for name, spec in LATEST.items():
        if spec.latest is not None:
            connection.execute(create_view(name, latest_rows(spec, spec.latest)))
    waiting = dict(VIEWS)
    while waiting:
        # A view over another view comes after it.
        for name, (_, view) in list(waiting.items()):
            needed = check_query(connection, view.sql, NAMES).relations
            if not needed & waiting.keys():
                connection.execute(create_view(name, view.sql))
                del waiting[name]
