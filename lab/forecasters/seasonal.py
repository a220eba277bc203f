"""The baseline that knows the clock: volatility by time of day and day of week.

As `naive`, but returns are first divided by how much the symbol usually moves in that
hour of the local week (daily bars: on that weekday), and the paths multiplied by how
much it usually moves at the bars they reach.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from lab.arrays import FloatArray, IntArray, TimeArray
from lab.bars.calendars import positions
from lab.bars.schedules import schedule
from lab.bars.targets import Targets
from lab.forecasters._base import Series
from lab.forecasters.naive import (
    NaiveForecaster,
    NaiveParameters,
    log_returns,
    resampled,
)

_SLOTS: Final = 7 * 24


@dataclass(frozen=True, slots=True)
class SeasonalParameters(NaiveParameters):
    """Settings of the seasonal forecaster, in bars; see `NaiveParameters`.

    Attributes
    ----------
    shrinkage : float
        Bars of "no seasonality" that each hour and each slot of the week starts with.
    """

    context: int = 2000
    half_life_1h: float = 24.0
    shrinkage: float = 10.0


class SeasonalForecaster(NaiveForecaster):
    """Filtered bootstrap with a profile of volatility over the local week.

    Parameters
    ----------
    parameters : SeasonalParameters, optional
        Settings; they enter the version.

    References
    ----------
    .. [1] Andersen and Bollerslev (1997), Intraday periodicity and volatility
       persistence in financial markets, J. Empirical Finance 4, 115-158.
    """

    name = "seasonal"

    def __init__(self, parameters: SeasonalParameters | None = None) -> None:
        self._seasonal = parameters or SeasonalParameters()
        super().__init__(self._seasonal)

    def _simulate(
        self, series: Series, targets: Targets, rng: np.random.Generator
    ) -> FloatArray:
        returns, rows = log_returns(series)
        slots = week_slots(series.ts[rows], series)
        profile = volatility_profile(returns, slots, shrinkage=self._seasonal.shrinkage)
        steps = resampled(
            returns / profile[slots],
            len(targets.path_ts),
            self._seasonal,
            series,
            rng,
        )
        return np.asarray(steps * profile[week_slots(targets.path_ts, series)])


def week_slots(ts: TimeArray, series: Series) -> IntArray:
    """Return each bar's slot of the local week, 0 to 167.

    Parameters
    ----------
    ts : ndarray of shape (n_obs,), datetime64[us]
        Bar opens on the calendar's grid.
    series : Series
        Says which calendar and timeframe.

    Returns
    -------
    ndarray of shape (n_obs,), int64
    """
    place = positions(ts, timeframe=series.timeframe, calendar=series.calendar)
    return schedule(series.calendar, series.timeframe).slots[place]


def volatility_profile(
    returns: FloatArray, slots: IntArray, *, shrinkage: float
) -> FloatArray:
    """Return how much returns move in each slot of the week, 1 on average.

    The profile of the hours is estimated first, then each slot against its hour; both
    are shrunk towards no difference. A return counts at most ten times the median.

    Parameters
    ----------
    returns : ndarray of shape (n_obs,), float64
        Log returns.
    slots : ndarray of shape (n_obs,), int64
        Their slots, 0 to 167.
    shrinkage : float
        Pseudo-observations of "no difference".

    Returns
    -------
    ndarray of shape (168,), float64
        Positive; 1 everywhere if prices never moved.
    """
    moves = np.abs(returns - returns.mean())
    moves = np.minimum(moves, 10 * np.median(moves))
    typical = moves.mean()
    if typical < 1e-12:
        return np.ones(_SLOTS)
    relative = moves / typical
    hours = slots % 24
    hourly = _shrunk_means(relative, hours, n_groups=24, shrinkage=shrinkage)
    weekly = _shrunk_means(
        relative / hourly[hours], slots, n_groups=_SLOTS, shrinkage=shrinkage
    )
    return np.asarray(weekly * np.tile(hourly, 7))


def _shrunk_means(
    values: FloatArray, groups: IntArray, *, n_groups: int, shrinkage: float
) -> FloatArray:
    total = np.bincount(groups, weights=values, minlength=n_groups)
    count = np.bincount(groups, minlength=n_groups)
    return np.asarray((total + shrinkage) / (count + shrinkage))
