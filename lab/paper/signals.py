"""The eight orchestrator signals: what each would hold, as shares of a book of its own.

Seven are read off a panel; `winprob`, the eighth, is made from a model's probabilities
of the baseline's positions. Every signal is sized like a sleeve: the absolute weights of
a row add up to at most 1, whatever weight is published for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np

from lab.arrays import FloatArray, TimeArray
from lab.backtest.panel import AlignedPanel
from lab.errors import PaperError
from lab.sleeves.bollinger_reversion import BollingerReversion
from lab.sleeves.event_drift import EventDrift
from lab.sleeves.follow_chronos2 import FollowChronos2
from lab.sleeves.follow_ensemble import FollowEnsemble
from lab.sleeves.follow_kronos import FollowKronos
from lab.sleeves.own_bars import OwnBars
from lab.sleeves.sizing import sized
from lab.sleeves.volatility_targeted_trend import VolatilityTargetedTrend

SIGNALS: Final = (
    "kronos",
    "chronos2",
    "ensemble",
    "trend",
    "reversion",
    "event",
    "regime",
    "winprob",
)
"""All eight, in the order in which they are published."""

RISKY: Final = frozenset({"equity", "index", "crypto"})
"""Asset classes that are held while the market is not turbulent."""

CALM_BELOW: Final = 0.25
"""Probability of turbulence below which risky instruments are bought."""

TURBULENT_ABOVE: Final = 0.5
"""Probability of turbulence above which they are sold again."""

MAX_AGE: Final = timedelta(days=10)
"""A regime call that was known longer ago says nothing."""

_FOLLOWERS: Final = {
    "kronos": FollowKronos(),
    "chronos2": FollowChronos2(),
    "ensemble": FollowEnsemble(),
}
_TREND: Final = VolatilityTargetedTrend()
_REVERSION: Final = BollingerReversion()
_EVENT: Final = EventDrift()


@dataclass(frozen=True, slots=True)
class RegimeCalls:
    """Calls of the market's regime.

    Attributes
    ----------
    known : ndarray of shape (n_calls,), datetime64[us]
        When each was known; never falls.
    turbulent : ndarray of shape (n_calls,), float64
        Probability that the market is turbulent.
    """

    known: TimeArray
    turbulent: FloatArray


def signal_positions(
    panel: AlignedPanel, regimes: RegimeCalls | None = None
) -> dict[str, FloatArray]:
    """Return what each signal would hold on every row.

    Parameters
    ----------
    panel : AlignedPanel
        Bars, forecasts and surprises.
    regimes : RegimeCalls, optional
        Of the market; none if not given.

    Returns
    -------
    dict of str to ndarray of shape (n_obs, n_assets), float64
        Weights by signal. Signals that have nothing to read are left out: a follower
        without forecasts of its model, `regime` without calls; `winprob` always.

    Notes
    -----
    Point in time: row t uses bars, forecasts, surprises and calls known by the row.

    References
    ----------
    .. [1] Ang & Bekaert (2004), How Regimes Affect Asset Allocation, Financial Analysts
       Journal 60(2).
    """
    found = {
        name: one.positions(panel)
        for name, one in _FOLLOWERS.items()
        if one.needs in panel.forecasts
    }
    bars = OwnBars.of(panel)
    found["trend"] = _TREND.positions(bars)
    found["reversion"] = _REVERSION.positions(bars)
    found["event"] = _EVENT.positions(bars)
    if regimes is not None and len(regimes.known):
        found["regime"] = _regime(bars, regimes)
    return found


def winprob_positions(
    baseline: FloatArray, probability: FloatArray, *, base_rate: float
) -> FloatArray:
    """Return the baseline's positions, the more of each the likelier it wins.

    Parameters
    ----------
    baseline : ndarray of shape (n_assets,), float64
        Target weights of the baseline.
    probability : ndarray of shape (n_assets,), float64
        That each position wins, 0 to 1; NaN where no model said.
    base_rate : float
        Share of positions that win, above 0 and below 1: what is no news.

    Returns
    -------
    ndarray of shape (n_assets,), float64
        `(p - base) / (1 - base)` of each position, none where p is at or below the base
        rate: the signal adds to what it believes in and never takes the baseline back.
        A trend follower wins in three of ten trades and lives by them; one half is no
        measure of it.

    Raises
    ------
    PaperError
        If a probability, or the base rate, is out of range.

    References
    ----------
    .. [1] Kelly (1956), A New Interpretation of Information Rate, Bell System Technical
       Journal 35(4): the stake of a bet that is fair at the base rate.
    """
    if not 0.0 < base_rate < 1.0:
        raise PaperError(f"winprob: base rate {base_rate:g}, above 0 and below 1")
    known = np.isfinite(probability)
    if bool(np.any((probability[known] < 0) | (probability[known] > 1))):
        raise PaperError("winprob: a probability is not between 0 and 1")
    sure = np.where(known, probability, base_rate)
    edge = (sure - base_rate) / (1.0 - base_rate)
    return np.asarray(baseline * np.maximum(edge, 0.0))


def stacked(
    positions: Mapping[str, FloatArray], names: tuple[str, ...], shape: tuple[int, ...]
) -> FloatArray:
    """Return the positions of some signals, last axis by name; NaN where there is none.

    Parameters
    ----------
    positions : mapping of str to ndarray
        As `signal_positions` returns them.
    names : tuple of str
        Which, in order.
    shape : tuple of int
        Of one signal's array.
    """
    unknown = np.full(shape, np.nan)
    return np.stack([positions.get(name, unknown) for name in names], axis=-1)


def _regime(bars: OwnBars, regimes: RegimeCalls) -> FloatArray:
    panel = bars.panel
    newest = np.searchsorted(regimes.known, panel.known_ts, side="right") - 1
    at = np.maximum(newest, 0)
    age = panel.known_ts - regimes.known[at]
    is_fresh = (newest >= 0) & (age <= np.timedelta64(MAX_AGE))
    risk = np.where(is_fresh, regimes.turbulent[at], 1.0)
    on, off = risk < CALM_BELOW, risk > TURBULENT_ABOVE
    row = np.arange(1, panel.n_obs + 1)
    turns = np.maximum.accumulate(np.where(on | off, 2 * row + on, 0))
    is_risky = np.array([one in RISKY for one in panel.asset_classes])
    held = (turns & 1).astype(np.float64)
    return sized(bars, held[:, None] * is_risky[None, :])
