"""Figures of a flow as rows of `telemetry`."""

import json
from collections.abc import Mapping
from datetime import datetime

import pyarrow as pa

from lakehouse.schema.telemetry import TELEMETRY


def telemetry_rows(
    values: Mapping[str, tuple[float, str]],
    *,
    ts: datetime,
    run_id: str,
    labels: Mapping[str, str] | None = None,
) -> pa.Table:
    """Return one `telemetry` row per figure.

    Parameters
    ----------
    values : mapping of str to (float, str)
        Dotted metric name to its value and unit.
    ts : datetime
        Clock time of the measurement.
    run_id : str
        The run that measured.
    labels : mapping of str to str, optional
        Written as JSON on every row.
    """
    text = json.dumps(dict(labels or {}), sort_keys=True)
    rows = [
        {
            "ts": ts,
            "name": name,
            "run_id": run_id,
            "value": float(value),
            "unit": unit,
            "labels": text,
        }
        for name, (value, unit) in sorted(values.items())
    ]
    return pa.Table.from_pylist(rows, schema=TELEMETRY.to_arrow())
