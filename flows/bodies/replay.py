"""Run a recorded forecast, score or walk-forward run again; compare every number."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.ensemble import compute_ensemble
from flows.bodies.forecasting import ForecastPlan, compute_forecasts
from flows.bodies.judge import compute_verdicts
from flows.bodies.score import compute_scores
from flows.checkpoints.models import open_forecaster
from flows.runs import Run
from flows.wiring import Workplace
from lab.forecasters.ensemble import NAME as ENSEMBLE
from lab.forecasters.frames import predictions_table
from lakehouse.errors import InputError
from lakehouse.schema.catalogue import table_spec

_TABLE_OF: Final = {
    "forecast": "ml_predictions",
    "forecast-baselines": "ml_predictions",
    "kronos-batch": "ml_predictions",
    "chronos2-batch": "ml_predictions",
    "ensemble-batch": "ml_predictions",
    "score-signals": "prediction_scores",
    "walk-forward": "sleeve_returns",
}


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay found.

    Attributes
    ----------
    run_id, table : str
        The run and the table it wrote.
    n_rows : int
        Rows that it wrote.
    n_missing : int
        Of these, rows that the replay did not produce.
    n_numbers : int
        Numbers compared.
    n_different : int
        Numbers that are not equal.
    largest : float
        Largest absolute difference.
    """

    run_id: str
    table: str
    n_rows: int
    n_missing: int
    n_numbers: int
    n_different: int
    largest: float

    @property
    def is_equal(self) -> bool:
        """Whether every number came out the same."""
        return self.n_missing == 0 and self.n_different == 0

    def lines(self) -> list[str]:
        """Return the report for a person."""
        return [
            f"{self.run_id}: {self.n_rows} rows of {self.table}, "
            f"{self.n_numbers} numbers compared, {self.n_different} differ"
            f" (largest by {self.largest:g}), {self.n_missing} rows missing"
        ]


def replay_run(workplace: Workplace, run_id: str) -> ReplayReport:
    """Run `run_id` again at its pinned versions; nothing is written.

    Raises
    ------
    InputError
        If there is no such run, it did not complete, or it is of another flow.
    """
    lake = workplace.lake
    rows = lake.read("runs", filter=pc.field("run_id") == run_id).to_pylist()
    if not rows:
        raise InputError(f"run {run_id!r}: not in `runs`; `alphalake runs` lists them")
    record = rows[0]
    if record["flow"] not in _TABLE_OF or record["status"] != "completed":
        allowed = ", ".join(_TABLE_OF)
        raise InputError(
            f"run {run_id}: a {record['status']} run of {record['flow']} cannot be"
            f" replayed, only completed runs of {allowed}"
        )
    table = _TABLE_OF[record["flow"]]
    stored = lake.read(table, filter=pc.field("run_id") == run_id)
    run = Run(
        workplace,
        record["flow"],
        run_id,
        tables_read=json.loads(record["tables_read"]),
        is_replay=True,
    )
    parameters = json.loads(record["parameters"])
    if table == "ml_predictions":
        return compare(run_id, table, stored, _forecast_again(run, parameters, stored))
    if table == "sleeve_returns":
        return _walk_again(run, parameters, stored)
    return _score_again(run, parameters, stored)


def _score_again(
    run: Run, parameters: dict[str, Any], stored: pa.Table
) -> ReplayReport:
    # Scores, and those of the run's verdicts that no later run has replaced.
    timeframe = parameters["timeframe"]
    now = datetime.fromisoformat(parameters["as_of"])
    fresh = compute_scores(run, timeframe=timeframe, now=now)
    scores = compare(run.run_id, "prediction_scores", stored, fresh)
    table = "skill_verdicts"
    kept = run.workplace.lake.read(table, filter=pc.field("run_id") == run.run_id)
    if kept.num_rows == 0:
        return scores
    verdicts = compute_verdicts(run, timeframe=timeframe, now=now, fresh=fresh)
    return _together(scores, compare(run.run_id, table, kept, verdicts))


def _walk_again(run: Run, parameters: dict[str, Any], stored: pa.Table) -> ReplayReport:
    from flows.bodies.walkforward import compute_walks

    returns, snapshots = compute_walks(run, parameters)
    table = "wf_snapshots"
    kept = run.workplace.lake.read(table, filter=pc.field("run_id") == run.run_id)
    return _together(
        compare(run.run_id, "sleeve_returns", stored, returns),
        compare(run.run_id, table, kept, snapshots),
    )


def _together(one: ReplayReport, other: ReplayReport) -> ReplayReport:
    return ReplayReport(
        one.run_id,
        f"{one.table} and {other.table}",
        one.n_rows + other.n_rows,
        one.n_missing + other.n_missing,
        one.n_numbers + other.n_numbers,
        one.n_different + other.n_different,
        max(one.largest, other.largest),
    )


def _forecast_again(run: Run, parameters: dict[str, Any], stored: pa.Table) -> pa.Table:
    forecasts = []
    for name in sorted(set(stored["model_name"].to_pylist())):
        of_model = stored.filter(pc.equal(stored["model_name"], name))
        plan = ForecastPlan(
            name,
            parameters["timeframe"],
            tuple(sorted(set(of_model["symbol"].to_pylist()))),
            tuple(sorted(set(of_model["as_of"].to_pylist()))),
            parameters["horizon"],
            parameters.get("samples", 0),
            parameters["seed"],
        )
        if name == ENSEMBLE:
            forecasts += compute_ensemble(
                run,
                timeframe=plan.timeframe,
                as_ofs=plan.as_ofs,
                symbols=plan.symbols,
                horizon=plan.horizon,
                seed=plan.seed,
            )
            continue
        forecaster = open_forecaster(name, run.workplace)
        made_by = sorted(set(of_model["model_version"].to_pylist()))
        if made_by != [forecaster.version]:
            raise InputError(
                f"run {run.run_id}: {name} was {', '.join(made_by)}, here it is"
                f" {forecaster.version}; point ALPHALAKE_{name.upper()} at those weights"
            )
        forecasts += compute_forecasts(run, forecaster, plan)[0]
    return predictions_table(forecasts, generated_at=run.now, run_id=run.run_id)


def compare(run_id: str, table: str, stored: pa.Table, again: pa.Table) -> ReplayReport:
    """Compare two versions of the same rows number by number."""
    spec = table_spec(table)
    ours = {tuple(row[k] for k in spec.key): row for row in again.to_pylist()}
    skipped = set(spec.provenance) | set(spec.key)
    n_missing = n_numbers = n_different = 0
    largest = 0.0
    for row in stored.to_pylist():
        twin = ours.get(tuple(row[k] for k in spec.key))
        if twin is None:
            n_missing += 1
            continue
        for name in (name for name in row if name not in skipped):
            count, differing, gap = _differences(row[name], twin[name])
            n_numbers += count
            n_different += differing
            largest = max(largest, gap)
    return ReplayReport(
        run_id, table, stored.num_rows, n_missing, n_numbers, n_different, largest
    )


def _differences(left: Any, right: Any) -> tuple[int, int, float]:
    """Return how many numbers two values hold, how many differ, and by how much."""
    if isinstance(left, list | float) and isinstance(right, type(left)):
        a, b = np.asarray(left), np.asarray(right)
        if a.shape == b.shape and a.dtype.kind == "f":
            gap = np.abs(a - b)
            return a.size, int((a != b).sum()), float(gap.max(initial=0.0))
    return 1, int(left != right), 0.0
