"""Everything a search has evaluated: whom it may breed from, and what it may not repeat."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from lab.arrays import FloatArray
from lab.backtest.ledger import Trial, TrialMatrix
from lab.errors import EvolutionError
from lab.evolution.diversity import distinct, likeness, standardised
from lab.evolution.fitness import OutOfSample, fitness_of, trial_configuration
from lab.evolution.genome import Genome

Evaluator: TypeAlias = Callable[[Sequence[Genome]], FloatArray]
"""From genomes to their series, shape (n_genomes, n_ledger_days)."""


@dataclass(slots=True)
class Pool:
    """Genomes and what they earned, by genome id.

    Attributes
    ----------
    ground : OutOfSample
        The panel and its windows.
    evaluate : callable
        Who evaluates.
    before : TrialMatrix or None
        The family's ledger.
    genomes : dict of str to Genome
        Everything evaluated or read from the ledger.
    returns, shapes : dict of str to ndarray of shape (n_days,), float64
        Daily net returns, and the same standardised.
    fitness : dict of str to float
        Of those that trade.
    """

    ground: OutOfSample
    evaluate: Evaluator
    before: TrialMatrix | None = None
    genomes: dict[str, Genome] = field(default_factory=dict)
    returns: dict[str, FloatArray] = field(default_factory=dict)
    shapes: dict[str, FloatArray] = field(default_factory=dict)
    fitness: dict[str, float] = field(default_factory=dict)
    _known: Mapping[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a ledger of other trials."""
        if self.before is None:
            return
        family = self.ground.calendar.family
        if self.before.family != family:
            raise EvolutionError(
                f"search: trials of family {self.before.family}, not {family}"
            )
        rows = zip(self.before.configurations, self.before.returns, strict=True)
        self._known = dict(rows)

    def admit(self, genomes: Iterable[Genome]) -> None:
        """Take genomes in, with the ledger's series where it has one."""
        wanted = {one.genome_id: one for one in genomes}
        plan = self.ground.plan
        texts = {name: trial_configuration(one, plan) for name, one in wanted.items()}
        fresh = [name for name in wanted if texts[name] not in self._known]
        made = list(self.evaluate([wanted[name] for name in fresh])) if fresh else []
        series = dict(zip(fresh, made, strict=True))
        for name, one in wanted.items():
            found = series[name] if name in series else self._known[texts[name]]
            self.genomes[name], self.returns[name] = one, found
            self.shapes[name] = standardised(found)
            fitness = fitness_of(found)
            if fitness is not None:
                self.fitness[name] = fitness

    def survivors(self, count: int) -> list[str]:
        """Return the fittest, none like a fitter one, fittest first."""
        names = sorted(self.fitness, key=lambda name: (-self.fitness[name], name))
        if not names:
            return []
        shapes = np.stack([self.shapes[name] for name in names])
        rows = distinct(np.arange(len(names)), shapes, count=count)
        return [names[row] for row in rows]

    def novelty(self, name: str, living: Sequence[str]) -> float:
        """Return how new one is among others, see `likeness`."""
        others = [self.shapes[one] for one in living if one != name]
        return likeness(self.shapes[name], others).novelty

    def trial(self, name: str) -> Trial:
        """Return a genome's trial for the ledger."""
        text = trial_configuration(self.genomes[name], self.ground.plan)
        return Trial(text, self.returns[name])

    def matrix(self, trials: Sequence[Trial]) -> TrialMatrix:
        """Return the whole family: the ledger before and these trials."""
        earlier = [Trial(text, returns) for text, returns in self._known.items()]
        family = self.ground.calendar.family
        return TrialMatrix.from_trials([*earlier, *trials], family=family)
