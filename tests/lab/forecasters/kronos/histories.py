"""Invented histories and draws for tests of generation."""

import numpy as np

from lab.forecasters.kronos.generate import History

SIZES = (60, 24, 7, 31, 12)


def fields(rng, n_rows):
    return np.stack([rng.integers(0, size, n_rows) for size in SIZES], axis=1)


def history(length, horizon, seed=0, extra=None):
    rng = np.random.default_rng([seed, length])
    bars = rng.standard_normal((length, 6)).astype(np.float32)
    return History(bars, fields(rng, length), fields(rng, horizon), extra)


def draws(n_series, n_paths, horizon, seed=0):
    return np.random.default_rng(seed).random((n_series, n_paths, 2 * horizon))
