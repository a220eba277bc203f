"""Export `sleeve_returns_v1` as Parquet beside the tables, for readers without the lake.

`<root>/exports/sleeve_returns_v1/` holds one file a content, named by when it was first
exported, its run and the hash of its rows, and `latest.json`, written last, that names
the newest. A reader who follows `latest.json` never meets a half-written file, and the
file it names stays for `KEPT` after a newer one took its place. The same rows are never
written twice; a file that was damaged is.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from flows.bodies.moments import decision_moment
from flows.manifests import to_json
from flows.runs import Run
from lakehouse.errors import StoreError
from lakehouse.query import Session, connect
from lakehouse.schema.research import SLEEVE_RETURNS
from lakehouse.storage.location import Location

FOLDER: Final = ("exports", "sleeve_returns_v1")
LATEST: Final = "latest.json"
KEPT: Final = timedelta(days=30)
"""How long an export stays after a newer one took its place."""

_STAMP: Final = "%Y%m%dT%H%M%SZ"
_NAME: Final = re.compile(r"(\d{8}T\d{6}Z)-(.+)-([0-9a-f]{16})\.parquet")
_ORDER: Final = ("sleeve_id", "timeframe", "slippage_bps", "ts")

# The view `sleeve_returns_v1`, as it was at a moment.
_ROWS: Final = """
SELECT * FROM sleeve_returns
WHERE phase = 'test' AND known_ts <= $as_of AND run_id = (
    SELECT run_id FROM runs
    WHERE flow = 'walk-forward' AND status = 'completed' AND finished_at <= $as_of
    ORDER BY coalesce(json_extract_string(parameters, '$.is_standard'), 'true') DESC,
             finished_at DESC, run_id DESC LIMIT 1)
