"""Formulas of features, by family, each with a version that its hash contains.

Every formula takes the bars of a panel and its parameters and returns an array of shape
(n_obs, n_assets) of float64. Rules:

- Row t uses what was known by the row: own bars up to t, the newest forecast, releases
  known by then. Lookbacks count an instrument's own bars.
- Unknown is NaN: too short a history, a bar too old, an instrument or a model that the
  panel does not have. Never 0.
- Moves are in units of the instrument's own risk, so that one model may learn from
  shares, currencies and coins at once.
- Whoever changes what a formula returns raises its `version`: models trained on the old
  one then refuse the new one. A test pins each version's figures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from lab.arrays import FloatArray
from lab.backtest.panel import AlignedPanel
from lab.sleeves.own_bars import RISK_BARS, OwnBars
from lab.sleeves.rolling import rolling_sum

Parameter: TypeAlias = int | str
Formula: TypeAlias = Callable[..., FloatArray]

LEADERS: Final[dict[str, tuple[str, ...]]] = {
    "equities": ("SPY", "US500", "SP500"),
    "gold": ("XAUUSD", "GC"),
    "bitcoin": ("BTCUSDT", "BTCUSD"),
    "dollar": ("EURUSD",),
    "bonds": ("TLT",),
}
"""Markets that lead others, each by the first of its symbols with a figure on the row."""

_WORDS: Final = {"leader": tuple(LEADERS)}


@dataclass(frozen=True, slots=True)
class Family:
    """A formula and what it may be expanded over.

    Attributes
    ----------
    name : str
        First part of the names of its features.
    formula : callable
        `formula(bars, **parameters)`, an array of shape (n_obs, n_assets).
    axes : tuple of str
        Parameters in the order of a name's parts: `window` of bars, and at most one of
        `symbol`, `leader`, `model` or `asset_class`.
    version : int
        Raised with every change of the formula's figures.
    bars : int
        Trailing bars the formula looks at beside its window.
    """

    name: str
    formula: Formula
    axes: tuple[str, ...] = ()
    version: int = 1
    bars: int = 0


def momentum(bars: OwnBars, *, window: int) -> FloatArray:
    """Return the log return of `window` bars in standard deviations of that time.

    References
    ----------
    .. [1] Moskowitz, Ooi & Pedersen (2012), Time Series Momentum, J. of Financial
       Economics 104(2).
    """
    move = bars.spread(bars.total(bars.growth, window), missing=np.nan)
    days = bars.spread(bars.total(bars.step_days, window), missing=np.nan)
    return _ratio(move, bars.risk * np.sqrt(np.maximum(days, 0.0)))


def volatility(bars: OwnBars, *, window: int) -> FloatArray:
    """Return the volatility of `window` bars, a year's, as a log."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(bars.volatility(window)) + 0.5 * np.log(365.25))


def volatility_ratio(bars: OwnBars, *, window: int) -> FloatArray:
    """Return the log of the volatility of `window` bars over that of `RISK_BARS`."""
    return np.log(_ratio(bars.volatility(window), bars.risk))


def reversion(bars: OwnBars, *, window: int) -> FloatArray:
    """Return the gap to the average of `window` closes in their standard deviations."""
    average = bars.total(bars.level, window) / window
    root = np.sqrt(bars.total(np.square(bars.growth), window))
    return bars.spread(_ratio(bars.level / average - 1.0, root), missing=np.nan)


def channel(bars: OwnBars, *, window: int) -> FloatArray:
    """Return where the close is between the extreme closes of `window` bars, 0 to 1."""
    low, high = bars.lowest(bars.level, window), bars.highest(bars.level, window)
    return bars.spread(_ratio(bars.level - low, high - low), missing=np.nan)


def drawdown(bars: OwnBars, *, window: int) -> FloatArray:
    """Return the fall from the highest close of `window` bars in units of risk."""
    high = bars.highest(bars.level, window)
    fall = bars.spread(np.log(bars.level / high), missing=np.nan)
    return _ratio(fall, bars.risk)


