"""Append, upsert and replace: what each plans on one version of a table.

Each is planned, its files are written, and the commit lands only as the next version;
otherwise it is planned again. `lakehouse.store.Lake` is the way in.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake.exceptions import CommitFailedError

from lakehouse.errors import InputError, RefusedError, SchemaError
from lakehouse.schema._spec import TableSpec
from lakehouse.storage.commits import StoredFile, TableHandle, with_retries
from lakehouse.storage.files import read_rows
from lakehouse.storage.keys import (
    CodedRows,
    IntArray,
    describe_key,
    differing_rows,
    match_keys,
    refuse_repeated_keys,
)
from lakehouse.storage.latest import LatestTable
from lakehouse.storage.layout import WrittenFile, write_files
from lakehouse.storage.predicate import Predicate
from lakehouse.storage.validate import conform, decode


@dataclass(frozen=True, slots=True)
class Commit:
    """What a write did.

    Attributes
    ----------
    table : str
    version : int
        The table's version after it.
    n_rows : int
        Rows written.
    n_skipped : int
        Rows that were stored already with equal content.
    is_new : bool
        False when nothing had to be committed: the window was there already, or
        every row of an upsert was stored already.
    """

    table: str
    version: int
    n_rows: int
    n_skipped: int
    is_new: bool


class _Write(ABC):
    """A write in progress: what stays the same over its attempts."""

    def __init__(
        self,
        handle: TableHandle,
        latest: LatestTable | None,
        rows: pa.Table,
        window: str | Sequence[str] | None,
    ) -> None:
        self._handle = handle
        self._latest = latest
        self._spec: TableSpec = handle.spec
        self._windows = _windows(window)
        spec = self._spec
        batch = CodedRows(conform(spec, rows)).sorted_by(spec.sort_by)
        refuse_repeated_keys(spec.name, batch, key=spec.key, sorted_by=spec.sort_by)
        self._batch = batch

    def run(self) -> Commit:
        """Attempt until no other writer gets in between."""
        return with_retries(self._spec.name, self.attempt)

    @abstractmethod
    def attempt(self) -> Commit:
        """Plan on the newest version and commit as the next one."""

    def _pending(self, delta: Any) -> list[str]:
        done = self._handle.has_windows(delta, self._windows)
        return [
            w for w, is_done in zip(self._windows, done, strict=True) if not is_done
        ]

    def _is_done(self, pending: Sequence[str]) -> bool:
        return bool(self._windows) and not pending

    def _nothing(self, delta: Any, n_skipped: int) -> Commit:
        return Commit(self._spec.name, delta.version(), 0, n_skipped, is_new=False)

    def _write(self, rows: CodedRows) -> list[WrittenFile]:
        return write_files(self._handle.location, self._spec, rows)

    def _match(self, batch: CodedRows, stored: CodedRows) -> tuple[IntArray, IntArray]:
        spec = self._spec
        rank = {name: spot for spot, name in enumerate(spec.sort_by)}
        key = sorted(spec.key, key=lambda name: rank.get(name, len(rank)))
        time = spec.time if spec.time in stored.rows.column_names else None
        return match_keys(batch, stored, key, time=time)

    def _drop(self, written: Sequence[WrittenFile]) -> None:
        for file in written:
            self._handle.location.delete(file.path)

    def _commit_or_drop(
        self,
        delta: Any,
        written: Sequence[WrittenFile],
        removes: Sequence[StoredFile],
        pending: Sequence[str],
    ) -> int:
        try:
            return self._handle.commit(
                delta,
                adds=[file.action for file in written],
                removes=removes,
                windows=pending,
            )
        except CommitFailedError:
            self._drop(written)
            raise

    def _stored_matches(
        self, delta: Any, columns: Sequence[str]
    ) -> tuple[IntArray, pa.Table] | None:
        """Find stored rows with a key of the batch.

        Returns
        -------
        tuple of row numbers in the batch and the stored rows, pairwise; None if none
        """
        spec = self._spec
        files = self._handle.files_touching(delta, self._batch.rows)
        names = list(dict.fromkeys((*spec.key, *columns)))
        found: list[tuple[IntArray, pa.Table]] = []
        for file in files:
            stored = read_rows(self._handle.location, spec, file, names)
            ours, theirs = self._match(self._batch, stored)
            if ours.size:
                found.append((ours, stored.rows.take(pa.array(theirs))))
        if not found:
            return None
        return (
            np.concatenate([ours for ours, _ in found]),
            pa.concat_tables([rows for _, rows in found]),
        )


class AppendWrite(_Write):
    """New rows under a window; see `Lake.append`."""

    _fresh: CodedRows | None = None
    _written: Sequence[WrittenFile] = ()

    def run(self) -> Commit:
        """Attempt until no other writer gets in between."""
        if not self._windows:
            raise InputError(f"table {self._spec.name}: append needs a window")
        return super().run()

    def attempt(self) -> Commit:
        """Plan on the newest version and commit as the next one."""
        delta = self._handle.ensure()
        pending = self._pending(delta)
        if not pending:
            self._drop(self._written)
            return self._nothing(delta, self._batch.n_rows)
        fresh = self._not_stored(delta)
        if self._fresh is None or fresh.n_rows != self._fresh.n_rows:
            self._drop(self._written)
            self._written = self._write(fresh)
            self._fresh = fresh
        version = self._handle.commit(
            delta, adds=[file.action for file in self._written], windows=pending
        )
        if self._latest is not None:
            self._latest.advance(version, fresh)
        n_skipped = self._batch.n_rows - fresh.n_rows
        return Commit(self._spec.name, version, fresh.n_rows, n_skipped, is_new=True)

    def _not_stored(self, delta: Any) -> CodedRows:
        """Return the rows whose key is not stored; refuse changed content."""
        batch, spec = self._batch, self._spec
        matches = self._stored_matches(delta, content(spec))
        if matches is None:
            return batch
        ours, stored = matches
        mine = batch.rows.take(pa.array(ours))
        differs = differing_rows(mine, stored, content(spec))
        if differs.any():
            where = describe_key(mine, spec.key, int(differs.argmax()))
            raise SchemaError(
                f"table {spec.name}: {where} is stored with different content "
                f"({int(differs.sum())} such rows); append adds new keys, upsert "
                "changes stored ones"
            )
        return batch.without(ours)


class UpsertWrite(_Write):
    """Insert or change by key; see `Lake.upsert`."""

    def attempt(self) -> Commit:
        """Plan on the newest version and commit as the next one."""
        _refuse_append_only(self._spec, "upsert")
        delta = self._handle.ensure()
        pending = self._pending(delta)
        if self._is_done(pending):
            return self._nothing(delta, self._batch.n_rows)
        changed, kept, removes = self._plan(delta)
        n_skipped = self._batch.n_rows - changed.n_rows
        if not changed.n_rows and not pending:
            return self._nothing(delta, n_skipped)
        written = self._write(_merged(self._spec, kept, changed))
        version = self._commit_or_drop(delta, written, removes, pending)
        if self._latest is not None:
            if removes and not self._latest.is_order_in_key:
                self._latest.current()
            else:
                self._latest.advance(version, changed)
        return Commit(self._spec.name, version, changed.n_rows, n_skipped, is_new=True)

    def _plan(self, delta: Any) -> tuple[CodedRows, list[pa.Table], list[StoredFile]]:
        """Return changed rows, the rows to keep of touched files, and these files."""
        spec, batch = self._spec, self._batch
        names = content(spec)
        kept: list[pa.Table] = []
        removes: list[StoredFile] = []
        equal = [np.empty(0, dtype=np.int64)]
        for file in self._handle.files_touching(delta, batch.rows):
            stored = read_rows(self._handle.location, spec, file)
            ours, theirs = self._match(batch, stored)
            if not ours.size:
                continue
            differs = differing_rows(
                batch.rows.select(names).take(pa.array(ours)),
                stored.rows.select(names).take(pa.array(theirs)),
                names,
            )
            equal.append(ours[~differs])
            if differs.any():
                removes.append(file)
                kept.append(without(stored.rows, theirs[differs]))
        return self._batch.without(np.concatenate(equal)), kept, removes


class ReplaceWrite(_Write):
    """Replace all rows or those of a predicate; see `Lake.replace`."""

    def __init__(
        self,
        handle: TableHandle,
        latest: LatestTable | None,
        rows: pa.Table,
        window: str | Sequence[str] | None,
        *,
        predicate: str | None,
    ) -> None:
        super().__init__(handle, latest, rows, window)
        self._predicate = Predicate(self._spec, predicate) if predicate else None
        if self._predicate is not None:
            self._predicate.refuse_outside(decode(self._spec, self._batch.rows))

    def attempt(self) -> Commit:
        """Plan on the newest version and commit as the next one."""
        _refuse_append_only(self._spec, "replace")
        delta = self._handle.ensure()
        pending = self._pending(delta)
        if self._is_done(pending):
            return self._nothing(delta, self._batch.n_rows)
        removes = self._handle.files(delta)
        kept: list[pa.Table] = []
        if self._predicate is not None:
            kept, removes = self._outside(delta, self._predicate)
        written = self._write(_merged(self._spec, kept, self._batch))
        version = self._commit_or_drop(delta, written, removes, pending)
        if self._latest is not None:
            self._latest.current()
        return Commit(self._spec.name, version, self._batch.n_rows, 0, is_new=True)

    def _outside(
        self, delta: Any, predicate: Predicate
    ) -> tuple[list[pa.Table], list[StoredFile]]:
        """Return the rows to keep of files the predicate touches, and these files."""
        spec = self._spec
        kept: list[pa.Table] = []
        removes: list[StoredFile] = []
        for file in self._handle.files(delta):
            stored = read_rows(self._handle.location, spec, file).rows
            is_inside = predicate.holds(stored)
            outside = stored.filter(pa.array(~is_inside))
            clashes, _ = self._match(self._batch, CodedRows(outside))
            if clashes.size:
                where = describe_key(self._batch.rows, spec.key, int(clashes[0]))
                raise SchemaError(
                    f"table {spec.name}: {where} is stored outside {predicate.text!r}"
                )
            if is_inside.any():
                removes.append(file)
                kept.append(outside)
        return kept, removes


def content(spec: TableSpec) -> list[str]:
    """Return the columns that make up a row's content: neither key nor provenance."""
    apart = {*spec.key, *spec.provenance}
    return [column.name for column in spec.columns if column.name not in apart]


def without(rows: pa.Table, numbers: IntArray) -> pa.Table:
    """Return `rows` but those numbered."""
    if not numbers.size:
        return rows
    keep = np.ones(rows.num_rows, dtype=np.bool_)
    keep[numbers] = False
    return rows.filter(pa.array(keep))


def _merged(spec: TableSpec, kept: Sequence[pa.Table], fresh: CodedRows) -> CodedRows:
    kept = [rows for rows in kept if rows.num_rows]
    if not kept:
        return fresh
    rows = pa.concat_tables([*kept, fresh.rows]).unify_dictionaries()
    return CodedRows(rows).sorted_by(spec.sort_by)


def _windows(window: str | Sequence[str] | None) -> list[str]:
    if window is None:
        return []
    windows = [window] if isinstance(window, str) else list(window)
    if any(not name or len(name) > 512 for name in windows):
        raise InputError("a window is a name of 1 to 512 characters")
    return list(dict.fromkeys(windows))


def _refuse_append_only(spec: TableSpec, verb: str) -> None:
    if spec.is_append_only:
        raise RefusedError(f"table {spec.name} is append-only: {verb} refused")
