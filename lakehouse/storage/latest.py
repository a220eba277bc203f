"""The newest row per key, kept beside its table so that reading it never scans history.

`<root>/latest/<table>.arrow` is one small Arrow file whose schema metadata names the
Delta version it stands for. It is written after each commit; a crash in between leaves
it behind, which a reader notices by one look into the log (is there a commit after
that version?) and repairs: from the files added since where the log still tells, else
from the whole table.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from lakehouse.errors import InputError
from lakehouse.schema._spec import LatestSpec
from lakehouse.storage.commits import StoredFile, TableHandle
from lakehouse.storage.files import declared_nullability, read_rows
from lakehouse.storage.keys import CodedRows, newest_rows
from lakehouse.storage.validate import decode

VERSION_KEY: Final = b"delta_version"
_LONGEST_CATCH_UP: Final = 500  # commits; beyond it a full scan is cheaper


@dataclass(frozen=True, slots=True)
class Kept:
    """Newest rows as of one version."""

    version: int
    rows: pa.Table


class LatestTable:
    """The kept newest rows of one table."""

    def __init__(self, handle: TableHandle) -> None:
        spec = handle.spec
        if spec.latest is None:
            raise InputError(f"table {spec.name} keeps no newest rows")
        self._handle = handle
        self._spec = spec
        self._latest: LatestSpec = spec.latest
        self._columns = [
            c.name for c in spec.columns if c.name not in self._latest.exclude
        ]
        # The primary key breaks ties, so that a rebuild keeps the very same rows.
        self._order = tuple(dict.fromkeys((*self._latest.order, *spec.key)))
        self._path = handle.location.path("latest", f"{spec.name}.arrow")
        self._kept: Kept | None = None

    @property
    def is_order_in_key(self) -> bool:
        """Whether changing a row's content can never change how new it is."""
        return set(self._latest.order) <= set(self._spec.key)

    def current(self) -> pa.Table:
        """Return the newest rows, repairing the kept file when it is behind."""
        for kept in (self._kept, self._load()):
            if kept is not None and self._is_current(kept.version):
                self._kept = kept
                return kept.rows
        delta = self._handle.refresh()
        if delta is None:
            return self._empty()
        return self._repair(delta).rows

    def advance(self, version: int, fresh: CodedRows) -> None:
        """Add the rows that commit `version` stored."""
        kept = self._kept
        if kept is None or kept.version != version - 1:
            kept = self._load()
        if kept is None and version == 1:
            kept = Kept(0, self._empty())
        if kept is None or kept.version != version - 1:
            self.current()
            return
        newest = newest_rows(fresh, self._latest.key, self._order)
        rows = fresh.rows.select(self._columns).take(pa.array(newest))
        self._keep(Kept(version, self._merge(kept.rows, decode(self._spec, rows))))

    def _is_current(self, version: int) -> bool:
        log = self._handle.location.path("tables", self._spec.name, "_delta_log")
        exists = self._handle.location.exists
        return exists(f"{log}/{version:020d}.json") and not exists(
            f"{log}/{version + 1:020d}.json"
        )

    def _load(self) -> Kept | None:
        payload = self._handle.location.read_bytes(self._path)
        if payload is None:
            return None
        try:
            rows = pa.ipc.open_file(pa.BufferReader(payload)).read_all()
            version = int((rows.schema.metadata or {})[VERSION_KEY])
        except (pa.ArrowInvalid, KeyError, ValueError):
            return None  # not one of ours: rebuilt
        if rows.column_names != self._columns:
            return None  # the declaration has changed: rebuilt
        return Kept(version, rows.replace_schema_metadata(None))

    def _keep(self, kept: Kept) -> None:
        rows = kept.rows.replace_schema_metadata({VERSION_KEY: str(kept.version)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
        self._handle.location.write_bytes(self._path, sink.getvalue().to_pybytes())
        self._kept = kept

    def _repair(self, delta: DeltaTable) -> Kept:
        kept = self._load()
        if kept is not None and kept.version == delta.version():
            self._kept = kept
            return kept
        added = self._added_since(kept.version, delta) if kept is not None else None
        if kept is None or added is None:
            rows = self._scan(delta)
        else:
            rows = self._merge(kept.rows, self._newest_of(added))
        repaired = Kept(delta.version(), rows)
        self._keep(repaired)
        return repaired

    def _added_since(self, version: int, delta: DeltaTable) -> list[StoredFile] | None:
        """Return files added after `version`; None when rows were removed or the log is gone."""
        if not 0 <= delta.version() - version <= _LONGEST_CATCH_UP:
            return None
        log = self._handle.location.path("tables", self._spec.name, "_delta_log")
        paths: set[str] = set()
        for number in range(version + 1, delta.version() + 1):
            payload = self._handle.location.read_bytes(f"{log}/{number:020d}.json")
            if payload is None:
                return None
            for line in payload.splitlines():
                action: dict[str, Any] = json.loads(line)
                if action.get("remove", {}).get("dataChange"):
                    return None
                if action.get("add", {}).get("dataChange"):
                    paths.add(action["add"]["path"])
        live = [f for f in self._handle.files(delta) if f.path in paths]
        return live if len(live) == len(paths) else None

    def _scan(self, delta: DeltaTable) -> pa.Table:
        return self._merge(self._empty(), self._newest_of(self._handle.files(delta)))

    def _newest_of(self, files: list[StoredFile]) -> pa.Table:
        """Return the newest rows of some files, reading bulky columns of winners only."""
        names = list(dict.fromkeys((*self._latest.key, *self._order)))
        location, spec = self._handle.location, self._spec
        winners: list[pa.Table] = []
        for number, file in enumerate(files):
            rows = read_rows(location, spec, file, names)
            newest = newest_rows(rows, self._latest.key, self._order)
            found = decode(spec, rows.rows.take(pa.array(newest)))
            found = found.append_column("file", pa.array(np.full(len(newest), number)))
            winners.append(found.append_column("row", pa.array(newest)))
        if not winners:
            return self._empty()
        every = pa.concat_tables([_nullable(w) for w in winners])
        best = every.take(
            pa.array(newest_rows(CodedRows(every), self._latest.key, self._order))
        )
        parts = [self._empty()]
        owners, rows_of = best.column("file").to_numpy(), best.column("row").to_numpy()
        for number in np.unique(owners):
            stored = read_rows(location, spec, files[int(number)], self._columns)
            chosen = stored.rows.take(pa.array(rows_of[owners == number]))
            parts.append(decode(spec, chosen))
        return pa.concat_tables([_nullable(part) for part in parts])

    def _merge(self, kept: pa.Table, fresh: pa.Table) -> pa.Table:
        candidates = pa.concat_tables([_nullable(kept), _nullable(fresh)])
        newest = newest_rows(CodedRows(candidates), self._latest.key, self._order)
        return declared_nullability(
            self._spec, candidates.take(pa.array(newest)).combine_chunks()
        )

    def _empty(self) -> pa.Table:
        return self._spec.to_arrow().empty_table().select(self._columns)


def _nullable(rows: pa.Table) -> pa.Table:
    return rows.cast(pa.schema([f.with_nullable(nullable=True) for f in rows.schema]))
