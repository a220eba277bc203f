"""What sleeves think of an instrument: from -1, sell, to 1, buy.

Every function takes a panel, or its `OwnBars`, and returns an array of shape (n_obs, n_assets) of float64.
Row t uses bars up to t; lookbacks count an instrument's own bars; the opinion is 0 while
its history is too short or its newest bar too old, and is held over rows without a bar.
Opinions change at thresholds and not before, for every change costs.
"""

from typing import Final

import numpy as np

from lab.arrays import FloatArray, IntArray
from lab.backtest.panel import ForecastGrid
from lab.bars.timeframes import step
from lab.features.releases import MAX_SURPRISE
from lab.sleeves.own_bars import OwnBars, Prices
from lab.sleeves.rolling import lagged, rolling_sum
from lab.sleeves.sizing import first_rows

MIN_RANKED: Final = 4
"""Fewer instruments are not ranked."""


def trend(panel: Prices, *, lookback: int, threshold: float = 0.0) -> FloatArray:
    """Return the direction of the last `lookback` bars.

    Parameters
    ----------
    panel : AlignedPanel or OwnBars
        Prices.
    lookback : int, bars
        How far back.
    threshold : float
        Standard deviations the move must exceed; the opinion ends when it turns.

    Notes
    -----
    Point in time: row t uses bars up to t.

    References
    ----------
    .. [1] Moskowitz, Ooi & Pedersen (2012), Time Series Momentum, J. of Financial
       Economics 104(2).
    """
    bars = OwnBars.of(panel)
    return bars.spread(
        bars.held(strength(bars, lookback=lookback), enter=threshold, leave=0.0)
    )


def strength(bars: OwnBars, *, lookback: int, skip: int = 0) -> FloatArray:
    """Return the move of `lookback` bars in its own standard deviations.

    Parameters
    ----------
    bars : OwnBars
        Prices.
    lookback, skip : int, bars
        The newest `skip` bars are left out.

    Returns
    -------
    ndarray of shape (n_bars,), float64
        Sum of the log returns over the root of the sum of their squares; NaN with too
        short a history and on a price that did not move.
    """
    growth = bars.lagged(bars.growth, skip)
    move = bars.total(growth, lookback)
    square = bars.total(np.square(growth), lookback)
    root = np.sqrt(np.where(square > 0.0, square, np.nan))
    return np.asarray(move / root)


def average_cross(
    panel: Prices, *, fast: int, slow: int, band: float = 0.1
) -> FloatArray:
    """Return which of two moving averages is above the other.

    Parameters
    ----------
    panel : AlignedPanel or OwnBars
        Prices.
    fast, slow : int, bars
        Lengths of the simple averages.
    band : float
        Gap at which an opinion begins, in standard deviations of `slow` bars; it ends
        when the averages meet.

    Notes
    -----
    Point in time: row t uses bars up to t.

    References
    ----------
    .. [1] Brock, Lakonishok & LeBaron (1992), Simple Technical Trading Rules and the
       Stochastic Properties of Stock Returns, J. of Finance 47(5).
    """
    bars = OwnBars.of(panel)
    quick = bars.total(bars.level, fast) / fast
    slowly = bars.total(bars.level, slow) / slow
    square = bars.total(np.square(bars.growth), slow)
    root = np.sqrt(np.where(square > 0.0, square, np.nan))
    gap = (quick / slowly - 1.0) / root
    return bars.spread(bars.held(gap, enter=band, leave=0.0))


def breakout(panel: Prices, *, entry: int, leave: int) -> FloatArray:
    """Return 1 after a close above those of `entry` bars, -1 after one below.

    Parameters
    ----------
    panel : AlignedPanel or OwnBars
        Prices; only closes count, a wick is often an error.
    entry : int, bars
        Length of the channel that is broken.
    leave : int, bars
        At most `entry`. The opinion ends with a close beyond the other side of this many bars.

    Notes
    -----
    Point in time: row t uses bars up to t; the channel ends with the bar before.

    References
    ----------
    .. [1] Faith (2007), Way of the Turtle: Donchian's channels of 20/10 and 55/20.
    """
    bars = OwnBars.of(panel)
    is_high = bars.level > bars.lagged(bars.highest(bars.level, entry), 1)
    is_low = bars.level < bars.lagged(bars.lowest(bars.level, entry), 1)
    top = bars.lagged(bars.highest(bars.level, leave), 1)
    bottom = bars.lagged(bars.lowest(bars.level, leave), 1)
    up = bars.latched(is_high, bars.level < bottom)
    down = bars.latched(is_low, bars.level > top)
    return bars.spread(up - down)


