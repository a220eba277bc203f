"""The synthetic market's daily closes: the one part that depends on its own past.

Per UTC day and column the log return is

    volatility * (noise + drift * position sign) + releases - pull to the anchor.

Volatility is a three-state Markov regime times two log AR(1) processes times weekday
and open-hours patterns. Noise is correlated by a market and a class factor, more so in
turbulence. `position` is that of the planted rule, known at the close before; its drift
is what the rule earns. The drift also leans against the rule's luck so far
(`LEANING`), so that what it has earned stays near what it was meant to earn: over any
stretch of a year or more the realised Sharpe ratio is near the stated one.

Every draw comes from counter-based generators at fixed positions, and the recursion
always starts at the origin: the same seed gives the same closes up to any end.
"""

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final

import numpy as np

from lakehouse.sources._synthetic_calendar import (
    IMPACT_BPS,
    Release,
    releases_until,
)
from lakehouse.sources._synthetic_market import (
    CALENDARS,
    CLASSES,
    COLUMNS,
    LISTING_DAY,
    N_RULE,
    N_TRACKS,
    ORIGIN,
    BoolArray,
    FloatArray,
    IntArray,
    dates_until,
    hour_weights,
    open_hours,
    weekday_factors,
)

REGIMES: Final = ("calm", "normal", "turbulent")
TRANSITIONS: Final = (
    (0.985, 0.012, 0.003),
    (0.010, 0.980, 0.010),
    (0.005, 0.030, 0.965),
)
REGIME_VOLATILITY: Final = (0.75, 1.0, 1.8)
REGIME_CORRELATION: Final = (0.85, 1.0, 1.15)
LOOKBACK_DAYS: Final = 28
VOLATILITY_DAYS: Final = 56
SHARPE: Final = 1.5
LEANING: Final = 0.08
MOST_LEANING: Final = 0.35
PULL: Final = 1 / 3000
_SMOOTH: Final = 1 / 170
_N_COLUMNS: Final = len(COLUMNS)


@dataclass(frozen=True, slots=True)
class DailyPath:
    """The market day by day from the origin; K is the number of columns.

    Attributes
    ----------
    days : list of date, n_days
    close : ndarray of shape (n_days + 1, K), float64
        Log price at the end of each day; row 0 before the first.
    returns : ndarray of shape (n_days, K), float64
        Log return of each day.
    volatility : ndarray of shape (n_days, K), float64
        Standard deviation of the noise in it.
    hours : ndarray of shape (n_days, 24, K), bool
        Hours with a bar.
    regime : ndarray of shape (n_days,), int64
        Position in `REGIMES`.
    jumps : list of (day, hour, column, log return)
        What releases did.
    gaps : list of (column, first day, number of days)
        Days whose bars are missing.
    releases : list of Release
    """

    days: list[date]
    close: FloatArray
    returns: FloatArray
    volatility: FloatArray
    hours: BoolArray
    regime: IntArray
    jumps: list[tuple[int, int, int, float]]
    gaps: list[tuple[int, date, int]]
    releases: list[Release]


@lru_cache(maxsize=2)
def daily_path(end: date, seed: int) -> DailyPath:
    """Simulate from the origin to `end`, included.

    Parameters
    ----------
    end : date
        Last UTC day.
    seed : int
        The market's seed.
    """
    days = dates_until(end)
    gaps = data_gaps(end, seed)
    hours = _column_hours(days, gaps)
    regime = _regimes(len(days), seed)
    rng = np.random.Generator(np.random.Philox(key=[seed, 2]))
    width = 1 + 2 * len(CLASSES) + 2 * _N_COLUMNS
    draws = rng.standard_normal((len(days), width))
    noise_draws, vol_draws = np.split(draws, [1 + len(CLASSES) + _N_COLUMNS], axis=1)
    volatility = _volatility(days, hours, regime, vol_draws)
    releases = releases_until(end, seed)
    jumps = _jumps(releases, hours)
    shocks = volatility * _noise(regime, noise_draws)
    for day, _, column, move in jumps:
        shocks[day, column] += move
    close, returns = _recursion(days, shocks, volatility)
    return DailyPath(
        days, close, returns, volatility, hours, regime, jumps, gaps, releases
    )


