"""How genomes come about: drawn, crossed and mutated, every draw from a generator.

A child has a part of each role from either parent (uniform crossover), or is one
parent's copy; then it is mutated: a parameter is moved within its range, a part is
swapped for another, or a signal or filter is added or dropped.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lab.arrays import FloatArray
from lab.errors import EvolutionError
from lab.evolution.alphabet import COUNTS, ROLES, Scope
from lab.evolution.genome import Genome, Part, from_parts, make_part

CROSSED: Final = 0.7
"""Share of children of two parents."""

MUTATED: Final = 0.5
"""Share of crossed children that are mutated too; copies always are."""

_MUTATIONS: Final = {"jitter": 0.6, "swap": 0.25, "resize": 0.15}
_TRIES: Final = 50


@dataclass(frozen=True, slots=True)
class Bred:
    """A new genome and where it is from.

    Attributes
    ----------
    genome : Genome
        Not tried before.
    operator : str
        `random`, or what was done, such as `crossover+jitter`.
    parents : tuple of str
        Genome ids, none to two.
    """

    genome: Genome
    operator: str
    parents: tuple[str, ...] = ()


def random_genome(rng: np.random.Generator, scope: Scope) -> Genome:
    """Return a genome drawn from everything that a panel's scope has.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the draws.
    scope : Scope
        Of the panel.
    """
    parts = {}
    for role, (low, high) in COUNTS.items():
        count = int(rng.integers(low, high + 1))
        kinds = scope.kinds(role)
        # Signals may be of one kind with other parameters; nothing else may.
        chosen = rng.choice(len(kinds), size=count, replace=role == "signals")
        parts[role] = tuple(draw_part(role, kinds[int(k)], rng, scope) for k in chosen)
    return from_parts(_distinct(parts))


def draw_part(role: str, kind: str, rng: np.random.Generator, scope: Scope) -> Part:
    """Return a part of a kind with drawn parameters."""
    declared = scope.declared(role, kind)
    return make_part(kind, {name: one.draw(rng) for name, one in declared.items()})


def crossover(first: Genome, second: Genome, rng: np.random.Generator) -> Genome:
    """Return a child with each part from either parent, equally likely.

    Of the signals and filters of both, each is taken with probability one half: at
    least one signal, no more than a genome may have, and one filter of a kind.
    """
    parts = {}
    for role, (low, high) in COUNTS.items():
        pool = list(dict.fromkeys((*first.parts(role), *second.parts(role))))
        if low == high:
            both = (first.parts(role), second.parts(role))
            parts[role] = both[int(rng.integers(2))]
            continue
        order = rng.permutation(len(pool))
        is_taken = rng.random(len(pool)) < 0.5
        taken = [pool[k] for k in order if is_taken[k]] or [
            pool[k] for k in order[:low]
        ]
        if role == "filters":
            taken = list({part.kind: part for part in taken}.values())
        parts[role] = tuple(taken[:high])
    return from_parts(parts)


def mutate(
    genome: Genome, rng: np.random.Generator, scope: Scope
) -> tuple[Genome, str]:
    """Return a genome one step away, and the name of the step.

    Parameters
    ----------
    genome : Genome
        Where to start.
    rng : numpy.random.Generator
        Source of the draws.
    scope : Scope
        Of the panel: what can be swapped in.

    Returns
    -------
    genome : Genome
        Equal to the first only where a draw came to the same.
    operator : str
        `jitter`, `swap` or `resize`.
    """
    names = list(_MUTATIONS)
    operator = names[int(rng.choice(len(names), p=list(_MUTATIONS.values())))]
    step = {"jitter": _jitter, "swap": _swap, "resize": _resize}[operator]
    return step(genome, rng, scope), operator


def breed(
    parents: Sequence[Genome],
    appeal: FloatArray,
    rng: np.random.Generator,
    *,
    scope: Scope,
    tried: Collection[str],
) -> Bred:
    """Return a genome that was not tried before; of no parents, a random one.

    Parameters
    ----------
    parents : sequence of Genome
        Who may breed.
    appeal : ndarray of shape (n_parents,), float64
        How much more often than others each does; positive.
    rng : numpy.random.Generator
        Source of the draws.
    scope : Scope
        Of the panel.
    tried : collection of str
        Genome ids that may not come again.

    Raises
    ------
    EvolutionError
        If nothing new came in many tries.
    """
    for _ in range(_TRIES):
        bred = _child(parents, appeal, rng, scope) if parents else None
        found = bred or Bred(random_genome(rng, scope), "random")
        if found.genome.genome_id not in tried:
            return found
    for _ in range(_TRIES):
        genome = random_genome(rng, scope)
        if genome.genome_id not in tried:
            return Bred(genome, "random")
    raise EvolutionError(
        f"breeding: nothing new in {2 * _TRIES} tries beside {len(tried)} genomes"
    )


def _child(
    parents: Sequence[Genome],
    appeal: FloatArray,
    rng: np.random.Generator,
    scope: Scope,
) -> Bred:
    is_pair = len(parents) > 1 and rng.random() < CROSSED
    share = appeal / appeal.sum()
    chosen = rng.choice(len(parents), size=1 + is_pair, replace=False, p=share)
    names = tuple(parents[int(k)].genome_id for k in chosen)
    if not is_pair:
        child, operator = mutate(parents[int(chosen[0])], rng, scope)
        return Bred(child, operator, names)
    child = crossover(parents[int(chosen[0])], parents[int(chosen[1])], rng)
    if child.genome_id not in names and rng.random() >= MUTATED:
        return Bred(child, "crossover", names)
    child, operator = mutate(child, rng, scope)
    return Bred(child, f"crossover+{operator}", names)


def _jitter(genome: Genome, rng: np.random.Generator, scope: Scope) -> Genome:
    places = [
        (role, k, name)
        for role in ROLES
        for k, part in enumerate(genome.parts(role))
        for name, _ in part.parameters
    ]
    role, k, name = places[int(rng.integers(len(places)))]
    part = genome.parts(role)[k]
    declared = scope.declared(role, part.kind)[name]
    moved = part.with_value(name, declared.vary(part[name], rng))
    return _with(genome, role, k, moved)


def _swap(genome: Genome, rng: np.random.Generator, scope: Scope) -> Genome:
    places = [(role, k) for role in ROLES for k in range(len(genome.parts(role)))]
    role, k = places[int(rng.integers(len(places)))]
    held = {part.kind for part in genome.parts(role)}
    kinds = [kind for kind in scope.kinds(role) if kind not in held]
    if not kinds:
        return _jitter(genome, rng, scope)
    kind = kinds[int(rng.integers(len(kinds)))]
    return _with(genome, role, k, draw_part(role, kind, rng, scope))


def _resize(genome: Genome, rng: np.random.Generator, scope: Scope) -> Genome:
    role = ("signals", "filters")[int(rng.integers(2))]
    parts, (low, high) = genome.parts(role), COUNTS[role]
    is_adding = len(parts) == low or (len(parts) < high and rng.random() < 0.5)
    if not is_adding:
        dropped = int(rng.integers(len(parts)))
        return genome.with_parts(role, parts[:dropped] + parts[dropped + 1 :])
    held = {part.kind for part in parts} if role == "filters" else set()
    kinds = [kind for kind in scope.kinds(role) if kind not in held]
    kind = kinds[int(rng.integers(len(kinds)))]
    added = (*parts, draw_part(role, kind, rng, scope))
    return from_parts(
        _distinct({each: genome.parts(each) for each in ROLES} | {role: added})
    )


def _with(genome: Genome, role: str, place: int, part: Part) -> Genome:
    parts = list(genome.parts(role))
    parts[place] = part
    held = {each: genome.parts(each) for each in ROLES}
    return from_parts(_distinct(held | {role: tuple(parts)}))


def _distinct(parts: dict[str, tuple[Part, ...]]) -> dict[str, tuple[Part, ...]]:
    # A signal that was drawn twice stays once.
    return parts | {"signals": tuple(dict.fromkeys(parts["signals"]))}
