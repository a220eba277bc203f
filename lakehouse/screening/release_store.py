"""Comparing releases with the stored ones and writing what is new or changed."""

import hashlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.schema._spec import TIMESTAMP
from lakehouse.schema.catalogue import table_spec
from lakehouse.screening.refusals import quarantine, superseded_rows, to_json
from lakehouse.screening.releases import CONTENT, ReleaseRows, release_table_rows
from lakehouse.sources._base import RawReleases
from lakehouse.store import Lake

TABLE: Final = "economic_calendar"
_MERGED: Final = (*CONTENT, "event_type")


def store_releases(
    lake: Lake,
    raw: RawReleases,
    rows: ReleaseRows,
    good: npt.NDArray[np.int64],
    *,
    run_id: str,
) -> tuple[int, int]:
    """Write new and changed releases, exactly once.

    Parameters
    ----------
    lake : Lake
        Where to.
    raw : RawReleases
        The input.
    rows : ReleaseRows
        Its rows.
    good : ndarray of shape (n_good,), int64
        Rows that passed.
    run_id : str
        The run that writes.

    Returns
    -------
    tuple of int
        Rows written, and how many of these are corrections.
    """
    built = release_table_rows(rows, good, source=raw.source, now=lake.clock.now())
    window = f"ingest/{TABLE}/{raw.window}/{_digest(built)}"
    if not built or lake.has_window(TABLE, window):
        return 0, 0
    stored = _stored(lake, built)
    new, changed, old, details = [], [], [], []
    for row in built:
        kept = stored.get(row["event_id"])
        if kept is None:
            new.append(row)
            continue
        merged = _merge(kept, row)
        if merged == kept:
            continue
        changed.append(merged)
        if clash := _clash(kept, row):
            old.append(kept)
            details.append(f"replaced by {raw.source}: {clash}")
    superseded = superseded_rows(old, table=TABLE, details=details)
    quarantine(
        lake,
        superseded,
        window=f"ingest/superseded/calendar/{raw.window}",
        run_id=run_id,
    )
    schema = table_spec(TABLE).to_arrow()
    if changed:
        lake.upsert(TABLE, pa.Table.from_pylist(changed, schema=schema))
    lake.append(TABLE, pa.Table.from_pylist(new, schema=schema), window=window)
    return len(new) + len(changed), len(old)


def _digest(built: list[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    for row in built:
        content = {name: row[name] for name in (*_MERGED, "event_id")}
        digest.update(to_json(content).encode())
    return f"{len(built)}-{digest.hexdigest()[:16]}"


def _stored(lake: Lake, built: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    if lake.version(TABLE) is None:
        return {}
    moments = [row["ts"] for row in built]
    low = pa.scalar(min(moments), TIMESTAMP)
    high = pa.scalar(max(moments), TIMESTAMP)
    kept = lake.read(TABLE, filter=(pc.field("ts") >= low) & (pc.field("ts") <= high))
    return {row["event_id"]: row for row in kept.to_pylist()}


def _merge(kept: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Take what `row` knows; what it does not know stays as stored."""
    known = {name: row[name] for name in _MERGED if row[name] is not None}
    if all(kept[name] == value for name, value in known.items()):
        return kept
    return {
        **kept,
        **known,
        "scheduled_known_ts": row["scheduled_known_ts"],
        "source": row["source"],
        "ingested_at": row["ingested_at"],
    }


def _clash(kept: dict[str, Any], row: dict[str, Any]) -> str:
    """Name the published values that differ; a filled gap is no clash."""
    return ", ".join(
        f"{name} {kept[name]} -> {row[name]}"
        for name in CONTENT
        if kept[name] is not None and row[name] is not None and kept[name] != row[name]
    )
