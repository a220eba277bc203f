"""What Chronos-2 is shown: log prices, and events as covariates.

A series enters as the logarithm of its closes less the last one, so a forecast scales
with the price and every quantile of it is positive. Steps that are no returns (splits,
long gaps) count as zero. Channels of the event tensor that are scheduled enter with
their future values; surprises and leaders end with the history.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lab.arrays import AnyArray, FloatArray
from lab.bars.series import Series
from lab.errors import ForecastError

if TYPE_CHECKING:
    from chronos.chronos2.dataset import PreparedInput

N_CHANNELS: Final = 20
KNOWN_AHEAD: Final = (0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13)
"""Channels of the event tensor that are scheduled: release flags, days to a release."""

PAST_ONLY: Final = (5, 6, 7, 14, 15, 16, 17)
"""Channels known when they happen: surprises, leaders' returns, the VIX level."""


@dataclass(frozen=True, slots=True)
class Chronos2View:
    """How much of a series a checkpoint is shown, and how.

    Attributes
    ----------
    context : int, bars
        History.
    is_mirrored : bool
        Whether the history's mirror image through its last value precedes it. The
        network shifts what it is shown to mean zero: with the image, the last price is
        that zero, and a small network need not learn to find it. Published checkpoints
        were trained without.
    """

    context: int
    is_mirrored: bool = False

    @property
    def length(self) -> int:
        """Values shown per series."""
        return 2 * self.context if self.is_mirrored else self.context

    def shown(self, past: AnyArray) -> AnyArray:
        """Return what the network is shown of histories that end at zero.

        Parameters
        ----------
        past : ndarray of shape (..., context), float
            NaN before the first bar.

        Returns
        -------
        ndarray of shape (..., length), float
        """
        if not self.is_mirrored:
            return past
        return np.concatenate([-past[..., ::-1], past], axis=-1)


def log_levels(series: Series) -> FloatArray:
    """Return the log closes of a series less the last one, without its breaks.

    Parameters
    ----------
    series : Series
        Already cut.

    Returns
    -------
    ndarray of shape (n_obs,), float64
        The last value is 0.

    Raises
    ------
    ForecastError
        If a close is not finite and positive.

    Notes
    -----
    Point in time: a value uses the bars of `series` only.
    """
    close = series.close
    if not bool(np.all(np.isfinite(close) & (close > 0))):
        raise ForecastError(
            f"{series.symbol} {series.timeframe}: closes must be finite and positive"
        )
    returns = np.diff(np.log(close), prepend=np.log(close[:1]))
    returns[series.is_break] = 0.0
    levels = np.cumsum(returns)
    return np.asarray(levels - levels[-1])


def prepared_input(
    levels: FloatArray,
    events: AnyArray | None,
    *,
    view: Chronos2View,
    n_steps: int,
    n_missed: int = 0,
) -> "PreparedInput":
    """Return one series as the package's dataset takes it.

    Parameters
    ----------
    levels : ndarray of shape (n_obs,), float64
        From `log_levels`, at most the view's `context` of them.
    events : ndarray of shape (n_obs + horizon, 20), float32, or None
        Rows of the event tensor for the bars and the targets.
    view : Chronos2View
        Every input is padded to its length: what a series is shown does not depend on
        the lengths of others.
    n_steps : int, bars
        Steps ahead; at least `n_missed` plus the targets.
    n_missed : int, bars
        Bars between the last one and the first target; their events are unknown.

    Returns
    -------
    PreparedInput
        The price first, then past-only and scheduled channels. Channels that say
        nothing (the same value throughout) are left out.

    Notes
    -----
    Point in time: rows of past-only channels after the last bar are not read.
    """
    import torch

    n_obs = len(levels)
    padded = np.full((1, view.context), np.nan, dtype=np.float32)
    padded[0, view.context - n_obs :] = levels
    history = view.shown(padded)
    future = np.full((1, n_steps), np.nan, dtype=np.float32)
    n_scheduled = 0
    if events is not None:
        past, ahead, n_scheduled = _covariates(
            events, n_obs, n_missed, (view.length, n_steps)
        )
        history, future = np.vstack([history, past]), np.vstack([future, ahead])
    return {
        "context": torch.from_numpy(history),
        "future_covariates": torch.from_numpy(future),
        "n_targets": 1,
        "n_covariates": len(history) - 1,
        "n_future_covariates": n_scheduled,
    }


def check_events(events: AnyArray, *, n_rows: int, symbol: str) -> None:
    """Refuse an event tensor that does not fit its request.

    Raises
    ------
    ForecastError
        If the shape is wrong or a value is infinite; NaN is a value nobody knows.
    """
    if events.shape != (n_rows, N_CHANNELS):
        raise ForecastError(
            f"{symbol}: events have shape {events.shape},"
            f" allowed is ({n_rows}, {N_CHANNELS})"
        )
    if bool(np.any(np.isinf(events))):
        raise ForecastError(f"{symbol}: events hold infinity")


def _covariates(
    events: AnyArray, n_obs: int, n_missed: int, shape: tuple[int, int]
) -> tuple[AnyArray, AnyArray, int]:
    # Past and future rows of the channels that say something, past-only ones first.
    length, n_steps = shape
    values = np.asarray(events, dtype=np.float32).T
    seen = [one for one in PAST_ONLY if _varies(values[one, :n_obs])]
    known = [one for one in KNOWN_AHEAD if _varies(values[one])]
    chosen = seen + known
    past = np.full((len(chosen), length), np.nan, dtype=np.float32)
    past[:, length - n_obs :] = values[chosen, :n_obs]
    ahead = np.full((len(chosen), n_steps), np.nan, dtype=np.float32)
    targets = values[known, n_obs:][:, : n_steps - n_missed]
    ahead[len(seen) :, n_missed : n_missed + targets.shape[1]] = targets
    return past, ahead, len(known)


def _varies(values: AnyArray) -> bool:
    known = values[np.isfinite(values)]
    return len(known) > 0 and bool(np.any(known != known[0]))
