"""Configurations of the tokenizer and of the predictor, as `config.json` states them.

Every key is needed and no other is allowed: a key that is silently ignored would be a
different network under the same weights.
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from lab.errors import CheckpointError

DEPENDENCY_HEADS: Final = 4
"""Heads of the layer that makes the second token depend on the first, in every size."""

_MAX_BITS: Final = 16


@dataclass(frozen=True, slots=True)
class _Config:
    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read `config.json`.

        Raises
        ------
        CheckpointError
            If it is no JSON object with exactly this configuration's keys, or a value
            is out of range.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise CheckpointError(f"{cls.__name__}: not JSON: {error}") from None
        if not isinstance(values, dict):
            raise CheckpointError(f"{cls.__name__}: config.json must be an object")
        names = {one.name for one in fields(cls)}
        odd = sorted(names ^ set(values))
        if odd:
            raise CheckpointError(
                f"{cls.__name__}: keys missing or not allowed: {', '.join(odd)}"
            )
        kinds = {one.name: one.type for one in fields(cls)}
        return cls(**{name: _typed(name, values[name], kinds[name]) for name in kinds})

    def to_json(self) -> bytes:
        """Return `config.json`: alphabetical keys, as published."""
        return json.dumps(asdict(self), indent=2, sort_keys=True).encode()

    def __post_init__(self) -> None:
        """Refuse sizes that make no network.

        Raises
        ------
        CheckpointError
            If a value is out of range.
        """
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name.endswith("dropout_p") and not 0.0 <= value < 1.0:
                raise CheckpointError(f"{one.name} {value}: allowed are 0 to below 1")
            if one.type is int and not 1 <= value <= 1 << 20:
                raise CheckpointError(f"{one.name} {value}: allowed are 1 to {1 << 20}")
            if one.name in {"s1_bits", "s2_bits"} and value > _MAX_BITS:
                raise CheckpointError(f"{one.name} {value}: allowed are 1 to 16")


@dataclass(frozen=True, slots=True)
class TokenizerConfig(_Config):
    """Sizes of the tokenizer.

    Attributes
    ----------
    d_in : int
        Columns of a bar.
    d_model, n_heads, ff_dim : int
        Width, attention heads and feed-forward width of a block.
    n_enc_layers, n_dec_layers : int
        One more than the blocks there are.
    ffn_dropout_p, attn_dropout_p, resid_dropout_p : float
        Used in training only.
    s1_bits, s2_bits : int
        Bits of the coarse and of the fine token.
    beta, gamma0, gamma, zeta : float
        Weights of the quantiser's loss.
    group_size : int
        Length of a buffer in the checkpoint; changes no number.
    """

    d_in: int
    d_model: int
    n_heads: int
    ff_dim: int
    n_enc_layers: int
    n_dec_layers: int
    ffn_dropout_p: float
    attn_dropout_p: float
    resid_dropout_p: float
    s1_bits: int
    s2_bits: int
    beta: float
    gamma0: float
    gamma: float
    zeta: float
    group_size: int

    def __post_init__(self) -> None:
        """Refuse sizes that make no tokenizer."""
        _Config.__post_init__(self)
        _check_heads(self.d_model, self.n_heads, "n_heads")

    @property
    def n_bits(self) -> int:
        """Bits of both tokens."""
        return self.s1_bits + self.s2_bits


@dataclass(frozen=True, slots=True)
class NetworkConfig(_Config):
    """Sizes of the predictor.

    Attributes
    ----------
    s1_bits, s2_bits : int
        Bits of the coarse and of the fine token, those of its tokenizer.
    n_layers, d_model, n_heads, ff_dim : int
        Blocks, width, attention heads and feed-forward width.
    ffn_dropout_p, attn_dropout_p, resid_dropout_p, token_dropout_p : float
        Used in training only.
    learn_te : bool
        Whether the time tables were trained; they are read from the checkpoint anyway.
    """

    s1_bits: int
    s2_bits: int
    n_layers: int
    d_model: int
    n_heads: int
    ff_dim: int
    ffn_dropout_p: float
    attn_dropout_p: float
    resid_dropout_p: float
    token_dropout_p: float
    learn_te: bool

    def __post_init__(self) -> None:
        """Refuse sizes that make no predictor."""
        _Config.__post_init__(self)
        _check_heads(self.d_model, self.n_heads, "n_heads")
        _check_heads(self.d_model, DEPENDENCY_HEADS, "the dependency layer's heads")


def _typed(name: str, value: Any, kind: Any) -> Any:
    # JSON writes 1.0 as 1 where a float is meant; a bool is no int here.
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise CheckpointError(f"{name} {value!r}: must be {kind.__name__}")
    return value


def _check_heads(d_model: int, n_heads: int, name: str) -> None:
    if d_model % (2 * n_heads):
        raise CheckpointError(
            f"d_model {d_model}: must be an even multiple of {name} ({n_heads})"
        )
