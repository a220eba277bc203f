"""What refits said of rows they had not seen, as rows of `model_predictions`."""

import numpy as np
import pyarrow as pa

from flows.runs import Run
from lab.arrays import AnyArray, FloatArray
from lab.learning.bundle import load_predictor
from lab.learning.training import Trained
from lakehouse.schema.lifecycle import MODEL_PREDICTIONS

_UTC = pa.timestamp("us", tz="UTC")


def append_out_of_fold(
    run: Run,
    trained: Trained,
    *,
    model_name: str,
    version: str,
    earned: FloatArray,
    costs: FloatArray | None = None,
) -> int:
    """Keep the out-of-fold rows of a registered version, once however often trained.

    Parameters
    ----------
    run : Run
        Where to write.
    trained : Trained
        Whose rows.
    model_name, version : str
        As registered.
    earned : ndarray of shape (n_scored,), float64
        Net profit of acting on each row; NaN where it was not acted on.
    costs : ndarray of shape (n_scored,), float64, optional
        Costs within it; unknown if not given.

    Returns
    -------
    int
        Rows, new or there before.

    Notes
    -----
    Point in time: `as_of` is when a row was decided, `settled_at` when it was known.
    """
    told = trained.out_of_fold
    rows = told.samples
    predictor = load_predictor(trained.files)
    n_rows = len(rows)
    columns = {
        "model_name": _same(model_name, n_rows),
        "version": _same(version, n_rows),
        "origin": _same("out_of_fold", n_rows),
        "subject_id": pa.array(rows.subject_id.tolist(), pa.string()),
        "symbol": pa.array(rows.symbol.tolist(), pa.string()),
        "timeframe": pa.array(rows.timeframe.tolist(), pa.string()),
        "as_of": _times(rows.start),
        "prediction": pa.array(told.predictions),
        "score": pa.array(told.scores),
        "features": _lists(rows.features),
        "schema_sha256": _same(predictor.schema_sha256, n_rows),
        "is_novel": pa.array(predictor.is_novel(rows.features)),
        "label": pa.array(rows.label),
        "outcome": pa.array(np.nan_to_num(earned)),
        "costs": pa.nulls(n_rows, pa.float64())
        if costs is None
        else pa.array(np.where(np.isfinite(earned), costs, 0.0)),
        "settled_at": _times(rows.end),
        "run_id": _same(run.run_id, n_rows),
    }
    schema = MODEL_PREDICTIONS.to_arrow()
    table = pa.table({name: columns[name] for name in schema.names}).cast(schema)
    run.append("model_predictions", table, window=f"out_of_fold/{model_name}/{version}")
    return n_rows


def _same(text: str, n_rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(text, pa.string()), n_rows)


def _lists(table: FloatArray) -> pa.Array:
    # Unknown values are null: a list holds no NaN.
    n_rows, width = table.shape
    values = pa.array(table.ravel(), from_pandas=True)
    ends = pa.array(np.arange(n_rows + 1) * width, pa.int32())
    return pa.ListArray.from_arrays(ends, values)


def _times(values: AnyArray) -> pa.Array:
    return pa.array(values.astype("datetime64[us]")).cast(_UTC)
