"""Which version of each table a session reads, and which files that version is.

Versions are found by listing the logs, so that a session starts without opening any
table. Two listings in a row must agree: then all versions held at one moment between
them. A time is resolved through the `alphalake.now` of the commits (else the time that
the commit itself states), never through file times, which a copy of the lake changes.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow import fs

from lakehouse.clock import parse_moment
from lakehouse.errors import (
    InputError,
    StoreError,
    TableNotFoundError,
    UnsupportedTableError,
    VersionNotFoundError,
)
from lakehouse.schema.catalogue import TABLES
from lakehouse.storage.location import Location

NOW_KEY: Final = "alphalake.now"
_LOG_FILE: Final = re.compile(r"(\d{20})(\.json|\.checkpoint\..*parquet)")
_MAX_SCANS: Final = 10
_UNREADABLE_FEATURES: Final = frozenset({"deletionVectors", "columnMapping"})


@dataclass(frozen=True, slots=True)
class LogRange:
    """Versions that a table's log can still answer for."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One table at one version.

    Attributes
    ----------
    files : tuple of str
        Data files: absolute paths, or keys of the location's filesystem.
    columns : tuple of str
        Columns that the table had.
    """

    files: tuple[str, ...]
    columns: tuple[str, ...]


def open_location(root: str) -> Location:
    """Resolve a root that must exist.

    Raises
    ------
    InputError
        If there is no lake.
    StoreError
        If the object store does not answer.
    """
    location = Location.of(root)
    if location.is_remote:
        selector = fs.FileSelector(location.base, allow_not_found=True)
        found = bool(_listed(location, selector))
    else:
        found = Path(location.base).is_dir()
    if not found:
        raise InputError(f"no lake at {location.root}: run `alphalake init`")
    return location


def _listed(location: Location, selector: Any) -> list[Any]:
    try:
        return list(location.filesystem.get_file_info(selector))
    except OSError as error:
        raise StoreError(f"{location.root}: cannot be listed: {error}") from error


def _log_names(location: Location, table: str) -> list[str]:
    folder = location.path("tables", table, "_delta_log")
    if location.is_remote:
        selector = fs.FileSelector(folder, allow_not_found=True)
        return [info.base_name for info in _listed(location, selector)]
    try:
        return [entry.name for entry in Path(folder).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"{folder}: cannot be listed: {error}") from error


def log_range(location: Location, table: str) -> LogRange | None:
    """Return the versions in a table's log; None when it was never written."""
    commits: set[int] = set()
    checkpoints: set[int] = set()
    for name in _log_names(location, table):
        if match := _LOG_FILE.fullmatch(name):
            (commits if match[2] == ".json" else checkpoints).add(int(match[1]))
    if not commits | checkpoints:
        return None
    last = max(commits | checkpoints)
    first = min(checkpoints, default=last) if 0 not in commits else 0
    return LogRange(first, last)


def _scan(location: Location, tables: Collection[str]) -> dict[str, LogRange]:
    if location.is_remote:
        folder = fs.FileSelector(location.path("tables"), allow_not_found=True)
        present = {info.base_name for info in _listed(location, folder)}
        tables = [name for name in tables if name in present]
        with ThreadPoolExecutor(max_workers=8) as pool:
            ranges = list(pool.map(lambda name: log_range(location, name), tables))
    else:
        ranges = [log_range(location, name) for name in tables]
    return {
        name: found
        for name, found in zip(tables, ranges, strict=True)
        if found is not None
    }


def _one_moment(location: Location, tables: Collection[str]) -> dict[str, LogRange]:
    before = _scan(location, tables)
    for _ in range(_MAX_SCANS):
        after = _scan(location, tables)
        if after == before:
            break
        before = after
    return before


def pin_versions(
    location: Location, *, at: str | None = None, tables: Collection[str] | None = None
) -> dict[str, int]:
    """Choose one version per table that has one.

    Parameters
    ----------
    location : Location
        Root of the lake.
    at : str, optional
        An ISO 8601 time, or `TABLE=VERSION,…`; None is now.
    tables : collection of str, optional
        Only these; all declared ones by default.

    Returns
    -------
    dict of str to int
        Tables that were never written, or not yet at that time, are absent.

    Raises
    ------
    InputError
        If `at` is neither a time nor pairs.
    TableNotFoundError
        If a table is not declared.
    VersionNotFoundError
        If a version does not exist, or the time lies before the first commit.

    Notes
    -----
    Point in time: of each table the newest version committed at or before `at`.
    """
    chosen = tuple(TABLES if tables is None else tables)
    for name in chosen:
        _require_declared(name)
    ranges = _one_moment(location, chosen)
    if at is None:
        return {name: found.last for name, found in ranges.items()}
    if "=" in at:
        return _at_versions(at, ranges, chosen)
    return _at_time(location, parse_moment(at, what="--at"), ranges)


def _require_declared(name: str) -> None:
    if name not in TABLES:
        known = ", ".join(sorted(TABLES))
        raise TableNotFoundError(f"no table {name!r}; tables: {known}")


def _at_versions(
    at: str, ranges: Mapping[str, LogRange], chosen: Collection[str]
) -> dict[str, int]:
    versions = {name: found.last for name, found in ranges.items()}
    for pair in at.split(","):
        name, _, digits = (part.strip() for part in pair.partition("="))
        _require_declared(name)
        if name not in chosen:
            raise InputError(f"--at: {name} is not among the tables of this session")
        if not (digits.isascii() and digits.isdigit()):
            raise InputError(
                f"--at: {pair.strip()!r} is not TABLE=VERSION, e.g. ohlcv=3"
            )
        if name not in ranges:
            raise VersionNotFoundError(f"{name} has no versions: it was never written")
        found, version = ranges[name], int(digits)
        if not found.first <= version <= found.last:
            raise VersionNotFoundError(_out_of_range(name, version, found))
        versions[name] = version
    return versions


