"""Whether what a worker sends is a forecast of what was asked. Pure."""

from itertools import pairwise

import numpy as np

from serve.predict.schemas import Result


def find_fault(result: Result, pred_len: int) -> str | None:
    """Return what keeps `result` from being a forecast of `pred_len` bars, or None."""
    for name in ("target_ts", "p10", "p50", "p90"):
        n = len(getattr(result, name))
        if n != pred_len:
            return f"{name} has {n} items, allowed are {pred_len}"
    samples = result.samples
    if samples is not None and any(len(path) != pred_len for path in samples):
        return f"samples: allowed are paths of {pred_len} closes"
    bands = np.array([result.p10, result.p50, result.p90])
    paths = np.array(samples or [[1.0]])
    for name, values in (("quantiles", bands), ("samples", paths)):
        if not bool(np.all(np.isfinite(values) & (values > 0))):
            return f"{name} must be finite and positive"
    if not bool(np.all(bands[:-1] <= bands[1:])):
        return "quantiles must satisfy p10 <= p50 <= p90"
    times = [result.last_ts, *result.target_ts]
    if any(late <= early for early, late in pairwise(times)):
        return "target_ts must increase from last_ts on"
    return None
