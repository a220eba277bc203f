"""Small Kronos checkpoints with random weights, as bytes, for tests of any layer."""

from typing import NamedTuple

import torch

from lab.forecasters.kronos.config import NetworkConfig, TokenizerConfig
from lab.forecasters.kronos.network import KronosNetwork
from lab.forecasters.kronos.tokenizer import KronosTokenizer
from lab.forecasters.kronos.weights import new_network, new_tokenizer, write


class Checkpoint(NamedTuple):
    """A tokenizer and a predictor as their files' bytes."""

    tokenizer_config: bytes
    tokenizer_weights: bytes
    network_config: bytes
    network_weights: bytes


def tokenizer_config(**changes) -> TokenizerConfig:
    """Return the sizes of a tiny tokenizer, some of them changed."""
    sizes = {
        "d_in": 6, "d_model": 32, "n_heads": 2, "ff_dim": 48,
        "n_enc_layers": 2, "n_dec_layers": 2,
        "ffn_dropout_p": 0.0, "attn_dropout_p": 0.0, "resid_dropout_p": 0.0,
        "s1_bits": 4, "s2_bits": 4,
        "beta": 0.05, "gamma0": 1.0, "gamma": 1.1, "zeta": 0.05, "group_size": 4,
    }  # fmt: skip
    return TokenizerConfig(**{**sizes, **changes})


def network_config(**changes) -> NetworkConfig:
    """Return the sizes of a tiny predictor, some of them changed."""
    sizes = {
        "s1_bits": 4, "s2_bits": 4,
        "n_layers": 2, "d_model": 48, "n_heads": 3, "ff_dim": 64,
        "ffn_dropout_p": 0.1, "attn_dropout_p": 0.0, "resid_dropout_p": 0.1,
        "token_dropout_p": 0.0, "learn_te": True,
    }  # fmt: skip
    return NetworkConfig(**{**sizes, **changes})


def modules(
    seed: int = 0,
    *,
    tokenizer: TokenizerConfig | None = None,
    network: NetworkConfig | None = None,
) -> tuple[KronosTokenizer, KronosNetwork]:
    """Return both modules with random weights, ready for inference."""
    generator = torch.Generator().manual_seed(seed)
    pair = (
        new_tokenizer(tokenizer or tokenizer_config(), generator),
        new_network(network or network_config(), generator),
    )
    for module in pair:
        module.eval()
        module.requires_grad_(requires_grad=False)
    return pair


def checkpoint(seed: int = 0, **configs) -> Checkpoint:
    """Return the bytes of both modules; the arguments are those of `modules`."""
    tokenizer, network = modules(seed, **configs)
    return Checkpoint(*write(tokenizer), *write(network))
