"""What every sleeve is: typed, ranged parameters and causal positions.

A sleeve is one frozen dataclass in one file of this package. Its fields are its
parameters, each declared with `ranged` or `chosen`; `positions` turns a panel into
target weights. Everything else (variants, the position at one row, its identity) is
derived here, and the catalogue finds it by itself.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from itertools import product
from typing import Any, ClassVar, Self

import numpy as np

from lab.arrays import FloatArray
from lab.backtest.panel import AlignedPanel
from lab.errors import SleeveError


def ranged(default: float, low: float, high: float, *, tried: tuple[float, ...]) -> Any:
    """Declare a number between `low` and `high`; `tried` are the walk-forward's values.

    An int default makes it an int.
    """
    return field(
        default=default, metadata={"low": low, "high": high, "tried": tuple(tried)}
    )


def chosen(
    default: str, allowed: tuple[str, ...], *, tried: tuple[str, ...] = ()
) -> Any:
    """Declare one of several names; walk-forward tries the default if not told more."""
    metadata = {"allowed": tuple(allowed), "tried": tuple(tried) or (default,)}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Sleeve(ABC):
    """A rule that turns a panel into target weights.

    Attributes
    ----------
    sleeve_id : str
        Name in every table, lower case with dashes.
    needs : str
        Model whose forecasts it follows; without them it is skipped. Empty: none.
    timeframes : tuple of str
        Which panels it is made for.
    """

    sleeve_id: ClassVar[str]
    needs: ClassVar[str] = ""
    timeframes: ClassVar[tuple[str, ...]] = ("1d", "1h")

    def __post_init__(self) -> None:
        """Refuse a parameter outside its range."""
        for each in fields(self):
            _check(self.sleeve_id, each, getattr(self, each.name))
        self.check()

    def check(self) -> None:  # noqa: B027 - most sleeves have nothing to add
        """Refuse combinations of parameters that make no sense.

        Raises
        ------
        SleeveError
            One line: which and why.
        """

    @abstractmethod
    def positions(self, panel: AlignedPanel) -> FloatArray:
        """Return target weights, decided on each row with what was known there.

        Parameters
        ----------
        panel : AlignedPanel
            What was seen.

        Returns
        -------
        ndarray of shape (n_obs, n_assets), float64
            Shares of the book, negative for short, finite everywhere; the absolute
            weights of a row add up to at most 1.

        Notes
        -----
        Point in time: row t uses rows up to t. Truncation replay proves it: the weights
        of `panel.until(t + 1)` end with row t of these.
        """

    def positions_at(self, panel: AlignedPanel, row: int) -> FloatArray:
        """Return the target weights decided on `row`, shape (n_assets,).

        Notes
        -----
        Point in time: the sleeve sees nothing after `row`.
        """
        weights: FloatArray = self.positions(panel.until(row + 1))[-1]
        return weights

    def span(self) -> int:
        """Return how many rows one decision's position may live on: purging needs it."""
        return 1

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def configuration(self) -> str:
        """Canonical JSON of sleeve and parameters: its identity in the ledger."""
        content = {"sleeve": self.sleeve_id, "parameters": self.parameters}
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @property
    def content_hash(self) -> str:
        """SHA-256 of the configuration."""
        return hashlib.sha256(self.configuration.encode()).hexdigest()

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the sleeve with these parameters, defaults for the others.

        Raises
        ------
        SleeveError
            If one is unknown, of another type, or outside its range.
        """
        unknown = sorted(set(parameters) - {each.name for each in fields(cls)})
        if unknown:
            raise SleeveError(f"{cls.sleeve_id}: no parameter {', '.join(unknown)}")
        return cls(**parameters)

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """Return every combination of the tried values that makes sense, in order."""
        names = [each.name for each in fields(cls)]
        made = []
        for values in product(*(each.metadata["tried"] for each in fields(cls))):
            try:
                made.append(cls(**dict(zip(names, values, strict=True))))
            except SleeveError:
                continue
        return tuple(made)


def _check(sleeve_id: str, each: "Field[Any]", value: Any) -> None:
    where = f"{sleeve_id}: {each.name} = {value!r}"
    if "allowed" in each.metadata:
        if value not in each.metadata["allowed"]:
            raise SleeveError(f"{where}: one of {', '.join(each.metadata['allowed'])}")
        return
    low, high = each.metadata["low"], each.metadata["high"]
    is_whole = isinstance(each.default, int)
    is_typed = isinstance(value, int if is_whole else int | float)
    if isinstance(value, bool) or not is_typed or not np.isfinite(value):
        raise SleeveError(f"{where}: {'a whole' if is_whole else 'a'} number")
    if not low <= value <= high:
        raise SleeveError(f"{where}: between {low} and {high}")
