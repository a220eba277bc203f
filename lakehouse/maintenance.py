"""Keeping tables small, quick and readable: compaction, checkpoints, guarded vacuum.

Everything here is safe beside writers and readers, changes no row (but for the sample
paths that are kept 90 days), and does nothing when there is nothing to do.

Vacuum has one door, because two of its settings break tables: below a week of
retention it may delete files that a commit in flight is about to name.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import DeltaError
from pyarrow import fs

from lakehouse.errors import InputError, RefusedError, StoreError
from lakehouse.schema.catalogue import TABLES
from lakehouse.storage.compaction import files_before, plan_bins, rewrite
from lakehouse.storage.files import read_files
from lakehouse.storage.location import Location
from lakehouse.store import Lake

LEAST_RETENTION_HOURS: Final = 168
COMMITS_PER_CHECKPOINT: Final = 10
_PASSES: Final = 3  # merging neighbours can make new neighbours


@dataclass(frozen=True, slots=True)
class Maintenance:
    """What was done to one table.

    Attributes
    ----------
    table : str
    n_files_before, n_files_after : int
        Data files.
    n_pruned : int
        Rows whose sample paths were dropped.
    is_checkpointed : bool
    n_vacuumed : int
        Data files deleted from the store.
    """

    table: str
    n_files_before: int
    n_files_after: int
    n_pruned: int
    is_checkpointed: bool
    n_vacuumed: int


def compact(lake: Lake, table: str) -> int:
    """Merge small and overlapping files, per time chunk.

    Returns
    -------
    int
        Files fewer than before.
    """
    before = len(lake.data_files(table))
    for _ in range(_PASSES):
        with lake.hold(table) as (handle, latest):
            delta = handle.refresh()
            bins = (
                [] if delta is None else plan_bins(handle.spec, handle.actions(delta))
            )
            for files in bins:
                rewrite(handle, latest, files)
        if not bins:
            break
    return before - len(lake.data_files(table))


def checkpoint(lake: Lake, table: str) -> bool:
    """Write a checkpoint when enough commits lie behind the last, and drop expired logs.

    Returns
    -------
    bool
        Whether one was written.
    """
    with lake.hold(table) as (handle, _):
        delta = handle.refresh()
        if delta is None:
            return False
        path = lake.location.path("tables", table, "_delta_log", "_last_checkpoint")
        payload = lake.location.read_bytes(path)
        last = json.loads(payload)["version"] if payload is not None else 0
        if delta.version() - last < COMMITS_PER_CHECKPOINT:
            return False
        try:
            delta.create_checkpoint()
            delta.cleanup_metadata()
        except (DeltaError, OSError) as error:
            raise StoreError(f"table {table}: no checkpoint: {error}") from error
        return True


def vacuum(
    lake: Lake,
    table: str,
    *,
    keep_versions: Sequence[int] = (),
    retention_hours: int = LEAST_RETENTION_HOURS,
) -> list[str]:
    """Delete data files that no version of the last week (or `keep_versions`) names.

    Parameters
    ----------
    lake : Lake
        The lake.
    table : str
        A declared table.
    keep_versions : sequence of int
        Versions that stay readable whatever their age: signed ones, pinned ones.
    retention_hours : int, default 168
        At least 168.

    Returns
    -------
    list of str
        Files deleted.

    Raises
    ------
    RefusedError
        If the retention is below a week.
    """
    if retention_hours < LEAST_RETENTION_HOURS:
        raise RefusedError(
            f"vacuum: {retention_hours} h of retention could delete files of running "
            f"writers and readers; at least {LEAST_RETENTION_HOURS} h"
        )
    with lake.hold(table) as (handle, latest):
        delta = handle.refresh()
        if delta is None:
            return []
        if not _vacuum(delta, retention_hours, keep_versions, is_dry=True):
            return []
        deleted = _vacuum(delta, retention_hours, keep_versions, is_dry=False)
        if latest is not None:
            latest.current()
        return deleted


def _vacuum(
    delta: Any, retention_hours: int, keep_versions: Sequence[int], *, is_dry: bool
) -> list[str]:
    try:
        return list(
            delta.vacuum(
                retention_hours=retention_hours,
                dry_run=is_dry,
                enforce_retention_duration=True,
                full=True,  # orphans of killed writers too, once they are a week old
                keep_versions=sorted(set(keep_versions)) or None,
            )
        )
    except (DeltaError, OSError) as error:
        raise StoreError(f"vacuum refused: {error}") from error


def prune_samples(lake: Lake, *, older_than_days: int = 90) -> int:
    """Drop the sample paths and quantile grids of old forecasts; p10, p50, p90 stay.

    Parameters
    ----------
    lake : Lake
        The lake.
    older_than_days : int, days, default 90
        Age of `as_of` by the lake's clock.

    Returns
    -------
    int
        Rows pruned.

    Notes
    -----
    Point in time: only rows whose `as_of` is before the clock less `older_than_days`.
    """
    if older_than_days < 0:
        raise InputError(f"older_than_days {older_than_days}: zero or more")
    moment = lake.clock.now() - timedelta(days=older_than_days)
    is_old = pc.field("as_of") < pa.scalar(moment, pa.timestamp("us", "UTC"))
    n_pruned = 0
    with lake.hold("ml_predictions") as (handle, latest):
        delta = handle.refresh()
        if delta is None:
            return 0
        for file in files_before(handle.spec, handle.actions(delta), moment):
            is_bulky = pc.field("samples").is_valid() | pc.field("quantiles").is_valid()
            due = read_files(
                lake.location,
                handle.spec,
                [file],
                columns=["as_of"],
                where=is_old & is_bulky,
            )
            if due.num_rows:
                rewrite(handle, latest, [file], change=_without_samples(moment))
                n_pruned += due.num_rows
    return n_pruned


def _without_samples(moment: Any) -> Any:
    def change(rows: pa.Table) -> pa.Table:
        is_old = pc.less(rows.column("as_of"), pa.scalar(moment, rows["as_of"].type))
        for name in ("samples", "quantiles"):
            values = rows.column(name)
            kept = pc.if_else(is_old, pa.scalar(None, values.type), values)
            spot = rows.schema.get_field_index(name)
            rows = rows.set_column(spot, rows.schema.field(name), kept)
        return rows

    return change


def published_versions(lake: Lake) -> dict[str, set[int]]:
    """Return the table versions that signed manifests under the root name."""
    found: dict[str, set[int]] = {}
    for path in _manifests(lake.location):
        payload = lake.location.read_bytes(path)
        try:
            manifest = json.loads(payload or b"{}")
            table, version = manifest["table"], int(manifest["table_version"])
        except (ValueError, KeyError, TypeError):
            continue  # other targets: models, reports
        found.setdefault(table, set()).add(version)
    return found


def _manifests(location: Location) -> list[str]:
    selector = fs.FileSelector(
        location.path("artefacts", "targets"), recursive=True, allow_not_found=True
    )
    listed = location.filesystem.get_file_info(selector)
    return [info.path for info in listed if info.path.endswith(".json")]


def maintain(
    lake: Lake, *, keep_versions: Mapping[str, Sequence[int]] | None = None
) -> list[Maintenance]:
    """Do all upkeep that is due; a second call finds nothing to do.

    Parameters
    ----------
    lake : Lake
        The lake.
    keep_versions : mapping of str to sequence of int, optional
        Versions per table that vacuum leaves readable, besides the published ones.

    Returns
    -------
    list of Maintenance
        One per table that was ever written.
    """
    published = published_versions(lake)
    reports = []
    for table in TABLES:
        if lake.version(table) is None:
            continue
        before = len(lake.data_files(table))
        n_pruned = prune_samples(lake) if table == "ml_predictions" else 0
        compact(lake, table)
        kept = {*published.get(table, ()), *(keep_versions or {}).get(table, ())}
        deleted = vacuum(lake, table, keep_versions=sorted(kept))
        reports.append(
            Maintenance(
                table=table,
                n_files_before=before,
                n_files_after=len(lake.data_files(table)),
                n_pruned=n_pruned,
                is_checkpointed=checkpoint(lake, table),
                n_vacuumed=len(deleted),
            )
        )
    return reports
