"""Small markets to breed on: noise, gaps, unequal starts, and one with a real trend."""

import numpy as np

from lab.backtest.panel import AlignedPanel

CLASSES = ("crypto", "crypto", "fx", "fx", "equity", "equity", "equity", "commodity")
DAY = np.timedelta64(1, "D")


def noise(n_obs=900, *, seed=0, drift=None, step=DAY, timeframe="1d"):
    """Random walks; all but the first two rest on weekends, the third starts late."""
    rng = np.random.default_rng(seed)
    n_assets = len(CLASSES)
    ts = np.datetime64("2015-01-01", "us") + np.arange(n_obs) * step
    volatility = 0.01 * np.exp(0.5 * np.sin(np.arange(n_obs) / 60))[:, None]
    moves = volatility * rng.standard_normal((n_obs, n_assets))
    if drift is not None:
        moves += drift
    close = 100 * np.exp(np.cumsum(moves, axis=0))
    jump = np.exp(0.0005 * rng.standard_normal(close.shape))
    opens = np.vstack([close[:1], close[:-1]]) * jump
    weekday = (ts.astype("datetime64[D]").astype(np.int64) + 3) % 7
    is_closed = np.zeros(close.shape, dtype=bool)
    is_closed[weekday >= 5, 2:] = True
    is_closed[: n_obs // 5, 2] = True
    close[is_closed] = np.nan
    opens[is_closed] = np.nan
    volume = np.exp(rng.standard_normal(close.shape) + np.arange(n_assets))
    volume[is_closed] = np.nan
    volume[:, 3] = np.nan
    surprises = np.where(
        rng.random(close.shape) < 0.03, rng.normal(0, 2, close.shape), 0
    )
    return AlignedPanel(
        timeframe=timeframe,
        symbols=tuple(f"S{k}" for k in range(n_assets)),
        asset_classes=CLASSES,
        calendars=("24x7",) * 2 + ("fx",) * 2 + ("XNYS",) * 4,
        ts=ts,
        known_ts=ts + step,
        open=opens,
        high=np.fmax(opens, close) * 1.001,
        low=np.fmin(opens, close) * 0.999,
        close=close,
        volume=volume,
        is_break=rng.random(close.shape) < 0.002,
        delisted=np.full(n_assets, -1),
        surprises=surprises,
    )


def trending(n_obs=1500, *, seed=0, size=0.008):
    """Noise in which the last instrument's drift turns now and then: a rare skill."""
    rng = np.random.default_rng([seed, 1])
    drift = np.zeros((n_obs, len(CLASSES)))
    turns = rng.choice([-1.0, 1.0], size=n_obs // 120 + 1)
    drift[:, -1] = size * np.repeat(turns, 120)[:n_obs]
    return noise(n_obs, seed=seed, drift=drift)
