"""One cycle of evolution: breed genomes, enter all in the ledger, register what passes.

A cycle is a job, named by what it is made of (panel, plan, counts, seed): repeating it
does nothing, and doing it again after a kill goes on where it ended. Series are entered
in the ledger as they come; a search that is begun again finds them there and takes the
same course. The rows of `genomes` come last: they say that the cycle is whole.

Genomes of earlier cycles compete with new ones. Where the family's span has moved on
since, all of them are evaluated on the new one first: the best were chosen on days
that are still in the span, so all that they were chosen from must count.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.genome_trials import ORIGIN, Evaluator
from flows.bodies.market_panel import open_panel
from flows.bodies.sleeve_registry import NewSleeve, register_sleeves
from flows.bodies.walk_job import make_job
from flows.progress import plural
from flows.runs import Run
from lab.arrays import FloatArray
from lab.backtest.ledger import TrialMatrix, trial_id
from lab.backtest.panel import AlignedPanel
from lab.backtest.walkforward import stitched_configuration
from lab.backtest.windows import WalkForwardPlan
from lab.evaluation.decisions import record_decision
from lab.evolution.fitness import OutOfSample, trial_configuration
from lab.evolution.genome import Genome, from_text
from lab.evolution.search import SearchResult, search
from lab.evolution.sleeve import GenomeSleeve
from lab.sleeves.phase37 import Phase37
from lab.validation.gates import GateRules, GateVerdict, verdict_table
from lakehouse.schema.research import GENOMES

VERSION: Final = "1"
"""Of the search: another one makes another job of the same inputs."""


@dataclass(frozen=True, slots=True)
class _Cycle:
    # What is searched, and what is known before.
    job: str
    number: int
    panel: AlignedPanel
    plan: WalkForwardPlan
    rules: GateRules
    trials: TrialMatrix | None
    stock: tuple[Genome, ...]
    inherited: tuple[Genome, ...]
    is_done: bool


def run_evolve(
    run: Run,
    *,
    timeframe: str = "1d",
    as_of: str | None = None,
    years: float = 8,
    population: int = 20,
    generations: int = 1,
    seed: int = 0,
    ray: str | None = None,
    workers: int | None = None,
) -> str:
    """Breed genomes; those that pass every gate over the whole search enter genesis.

    Counts `genomes`, `genomes_kept`, `trials`, `judged` and `candidates`.

    Parameters
    ----------
    run : Run
        Where to read and write; rows carry the job's name.
    timeframe : str
        `1h` or `1d`.
    as_of : str, optional
        Decision time; when the newest bar was known if not given.
    years : float
        How far back the first train span reaches.
    population, generations : int
        Genomes of a generation, and how many generations.
    seed : int
        Of the search; another one is another cycle.
    ray : str, optional
        Address of a Ray cluster that evaluates.
    workers : int, optional
        Processes of this machine that evaluate; where it is worth it, one a core.

    Raises
    ------
    InputError
        If `as_of` is no time, there are no bars, or no Ray cluster answers.
    EvolutionError
        If a count makes no sense.
    BacktestError
        If the panel is too short for a window.

    Notes
    -----
    Point in time: bars, releases and trials known by the run; see `search`.
    """
    panel = open_panel(run, timeframe=timeframe, as_of=as_of, years=years)
    plan = WalkForwardPlan(years=years)
    counts = {"population": population, "generations": generations, "seed": seed}
    cycle = _begin(run, panel, plan, counts)
    run.parameters |= {**counts, "years": years, "job": cycle.job}
    run.seeds |= {"evolution": seed, "gates": cycle.rules.seed}
    if cycle.is_done:
        run.run_id = cycle.job
        return f"{timeframe}: {cycle.job} was done already; another --seed is another"
    work = replace(run, run_id=cycle.job)
    ground = OutOfSample.of(panel, plan)
    result = search(
        panel,
        plan,
        population=population,
        generations=generations,
        rng=np.random.default_rng(seed),
        trials_before=cycle.trials,
        stock=cycle.stock,
        inherited=cycle.inherited,
        baseline=_baseline(cycle),
        rules=cycle.rules,
        evaluate=Evaluator(work, ground, ray, workers),
    )
    _keep(work, cycle, result, counts)
    run.run_id = cycle.job
    return _told(run, cycle, result)


def _begin(
    run: Run, panel: AlignedPanel, plan: WalkForwardPlan, counts: dict[str, int]
) -> _Cycle:
    rules = GateRules()
    # The walk-forward of nobody: panel, plan and the code that numbers come from.
    walk = make_job(panel, plan, ())
    content = [VERSION, walk.run_id, asdict(rules), counts]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    job, family = f"evolve-{digest[:16]}", walk.family
    rows = run.read(
        "genomes",
        columns=["genome_id", "family", "cycle", "configuration", "run_id"],
        filter=pc.field("timeframe") == panel.timeframe,
    ).to_pylist()
    earlier = sorted(
        (row for row in rows if row["run_id"] != job),
        key=lambda row: (row["cycle"], row["genome_id"]),
    )
    here = {row["genome_id"] for row in earlier if row["family"] == family}
    known = {row["genome_id"]: row["configuration"] for row in earlier}
    return _Cycle(
        job=job,
        number=1 + max((row["cycle"] for row in earlier), default=0),
        panel=panel,
        plan=plan,
        rules=rules,
        trials=_ledger(run, family),
        stock=tuple(from_text(known[name]) for name in known if name in here),
        inherited=tuple(from_text(known[name]) for name in known if name not in here),
        is_done=len(earlier) < len(rows),
    )


def _ledger(run: Run, family: str) -> TrialMatrix | None:
    in_family = pc.field("family") == family
    trials = run.read("trials", filter=in_family)
    if trials.num_rows == 0:
        return None
    return TrialMatrix.from_tables(trials, run.read("trial_returns", filter=in_family))


def _baseline(cycle: _Cycle) -> FloatArray | None:
    wanted = stitched_configuration([Phase37()], cycle.plan)
    if cycle.trials is None or wanted not in cycle.trials.configurations:
        return None
    found: FloatArray = cycle.trials.returns[cycle.trials.row_of(wanted)]
    return found


def _keep(
    run: Run, cycle: _Cycle, result: SearchResult, counts: dict[str, int]
) -> None:
    # Each is written once, whoever was killed in between; the genomes come last.
    verdicts = _named(result, cycle.job)
    decided = verdict_table(verdicts, decided_at=run.now, run_id=run.run_id)
    ids = decided["verdict_id"].to_pylist()
    windows = [f"{run.flow}/gate_verdicts/{one}" for one in ids]
    if ids:
        run.append("gate_verdicts", decided, window=windows)
    record = _record(run, cycle, result, verdicts, counts)
    window = f"{run.flow}/decision_records/{run.run_id}"
    run.append("decision_records", record, window=window)
    register_sleeves(
        run, [_entry(one, cycle, result, verdicts) for one in result.candidates]
    )
    rows = _genealogy(run, cycle, result)
    run.append("genomes", rows, window=f"{run.flow}/genomes/{run.run_id}")


def _named(result: SearchResult, job: str) -> list[GateVerdict]:
    # By the job too: a later one of equal numbers has verdicts of its own.
    return [
        replace(one, inputs={**one.inputs, "run_id": job}) for one in result.verdicts
    ]


def _entry(
    sleeve: GenomeSleeve,
    cycle: _Cycle,
    result: SearchResult,
    verdicts: Sequence[GateVerdict],
) -> NewSleeve:
    own = {
        one.gate: one.verdict_id for one in verdicts if one.subject == sleeve.sleeve_id
    }
    return NewSleeve(
        sleeve_id=sleeve.sleeve_id,
        configuration=sleeve.configuration,
        author=ORIGIN,
        why=f"passed every gate over {result.matrix.n_trials} trials of its family",
        evidence={
            "search": cycle.job,
            "family": result.family,
            "genome_id": sleeve.genome.genome_id,
            "n_trials": result.matrix.n_trials,
            "verdicts": own,
        },
    )


def _record(
    run: Run,
    cycle: _Cycle,
    result: SearchResult,
    verdicts: Sequence[GateVerdict],
    counts: dict[str, int],
) -> pa.Table:
    judged: dict[str, dict[str, Any]] = {}
    for one in verdicts:
        judged.setdefault(one.subject, {})[one.gate] = one.verdict_id
    chosen = [one.sleeve_id for one in result.candidates]
    failed = len(judged) - len(chosen)
    return record_decision(
        run_id=run.run_id,
        ts=run.now,
        agent_id=ORIGIN,
        model={
            "name": "genetic search, three gates",
            "version": VERSION,
            **counts,
            "rules": asdict(cycle.rules),
        },
        input_snapshot={
            "family": result.family,
            "cycle": cycle.number,
            "n_trials": result.matrix.n_trials,
            "genomes": len(result.genealogy),
            "verdicts": judged,
        },
        output={"candidates": chosen},
        rationale=(
            f"{plural(len(judged), 'genome')} of {len(result.genealogy)} judged by all "
            f"{result.matrix.n_trials} trials of the family: {failed} failed a gate, "
            f"{len(chosen)} enter genesis"
        ),
    )


def _genealogy(run: Run, cycle: _Cycle, result: SearchResult) -> pa.Table:
    now, rows = run.now, []
    for place, one in enumerate(result.genealogy):
        text = trial_configuration(one.genome, cycle.plan)
        rows.append(
            {
                "genome_id": one.genome.genome_id,
                "sleeve_id": GenomeSleeve(one.genome).sleeve_id,
                "family": result.family,
                "trial_id": trial_id(result.family, text),
                "timeframe": cycle.panel.timeframe,
                "cycle": cycle.number,
                "generation": one.generation,
                "place": place,
                "operator": one.operator,
                "parents": json.dumps(one.parents),
                "configuration": one.genome.text,
                "fitness": one.fitness,
                "novelty": one.novelty,
                "max_correlation": one.max_correlation,
                "is_kept": one.is_kept,
                "is_candidate": one.is_candidate,
                "why": one.why,
                "tried_at": now,
                "run_id": run.run_id,
            }
        )
    return pa.Table.from_pylist(rows, schema=GENOMES.to_arrow())


def _told(run: Run, cycle: _Cycle, result: SearchResult) -> str:
    bred = [one for one in result.genealogy if one.generation > 0]
    n_kept = sum(one.is_kept for one in bred)
    run.count("genomes", len(result.genealogy))
    run.count("genomes_kept", n_kept)
    run.count("judged", len(result.finalists))
    run.count("candidates", len(result.candidates))
    for sleeve in result.finalists:
        own = [one for one in result.verdicts if one.subject == sleeve.sleeve_id]
        passed = ", ".join(one.gate for one in own if one.is_passed) or "none"
        run.notes.append(f"{sleeve.sleeve_id}: gates passed: {passed}")
    return (
        f"{cycle.panel.timeframe}: cycle {cycle.number}: {plural(len(bred), 'genome')} "
        f"bred, {n_kept} kept; {len(result.candidates)} of the {len(result.finalists)} "
        f"fittest passed every gate over {result.matrix.n_trials} trials"
    )
