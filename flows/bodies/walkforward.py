"""Walk every sleeve forward, judge it by the gates, and say what got worse."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.candidates import find_candidates
from flows.bodies.degradation import compare_with_previous
from flows.bodies.gates import Judged, Verdicts, decide_sleeve_gates
from flows.bodies.genome_trials import enter_earlier_genomes
from flows.bodies.market_panel import open_panel
from flows.bodies.sleeve_registry import NewSleeve, register_sleeves
from flows.bodies.walk_job import (
    Broken,
    Job,
    finished,
    keep_walk,
    make_job,
    require_walked,
    stored_baseline,
    walk_unit,
)
from flows.parallel import map_tasks
from flows.progress import plural, track
from flows.runs import Run
from lab.backtest.ledger import LEDGER_BPS
from lab.backtest.walk_frames import sharpes_of, walk_frames
from lab.backtest.walkforward import WalkForwardPlan, cut_windows
from lab.errors import SleeveError
from lab.evolution.sleeve import is_genome
from lab.lifecycle.gather import STRESSED_BPS
from lab.lifecycle.stages import LOCKED
from lakehouse.errors import InputError


def run_walkforward(
    run: Run,
    *,
    sleeves: list[str] | None = None,
    timeframe: str = "1d",
    as_of: str | None = None,
    years: float = 8,
    train_days: int = 180,
    test_days: int = 30,
    slippage: str = "0,5,10,20",
    ray: str | None = None,
    workers: int | None = None,
) -> str:
    """Walk the baseline and every candidate forward, then judge them.

    The run takes the name of its job once all is written, so readers of completed runs
    never see half of one. Asking again goes on where a killed attempt ended.

    Parameters
    ----------
    run : Run
        Where to read and write.
    sleeves : list of str, optional
        Only these beside the baseline; else the catalogue and every stored genome.
    timeframe : str
        `1h` or `1d`.
    as_of : str, optional
        Decision time; when the newest bar was known if not given.
    years : float
        How far back the first train span may reach.
    train_days, test_days : int, calendar days
        Lengths of the spans.
    slippage : str
        Rungs of the cost ladder in basis points, separated by commas.
    ray : str, optional
        Address of a Ray cluster, or `local`.
    workers : int, optional
        Processes of this machine; one a core if not given.

    Raises
    ------
    InputError
        If an argument is no time, number or sleeve, or there are no bars.
    BacktestError
        If the bars are too few for one window.
    SleeveError
        If the locked baseline breaks, or every other sleeve: any other that breaks is
        left out, counted and told.

    Notes
    -----
    Point in time: bars, forecasts and releases known by the decision time.
    """
    plan = _plan(years, train_days, test_days, slippage)
    panel = open_panel(run, timeframe=timeframe, as_of=as_of, years=years)
    candidates = find_candidates(run, panel, names=sleeves)
    job = make_job(panel, plan, candidates)
    is_standard = _is_standard(run, job, is_whole=sleeves is None)
    run.parameters |= _described(job) | {"slippage": slippage}
    run.parameters |= {"is_standard": is_standard}
    if _is_completed(run, job):
        run.run_id = job.run_id
        return f"{timeframe}: complete already, nothing was left to do"
    job = _work(run, job, ray=ray, workers=workers)
    run.parameters |= _described(job)
    _register(run, job)
    _judge(run, job)
    run.notes += compare_with_previous(run, job)
    if not is_standard:
        run.notes.append(
            "of another plan or without every sleeve: it is kept, but moves no sleeve"
        )
    run.run_id = job.run_id
    return _told(job)


def compute_walks(run: Run, parameters: Mapping[str, Any]) -> tuple[pa.Table, pa.Table]:
    """Return the rows of `sleeve_returns` and `wf_snapshots` of a run; writes nothing.

    Parameters
    ----------
    run : Run
        Where to read, under the name that the rows get.
    parameters : mapping
        Of the completed run, as `runs` has them.
    """
    asked = {name: parameters[name] for name in ("years", "train_days", "test_days")}
    plan = _plan(**asked, slippage=parameters["slippage"])
    panel = open_panel(
        run,
        timeframe=parameters["timeframe"],
        as_of=parameters["as_of"],
        years=parameters["years"],
    )
    candidates = find_candidates(run, panel, names=parameters["sleeves"])
    units = [one.variants for one in candidates]
    found = map_tasks(walk_unit, units, common=(panel, plan))
    walks = {k: require_walked(one) for k, one in found}
    baseline = sharpes_of(walks[0])
    frames = [
        walk_frames(walk, panel, run_id=run.run_id, baseline=baseline if k else {})
        for k, walk in sorted(walks.items())
    ]
    returns, snapshots = zip(*frames, strict=True)
    return pa.concat_tables(returns), pa.concat_tables(snapshots)


def _plan(
    years: float, train_days: int, test_days: int, slippage: str
) -> WalkForwardPlan:
    try:
        rungs = tuple(sorted(float(word) for word in slippage.split(",")))
    except ValueError:
        raise InputError(
            f"--slippage {slippage}: numbers of basis points, e.g. 0,5,10,20"
        ) from None
    return WalkForwardPlan(
        train_days=train_days, test_days=test_days, years=years, slippages_bps=rungs
    )


def _described(job: Job) -> dict[str, Any]:
    # What a replay needs, and what the gates read: of this job, however it was asked.
    return {
        "job": job.run_id,
        "family": job.family,
        "fill": job.plan.fill,
        "years": job.plan.years,
        "train_days": job.plan.train_days,
        "test_days": job.plan.test_days,
        "sleeves": [one.sleeve_id for one in job.candidates],
        "symbols": list(job.panel.symbols),
    }


def _is_standard(run: Run, job: Job, *, is_whole: bool) -> bool:
    # Another plan, or a part of the sleeves, is a family of few trials: what passes its
    # gates was chosen from more than they count.
    standard = WalkForwardPlan()
    is_ladder = set(job.plan.slippages_bps) >= {LEDGER_BPS, STRESSED_BPS}
    is_plan = job.plan.fill == standard.fill and (
        cut_windows(job.panel, job.plan) == cut_windows(job.panel, standard)
    )
    if not is_ladder or not is_plan:
        return False
    if is_whole:
        return True
    silent = replace(run, notes=[], counts={})
    every = find_candidates(silent, job.panel, names=None)
    walked = {one.sleeve_id for one in job.candidates}
    return walked >= {one.sleeve_id for one in every}


def _is_completed(run: Run, job: Job) -> bool:
    is_it = (pc.field("run_id") == job.run_id) & (pc.field("status") == "completed")
    found = run.workplace.lake.read("runs", columns=["run_id"], filter=is_it)
    return bool(found.num_rows)


def _work(run: Run, job: Job, *, ray: str | None, workers: int | None) -> Job:
    # The baseline first: the others' rows say how they stand to it. A bred sleeve's
    # search counts on these days too. Returns the job without the sleeves that broke.
    done = finished(run, job)
    left = [one for one in job.candidates if one.sleeve_id not in done]
    run.count("sleeves_kept", len(job.candidates) - len(left))
    run.count("sleeves_walked", len(left))
    shared = (job.panel, job.plan)
    first, *others = job.candidates
    if first.sleeve_id not in done:
        keep_walk(run, job, require_walked(walk_unit(shared, first.variants)), {})
    if any(is_genome(one.configuration) for one in others):
        work = replace(run, run_id=job.run_id)
        enter_earlier_genomes(work, *shared, ray=ray, workers=workers)
    baseline = stored_baseline(run, job)
    units = [one.variants for one in others if one.sleeve_id not in done]
    walks = map_tasks(walk_unit, units, common=shared, ray=ray, workers=workers)
    label = f"walk forward {job.panel.timeframe}"
    broken = []
    for _, walk in track(walks, label, total=len(units)):
        if isinstance(walk, Broken):
            broken.append(walk)
        else:
            keep_walk(run, job, walk, baseline)
    return _without(run, job, sorted(broken, key=lambda one: one.sleeve_id))


def _without(run: Run, job: Job, broken: list[Broken]) -> Job:
    # A broken sleeve stops no other, unless there is no other.
    if not broken:
        return job
    told = [f"{one.sleeve_id}: skipped, {one.reason}" for one in broken]
    names = {one.sleeve_id for one in broken}
    kept = tuple(one for one in job.candidates if one.sleeve_id not in names)
    if len(kept) == 1:
        raise SleeveError(f"no sleeve is left beside {LOCKED}: {'; '.join(told)}")
    run.notes += told
    run.count("sleeves_walked", -len(broken))
    run.count("sleeves_skipped", len(broken))
    return replace(job, candidates=kept)


def _register(run: Run, job: Job) -> None:
    entries = [
        NewSleeve(
            one.sleeve_id,
            one.configuration,
            one.author,
            why="first walk-forward",
            evidence={"walk_forward": job.run_id},
        )
        for one in job.candidates
    ]
    register_sleeves(run, entries)


def _judge(run: Run, job: Job) -> None:
    if LEDGER_BPS not in job.plan.slippages_bps:
        run.notes.append(f"gates: not judged, they need the rung of {LEDGER_BPS:g} bps")
        return
    judged = Judged(job.run_id, job.family, job.plan.fill)
    verdicts = decide_sleeve_gates(run, judged)
    passed = [name for name, own in verdicts.items() if all(v.is_passed for v in own)]
    n_gates = sum(len(own) for own in verdicts.values())
    n_passed = sum(one.is_passed for own in verdicts.values() for one in own)
    run.notes += _table(verdicts)
    run.notes.append(
        f"gates: {n_passed} of {n_gates} passed;"
        f" all three by {', '.join(passed) or 'no sleeve'}"
    )
    run.notes.append(
        "next: `alphalake gates --sleeve ID` says what would change a verdict,"
        " `alphalake publish` shows the book on /sleeves"
    )


def _table(verdicts: Verdicts) -> list[str]:
    # One line a sleeve, the best first; those that never traded last.
    rows = []
    for name, own in verdicts.items():
        sharpe = own[0].inputs.get("sharpe_annual")
        told = "never traded" if sharpe is None else f"Sharpe {sharpe:5.2f} a year"
        gates = " ".join(f"{v.gate} {'+' if v.is_passed else '-'}" for v in own)
        rows.append((sharpe is None, -(sharpe or 0.0), f"{name:<26} {told}, {gates}"))
    head = "out of sample at 10 bps, on complete windows:"
    return [head, *(f"  {line}" for _, _, line in sorted(rows))]


def _told(job: Job) -> str:
    windows = cut_windows(job.panel, job.plan)
    panel = job.panel
    first, last = panel.ts[windows[0].test.start], panel.ts[windows[-1].test.stop - 1]
    return (
        f"{panel.timeframe}: {plural(len(job.candidates), 'sleeve')},"
        f" {plural(panel.n_assets, 'instrument')}, {plural(len(windows), 'window')}"
        f" from {first.astype('datetime64[D]')} to {last.astype('datetime64[D]')}"
    )
