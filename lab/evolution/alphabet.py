"""What genomes are written in: the kinds of each part and the ranges of their numbers.

A part is a kind with its parameters. Every parameter is declared once, here, as a
`Range` or a `Choice`; drawing, mutation and validation follow from the declaration.
Values are round (whole, or three decimals), so that a genome's JSON is exact and short.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, isfinite, log
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from lab.backtest.panel import AlignedPanel
from lakehouse.schema._spec import ASSET_CLASSES

Value: TypeAlias = int | float | str

DECIMALS: Final = 3
# A mutation's standard deviation as a share of the (log) range.
JITTER: Final = 0.15


@dataclass(frozen=True, slots=True)
class Range:
    """A number between two bounds, both included.

    Attributes
    ----------
    low, high : float
        Bounds.
    is_whole : bool
        Whether it is an int.
    is_log : bool
        Whether equal ratios, not equal differences, are equally likely.
    """

    low: float
    high: float
    is_whole: bool = False
    is_log: bool = False

    def draw(self, rng: np.random.Generator) -> Value:
        """Return a value drawn over the whole range."""
        return self._at(float(rng.random()))

    def vary(self, value: Value, rng: np.random.Generator) -> Value:
        """Return a value near `value`, inside the range and not equal to it."""
        low, high = self._warp(self.low), self._warp(self.high)
        share = (self._warp(float(value)) - low) / (high - low)
        moved, width = value, JITTER
        while moved == value:
            moved = self._at(float(np.clip(share + width * rng.normal(), 0.0, 1.0)))
            width *= 1.5  # few whole numbers may lie far apart
        return moved

    def fault(self, value: object) -> str | None:
        """Return what is wrong with `value`, None if nothing is."""
        is_typed = isinstance(value, int if self.is_whole else int | float)
        if isinstance(value, bool) or not is_typed or not isfinite(value):  # type: ignore[arg-type]
            return "a whole number" if self.is_whole else "a number"
        if not self.low <= value <= self.high:  # type: ignore[operator]
            return f"between {self.low:g} and {self.high:g}"
        if round(value, DECIMALS) != value:  # type: ignore[call-overload]
            return f"at most {DECIMALS} decimals"
        return None

    def typed(self, value: Value) -> Value:
        """Return a faultless value as the int or float it is written as."""
        return int(value) if self.is_whole else float(value)

    def _at(self, share: float) -> Value:
        low, high = self._warp(self.low), self._warp(self.high)
        value = low + share * (high - low)
        value = min(max(exp(value) if self.is_log else value, self.low), self.high)
        return round(value) if self.is_whole else round(value, DECIMALS)

    def _warp(self, value: float) -> float:
        return log(value) if self.is_log else value


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several names."""

    allowed: tuple[str, ...]

    def draw(self, rng: np.random.Generator) -> Value:
        """Return one of the names."""
        return self.allowed[int(rng.integers(len(self.allowed)))]

    def vary(self, value: Value, rng: np.random.Generator) -> Value:
        """Return another of the names."""
        others = [name for name in self.allowed if name != value]
        return others[int(rng.integers(len(others)))] if others else value

    def fault(self, value: object) -> str | None:
        """Return what is wrong with `value`, None if nothing is."""
        if value in self.allowed:
            return None
        return f"one of {', '.join(self.allowed)}"

    def typed(self, value: Value) -> Value:
        """Return a faultless value as it is."""
        return value


Kinds: TypeAlias = Mapping[str, Mapping[str, Range | Choice]]


def _window(low: int, high: int) -> Range:
    return Range(low, high, is_whole=True, is_log=True)


# Of every signal: its share in the sum. None can be faded: the mirror of a bet that
# earns is a trial that loses, and trials far apart raise the bar for all of them.
# Trends and reversions are both there by their own rules.
_BLEND: Final[Mapping[str, Range | Choice]] = {"weight": Range(0.1, 1.0)}

