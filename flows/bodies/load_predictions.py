"""Inference-only models: what a fixed model said elsewhere, as rows that are watched."""

import hashlib
import re
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.predictions import load_predictions
from flows.progress import plural
from flows.runs import Run
from lakehouse.errors import InputError
from lakehouse.schema.lifecycle import MODEL_PREDICTIONS

ORIGIN: Final = "replay"
"""No file can show that it was written before its outcomes: its rows count for nothing
that only live rows count for."""

NO_SCHEMA: Final = "0" * 64
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")


def run_load_predictions(run: Run, *, source: str, model: str) -> str:
    """Enter the predictions of a fixed model, once however often they are loaded.

    The version is a hash of the file: another file of the model is another version.
    Counts `predictions`.

    Parameters
    ----------
    run : Run
        Where to write.
    source : str
        A path, `s3://...`, or an MLflow artefact, see `flows.predictions`.
    model : str
        Name of the model: small letters, digits, `-`, `_`, `.`.

    Raises
    ------
    InputError
        If the name or the file cannot be used, or a prediction is from the future.
    SourceUnavailableError
        If the place does not answer.

    Notes
    -----
    Point in time: `as_of` is the file's claim, hence origin `replay`; none is later
    than now.
    """
    if not _NAME.fullmatch(model):
        raise InputError(f"--model {model!r}: small letters, digits, - _ . are allowed")
    rows, data = run.fetch(lambda: load_predictions(source, run.workplace))
    newest = pc.max(rows["as_of"]).as_py()
    if newest > run.now:
        raise InputError(
            f"{source}: as_of {newest.isoformat()} is later than now,"
            f" {run.now.isoformat()}"
        )
    digest = hashlib.sha256(data).hexdigest()
    version = digest[:16]
    run.parameters |= {"version": version, "sha256": digest}
    table = _rows(run, rows, model, version)
    window = f"load-predictions/{model}/{digest}"
    done = run.append("model_predictions", table, window=window)
    run.count("predictions", done.n_rows if done.is_new else 0)
    told = f"{model} {version}: {plural(rows.num_rows, 'prediction')} of {source}"
    if not done.is_new:
        return f"{told} were there before"
    return f"{told} entered as {ORIGIN} rows"


def _rows(run: Run, rows: pa.Table, model: str, version: str) -> pa.Table:
    n_rows = rows.num_rows
    schema = MODEL_PREDICTIONS.to_arrow()
    same = {
        "model_name": model,
        "version": version,
        "origin": ORIGIN,
        "schema_sha256": NO_SCHEMA,
        "run_id": run.run_id,
    }
    columns = {
        **{name: pa.repeat(pa.scalar(text), n_rows) for name, text in same.items()},
        **{name: rows[name] for name in rows.column_names},
        "score": rows["prediction"],
        # Its features are not known here: no row is compared with training rows.
        "features": pa.ListArray.from_arrays(
            np.zeros(n_rows + 1, dtype=np.int32), pa.array([], pa.float64())
        ),
        "is_novel": pa.array(np.zeros(n_rows, dtype=np.bool_)),
    }
    filled = {
        field.name: columns[field.name]
        if field.name in columns
        else pa.nulls(n_rows, field.type)
        for field in schema
    }
    return pa.table(filled).cast(schema)
