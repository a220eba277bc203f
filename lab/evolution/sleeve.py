"""A genome as a sleeve: what the walk-forward, the leak lab and the ledger work with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from lab.arrays import FloatArray
from lab.errors import EvolutionError
from lab.evolution.expression import weights_of
from lab.evolution.genome import Genome, from_json
from lab.sleeves._base import Sleeve
from lab.sleeves.own_bars import OwnBars, Prices

PREFIX: Final = "ga-"


@dataclass(frozen=True)
class GenomeSleeve(Sleeve):
    """One genome with its fixed parameters: there is nothing to choose in train.

    Its `sleeve_id` is `ga-` and the first eight digits of the genome's id.

    Attributes
    ----------
    genome : Genome
        The rule.
    """

    genome: Genome

    def __post_init__(self) -> None:
        """Nothing to refuse: a genome is valid once it is there."""

    @property
    def sleeve_id(self) -> str:  # type: ignore[override]
        """Name in every table."""
        return f"{PREFIX}{self.genome.genome_id[:8]}"

    @property
    def parameters(self) -> dict[str, Any]:
        """The genome as JSON's types."""
        return self.genome.to_json()

    def positions(self, panel: Prices) -> FloatArray:
        """Return target weights, see `Sleeve.positions`."""
        return weights_of(self.genome, OwnBars.of(panel))

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the sleeve of a genome in JSON's types.

        Raises
        ------
        EvolutionError
            If it is no genome.
        """
        return cls(from_json(parameters))

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """Return nothing: genomes are bred, not listed."""
        return ()


def sleeve_from(configuration: str) -> GenomeSleeve:
    """Return the sleeve of a configuration as in `sleeves` and `trials`.

    Parameters
    ----------
    configuration : str
        Canonical JSON, see `Sleeve.configuration`.

    Raises
    ------
    EvolutionError
        If it is no genome's, or its name is another genome's.
    """
    try:
        content = json.loads(configuration)
    except ValueError as error:
        raise EvolutionError(f"configuration: no JSON: {error}") from error
    if not isinstance(content, Mapping) or set(content) != {"sleeve", "parameters"}:
        raise EvolutionError("configuration: an object with exactly sleeve, parameters")
    made = GenomeSleeve.from_parameters(content["parameters"])
    if made.sleeve_id != content["sleeve"]:
        raise EvolutionError(
            f"configuration: sleeve {content['sleeve']!r} has the genome of "
            f"{made.sleeve_id}"
        )
    return made


def is_genome(configuration: str) -> bool:
    """Return whether a configuration's sleeve is named as a genome's."""
    return f'"sleeve":"{PREFIX}' in configuration
