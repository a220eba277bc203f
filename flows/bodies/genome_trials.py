"""Genomes as trials of a family: evaluated where there is room, entered as they come.

A bred sleeve was chosen from all genomes of its search. On days that its search did not
end with, another family counts: before anything is judged there, those genomes are
tried on it too, or next month's ledger would know the chosen one alone.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow.compute as pc

from flows.bodies.market_panel import append_trials
from flows.parallel import map_tasks
from flows.progress import track
from flows.runs import Run
from lab.arrays import FloatArray
from lab.backtest.ledger import Trial
from lab.backtest.panel import AlignedPanel
from lab.backtest.windows import WalkForwardPlan
from lab.evolution.fitness import OutOfSample, trial_configuration
from lab.evolution.genome import Genome, from_text

ORIGIN: Final = "evolution"

TASK: Final = 10
"""Genomes evaluated and entered in the ledger together."""

WORTH_PROCESSES: Final = 10_000_000
"""Cells of genomes times panel below which starting processes takes longer."""


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Evaluates genomes and enters every series in the ledger as it comes.

    Attributes
    ----------
    run : Run
        Where to write; its name goes on the rows.
    ground : OutOfSample
        The panel and its windows.
    ray : str or None
        Address of a Ray cluster that evaluates.
    workers : int or None
        Processes of this machine that evaluate; where it is worth it, one a core.
    """

    run: Run
    ground: OutOfSample
    ray: str | None
    workers: int | None

    def __call__(self, genomes: Sequence[Genome]) -> FloatArray:
        """Return daily net returns, shape (n_genomes, n_ledger_days)."""
        calendar, plan = self.ground.calendar, self.ground.plan
        tasks = [genomes[k : k + TASK] for k in range(0, len(genomes), TASK)]
        ray, workers = self.ray, self.workers
        is_small = len(genomes) * self.ground.allowed.size < WORTH_PROCESSES
        # One task alone, such as the few places left open, is soonest done here.
        if len(tasks) == 1 or (ray is None and workers is None and is_small):
            ray, workers = None, 1
        found = np.zeros((len(genomes), calendar.n_ledger))
        results = map_tasks(
            _series, tasks, common=self.ground, ray=ray, workers=workers
        )
        for number, series in track(results, "genomes", total=len(tasks)):
            found[number * TASK : number * TASK + len(series)] = series
            configurations = [trial_configuration(one, plan) for one in tasks[number]]
            fresh = append_trials(
                self.run,
                [Trial(*one) for one in zip(configurations, series, strict=True)],
                family=calendar.family,
                origin=ORIGIN,
                days=calendar.ledger_days,
                run_id=self.run.run_id,
            )
            self.run.count("trials", fresh)
        return found


def enter_earlier_genomes(
    run: Run,
    panel: AlignedPanel,
    plan: WalkForwardPlan,
    *,
    ray: str | None = None,
    workers: int | None = None,
) -> int:
    """Try every genome of earlier searches on a panel's family, once.

    Parameters
    ----------
    run : Run
        Where to read and write; its name goes on the rows.
    panel : AlignedPanel
        Bars.
    plan : WalkForwardPlan
        The family's windows and fill.
    ray, workers
        As in `Evaluator`.

    Returns
    -------
    int
        How many the family did not have.

    Notes
    -----
    Point in time: genomes that were bred by the run's clock, on bars of the panel.
    """
    rows = run.read(
        "genomes",
        columns=["genome_id", "configuration"],
        filter=pc.field("timeframe") == panel.timeframe,
    ).to_pylist()
    genomes = {row["genome_id"]: row["configuration"] for row in rows}
    if not genomes:
        return 0
    ground = OutOfSample.of(panel, plan)
    known = _tried(run, ground.calendar.family)
    earlier = [from_text(genomes[name]) for name in sorted(genomes)]
    fresh = [one for one in earlier if trial_configuration(one, plan) not in known]
    if fresh:
        Evaluator(run, ground, ray, workers)(fresh)
    return len(fresh)


def _tried(run: Run, family: str) -> Collection[str]:
    rows = run.workplace.lake.read(
        "trials", columns=["configuration"], filter=pc.field("family") == family
    )
    return set(rows["configuration"].to_pylist())


def _series(ground: OutOfSample, genomes: Sequence[Genome]) -> FloatArray:
    return ground.series(genomes)
