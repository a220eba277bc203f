"""Rolling figures in which a row depends on its own window and on nothing else.

Running totals carry the rounding of everything before the window. Here a window is put
together from blocks of 1, 2, 4, … rows, so its figure is the same to the last bit
wherever a series begins or ends, in log2(window) passes.
"""

from collections.abc import Callable

import numpy as np

from lab.arrays import FloatArray


def lagged(values: FloatArray, steps: int) -> FloatArray:
    """Return the values of `steps` rows before; NaN where there is no such row.

    Notes
    -----
    Point in time: row t uses row t - `steps`, `steps` at least 0.
    """
    if steps == 0:
        return values
    moved = np.full(values.shape, np.nan)
    moved[steps:] = values[:-steps]
    return moved


def rolling_sum(values: FloatArray, window: int) -> FloatArray:
    """Return the sum over the last `window` rows; NaN where there are fewer.

    Notes
    -----
    Point in time: row t uses rows t - window + 1 to t.
    """
    return _combined(values, window, np.add)


def rolling_max(values: FloatArray, window: int) -> FloatArray:
    """Return the highest of the last `window` rows; NaN where there are fewer.

    Notes
    -----
    Point in time: row t uses rows t - window + 1 to t.
    """
    return _combined(values, window, np.maximum)


def rolling_min(values: FloatArray, window: int) -> FloatArray:
    """Return the lowest of the last `window` rows; NaN where there are fewer.

    Notes
    -----
    Point in time: row t uses rows t - window + 1 to t.
    """
    return _combined(values, window, np.minimum)


def _combined(
    values: FloatArray,
    window: int,
    combine: Callable[[FloatArray, FloatArray], FloatArray],
) -> FloatArray:
    block, size = values, 1
    total, covered = None, 0
    while size <= window:
        if window & size:
            older = lagged(block, covered)
            total = older if total is None else combine(total, older)
            covered += size
        size *= 2
        if size <= window:
            block = combine(block, lagged(block, size // 2))
    return values if total is None else total
