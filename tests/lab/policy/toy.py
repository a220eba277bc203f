"""Days with a known best choice: one sleeve earns in calm, another in turbulence."""

import numpy as np

from lab.policy.days import SleeveDays

SLEEVES = ("a", "b", "phase37")
CALM, TURBULENT = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def days_of(net, *, sleeves=SLEEVES, regime=None, agreement=None) -> SleeveDays:
    """Days of given returns, shape (n_days, n_sleeves)."""
    net = np.asarray(net, dtype=np.float64)
    n = len(net)
    ts = np.datetime64("2015-01-01", "us") + np.arange(n) * np.timedelta64(1, "D")
    return SleeveDays(
        sleeves,
        ts,
        ts + np.timedelta64(1, "D"),
        net,
        np.full((n, 3), np.nan) if regime is None else np.asarray(regime),
        np.full(n, np.nan) if agreement is None else np.asarray(agreement),
    )


def planted(n_days: int = 800, *, edge: float = 0.003, seed: int = 0) -> SleeveDays:
    """`a` earns in calm and loses in turbulence, `b` the other way, 50 days each."""
    rng = np.random.default_rng(seed)
    is_calm = (np.arange(n_days) // 50) % 2 == 0
    net = rng.normal(0.0, 0.004, (n_days, 3))
    net[:, 0] += np.where(is_calm, edge, -edge)
    net[:, 1] += np.where(is_calm, -edge, edge)
    regime = np.where(is_calm[:, None], CALM, TURBULENT)
    return days_of(net, regime=regime)


def rough(n_days: int = 300, *, seed: int = 1) -> SleeveDays:
    """Returns without an edge, regimes and agreement with holes."""
    rng = np.random.default_rng(seed)
    net = rng.normal(0.0002, 0.006, (n_days, 3))
    regime = rng.dirichlet((1.0, 1.0, 1.0), n_days)
    regime[rng.random(n_days) < 0.2] = np.nan
    agreement = rng.random(n_days)
    agreement[rng.random(n_days) < 0.2] = np.nan
    return days_of(net, regime=regime, agreement=agreement)
