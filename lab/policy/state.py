"""What a policy sees: regime, volatility, drawdown, momentum of sleeves, agreement.

A state has two faces. The network sees numbers of about unit size (`observation`); the
lookup table sees the bucket that the same figures fall in (`lab.policy.lookup`).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from lab.arrays import FloatArray, IntArray
from lab.errors import PolicyError
from lab.features.regime import STATES
from lab.policy.days import SleeveDays, families_of

UNKNOWN_REGIME: Final = 3
"""Beside 0 calm, 1 normal, 2 turbulent: no call was known."""

_MOST_VOLATILITY: Final = 2.0
_MOST_MOMENTUM: Final = 4.0
_DEEP: Final = 0.1  # a drawdown that is plainly one


@dataclass(frozen=True, slots=True)
class StatePlan:
    """How far back a state looks.

    Attributes
    ----------
    volatility_days, usual_days, momentum_days : int
        Rows of the realised volatility, of the one it is measured by, and of momentum.
    warm_up : int
        Rows before the first state.

    Raises
    ------
    PolicyError
        If a span is below 2, or the warm-up is shorter than volatility or momentum.
    """

    volatility_days: int = 20
    usual_days: int = 250
    momentum_days: int = 60
    warm_up: int = 60

    def __post_init__(self) -> None:
        """Refuse spans that measure nothing."""
        spans = (self.volatility_days, self.usual_days, self.momentum_days)
        longest = max(self.volatility_days, self.momentum_days)
        if min(spans) < 2 or self.warm_up < longest:
            raise PolicyError(
                f"state plan: spans {spans} of 2 or more, warm_up of {longest} or more"
            )


@dataclass(frozen=True, slots=True)
class MarketStates:
    """The part of every day's state that does not depend on what was chosen before.

    Attributes
    ----------
    families : tuple of str, n_families
        Families of the sleeves, sorted.
    regime : ndarray of shape (n_days,), int64
        Likeliest regime, `UNKNOWN_REGIME` without a call.
    volatility : ndarray of shape (n_days,), float64
        Log of the equal-weight book's volatility over its usual one.
    breadth : ndarray of shape (n_days,), float64
        Share of sleeves whose momentum is above 0.
    leader : ndarray of shape (n_days,), int64
        Family with the highest momentum, the first of equals.
    agreement : ndarray of shape (n_days,), float64
        Forecast agreement; NaN where unknown.
    observations : ndarray of shape (n_days, n_features - 1), float64
        What a network sees, the book's own drawdown excepted.
    warm_up : int
        First row with a state; earlier ones are NaN or arbitrary.
    """

    families: tuple[str, ...]
    regime: IntArray
    volatility: FloatArray
    breadth: FloatArray
    leader: IntArray
    agreement: FloatArray
    observations: FloatArray
    warm_up: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of an observation's numbers, in order."""
        return (
            *(f"p_{name}" for name in STATES),
            "is_regime_known",
            "volatility",
            *(f"momentum_{name}" for name in self.families),
            *("breadth", "agreement", "is_agreement_known", "drawdown"),
        )

    @property
    def n_features(self) -> int:
        """Width of an observation, the drawdown included."""
        return int(self.observations.shape[1]) + 1

    def observation(self, row: int, drawdown: float) -> FloatArray:
        """Return what the network sees on a row, shape (n_features,).

        Parameters
        ----------
        row : int
            At least `warm_up`.
        drawdown : float
            Of the book, as known on that row.
        """
        return np.append(self.observations[row], np.tanh(drawdown / _DEEP))

    def many(self, rows: IntArray, drawdowns: FloatArray) -> FloatArray:
        """Return observations, shape (n_rows, n_features).

        Parameters
        ----------
        rows : ndarray of shape (n_rows,), int64
            Rows.
        drawdowns : ndarray of shape (n_rows,), float64
            The book's drawdown on each.
        """
        own = np.tanh(drawdowns / _DEEP)[:, None]
        return np.concatenate([self.observations[rows], own], axis=1)


