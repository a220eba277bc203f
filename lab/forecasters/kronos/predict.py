"""Data frames in, data frames out: the published interface, with its gaps closed.

Unlike the published one it refuses infinite values, stamps that do not fit the rows and
a horizon beyond the window, takes an index of times as well as a column, and has a seed
of its own. Outputs are as decoded: a volume below zero or a high below a low is
possible, nothing is repaired.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import pandas as pd

from lab.arrays import AnyArray, FloatArray, TimeArray
from lab.errors import ForecastError
from lab.forecasters.kronos.engine import Prepared
from lab.forecasters.kronos.filtering import Filter
from lab.forecasters.kronos.generate import History, Mode, generate
from lab.forecasters.kronos.normalise import COLUMNS, Scale, normalise, restore, stamps
from lab.forecasters.kronos.sampling import seeded_uniforms

_PRICES: Final = list(COLUMNS[:4])

Stamps: TypeAlias = "pd.Series[pd.Timestamp] | pd.DatetimeIndex"


@dataclass(frozen=True, slots=True)
class Drawing:
    """How a data frame is continued.

    Attributes
    ----------
    window : int, default 512
        Most tokens the network and the decoder look at.
    n_samples : int, default 1
        Paths that are averaged, after decoding.
    by : Filter
        Temperature, top-k and top-p.
    mode : {"exact", "rolling"}, default "exact"
        What happens once the window is full.
    seed : int, default 0
        Of the draws; a frame's depend on its position in the call too.
    """

    window: int = 512
    n_samples: int = 1
    by: Filter = field(default_factory=Filter)
    mode: Mode = "exact"
    seed: int = 0


def predict(
    prepared: Prepared,
    frame: pd.DataFrame,
    x_timestamp: Stamps,
    y_timestamp: Stamps,
    *,
    drawing: Drawing | None = None,
    uniforms: FloatArray | None = None,
) -> pd.DataFrame:
    """Continue one data frame; see `predict_batch`, which takes lists of these."""
    return predict_batch(
        prepared,
        [frame],
        [x_timestamp],
        [y_timestamp],
        drawing=drawing,
        uniforms=uniforms,
    )[0]


def predict_batch(
    prepared: Prepared,
    frames: Sequence[pd.DataFrame],
    x_timestamps: Sequence[Stamps],
    y_timestamps: Sequence[Stamps],
    *,
    drawing: Drawing | None = None,
    uniforms: FloatArray | None = None,
) -> list[pd.DataFrame]:
    """Continue data frames of any lengths by the same number of bars.

    Parameters
    ----------
    prepared : Prepared
        Both models.
    frames : sequence of DataFrame
        Columns open, high, low, close; volume and amount may be missing. Without
        volume both are zero, even if an amount is given; without amount it is volume
        times the mean of the four prices.
    x_timestamps, y_timestamps : sequence of Series or DatetimeIndex
        Opens of the rows and of the bars to come, wall-clock of any one zone.
    drawing : Drawing, optional
        How to draw; one path if not given.
    uniforms : ndarray of shape (n_frames, n_samples, 2 * horizon), float64, optional
        Draws to use instead of the seed's.

    Returns
    -------
    list of DataFrame
        Mean of the paths, six columns, float32, indexed by `y_timestamp`.

    Raises
    ------
    ForecastError
        If a column or a value is missing, a value is infinite, or stamps do not fit.

    Notes
    -----
    Point in time: statistics are those of the whole frame given.
    """
    how = drawing or Drawing()
    _check_lists(frames, x_timestamps, y_timestamps)
    horizon = len(y_timestamps[0])
    pairs = [
        frame_history(frame, x, y, number=number)
        for number, (frame, x, y) in enumerate(
            zip(frames, x_timestamps, y_timestamps, strict=True)
        )
    ]
    if uniforms is None:
        uniforms = seeded_uniforms(
            how.seed, n_series=len(frames), n_paths=how.n_samples, horizon=horizon
        )
    paths = generate(
        prepared,
        [history for history, _ in pairs],
        uniforms,
        window=how.window,
        by=how.by,
        mode=how.mode,
    )
    means = paths.values.mean(dim=1).numpy()
    return [
        pd.DataFrame(restore(mean, scale), columns=list(COLUMNS), index=index)
        for mean, (_, scale), index in zip(means, pairs, y_timestamps, strict=True)
    ]


def frame_history(
    frame: pd.DataFrame, x_timestamp: Stamps, y_timestamp: Stamps, *, number: int = 0
) -> tuple[History, Scale]:
    """Return what `generate` needs of a frame, and the scale to restore it by.

    Parameters
    ----------
    frame, x_timestamp, y_timestamp : DataFrame, Series or DatetimeIndex
        As in `predict_batch`.
    number : int, default 0
        Its position in the call, for messages.

    Raises
    ------
    ForecastError
        If a column or a value is missing, a value is infinite, or stamps do not fit.
    """
    x, scale = normalise(_bars(frame, number))
    past = _times(x_timestamp, len(frame), f"x_timestamp {number}")
    coming = _times(y_timestamp, len(y_timestamp), f"y_timestamp {number}")
    _check_order(past, coming, number)
    return History(x, stamps(past), stamps(coming)), scale


def _bars(frame: pd.DataFrame, number: int) -> AnyArray:
    # The six columns, in the frame's own precision.
    missing = [name for name in _PRICES if name not in frame.columns]
    if missing:
        raise ForecastError(f"frame {number}: columns missing: {', '.join(missing)}")
    full = frame.copy()
    if "volume" not in full.columns:
        full["volume"] = 0.0
        full["amount"] = 0.0
    elif "amount" not in full.columns:
        full["amount"] = full["volume"] * full[_PRICES].mean(axis=1)
    chosen = full[list(COLUMNS)]
    if bool(chosen.isna().to_numpy().any()):
        raise ForecastError(f"frame {number}: a value is missing")
    return np.asarray(chosen.to_numpy())


def _times(given: Stamps, n_rows: int, what: str) -> TimeArray:
    # Wall-clock times of whatever zone they carry.
    if len(given) != n_rows:
        raise ForecastError(f"{what}: {len(given)} stamps for {n_rows} rows")
    index = pd.DatetimeIndex(given)
    if bool(index.isna().any()):
        raise ForecastError(f"{what}: a stamp is missing")
    return np.asarray(index.tz_localize(None).to_numpy(), dtype="datetime64[us]")


def _check_order(past: TimeArray, coming: TimeArray, number: int) -> None:
    if len(past) and len(coming) and coming[0] < past[-1]:
        raise ForecastError(
            f"y_timestamp {number}: starts at {coming[0]}, before the last row"
            f" at {past[-1]}"
        )


def _check_lists(
    frames: Sequence[pd.DataFrame],
    x_timestamps: Sequence[Stamps],
    y_timestamps: Sequence[Stamps],
) -> None:
    sizes = {len(frames), len(x_timestamps), len(y_timestamps)}
    if len(sizes) > 1 or not frames:
        raise ForecastError(
            f"{len(frames)} frames, {len(x_timestamps)} x_timestamps,"
            f" {len(y_timestamps)} y_timestamps: as many of each needed, at least one"
        )
    horizons = {len(one) for one in y_timestamps}
    if len(horizons) > 1 or horizons == {0}:
        raise ForecastError(
            f"y_timestamps of {sorted(horizons)} rows: the same number needed"
            " everywhere, at least one"
        )