SIGNALS: Final[Kinds] = MappingProxyType(
    {
        "trend": {"lookback": _window(5, 250), "threshold": Range(0.0, 1.5), **_BLEND},
        "average-cross": {
            "fast": _window(2, 50),
            "ratio": Range(1.5, 6.0, is_log=True),
            "band": Range(0.0, 0.5),
            **_BLEND,
        },
        "breakout": {"entry": _window(10, 200), "share": Range(0.2, 1.0), **_BLEND},
        "index-reversion": {
            "period": _window(2, 40),
            "edge": Range(10.0, 35.0),
            **_BLEND,
        },
        "band-reversion": {
            "lookback": _window(10, 120),
            "width": Range(0.5, 3.0),
            **_BLEND,
        },
        "relative-strength": {
            "lookback": _window(10, 250),
            "share": Range(0.1, 0.5),
            **_BLEND,
        },
        "seasonality": {
            "weeks": _window(13, 104),
            "threshold": Range(0.5, 3.0),
            "hurdle_bps": Range(0.0, 30.0),
            **_BLEND,
        },
        "surprise-drift": {
            "hold": _window(1, 20),
            "threshold": Range(0.5, 2.5),
            **_BLEND,
        },
    }
)
FILTERS: Final[Kinds] = MappingProxyType(
    {
        "volatility-band": {
            "window": _window(10, 60),
            "low": Range(0.0, 0.9),
            "high": Range(1.0, 3.0),
        },
        "trend": {"window": _window(20, 250)},
        "weekday": {"day": Range(0, 4, is_whole=True)},
    }
)
# Of every sizing: days between decisions, and the largest share of the book.
_PACE: Final[Mapping[str, Range | Choice]] = {
    "hold": _window(1, 28),
    "cap": Range(0.05, 1.0),
}

SIZINGS: Final[Kinds] = MappingProxyType(
    {
        "equal": {**_PACE},
        "inverse-volatility": {"window": _window(10, 120), **_PACE},
        "volatility-target": {
            "window": _window(10, 120),
            "target": Range(0.05, 0.4, is_log=True),
            **_PACE,
        },
    }
)
UNIVERSES: Final[Kinds] = MappingProxyType(
    {
        "all": {},
        "asset-class": {"asset_class": Choice(ASSET_CLASSES)},
        "most-liquid": {
            "count": Range(2, 15, is_whole=True),
            "window": _window(20, 250),
        },
        "least-volatile": {
            "count": Range(2, 15, is_whole=True),
            "window": _window(20, 250),
        },
    }
)
ROLES: Final[Mapping[str, Kinds]] = MappingProxyType(
    {
        "signals": SIGNALS,
        "filters": FILTERS,
        "sizing": SIZINGS,
        "universe": UNIVERSES,
    }
)
# How many parts a role may have.
COUNTS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {"signals": (1, 3), "filters": (0, 2), "sizing": (1, 1), "universe": (1, 1)}
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a panel has to say something about: genomes are drawn from this.

    Attributes
    ----------
    asset_classes : tuple of str
        Of its instruments, sorted.
    has_surprises, has_volume : bool
        Whether it knows any release's surprise, any bar's volume.
    """

    asset_classes: tuple[str, ...] = ASSET_CLASSES
    has_surprises: bool = True
    has_volume: bool = True

    @classmethod
    def of(cls, panel: AlignedPanel) -> "Scope":
        """Return a panel's scope."""
        return cls(
            asset_classes=tuple(sorted(set(panel.asset_classes))),
            has_surprises=bool(np.any(panel.surprises)),
            has_volume=bool(np.any(panel.volume > 0.0)),
        )

    def kinds(self, role: str) -> tuple[str, ...]:
        """Return the kinds of a role that can do something on the panel."""
        idle = set()
        if not self.has_surprises:
            idle.add("surprise-drift")
        if not self.has_volume:
            idle.add("most-liquid")
        if len(self.asset_classes) < 2:
            idle.add("asset-class")
        return tuple(kind for kind in ROLES[role] if kind not in idle)

    def declared(self, role: str, kind: str) -> dict[str, Range | Choice]:
        """Return a kind's parameters, asset classes only those of the panel."""
        found = dict(ROLES[role][kind])
        if "asset_class" in found:
            found["asset_class"] = Choice(self.asset_classes)
        return found
