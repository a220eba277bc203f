"""Panels with everything that goes wrong with bars, from a seed."""

import numpy as np

from lab.backtest.panel import AlignedPanel

START = np.datetime64("2024-01-01T00:00", "us")


def random_panel(seed, n_obs, n_assets, *, is_clean=False, size=0.02):
    """Return an hourly panel of a market that never closes.

    Unless it is clean: rows are missing, instruments begin late, have short and long
    gaps, breaks, stretches without volume, moves of half the price and more, a
    delisting, and one may end at a price of 0.
    """
    rng = np.random.default_rng(seed)
    n_hours = n_obs if is_clean else n_obs + int(rng.integers(0, 60))
    hours = np.sort(rng.permutation(n_hours)[:n_obs])
    shape = (n_obs, n_assets)
    steps = rng.standard_normal(shape) * size
    close = 100 * np.exp(np.cumsum(steps, axis=0))
    opens = np.vstack([np.full((1, n_assets), 100.0), close[:-1]])
    opens = opens * np.exp(rng.standard_normal(shape) * size / 4)
    volume = rng.gamma(2.0, 100.0, shape)
    is_break = np.zeros(shape, dtype=np.bool_)
    delisted = np.full(n_assets, -1)
    if not is_clean:
        for i in range(n_assets):
            _spoil(rng, opens[:, i], close[:, i], volume[:, i], is_break[:, i])
            rows = np.flatnonzero(np.isfinite(close[:, i]))
            if len(rows) and rng.random() < 0.3 and close[rows[-1], i] > 0:
                delisted[i] = rows[-1]
    ts = START + hours * np.timedelta64(1, "h")
    return AlignedPanel(
        timeframe="1h",
        symbols=tuple(f"S{i}" for i in range(n_assets)),
        asset_classes=("crypto",) * n_assets,
        calendars=("24x7",) * n_assets,
        ts=ts,
        known_ts=ts + np.timedelta64(1, "h"),
        open=opens,
        high=np.fmax(opens, close),
        low=np.fmin(opens, close),
        close=close,
        volume=volume,
        is_break=is_break,
        delisted=delisted,
    )


def random_positions(seed, n_obs, n_assets, n_variants):
    """Return weights that stay for a while, jump, flip and are often 0."""
    rng = np.random.default_rng([seed, 1])
    shape = (n_obs, n_assets, n_variants)
    raw = rng.standard_normal(shape) * (rng.random(shape) < 0.8)
    keep = rng.random(shape) < 0.5
    for t in range(1, n_obs):
        raw[t] = np.where(keep[t], raw[t - 1], raw[t])
    total = np.abs(raw).sum(axis=1, keepdims=True)
    share = np.where(rng.random((n_obs, 1, n_variants)) < 0.5, 1.0, 0.6)
    return np.where(total > 0, raw / np.maximum(total, 1e-9), 0.0) * share


def _spoil(rng, opens, close, volume, is_break):
    n = len(close)
    for _ in range(rng.integers(0, 3)):  # a leap up or down from some bar on
        row = rng.integers(0, n)
        factor = rng.choice([0.2, 0.5, 2.0, 4.0])
        close[row:] *= factor
        opens[row + rng.integers(0, 2) :] *= factor
    for _ in range(rng.integers(0, 3)):
        row, length = rng.integers(0, n), rng.integers(1, 40)
        opens[row : row + length] = close[row : row + length] = np.nan
    if rng.random() < 0.3:
        opens[: (late := rng.integers(0, n))] = close[:late] = np.nan
    volume[(row := rng.integers(0, n)) : row + 10] = 0.0
    is_break[:] = rng.random(n) < 0.05
    rows = np.flatnonzero(np.isfinite(close))
    if rng.random() < 0.2 and len(rows) > 2:
        end = int(rng.choice(rows[1:]))
        close[end] = 0.0
        opens[end + 1 :] = close[end + 1 :] = np.nan
    volume[np.isnan(close)] = np.nan
