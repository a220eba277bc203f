"""Chronos-2 from a folder or the Hub's cache, as it is or with adapters.

A source is `small` (the checkpoint of this project), a folder, or a Hub id such as
`amazon/chronos-2`. A folder that holds an adapter only (`adapter_config.json`) names its
base, which is looked for in the same way.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flows.checkpoints.folders import (
    WEIGHTS,
    Checkpoint,
    check_digests,
    find_folder,
    read_card,
    read_checkpoint,
)
from flows.checkpoints.kronos import pick_device
from flows.checkpoints.settings import ModelSettings
from flows.checkpoints.store import CARD, Saved, card_cutoff, fitting
from lab.errors import CheckpointError

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

    from lab.forecasters.chronos2 import Chronos2Forecaster
    from lab.forecasters.chronos2_inputs import Chronos2View
    from lab.forecasters.routed import RoutedForecaster

SMALL: Final = "small"
CODE_VERSION: Final = "1"
CONTEXT: Final = 512
"""Bars that a published checkpoint is shown, where its card states nothing."""

_SHOWN: Final = ("context", "is_mirrored", "takes_events")

ADAPTER_CONFIG: Final = "adapter_config.json"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Chronos2Source:
    """A checkpoint, read but not built.

    Attributes
    ----------
    base : Checkpoint
        Its model's bytes.
    adapter : Checkpoint or None
        A published adapter on it.
    """

    base: Checkpoint
    adapter: Checkpoint | None = None

    @property
    def card(self) -> dict[str, Any]:
        """What is known of it; `sha256` is of the files that were read.

        An adapter is shown what its base was trained on where its own card says
        nothing, and knows of all that either may know of.
        """
        if self.adapter is None:
            return {
                **self.base.card,
                "source": self.base.source,
                "sha256": self.digests,
            }
        shown = {key: self.base.card[key] for key in _SHOWN if key in self.base.card}
        known = [card_cutoff(one.card) for one in (self.base, self.adapter)]
        stated = [one for one in known if one is not None]
        return {
            **shown,
            **self.adapter.card,
            "cutoff": max(stated).isoformat() if len(stated) == len(known) else None,
            "source": self.adapter.source,
            "base": self.base.source,
            "base_card": dict(self.base.card),
            "sha256": self.digests,
        }

    @property
    def digests(self) -> dict[str, str]:
        """sha256 per file."""
        found = dict(self.base.sha256)
        if self.adapter is not None:
            config, weights = self.adapter.sha256.values()
            found |= {ADAPTER_CONFIG: config, ADAPTER_WEIGHTS: weights}
        return found

    @property
    def version(self) -> str:
        """The checkpoint's name and a hash of its files."""
        top = self.adapter or self.base
        name = str(top.card.get("name") or Path(top.source).name)
        marks = [f"{CODE_VERSION}.{name}", self.base.fingerprint]
        if self.adapter is not None:
            marks.append(self.adapter.fingerprint)
        return "+".join(marks)


def read_chronos2(source: str) -> Chronos2Source:
    """Read a checkpoint's files, from this machine only.

    Parameters
    ----------
    source : str
        `small`, a folder, or a Hub id.

    Raises
    ------
    CheckpointError
        If a file is missing, or not the one that its card describes.
    """
    folder = (
        Path(__file__).with_name("chronos2_small")
        if source == SMALL
        else find_folder(source, what="chronos2")
    )
    if not (folder / ADAPTER_CONFIG).is_file() or (folder / WEIGHTS).is_file():
        base = read_checkpoint(folder, source=source, what="chronos2")
        check_digests(base, what="chronos2")
        return Chronos2Source(base)
    adapter = _read_adapter(folder, source)
    name = _base_name(adapter)
    base = read_checkpoint(
        find_folder(name, what="chronos2 base"), source=name, what="chronos2 base"
    )
    check_digests(base, what="chronos2 base")
    return Chronos2Source(base, adapter)


def build_chronos2(source: Chronos2Source) -> "Chronos2Pipeline":
    """Return the pipeline, strictly filled, ready to forecast.

    Raises
    ------
    CheckpointError
        If the files are damaged, or a tensor is missing, unknown or of another shape.
    """
    from lab.forecasters.chronos2_lora import apply_adapter
    from lab.forecasters.chronos2_weights import read_pipeline

    named = source.adapter or source.base
    try:
        pipeline = read_pipeline(source.base.config, source.base.weights)
        if source.adapter is not None:
            pipeline = apply_adapter(
                pipeline, source.adapter.config, source.adapter.weights
            )
    except CheckpointError as error:
        raise CheckpointError(f"{named.source}: {error}") from error
    return pipeline


