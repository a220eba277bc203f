"""What a policy may choose: an allocation over sleeves and a level of risk."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from lab.arrays import FloatArray, IntArray
from lab.errors import PolicyError
from lab.policy.days import families_of

LEVELS: Final = (0.0, 0.5, 1.0)
"""Shares of the book that may be at risk; the rest is cash.

Where sleeves earn less than it costs to move between them, all cash is the answer.
"""

EQUAL: Final = "equal"


@dataclass(frozen=True, slots=True)
class Menu:
    """The choices: one of `names` and one of `levels`.

    Attributes
    ----------
    sleeves : tuple of str, n_sleeves
        Sleeves that can be held.
    names : tuple of str, n_allocations
        `equal`, the families as `family:NAME`, each sleeve by its own name.
    shares : ndarray of shape (n_allocations, n_sleeves), float64
        Share of the risk in each sleeve; rows sum to 1.
    levels : tuple of float, n_levels
        Shares of the book at risk.

    Raises
    ------
    PolicyError
        If shapes differ, shares are no shares, or a level is not in [0, 1].
    """

    sleeves: tuple[str, ...]
    names: tuple[str, ...]
    shares: FloatArray
    levels: tuple[float, ...] = LEVELS

    def __post_init__(self) -> None:
        """Refuse what nobody could hold."""
        if self.shares.shape != (len(self.names), len(self.sleeves)):
            raise PolicyError(
                f"menu: shares of shape {self.shares.shape}, need"
                f" ({len(self.names)}, {len(self.sleeves)})"
            )
        is_sum = np.allclose(self.shares.sum(axis=1), 1.0, atol=1e-9)
        if not is_sum or np.any(self.shares < 0):
            raise PolicyError("menu: shares must be positive and sum to 1")
        if not self.levels or not all(0.0 <= one <= 1.0 for one in self.levels):
            raise PolicyError(f"menu: levels {self.levels}: between 0 and 1")

    @classmethod
    def of(cls, sleeves: tuple[str, ...]) -> "Menu":
        """Return the menu of some sleeves: all alike, each family, each sleeve.

        Parameters
        ----------
        sleeves : tuple of str
            Sorted names.
        """
        groups = {EQUAL: sleeves}
        families = families_of(sleeves)
        groups |= {
            f"family:{name}": members
            for name, members in families.items()
            if 1 < len(members) < len(sleeves)
        }
        if len(sleeves) > 1:
            groups |= {name: (name,) for name in sleeves}
        shares = [
            [1.0 / len(members) if one in members else 0.0 for one in sleeves]
            for members in groups.values()
        ]
        return cls(sleeves, tuple(groups), np.array(shares))

    @property
    def heads(self) -> tuple[int, int]:
        """How many allocations and how many levels there are."""
        return len(self.names), len(self.levels)

    def plain(self, allocation: IntArray, level: IntArray) -> tuple[IntArray, IntArray]:
        """Return choices with one name for each: all cash is cash, of whatever.

        Parameters
        ----------
        allocation, level : ndarray of shape (n,), int64
            Choices.

        Returns
        -------
        allocation, level : ndarray of shape (n,), int64
            The allocation is the first one where nothing is at risk.
        """
        is_cash = np.asarray(self.levels)[level] == 0.0
        return np.where(is_cash, 0, allocation), level

    def target(self, allocation: int, level: int) -> FloatArray:
        """Return the weights of a choice, shape (n_sleeves,), summing to its level.

        Parameters
        ----------
        allocation, level : int
            Places in `names` and `levels`.
        """
        return np.asarray(self.shares[allocation] * self.levels[level])
