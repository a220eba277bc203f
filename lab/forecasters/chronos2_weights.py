"""Chronos-2 weights: bytes to a pipeline and back, nothing guessed in between.

The package's own `from_pretrained` fills a missing tensor with random numbers and says
so in a log line. Here every tensor must be there, no other, and each of the right shape.
Nothing is unpickled; nothing is read from a disk or a network.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lab.errors import CheckpointError
from lakehouse.schema.forecasts import QUANTILE_LEVELS

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

ARCHITECTURE: Final = "Chronos2Model"
_NEEDED_LEVELS: Final = (0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True)
class Chronos2Shape:
    """Size of a Chronos-2 model made here.

    Attributes
    ----------
    d_model, d_kv, d_ff, n_layers, n_heads : int
        Widths and depths, as in the published `config.json`.
    patch : int, bars
        Bars per token, in and out.
    length : int
        Most values shown per series.
    n_patches : int
        Most tokens of future; times `patch` the longest horizon.
    """

    d_model: int = 64
    d_kv: int = 16
    d_ff: int = 128
    n_layers: int = 3
    n_heads: int = 4
    patch: int = 16
    length: int = 384
    n_patches: int = 9


def new_pipeline(shape: Chronos2Shape, *, seed: int) -> "Chronos2Pipeline":
    """Return a model with random weights.

    Parameters
    ----------
    shape : Chronos2Shape
        Its size.
    seed : int
        Of the weights; the process's own random state is left as it was.
    """
    import torch

    config = {
        "d_model": shape.d_model,
        "d_kv": shape.d_kv,
        "d_ff": shape.d_ff,
        "num_layers": shape.n_layers,
        "num_heads": shape.n_heads,
        "dropout_rate": 0.0,
        "feed_forward_proj": "relu",
        "initializer_factor": 1.0,
        "chronos_config": {
            "context_length": shape.length,
            "input_patch_size": shape.patch,
            "input_patch_stride": shape.patch,
            "output_patch_size": shape.patch,
            "max_output_patches": shape.n_patches,
            "quantiles": list(QUANTILE_LEVELS),
            "use_arcsinh": True,
            "use_reg_token": True,
        },
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = _build(config)
    # Predictions pass through sinh: from random ones it would overflow.
    head = pipeline.model.output_patch_embedding
    for layer in (head.output_layer, head.residual_layer):
        torch.nn.init.zeros_(layer.weight)
    return pipeline


def read_pipeline(config: bytes, weights: bytes) -> "Chronos2Pipeline":
    """Return the pipeline of a checkpoint, in float32, ready to forecast.

    Parameters
    ----------
    config : bytes
        `config.json` as published.
    weights : bytes
        `model.safetensors`.

    Raises
    ------
    CheckpointError
        If the configuration is no Chronos-2's, or the weights are damaged or not the
        configuration's.
    """
    import torch

    fields = _fields(config)
    tensors = read_tensors(weights)
    with torch.random.fork_rng(devices=[]):
        pipeline = _build(fields)
    wanted = pipeline.model.state_dict()
    check_tensors(
        {name: tuple(one.shape) for name, one in tensors.items()},
        {name: tuple(one.shape) for name, one in wanted.items()},
    )
    pipeline.model.load_state_dict(tensors, strict=True)
    if not all(bool(torch.isfinite(one).all()) for one in tensors.values()):
        raise CheckpointError("chronos2: weights hold NaN or infinity")
    return pipeline


def write_pipeline(pipeline: "Chronos2Pipeline") -> dict[str, bytes]:
    """Return `config.json` and `model.safetensors`, as the package reads them."""
    from safetensors.torch import save

    config = pipeline.model.config.to_dict()
    config["architectures"] = [ARCHITECTURE]
    tensors = {
        name: one.detach().cpu().contiguous()
        for name, one in pipeline.model.state_dict().items()
    }
    return {
        "config.json": (json.dumps(config, indent=2, sort_keys=True) + "\n").encode(),
        "model.safetensors": save(tensors, metadata={"format": "pt"}),
    }


def read_tensors(weights: bytes) -> dict[str, Any]:
    """Return the tensors of a safetensors file.

    Raises
    ------
    CheckpointError
        If it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return dict(load(weights))
    except (SafetensorError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"chronos2: model.safetensors: {reason}") from error


def check_tensors(
    found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse weights whose names or shapes are not the model's.

    Raises
    ------
    CheckpointError
        Naming the first difference.
    """
    missing = sorted(set(wanted) - set(found))
    extra = sorted(set(found) - set(wanted))
    if missing or extra:
        kind, name = ("lack", missing[0]) if missing else ("hold an unknown", extra[0])
        raise CheckpointError(
            f"chronos2: weights {kind} {name}"
            f" ({len(missing)} missing, {len(extra)} unknown)"
        )
    for name in sorted(wanted):
        if found[name] != wanted[name]:
            raise CheckpointError(
                f"chronos2: {name} has shape {found[name]}, config.json says"
                f" {wanted[name]}"
            )


def _fields(config: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(config)
    except ValueError as error:
        raise CheckpointError(f"chronos2: config.json is no JSON: {error}") from error
    if not isinstance(fields, dict) or not isinstance(
        fields.get("chronos_config"), dict
    ):
        raise CheckpointError("chronos2: config.json has no chronos_config")
    architectures = fields.get("architectures") or [ARCHITECTURE]
    if architectures != [ARCHITECTURE]:
        raise CheckpointError(
            f"chronos2: config.json is of {architectures}, allowed is {ARCHITECTURE}"
        )
    levels = fields["chronos_config"].get("quantiles")
    if not isinstance(levels, list) or not set(_NEEDED_LEVELS) <= set(levels):
        raise CheckpointError(
            f"chronos2: config.json: quantiles {levels}: 0.1, 0.5 and 0.9 are needed"
        )
    return fields


def _build(fields: Mapping[str, Any]) -> "Chronos2Pipeline":
    from chronos import Chronos2Pipeline
    from chronos.chronos2 import Chronos2Model
    from chronos.chronos2.config import Chronos2CoreConfig

    try:
        model = Chronos2Model(Chronos2CoreConfig.from_dict(dict(fields)))
    except (TypeError, ValueError, KeyError, AssertionError, RuntimeError) as error:
        reason = (str(error).splitlines() or ["invalid"])[0]
        raise CheckpointError(f"chronos2: config.json: {reason}") from error
    model.eval().requires_grad_(requires_grad=False)
    return Chronos2Pipeline(model=model)
