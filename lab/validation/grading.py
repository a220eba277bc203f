"""The leak checker's own examination: recall on planted leaks, alarms on honest twins."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lab.validation.leaks import (
    LeakVerdict,
    Replay,
    Subject,
    check_causal,
    check_fill,
    replays,
)
from lab.validation.markets import Market
from lab.validation.planted import KINDS, PlantedFill, plant
from lab.validation.practice import practice_market

N_VARIANTS: Final = 12
Checker = Callable[[Subject, Market, Sequence[Replay]], LeakVerdict]


@dataclass(frozen=True, slots=True)
class KindGrade:
    """How the checker did on one kind of leak.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    n_leaks, n_found : int
        Planted, and found.
    n_honest, n_alarms : int
        Honest twins, and alarms among them.
    wrong : tuple of str
        The variants it got wrong.
    """

    kind: str
    n_leaks: int
    n_found: int
    n_honest: int
    n_alarms: int
    wrong: tuple[str, ...]

    @property
    def is_passed(self) -> bool:
        """Whether every leak was found and no twin raised an alarm."""
        return self.n_found == self.n_leaks and self.n_alarms == 0


@dataclass(frozen=True, slots=True)
class Grade:
    """The checker's grade.

    Attributes
    ----------
    kinds : tuple of KindGrade
        One a kind of leak.
    """

    kinds: tuple[KindGrade, ...]

    @property
    def recall(self) -> float:
        """Share of the planted leaks that were found."""
        found = sum(one.n_found for one in self.kinds)
        return found / max(1, sum(one.n_leaks for one in self.kinds))

    @property
    def n_alarms(self) -> int:
        """False alarms."""
        return sum(one.n_alarms for one in self.kinds)

    @property
    def is_passed(self) -> bool:
        """Whether the checker may judge: recall 100 %, no false alarm."""
        return all(one.is_passed for one in self.kinds)


def grade_checker(*, seed: int = 0, n_variants: int = N_VARIANTS) -> Grade:
    """Hold the checker against planted leaks and their honest twins.

    Parameters
    ----------
    seed : int
        Of market, cuts and planted parameters.
    n_variants : int
        Leaks of each kind, and as many twins.
    """
    return grade_with(check_causal, seed=seed, n_variants=n_variants)


def grade_with(check: Checker, *, seed: int = 0, n_variants: int = N_VARIANTS) -> Grade:
    """Grade some checker of subjects in the same way; fills are checked by `check_fill`.

    Parameters
    ----------
    check : callable
        As `check_causal`.
    seed, n_variants : int
        As in `grade_checker`.
    """
    market = practice_market(seed=seed, n_hours=0)
    rng = np.random.default_rng(seed)
    plans = replays(market, "1d", rng=rng)
    kinds = []
    for number, kind in enumerate(KINDS):
        found = {
            is_leak: [
                _judged(check, one, market, plans, rng)
                for one in _planted(kind, (seed, number, n_variants), is_leak=is_leak)
            ]
            for is_leak in (True, False)
        }
        missed = [f"missed: {v.subject}" for v in found[True] if not v.is_leaking]
        alarms = [
            f"alarm: {v.subject}: {v.detail}" for v in found[False] if v.is_leaking
        ]
        kinds.append(
            KindGrade(
                kind,
                n_variants,
                n_variants - len(missed),
                n_variants,
                len(alarms),
                (*missed, *alarms),
            )
        )
    return Grade(tuple(kinds))


def _planted(
    kind: str, seeds: tuple[int, int, int], *, is_leak: bool
) -> Iterator[Subject | PlantedFill]:
    seed, number, n_variants = seeds
    for variant in range(n_variants):
        rng = np.random.default_rng([seed, number, variant])
        yield plant(kind, is_leak=is_leak, rng=rng)


def _judged(
    check: Checker,
    one: Subject | PlantedFill,
    market: Market,
    plans: list[Replay],
    rng: np.random.Generator,
) -> LeakVerdict:
    if isinstance(one, PlantedFill):
        return check_fill(one, market.panel("1d"), rng=rng)
    return check(one, market, plans)
