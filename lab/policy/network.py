"""The policy's network in plain numpy: what PPO trained, read without torch or Ray."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lab.arrays import FloatArray, IntArray
from lab.errors import PolicyError

_FEWEST_ROWS: Final = 8  # a product of fewer rows may differ in the last bits
_PREFIX: Final = struct.Struct("<Q")

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Network:
    """Tanh layers and one linear layer of logits, cut into one part per choice.

    Attributes
    ----------
    layers : tuple of (weight, bias)
        Shapes (n_out, n_in) and (n_out,), float32; the input's first.
    heads : tuple of int
        Choices of each part; they add up to the last layer's outputs.

    Raises
    ------
    PolicyError
        If layers do not fit each other or the heads, or a weight is not finite.
    """

    layers: tuple[Layer, ...]
    heads: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse layers that do not fit."""
        width = None
        for place, (weight, bias) in enumerate(self.layers):
            is_shaped = weight.ndim == 2 and bias.shape == (len(weight),)
            if not is_shaped or width not in {None, weight.shape[1]}:
                raise PolicyError(
                    f"policy network: layer {place} of shapes {weight.shape} and"
                    f" {bias.shape} after width {width}"
                )
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise PolicyError(f"policy network: layer {place} is not finite")
            width = len(weight)
        if width is None or not self.heads or sum(self.heads) != width:
            raise PolicyError(f"policy network: heads {self.heads} for {width} outputs")

    @property
    def n_features(self) -> int:
        """Width of an observation."""
        return int(self.layers[0][0].shape[1])

    def probabilities(self, observations: FloatArray) -> tuple[FloatArray, ...]:
        """Return the probability of every choice.

        Parameters
        ----------
        observations : ndarray of shape (n, n_features), float64
            States.

        Returns
        -------
        tuple of ndarray of shape (n, n_choices), float64
            One for each head; rows sum to 1.

        Raises
        ------
        PolicyError
            If the width is another.
        """
        if observations.ndim != 2 or observations.shape[1] != self.n_features:
            raise PolicyError(
                f"policy network: observations of shape {observations.shape},"
                f" need (n, {self.n_features})"
            )
        n = len(observations)
        rows = np.zeros((max(n, _FEWEST_ROWS), self.n_features))
        rows[:n] = observations
        for weight, bias in self.layers[:-1]:
            rows = np.tanh(rows @ weight.T.astype(np.float64) + bias)
        weight, bias = self.layers[-1]
        logits = (rows @ weight.T.astype(np.float64) + bias)[:n]
        cuts = np.cumsum(self.heads)[:-1]
        return tuple(_softmax(part) for part in np.split(logits, cuts, axis=1))

    def to_bytes(self) -> bytes:
        """Return the weights as safetensors."""
        entries: dict[str, Any] = {"__metadata__": {"heads": json.dumps(self.heads)}}
        parts: list[bytes] = []
        offset = 0
        for place, layer in enumerate(self.layers):
            for name, array in zip(("weight", "bias"), layer, strict=True):
                data = np.ascontiguousarray(array, dtype="<f4").tobytes()
                entries[f"{place}.{name}"] = {
                    "dtype": "F32",
                    "shape": list(array.shape),
                    "data_offsets": [offset, offset + len(data)],
                }
                offset += len(data)
                parts.append(data)
        header = json.dumps(entries, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        return _PREFIX.pack(len(header)) + header + b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Network":
        """Take a network back from safetensors.

        Parameters
        ----------
        data : bytes
            As `to_bytes` gives them.

        Raises
        ------
        PolicyError
            If they are damaged, or no such network.
        """
        try:
            (length,) = _PREFIX.unpack_from(data)
            begin = _PREFIX.size + length
            entries = json.loads(data[_PREFIX.size : begin])
            heads = tuple(int(n) for n in json.loads(entries["__metadata__"]["heads"]))
            n_layers = (len(entries) - 1) // 2
            layers = tuple(
                (
                    _array(entries[f"{place}.weight"], data[begin:]),
                    _array(entries[f"{place}.bias"], data[begin:]),
                )
                for place in range(n_layers)
            )
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise PolicyError(f"policy network: damaged: {error}") from error
        return cls(layers, heads)


def mean_probabilities(
    networks: Sequence[Network], observations: FloatArray
) -> tuple[FloatArray, ...]:
    """Return the mean of several networks' probabilities, by head.

    Parameters
    ----------
    networks : sequence of Network
        At least one, with the same heads.
    observations : ndarray of shape (n, n_features), float64
        States.

    Raises
    ------
    PolicyError
        If there is no network, or heads differ.
    """
    if not networks or any(one.heads != networks[0].heads for one in networks):
        raise PolicyError("policy networks: one or more with the same heads are needed")
    found = [one.probabilities(observations) for one in networks]
    return tuple(np.mean(parts, axis=0) for parts in zip(*found, strict=True))


def choices(
    networks: Sequence[Network], observations: FloatArray
) -> tuple[IntArray, ...]:
    """Return the likeliest choice of each head, the first of equals.

    Parameters
    ----------
    networks, observations
        As in `mean_probabilities`.

    Returns
    -------
    tuple of ndarray of shape (n,), int64
    """
    found = mean_probabilities(networks, observations)
    return tuple(part.argmax(axis=1).astype(np.int64) for part in found)


def _softmax(logits: FloatArray) -> FloatArray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _array(entry: dict[str, Any], data: bytes) -> NDArray[np.float32]:
    begin, end = entry["data_offsets"]
    if entry["dtype"] != "F32" or not 0 <= begin <= end <= len(data):
        raise ValueError(f"entry {entry}")
    return np.frombuffer(data[begin:end], dtype="<f4").reshape(entry["shape"]).copy()