def market_states(days: SleeveDays, plan: StatePlan | None = None) -> MarketStates:
    """Return the states of all days.

    Parameters
    ----------
    days : SleeveDays
        Returns, regimes and forecast agreement.
    plan : StatePlan, optional
        How far back they look.

    Notes
    -----
    Point in time: row t depends on rows up to t alone, which were known at
    `days.known_ts[t]`; nothing is scaled by what came later.
    """
    plan = plan or StatePlan()
    families = families_of(days.sleeves)
    book = days.net.mean(axis=1)
    usual = _deviation(book, plan.usual_days)
    recent = _deviation(book, plan.volatility_days)
    volatility = np.log(np.maximum(recent, 1e-6) / np.maximum(usual, 1e-6))
    volatility = np.clip(volatility, -_MOST_VOLATILITY, _MOST_VOLATILITY)
    grouped = np.column_stack(
        [
            days.of(members).net.mean(axis=1)  # a family is its equal-weight book
            for members in families.values()
        ]
    )
    momentum = _momentum(grouped, plan.momentum_days)
    breadth = (_momentum(days.net, plan.momentum_days) > 0).mean(axis=1)
    is_called = np.asarray(np.isfinite(days.regime).all(axis=1))
    called = np.where(is_called[:, None], days.regime, 0.0)
    is_agreed = np.isfinite(days.agreement)
    agreed = np.where(is_agreed, days.agreement - 0.5, 0.0)
    observations = np.column_stack(
        [
            *(called, is_called, volatility, momentum / _MOST_MOMENTUM),
            *(breadth - 0.5, agreed, is_agreed),
        ]
    )
    return MarketStates(
        families=tuple(families),
        regime=np.where(is_called, called.argmax(axis=1), UNKNOWN_REGIME),
        volatility=volatility,
        breadth=breadth,
        leader=momentum.argmax(axis=1).astype(np.int64),
        agreement=days.agreement,
        observations=observations,
        warm_up=plan.warm_up,
    )


def forecast_agreement(moves: FloatArray) -> FloatArray:
    """Return how far forecast models agree on directions, row by row.

    Parameters
    ----------
    moves : ndarray of shape (n_models, n_obs, n_assets), float64
        Forecast moves; NaN where a model has no forecast.

    Returns
    -------
    ndarray of shape (n_obs,), float64
        Mean over the instruments with two forecasts or more of the absolute mean sign:
        1 if all point the same way, 0 if they cancel; NaN without such an instrument.

    Notes
    -----
    Point in time: row t depends on row t alone.
    """
    is_known = np.isfinite(moves)
    counts = is_known.sum(axis=0)
    signs = np.where(is_known, np.sign(np.nan_to_num(moves)), 0.0).sum(axis=0)
    agreed = np.abs(signs) / np.maximum(counts, 1)
    is_judged = counts >= 2
    n_judged = is_judged.sum(axis=1)
    total = np.where(is_judged, agreed, 0.0).sum(axis=1)
    mean = total / np.maximum(n_judged, 1)
    return np.where(n_judged > 0, mean, np.nan)


def _sums(values: FloatArray, span: int) -> tuple[FloatArray, FloatArray]:
    # Trailing sums over up to `span` rows, and how many those were. Each window is
    # summed for itself: running totals would carry rounding from row to row.
    padded = np.concatenate([np.zeros((span - 1, *values.shape[1:])), values])
    windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=0)
    counts = np.minimum(np.arange(1, len(values) + 1), span).astype(np.float64)
    return windows.sum(axis=-1), counts


def _deviation(values: FloatArray, span: int) -> FloatArray:
    total, count = _sums(values, span)
    squares, _ = _sums(values**2, span)
    spread = squares / count - (total / count) ** 2
    return np.sqrt(np.maximum(spread, 0.0))


def _momentum(values: FloatArray, span: int) -> FloatArray:
    # t-statistic of the mean over the span; 0 for a series that does not move.
    total, count = _sums(values, span)
    squares, _ = _sums(values**2, span)
    mean = total / count[:, None]
    spread = np.sqrt(np.maximum(squares / count[:, None] - mean**2, 0.0))
    found = np.divide(
        mean * np.sqrt(count)[:, None],
        spread,
        out=np.zeros_like(mean),
        where=spread > 1e-9,
    )
    return np.clip(found, -_MOST_MOMENTUM, _MOST_MOMENTUM)
