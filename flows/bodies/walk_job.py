"""A walk-forward as a job: its name, its units of work, and what each leaves behind.

The job's name is the hash of everything that its numbers depend on, so the same request
on the same data is the same job: a run that was killed is gone on with by asking again.
A unit is one sleeve, all windows of it: they share one pass over the sleeve's variants,
so a part of them would cost as much as all. The last of its tables is `wf_snapshots`;
once a sleeve has rows there, it is finished and is not worked on again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.candidates import Candidate
from flows.bodies.market_panel import append_trials, content_hash
from flows.runs import Run
from lab.backtest.causality import require_causal
from lab.backtest.panel import AlignedPanel
from lab.backtest.walk_frames import walk_frames
from lab.backtest.walkforward import (
    SleeveWalk,
    Tradable,
    WalkForwardPlan,
    calendar_of,
    cut_windows,
    walk_forward,
)
from lab.errors import SleeveError
from lab.lifecycle.stages import LOCKED
from lab.sleeves._faults import Fault, attempt

FLOW: Final = "walk-forward"
ORIGIN: Final = "walkforward"
_CODE: Final = ("lab.backtest", "lab.sleeves", "lab.evolution")

Baseline = Mapping[tuple[int, float], float]
Shared = tuple[AlignedPanel, WalkForwardPlan]


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be walked forward.

    Attributes
    ----------
    run_id : str
        Its name, on every row.
    family : str
        Family of its trials.
    panel : AlignedPanel
        Bars, forecasts and surprises.
    plan : WalkForwardPlan
        How.
    candidates : tuple of Candidate
        Who, the baseline first.
    """

    run_id: str
    family: str
    panel: AlignedPanel
    plan: WalkForwardPlan
    candidates: tuple[Candidate, ...]


def make_job(
    panel: AlignedPanel, plan: WalkForwardPlan, candidates: Sequence[Candidate]
) -> Job:
    """Return the job of walking these candidates forward.

    Raises
    ------
    BacktestError
        If the panel is too short for the plan.
    """
    content = {
        "panel": content_hash(panel),
        "plan": asdict(plan),
        "sleeves": [[v.configuration for v in one.variants] for one in candidates],
        "code": _code_hash(),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    family = calendar_of(panel, cut_windows(panel, plan)).family
    return Job(f"{FLOW}-{digest[:16]}", family, panel, plan, tuple(candidates))


@dataclass(frozen=True, slots=True)
class Broken:
    """A sleeve that could not be walked.

    Attributes
    ----------
    sleeve_id : str
        Which.
    reason : str
        One line.
    """

    sleeve_id: str
    reason: str


def walk_unit(shared: Shared, variants: tuple[Tradable, ...]) -> SleeveWalk | Broken:
    """Walk one sleeve forward: what other processes are asked to do.

    Whatever is wrong with the sleeve is its result, so that it stops no other's.
    """
    panel, plan = shared
    name = variants[0].sleeve_id

    def walk() -> SleeveWalk:
        walked = walk_forward(panel, variants, plan)
        require_causal(variants[0], panel)
        return walked

    found = attempt(walk)
    if isinstance(found, Fault):
        return Broken(name, found.reason.removeprefix(f"{name}: "))
    return found


def require_walked(found: SleeveWalk | Broken) -> SleeveWalk:
    """Return the walk of a sleeve that there is no going on without.

    Raises
    ------
    SleeveError
        If it could not be walked.
    """
    if isinstance(found, Broken):
        raise SleeveError(f"{found.sleeve_id}: {found.reason}")
    return found


def finished(run: Run, job: Job) -> set[str]:
    """Return the sleeves that an earlier attempt has finished."""
    rows = run.workplace.lake.read(
        "wf_snapshots",
        columns=["sleeve_id"],
        filter=pc.field("run_id") == job.run_id,
    )
    return set(pc.unique(rows["sleeve_id"]).to_pylist())


def keep_walk(run: Run, job: Job, walk: SleeveWalk, baseline: Baseline) -> None:
    """Write what a sleeve's walk found, each table exactly once."""
    calendar = walk.calendar
    n_new = append_trials(
        run,
        walk.trials,
        family=calendar.family,
        origin=ORIGIN,
        days=calendar.ledger_days,
        run_id=job.run_id,
    )
    run.count("trials", n_new)
    returns, snapshots = walk_frames(
        walk, job.panel, run_id=job.run_id, baseline=baseline
    )
    for table, rows in (("sleeve_returns", returns), ("wf_snapshots", snapshots)):
        run.append(table, rows, window=f"{FLOW}/{table}/{job.run_id}/{walk.sleeve_id}")


def stored_baseline(run: Run, job: Job) -> Baseline:
    """Return the baseline's Sharpe by window and slippage, as it was written."""
    rows = run.workplace.lake.read(
        "wf_snapshots",
        columns=["window", "slippage_bps", "sharpe"],
        filter=(pc.field("run_id") == job.run_id) & (pc.field("sleeve_id") == LOCKED),
    )
    return baseline_of(rows)


def baseline_of(snapshots: pa.Table) -> Baseline:
    """Return the Sharpe by window and slippage of one sleeve's snapshots."""
    return {
        (row["window"], row["slippage_bps"]): row["sharpe"]
        for row in snapshots.to_pylist()
        if row["sharpe"] is not None
    }


def _code_hash() -> str:
    # Of the code that the numbers come from: another engine is another job.
    digest = hashlib.sha256()
    for package in _CODE:
        for file in sorted(files(package).iterdir(), key=lambda one: one.name):
            if file.name.endswith(".py"):
                digest.update(file.name.encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()
