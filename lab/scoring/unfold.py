"""Rows of `ml_predictions` unfolded into one row per forecast and horizon."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import AnyArray, BoolArray, FloatArray, IntArray, TimeArray
from lab.errors import ScoringError
from lakehouse.schema.forecasts import ML_PREDICTIONS

_TEXT: Final = ("prediction_id", "symbol", "timeframe", "model_name", "model_version")
_BANDS: Final = ("p10", "p50", "p90")
_NEEDED: Final = (
    *_TEXT,
    "as_of",
    "last_ts",
    "last_close",
    "target_ts",
    *_BANDS,
    "is_contaminated",
)
_PATHS: Final = ("samples", "quantiles")
READ: Final = (*_NEEDED, *_PATHS)
"""Columns of `ml_predictions` that scoring reads; the last two may be absent."""

_CHUNK_ROWS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Unfolded:
    """One row per forecast and horizon.

    Attributes
    ----------
    row : ndarray of shape (n_rows,), int64
        Row of the forecast in its table.
    horizon : ndarray of shape (n_rows,), int64
        Step, from 1.
    target_ts : ndarray of shape (n_rows,), datetime64[us]
        Open of the target bar.
    bands : ndarray of shape (n_rows, 3), float64
        p10, p50 and p90 there.
    """

    row: IntArray
    horizon: IntArray
    target_ts: TimeArray
    bands: FloatArray

    def keep(self, chosen: BoolArray) -> "Unfolded":
        """Return the rows where `chosen` is true."""
        return Unfolded(
            self.row[chosen],
            self.horizon[chosen],
            self.target_ts[chosen],
            self.bands[chosen],
        )


def checked_predictions(predictions: pa.Table) -> pa.Table:
    """Return the columns of `predictions` that scoring reads, in their declared types.

    Raises
    ------
    ScoringError
        If a column is missing or has another type.
    """
    names = predictions.column_names
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise ScoringError(f"predictions: column missing: {', '.join(missing)}")
    wanted = [*_NEEDED, *(name for name in _PATHS if name in names)]
    schema = pa.schema([ML_PREDICTIONS.column(name).to_field() for name in wanted])
    try:
        return predictions.select(wanted).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise ScoringError(f"predictions: {error}") from error


def unfold(predictions: pa.Table, horizons: Sequence[int]) -> Unfolded:
    """Return one row per forecast and each of `horizons` that it reaches.

    Raises
    ------
    ScoringError
        If a horizon is below 1 or a quantile list is shorter than `target_ts`.
    """
    steps = np.unique(np.asarray(horizons, dtype=np.int64))
    if len(steps) == 0 or steps[0] < 1:
        raise ScoringError(f"horizons {list(horizons)}: allowed are 1 and above")
    offsets, targets = _flat(predictions["target_ts"])
    length = np.diff(offsets)
    row, column = np.nonzero(steps[None, :] <= length[:, None])
    horizon = steps[column]
    bands = []
    for name in _BANDS:
        starts, values = _flat(predictions[name])
        if not np.array_equal(np.diff(starts), length):
            raise ScoringError(f"predictions: {name} and target_ts differ in length")
        bands.append(values[starts[row] + horizon - 1])
    return Unfolded(
        row=row.astype(np.int64),
        horizon=horizon,
        target_ts=targets[offsets[row] + horizon - 1],
        bands=np.stack(bands, axis=1),
    )


def samples_at(
    predictions: pa.Table, unfolded: Unfolded, *, column: str = "samples"
) -> Iterator[tuple[IntArray, AnyArray]]:
    """Yield the sample paths' values at each forecast and horizon, in chunks.

    Forecasts with fewer than two paths yield nothing.

    Parameters
    ----------
    predictions : pyarrow.Table
        From `checked_predictions`.
    unfolded : Unfolded
        Which forecasts and horizons.
    column : str
        `samples`, or `quantiles`, whose rows are levels instead of paths.

    Yields
    ------
    rows : ndarray of shape (n_chunk,), int64
        Row numbers in `unfolded`, all with the same number of paths.
    samples : ndarray of shape (n_chunk, n_samples), float32

    Raises
    ------
    ScoringError
        If a path is shorter than its horizon.
    """
    if column not in predictions.column_names or len(unfolded.row) == 0:
        return
    paths = _combined(predictions[column])
    outer = paths.offsets.to_numpy()
    inner = paths.values.offsets.to_numpy()
    values = paths.values.values.to_numpy()
    n_paths = pc.fill_null(pc.list_value_length(paths), 0).to_numpy()[unfolded.row]
    for n_samples in np.unique(n_paths[n_paths >= 2]):
        rows = np.flatnonzero(n_paths == n_samples)
        for start in range(0, len(rows), _CHUNK_ROWS):
            chunk = rows[start : start + _CHUNK_ROWS]
            path = outer[unfolded.row[chunk]][:, None] + np.arange(n_samples)
            at = inner[path] + unfolded.horizon[chunk][:, None] - 1
            if bool(np.any(at >= inner[path + 1])):
                raise ScoringError(
                    f"predictions: a row of {column} is shorter than target_ts"
                )
            yield chunk, values[at]


def times(column: pa.ChunkedArray) -> TimeArray:
    """Return a timestamp column as `datetime64[us]`."""
    return np.asarray(column.cast(pa.timestamp("us")).to_numpy())


def _combined(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.chunks else _empty(column.type)


def _empty(dtype: pa.DataType) -> pa.Array:
    return pa.array([], type=dtype)


def _flat(column: pa.ChunkedArray) -> tuple[IntArray, AnyArray]:
    lists = _combined(column)
    values = lists.values
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("us"))
    return lists.offsets.to_numpy().astype(np.int64), values.to_numpy()
