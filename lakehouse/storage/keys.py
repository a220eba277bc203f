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

IntArray: TypeAlias = npt.NDArray[np.signedinteger[Any]]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
_WIDEST: Final = 2**62


def column_codes(values: pa.ChunkedArray) -> IntArray:
    """Return order-preserving codes of one column, shape (n_rows,), signed integers."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = values.dictionary_encode()
        kind = values.type
    if pa.types.is_dictionary(kind):
        return _text_codes(values)
    if pa.types.is_timestamp(kind) or pa.types.is_boolean(kind):
        values = values.cast(pa.int64())
    elif pa.types.is_floating(kind):
        return _float_codes(values)
    elif kind != pa.int64():
        values = values.cast(pa.int64())
    if values.null_count:
        values = pc.fill_null(values, np.iinfo(np.int64).min)
    codes: IntArray = values.to_numpy()
    return codes


def _float_codes(values: pa.ChunkedArray) -> IntArray:
    # The bits of a float order like its value, once negative ones are turned round.
    bits = (values.cast(pa.float64()).to_numpy() + 0.0).view(np.int64)
    codes: IntArray = bits ^ ((bits >> 63) & np.int64(np.iinfo(np.int64).max))
    if values.null_count:
        codes[pc.is_null(values).to_numpy()] = np.iinfo(np.int64).min
    return codes


def _text_codes(values: pa.ChunkedArray) -> IntArray:
    values = values.unify_dictionaries()
    if values.num_chunks == 0:
        return np.empty(0, dtype=np.int64)
    dictionary = values.chunk(0).dictionary
    order = pc.sort_indices(dictionary).to_numpy()
    ranks = np.empty(len(dictionary) + 1, dtype=np.int32)
    ranks[order] = np.arange(len(dictionary))
    ranks[-1] = -1  # null
    is_ranked = bool((ranks[:-1] == np.arange(len(dictionary))).all())
    codes = [_ranked(chunk.indices, ranks, is_ranked) for chunk in values.chunks]
    return codes[0] if len(codes) == 1 else np.concatenate(codes)


def _ranked(indices: pa.Array, ranks: IntArray, is_ranked: bool) -> IntArray:  # noqa: FBT001
    if indices.null_count:
        indices = pc.fill_null(indices, len(ranks) - 1)
    elif is_ranked:
        codes: IntArray = indices.to_numpy()
        return codes
    looked_up: IntArray = ranks[indices.to_numpy()]
    return looked_up


class CodedRows:
    """Rows with the codes of their columns, computed once each.

    Attributes
    ----------
    rows : pyarrow.Table
    """

    def __init__(
        self, rows: pa.Table, codes: dict[str, IntArray] | None = None
    ) -> None:
        self.rows = rows
        self._codes = codes if codes is not None else {}

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.rows.num_rows)

    def code(self, name: str) -> IntArray:
        """Return one column's codes, shape (n_rows,)."""
        if name not in self._codes:
            self._codes[name] = column_codes(self.rows.column(name))
        return self._codes[name]

    def codes(self, names: Sequence[str]) -> list[IntArray]:
        """Return several columns' codes."""
        return [self.code(name) for name in names]

    def take(self, numbers: IntArray) -> "CodedRows":
        """Return the rows numbered, in that order."""
        taken = {name: code[numbers] for name, code in self._codes.items()}
        return CodedRows(self.rows.take(pa.array(numbers)), taken)

    def without(self, numbers: IntArray) -> "CodedRows":
        """Return all rows but those numbered, in order."""
        if not numbers.size:
            return self
        keep = np.ones(self.n_rows, dtype=np.bool_)
        keep[numbers] = False
        return self.take(np.flatnonzero(keep))

    def sorted_by(self, names: Sequence[str]) -> "CodedRows":
        """Return the rows in that order (stable); the same object if they are."""
        codes = self.codes(names)
        if not codes or self.n_rows < 2 or not (step_signs(codes) < 0).any():
            return self
        return self.take(np.argsort(combine(codes), kind="stable"))

    def changes(self, names: Sequence[str]) -> BoolArray:
        """Return where any of some columns differs from the row before, (n_rows - 1,)."""
        differs = np.zeros(max(self.n_rows - 1, 0), dtype=np.bool_)
        for code in self.codes(names):
            differs |= code[1:] != code[:-1]
        return differs


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
        folded = (folded.astype(np.int64) - base) * span + (code - low)
    return folded.astype(np.int64, copy=False)


def _dense(code: IntArray) -> IntArray:
    return np.unique(code, return_inverse=True)[1].astype(np.int64)


