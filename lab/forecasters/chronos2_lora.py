"""LoRA adapters for Chronos-2: applied, checked, turned into bytes.

`Chronos2Pipeline.fit(finetune_mode="lora")` tunes every weight when `peft` is missing,
and only warns. `require_peft` and `check_adapter` make that an error before and after.
"""

import copy
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from lab.errors import CheckpointError, TrainingError
from lab.forecasters.chronos2_weights import check_tensors, read_tensors

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

ADAPTER_CONFIG: Final = "adapter_config.json"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"


def require_peft() -> None:
    """Refuse to go on without `peft`.

    Raises
    ------
    TrainingError
        If it cannot be imported, or the training package does not see it.
    """
    try:
        import peft  # noqa: F401
        from transformers.utils.import_utils import is_peft_available

        is_there = bool(is_peft_available())
    except ImportError:
        is_there = False
    if not is_there:
        raise TrainingError(
            "chronos2: LoRA needs the package peft; without it every weight would be"
            " tuned. Install the extra `models`"
        )


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Silence the one warning that `peft` 0.21 raises in `transformers` 5.23."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="`is_gradient_checkpointing`", category=FutureWarning
        )
        yield


def check_adapter(base: "Chronos2Pipeline", tuned: "Chronos2Pipeline") -> int:
    """Refuse a fine-tuned model that is not `base` and an adapter.

    Returns
    -------
    int
        Number of trained parameters.

    Raises
    ------
    TrainingError
        If it has no adapter, if another weight could be trained, or one of the base's
        changed.
    """
    import torch
    from peft import PeftModel

    model: Any = tuned.model
    if not isinstance(model, PeftModel):
        raise TrainingError(
            "chronos2: every weight was tuned, an adapter was asked for"
        )
    free = {name: one for name, one in model.named_parameters() if one.requires_grad}
    other = [name for name in free if ".lora_" not in name]
    if other or not free:
        raise TrainingError(
            f"chronos2: trainable beside the adapter: {other[:1] or 'nothing at all'}"
        )
    frozen = {
        name.removeprefix("base_model.model.").replace(".base_layer.", "."): one
        for name, one in model.state_dict().items()
        if ".lora_" not in name
    }
    for name, one in base.model.state_dict().items():
        if name not in frozen or not torch.equal(frozen[name].cpu(), one.cpu()):
            raise TrainingError(f"chronos2: LoRA changed the base's {name}")
    return sum(one.numel() for one in free.values())


def adapter_files(tuned: "Chronos2Pipeline") -> dict[str, bytes]:
    """Return an adapter's two files, as `peft` publishes them."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    model: Any = tuned.model
    config = model.peft_config["default"].to_dict()
    plain = {key: _plain(value) for key, value in config.items()}
    tensors = {
        name: one.detach().cpu().contiguous()
        for name, one in get_peft_model_state_dict(model).items()
    }
    return {
        ADAPTER_CONFIG: (json.dumps(plain, indent=2, sort_keys=True) + "\n").encode(),
        ADAPTER_WEIGHTS: save(tensors, metadata={"format": "pt"}),
    }


def apply_adapter(
    base: "Chronos2Pipeline", config: bytes, weights: bytes
) -> "Chronos2Pipeline":
    """Return `base` with an adapter merged into its weights; `base` stays as it is.

    Parameters
    ----------
    base : Chronos2Pipeline
        What the adapter was trained on.
    config, weights : bytes
        `adapter_config.json` and `adapter_model.safetensors`.

    Raises
    ------
    CheckpointError
        If the files are damaged or do not belong to `base`.
    """
    import torch
    from chronos import Chronos2Pipeline
    from peft import (
        LoraConfig,
        get_peft_model,
        get_peft_model_state_dict,
        set_peft_model_state_dict,
    )

    tensors = read_tensors(weights)
    try:
        fields = json.loads(config)
        if fields.get("peft_type") != "LORA":
            raise CheckpointError(f"chronos2: {ADAPTER_CONFIG}: no LoRA")
        lora = LoraConfig.from_peft_type(  # type: ignore[no-untyped-call]
            **{**fields, "inference_mode": True, "base_model_name_or_path": None}
        )
        with torch.random.fork_rng(devices=[]), quiet_peft():
            model = get_peft_model(copy.deepcopy(base.model), lora)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = (str(error).splitlines() or ["invalid"])[0]
        raise CheckpointError(f"chronos2: {ADAPTER_CONFIG}: {reason}") from error
    check_tensors(
        {name: tuple(one.shape) for name, one in tensors.items()},
        {
            name: tuple(one.shape)
            for name, one in get_peft_model_state_dict(model).items()
        },
    )
    set_peft_model_state_dict(model, tensors)
    merged = model.merge_and_unload()
    merged.eval().requires_grad_(requires_grad=False)
    return Chronos2Pipeline(model=merged)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, set | frozenset | list | tuple):
        found = [_plain(one) for one in value]
        return sorted(found) if isinstance(value, set | frozenset) else found
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return (
        value if value is None or isinstance(value, bool | int | float) else str(value)
    )
