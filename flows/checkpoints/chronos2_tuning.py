"""LoRA fine-tuning of Chronos-2 by the package's own `fit`, held to what it promises."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lab.arrays import FloatArray
from lab.errors import TrainingError
from lab.forecasters.chronos2_inputs import Chronos2View
from lab.forecasters.chronos2_lora import check_adapter, quiet_peft, require_peft

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline
    from chronos.chronos2.dataset import PreparedInput

MAX_WINDOWS: Final = 4096
"""Windows that training draws from."""

TARGETS: Final = (
    "self_attention.q",
    "self_attention.v",
    "self_attention.k",
    "self_attention.o",
    "output_patch_embedding.output_layer",
)
"""Layers that get an adapter: those of the package's own default."""


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """How an adapter is trained.

    Attributes
    ----------
    n_steps, batch_size : int
        Optimiser steps and windows per step.
    learning_rate : float
        Falls linearly to zero.
    rank, alpha : int
        Of the adapter; the update is scaled by `alpha / rank`.
    horizon : int, bars
        Future per window.
    """

    n_steps: int = 200
    batch_size: int = 32
    learning_rate: float = 3e-4
    rank: int = 8
    alpha: int = 16
    horizon: int = 120


def tune_chronos2(
    base: "Chronos2Pipeline",
    levels: Sequence[FloatArray],
    *,
    view: Chronos2View,
    settings: LoraSettings,
    seed: int,
) -> "Chronos2Pipeline":
    """Return `base` with a trained adapter; `base` stays as it is.

    Parameters
    ----------
    base : Chronos2Pipeline
        What is adapted.
    levels : sequence of ndarray of shape (n_obs,), float64
        Log prices, one array a symbol; for the caller to end in time.
    view : Chronos2View
        History per window, and how it is shown.
    settings : LoraSettings
        How.
    seed : int
        Of windows and adapter. The trainer seeds the process's random states with it.

    Raises
    ------
    TrainingError
        If `peft` is missing, no series is long enough, or anything but the adapter was
        trained.
    """
    require_peft()
    windows = _windows(levels, view, settings, np.random.default_rng(seed))
    with tempfile.TemporaryDirectory() as folder, quiet_peft():
        tuned = base.fit(
            windows,
            prediction_length=settings.horizon,
            finetune_mode="lora",
            lora_config={
                "r": settings.rank,
                "lora_alpha": settings.alpha,
                "target_modules": list(TARGETS),
            },
            context_length=view.length,
            learning_rate=settings.learning_rate,
            num_steps=settings.n_steps,
            batch_size=settings.batch_size,
            output_dir=folder,
            min_past=view.length,
            remove_printer_callback=True,
            disable_tqdm=True,
            logging_strategy="no",
            dataloader_pin_memory=False,
            seed=seed,
        )
    check_adapter(base, tuned)
    tuned.model.eval()
    return tuned


def _windows(
    levels: Sequence[FloatArray],
    view: Chronos2View,
    settings: LoraSettings,
    rng: np.random.Generator,
) -> list["PreparedInput"]:
    # Windows of exactly one history and one future: the trainer cuts each in one way.
    import torch

    needed = view.context + settings.horizon
    usable = [one for one in levels if len(one) >= needed]
    if not usable:
        raise TrainingError(f"chronos2: no series of {needed} bars to train on")
    starts = np.array([len(one) - needed + 1 for one in usable])
    chosen = rng.choice(len(usable), MAX_WINDOWS, p=starts / starts.sum())
    rows = np.empty((MAX_WINDOWS, needed))
    for row, number in enumerate(chosen):
        start = rng.integers(starts[number])
        rows[row] = usable[number][start : start + needed]
    rows -= rows[:, [view.context - 1]]
    shown = view.shown(rows[:, : view.context])
    whole = np.concatenate([shown, rows[:, view.context :]], axis=1)
    values = torch.from_numpy(whole.astype(np.float32))
    return [
        {
            "context": value[None],
            "future_covariates": torch.full((1, settings.horizon), torch.nan),
            "n_targets": 1,
            "n_covariates": 0,
            "n_future_covariates": 0,
        }
        for value in values
    ]