def refuse_repeated_keys(
    table: str, rows: CodedRows, *, key: Sequence[str], sorted_by: Sequence[str]
) -> None:
    """Refuse rows that share a key.

    Parameters
    ----------
    table : str
        Its name, for the message.
    rows : CodedRows
        Sorted by `sorted_by`.
    key : sequence of str
        Columns that identify a row.
    sorted_by : sequence of str
        When these are the key's columns, equal keys are neighbours.

    Raises
    ------
    SchemaError
        Naming the first such key.
    """
    if rows.n_rows < 2:
        return
    if set(sorted_by) == set(key):
        repeated = np.flatnonzero(~rows.changes(key)) + 1
    else:
        folded = combine(rows.codes(key))
        order = np.argsort(folded, kind="stable")
        ranked = folded[order]
        repeated = order[1:][ranked[1:] == ranked[:-1]]
    if repeated.size:
        raise SchemaError(
            f"table {table}: {describe_key(rows.rows, key, int(repeated[0]))} is given "
            f"twice ({repeated.size} repeated rows); the key is ({', '.join(key)})"
        )


def describe_key(rows: pa.Table, key: Sequence[str], row: int) -> str:
    """Return one row's key in words, e.g. `symbol=BTC, ts=2024-01-01T00:00:00+00:00`."""
    return ", ".join(f"{name}={_text(rows.column(name)[row])}" for name in key)


def _text(value: Any) -> str:
    found = value.as_py()
    return found.isoformat() if hasattr(found, "isoformat") else str(found)


def newest_rows(rows: CodedRows, key: Sequence[str], order: Sequence[str]) -> IntArray:
    """Return the row numbers of the newest row per key; the later row wins a tie."""
    if not rows.n_rows:
        return np.empty(0, dtype=np.int64)
    # Only a row whose key's run ends, or which is newer than its successor, can win.
    ages = rows.codes(order)
    may_win = rows.changes(key) | (step_signs(ages) < 0)
    numbers = np.append(np.flatnonzero(may_win), rows.n_rows - 1)
    groups = combine([code[numbers] for code in rows.codes(key)])
    ranked = np.lexsort([*(age[numbers] for age in reversed(ages)), groups])
    grouped = groups[ranked]
    is_last = np.append(grouped[1:] != grouped[:-1], np.True_)
    newest: IntArray = np.sort(numbers[ranked[is_last]])
    return newest


def match_keys(
    left: CodedRows, right: CodedRows, key: Sequence[str], *, time: str | None = None
) -> tuple[IntArray, IntArray]:
    """Pair the rows of two tables that have equal keys.

    Parameters
    ----------
    left, right : CodedRows
        Keys are unique in each.
    key : sequence of str
        Best in the order both are sorted by.
    time : str, optional
        A column that is equal where keys are: rows of `left` outside the times of
        `right` are not looked at.

    Returns
    -------
    tuple of ndarray of shape (n_pairs,), int64
        Row numbers in `left` (ascending) and in `right`.
    """
    nothing = np.empty(0, dtype=np.int64)
    if not left.n_rows or not right.n_rows:
        return nothing, nothing
    looked_at = np.arange(left.n_rows)
    if time is not None:
        moments, theirs = left.code(time), right.code(time)
        is_near = (moments >= theirs.min()) & (moments <= theirs.max())
        looked_at = np.flatnonzero(is_near)
    if not looked_at.size:
        return nothing, nothing
    folded = combine(
        [
            np.concatenate([left.code(name)[looked_at], _translated(left, right, name)])
            for name in key
        ]
    )
    ours, stored = folded[: looked_at.size], folded[looked_at.size :]
    order = np.argsort(stored, kind="stable")
    ranked = stored[order]
    spots = np.minimum(np.searchsorted(ranked, ours), len(ranked) - 1)
    found = np.flatnonzero(ranked[spots] == ours)
    return looked_at[found], order[spots[found]]


def _translated(left: CodedRows, right: CodedRows, name: str) -> IntArray:
    """Return a column of `right` in the codes of `left`; -2 for text unknown there."""
    codes = right.code(name)
    ours, theirs = left.rows.column(name), right.rows.column(name)
    if not pa.types.is_dictionary(ours.type):
        return codes
    spots = pc.index_in(_ranked_texts(theirs), value_set=_ranked_texts(ours))
    table = np.append(pc.fill_null(spots, -2).to_numpy(), -1)  # null stays null
    translated: IntArray = table[codes]
    return translated


def _ranked_texts(values: pa.ChunkedArray) -> pa.Array:
    dictionary = values.unify_dictionaries().chunk(0).dictionary
    return dictionary.take(pc.sort_indices(dictionary))


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