ORDER BY sleeve_id, timeframe, slippage_bps, ts
"""


@dataclass(frozen=True, slots=True)
class _Export:
    name: str
    made_at: datetime
    run_id: str
    digest: str  # first 16 hexadecimal digits of the rows' hash

    @classmethod
    def parse(cls, name: str) -> "_Export | None":
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        made_at = datetime.strptime(found[1], _STAMP).replace(tzinfo=UTC)
        return cls(name, made_at, found[2], found[3])


def run_sleeve_export(run: Run, *, as_of: str | None = None) -> str:
    """Export the out-of-sample sleeve returns of the newest completed walk-forward.

    Parameters
    ----------
    run : Run
        Where to read and write.
    as_of : str, optional
        Decision time; the clock's now if not given. With one `latest.json` stays: a
        look at the past is not the newest.

    Raises
    ------
    InputError
        If `as_of` is not a time, or later than now.
    StoreError
        If the root cannot be read or written.

    Notes
    -----
    Point in time: rows known by `as_of`, of the newest run that had ended by then.
    """
    now = decision_moment(run, as_of)
    run.parameters["as_of"] = now.isoformat()
    with connect(
        run.workplace.root, tables=("sleeve_returns", "runs"), threads=1
    ) as session:
        rows = known_returns(session, now)
        versions = dict(session.versions)
    run.tables_read |= versions
    if rows.num_rows == 0:
        return "no completed walk-forward run to export"
    folder = _Folder(run.workplace.lake.location)
    kept, is_new = _keep(run, folder, rows, versions)
    if as_of is None:
        _point(folder, kept, rows)
        run.count("exports_pruned", _prune(folder, kept, now=now))
    run.count("rows_exported", rows.num_rows)
    run.count("files_written", int(is_new))
    run.parameters["file"] = kept.name
    told = "written" if is_new else "is there already"
    return f"{rows.num_rows} rows of {kept.run_id}: {kept.name} {told}"


def known_returns(session: Session, as_of: datetime) -> pa.Table:
    """Return the view `sleeve_returns_v1` as it was at a moment.

    Parameters
    ----------
    session : Session
        Pinned versions of `sleeve_returns` and `runs`.
    as_of : datetime
        Decision time.

    Returns
    -------
    pyarrow.Table
        With the schema of `sleeve_returns`, sorted by sleeve, bar length, slippage, day.

    Notes
    -----
    Point in time: rows known by `as_of`, of the newest run that had ended by then.
    """
    schema = SLEEVE_RETURNS.to_arrow()
    found = session.sql(_ROWS, {"as_of": as_of}).arrow()
    return found.select(schema.names).cast(schema).combine_chunks()


def rows_sha256(rows: pa.Table) -> str:
    """Return the SHA-256 of an export's rows.

    Parameters
    ----------
    rows : pyarrow.Table
        With the schema of `sleeve_returns`, in the order of an export.

    Notes
    -----
    Over each column's name and values: text as UTF-8 lines, numbers and times as their
    little-endian 8 bytes. It depends on the values alone, not on how a file is packed.
    """
    digest = hashlib.sha256()
    for name in rows.column_names:
        column = rows[name]
        digest.update(f"{name}\0".encode())
        if pa.types.is_string(column.type):
            digest.update("\n".join(column.to_pylist()).encode())
        elif pa.types.is_timestamp(column.type):
            digest.update(column.cast(pa.int64()).to_numpy().astype("<i8").tobytes())
        else:
            code = "<f8" if pa.types.is_floating(column.type) else "<i8"
            digest.update(column.to_numpy().astype(code).tobytes())
    return digest.hexdigest()


class _Folder:
    # The export folder, on a disk or an object store.

    def __init__(self, location: Location) -> None:
        self._location = location

    def read(self, name: str) -> bytes | None:
        return self._location.read_bytes(self._path(name))

    def write(self, name: str, data: bytes) -> None:
        self._location.write_bytes(self._path(name), data)

    def delete(self, name: str) -> None:
        self._location.delete(self._path(name))

    def exports(self) -> list[_Export]:
        """Return the exports, oldest first."""
        selector = fs.FileSelector(self._location.path(*FOLDER), allow_not_found=True)
        try:
            infos = self._location.filesystem.get_file_info(selector)
        except OSError as error:
            raise StoreError(
                f"{'/'.join(FOLDER)}: cannot be listed: {error}"
            ) from error
        found = [_Export.parse(info.base_name) for info in infos if info.is_file]
        return sorted(
            (one for one in found if one is not None),
            key=lambda one: (one.made_at, one.name),
        )

    def _path(self, name: str) -> str:
        return self._location.path(*FOLDER, name)


def _keep(
    run: Run, folder: _Folder, rows: pa.Table, versions: dict[str, int]
) -> tuple[_Export, bool]:
    digest = rows_sha256(rows)
    run_id = str(rows["run_id"][0].as_py())
    stored = [
        one
        for one in folder.exports()
        if (one.run_id, one.digest) == (run_id, digest[:16])
    ]
    sound = [one for one in stored if _holds(folder.read(one.name), rows)]
    if sound:
        kept, is_new = sound[0], False
    else:
        name = f"{run.now:{_STAMP}}-{run_id}-{digest[:16]}.parquet"
        kept, is_new = _Export(name, run.now, run_id, digest[:16]), True
        if stored:  # damaged: made good under its own name
            kept = stored[0]
        folder.write(kept.name, _to_parquet(rows, run_id, digest, versions))
    return kept, is_new


def _to_parquet(
    rows: pa.Table, run_id: str, digest: str, versions: dict[str, int]
) -> bytes:
    described = rows.replace_schema_metadata(
        {
            "alphalake.view": FOLDER[-1],
            "alphalake.run_id": run_id,
            "alphalake.rows_sha256": digest,
            "alphalake.table_versions": to_json(versions),
        }
    )
    sink = pa.BufferOutputStream()
    sorting = pq.SortingColumn.from_ordering(
        described.schema, [(name, "ascending") for name in _ORDER]
    )
    pq.write_table(described, sink, compression="zstd", sorting_columns=sorting)
    return bytes(sink.getvalue())


def _holds(data: bytes | None, rows: pa.Table) -> bool:
    if data is None:
        return False
    try:
        stored = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowInvalid, OSError):
        return False
    return bool(stored.replace_schema_metadata(None).equals(rows))


def _point(folder: _Folder, kept: _Export, rows: pa.Table) -> None:
    data = folder.read(kept.name)
    if data is None:
        raise StoreError(f"{'/'.join(FOLDER)}/{kept.name}: gone while it was exported")
    described = pq.read_schema(pa.BufferReader(data)).metadata
    content: dict[str, Any] = {
        "file": kept.name,
        "run_id": kept.run_id,
        "rows_sha256": described[b"alphalake.rows_sha256"].decode(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "n_rows": rows.num_rows,
        "table_versions": json.loads(described[b"alphalake.table_versions"]),
        "exported_at": kept.made_at,
    }
    text = f"{to_json(content)}\n".encode()
    if folder.read(LATEST) != text:
        folder.write(LATEST, text)


def _prune(folder: _Folder, kept: _Export, *, now: datetime) -> int:
    exports = folder.exports()
    n_gone = 0
    for place, one in enumerate(exports):
        after = exports[place + 1 : place + 2] or [one]
        if one.name != kept.name and now - after[0].made_at > KEPT:
            folder.delete(one.name)
            n_gone += 1
    return n_gone
