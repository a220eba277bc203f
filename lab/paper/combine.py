"""The baseline as it is, and beside it what the weighted signals add under their cap.

phase37 trades a book of its own at weight 1: no signal, weight or limit changes what it
holds. The other signals share a second book. What they add together, as absolute
weights after netting, stays under the gross cap that is published with the weights, and
within the limits of `lab.paper.risk`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from lab.arrays import FloatArray
from lab.backtest.engine import MAX_WEIGHT
from lab.errors import PaperError
from lab.paper.risk import DEFAULT_LIMITS, RiskLimits
from lab.paper.signals import SIGNALS

BASELINE: Final = "phase37"
"""Whose weight is 1 whatever else is published."""

ADDED: Final = "signals"
"""Sleeve of the orders of the weighted signals."""

GROSS_CAP: Final = 0.25
"""Cap that is published: a quarter of the book."""

_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SignalWeights:
    """Published weights of the signals.

    Attributes
    ----------
    weights : mapping of str to float
        By signal, 0 to 1; one that is not named has none.
    gross_cap : float
        Most that the signals may add to the book together, 0 to 1.
    changed_at : datetime
        When the newest of them was set.

    Raises
    ------
    PaperError
        If a signal is unknown, or a weight or the cap is out of range.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    gross_cap: float = GROSS_CAP
    changed_at: datetime = _NEVER

    def __post_init__(self) -> None:
        """Refuse what cannot be traded."""
        for name, weight in {**self.weights, "gross_cap": self.gross_cap}.items():
            if name not in {*SIGNALS, "gross_cap"}:
                raise PaperError(f"signal {name!r}: one of {', '.join(SIGNALS)}")
            if not 0.0 <= weight <= 1.0:
                raise PaperError(f"signal weights: {name} {weight:g}, from 0 to 1")

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> "SignalWeights":
        """Read the rows of `artefact_signal_weights`; none at all is weight 0 for all.

        Raises
        ------
        PaperError
            If the baseline is not fixed at 1, rows name several caps, or a signal is
            unknown or fixed.
        """
        if not rows:
            return cls()
        by_name = {row["signal"]: row for row in rows}
        fixed = by_name.pop(BASELINE, None)
        if fixed is None or not fixed["is_fixed"] or fixed["runtime_weight"] != 1.0:
            raise PaperError(f"signal weights: {BASELINE} is not fixed at weight 1")
        if wrong := sorted(name for name, row in by_name.items() if row["is_fixed"]):
            raise PaperError(
                f"signal weights: {wrong[0]} is fixed; only {BASELINE} may be"
            )
        caps = {row["gross_cap"] for row in rows}
        if len(caps) > 1:
            raise PaperError(f"signal weights: several gross caps: {sorted(caps)}")
        return cls(
            weights={name: row["runtime_weight"] for name, row in by_name.items()},
            gross_cap=caps.pop(),
            changed_at=max(row["changed_at"] for row in rows),
        )

    def of(self, signal: str) -> float:
        """Return a signal's weight; 0 where none was published."""
        return self.weights.get(signal, 0.0)

    @property
    def shadows(self) -> tuple[str, ...]:
        """Signals at weight 0."""
        return tuple(name for name in SIGNALS if self.of(name) == 0.0)


@dataclass(frozen=True, slots=True)
class Combined:
    """Targets of one row.

    Attributes
    ----------
    baseline, added : ndarray of shape (n_assets,), float64
        Of phase37's book, and of the signals'.
    scale : float
        What the signals' sum was multiplied with to stay under the cap; 1 if it was.
    reached : tuple of str
        Limits that were reached, in words.
    """

    baseline: FloatArray
    added: FloatArray
    scale: float
    reached: tuple[str, ...]


def combine(
    baseline: FloatArray,
    positions: Mapping[str, FloatArray],
    weights: SignalWeights,
    *,
    limits: RiskLimits = DEFAULT_LIMITS,
    is_halted: bool = False,
) -> Combined:
    """Return what both books are to hold.

    Parameters
    ----------
    baseline : ndarray of shape (n_assets,), float64
        What phase37 decided; it is returned as it is.
    positions : mapping of str to ndarray of shape (n_assets,), float64
        What each signal would hold in a book of its own.
    weights : SignalWeights
        As published.
    limits : RiskLimits
        Of the signals' book.
    is_halted : bool
        Whether the signals' book lost too much: it is to hold nothing.

    Raises
    ------
    PaperError
        If an array has another shape, is not finite, or asks for more than a book.
    """
    for name, asked in {BASELINE: baseline, **positions}.items():
        _check(name, asked, baseline.shape)
    total = np.zeros(baseline.shape)
    for name in SIGNALS:
        if name in positions and weights.of(name) > 0.0:
            total = total + weights.of(name) * positions[name]
    if is_halted:
        return Combined(baseline, np.zeros(baseline.shape), 0.0, ("drawdown: halted",))
    added, reached = limits.clipped(total)
    gross = float(np.abs(added).sum())
    scale = min(1.0, weights.gross_cap / gross) if gross > 0.0 else 1.0
    if scale < 1.0:
        told = f"gross {gross:.4g}: scaled to the cap {weights.gross_cap:g}"
        reached = (*reached, told)
    return Combined(baseline, added * scale, scale, reached)


def _check(name: str, asked: FloatArray, shape: tuple[int, ...]) -> None:
    if asked.shape != shape or not bool(np.isfinite(asked).all()):
        raise PaperError(f"{name}: positions must be {shape[0]} finite weights")
    total = float(np.abs(asked).sum())
    if total > MAX_WEIGHT:
        raise PaperError(f"{name}: absolute weights sum to {total:.6g}, at most 1")
