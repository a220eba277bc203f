"""Training a small Chronos-2 from scratch.

The package trains with its own loss: the quantile loss in units of a window's spread of
prices, in which the first step weighs a tenth of the hundredth. Here each step's loss is
in units of what returns usually do over that many bars, so near and far count alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lab.arrays import AnyArray, FloatArray
from lab.errors import TrainingError
from lab.forecasters.chronos2_inputs import Chronos2View
from lab.forecasters.chronos2_windows import spreads

if TYPE_CHECKING:
    import torch
    from chronos import Chronos2Pipeline

MIN_HISTORY: Final = 48


@dataclass(frozen=True, slots=True)
class Chronos2Training:
    """Settings of a training from scratch.

    Attributes
    ----------
    n_steps, batch_size : int
        Optimiser steps and windows per step.
    learning_rate, weight_decay : float
        Of AdamW; the rate rises over `n_warmup` steps and falls as a cosine.
    n_warmup : int
        Steps.
    horizon : int, bars
        Bars of future per window.
    flip : float
        Share of windows whose returns change sign: no direction is learnt from a
        period's drift.
    short : float
        Share of windows with a history shorter than the model's context.
    """

    n_steps: int = 1200
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    n_warmup: int = 100
    horizon: int = 144
    flip: float = 0.5
    short: float = 0.3


@dataclass(frozen=True, slots=True)
class LevelSet:
    """Log prices of one kind, and how often windows are drawn from it.

    Attributes
    ----------
    name : str
        For the card.
    levels : sequence of ndarray of shape (n_obs,), float64
        Log prices, oldest first, one array a symbol.
    weight : float
        Share of the windows.
    """

    name: str
    levels: Sequence[FloatArray]
    weight: float


class LevelSampler:
    """Windows of log prices, drawn at random.

    Parameters
    ----------
    sets : sequence of LevelSet
        Series shorter than a window are left out.
    view : Chronos2View
        History of a window, and how it is shown.
    settings : Chronos2Training
        Shares of flipped and of short windows.

    Raises
    ------
    TrainingError
        If no series of a set is long enough.
    """

    def __init__(
        self,
        sets: Sequence[LevelSet],
        *,
        view: Chronos2View,
        settings: Chronos2Training,
    ) -> None:
        self._view, self._settings = view, settings
        self._context = view.context
        self._length = view.context + settings.horizon
        self._levels = []
        for one in sets:
            usable = [level for level in one.levels if len(level) >= self._length]
            if not usable:
                raise TrainingError(
                    f"{one.name}: no series of {self._length} bars to train on"
                )
            self._levels.append(usable)
        weights = np.array([one.weight for one in sets])
        self._weights = weights / weights.sum()

    def draw(self, rng: np.random.Generator) -> tuple[AnyArray, AnyArray, AnyArray]:
        """Return one batch.

        Returns
        -------
        past : ndarray of shape (batch, length), float32
            Log prices less the last one as the view shows them; NaN before a short
            history.
        future : ndarray of shape (batch, horizon), float32
            Likewise.
        spread : ndarray of shape (batch, horizon), float32
            Root mean square return of the history times the root of the step.
        """
        n_rows = self._settings.batch_size
        windows = np.empty((n_rows, self._length))
        for row, kind in enumerate(
            rng.choice(len(self._weights), n_rows, p=self._weights)
        ):
            levels = self._levels[kind]
            level = levels[rng.integers(len(levels))]
            start = rng.integers(len(level) - self._length + 1)
            windows[row] = level[start : start + self._length]
        windows -= windows[:, [self._context - 1]]
        windows *= np.where(rng.random(n_rows) < self._settings.flip, -1.0, 1.0)[
            :, None
        ]
        past, future = windows[:, : self._context], windows[:, self._context :]
        self._shorten(past, rng)
        spread = spreads(past, future.shape[1])
        return (
            self._view.shown(past).astype(np.float32),
            future.astype(np.float32),
            spread.astype(np.float32),
        )

    def _shorten(self, past: FloatArray, rng: np.random.Generator) -> None:
        n_rows = len(past)
        kept = rng.integers(MIN_HISTORY, self._context + 1, n_rows)
        is_short = rng.random(n_rows) < self._settings.short
        first = np.where(is_short, self._context - kept, 0)
        past[np.arange(self._context) < first[:, None]] = np.nan


def train_from_scratch(
    pipeline: "Chronos2Pipeline",
    sets: Sequence[LevelSet],
    *,
    view: Chronos2View,
    settings: Chronos2Training,
    rng: np.random.Generator,
    report: Callable[[int, float], None] | None = None,
) -> dict[str, float]:
    """Train all weights of `pipeline` in place.

    Parameters
    ----------
    pipeline : Chronos2Pipeline
        From `lab.forecasters.chronos2_weights.new_pipeline`.
    sets : sequence of LevelSet
        What to draw windows from; for the caller to end at the cut-off.
    view : Chronos2View
        What it will be shown.
    settings : Chronos2Training
        How.
    rng : numpy.random.Generator
        Source of all draws.
    report : callable, optional
        Told the step and its loss.

    Returns
    -------
    dict
        `loss_first` and `loss_last`: means of the first and last 50 steps.

    Raises
    ------
    TrainingError
        If no series is long enough, or the loss stops being a number.
    """
    import torch

    model = pipeline.model
    sampler = LevelSampler(sets, view=view, settings=settings)
    model.train().requires_grad_(requires_grad=True)
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        betas=(0.9, 0.98),
    )
    losses = []
    for step in range(settings.n_steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _rate(step, settings)
        past, future, spread = (
            torch.from_numpy(one).to(model.device) for one in sampler.draw(rng)
        )
        loss = window_loss(model, past, future, spread)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        if not np.isfinite(losses[-1]):
            raise TrainingError(f"chronos2: the loss is {losses[-1]} at step {step}")
        if report is not None:
            report(step, losses[-1])
    model.eval().requires_grad_(requires_grad=False)
    return {
        "loss_first": float(np.mean(losses[:50])),
        "loss_last": float(np.mean(losses[-50:])),
    }


def window_loss(
    model: Any, past: "torch.Tensor", future: "torch.Tensor", spread: "torch.Tensor"
) -> "torch.Tensor":
    """Return the mean quantile loss of windows, each step in units of its `spread`.

    Parameters
    ----------
    model : Chronos2Model
        Its levels are those of its configuration.
    past, future, spread : Tensor
        As `LevelSampler.draw` gives them.

    References
    ----------
    .. [1] Koenker and Bassett (1978), Regression quantiles, Econometrica 46, 33-50.
    """
    import torch

    horizon = future.shape[1]
    n_patches = -(-horizon // model.chronos_config.output_patch_size)
    found = model(context=past, num_output_patches=n_patches).quantile_preds
    error = (future[:, None] - found[..., :horizon]) / spread[:, None]
    levels = model.quantiles[:, None]
    return torch.maximum(levels * error, (levels - 1) * error).mean()


def _rate(step: int, settings: Chronos2Training) -> float:
    if step < settings.n_warmup:
        return (step + 1) / settings.n_warmup
    done = (step - settings.n_warmup) / max(1, settings.n_steps - settings.n_warmup)
    return float(0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * done)))


def measured_bands(
    pipeline: "Chronos2Pipeline",
    levels: Sequence[FloatArray],
    *,
    view: Chronos2View,
    horizons: Sequence[int],
) -> dict[str, float]:
    """Return how a model's 80 % band and median do on log prices it was not trained on.

    Parameters
    ----------
    pipeline : Chronos2Pipeline
        The model.
    levels : sequence of ndarray of shape (n_obs,), float64
        Log prices; a forecast is made every 5 bars.
    view : Chronos2View
        What the model is shown.
    horizons : sequence of int, bars
        Steps to judge.

    Returns
    -------
    dict
        `coverage_<h>`: share within the band; `median_<h>`: mean distance of the median
        from the last price, in root mean square moves over `h` bars.

    Raises
    ------
    TrainingError
        If no series is long enough.
    """
    context, longest = view.context, max(horizons)
    rows = _windows(levels, context + longest, every=5)
    found = _predictions(pipeline, rows[:, :context], view, longest)
    band = [pipeline.quantiles.index(level) for level in (0.1, 0.5, 0.9)]
    future = rows[:, context:] - rows[:, [context - 1]]
    measures = {}
    for step in horizons:
        actual = future[:, step - 1]
        p10, p50, p90 = np.sort(found[:, band, step - 1], axis=1).T
        move = max(float(np.sqrt(np.mean(actual**2))), 1e-6)
        measures[f"coverage_{step}"] = float(np.mean((p10 <= actual) & (actual <= p90)))
        measures[f"median_{step}"] = float(np.mean(np.abs(p50)) / move)
    return measures


def _windows(levels: Sequence[FloatArray], length: int, *, every: int) -> FloatArray:
    usable = [one for one in levels if len(one) >= length]
    if not usable:
        raise TrainingError(f"chronos2: no series of {length} bars to judge with")
    view = np.lib.stride_tricks.sliding_window_view
    return np.concatenate([view(one, length)[::every] for one in usable])


def _predictions(
    pipeline: "Chronos2Pipeline",
    past: FloatArray,
    view: Chronos2View,
    horizon: int,
) -> AnyArray:
    # Log price changes, (n_windows, n_levels, horizon), float32.
    import torch

    model = pipeline.model
    n_patches = -(-horizon // int(pipeline.model_output_patch_size))
    centred = view.shown(past - past[:, [-1]]).astype(np.float32)
    parts = []
    for start in range(0, len(centred), 128):
        rows = torch.from_numpy(centred[start : start + 128]).to(model.device)
        with torch.no_grad():
            found = model(context=rows, num_output_patches=n_patches).quantile_preds
        parts.append(found[..., :horizon].cpu().numpy())
    return np.concatenate(parts)
