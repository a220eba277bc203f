"""Which tokenizer belongs to which Kronos predictor.

Nothing inside the published files says so, and a wrong pair loads without any error and
forecasts nonsense. What is checked, in this order:

1. the predictor's card, where it names its tokenizer's sha256 (ours do);
2. the published pairs, by repository name and by the shapes of `config.json`;
3. always: both sides have the same number of bits in each half.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from flows.checkpoints.folders import WEIGHTS, Checkpoint
from lab.errors import CheckpointError

PUBLISHED: Final[Mapping[str, str]] = {
    "NeoQuasar/Kronos-mini": "NeoQuasar/Kronos-Tokenizer-2k",
    "NeoQuasar/Kronos-small": "NeoQuasar/Kronos-Tokenizer-base",
    "NeoQuasar/Kronos-base": "NeoQuasar/Kronos-Tokenizer-base",
    "NeoQuasar/Kronos-large": "NeoQuasar/Kronos-Tokenizer-base",
}
"""Predictor to tokenizer, as published."""

CONTEXTS: Final[Mapping[str, int]] = {"NeoQuasar/Kronos-mini": 2048}
"""Longest window of a published predictor; 512 for the others."""

# (layers, width) of the published predictors, and the group size of their tokenizer:
# the one value in which the two published tokenizers differ.
_GROUP_SIZES: Final = {(4, 256): 5, (8, 512): 4, (12, 832): 4, (18, 1664): 4}
_TOKENIZER_SHAPE: Final = {"d_model": 256, "n_enc_layers": 4, "n_dec_layers": 4}


def tokenizer_of(source: str) -> str | None:
    """Return the published tokenizer of a published predictor; None if unknown."""
    return PUBLISHED.get(source.partition("@")[0])


def check_pair(predictor: Checkpoint, tokenizer: Checkpoint) -> str:
    """Refuse a predictor and a tokenizer that were not trained together.

    Returns
    -------
    str
        What the pairing rests on: `card`, `published`, or `bits` where only the number
        of bits could be compared.

    Raises
    ------
    CheckpointError
        If they do not belong together.
    """
    network, codes = _config(predictor), _config(tokenizer)
    for key in ("s1_bits", "s2_bits"):
        if network.get(key) != codes.get(key):
            raise CheckpointError(
                f"{_names(predictor, tokenizer)}: {key} is {network.get(key)} and"
                f" {codes.get(key)}; a pair has the same"
            )
    stated = predictor.card.get("tokenizer_sha256")
    if stated is not None:
        if stated != tokenizer.sha256[WEIGHTS]:
            raise CheckpointError(
                f"{_names(predictor, tokenizer)}: the predictor's card names another"
                f" tokenizer (sha256 {str(stated)[:12]}…)"
            )
        return "card"
    wanted = tokenizer_of(predictor.source)
    if wanted is not None and tokenizer.source.partition("@")[0] in set(
        PUBLISHED.values()
    ) - {wanted}:
        raise CheckpointError(
            f"{_names(predictor, tokenizer)}: its tokenizer is {wanted}"
        )
    return _check_shapes(predictor, tokenizer, network, codes)


def _check_shapes(
    predictor: Checkpoint,
    tokenizer: Checkpoint,
    network: Mapping[str, Any],
    codes: Mapping[str, Any],
) -> str:
    shape = (network.get("n_layers"), network.get("d_model"))
    is_published = all(codes.get(key) == n for key, n in _TOKENIZER_SHAPE.items())
    if shape not in _GROUP_SIZES or not is_published or network.get("s1_bits") != 10:
        return "bits"
    wanted = _GROUP_SIZES[shape]
    if codes.get("group_size") != wanted:
        raise CheckpointError(
            f"{_names(predictor, tokenizer)}: a predictor of {shape[0]} layers by "
            f"{shape[1]} belongs to the tokenizer of group size {wanted}, this one has"
            f" {codes.get('group_size')}"
        )
    return "published"


def _names(predictor: Checkpoint, tokenizer: Checkpoint) -> str:
    return f"kronos {predictor.source} with tokenizer {tokenizer.source}"


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    try:
        config = json.loads(checkpoint.config)
    except ValueError as error:
        raise CheckpointError(
            f"{checkpoint.source}: config.json is no JSON: {error}"
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{checkpoint.source}: config.json must be an object")
    return config
