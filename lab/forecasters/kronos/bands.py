"""How often the raw 80 % band of sampled paths holds the close that came."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lab.arrays import FloatArray
from lab.bars.calendars import known_ts
from lab.bars.series import Series
from lab.bars.timeframes import to_moment
from lab.errors import TrainingError
from lab.forecasters.kronos.engine import Prepared
from lab.forecasters.kronos.filtering import Filter
from lab.forecasters.kronos.generate import History, generate
from lab.forecasters.kronos.normalise import normalise, restore, stamps
from lab.forecasters.kronos.sampling import path_uniforms
from lab.forecasters.kronos.windows import bar_values
from lab.scoring.coverage import is_covered


class Start(NamedTuple):
    """A moment to forecast at: a series and the row of its last known bar."""

    series: Series
    row: int


@dataclass(frozen=True, slots=True)
class BandSettings:
    """How bands are made.

    Attributes
    ----------
    context, window : int
        Bars of history, tokens that the predictor attends to.
    n_samples : int
        Paths of a forecast.
    seed : int
        Of the paths.
    batch : int
        Forecasts made at a time.
    """

    context: int
    window: int
    n_samples: int = 20
    seed: int = 0
    batch: int = 32


def starts_every(
    series: Sequence[Series],
    *,
    since: np.datetime64,
    every: int,
    context: int,
    horizon: int,
) -> list[Start]:
    """Return every `every`-th row since a moment with a whole context and future.

    Rows whose context or future crosses a break are left out.
    """
    found: list[Start] = []
    for one in series:
        first = max(context - 1, int(np.searchsorted(one.ts, since)))
        found.extend(
            Start(one, row)
            for row in range(first, one.n_obs - horizon, every)
            if not one.is_break[row - context + 2 : row + horizon + 1].any()
        )
    return found


def band_coverage(
    prepared: Prepared,
    starts: Sequence[Start],
    horizons: Sequence[int],
    *,
    settings: BandSettings,
    by: Filter,
) -> dict[int, float]:
    """Return the share of closes between p10 and p90, by horizon.

    Parameters
    ----------
    prepared : Prepared
        The pair.
    starts : sequence of Start
        Where to forecast from.
    horizons : sequence of int
        Bars ahead.
    settings : BandSettings
        Lengths and paths.
    by : Filter
        Temperature, top-k and top-p.

    Raises
    ------
    TrainingError
        If there is nothing to forecast.

    Notes
    -----
    Point in time: a forecast reads the bars up to its row; later ones judge it.
    """
    if not starts:
        raise TrainingError("coverage: nothing to forecast")
    parts = [
        _inside(prepared, starts[k : k + settings.batch], horizons, settings, by)
        for k in range(0, len(starts), settings.batch)
    ]
    shares = np.concatenate(parts).mean(axis=0)
    return {h: float(one) for h, one in zip(horizons, shares, strict=True)}


def _inside(
    prepared: Prepared,
    starts: Sequence[Start],
    horizons: Sequence[int],
    settings: BandSettings,
    by: Filter,
) -> FloatArray:
    horizon = max(horizons)
    histories, scales, uniforms = [], [], []
    for series, row in starts:
        first, stop = row + 1 - settings.context, row + 1
        x, scale = normalise(bar_values(series.part(slice(first, stop))))
        fields = stamps(series.ts[first : stop + horizon])
        histories.append(
            History(x, fields[: settings.context], fields[settings.context :])
        )
        scales.append(scale)
        known = known_ts(
            series.ts[row : row + 1],
            timeframe=series.timeframe,
            calendar=series.calendar,
        )
        uniforms.append(
            path_uniforms(
                seed=settings.seed,
                symbol=series.symbol,
                timeframe=series.timeframe,
                as_of=to_moment(known[0]),
                n_paths=settings.n_samples,
                horizon=horizon,
            )
        )
    paths = generate(
        prepared, histories, np.stack(uniforms), window=settings.window, by=by
    ).values.numpy()
    steps = np.array(horizons) - 1
    found = []
    for (series, row), scale, values in zip(starts, scales, paths, strict=True):
        closes = restore(values, scale)[:, steps, 3].astype(np.float64)
        low, high = np.quantile(closes, [0.1, 0.9], axis=0, method="weibull")
        found.append(is_covered(low, high, series.close[row + 1 + steps]))
    return np.array(found, dtype=np.float64)
