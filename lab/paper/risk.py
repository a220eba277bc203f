"""Limits of the signals' book.

The baseline has none here: it is sized by its own rules and keeps trading. A limit that
is reached is said in the decision record of the bar.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from lab.arrays import FloatArray
from lab.errors import PaperError
from lab.paper.orders import Book


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """What the signals' book may hold and lose.

    Attributes
    ----------
    instrument : float
        Largest absolute weight of one instrument, as a share of the book.
    max_drawdown : float
        Loss from the peak after costs at which the book is closed. It opens again once
        weights were published after that: people looked at it.

    Raises
    ------
    PaperError
        If one is not above 0 and at most 1.
    """

    instrument: float = 0.05
    max_drawdown: float = 0.1

    def __post_init__(self) -> None:
        """Refuse limits that limit nothing, or everything."""
        for each in fields(self):
            value = getattr(self, each.name)
            if not 0.0 < value <= 1.0:
                raise PaperError(f"limit {each.name} {value:g}: above 0, at most 1")

    def clipped(self, weights: FloatArray) -> tuple[FloatArray, tuple[str, ...]]:
        """Return weights within the limit of one instrument, and what was reached.

        Parameters
        ----------
        weights : ndarray of shape (n_assets,), float64
            Asked for.
        """
        n_over = int(np.count_nonzero(np.abs(weights) > self.instrument))
        kept = np.clip(weights, -self.instrument, self.instrument)
        told = f"{n_over} instruments cut to {self.instrument:g}"
        return kept, (told,) if n_over else ()

    def is_broken(self, book: Book) -> bool:
        """Return whether a book lost more than it may."""
        return book.drawdown > self.max_drawdown


DEFAULT_LIMITS: Final = RiskLimits()
