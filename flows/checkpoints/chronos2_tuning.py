"""LoRA fine-tuning of Chronos-2 by the package's own `fit`, held to what it promises."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lab.forecasters.chronos2_inputs import Chronos2View
from lab.forecasters.chronos2_lora import check_adapter, quiet_peft, require_peft
from lab.forecasters.chronos2_windows import Stretch, training_windows

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

MAX_WINDOWS: Final = 2048
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
        Optimiser steps and rows per step: series and their covariates.
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
    stretches: Sequence[Stretch],
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
    stretches : sequence of Stretch
        One a symbol, with events or without; for the caller to end in time.
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
    windows = training_windows(
        stretches,
        view=view,
        horizon=settings.horizon,
        n_windows=min(MAX_WINDOWS, settings.n_steps * settings.batch_size),
        rng=np.random.default_rng(seed),
    )
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
