"""Stored predictions as the arrays of a drift report."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.runs import Run
from lab.arrays import FloatArray
from lab.bars.timeframes import to_moment
from lab.drift.performance import Judged
from lakehouse.errors import RefusedError

WINDOW_DAYS: Final = 45
"""Days of a window: enough for 30 days of trading metrics on any calendar."""

MIN_ROWS: Final = 300
_COLUMNS: Final = (
    "subject_id",
    "symbol",
    "as_of",
    "prediction",
    "features",
    "label",
    "outcome",
    "settled_at",
)
_MOMENT: Final = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class Predicted:
    """Predictions of one version in time order.

    Attributes
    ----------
    features : ndarray of shape (n_rows, n_features), float64
        NaN is missing.
    judged : Judged
        Times, predictions and what is known of them.
    """

    features: FloatArray
    judged: Judged

    @property
    def end(self) -> datetime:
        """Time of the newest prediction."""
        return to_moment(self.judged.times[-1])

    def __len__(self) -> int:
        return len(self.judged.times)


def read_predictions(
    run: Run, model: str, version: str, *, origin: str, as_of: datetime
) -> Predicted:
    """Read a version's predictions of one origin.

    Parameters
    ----------
    run : Run
        Where to read.
    model, version : str
        Whose.
    origin : str
        `live` or `out_of_fold`: no other says what a model does.
    as_of : datetime
        Later predictions, and labels known later, are left out.

    Raises
    ------
    RefusedError
        If rows of one version have different numbers of features.

    Notes
    -----
    Point in time: a label counts only from its `settled_at` on.
    """
    rows = run.read(
        "model_predictions",
        columns=list(_COLUMNS),
        filter=(pc.field("model_name") == model)
        & (pc.field("version") == version)
        & (pc.field("origin") == origin)
        & (pc.field("as_of") <= pa.scalar(as_of, _MOMENT)),
    ).sort_by(
        [("as_of", "ascending"), ("symbol", "ascending"), ("subject_id", "ascending")]
    )
    settled = rows["settled_at"].cast(pa.timestamp("us")).to_numpy()
    until = np.datetime64(as_of.replace(tzinfo=None), "us")
    is_known = ~np.isnat(settled) & (settled <= until)
    label, outcome = (
        np.where(is_known, _numbers(rows[name]), np.nan)
        for name in ("label", "outcome")
    )
    judged = Judged(
        rows["as_of"].cast(pa.timestamp("us")).to_numpy(),
        _numbers(rows["prediction"]),
        label,
        outcome,
    )
    return Predicted(_features(rows, f"{model} {version}"), judged)


def newest(rows: Predicted) -> Predicted:
    """Return the rows of the newest days, of more days if those are too few rows."""
    times = rows.judged.times
    if not len(times):
        return rows
    first_day = times[-1].astype("datetime64[D]") - np.timedelta64(WINDOW_DAYS - 1, "D")
    first = int(np.searchsorted(times, first_day.astype(times.dtype)))
    if len(times) - first < MIN_ROWS:
        first = max(len(times) - MIN_ROWS, 0)
        # Never a part of a moment's rows.
        first = int(np.searchsorted(times, times[first], side="left"))
    chosen = np.arange(len(times)) >= first
    return Predicted(rows.features[chosen], rows.judged.rows(chosen))


def window_span(rows: Predicted) -> timedelta:
    """Return how long a window is."""
    return rows.end - to_moment(rows.judged.times[0])


def _numbers(column: pa.ChunkedArray) -> FloatArray:
    found: FloatArray = column.cast(pa.float64()).to_numpy().astype(np.float64)
    return found


def _features(rows: pa.Table, whose: str) -> FloatArray:
    if not rows.num_rows:
        return np.empty((0, 0))
    lengths = pc.unique(pc.list_value_length(rows["features"])).to_pylist()
    if len(lengths) != 1:
        raise RefusedError(
            f"model_predictions: {whose}: rows of {sorted(lengths)} features, one number"
            " of them is a version's"
        )
    flat = pc.list_flatten(rows["features"])
    return _numbers(flat).reshape(rows.num_rows, lengths[0])
