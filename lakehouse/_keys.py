"""Keys as integers: order, uniqueness, newest rows, and which keys are stored already.

Every key or sort column becomes an int64 code whose order is the column's order, so
that sorting and comparing many columns is arithmetic. Nulls come first.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import SchemaError

IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
_WIDEST: Final = 2**62


def column_codes(values: pa.ChunkedArray) -> IntArray:
    """Return order-preserving codes of one column, shape (n_rows,), int64."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = values.dictionary_encode()
        kind = values.type
    if pa.types.is_dictionary(kind):
        return _text_codes(values)
    if pa.types.is_timestamp(kind) or pa.types.is_boolean(kind):
        values = values.cast(pa.int64())
    elif pa.types.is_floating(kind):
        values = pc.rank(values, tiebreaker="dense").cast(pa.int64())
    elif kind != pa.int64():
        values = values.cast(pa.int64())
    if values.null_count:
        values = pc.fill_null(values, np.iinfo(np.int64).min)
    codes: IntArray = values.to_numpy()
    return codes


def _text_codes(values: pa.ChunkedArray) -> IntArray:
    values = values.unify_dictionaries()
    if values.num_chunks == 0:
        return np.empty(0, dtype=np.int64)
    dictionary = values.chunk(0).dictionary
    order = pc.sort_indices(dictionary).to_numpy()
    ranks = np.empty(len(dictionary) + 1, dtype=np.int64)
    ranks[order] = np.arange(len(dictionary))
    ranks[-1] = -1  # null
    return np.concatenate(
        [
            ranks[pc.fill_null(chunk.indices, len(dictionary)).to_numpy()]
            for chunk in values.chunks
        ]
    )


def codes_of(rows: pa.Table, columns: Sequence[str]) -> list[IntArray]:
    """Return `column_codes` of several columns."""
    return [column_codes(rows.column(name)) for name in columns]


def step_signs(codes: Sequence[IntArray]) -> npt.NDArray[np.int8]:
    """Compare each row with the one before, lexicographically.

    Returns
    -------
    ndarray of shape (n_rows - 1,), int8
        1 where the row is greater, 0 where equal, -1 where less.
    """
    signs = np.zeros(max(len(codes[0]) - 1, 0), dtype=np.int8)
    for code in reversed(codes):
        ahead, behind = code[1:], code[:-1]
        differs = ahead != behind
        np.copyto(
            signs, np.where(ahead > behind, np.int8(1), np.int8(-1)), where=differs
        )
    return signs


def combine(codes: Sequence[IntArray]) -> IntArray:
    """Fold several columns' codes into one, order kept."""
    folded = codes[0]
    for code in codes[1:]:
        if not len(code):
            return code
        low, high = int(code.min()), int(code.max())
        span = high - low + 1
        base = int(folded.min())
        if span > _WIDEST or (int(folded.max()) - base + 1) * span >= _WIDEST:
            folded, code, low = _dense(folded), _dense(code), 0
            span, base = int(code.max()) + 1, 0
        folded = (folded - base) * span + (code - low)
    return folded


def _dense(code: IntArray) -> IntArray:
    return np.unique(code, return_inverse=True)[1].astype(np.int64)


def order_rows(
    rows: pa.Table, columns: Sequence[str]
) -> tuple[pa.Table, list[IntArray]]:
    """Sort rows by `columns` (stable) unless they are sorted; return their codes too."""
    codes = codes_of(rows, columns)
    if not codes or not rows.num_rows or not (step_signs(codes) < 0).any():
        return rows, codes
    order = np.argsort(combine(codes), kind="stable")
    return rows.take(pa.array(order)), [code[order] for code in codes]


