"""Hash chains: rows that cannot be altered, dropped, swapped or doubled unseen.

A row's hash is the SHA-256 over the hash of the row before and the canonical JSON of
all its columns but the two hashes. The first row's predecessor is 64 zeros. Rows are
in the order of `seq`, from 0 without gaps; the order of rows in files says nothing.

A chain whose last rows are cut off is a chain still. `verify_chain` finds that too
once it is told a head that was seen before, e.g. one kept in a decision record.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from lab.errors import LifecycleError

FIRST_HASH: Final = "0" * 64
_HASHES: Final = ("previous_hash", "row_hash")


@dataclass(frozen=True, slots=True)
class Head:
    """The last row of a chain.

    Attributes
    ----------
    seq : int
        Its number; -1 of an empty chain.
    row_hash : str
        Its hash; 64 zeros of an empty chain.
    """

    seq: int = -1
    row_hash: str = FIRST_HASH


@dataclass(frozen=True, slots=True)
class ChainBreak:
    """Where a chain is broken.

    Attributes
    ----------
    seq : int
        First row that is not what was appended.
    reason : str
        What is wrong with it.
    """

    seq: int
    reason: str

    def __str__(self) -> str:
        return f"row {self.seq}: {self.reason}"


def row_hash(previous_hash: str, row: Mapping[str, Any]) -> str:
    """Return the hash of a row that follows `previous_hash`.

    Parameters
    ----------
    previous_hash : str
        Hash of the row before.
    row : mapping
        Every column but the hashes, which are passed over. Times are aware.

    Raises
    ------
    LifecycleError
        If a value is not text, a finite number, a truth value, a time or null.
    """
    content = {name: _plain(row[name]) for name in row if name not in _HASHES}
    try:
        text = json.dumps(
            content, sort_keys=True, separators=(",", ":"), allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise LifecycleError(f"chain row {row.get('seq')}: {error}") from error
    return hashlib.sha256((previous_hash + text).encode()).hexdigest()


def link(
    head: Head, rows: Sequence[Mapping[str, Any]], *, schema: pa.Schema
) -> pa.Table:
    """Return rows as they follow `head`: numbered and hashed.

    Parameters
    ----------
    head : Head
        The last row that is stored.
    rows : sequence of mapping
        Every column of `schema` but `seq` and the hashes.
    schema : pyarrow.Schema
        Of the chained table.
    """
    linked: list[dict[str, Any]] = []
    last = head
    for row in rows:
        whole = {**row, "seq": last.seq + 1, "previous_hash": last.row_hash}
        whole["row_hash"] = row_hash(last.row_hash, whole)
        linked.append(whole)
        last = Head(whole["seq"], whole["row_hash"])
    return pa.Table.from_pylist(linked, schema=schema)


def head_of(table: pa.Table) -> Head:
    """Return the last row of a chained table."""
    last = Head()
    columns = table.select(["seq", "row_hash"])
    for row in columns.to_pylist():
        if row["seq"] > last.seq:
            last = Head(row["seq"], row["row_hash"])
    return last


def verify_chain(table: pa.Table, *, seen: Iterable[Head] = ()) -> ChainBreak | None:
    """Return the first row at which a chained table is broken; None if it holds.

    Parameters
    ----------
    table : pyarrow.Table
        Every stored row, in any order.
    seen : iterable of Head, optional
        Rows that were in the chain once: a chain that was cut or made anew lacks them.
    """
    hashes: list[str] = []
    last = FIRST_HASH
    for row in sorted(table.to_pylist(), key=lambda one: int(one["seq"])):
        found = _check(row, len(hashes), last)
        if found is not None:
            return found
        last = row["row_hash"]
        hashes.append(last)
    for head in sorted(seen, key=lambda one: one.seq):
        if head.seq >= len(hashes):
            return ChainBreak(len(hashes), f"missing: the chain reached row {head.seq}")
        if head.seq >= 0 and hashes[head.seq] != head.row_hash:
            return ChainBreak(
                head.seq, "not the row that was appended under its number"
            )
    return None


def _check(row: Mapping[str, Any], expected: int, last: str) -> ChainBreak | None:
    if row["seq"] < expected:
        return ChainBreak(row["seq"], "there is a second row of this number")
    if row["seq"] > expected:
        return ChainBreak(expected, f"missing: row {row['seq']} comes next")
    if row["previous_hash"] != last:
        return ChainBreak(expected, "does not follow the row before it")
    if row["row_hash"] != row_hash(last, row):
        return ChainBreak(expected, "altered: its content does not give its hash")
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise LifecycleError("chain row: times must be aware of their time zone")
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return value
