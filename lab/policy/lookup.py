"""The policy as a table: the bucket of a state, and what to do in it.

A bucket is one cell of a grid of six dimensions, in the order of `DIMENSIONS`; its
number counts through the grid, the last dimension fastest. In each bucket stands the
choice that the network makes most often there. A bucket in which it was never asked has
the choice of the nearest that it was: a table does not act on guesses about states that
nobody has seen.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lab.arrays import FloatArray, IntArray
from lab.errors import PolicyError
from lab.features.regime import STATES
from lab.policy.menu import Menu
from lab.policy.state import UNKNOWN_REGIME, MarketStates

DIMENSIONS: Final = (
    "regime",
    "volatility",
    "drawdown",
    "breadth",
    "leader",
    "agreement",
)
"""Of the grid. Regime and leader are categories; the others are cut at edges, and the
last bucket of agreement is for none known."""

_CUT: Final = ("volatility", "drawdown", "breadth", "agreement")
_COLUMNS: Final = ("allocation", "level", "visits")
_CATEGORIES: Final = ("regime", "leader")
_TERCILES: Final = (1 / 3, 2 / 3)


@dataclass(frozen=True, slots=True)
class Grid:
    """Where states are cut.

    Attributes
    ----------
    families : tuple of str
        Families that may lead, as in `MarketStates`.
    edges : mapping of str to tuple of float
        Two increasing edges of each dimension that is cut; a value on an edge belongs
        above it.

    Raises
    ------
    PolicyError
        If edges are missing, not finite or decrease.
    """

    families: tuple[str, ...]
    edges: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        """Refuse edges that cut nothing."""
        for name in _CUT:
            pair = tuple(self.edges.get(name, ()))
            is_finite = all(math.isfinite(one) for one in pair)
            if len(pair) != 2 or not is_finite or pair[1] < pair[0]:
                raise PolicyError(f"lookup: edges of {name}: {pair}; two, increasing")
        if not self.families:
            raise PolicyError("lookup: no family of sleeves")

    @classmethod
    def fit(cls, states: MarketStates, rows: IntArray, drawdowns: FloatArray) -> "Grid":
        """Cut each dimension at the terciles of some training states.

        Parameters
        ----------
        states : MarketStates
            States.
        rows : ndarray of shape (n,), int64
            Which of them to learn from.
        drawdowns : ndarray of shape (n,), float64
            A book's drawdown on each, e.g. the equal-weight one's.

        Notes
        -----
        Point in time: knows the states of `rows` alone.
        """
        known = states.agreement[rows]
        values = {
            "volatility": states.volatility[rows],
            "drawdown": drawdowns,
            "breadth": states.breadth[rows],
            "agreement": known[np.isfinite(known)],
        }
        edges = {}
        for name, found in values.items():
            cut = np.quantile(found, _TERCILES) if len(found) else np.array(_TERCILES)
            edges[name] = (float(cut[0]), float(cut[1]))
        return cls(states.families, edges)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Buckets of each dimension."""
        return (UNKNOWN_REGIME + 1, 3, 3, 3, len(self.families), 4)

    @property
    def n_buckets(self) -> int:
        """Cells of the grid."""
        return math.prod(self.sizes)

    def buckets(
        self, states: MarketStates, rows: IntArray, drawdowns: FloatArray
    ) -> IntArray:
        """Return the bucket of each state, shape (n,).

        Parameters
        ----------
        states : MarketStates
            States, of the same families.
        rows : ndarray of shape (n,), int64
            Which.
        drawdowns : ndarray of shape (n,), float64
            The book's drawdown on each.

        Raises
        ------
        PolicyError
            If the families are others.
        """
        if states.families != self.families:
            raise PolicyError(
                f"lookup: states of families {', '.join(states.families)}, the table's"
                f" are {', '.join(self.families)}"
            )
        agreement = states.agreement[rows]
        placed = np.where(np.isfinite(agreement), self._cut("agreement", agreement), 3)
        cells = (
            states.regime[rows],
            self._cut("volatility", states.volatility[rows]),
            self._cut("drawdown", drawdowns),
            self._cut("breadth", states.breadth[rows]),
            states.leader[rows],
            placed,
        )
        return np.asarray(np.ravel_multi_index(cells, self.sizes), dtype=np.int64)

    def cells(self) -> IntArray:
        """Return the place of every bucket in each dimension, (n_buckets, 6)."""
        found = np.unravel_index(np.arange(self.n_buckets), self.sizes)
        return np.column_stack(found).astype(np.int64)

    def _cut(self, name: str, values: FloatArray) -> IntArray:
        return np.searchsorted(self.edges[name], values, side="right").astype(np.int64)