def data_gaps(end: date, seed: int) -> list[tuple[int, date, int]]:
    """Return column, first day and length of each gap until `end`: one per half-year."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 3]))
    years = range(ORIGIN.year, end.year + 1)
    draws = rng.random((len(years), 2, 3))
    found = []
    for year, row in zip(years, draws, strict=True):
        for month, (which, start, length) in zip((4, 10), row.tolist(), strict=True):
            first = date.fromordinal(date(year, month, 6).toordinal() + int(start * 40))
            found.append((int(which * N_RULE), first, 6 + int(length * 5)))
    return found


def _column_hours(days: list[date], gaps: list[tuple[int, date, int]]) -> BoolArray:
    by_calendar = open_hours(days)
    place = [CALENDARS.index(column.calendar) for column in COLUMNS]
    hours = np.ascontiguousarray(by_calendar[:, place].swapaxes(1, 2))
    for column, first, length in gaps:
        start = (first - ORIGIN).days
        hours[start : start + length, :, column] = False
    return hours


def _regimes(n_days: int, seed: int) -> IntArray:
    rng = np.random.Generator(np.random.Philox(key=[seed, 1]))
    thresholds = np.cumsum(TRANSITIONS, axis=1).tolist()
    state, path = 1, []
    for draw in rng.random(n_days).tolist():
        row = thresholds[state]
        state = 0 if draw < row[0] else 1 if draw < row[1] else 2
        path.append(state)
    return np.array(path, dtype=np.int64)


def _autoregress(shocks: FloatArray, persistence: float) -> FloatArray:
    levels = np.empty_like(shocks)
    level = np.zeros(shocks.shape[1])
    for number, shock in enumerate(shocks):
        level = persistence * level + shock
        levels[number] = level
    return levels


def _class_of_column() -> IntArray:
    return np.array([CLASSES.index(c.asset_class) for c in COLUMNS], dtype=np.int64)


def _volatility(
    days: list[date], hours: BoolArray, regime: IntArray, draws: FloatArray
) -> FloatArray:
    by_class = _autoregress(0.055 * draws[:, : len(CLASSES)], 0.975)
    own = _autoregress(0.09 * draws[:, len(CLASSES) :], 0.92)
    base = np.array([column.volatility for column in COLUMNS])
    share = (hours * hour_weights()).sum(axis=1)
    is_equity = np.array([column.calendar == "XNYS" for column in COLUMNS])
    share = np.where(is_equity, share > 0, share)
    weekday = np.array([day.weekday() for day in days])
    level = np.exp(by_class[:, _class_of_column()] + own - 0.04)
    state = np.array(REGIME_VOLATILITY)[regime][:, None]
    volatility: FloatArray = (
        base * level * state * weekday_factors()[weekday] * np.sqrt(share)
    )
    return volatility


def _noise(regime: IntArray, draws: FloatArray) -> FloatArray:
    """Return correlated noise of unit variance."""
    stronger = np.array(REGIME_CORRELATION)[regime][:, None]
    market = np.array([column.market for column in COLUMNS]) * stronger
    sector = np.array([column.sector for column in COLUMNS]) * stronger
    own = np.sqrt(np.maximum(1 - market**2 - sector**2, 0.05))
    norm = np.sqrt(market**2 + sector**2 + own**2)
    by_class = draws[:, 1 + _class_of_column()]
    idiosyncratic = draws[:, 1 + len(CLASSES) :]
    mixed = market * draws[:, :1] + sector * by_class + own * idiosyncratic
    noise: FloatArray = mixed / norm
    return noise


def _jumps(
    releases: list[Release], hours: BoolArray
) -> list[tuple[int, int, int, float]]:
    columns = {column.symbol: number for number, column in enumerate(COLUMNS)}
    tracks = range(N_RULE, _N_COLUMNS)
    found = []
    for release in releases:
        day = (release.ts.date() - ORIGIN).days
        for symbol, bps in IMPACT_BPS[release.kind].items():
            for column in tracks if symbol == "company" else (columns[symbol],):
                later = np.flatnonzero(hours[day, release.ts.hour :, column])
                if later.size:
                    hour = release.ts.hour + int(later[0])
                    found.append((day, hour, column, bps * 1e-4 * release.shock))
    return found


def _recursion(
    days: list[date], shocks: FloatArray, volatility: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Add what depends on the past: the rule's drift and the pull to the anchor."""
    n_days = len(days)
    anchor = np.log([column.anchor for column in COLUMNS])
    close = np.empty((n_days + 1, _N_COLUMNS))
    returns = np.empty((n_days, _N_COLUMNS))
    close[0] = anchor
    simple = np.zeros((n_days, N_RULE))
    earned = _Earned()
    for day in range(n_days):
        if (days[day].month, days[day].day) == LISTING_DAY:
            track = N_RULE + days[day].year % N_TRACKS
            close[day, track] = anchor[track]
        sign = np.sign(close[day] - close[max(day - LOOKBACK_DAYS, 0)])
        weight = _weights(simple, sign, day)
        drift, reach = earned.drift(weight, volatility[day, :N_RULE])
        pull = PULL * (close[day] - anchor) * (volatility[day] > 0)
        returns[day] = shocks[day] + drift * sign * volatility[day] - pull
        close[day + 1] = close[day] + returns[day]
        simple[day] = np.expm1(returns[day, :N_RULE])
        earned.book(float(weight @ simple[day]), reach)
    return close, returns


def _weights(simple: FloatArray, sign: FloatArray, day: int) -> FloatArray:
    """Return the rule's weights at the close before `day`."""
    if day < VOLATILITY_DAYS:
        return np.zeros(N_RULE)
    usual = simple[day - VOLATILITY_DAYS : day].std(axis=0, ddof=1)
    weights: FloatArray = sign[:N_RULE] / usual / N_RULE
    return weights


class _Earned:
    """What the rule has earned against what it was to earn."""

    def __init__(self) -> None:
        self._excess = 0.0
        self._variance = 0.10
        self._reach = 0.8
        self._target = 0.0

    def drift(self, weight: FloatArray, volatility: FloatArray) -> tuple[float, float]:
        """Return today's drift per unit of volatility, and the rule's reach."""
        reach = float(np.abs(weight) @ volatility)
        if not reach:
            return 0.0, 0.0
        daily = SHARPE / np.sqrt(365.0) * np.sqrt(self._variance)
        self._target = float(daily) / self._reach
        leaning = -LEANING * self._excess / self._reach
        return self._target + min(max(leaning, -MOST_LEANING), MOST_LEANING), reach

    def book(self, profit: float, reach: float) -> None:
        """Take the day's profit into account."""
        if not reach:
            return
        self._excess += profit - self._target * reach
        self._variance += _SMOOTH * (profit**2 - self._variance)
        self._reach += _SMOOTH * (reach - self._reach)
