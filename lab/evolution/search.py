"""One search: breed, evaluate, refuse copies, keep the fittest, judge the best.

Rules:

- A generation fills `population` places with genomes that nobody has tried. A child
  that never trades, or correlates too much with a kept genome, leaves its place open
  and another is bred, `ROUNDS` times at most.
- Survivors are the fittest of everything evaluated, none like a fitter one: the best
  are never lost. Parents are the top quarter of them; the more novel of these breed
  more often. Every tenth place is for a genome without parents.
- Everything evaluated is a trial, refused or not. The best quarter of the survivors is
  judged by the three gates over the whole family: the ledger's trials and this search's.
- Each place of each round has a random stream of its own, so the outcome depends on the
  generator's first draw alone, not on who evaluates, in which order or how often the
  search was begun.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from lab.arrays import FloatArray, TimeArray
from lab.backtest.engine import Fill
from lab.backtest.ledger import Trial, TrialMatrix
from lab.backtest.panel import AlignedPanel
from lab.backtest.windows import WalkForwardPlan
from lab.errors import EvolutionError
from lab.evolution.alphabet import Scope
from lab.evolution.breeding import Bred, breed
from lab.evolution.diversity import MAX_CORRELATION, Likeness, likeness
from lab.evolution.fitness import OutOfSample
from lab.evolution.genome import Genome
from lab.evolution.pool import Evaluator, Pool
from lab.evolution.sleeve import GenomeSleeve
from lab.validation.gates import GateRules, GateVerdict, judge, weigh_family

ROUNDS: Final = 5
"""How often a generation's open places are bred for."""

BEST: Final = 4
"""One in so many survivors breeds, one in so many of the population is judged."""

IMMIGRANTS: Final = 10
"""Every so many places one is for a genome without parents."""


