"""Samples with a known law: what a training must find, and what it must not."""

import numpy as np

from lab.learning.calibration import sigmoid
from lab.learning.samples import Samples

BEGIN = np.datetime64("2020-01-01", "us")


def planted(
    seed: int,
    n_rows: int,
    *,
    days: int = 500,
    n_features: int = 6,
    strength: float = 1.0,
    objective: str = "classification",
) -> Samples:
    """Return rows of a market whose first three features decide; some are unknown."""
    rng = np.random.default_rng(seed)
    start = BEGIN + np.sort(rng.integers(0, days * 86_400, n_rows)).astype("m8[s]")
    end = start + rng.integers(3_600, 5 * 86_400, n_rows).astype("m8[s]")
    table = rng.normal(size=(n_rows, n_features))
    table[rng.random(table.shape) < 0.03] = np.nan
    seen = np.nan_to_num(table)
    odds = strength * (seen[:, 0] + 0.7 * seen[:, 1] * seen[:, 2])
    noise = rng.random(n_rows)
    if objective == "classification":
        label = (noise < sigmoid(odds)).astype(np.float64)
        outcome = np.where(label > 0.5, 0.01, -0.01)
    else:
        label = 0.1 * odds + rng.normal(size=n_rows)
        outcome = 0.01 * label
    return Samples.of(
        names=[f"f{one}" for one in range(n_features)],
        features=table,
        subject_id=[f"order-{one:06d}" for one in range(n_rows)],
        symbol=[f"S{one % 5}" for one in range(n_rows)],
        timeframe=["1h"] * n_rows,
        start=start,
        end=end,
        label=label,
        outcome=outcome,
    )