def refuse_repeated_keys(
    table: str, rows: pa.Table, key: Sequence[str], sorted_by: Sequence[str]
) -> None:
    """Refuse rows that share a key.

    Parameters
    ----------
    table : str
        Its name, for the message.
    rows : pyarrow.Table
        Sorted by `sorted_by`.
    key : sequence of str
        Columns that identify a row.
    sorted_by : sequence of str
        When these are the key's columns, equal keys are neighbours.

    Raises
    ------
    SchemaError
    """
    if rows.num_rows < 2:
        return
    if set(sorted_by) == set(key):
        repeated = np.flatnonzero(step_signs(codes_of(rows, sorted_by)) == 0) + 1
    else:
        folded = combine(codes_of(rows, key))
        order = np.argsort(folded, kind="stable")
        ranked = folded[order]
        repeated = order[1:][ranked[1:] == ranked[:-1]]
    if repeated.size:
        raise SchemaError(
            f"table {table}: {describe_key(rows, key, int(repeated[0]))} is given "
            f"twice ({repeated.size} repeated rows); the key is ({', '.join(key)})"
        )


def describe_key(rows: pa.Table, key: Sequence[str], row: int) -> str:
    """Return one row's key in words, e.g. `symbol=BTC, ts=2024-01-01T00:00:00+00:00`."""
    return ", ".join(f"{name}={_text(rows.column(name)[row])}" for name in key)


def _text(value: Any) -> str:
    found = value.as_py()
    return found.isoformat() if hasattr(found, "isoformat") else str(found)


def newest_rows(rows: pa.Table, key: Sequence[str], order: Sequence[str]) -> IntArray:
    """Return the row numbers of the newest row per key; the later row wins a tie."""
    if not rows.num_rows:
        return np.empty(0, dtype=np.int64)
    groups = combine(codes_of(rows, key))
    ages = codes_of(rows, order)
    if (step_signs([groups, *ages]) < 0).any():
        ranked = np.lexsort([*reversed(ages), groups]).astype(np.int64)
    else:
        ranked = np.arange(rows.num_rows)
    grouped = groups[ranked]
    is_last = np.append(grouped[1:] != grouped[:-1], True)
    newest: IntArray = ranked[is_last]
    return newest


def match_keys(
    left: pa.Table, right: pa.Table, key: Sequence[str]
) -> tuple[IntArray, IntArray]:
    """Pair the rows of two tables that have equal keys.

    Returns
    -------
    tuple of ndarray of shape (n_pairs,), int64
        Row numbers in `left` (ascending) and in `right`.
    """
    if not left.num_rows or not right.num_rows:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    both = pa.concat_tables([_plain(left.select(key)), _plain(right.select(key))])
    folded = combine(codes_of(both, key))
    ours, theirs = folded[: left.num_rows], folded[left.num_rows :]
    order = np.argsort(theirs, kind="stable")
    ranked = theirs[order]
    spots = np.minimum(np.searchsorted(ranked, ours), len(ranked) - 1)
    found = np.flatnonzero(ranked[spots] == ours)
    return found, order[spots[found]]


def _plain(rows: pa.Table) -> pa.Table:
    return rows.cast(
        pa.schema(
            [
                pa.field(
                    f.name,
                    f.type.value_type if pa.types.is_dictionary(f.type) else f.type,
                )
                for f in rows.schema
            ]
        )
    )


def differing_rows(
    left: pa.Table, right: pa.Table, columns: Sequence[str]
) -> BoolArray:
    """Compare two tables row by row; null equals null.

    Returns
    -------
    ndarray of shape (n_rows,), bool
        True where any of `columns` differs.
    """
    differs = np.zeros(left.num_rows, dtype=np.bool_)
    for name in columns:
        ours, theirs = left.column(name), right.column(name)
        if pa.types.is_dictionary(ours.type):
            ours = ours.cast(ours.type.value_type)
        theirs = theirs.cast(ours.type)
        if pa.types.is_nested(ours.type):
            if not ours.equals(theirs):
                pairs = zip(ours.to_pylist(), theirs.to_pylist(), strict=True)
                differs |= np.fromiter((a != b for a, b in pairs), np.bool_, len(ours))
            continue
        same = pc.fill_null(pc.equal(ours, theirs), fill_value=False)
        same = pc.or_(same, pc.and_(pc.is_null(ours), pc.is_null(theirs)))
        differs |= ~same.to_numpy()
    return differs