@dataclass(frozen=True, slots=True)
class Descent:
    """Where an evaluated genome is from and what became of it.

    Attributes
    ----------
    genome : Genome
        Which.
    generation : int
        From 1; 0 for one inherited from an earlier span.
    operator : str
        `random`, `inherited`, or how it was bred.
    parents : tuple of str
        Genome ids.
    fitness : float or None
        Daily out-of-sample net Sharpe ratio at 10 bps; None if it never trades.
    novelty, max_correlation : float or None
        See `Likeness`, against those kept before it; None if it was not compared.
    is_kept : bool
        Whether it took a place.
    is_candidate : bool
        Whether it passed every gate.
    why : str
        Of both, in words.
    """

    genome: Genome
    generation: int
    operator: str
    parents: tuple[str, ...]
    fitness: float | None
    novelty: float | None
    max_correlation: float | None
    is_kept: bool
    is_candidate: bool
    why: str


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    family : str
        Whose trials its trials are.
    days : ndarray of shape (n_days,), datetime64[us]
        The family's calendar.
    trials : tuple of Trial
        Of every genome evaluated, in order.
    genealogy : tuple of Descent
        In the same order.
    matrix : TrialMatrix
        The whole family: trials before and these.
    finalists : tuple of GenomeSleeve
        Who was judged, fittest first.
    verdicts : tuple of GateVerdict
        Three a finalist.
    candidates : tuple of GenomeSleeve
        Finalists that passed every gate.
    """

    family: str
    days: TimeArray
    trials: tuple[Trial, ...]
    genealogy: tuple[Descent, ...]
    matrix: TrialMatrix
    finalists: tuple[GenomeSleeve, ...]
    verdicts: tuple[GateVerdict, ...]
    candidates: tuple[GenomeSleeve, ...]


def search(
    panel: AlignedPanel,
    plan: WalkForwardPlan,
    *,
    population: int = 20,
    generations: int = 1,
    rng: np.random.Generator,
    trials_before: TrialMatrix | None = None,
    stock: Sequence[Genome] = (),
    inherited: Sequence[Genome] = (),
    baseline: FloatArray | None = None,
    rules: GateRules | None = None,
    evaluate: Evaluator | None = None,
) -> SearchResult:
    """Breed genomes and judge the best by everything that was ever tried.

    Parameters
    ----------
    panel : AlignedPanel
        Bars.
    plan : WalkForwardPlan
        The family's windows and fill.
    population : int, default 20
        Places of a generation, and survivors at most.
    generations : int, default 1
        How many.
    rng : numpy.random.Generator
        Asked once, for the root of all streams.
    trials_before : TrialMatrix, optional
        The family's ledger. What is in it is not evaluated again.
    stock : sequence of Genome, optional
        Earlier genomes of the same family: they compete and are not bred again.
    inherited : sequence of Genome, optional
        Earlier genomes of another span: they are evaluated on this one first, all of
        them, for they were choices of the search that ends in these.
    baseline : ndarray of shape (n_days,), float64, optional
        The locked baseline's returns, for the Reality Check's second p-value.
    rules : GateRules, optional
        Thresholds of the gates.
    evaluate : callable, optional
        Who evaluates; this process if not given.

    Returns
    -------
    SearchResult

    Raises
    ------
    EvolutionError
        If a count makes no sense, or the trials are of another family.
    BacktestError
        If the panel is too short for a window.

    Notes
    -----
    Point in time: genomes see rows up to their decision; the search sees all of the
    out-of-sample span, which is what the gates correct for.

    References
    ----------
    .. [1] Goldberg (1989), Genetic Algorithms in Search, Optimization and Machine
       Learning.
    .. [2] Bailey & López de Prado (2014), The Deflated Sharpe Ratio, J. of Portfolio
       Management 40(5): all trials count.
    """
    if population < 4 or generations < 1:
        raise EvolutionError(
            f"search: population {population}, generations {generations}: "
            "at least 4 and 1"
        )
    ground = OutOfSample.of(panel, plan)
    pool = Pool(ground, evaluate or ground.series, trials_before)
    nursery = _Nursery(pool, Scope.of(panel), population, int(rng.integers(2**63)))
    pool.admit(stock)
    nursery.inherit(inherited)
    for generation in range(1, generations + 1):
        nursery.fill(generation)
    return _judged(nursery, rules or GateRules(), baseline)


@dataclass(slots=True)
class _Nursery:
    # Fills generations and keeps the family tree.

    pool: Pool
    scope: Scope
    population: int
    root: int
    descents: list[Descent] = field(default_factory=list)

    def inherit(self, genomes: Sequence[Genome]) -> None:
        self.pool.admit(genomes)
        for genome in genomes:
            self._note(Bred(genome, "inherited"), 0, None, "evaluated on this span")

    def fill(self, generation: int) -> None:
        living = self.pool.survivors(self.population)
        # Two parents at least, or crossover has nobody to cross with.
        parents = living[: max(2, -(-len(living) // BEST))]
        appeal = np.array([max(self.pool.novelty(p, living), 1e-3) for p in parents])
        kept, places = list(living), list(range(self.population))
        for turn in range(ROUNDS):
            tried, bred = set(self.pool.genomes), {}
            for place in places:
                is_free = place % IMMIGRANTS == IMMIGRANTS - 1
                bred[place] = breed(
                    [] if is_free else [self.pool.genomes[name] for name in parents],
                    appeal,
                    np.random.default_rng((self.root, generation, turn, place)),
                    scope=self.scope,
                    tried=tried,
                )
                tried.add(bred[place].genome.genome_id)
            self.pool.admit([child.genome for child in bred.values()])
            is_placed = {
                place: self._settle(child, generation, kept)
                for place, child in bred.items()
            }
            places = [place for place in places if not is_placed[place]]

    def _settle(self, child: Bred, generation: int, kept: list[str]) -> bool:
        # Give a child a place, or say why not.
        name, shapes = child.genome.genome_id, self.pool.shapes
        if name not in self.pool.fitness:
            self._note(child, generation, None, "kept")
            return False
        found = likeness(shapes[name], [shapes[one] for one in kept])
        if found.max_correlation <= MAX_CORRELATION:
            kept.append(name)
            self._note(child, generation, found, "kept")
            return True
        twin = GenomeSleeve(self.pool.genomes[kept[found.nearest]]).sleeve_id
        why = f"correlates {found.max_correlation:.2f} with {twin}"
        self._note(child, generation, found, why)
        return False

    def _note(
        self, child: Bred, generation: int, found: Likeness | None, why: str
    ) -> None:
        fitness = self.pool.fitness.get(child.genome.genome_id)
        self.descents.append(
            Descent(
                genome=child.genome,
                generation=generation,
                operator=child.operator,
                parents=child.parents,
                fitness=fitness,
                novelty=None if found is None else found.novelty,
                max_correlation=None if found is None else found.max_correlation,
                is_kept=found is not None and why == "kept",
                is_candidate=False,
                why="never trades" if fitness is None else why,
            )
        )


def _judged(
    nursery: _Nursery, rules: GateRules, baseline: FloatArray | None
) -> SearchResult:
    # The best quarter, by the whole family.
    pool, calendar = nursery.pool, nursery.pool.ground.calendar
    trials = tuple(pool.trial(one.genome.genome_id) for one in nursery.descents)
    matrix = pool.matrix(trials)
    best = pool.survivors(-(-nursery.population // BEST))
    verdicts: dict[str, tuple[GateVerdict, ...]] = {}
    if best:
        evidence = weigh_family(matrix, rules, baseline=baseline)
        for name in best:
            verdicts[name] = judge(
                GenomeSleeve(pool.genomes[name]).sleeve_id,
                pool.returns[name],
                evidence,
                fill=Fill(pool.ground.plan.fill),
                days=calendar.ledger_days,
            )
    passed = {
        name: all(one.is_passed for one in found) for name, found in verdicts.items()
    }
    return SearchResult(
        family=calendar.family,
        days=calendar.ledger_days,
        trials=trials,
        genealogy=tuple(_told(one, verdicts) for one in nursery.descents),
        matrix=matrix,
        finalists=tuple(GenomeSleeve(pool.genomes[name]) for name in best),
        verdicts=tuple(one for found in verdicts.values() for one in found),
        candidates=tuple(
            GenomeSleeve(pool.genomes[name]) for name in best if passed[name]
        ),
    )


def _told(one: Descent, verdicts: dict[str, tuple[GateVerdict, ...]]) -> Descent:
    # With what the gates said.
    found = verdicts.get(one.genome.genome_id)
    if found is None:
        return one
    failed = ", ".join(verdict.gate for verdict in found if not verdict.is_passed)
    said = f"{failed} not passed" if failed else "every gate passed"
    return replace(one, is_candidate=not failed, why=f"{one.why}; judged: {said}")
