"""Bars to the numbers the tokenizer knows, and back; time stamps to calendar fields.

Column order everywhere: open, high, low, close, volume, amount.
"""

from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lab.arrays import AnyArray, IntArray, TimeArray
from lab.errors import ForecastError

COLUMNS: Final = ("open", "high", "low", "close", "volume", "amount")
CLIP: Final = 5.0
_EPSILON: Final = np.float32(1e-5)

Float32: TypeAlias = NDArray[np.float32]


class Scale(NamedTuple):
    """Statistics of one window of bars.

    Attributes
    ----------
    mean, std : ndarray of shape (6,), float32
        Per column; the standard deviation is the population's.
    """

    mean: Float32
    std: Float32


def normalise(bars: AnyArray) -> tuple[Float32, Scale]:
    """Standardise each column of a window and clip.

    Parameters
    ----------
    bars : ndarray of shape (L, 6)
        Cast to float32 first.

    Returns
    -------
    x : ndarray of shape (L, 6), float32
        Within plus and minus 5.
    scale : Scale
        What `restore` needs.

    Raises
    ------
    ForecastError
        If a value is missing, infinite or too large for float32, or no row is given.

    Notes
    -----
    A constant column gives zeros and comes back as its constant. (The reference's
    float32 mean of a large constant may round, which gives plus or minus one.)

    Point in time: the statistics are those of the rows given.
    """
    with np.errstate(over="ignore"):
        x = bars.astype(np.float32)
    if x.ndim != 2 or len(x) == 0:
        raise ForecastError(f"bars of shape {x.shape}: rows of 6 columns needed")
    for number, name in enumerate(COLUMNS):
        if not bool(np.all(np.isfinite(x[:, number]))):
            raise ForecastError(f"bars: {name} holds values that are not finite")
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = np.mean(x, axis=0), np.std(x, axis=0)
    is_constant = np.all(x == x[0], axis=0)
    mean = np.where(is_constant, x[0], mean)
    std = np.where(is_constant, np.float32(0), std)
    if not bool(np.all(np.isfinite(std))):
        raise ForecastError("bars: values too large for their variance in float32")
    z = (x - mean) / (std + _EPSILON)
    return np.ascontiguousarray(np.clip(z, -CLIP, CLIP)), Scale(mean, std)


def restore(y: AnyArray, scale: Scale) -> Float32:
    """Return normalised bars (..., 6) in the units of the window, float32."""
    return np.asarray(y * (scale.std + _EPSILON) + scale.mean, dtype=np.float32)


def stamps(ts: TimeArray) -> IntArray:
    """Return the calendar fields of wall-clock times.

    Parameters
    ----------
    ts : ndarray of shape (n,), datetime64
        Bar opens; the forecaster gives UTC.

    Returns
    -------
    ndarray of shape (n, 5), int64
        Minute, hour, weekday (Monday 0), day of month, month.

    Raises
    ------
    ForecastError
        If a time is missing.
    """
    if bool(np.any(np.isnat(ts))):
        raise ForecastError("time stamps: one is missing")
    minutes = ts.astype("datetime64[m]").astype(np.int64)
    days = ts.astype("datetime64[D]")
    months = ts.astype("datetime64[M]")
    day_number = days.astype(np.int64)
    return np.stack(
        [
            minutes % 60,
            minutes // 60 % 24,
            (day_number + 3) % 7,  # 1970-01-01 was a Thursday
            day_number - months.astype("datetime64[D]").astype(np.int64) + 1,
            months.astype(np.int64) % 12 + 1,
        ],
        axis=-1,
    )
