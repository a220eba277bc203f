"""Predictions that a fixed model made elsewhere: from bytes to rows that can be trusted.

A file is CSV or Parquet with the columns `symbol`, `timeframe`, `as_of` (with its
offset from UTC) and `prediction`, and may name what each row is about in `subject_id`;
else that is the symbol and the moment. Any other column is refused: a file that says
more than is read was written for something else.
"""

import io
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.bars.timeframes import step
from lab.errors import BarsError, FeatureError

MAX_BYTES: Final = 256 * 2**20
"""Largest file that is read."""

_TIME: Final = pa.timestamp("us", tz="UTC")
_FIRST: Final = datetime(1900, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 31, tzinfo=UTC)  # later ones no calendar can tell

PREDICTIONS: Final = pa.schema(
    [
        pa.field("subject_id", pa.string(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("timeframe", pa.string(), nullable=False),
        pa.field("as_of", _TIME, nullable=False),
        pa.field("prediction", pa.float64(), nullable=False),
    ]
)
"""What every loader returns."""

_REQUIRED: Final = tuple(name for name in PREDICTIONS.names if name != "subject_id")


def parse_predictions(data: bytes, name: str) -> pa.Table:
    """Return the predictions of a file.

    Parameters
    ----------
    data : bytes
        The file.
    name : str
        Its name; `.parquet` is Parquet, anything else CSV. Messages begin with it.

    Returns
    -------
    pyarrow.Table
        `PREDICTIONS`, in the order of `as_of`, then of `subject_id`; at least one row.

    Raises
    ------
    FeatureError
        If it is too large, no such file, lacks a column or has another, a value is
        missing or no finite number, a time has no offset or is of no year from 1900 to
        9999, a timeframe is unknown, or two rows are about the same.

    Notes
    -----
    Point in time: `as_of` is what the file claims. That a prediction was made then, and
    not afterwards, no file can show.
    """
    if len(data) > MAX_BYTES:
        raise FeatureError(f"{name}: {len(data)} bytes, at most {MAX_BYTES} are read")
    try:
        table = _parquet(data) if name.endswith(".parquet") else _csv(data)
        rows = _in_schema(table, name)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        words = " ".join(str(error).split())
        raise FeatureError(f"{name}: no predictions: {words[:200]}") from error
    _require_values(rows, name)
    ordered = rows.sort_by([("as_of", "ascending"), ("subject_id", "ascending")])
    whole: pa.Table = ordered.combine_chunks()
    return whole


def _csv(data: bytes) -> pa.Table:
    from pyarrow import csv

    types = {name: PREDICTIONS.field(name).type for name in PREDICTIONS.names}
    return csv.read_csv(
        io.BytesIO(data),
        convert_options=csv.ConvertOptions(
            column_types=types, strings_can_be_null=True, null_values=[""]
        ),
    )


def _parquet(data: bytes) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(io.BytesIO(data))


def _in_schema(table: pa.Table, name: str) -> pa.Table:
    missing = [one for one in _REQUIRED if one not in table.column_names]
    if missing:
        raise FeatureError(f"{name}: column missing: {', '.join(missing)}")
    other = sorted(set(table.column_names) - set(PREDICTIONS.names))
    if other:
        raise FeatureError(
            f"{name}: column {', '.join(other)}: only {', '.join(PREDICTIONS.names)}"
        )
    if len(set(table.column_names)) != table.num_columns:
        raise FeatureError(f"{name}: a column comes twice")
    kind = table.schema.field("as_of").type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        raise FeatureError(f"{name}: as_of is {kind}, not a time with its offset")
    if "subject_id" not in table.column_names:
        table = table.append_column("subject_id", _subjects(table))
    empty = [one for one in PREDICTIONS.names if table[one].null_count]
    if empty:
        raise FeatureError(f"{name}: {', '.join(empty)}: a value is missing")
    return table.select(PREDICTIONS.names).cast(PREDICTIONS)


def _subjects(table: pa.Table) -> Any:
    moments = pc.strftime(table["as_of"].cast(pa.timestamp("s", tz="UTC")), "%FT%TZ")
    return pc.binary_join_element_wise(table["symbol"].cast(pa.string()), moments, "/")


def _require_values(rows: pa.Table, name: str) -> None:
    if rows.num_rows == 0:
        raise FeatureError(f"{name}: no prediction in it")
    if not bool(np.isfinite(rows["prediction"].to_numpy()).all()):
        raise FeatureError(f"{name}: a prediction is not a finite number")
    moments = rows["as_of"].cast(pa.int64()).to_numpy()
    first, last = (pa.scalar(one, _TIME).value for one in (_FIRST, _LAST))
    if moments.min() < first or moments.max() > last:
        raise FeatureError(f"{name}: as_of: years from 1900 to 9999 are allowed")
    for timeframe in pc.unique(rows["timeframe"]).to_pylist():
        try:
            step(timeframe)
        except BarsError as error:
            raise FeatureError(f"{name}: {error}") from error
    if pc.count_distinct(rows["subject_id"]).as_py() != rows.num_rows:
        raise FeatureError(f"{name}: two rows are about the same subject_id")
