"""Search markets with nothing in them by the real chain; count what reaches paper."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.market_panel import content_hash, open_panel
from flows.parallel import map_tasks
from flows.progress import track
from flows.runs import Run
from lab.backtest.panel import AlignedPanel
from lab.backtest.windows import cut_windows
from lab.errors import BacktestError
from lab.evaluation.decisions import record_decision
from lab.validation.null_battery import (
    DEFAULT_PLAN,
    BatteryPlan,
    BatteryResult,
    Share,
    allowed_promotions,
    null_search,
    outcome_from,
    tally,
)
from lab.validation.null_markets import sample_panel
from lab.validation.power import SHARPES, power_document, power_from, power_search
from lakehouse.errors import InputError, RefusedError
from lakehouse.schema.telemetry import EVALUATIONS

MODULE: Final = "null-battery"
CHUNK: Final = 20
MIN_WINDOWS: Final = 24
"""Fewer test windows on the lake's panel, and a sample panel gives the shape."""

_CODE: Final = (
    "lab.backtest",
    "lab.sleeves",
    "lab.evolution",
    "lab.lifecycle",
    "lab.validation",
)

Task = tuple[float | None, int]
Shared = tuple[AlignedPanel, BatteryPlan, int]


@dataclass(frozen=True, slots=True)
class _Job:
    # Everything that an outcome depends on but its task.
    name: str
    panel: AlignedPanel
    plan: BatteryPlan
    seed: int


def run_null_battery(
    run: Run,
    *,
    n: int = 200,
    seed: int = 0,
    workers: int | None = None,
    power: int | None = None,
) -> str:
    """Run whole searches on noise and count those that promote a sleeve to paper.

    Null markets have the shape of the lake's daily panel; of a sample panel where the
    lake has too few bars. Outcomes are kept as they come, so the same battery goes on
    after a kill, and a longer one with the same seed begins where the shorter ended.

    Parameters
    ----------
    run : Run
        Where to read and write.
    n : int
        Searches on null markets; the three kinds take turns.
    seed : int
        Of all markets and searches.
    workers : int, optional
        Local processes; one a core if not given.
    power : int, optional
        Searches for each planted Sharpe ratio; a fifth of `n` if not given, 0 for none.

    Returns
    -------
    str
        One line.

    Raises
    ------
    InputError
        If a count makes no sense.
    RefusedError
        If more searches promote something than `allowed_promotions` has it: the chain
        does not hold what it promises. What was found is kept.

    Notes
    -----
    Point in time: the shape comes from bars known at the run's now; nothing of a null
    market's prices can be known before they are.
    """
    n_power = n // 5 if power is None else power
    if n < 1 or n_power < 0:
        raise InputError(f"null-battery: n {n}, power {n_power}: at least 1 and 0")
    run.seeds[MODULE] = seed
    job = _open_job(run, DEFAULT_PLAN, seed)
    tasks: list[Task] = [(None, number) for number in range(n)]
    tasks += [(sharpe, number) for sharpe in SHARPES for number in range(n_power)]
    documents = _outcomes(run, job, tasks, workers)
    result = tally(outcome_from(documents[task]) for task in tasks if task[0] is None)
    strong = [power_from(documents[task]) for task in tasks if task[0] is not None]
    report = {
        "n": n,
        "seed": seed,
        "job": job.name,
        "panel": _described(job.panel),
        "shares": {kind: one.document() for kind, one in result.shares.items()},
        "power": power_document(strong) if strong else {},
    }
    _keep(run, report, result)
    _tell(run, report, result)
    return _verdict(result, n)


def one_search(shared: Shared, task: Task) -> dict[str, Any]:
    """Run one search of a battery: what other processes are asked to do."""
    panel, plan, seed = shared
    sharpe, number = task
    if sharpe is None:
        return null_search(panel, number, seed=seed, plan=plan).document()
    return power_search(panel, sharpe, number, seed=seed, plan=plan).document()