@dataclass(frozen=True, slots=True)
class Lookup:
    """A policy that needs no network.

    Attributes
    ----------
    grid : Grid
        Buckets.
    menu : Menu
        Choices.
    allocation, level : ndarray of shape (n_buckets,), int64
        The choice in each bucket.
    visits : ndarray of shape (n_buckets,), int64
        Training states in each; 0 where the choice is the nearest one's.
    fidelity : float
        Share of held-out states in which the network chooses the same, both parts.

    Raises
    ------
    PolicyError
        If lengths differ or a choice is not on the menu.
    """

    grid: Grid
    menu: Menu
    allocation: IntArray
    level: IntArray
    visits: IntArray
    fidelity: float

    def __post_init__(self) -> None:
        """Refuse a table that does not fill its grid."""
        n = self.grid.n_buckets
        columns = (self.allocation, self.level, self.visits)
        if any(column.shape != (n,) for column in columns):
            raise PolicyError(
                f"lookup: {n} buckets, columns of {[len(one) for one in columns]}"
            )
        for column, n_choices in zip(columns[:2], self.menu.heads, strict=True):
            if column.min() < 0 or column.max() >= n_choices:
                raise PolicyError(f"lookup: a choice outside 0..{n_choices - 1}")
        if not 0.0 <= self.fidelity <= 1.0 or np.any(self.visits < 0):
            raise PolicyError("lookup: fidelity in [0, 1] and visits >= 0 are needed")

    def choose(
        self, states: MarketStates, rows: IntArray, drawdowns: FloatArray
    ) -> tuple[IntArray, IntArray]:
        """Return the choices in some states.

        Parameters
        ----------
        states, rows, drawdowns
            As in `Grid.buckets`.

        Returns
        -------
        allocation, level : ndarray of shape (n,), int64

        Notes
        -----
        Point in time: as the states are; the table is fixed.
        """
        place = self.grid.buckets(states, rows, drawdowns)
        return self.allocation[place], self.level[place]

    def to_json(self) -> bytes:
        """Return the table as JSON, equal tables as equal bytes."""
        content = {
            "families": list(self.grid.families),
            "edges": {name: list(pair) for name, pair in self.grid.edges.items()},
            "sleeves": list(self.menu.sleeves),
            "menu": list(self.menu.names),
            "shares": self.menu.shares.tolist(),
            "levels": list(self.menu.levels),
            **{name: getattr(self, name).tolist() for name in _COLUMNS},
            "fidelity": self.fidelity,
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Lookup":
        """Take a table back from JSON.

        Parameters
        ----------
        data : bytes
            As `to_json` gives them.

        Raises
        ------
        PolicyError
            If they are damaged, or no such table.
        """
        try:
            held = json.loads(data)
            edges = {
                str(name): (float(low), float(high))
                for name, (low, high) in held["edges"].items()
            }
            columns = [np.array(held[name], dtype=np.int64) for name in _COLUMNS]
            return cls(
                Grid(tuple(held["families"]), edges),
                Menu(
                    tuple(held["sleeves"]),
                    tuple(held["menu"]),
                    np.array(held["shares"], dtype=np.float64),
                    tuple(float(one) for one in held["levels"]),
                ),
                columns[0],
                columns[1],
                columns[2],
                float(held["fidelity"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PolicyError(f"lookup: damaged: {error}") from error

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a bucket, in order, as the published table has them.

        `state`, `action` and `edges` are JSON; `action` names the sleeves with a share
        and is empty at risk level 0.
        """
        edges = _json({name: list(pair) for name, pair in self.grid.edges.items()})
        found = []
        for number, cell in enumerate(self.grid.cells().tolist()):
            level = self.menu.levels[self.level[number]]
            shares = self.menu.shares[self.allocation[number]] if level else []
            held = {
                name: float(share)
                for name, share in zip(self.menu.sleeves, shares, strict=bool(level))
                if share > 0
            }
            found.append(
                {
                    "state_id": number,
                    "state": _json(self._named(cell)),
                    "action": _json(held),
                    "risk_level": level,
                    "n_visits": int(self.visits[number]),
                    "edges": edges,
                    "fidelity": self.fidelity,
                }
            )
        return found

    def _named(self, cell: Sequence[int]) -> dict[str, Any]:
        # Categories by name: a reader need not know their order.
        places: dict[str, Any] = dict(zip(DIMENSIONS, cell, strict=True))
        regimes = (*STATES, "unknown")
        return places | {
            "regime": regimes[places["regime"]],
            "leader": self.grid.families[places["leader"]],
        }


def majority(
    grid: Grid, menu: Menu, buckets: IntArray, chosen: tuple[IntArray, IntArray]
) -> tuple[IntArray, IntArray, IntArray]:
    """Return the commonest choice of each bucket, and how often each was seen.

    Parameters
    ----------
    grid : Grid
        Buckets.
    menu : Menu
        Choices.
    buckets : ndarray of shape (n,), int64
        Bucket of each state, at least one.
    chosen : tuple of ndarray of shape (n,), int64
        The network's allocation and level in it.

    Returns
    -------
    allocation, level, visits : ndarray of shape (n_buckets,), int64

    Raises
    ------
    PolicyError
        If there are no states.
    """
    if len(buckets) == 0:
        raise PolicyError("lookup: no states to learn the table from")
    n_joint = math.prod(menu.heads)
    joint = np.ravel_multi_index(chosen, menu.heads)
    counts = np.bincount(buckets * n_joint + joint, minlength=grid.n_buckets * n_joint)
    counts = counts.reshape(grid.n_buckets, n_joint)
    visits = counts.sum(axis=1)
    best = counts.argmax(axis=1)
    seen = np.flatnonzero(visits)
    empty = np.flatnonzero(visits == 0)
    best[empty] = best[_nearest(grid, empty, seen, visits[seen])]
    allocation, level = np.unravel_index(best, menu.heads)
    return (
        allocation.astype(np.int64),
        level.astype(np.int64),
        visits.astype(np.int64),
    )


def _nearest(grid: Grid, empty: IntArray, seen: IntArray, visits: IntArray) -> IntArray:
    # Steps through the grid; another category, or known for unknown, is one step. Of
    # equals the one most seen, then the first.
    cells = grid.cells()
    ranked = seen[np.lexsort((seen, -visits))]
    found = np.empty(len(empty), dtype=np.int64)
    for place, number in enumerate(empty):
        apart = np.abs(cells[ranked] - cells[number])
        for name in _CATEGORIES:
            column = DIMENSIONS.index(name)
            apart[:, column] = np.minimum(apart[:, column], 1)
        last = DIMENSIONS.index("agreement")
        is_unknown = (cells[ranked, last] == 3) | (cells[number, last] == 3)
        apart[is_unknown, last] = np.minimum(apart[is_unknown, last], 1)
        found[place] = ranked[apart.sum(axis=1).argmin()]
    return found


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
