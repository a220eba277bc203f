"""From logits to chances: temperature, then top-k or top-p."""

import math
from dataclasses import dataclass

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
        ordered, places = scaled.sort(dim=-1, descending=True)
        before = ordered.softmax(dim=-1).cumsum(dim=-1)
        is_dropped = torch.zeros_like(before, dtype=torch.bool)
        is_dropped[:, 1:] = before[:, :-1] > by.top_p
        scaled = scaled.masked_fill(
            torch.zeros_like(is_dropped).scatter(-1, places, is_dropped), -math.inf
        )
    return scaled.softmax(dim=-1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