def _open_job(run: Run, plan: BatteryPlan, seed: int) -> _Job:
    panel = _shape(run, plan)
    code = hashlib.sha256()
    for package in _CODE:
        for file in sorted(files(package).iterdir(), key=lambda one: one.name):
            if file.name.endswith(".py"):
                code.update(file.read_bytes())
    content = {
        "panel": content_hash(panel),
        "plan": asdict(plan),
        "seed": seed,
        "code": code.hexdigest(),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return _Job(f"{MODULE}-{digest[:16]}", panel, plan, seed)


def _shape(run: Run, plan: BatteryPlan) -> AlignedPanel:
    try:
        panel = open_panel(run, timeframe="1d", as_of=None, years=plan.walk.years)
        n_windows = len(cut_windows(panel, plan.walk))
    except (InputError, BacktestError):
        n_windows = 0
    else:
        if n_windows >= MIN_WINDOWS:
            return panel
    run.notes.append(
        f"shaped like a sample panel: the lake's daily bars hold {n_windows} windows,"
        f" {MIN_WINDOWS} are needed"
    )
    return sample_panel()


def _outcomes(
    run: Run, job: _Job, tasks: Sequence[Task], workers: int | None
) -> dict[Task, dict[str, Any]]:
    found = _stored(run, job)
    n_stored = sum(task in found for task in tasks)
    if n_stored:
        run.notes.append(f"outcomes kept by an earlier attempt: {n_stored}")
    shared = job.panel, job.plan, job.seed
    todo = [task for task in tasks if task not in found]
    done = map_tasks(one_search, todo, common=shared, workers=workers)
    made: dict[Task, dict[str, Any]] = {}
    for place, document in track(done, "Null battery", total=len(todo)):
        made[todo[place]] = document
        if len(made) == CHUNK:
            _keep_outcomes(run, job, made)
            found |= made
            made = {}
    if made:
        _keep_outcomes(run, job, made)
    return found | made


def _metric(job: _Job, task: Task) -> str:
    sharpe, number = task
    return f"{job.name}/{'null' if sharpe is None else f'{sharpe:g}'}/{number}"


def _stored(run: Run, job: _Job) -> dict[Task, dict[str, Any]]:
    rows = run.workplace.lake.read(
        "evaluations",
        columns=["metric", "detail"],
        filter=(pc.field("module") == MODULE)
        & pc.starts_with(pc.field("metric"), f"{job.name}/"),
    )
    found: dict[Task, dict[str, Any]] = {}
    for metric, detail in zip(
        rows["metric"].to_pylist(), rows["detail"].to_pylist(), strict=True
    ):
        _, sharpe, number = metric.split("/")
        key = None if sharpe == "null" else float(sharpe), int(number)
        found[key] = json.loads(detail)
    return found


def _keep_outcomes(run: Run, job: _Job, made: dict[Task, dict[str, Any]]) -> None:
    rows = [
        _row(
            run,
            _metric(job, task),
            float(bool(document.get("search", document)["promoted"])),
            document,
        )
        for task, document in sorted(made.items(), key=lambda one: _metric(job, one[0]))
    ]
    names = "\n".join(row["metric"] for row in rows)
    digest = hashlib.sha256(names.encode()).hexdigest()
    table = pa.Table.from_pylist(rows, schema=EVALUATIONS.to_arrow())
    run.append("evaluations", table, window=f"{MODULE}/evaluations/{digest}")


def _keep(run: Run, report: dict[str, Any], result: BatteryResult) -> None:
    everything = result.shares["all"]
    rows = [
        _row(run, f"false_promotions/{kind}", one.count / one.n, one.document())
        for kind, one in result.shares.items()
    ]
    rows.append(_row(run, "report", everything.upper, report))
    rows += [
        _row(run, f"power/{sharpe}", one["any"]["share"], one)
        for sharpe, one in report["power"].items()
    ]
    table = pa.Table.from_pylist(rows, schema=EVALUATIONS.to_arrow())
    run.append("evaluations", table, window=f"{MODULE}/report/{run.run_id}")
    is_held = everything.count <= allowed_promotions(everything.n)
    decision = record_decision(
        run_id=run.run_id,
        ts=run.now,
        agent_id=MODULE,
        model={"job": report["job"], "seed": report["seed"]},
        input_snapshot={"n": report["n"], "panel": report["panel"]},
        output={"is_held": is_held, "shares": report["shares"]},
        rationale=_line(everything),
    )
    run.append(
        "decision_records", decision, window=f"{MODULE}/decision_records/{run.run_id}"
    )
    run.count("searches", everything.n)
    run.count("false_promotions", everything.count)


def _tell(run: Run, report: dict[str, Any], result: BatteryResult) -> None:
    run.notes += [
        f"{kind}: {_line(one)}" for kind, one in result.shares.items() if kind != "all"
    ]
    for one in result.outcomes:
        if one.promoted:
            run.notes.append(
                f"search {one.number} ({one.kind}) promoted {', '.join(one.promoted)}"
            )
    for sharpe, one in report["power"].items():
        share = one["any"]
        gates = ", ".join(f"{name} {count}" for name, count in one["gates"].items())
        run.notes.append(
            f"planted Sharpe {sharpe}: {share['count']:.0f} of {share['n']:.0f} promoted"
            f" ({100 * share['low_95']:.0f} to {100 * share['high_95']:.0f} %);"
            f" the sleeve itself passed {gates}"
        )


def _verdict(result: BatteryResult, n: int) -> str:
    everything = result.shares["all"]
    if everything.count > allowed_promotions(n):
        names = sorted({name for one in result.outcomes for name in one.promoted})
        raise RefusedError(
            f"{_line(everything)}; {allowed_promotions(n)} are allowed:"
            f" {', '.join(names)}"
        )
    return _line(everything)


def _line(share: Share) -> str:
    return (
        f"{share.count} of {share.n} searches on noise promoted a sleeve to paper,"
        f" 95 % upper bound {100 * share.upper:.1f} %"
    )


def _described(panel: AlignedPanel) -> dict[str, Any]:
    return {
        "content": content_hash(panel),
        "instruments": panel.n_assets,
        "rows": panel.n_obs,
        "first": str(panel.ts[0].astype("datetime64[D]")),
        "last": str(panel.ts[-1].astype("datetime64[D]")),
    }


def _row(run: Run, metric: str, value: float, detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "module": MODULE,
        "metric": metric,
        "value": value,
        "detail": json.dumps(detail, sort_keys=True),
        "evaluated_at": run.now,
    }