def bar_range(bars: OwnBars, *, window: int) -> FloatArray:
    """Return the mean log range of `window` bars in units of risk a day.

    References
    ----------
    .. [1] Parkinson (1980), The Extreme Value Method for Estimating the Variance of the
       Rate of Return, J. of Business 53(1).
    """
    high, low = bars.pack(bars.panel.high), bars.pack(bars.panel.low)
    is_usable = (low > 0.0) & (high >= low)
    ratio = np.divide(high, low, out=np.full_like(high, np.nan), where=is_usable)
    mean = bars.total(np.log(ratio), window) / window
    return _ratio(bars.spread(mean, missing=np.nan), bars.risk)


def volume(bars: OwnBars, *, window: int) -> FloatArray:
    """Return the log of the newest volume over the mean of `window` bars."""
    traded = bars.pack(bars.panel.volume)
    mean = bars.total(traded, window) / window
    ratio = _ratio(traded, mean)
    return bars.spread(np.log(np.where(ratio > 0, ratio, np.nan)), missing=np.nan)


def relative(bars: OwnBars, *, window: int) -> FloatArray:
    """Return momentum less the mean of the instrument's asset class on that row.

    References
    ----------
    .. [1] Jegadeesh & Titman (1993), Returns to Buying Winners and Selling Losers,
       J. of Finance 48(1).
    """
    own = momentum(bars, window=window)
    found = np.full(own.shape, np.nan)
    classes = np.array(bars.panel.asset_classes)
    for name in sorted(set(bars.panel.asset_classes)):
        members = own[:, classes == name]
        found[:, classes == name] = members - _mean(members)
    return found


def breadth(bars: OwnBars, *, window: int) -> FloatArray:
    """Return the share of instruments with a rise over `window` bars."""
    rises = momentum(bars, window=window)
    share = _mean(np.where(np.isnan(rises), np.nan, rises > 0))
    return np.repeat(share, bars.panel.n_assets, axis=1)


def turbulence(bars: OwnBars, *, window: int) -> FloatArray:
    """Return the mean over instruments of the volatility ratio: the regime, roughly.

    `regimes` are called once a day after the close; this is known on every bar.
    """
    return np.repeat(
        _mean(volatility_ratio(bars, window=window)), bars.panel.n_assets, axis=1
    )


def leader(bars: OwnBars, *, leader: str, window: int) -> FloatArray:
    """Return the momentum of a leading market's newest bars, see `LEADERS`."""
    return _of_symbols(momentum(bars, window=window), bars.panel, LEADERS[leader])


def symbol_momentum(bars: OwnBars, *, symbol: str, window: int) -> FloatArray:
    """Return the momentum of one instrument's newest bars."""
    return _of_symbols(momentum(bars, window=window), bars.panel, (symbol,))


def symbol_volatility(bars: OwnBars, *, symbol: str, window: int) -> FloatArray:
    """Return the volatility ratio of one instrument's newest bars."""
    return _of_symbols(volatility_ratio(bars, window=window), bars.panel, (symbol,))


def forecast_move(bars: OwnBars, *, model: str) -> FloatArray:
    """Return a model's newest median move in units of the instrument's daily risk."""
    grid = bars.panel.forecasts.get(model)
    return _unknown(bars) if grid is None else _ratio(grid.move, bars.risk)


def forecast_width(bars: OwnBars, *, model: str) -> FloatArray:
    """Return the width of a model's newest band in units of daily risk."""
    grid = bars.panel.forecasts.get(model)
    return _unknown(bars) if grid is None else _ratio(grid.width, bars.risk)


def forecast_skew(bars: OwnBars, *, model: str) -> FloatArray:
    """Return a model's newest median move over the width of its band."""
    grid = bars.panel.forecasts.get(model)
    return _unknown(bars) if grid is None else _ratio(grid.move, grid.width)


def agreement(bars: OwnBars, *, models: Sequence[str]) -> FloatArray:
    """Return the mean of the signs of the models' moves: -1 all down, 1 all up."""
    grids = [bars.panel.forecasts[one] for one in models if one in bars.panel.forecasts]
    if not grids:
        return _unknown(bars)
    signs = np.stack([np.sign(one.move) for one in grids])
    known = np.isfinite(signs)
    total = np.where(known, signs, 0.0).sum(axis=0)
    return _ratio(total, known.sum(axis=0).astype(np.float64))


