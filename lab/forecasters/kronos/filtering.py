"""From logits to chances: temperature, then top-k or top-p."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lab.errors import ForecastError


@dataclass(frozen=True, slots=True)
class Filter:
    """How chances are made from logits, the same for both tokens.

    Attributes
    ----------
    temperature : float, default 1.0
        Above 0; divides the logits.
    top_k : int, default 0
        Above 0, keeps the k largest and everything tied with the smallest of them;
        `top_p` is not looked at then. 1 is the deterministic mode.
    top_p : float, default 0.9
        Below 1, keeps the largest up to and including the one that crosses this
        cumulative chance.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 0.9

    def __post_init__(self) -> None:
        """Refuse settings under which no chance is defined.

        Raises
        ------
        ForecastError
            If a value is missing or out of range.
        """
        if not _is_number(self.temperature) or not self.temperature > 0:
            raise ForecastError(
                f"temperature {self.temperature}: must be above 0; for the most likely"
                " path use top_k = 1"
            )
        if type(self.top_k) is not int or self.top_k < 0:
            raise ForecastError(f"top_k {self.top_k}: must be a whole number, 0 is off")
        if not _is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise ForecastError(f"top_p {self.top_p}: allowed are above 0 to 1")


def chances(logits: Tensor, by: Filter) -> Tensor:
    """Return the chance of every entry of the vocabulary, row by row.

    Parameters
    ----------
    logits : Tensor of shape (rows, V)
        Not changed.
    by : Filter
        Temperature and what to keep.

    Returns
    -------
    Tensor of shape (rows, V), float32
        Exact zeros where an entry was dropped.

    References
    ----------
    .. [1] Holtzman et al. (2020), The curious case of neural text degeneration.
    """
    scaled = logits.float() / by.temperature
    if by.top_k > 0:
        n_kept = min(by.top_k, scaled.shape[-1])
        smallest = scaled.topk(n_kept, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < smallest, -math.inf)
    elif by.top_p < 1:
        scaled = scaled.masked_fill(_is_beyond(scaled, by.top_p), -math.inf)
    return scaled.softmax(dim=-1)


def _is_beyond(scaled: Tensor, top_p: float) -> Tensor:
    # Which entries (rows, V) are dropped. On the CPU values are sorted without their
    # places, several times quicker; where the smallest value that is kept has equals
    # beyond the border, the places decide.
    if scaled.device.type == "cpu":
        ordered = torch.from_numpy(-np.sort(-scaled.numpy(), axis=-1))
        n_kept = 1 + (_summed(ordered) <= top_p).sum(dim=-1, keepdim=True)
        smallest = ordered.gather(-1, n_kept - 1)
        is_beyond = scaled < smallest
        if bool(
            (is_beyond.sum(dim=-1, keepdim=True) + n_kept == scaled.shape[-1]).all()
        ):
            return is_beyond
    ordered, places = scaled.sort(dim=-1, descending=True)
    is_dropped = torch.zeros_like(scaled, dtype=torch.bool)
    is_dropped[:, 1:] = _summed(ordered) > top_p
    return torch.zeros_like(is_dropped).scatter(-1, places, is_dropped)


def _summed(ordered: Tensor) -> Tensor:
    # Cumulative chances of all entries before each one but the first.
    return ordered.softmax(dim=-1).cumsum(dim=-1)[:, :-1]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
