"""Windows of a model's life: dependent features, a probability, labels, profits."""

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from lab.drift.detector import DriftDetector
from lab.drift.figures import DriftReport
from lab.drift.performance import Judged
from lab.drift.profile import ReferenceProfile

START = np.datetime64("2020-01-01", "us")
Floats = NDArray[np.float64]


def autoregressive(
    rng: np.random.Generator, n_rows: int, n_series: int, phi: float
) -> Floats:
    """Draw AR(1) series of variance 1, (n_rows, n_series)."""
    noise = rng.standard_normal((n_rows + 300, n_series))
    series = lfilter([1.0], [1.0, -phi], noise, axis=0)[300:]
    return np.ascontiguousarray(series * np.sqrt(1.0 - phi**2))


def judged(
    rng: np.random.Generator, features: Floats, *, first: int, per_day: int
) -> Judged:
    """Predict, label and settle rows whose features decide, `per_day` rows a day."""
    n = len(features)
    chance = 1.0 / (1.0 + np.exp(-0.5 * features[:, :2].sum(axis=1)))
    label = (rng.random(n) < chance).astype(np.float64)
    outcome = np.where(label > 0, 1.0, -1.0) * np.abs(rng.standard_normal(n))
    step = np.timedelta64(86_400 // per_day, "s")
    return Judged(START + (first + np.arange(n)) * step, chance, label, outcome)


def window_report(
    seed: int,
    *,
    phi: float,
    n_reference: int,
    n_current: int,
    n_features: int,
    shift: float = 0.0,
    shifted: int = 0,
    per_day: int = 12,
) -> DriftReport:
    """Report on one window that follows its reference."""
    rng = np.random.default_rng(seed)
    rows = autoregressive(rng, n_reference + n_current, n_features, phi)
    rows[n_reference:, shifted] += shift
    before, after = rows[:n_reference], rows[n_reference:]
    past = judged(rng, before, first=0, per_day=per_day)
    present = judged(rng, after, first=n_reference, per_day=per_day)
    names = [f"x{k}" for k in range(n_features)]
    return DriftDetector().report(
        ReferenceProfile.of(before, names, times=past.times),
        after,
        seed=seed,
        times=present.times,
        past=past,
        present=present,
    )


def slow_under_noise(rng: np.random.Generator, n_rows: int, n_series: int) -> Floats:
    """Draw a slow AR(1) of 0.95 under louder noise: its first lag says little."""
    slow = autoregressive(rng, n_rows, n_series, 0.95)
    return slow + 1.5 * rng.standard_normal((n_rows, n_series))


def in_spells(rng: np.random.Generator, n_rows: int, n_series: int) -> Floats:
    """Draw uncorrelated values whose spread is persistent, as returns have it."""
    spread = np.exp(0.8 * autoregressive(rng, n_rows, n_series, 0.97))
    return spread * rng.standard_normal((n_rows, n_series))


def overlapping(rng: np.random.Generator, n_rows: int, n_series: int) -> Floats:
    """Draw sums over 20 rows, as a momentum is."""
    total = np.cumsum(rng.standard_normal((n_rows + 20, n_series)), axis=0)
    return total[20:] - total[:-20]
