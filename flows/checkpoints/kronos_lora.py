"""Kronos with the adapters that a lake trained: one per asset class and bar length."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from flows.checkpoints.kronos import (
    build_pair,
    context_of,
    keep_threads_few,
    pick_device,
    read_pair,
    sampling,
)
from flows.checkpoints.settings import ModelSettings
from flows.checkpoints.store import Saved, card_cutoff, fitting

if TYPE_CHECKING:
    from lab.forecasters.routed import RoutedForecaster

NAME: Final = "kronos-lora"
EVENTS_FILE: Final = "events.safetensors"
"""The event adapter, beside the LoRA's files."""


def open_kronos_lora(
    settings: ModelSettings, adapters: Mapping[str, Saved]
) -> "RoutedForecaster":
    """Return Kronos with one adapter per asset class and bar length, merged.

    Parameters
    ----------
    settings : ModelSettings
        Name the base and the device.
    adapters : mapping of str to Saved
        By route, `equity-1d`.

    Raises
    ------
    CheckpointError
        If a file is damaged, or no adapter was trained on this base.
    """
    from lab.forecasters.kronos.adapter import read_adapter
    from lab.forecasters.kronos.forecaster import KronosForecaster
    from lab.forecasters.kronos.lora import merge_lora
    from lab.forecasters.routed import RoutedForecaster

    keep_threads_few()
    pair = read_pair(settings.kronos, settings.kronos_tokenizer)
    codes, network = build_pair(pair)
    window = settings.kronos_window or pair.window
    variants = {}
    for route, saved in fitting(adapters, "kronos", base=pair.version).items():
        events = saved.files.get(EVENTS_FILE)
        variants[route] = KronosForecaster(
            codes,
            merge_lora(network, saved.files),
            version=f"{pair.version}+{saved.version[:8]}",
            cutoff=card_cutoff(saved.card),
            card=saved.card,
            window=window,
            context=context_of(pair, window),
            adapter=None
            if events is None
            else read_adapter(events, d_model=network.config.d_model),
            mode=settings.kronos_mode,
            device=pick_device(settings.device),
            **sampling(pair.predictor.card),
        )
    return RoutedForecaster(NAME, variants)