def open_chronos2(settings: ModelSettings) -> "Chronos2Forecaster":
    """Return Chronos-2 as the settings name it.

    Raises
    ------
    CheckpointError
        If the weights are missing or damaged.
    """
    source = read_chronos2(settings.chronos2)
    pipeline = build_chronos2(source)
    pipeline.model.to(pick_device(settings.device))
    card = source.card
    return make_chronos2(pipeline, version=source.version, card=card)


def open_chronos2_lora(
    settings: ModelSettings, adapters: Mapping[str, Saved]
) -> "RoutedForecaster":
    """Return Chronos-2 with one adapter per asset class and bar length.

    Parameters
    ----------
    settings : ModelSettings
        Name the base and the device.
    adapters : mapping of str to Saved
        By route, `equity-1d`.

    Raises
    ------
    CheckpointError
        If a file is damaged, or every adapter was trained on another base: one that
        was is left out beside others that fit.
    """
    from lab.forecasters.chronos2_lora import apply_adapter
    from lab.forecasters.routed import RoutedForecaster

    source = read_chronos2(settings.chronos2)
    base = build_chronos2(source)
    device = pick_device(settings.device)
    variants = {}
    for route, saved in fitting(adapters, "chronos2", base=source.version).items():
        pipeline = apply_adapter(
            base, saved.files[ADAPTER_CONFIG], saved.files[ADAPTER_WEIGHTS]
        )
        pipeline.model.to(device)
        usual = {key: source.card.get(key) for key in ("context", "is_mirrored")}
        card = {**saved.card, **usual}
        version = f"{source.version}+{saved.version[:8]}"
        variants[route] = make_chronos2(pipeline, version=version, card=card)
    return RoutedForecaster("chronos2-lora", variants)


def make_chronos2(
    pipeline: "Chronos2Pipeline", *, version: str, card: Mapping[str, Any]
) -> "Chronos2Forecaster":
    """Return the forecaster of a pipeline, set up as its card says.

    Parameters
    ----------
    pipeline : Chronos2Pipeline
        The model.
    version : str
        Of code and weights.
    card : mapping
        `cutoff`, `context`, `is_mirrored`, `takes_events` and `groups` count; all may
        be absent.
    """
    from lab.forecasters.chronos2 import Chronos2Forecaster

    return Chronos2Forecaster(
        pipeline,
        version=version,
        cutoff=card_cutoff(card),
        card=card,
        view=view_of(pipeline, card),
        takes_events=bool(card.get("takes_events", True)),
        groups=card.get("groups"),
    )


def view_of(pipeline: "Chronos2Pipeline", card: Mapping[str, Any]) -> "Chronos2View":
    """Return what a checkpoint is shown, as its card says."""
    from lab.forecasters.chronos2_inputs import Chronos2View

    stated = card.get("context")
    longest = int(pipeline.model_context_length)
    context = min(stated if isinstance(stated, int) else CONTEXT, longest)
    return Chronos2View(context, bool(card.get("is_mirrored", False)))


def _read_adapter(folder: Path, source: str) -> Checkpoint:
    try:
        card = folder / CARD
        return Checkpoint(
            source,
            (folder / ADAPTER_CONFIG).read_bytes(),
            (folder / ADAPTER_WEIGHTS).read_bytes(),
            read_card(
                card.read_bytes() if card.is_file() else b"{}",
                where=f"chronos2 {source}",
            ),
        )
    except OSError as error:
        raise CheckpointError(
            f"chronos2 {source}: {error.filename}: {error.strerror}"
        ) from error


def _base_name(adapter: Checkpoint) -> str:
    try:
        name = json.loads(adapter.config).get("base_model_name_or_path")
    except (ValueError, AttributeError) as error:
        raise CheckpointError(
            f"chronos2 {adapter.source}: {ADAPTER_CONFIG} is no JSON object"
        ) from error
    if not isinstance(name, str) or not name:
        raise CheckpointError(
            f"chronos2 {adapter.source}: {ADAPTER_CONFIG} names no base model"
        )
    return name
