"""Point-in-time joins: what was the newest thing known when a label's row was decided.

The join is polars'. What this module adds are the checks without which a join by time
leaks or guesses: both sides in order of time, no two feature rows of one moment, and
afterwards no row that was known later than the decision it was joined to.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import IntArray
from lab.errors import FeatureError

_TIME: Final = pa.timestamp("us", tz="UTC")


def latest_known(
    labels: pa.Table,
    features: pa.Table,
    *,
    by: str | Sequence[str],
    at: str = "as_of",
    known: str = "known_ts",
    tolerance: timedelta | None = None,
) -> pa.Table:
    """Return each label's row with the newest feature row that was known by then.

    Parameters
    ----------
    labels : pyarrow.Table
        `by`, `at` and any other columns; each entity's rows in order of `at`.
    features : pyarrow.Table
        `by`, `known` and any other columns; each entity's rows in strict order of
        `known`. The rows of different entities may lie in any order.
    by : str or sequence of str
        Columns that name the entity, e.g. `symbol`.
    at : str
        When a label's row was decided.
    known : str
        When a feature row was known, not what it is about.
    tolerance : timedelta, optional
        Older feature rows count as unknown.

    Returns
    -------
    pyarrow.Table
        The columns of `labels`, then those of `features` but `by`; rows as in `labels`.
        Null, `known` too, where nothing was known.

    Raises
    ------
    FeatureError
        If a column is missing or in both tables, a time or key is null or of another
        type, rows are out of order, two feature rows have one entity and moment, or the
        tolerance is negative.

    Notes
    -----
    Point in time: `known` <= `at` in every row returned, checked after the join.
    """
    keys = (by,) if isinstance(by, str) else tuple(by)
    _require_columns(labels, features, keys, at, known)
    if tolerance is not None and tolerance < timedelta(0):
        raise FeatureError(f"join: tolerance {tolerance}: at least 0")
    left, right = _timed(labels, at, "labels"), _timed(features, known, "features")
    codes, others = _codes(left, right, keys)
    _require_order(codes, left[at], f"labels: {at}", is_strict=False)
    _require_order(others, right[known], f"features: {known}", is_strict=True)
    rows = _newest((left[at], codes), (right[known], others), tolerance=tolerance)
    joined = left
    for name in right.column_names:
        if name not in keys:
            field = right.schema.field(name).with_nullable(nullable=True)
            joined = joined.append_column(field, right[name].take(rows))
    _require_past(joined, at, known)
    return joined


def _newest(
    left: tuple[pa.ChunkedArray, IntArray],
    right: tuple[pa.ChunkedArray, IntArray],
    *,
    tolerance: timedelta | None,
) -> pa.Array:
    # Which row of `right`, null where there is none: only keys pass through the join.
    import polars as pl

    frames = [
        pl.DataFrame({"time": _micros(times), "entity": codes})
        for times, codes in (left, right)
    ]
    joined = frames[0].join_asof(
        frames[1].with_row_index("row"),
        on="time",
        by="entity",
        strategy="backward",
        tolerance=None if tolerance is None else tolerance // timedelta(microseconds=1),
        check_sortedness=False,  # was checked, and with entities polars cannot
    )
    rows: pa.Array = joined["row"].to_arrow()
    if len(rows) != len(left[1]):
        raise FeatureError(f"join: {len(left[1])} labels became {len(rows)} rows")
    return rows


def _micros(times: pa.ChunkedArray) -> IntArray:
    return np.asarray(times.cast(pa.int64()).to_numpy())


def _require_columns(
    labels: pa.Table, features: pa.Table, keys: tuple[str, ...], at: str, known: str
) -> None:
    if not keys:
        raise FeatureError("join: by names no column")
    for table, what, wanted in (
        (labels, "labels", (*keys, at)),
        (features, "features", (*keys, known)),
    ):
        missing = [name for name in wanted if name not in table.column_names]
        if missing:
            raise FeatureError(f"join: {what}: column missing: {', '.join(missing)}")
        for name in wanted:
            if table[name].null_count:
                raise FeatureError(f"join: {what}: {name} is null in some row")
    both = set(labels.column_names) & set(features.column_names) - set(keys)
    if both:
        raise FeatureError(f"join: in both tables: {', '.join(sorted(both))}")


def _timed(table: pa.Table, name: str, what: str) -> pa.Table:
    found = table.schema.field(name).type
    if not pa.types.is_timestamp(found) or found.tz is None:
        raise FeatureError(f"join: {what}: {name} is {found}, not a time in UTC")
    if found == _TIME:
        return table
    try:
        column = table[name].cast(_TIME)
    except pa.ArrowInvalid as error:
        raise FeatureError(f"join: {what}: {name}: {error}") from error
    return table.set_column(table.column_names.index(name), name, column)


def _codes(
    left: pa.Table, right: pa.Table, keys: tuple[str, ...]
) -> tuple[IntArray, IntArray]:
    # One number an entity, small where there are few: sorting by it is then a count.
    total, n_codes = [np.zeros(len(left), np.int64), np.zeros(len(right), np.int64)], 1
    for key in keys:
        if left.schema.field(key).type != right.schema.field(key).type:
            raise FeatureError(
                f"join: {key} is {left.schema.field(key).type} in labels,"
                f" {right.schema.field(key).type} in features"
            )
        values = pc.unique(
            pa.concat_arrays([pc.unique(left[key]), pc.unique(right[key])])
        )
        n_codes *= len(values)
        if n_codes > 2**62:
            raise FeatureError("join: too many entities")
        for i, table in enumerate((left, right)):
            place = pc.index_in(table[key], value_set=values).to_numpy()
            total[i] = total[i] * len(values) + place
    kind = next(one for one in (np.uint16, np.uint32, np.int64) if n_codes <= _top(one))
    return total[0].astype(kind), total[1].astype(kind)


def _top(kind: Any) -> int:
    return int(np.iinfo(kind).max)


def _require_order(
    codes: IntArray, times: pa.ChunkedArray, what: str, *, is_strict: bool
) -> None:
    # Entity by entity; a stable sort keeps the order of rows within one.
    order = np.argsort(codes, kind="stable")
    is_same = np.diff(codes[order].astype(np.int64)) == 0
    steps = np.diff(_micros(times)[order])
    if bool((is_same & (steps < 0)).any()):
        raise FeatureError(f"join: {what} is out of order within an entity")
    if is_strict and bool((is_same & (steps == 0)).any()):
        row = int(order[1:][is_same & (steps == 0)][0])
        raise FeatureError(f"join: {what}: row {row} has the moment of another")


def _require_past(joined: pa.Table, at: str, known: str) -> None:
    later = pc.any(pc.greater(joined[known], joined[at])).as_py()
    if later:
        raise FeatureError(f"join: a row was joined whose {known} is after {at}")