def surprise(bars: OwnBars, *, window: int) -> FloatArray:
    """Return the sum of the signed surprises of the last `window` rows."""
    return np.asarray(rolling_sum(bars.panel.surprises, window))


def hour(bars: OwnBars, *, part: str) -> FloatArray:
    """Return the sine or cosine of the bar's opening hour, UTC."""
    seconds = bars.panel.ts.astype("datetime64[s]").astype(np.int64) % 86_400
    angle = 2.0 * np.pi * seconds / 86_400.0
    return _by_row(bars, np.sin(angle) if part == "sin" else np.cos(angle))


def weekday(bars: OwnBars) -> FloatArray:
    """Return the day of the week of the bar's open, UTC: 0 is Monday."""
    days = bars.panel.ts.astype("datetime64[D]").astype(np.int64)
    return _by_row(bars, ((days + 3) % 7).astype(np.float64))


def asset_class(bars: OwnBars, *, asset_class: str) -> FloatArray:
    """Return 1 of instruments of the class, else 0."""
    flags = np.array([one == asset_class for one in bars.panel.asset_classes])
    return np.tile(flags.astype(np.float64), (bars.panel.n_obs, 1))


_RISK: Final = max(RISK_BARS.values())
_W: Final = ("window",)

FAMILIES: Final[dict[str, Family]] = {
    one.name: one
    for one in (
        Family("momentum", momentum, _W, bars=_RISK),
        Family("volatility", volatility, _W),
        Family("volatility_ratio", volatility_ratio, _W, bars=_RISK),
        Family("reversion", reversion, _W),
        Family("channel", channel, _W),
        Family("drawdown", drawdown, _W, bars=_RISK),
        Family("range", bar_range, _W, bars=_RISK),
        Family("volume", volume, _W),
        Family("relative", relative, _W, bars=_RISK),
        Family("breadth", breadth, _W, bars=_RISK),
        Family("turbulence", turbulence, _W, bars=_RISK),
        Family("leader", leader, ("leader", "window"), bars=_RISK),
        Family("symbol", symbol_momentum, ("symbol", "window"), bars=_RISK),
        Family(
            "symbol_volatility", symbol_volatility, ("symbol", "window"), bars=_RISK
        ),
        Family("forecast_move", forecast_move, ("model",), bars=_RISK),
        Family("forecast_width", forecast_width, ("model",), bars=_RISK),
        Family("forecast_skew", forecast_skew, ("model",), bars=1),
        Family("agreement", agreement, ("models",), bars=1),
        Family("surprise", surprise, _W),
        Family("hour", hour, ("part",), bars=1),
        Family("weekday", weekday, bars=1),
        Family("class", asset_class, ("asset_class",), bars=1),
    )
}
"""Every formula by its name."""


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    is_usable = np.isfinite(above) & np.isfinite(below) & (below > 0.0)
    found: FloatArray = np.divide(
        above, below, out=np.full(above.shape, np.nan), where=is_usable
    )
    return found


def _mean(values: FloatArray) -> FloatArray:
    # Over the instruments that have a figure; (n_obs, 1).
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=1, keepdims=True)
    return _ratio(total, known.sum(axis=1, keepdims=True).astype(np.float64))


def _of_symbols(
    values: FloatArray, panel: AlignedPanel, symbols: Sequence[str]
) -> FloatArray:
    # On each row the first of the symbols with a figure there, for every instrument.
    found = np.full(panel.n_obs, np.nan)
    for name in reversed(symbols):
        if name in panel.symbols:
            own = values[:, panel.symbols.index(name)]
            found = np.where(np.isnan(own), found, own)
    return np.repeat(found[:, None], panel.n_assets, axis=1)


def _by_row(bars: OwnBars, values: FloatArray) -> FloatArray:
    return np.repeat(values[:, None], bars.panel.n_assets, axis=1)


def _unknown(bars: OwnBars) -> FloatArray:
    return np.full((bars.panel.n_obs, bars.panel.n_assets), np.nan)
