"""Windows of one series that train or judge Chronos-2, with their events."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lab.arrays import AnyArray, FloatArray, IntArray
from lab.errors import TrainingError
from lab.forecasters.chronos2_inputs import Chronos2View, prepared_input

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline
    from chronos.chronos2.dataset import PreparedInput

    from lab.features.events import EncodedHistory

_ROWS_PER_BATCH: Final = 512


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows of one series that windows may lie in.

    Attributes
    ----------
    levels : ndarray of shape (n_obs,), float64
        Log prices of the whole series.
    first, stop : int
        Rows that windows may touch: `first` and on, before `stop`.
    events : EncodedHistory or None
        Of the same rows.
    """

    levels: FloatArray
    first: int
    stop: int
    events: "EncodedHistory | None" = None

    def n_windows(self, length: int) -> int:
        """Return how many windows of `length` rows there are."""
        return max(0, self.stop - self.first - length + 1)

    def windows(
        self, number: IntArray, *, view: Chronos2View, horizon: int
    ) -> tuple[list["PreparedInput"], FloatArray]:
        """Return some of the windows.

        Parameters
        ----------
        number : ndarray of shape (n_windows,), int64
            Which, from 0.
        view : Chronos2View
            History, and how it is shown.
        horizon : int, bars
            Future.

        Returns
        -------
        inputs : list of PreparedInput
            As a forecast at each window's last bar would be made.
        future : ndarray of shape (n_windows, horizon), float64
            Log price changes from that bar.

        Notes
        -----
        Point in time: events are those known at each window's last bar.
        """
        last = self.first + number + view.context - 1
        rows = last[:, None] + np.arange(1 - view.context, horizon + 1)
        levels = self.levels[rows] - self.levels[last][:, None]
        tensors = (
            [None] * len(last)
            if self.events is None
            else list(self.events.windows(last, context=view.context, horizon=horizon))
        )
        inputs = [
            prepared_input(one[: view.context], tensor, view=view, n_steps=horizon)
            for one, tensor in zip(levels, tensors, strict=True)
        ]
        return inputs, levels[:, view.context :]


def training_windows(
    stretches: Sequence[Stretch],
    *,
    view: Chronos2View,
    horizon: int,
    n_windows: int,
    rng: np.random.Generator,
) -> list["PreparedInput"]:
    """Draw windows with their futures, as the package's trainer takes them.

    Each is exactly one history and one future long, so the trainer cuts it in one way.

    Parameters
    ----------
    stretches : sequence of Stretch
        Where to draw from; longer ones are drawn from more often.
    view : Chronos2View
        History, and how it is shown.
    horizon : int, bars
        Future.
    n_windows : int
        How many.
    rng : numpy.random.Generator
        Source of all draws.

    Raises
    ------
    TrainingError
        If no stretch is long enough.
    """
    import torch

    counts = np.array([one.n_windows(view.context + horizon) for one in stretches])
    if not bool(np.any(counts > 0)):
        needed = view.context + horizon
        raise TrainingError(f"chronos2: no series of {needed} bars to train on")
    drawn = rng.choice(len(stretches), n_windows, p=counts / counts.sum())
    found: list[PreparedInput] = []
    for number, one in enumerate(stretches):
        n_drawn = int(np.count_nonzero(drawn == number))
        if n_drawn == 0:
            continue
        chosen = rng.integers(counts[number], size=n_drawn)
        inputs, futures = one.windows(chosen, view=view, horizon=horizon)
        for window, future in zip(inputs, futures, strict=True):
            whole = torch.cat([window["context"], window["future_covariates"]], dim=1)
            whole[0, view.length :] = torch.from_numpy(future)
            found.append({**window, "context": whole})
    return found


def held_out_loss(
    pipeline: "Chronos2Pipeline",
    stretches: Sequence[Stretch],
    *,
    view: Chronos2View,
    horizon: int,
    every: int = 24,
) -> FloatArray:
    """Return the loss of each window that did not train the model.

    The mean quantile loss over levels and steps, each step in units of what the
    history's returns usually do over that many bars.

    Parameters
    ----------
    pipeline : Chronos2Pipeline
        The model.
    stretches : sequence of Stretch
        Kept from training.
    view : Chronos2View
        What the model is shown.
    horizon : int, bars
        Future judged.
    every : int, bars
        Distance of the windows.

    Returns
    -------
    ndarray of shape (n_windows,), float64

    Raises
    ------
    TrainingError
        If no stretch is long enough: nothing would be judged.
    """
    length = view.context + horizon
    losses = []
    for one in stretches:
        chosen = np.arange(0, one.n_windows(length), every)
        if len(chosen) == 0:
            continue
        inputs, future = one.windows(chosen, view=view, horizon=horizon)
        predictions = pipeline.predict(
            inputs,
            prediction_length=horizon,
            batch_size=_ROWS_PER_BATCH,
            context_length=view.length,
        )
        found = np.stack([each[0].numpy() for each in predictions])
        past = np.stack([each["context"][0].numpy() for each in inputs])
        losses.append(
            _loss(found, future, past[:, -view.context :], pipeline.quantiles)
        )
    if not losses:
        raise TrainingError(f"chronos2: no series of {length} bars to judge with")
    return np.concatenate(losses)


def spreads(past: AnyArray, horizon: int) -> FloatArray:
    """Return what the returns of histories usually add up to over each step.

    Parameters
    ----------
    past : ndarray of shape (n_windows, context), float
        Log prices; NaN before a short history.
    horizon : int, bars
        Steps.

    Returns
    -------
    ndarray of shape (n_windows, horizon), float64
        Root mean square return times the root of the step; 1e-6 at least.
    """
    returns = np.diff(past.astype(np.float64), axis=1)
    scale = np.maximum(np.sqrt(np.nanmean(returns**2, axis=1)), 1e-6)
    return np.asarray(scale[:, None] * np.sqrt(np.arange(1, horizon + 1)))


def _loss(
    found: AnyArray, future: FloatArray, past: AnyArray, levels: Sequence[float]
) -> FloatArray:
    spread = spreads(past, future.shape[1])[:, None]
    error = (future[:, None] - found) / spread
    quantiles = np.array(levels)[:, None]
    losses = np.maximum(quantiles * error, (quantiles - 1) * error)
    return np.asarray(losses.mean(axis=(1, 2)))
