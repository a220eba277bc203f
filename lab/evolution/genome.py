"""A genome: signals, filters, sizing and universe, each a typed part.

A genome and its JSON are each other exactly; two genomes of equal content are equal,
whatever the order in which their signals and filters were written.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.errors import EvolutionError
from lab.evolution.alphabet import COUNTS, ROLES, Value


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """One kind with its parameters.

    Attributes
    ----------
    kind : str
        A kind that its role declares in `lab.evolution.alphabet`.
    parameters : tuple of (str, value)
        Every declared parameter, in alphabetical order.
    """

    kind: str
    parameters: tuple[tuple[str, Value], ...] = ()

    def __getitem__(self, name: str) -> Any:
        """Return one parameter; KeyError when there is none."""
        return dict(self.parameters)[name]

    def with_value(self, name: str, value: Value) -> "Part":
        """Return the part with one parameter changed."""
        return make_part(self.kind, {**dict(self.parameters), name: value})

    def to_json(self) -> dict[str, Any]:
        """Return the part as JSON's types."""
        return {"kind": self.kind, "parameters": dict(self.parameters)}


def make_part(kind: str, parameters: Mapping[str, Value]) -> Part:
    """Return a part with its parameters in canonical order."""
    return Part(kind, tuple(sorted(parameters.items())))


@dataclass(frozen=True, slots=True)
class Genome:
    """A whole rule, as breeding sees it.

    Attributes
    ----------
    signals : tuple of Part
        One to three, sorted; summed with their weights.
    filters : tuple of Part
        None to two of different kinds, sorted; all must let a position through.
    sizing, universe : Part
        How much, and of what.

    Raises
    ------
    EvolutionError
        If a part is of an unknown kind, has another parameter, or one outside its
        range: one line, where and what is allowed.
    """

    signals: tuple[Part, ...]
    filters: tuple[Part, ...]
    sizing: Part
    universe: Part

    def __post_init__(self) -> None:
        """Sort what has no order, and refuse what is not declared."""
        for role in ROLES:
            parts = self.parts(role)
            low, high = COUNTS[role]
            if not low <= len(parts) <= high:
                raise EvolutionError(
                    f"genome: {len(parts)} {role}: between {low} and {high}"
                )
            checked = tuple(sorted((_checked(role, one) for one in parts), key=_order))
            is_single = isinstance(getattr(self, role), Part)
            object.__setattr__(self, role, checked[0] if is_single else checked)
        kinds = [part.kind for part in self.filters]
        if len(set(kinds)) < len(kinds):
            raise EvolutionError(f"genome: filters {', '.join(kinds)}: one of a kind")
        if len(set(self.signals)) < len(self.signals):
            raise EvolutionError("genome: signals: two are the same")

    def parts(self, role: str) -> tuple[Part, ...]:
        """Return the parts of a role, one or more."""
        held = getattr(self, role)
        return (held,) if isinstance(held, Part) else held

    def with_parts(self, role: str, parts: tuple[Part, ...]) -> "Genome":
        """Return the genome with other parts in one role.

        Raises
        ------
        EvolutionError
            If they are too many or too few for the role.
        """
        held = {name: self.parts(name) for name in ROLES} | {role: parts}
        return from_parts(held)

    def to_json(self) -> dict[str, Any]:
        """Return the genome as JSON's types."""
        return {
            "signals": [part.to_json() for part in self.signals],
            "filters": [part.to_json() for part in self.filters],
            "sizing": self.sizing.to_json(),
            "universe": self.universe.to_json(),
        }

    @property
    def text(self) -> str:
        """Canonical JSON: keys sorted, no spaces."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))

    @property
    def genome_id(self) -> str:
        """SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def from_parts(parts: Mapping[str, tuple[Part, ...]]) -> Genome:
    """Return the genome of the parts by role.

    Raises
    ------
    EvolutionError
        If a part, or their number, is not allowed.
    """
    for role in ("sizing", "universe"):
        if len(parts[role]) != 1:
            raise EvolutionError(f"genome: {len(parts[role])} {role}: exactly 1")
    return Genome(
        signals=parts["signals"],
        filters=parts["filters"],
        sizing=parts["sizing"][0],
        universe=parts["universe"][0],
    )


def from_json(content: object) -> Genome:
    """Return the genome that JSON's types describe.

    Parameters
    ----------
    content : object
        What `json.loads` made of a genome's text, or `Genome.to_json()`.

    Raises
    ------
    EvolutionError
        If it is no genome: one line, where and what is allowed.
    """
    if not isinstance(content, Mapping) or set(content) != set(ROLES):
        raise EvolutionError(f"genome: an object with exactly {', '.join(ROLES)}")
    parts = {}
    for role in ROLES:
        held = content[role]
        if role in {"signals", "filters"}:
            if not isinstance(held, list | tuple):
                raise EvolutionError(f"genome: {role}: a list")
            parts[role] = tuple(_read_part(role, one) for one in held)
        else:
            parts[role] = (_read_part(role, held),)
    return from_parts(parts)


def from_text(text: str) -> Genome:
    """Return the genome of a JSON text.

    Raises
    ------
    EvolutionError
        If it is no JSON, or no genome.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise EvolutionError(f"genome: no JSON: {error}") from error
    return from_json(content)


def _read_part(role: str, content: object) -> Part:
    if not isinstance(content, Mapping) or set(content) != {"kind", "parameters"}:
        raise EvolutionError(f"genome: {role}: an object with exactly kind, parameters")
    kind, parameters = content["kind"], content["parameters"]
    if not isinstance(kind, str) or not isinstance(parameters, Mapping):
        raise EvolutionError(f"genome: {role}: kind is a name, parameters an object")
    return make_part(kind, parameters)


def _checked(role: str, part: Part) -> Part:
    # The part as it is written, numbers of the declared type: 1 and 1.0 are one genome.
    kinds = ROLES[role]
    if part.kind not in kinds:
        raise EvolutionError(f"genome: {role}: {part.kind}: one of {', '.join(kinds)}")
    declared, given = kinds[part.kind], dict(part.parameters)
    where = f"genome: {role}: {part.kind}"
    if set(declared) != set(given):
        needed = ", ".join(sorted(declared)) or "none"
        raise EvolutionError(
            f"{where}: parameters {', '.join(sorted(given)) or 'none'}: exactly {needed}"
        )
    for name, one in declared.items():
        if (fault := one.fault(given[name])) is not None:
            raise EvolutionError(f"{where}: {name} = {given[name]!r}: {fault}")
    typed = {name: one.typed(given[name]) for name, one in declared.items()}
    return make_part(part.kind, typed)


def _order(part: Part) -> str:
    return json.dumps(part.to_json(), sort_keys=True)