def index_reversion(panel: Prices, *, period: int, edge: float) -> FloatArray:
    """Return 1 after Wilder's RSI fell below 50 - edge, -1 after one above 50 + edge.

    Parameters
    ----------
    panel : AlignedPanel or OwnBars
        Prices.
    period : int, bars
        Of Wilder's smoothing.
    edge : float
        Points from the middle, below 50; the opinion ends at 50.

    Notes
    -----
    Point in time: row t uses bars up to t.

    References
    ----------
    .. [1] Wilder (1978), New Concepts in Technical Trading Systems, section VI.
    """
    bars = OwnBars.of(panel)
    change = np.nan_to_num(bars.level - bars.lagged(bars.level, 1))
    up = bars.faded(np.maximum(change, 0.0), period)
    both = bars.faded(np.abs(change), period)
    is_known = (bars.number >= period) & (both > 0.0)
    middle = np.full_like(up, 0.5)
    index = 100.0 * np.divide(up, both, out=middle, where=is_known)
    return -bars.spread(bars.held(index - 50.0, enter=edge, leave=0.0))


def band_reversion(panel: Prices, *, lookback: int, width: float) -> FloatArray:
    """Return 1 after a close below Bollinger's lower band, -1 after one above the upper.

    Parameters
    ----------
    panel : AlignedPanel or OwnBars
        Prices.
    lookback : int, bars
        Of the mean and the standard deviation (ddof 0), the newest bar included.
    width : float
        Standard deviations; the opinion ends at the mean.

    Notes
    -----
    Point in time: row t uses bars up to t.

    References
    ----------
    .. [1] Bollinger (2002), Bollinger on Bollinger Bands.
    """
    bars = OwnBars.of(panel)
    mean = bars.total(bars.level, lookback) / lookback
    square = bars.total(np.square(bars.level), lookback) / lookback
    variance = square - np.square(mean)
    # What rounding leaves of a price that stood still is no deviation.
    is_known = variance > 1e-13 * square
    deviation = np.sqrt(np.where(is_known, variance, np.nan))
    score = (bars.level - mean) / deviation
    return -bars.spread(bars.held(score, enter=width, leave=0.0))


def relative_strength(
    panel: Prices, *, lookback: int, skip: int = 0, share: float = 0.3
) -> FloatArray:
    """Return 1 for the strongest instruments of a week's first row, -1 for the weakest.

    Parameters
    ----------
    panel : AlignedPanel or OwnBars
        Prices.
    lookback, skip : int, bars
        Strength is the move of `lookback` bars in its own standard deviations, the
        newest `skip` left out.
    share : float
        Of the instruments on each side, at least one; none with fewer than
        `MIN_RANKED` instruments.

    Notes
    -----
    Point in time: row t uses bars up to the first row of its week.

    References
    ----------
    .. [1] Jegadeesh & Titman (1993), Returns to Buying Winners and Selling Losers, J. of
       Finance 48(1).
    .. [2] Asness, Moskowitz & Pedersen (2013), Value and Momentum Everywhere, J. of
       Finance 68(3).
    """
    bars = OwnBars.of(panel)
    grid = bars.spread(strength(bars, lookback=lookback, skip=skip), missing=np.nan)
    first = first_rows(bars.panel.ts)
    asked, week = np.unique(first, return_inverse=True)
    score = grid[asked]
    n_live = np.isfinite(score).sum(axis=1)[:, None]
    # Instruments without a strength sort to the end; equal ones keep their order.
    rank = np.argsort(np.argsort(score, axis=1, kind="stable"), axis=1, kind="stable")
    n_chosen = np.maximum((n_live * share).astype(np.int64), 1)
    is_weak = rank < n_chosen
    is_strong = (rank >= n_live - n_chosen) & (rank < n_live)
    side = np.where(n_live < MIN_RANKED, 0.0, is_strong * 1.0 - is_weak)
    return np.where(np.isfinite(grid), side[week], 0.0)


