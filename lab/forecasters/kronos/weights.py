"""Modules from bytes and bytes from modules, strictly.

The published format: `config.json` with the constructor's arguments and
`model.safetensors` with the plain state dict. A key that is missing or not known is an
error, but for the rotary frequencies and the quantiser's buffers, which are computed.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from lab.errors import CheckpointError
from lab.forecasters.kronos.config import NetworkConfig, TokenizerConfig
from lab.forecasters.kronos.layers import RMSNorm, Rotary
from lab.forecasters.kronos.network import KronosNetwork
from lab.forecasters.kronos.tokenizer import KronosTokenizer, Quantiser

_COMPUTED: Final = re.compile(r"(^|\.)rotary\.inv_freq$|^tokenizer\.bsq\.")

Model = TypeVar("Model", KronosTokenizer, KronosNetwork)


def read_tokenizer(config: bytes, weights: bytes) -> KronosTokenizer:
    """Return the tokenizer of a checkpoint, ready for inference.

    Parameters
    ----------
    config, weights : bytes
        `config.json` and `model.safetensors`.

    Returns
    -------
    KronosTokenizer
        In evaluation mode, float32 on the CPU, its parameters without gradients.

    Raises
    ------
    CheckpointError
        If a key is missing, unknown or of the wrong shape, or a value is not finite.
    """
    sizes = TokenizerConfig.from_json(config)
    return _filled(_empty(KronosTokenizer, sizes), weights)


def read_network(config: bytes, weights: bytes) -> KronosNetwork:
    """Return the predictor of a checkpoint, ready for inference.

    Parameters
    ----------
    config, weights : bytes
        `config.json` and `model.safetensors`.

    Returns
    -------
    KronosNetwork
        In evaluation mode, float32 on the CPU, its parameters without gradients.

    Raises
    ------
    CheckpointError
        If a key is missing, unknown or of the wrong shape, or a value is not finite.
    """
    sizes = NetworkConfig.from_json(config)
    return _filled(_empty(KronosNetwork, sizes), weights)


def write(module: KronosTokenizer | KronosNetwork) -> tuple[bytes, bytes]:
    """Return `config.json` and `model.safetensors` with the published keys."""
    state = {
        name: value.detach().to("cpu").contiguous()
        for name, value in module.state_dict().items()
    }
    return module.config.to_json(), save(state)


def new_tokenizer(
    config: TokenizerConfig, generator: torch.Generator
) -> KronosTokenizer:
    """Return a tokenizer to train from scratch, with torch's usual initialisation."""
    module = _empty(KronosTokenizer, config)
    for part in module.modules():
        if isinstance(part, RMSNorm):
            nn.init.ones_(part.weight)
        elif isinstance(part, nn.Linear):
            bound = part.in_features**-0.5
            nn.init.uniform_(part.weight, -bound, bound, generator=generator)
            if part.bias is not None:
                nn.init.uniform_(part.bias, -bound, bound, generator=generator)
    return module


def new_network(config: NetworkConfig, generator: torch.Generator) -> KronosNetwork:
    """Return a predictor to train from scratch.

    Linear layers Xavier-normal with zero biases, embeddings normal with standard
    deviation d ** -0.5, norms one.
    """
    module = _empty(KronosNetwork, config)
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_normal_(part.weight, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            std = config.d_model**-0.5
            nn.init.normal_(part.weight, std=std, generator=generator)
        elif isinstance(part, RMSNorm):
            nn.init.ones_(part.weight)
    return module


def check_pair(tokenizer: KronosTokenizer, network: KronosNetwork) -> None:
    """Refuse a predictor and a tokenizer that cannot belong together.

    Raises
    ------
    CheckpointError
        If their tokens have different numbers of bits, or pairs cannot be decoded.
    """
    ours = (tokenizer.config.s1_bits, tokenizer.config.s2_bits)
    theirs = (network.config.s1_bits, network.config.s2_bits)
    if ours != theirs:
        raise CheckpointError(
            f"tokenizer with {ours[0]} + {ours[1]} bits, predictor with"
            f" {theirs[0]} + {theirs[1]}: they do not belong together"
        )
    if ours[0] != ours[1]:
        raise CheckpointError(
            f"tokenizer with {ours[0]} + {ours[1]} bits: pairs can be decoded only"
            " where both tokens have the same number"
        )


def _empty(kind: type[Model], config: Any) -> Model:
    # Parameters without values: torch's own initialisation would draw from the global
    # generator.
    with torch.device("meta"):
        module = kind(config)
    module.to_empty(device="cpu")
    for part in module.modules():
        if isinstance(part, (Rotary, Quantiser)):
            part.fill()
    return module


def _filled(module: Model, weights: bytes) -> Model:
    name = type(module).__name__
    try:
        given = load(weights)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{name}: weights cannot be read: {error}") from None
    expected = module.state_dict()
    state = {
        key: _checked(f"{name}: {key}", given[key], value) if key in given else value
        for key, value in expected.items()
    }
    _check_keys(name, expected, given)
    module.load_state_dict(state, strict=True)
    module.eval()
    module.requires_grad_(requires_grad=False)
    return module


def _check_keys(
    name: str, expected: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> None:
    missing = [key for key in expected if key not in given and not _is_computed(key)]
    unknown = [key for key in given if key not in expected and not _is_computed(key)]
    for what, keys in (("missing", missing), ("not known", unknown)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise CheckpointError(
                f"{name}: weights {what}: {', '.join(sorted(keys)[:3])}{more}"
            )


def _checked(where: str, value: Tensor, expected: Tensor) -> Tensor:
    if _is_computed(where.split(": ")[1]):
        # Half-precision copies are replaced by the exact table, other tables refused.
        if value.shape != expected.shape or not torch.allclose(
            value.double(), expected.double(), rtol=1e-2
        ):
            raise CheckpointError(f"{where}: not the values this model is defined with")
        return expected
    if value.shape != expected.shape:
        raise CheckpointError(
            f"{where}: shape {tuple(value.shape)}, allowed is {tuple(expected.shape)}"
        )
    if not value.is_floating_point():
        raise CheckpointError(f"{where}: {value.dtype}, a floating-point type needed")
    full = value.float()
    if not math.isfinite(float(full.abs().sum())):
        raise CheckpointError(f"{where}: values that are not finite")
    return full


def _is_computed(key: str) -> bool:
    return _COMPUTED.search(key) is not None
