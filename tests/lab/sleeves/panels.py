"""Panels made by hand and at random, for the tests of sleeves."""

import numpy as np

from lab.backtest.panel import AlignedPanel, ForecastGrid
from lab.bars.timeframes import step

MODELS = ("kronos", "chronos2", "ensemble")
BEGIN = np.datetime64("2018-01-01T00:00:00", "us")  # a Monday


def panel(close, *, timeframe="1d", ts=None, classes=None, breaks=(), **more):
    """A panel of closes of shape (n_obs, n_assets); NaN where there is no bar."""
    close = np.asarray(close, dtype=np.float64)
    if close.ndim == 1:
        close = close[:, None]
    n_obs, n_assets = close.shape
    if ts is None:
        ts = BEGIN + np.arange(n_obs) * step(timeframe)
    is_break = np.zeros(close.shape, dtype=np.bool_)
    for place in breaks:
        is_break[place] = True
    return AlignedPanel(
        timeframe=timeframe,
        symbols=tuple(f"S{n:02}" for n in range(n_assets)),
        asset_classes=tuple(classes or ["fx"] * n_assets),
        calendars=("24x7",) * n_assets,
        ts=ts,
        known_ts=ts + step(timeframe),
        open=close,
        high=close,
        low=close,
        close=close,
        volume=np.full(close.shape, np.nan),
        is_break=is_break,
        delisted=np.full(n_assets, -1),
        **more,
    )


def rough(timeframe="1d", *, n_obs=1100, n_assets=6, seed=0):
    """Random walks with all that goes wrong: gaps, late starts, breaks, a dead one.

    The second asset has weekdays only, the third begins late, the fourth dies, the
    fifth stands still for long and falls to nothing once, the last has three bars.
    """
    rng = np.random.default_rng(seed)
    moves = rng.standard_normal((n_obs, n_assets)) * np.linspace(0.004, 0.03, n_assets)
    moves += 0.3 * moves[:, :1] + 0.0005 * np.sin(np.arange(n_obs) / 90)[:, None]
    close = 100.0 * np.exp(np.cumsum(moves, axis=0))
    ts = BEGIN + np.arange(n_obs) * step(timeframe)
    weekday = (ts.astype("datetime64[D]").astype(np.int64) + 3) % 7
    close[weekday >= 5, 1] = np.nan
    close[: n_obs // 3, 2] = np.nan
    close[int(n_obs * 0.7) :, 3] = np.nan
    close[200:330, 4] = close[200, 4]
    close[int(n_obs * 0.8), 4] = 0.0
    close[rng.random(n_obs) < 0.03, 0] = np.nan
    close[3:, 5] = np.nan
    close[400:, 1] *= 0.25
    classes = ["fx", "fx", "crypto", "crypto", "fx", "fx"][:n_assets]
    surprises = np.where(
        rng.random(close.shape) < 0.03, rng.normal(0, 1.5, close.shape), 0.0
    )
    return panel(
        close,
        timeframe=timeframe,
        ts=ts,
        classes=classes,
        breaks=[(400, 1)],
        surprises=surprises,
        forecasts={model: forecasts(rng, close.shape) for model in MODELS},
    )


def forecasts(rng, shape):
    """A model's forecasts, absent a third of the time."""
    move = np.repeat(rng.normal(0, 0.01, shape), 3, axis=0)[: shape[0]]
    width = np.repeat(rng.uniform(0.01, 0.08, shape), 3, axis=0)[: shape[0]]
    is_absent = np.repeat(rng.random(shape) < 0.3, 3, axis=0)[: shape[0]]
    move[is_absent], width[is_absent] = np.nan, np.nan
    return ForecastGrid(move, width)
