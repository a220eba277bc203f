"""What got worse since the walk-forward before."""

import json
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.walk_job import FLOW, Job
from flows.runs import Run
from lab.backtest.ledger import LEDGER_BPS
from lab.backtest.walk_frames import days_a_year

NOTED: Final = 3
_PLAN: Final = ("timeframe", "years", "train_days", "test_days")
_WORTH_SAYING: Final = 0.05


def compare_with_previous(run: Run, job: Job) -> list[str]:
    """Return lines about a job beside the completed run before it of the same plan.

    The view `wf_degradation` has every sleeve and rung of runs that follow each other.

    Parameters
    ----------
    run : Run
        Where to read.
    job : Job
        With all of its rows written.

    Returns
    -------
    list of str
        None where no run came before or no sleeve is in both.
    """
    before = _previous(run, job)
    if before is None:
        return []
    rung = _rung(job)
    old, new = (_sharpes(run, job, one, rung) for one in (before, job.run_id))
    falls = {name: new[name] - old[name] for name in sorted(set(old) & set(new))}
    if not falls:
        return []
    worse = sorted(
        (name for name, change in falls.items() if change < -_WORTH_SAYING),
        key=lambda name: falls[name],
    )
    told = f"against {before}: {len(worse)} of {len(falls)} sleeves have a lower Sharpe"
    if not worse:
        return [told]
    most = ", ".join(f"{n} {old[n]:.2f} to {new[n]:.2f}" for n in worse[:NOTED])
    return [f"{told} at {rung:g} bps: {most}"]


def _previous(run: Run, job: Job) -> str | None:
    lake = run.workplace.lake
    snapshots = lake.read(
        "wf_snapshots",
        columns=["run_id"],
        filter=pc.field("timeframe") == job.panel.timeframe,
    )
    ended = lake.read(
        "runs",
        columns=["run_id", "finished_at", "parameters"],
        filter=(pc.field("flow") == FLOW)
        & (pc.field("status") == "completed")
        & (pc.field("run_id") != job.run_id)
        & pc.field("run_id").isin(pc.unique(snapshots["run_id"]).to_pylist()),
    ).sort_by([("finished_at", "descending"), ("run_id", "descending")])
    for row in ended.select(["run_id", "parameters"]).to_pylist():
        asked = json.loads(row["parameters"])
        is_same = all(asked.get(name) == run.parameters.get(name) for name in _PLAN)
        if is_same and asked.get("as_of", "") <= run.parameters["as_of"]:
            return str(row["run_id"])
    return None


def _rung(job: Job) -> float:
    rungs = job.plan.slippages_bps
    return LEDGER_BPS if LEDGER_BPS in rungs else rungs[-1]


def _sharpes(run: Run, job: Job, run_id: str, rung: float) -> dict[str, float]:
    rows = run.workplace.lake.read(
        "sleeve_returns",
        columns=["sleeve_id", "ts", "return_net"],
        filter=(pc.field("run_id") == run_id)
        & (pc.field("timeframe") == job.panel.timeframe)
        & (pc.field("phase") == "test")
        & (pc.field("slippage_bps") == rung),
    ).sort_by([("sleeve_id", "ascending"), ("ts", "ascending")])
    found = {}
    for name in pc.unique(rows["sleeve_id"]).to_pylist():
        own = rows.filter(pc.equal(rows["sleeve_id"], name))
        net = own["return_net"].to_numpy()
        if len(net) > 1 and np.ptp(net) > 0:
            days = own["ts"].cast(pa.timestamp("us")).to_numpy()
            scale = np.sqrt(days_a_year(days))
            found[name] = float(scale * net.mean() / net.std(ddof=1))
    return found