def _out_of_range(name: str, version: int, found: LogRange) -> str:
    cleaned = "; older history was cleaned up" if found.first else ""
    span = f"it has {found.first} to {found.last}{cleaned}"
    return f"{name} has no version {version}: {span}"


def _at_time(
    location: Location, moment: datetime, ranges: Mapping[str, LogRange]
) -> dict[str, int]:
    versions: dict[str, int] = {}
    begins: list[datetime] = []
    for name, found in ranges.items():
        oldest: tuple[int, datetime] | None = None
        for version, when in _commits_backwards(location, name, found.last):
            oldest = version, when
            if when <= moment:
                versions[name] = version
                break
        if name in versions:
            continue
        if oldest is None or oldest[0] > 0:
            raise VersionNotFoundError(_before_history(name, moment, oldest))
        begins.append(oldest[1])
    if not versions:
        first = f"at {_iso(min(begins))}" if begins else "not made yet"
        raise VersionNotFoundError(
            f"{_iso(moment)} is before the lake's first commit, {first}"
        )
    return versions


def _before_history(
    name: str, moment: datetime, oldest: tuple[int, datetime] | None
) -> str:
    begins = "no commit of it"
    if oldest is not None:
        begins = f"its history begins at version {oldest[0]} ({_iso(oldest[1])}), which"
    return f"{name} at {_iso(moment)}: {begins} is that old; older were cleaned up"


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _commits_backwards(
    location: Location, table: str, last: int
) -> Iterator[tuple[int, datetime]]:
    # When each commit that the log still holds was made, by the injected clock.
    log = location.path("tables", table, "_delta_log")
    for version in range(last, -1, -1):
        payload = location.read_bytes(f"{log}/{version:020d}.json")
        if payload is None:
            return
        when = _commit_time(payload, table)
        if when is not None:
            yield version, when


def _commit_time(payload: bytes, table: str) -> datetime | None:
    for line in payload.splitlines():
        if b'"commitInfo"' not in line:
            continue
        try:
            info = json.loads(line).get("commitInfo") or {}
        except ValueError as error:
            raise StoreError(f"table {table}: a log entry is not JSON") from error
        if NOW_KEY in info:
            return parse_moment(str(info[NOW_KEY]), what=f"{table}: {NOW_KEY}")
        if "timestamp" in info:
            return datetime.fromtimestamp(info["timestamp"] / 1000, tz=UTC)
    return None


def _open_delta(location: Location, table: str, version: int) -> DeltaTable:
    try:
        return DeltaTable(
            location.table_uri(table),
            version=version,
            storage_options=location.storage_options or None,
        )
    except DeltaError as error:
        raise VersionNotFoundError(
            f"{table} version {version} cannot be opened: {_first_line(error)}"
        ) from error
    except OSError as error:
        raise StoreError(f"{table}: cannot be opened: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def open_table(location: Location, table: str, version: int) -> DeltaTable:
    """Open a table at a version, refusing what our readers would misread.

    Raises
    ------
    UnsupportedTableError
        If another writer used deletion vectors, column mapping or partitions.
    VersionNotFoundError
        If the version cannot be opened.
    """
    opened = _open_delta(location, table, version)
    used = set(opened.protocol().reader_features or ()) & _UNREADABLE_FEATURES
    metadata = opened.metadata()
    mapping = metadata.configuration.get("delta.columnMapping.mode") or "none"
    if mapping != "none":
        used.add("columnMapping")
    if metadata.partition_columns:
        used.add("partition columns")
    if used:
        raise UnsupportedTableError(
            f"table {table} uses {', '.join(sorted(used))}, which is not read here:"
            " rewrite it without"
        )
    return opened


def snapshot(location: Location, table: str, version: int) -> Snapshot:
    """Return the data files of a table at a version.

    Raises
    ------
    UnsupportedTableError
        If another writer used features that would be misread.
    VersionNotFoundError
        If the version cannot be opened or its files are gone.
    """
    if location.is_remote:
        return _read_snapshot(location, table, version)
    log = Path(location.path("tables", table, "_delta_log", f"{version:020d}.json"))
    try:
        stat = log.stat()
    except OSError:
        return _present(_read_snapshot(location, table, version), table, version)
    identity = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    return _present(
        _cached_snapshot(location.root, table, version, identity), table, version
    )


@lru_cache(maxsize=256)
def _cached_snapshot(
    root: str,
    table: str,
    version: int,
    identity: tuple[int, int, int],  # noqa: ARG001 -- a lake made anew has another
) -> Snapshot:
    return _read_snapshot(Location.of(root), table, version)


def _read_snapshot(location: Location, table: str, version: int) -> Snapshot:
    opened = open_table(location, table, version)
    # `pa.table` would import pandas to see whether this is a data frame.
    actions = pa.RecordBatchReader.from_stream(opened.get_add_actions())
    paths = actions.read_all().column("path").to_pylist()
    files = []
    for path in sorted(unquote(path) for path in paths):
        if path.startswith("/") or "://" in path or ".." in path.split("/"):
            raise UnsupportedTableError(
                f"table {table} names a file outside its folder: {path}"
            )
        files.append(location.path("tables", table, path))
    columns = tuple(field.name for field in opened.schema().fields)
    return Snapshot(tuple(files), columns)


def _present(found: Snapshot, table: str, version: int) -> Snapshot:
    for path in found.files:
        if not Path(path).is_file():
            raise VersionNotFoundError(
                f"{table} version {version}: data file {Path(path).name} is gone,"
                " removed by maintenance; read a newer version"
            )
    return found