def surprise_drift(panel: Prices, *, hold: int, threshold: float) -> FloatArray:
    """Return the direction of the newest large surprise of the last `hold` bars.

    Parameters
    ----------
    panel : AlignedPanel or OwnBars
        With `surprises`.
    hold : int, bars
        The opinion ends when the instrument has had as many bars since.
    threshold : float
        Size of a large surprise; from 3 on the opinion is 1, below less in proportion.

    Notes
    -----
    Point in time: row t uses surprises known by t.
    """
    bars = OwnBars.of(panel)
    surprises = bars.panel.surprises
    if len(surprises) == 0:
        return np.zeros(surprises.shape)
    row = np.arange(len(surprises))[:, None]
    is_large = np.abs(surprises) >= threshold
    newest = np.maximum.accumulate(np.where(is_large, row, -1), axis=0)
    at = np.maximum(newest, 0)
    n_bars: IntArray = np.cumsum(bars.has_bar, axis=0, dtype=np.int64)
    age: IntArray = n_bars - np.take_along_axis(n_bars, at, axis=0)
    size = np.clip(np.take_along_axis(surprises, at, axis=0) / MAX_SURPRISE, -1.0, 1.0)
    is_live = (newest >= 0) & (age < hold) & (bars.place >= 0)
    return np.where(is_live, size, 0.0)


def seasonality(
    panel: Prices, *, weeks: int, threshold: float, hurdle_bps: float
) -> FloatArray:
    """Return the side of the bars that followed this hour of the week before.

    On daily bars the hour is the day. "Followed" is by the instrument's own bars: after
    Friday comes Monday where weekends have none.

    Parameters
    ----------
    panel : AlignedPanel or OwnBars
        Prices.
    weeks : int
        How many times this hour came before.
    threshold : float
        Student's t that the mean log return of the bars after must exceed.
    hurdle_bps : float
        Size that this mean must exceed.

    Notes
    -----
    Point in time: row t uses bars up to t; the bar after this hour's is not among them.
    """
    bars = OwnBars.of(panel)
    if len(bars.growth) == 0:
        return np.zeros(bars.has_bar.shape)
    length = step(bars.panel.timeframe) / step("1h")
    hour = np.floor_divide(np.round(bars.days * 24.0), length).astype(np.int64)
    slot = hour % int(168 // length)
    # All bars of one instrument and slot side by side, oldest first.
    asset = np.cumsum(bars.number == 0)
    order = np.lexsort((slot, asset))
    group = (asset * 168 + slot)[order]
    is_first = np.append(True, group[1:] != group[:-1])
    row = np.arange(len(group))
    count = row - np.maximum.accumulate(np.where(is_first, row, 0))
    after = np.append(bars.growth[1:], np.nan)[order]
    mean = lagged(rolling_sum(after, weeks), 1) / weeks
    square = lagged(rolling_sum(np.square(after), weeks), 1) / weeks
    variance = square - np.square(mean)
    is_known = (count >= weeks) & (variance > 1e-13 * square)
    error = np.sqrt(np.where(is_known, variance, np.nan) / (weeks - 1))
    is_large = (np.abs(mean) > threshold * error) & (np.abs(mean) * 1e4 > hurdle_bps)
    side = np.empty_like(mean)
    side[order] = np.where(is_large, np.sign(mean), 0.0)
    return bars.spread(side)


def forecast_side(grid: ForecastGrid, *, threshold: float) -> FloatArray:
    """Return the side of a model's median, from a move above `threshold` till it turns.

    Parameters
    ----------
    grid : ForecastGrid
        Of one model.
    threshold : float
        In widths of the band from p10 to p90.

    Notes
    -----
    Point in time: row t uses the newest forecast at t; 0 where there is none.
    """
    row = np.arange(1, len(grid.move) + 1)[:, None]
    score = grid.move / grid.width
    side = np.zeros(score.shape)
    for sign in (1.0, -1.0):
        is_on = sign * score > threshold
        is_turn = is_on | ~(sign * score > 0.0)
        newest = np.maximum.accumulate(np.where(is_turn, 2 * row + is_on, 0), axis=0)
        side += sign * (newest & 1)
    return side
