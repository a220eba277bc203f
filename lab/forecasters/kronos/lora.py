"""Low-rank adapters: a few thousand numbers beside frozen weights, merged to forecast.

`peft` adds them and merges them. Without it nothing is trained: tuning every weight
instead, silently, would be another model.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from lab.errors import CheckpointError, TrainingError
from lab.forecasters.kronos.network import KronosNetwork

CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"
LAYERS: Final = ("q_proj", "k_proj", "v_proj", "out_proj", "w1", "w2", "w3")
"""Layers that an adapter may sit on."""

_MAX_RANK: Final = 256


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Size and place of the adapters.

    Attributes
    ----------
    rank : int
        Columns of the two factors.
    alpha : int
        Their product counts `alpha / rank` times.
    targets : tuple of str
        Names of the linear layers that get one, of `LAYERS`, in every block and in the
        dependency layer.
    """

    rank: int = 8
    alpha: int = 16
    targets: tuple[str, ...] = ("q_proj", "v_proj", "out_proj")

    def __post_init__(self) -> None:
        """Refuse adapters that cannot be added."""
        is_bad = not self.targets or any(one not in LAYERS for one in self.targets)
        if is_bad or not 1 <= self.rank <= _MAX_RANK or self.alpha <= 0:
            raise TrainingError(
                f"LoRA: rank {self.rank} (1 to {_MAX_RANK}), alpha {self.alpha} (above"
                f" 0), layers {', '.join(self.targets) or 'none'} (of"
                f" {', '.join(LAYERS)})"
            )


@dataclass(frozen=True, slots=True)
class Adapted:
    """A copy of a network with adapters that are still apart.

    Attributes
    ----------
    network : KronosNetwork
        Only the adapters take gradients.
    settings : LoraSettings
        Their size and place.
    wrapper : object
        `peft`'s handle on the same network.
    """

    network: KronosNetwork
    settings: LoraSettings
    wrapper: Any

    def merged(self) -> KronosNetwork:
        """Return a new network with the adapters added to its weights."""
        whole: KronosNetwork = copy.deepcopy(self.wrapper).merge_and_unload()
        whole.eval()
        whole.requires_grad_(requires_grad=False)
        return whole

    def files(self) -> dict[str, bytes]:
        """Return `adapter_config.json` and `adapter_model.safetensors`, as peft names them."""
        import peft

        state = peft.get_peft_model_state_dict(self.wrapper)
        tensors = {
            name: value.detach().to("cpu").contiguous() for name, value in state.items()
        }
        config = {
            "peft_type": "LORA",
            "r": self.settings.rank,
            "lora_alpha": self.settings.alpha,
            "target_modules": list(self.settings.targets),
        }
        text = json.dumps(config, indent=1, sort_keys=True).encode()
        return {CONFIG_FILE: text, WEIGHTS_FILE: save(tensors)}


def require_peft() -> None:
    """Refuse to go on without `peft`.

    Raises
    ------
    TrainingError
        If it is not installed.
    """
    if find_spec("peft") is None:
        raise TrainingError(
            "LoRA needs the package peft, which is not installed;"
            " pip install 'alphalake[models]'"
        )


def add_lora(
    network: KronosNetwork,
    settings: LoraSettings,
    generator: torch.Generator | None = None,
) -> Adapted:
    """Return a copy of the network with adapters that change nothing yet.

    Parameters
    ----------
    network : KronosNetwork
        Stays as it is.
    settings : LoraSettings
        Size and place.
    generator : torch.Generator, optional
        Source of the first factors; the second ones are zero. Zero both without it.

    Raises
    ------
    TrainingError
        If `peft` is not installed.
    """
    require_peft()
    import peft

    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=list(settings.targets),
        lora_dropout=0.0,
        bias="none",
    )
    base = copy.deepcopy(network)
    base.requires_grad_(requires_grad=False)
    # peft draws its own start from the global generator; it is replaced below.
    with torch.random.fork_rng(devices=[]):
        wrapper: Any = peft.get_peft_model(base, config)
    for name, weight in wrapper.named_parameters():
        if ".lora_A." not in name:
            continue
        if generator is None:
            nn.init.zeros_(weight)
        else:
            nn.init.kaiming_uniform_(weight, a=5**0.5, generator=generator)
    return Adapted(wrapper.get_base_model(), settings, wrapper)


def merge_lora(network: KronosNetwork, files: Mapping[str, bytes]) -> KronosNetwork:
    """Return a new network: the base with the adapters of `Adapted.files` added.

    Parameters
    ----------
    network : KronosNetwork
        The base they were trained on; stays as it is.
    files : mapping of str to bytes
        `adapter_config.json` and `adapter_model.safetensors`; others are not read.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged, or the adapters do not fit the network.
    TrainingError
        If `peft` is not installed.
    """
    require_peft()
    import peft

    adapted = add_lora(network, _settings(files))
    expected = peft.get_peft_model_state_dict(adapted.wrapper)
    try:
        state = load(files[WEIGHTS_FILE])
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"LoRA: {WEIGHTS_FILE} cannot be read: {error}") from None
    odd = sorted(set(expected) ^ set(state))
    if odd:
        raise CheckpointError(f"LoRA: {odd[0]} is missing or not known ({len(odd)})")
    for name, value in state.items():
        if value.shape != expected[name].shape or not bool(value.isfinite().all()):
            raise CheckpointError(
                f"LoRA: {name} of shape {tuple(value.shape)}: finite values of shape"
                f" {tuple(expected[name].shape)} needed"
            )
    peft.set_peft_model_state_dict(adapted.wrapper, state)
    return adapted.merged()


def _settings(files: Mapping[str, bytes]) -> LoraSettings:
    try:
        config = json.loads(files[CONFIG_FILE])
        return LoraSettings(
            int(config["r"]),
            int(config["lora_alpha"]),
            tuple(str(one) for one in config["target_modules"]),
        )
    except (KeyError, TypeError, ValueError, TrainingError) as error:
        raise CheckpointError(f"LoRA: {CONFIG_FILE} cannot be used: {error}") from None
