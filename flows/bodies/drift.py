"""Live predictions against what each champion was trained on: reports and alarms.

A report is one per model and window, whichever run makes it: its window ends at the
newest live prediction. An alarm is told after the report is stored, so that whoever is
woken finds it, and told again by a later run of the same window: what follows from it
happens once by the window's key.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.drift_rows import Predicted, newest, read_predictions
from flows.bodies.model_registry import ModelVersion, load_files, read_registry
from flows.bodies.moments import decision_moment
from flows.runs import Run
from flows.signals_out import DRIFT_DETECTED, announce, model_resource
from flows.telemetry import telemetry_rows
from lab.bars.timeframes import to_moment
from lab.drift.detector import DriftDetector
from lab.drift.figures import SEVERITIES, DriftFigure, DriftReport, DriftRules
from lab.drift.performance import Objective
from lab.drift.profile import ReferenceProfile
from lab.errors import DriftError
from lab.evaluation.decisions import record_decision
from lab.lifecycle.reaction import PERFORMANCE
from lakehouse.errors import InputError, RefusedError
from lakehouse.schema.lifecycle import DRIFT_REPORTS

DECIDER: Final = "drift-detector"
_REFERENCE: Final = "reference.arrow"
_CONFIG: Final = "config.json"


def run_drift(
    run: Run,
    *,
    model: str | None = None,
    as_of: str | None = None,
    seed: int = 0,
) -> str:
    """Report on every model that has a champion, and tell the alarms.

    Parameters
    ----------
    run : Run
        Where to read and write.
    model : str, optional
        Only this model.
    as_of : str, optional
        Decision time; the clock's now if not given.
    seed : int, default 0
        Of the permutations.

    Raises
    ------
    InputError
        If `as_of` is not a time or later than now, or the named model is not there.
    RefusedError
        If the champion's files, or its predictions, are not what was registered.

    Notes
    -----
    Point in time: live predictions made, and labels known, by `as_of`; rows of replays
    and backfills never count.
    """
    moment = decision_moment(run, as_of)
    run.seeds["drift"] = seed
    run.parameters |= {"model": model, "as_of": moment.isoformat()}
    registry = read_registry(run.workplace.lake)
    names = registry.model_names if model is None else (model,)
    if model is not None and model not in registry.model_names:
        raise InputError(
            f"--model {model}: not registered; there are"
            f" {', '.join(registry.model_names) or 'no models'}"
        )
    told = []
    for name in names:
        champion = registry.champion(name)
        if champion is None:
            told.append(f"{name}: no champion")
        else:
            told.append(_watch(run, champion, moment, seed))
    return "; ".join(told) or "no model is registered: nothing to watch"


def _watch(run: Run, champion: ModelVersion, moment: datetime, seed: int) -> str:
    name, version = champion.model_name, champion.version
    files = load_files(run.workplace.lake, champion)
    if _REFERENCE not in files:
        return f"{name}: {version} keeps no profile of its training rows"
    window = newest(read_predictions(run, name, version, origin="live", as_of=moment))
    if not len(window):
        return f"{name}: {version} has no live predictions yet"
    if _is_reported(run, name, window.end):
        return _tell_again(run, champion, window.end)
    past = read_predictions(run, name, version, origin="out_of_fold", as_of=moment)
    report = _compare(champion, files, (past, window), seed)
    rules = DriftRules()
    if len(window) < rules.minimum:
        # Kept as a record; a report would close the window to later rows.
        _record(run, champion, window, report)
        return f"{name}: NEEDS_MORE_DATA, {len(window)} of {rules.minimum} live rows"
    state = _state(run, name, window.end, is_alarm=report.is_alarm)
    _record(run, champion, window, report, state=state)
    _measure(run, champion, window, report)
    # Last: a window with a report is done, and a run killed before goes over it again.
    _keep(run, champion, window, report)
    run.count("reports", 1)
    run.count("alarms", len(report.alarms))
    if not report.is_alarm:
        return f"{name}: {len(window)} live rows, no drift; {report.recommendations[0]}"
    run.notes.append(report.alert_text(name))
    alarming = [one.feature for one in report.alarms]
    _tell(run, alarming, report.severity, about=(name, version, window.end))
    return f"{report.alert_text(name)}; {state}"


def _compare(
    champion: ModelVersion,
    files: Mapping[str, bytes],
    rows: tuple[Predicted, Predicted],
    seed: int,
) -> DriftReport:
    past, window = rows
    where = f"model {champion.model_name} {champion.version}"
    try:
        profile = ReferenceProfile.from_bytes(files[_REFERENCE])
        return DriftDetector().report(
            profile,
            window.features,
            seed=seed,
            times=window.judged.times,
            past=past.judged if len(past) else None,
            present=window.judged,
            objective=_objective(files),
        )
    except DriftError as error:
        raise RefusedError(f"{where}: {error}") from error


def _objective(files: Mapping[str, bytes]) -> Objective:
    head = json.loads(files.get(_CONFIG, b"{}"))
    said = head.get("config", head).get("objective", "classification")
    return "regression" if said == "regression" else "classification"


def _is_reported(run: Run, model: str, window_end: datetime) -> bool:
    return bool(_reported(run, model, window_end).num_rows)


def _reported(run: Run, model: str, window_end: datetime) -> pa.Table:
    end = pa.scalar(window_end, pa.timestamp("us", tz="UTC"))
    return run.workplace.lake.read(
        "drift_reports",
        filter=(pc.field("model_name") == model) & (pc.field("window_end") == end),
    )


def _tell_again(run: Run, champion: ModelVersion, window_end: datetime) -> str:
    rows = _reported(run, champion.model_name, window_end).to_pylist()
    alarming = [row for row in rows if row["is_alarm"]]
    name = champion.model_name
    until = f"the window up to {window_end:%Y-%m-%d %H:%M} is reported already"
    if not alarming:
        return f"{name}: {until}, no drift"
    severity = max((row["severity"] for row in alarming), key=SEVERITIES.index)
    names = [row["feature"] for row in alarming]
    _tell(run, names, severity, about=(name, alarming[0]["version"], window_end))
    return f"{name}: {until}, {len(names)} alarms told again"


def _keep(
    run: Run, champion: ModelVersion, window: Predicted, report: DriftReport
) -> None:
    name = champion.model_name
    rows = [
        {
            "model_name": name,
            "version": champion.version,
            "window_end": window.end,
            "run_id": run.run_id,
            **_row(one),
        }
        for one in report.figures
    ]
    table = pa.Table.from_pylist(rows, schema=DRIFT_REPORTS.to_arrow())
    key = f"drift/drift_reports/{name}/{window.end.isoformat()}"
    run.append("drift_reports", table, window=key)


def _row(one: DriftFigure) -> dict[str, Any]:
    figures = {
        "reference_mean": one.reference,
        "current_mean": one.current,
        "psi": max(one.psi, 0.0),
        "ks": one.ks,
        "ks_p_value": one.ks_p_value,
        "mean_shift": one.mean_shift,
        "std_shift": one.std_shift,
        "p_value": one.p_value,
        "q_value": one.q_value,
    }
    known = {key: _finite(value) for key, value in figures.items()}
    return known | {
        "feature": one.feature,
        "n_reference": one.n_reference,
        "n_current": one.n_current,
        "crossed": json.dumps(list(one.crossed)),
        "severity": one.severity,
        "since": None if one.since is None else _moment(one.since),
        "is_alarm": one.is_alarm,
        "recommendation": one.recommendation,
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _moment(microseconds: int) -> datetime:
    return to_moment(np.datetime64(microseconds, "us"))


def _state(run: Run, model: str, window_end: datetime, *, is_alarm: bool) -> str:
    # Alarms of the reports before that follow each other without a quiet one.
    rows = run.read(
        "drift_reports",
        columns=["window_end", "is_alarm"],
        filter=(pc.field("model_name") == model),
    )
    alarming: dict[datetime, bool] = {}
    for row in rows.to_pylist():
        end = row["window_end"]
        if end < window_end:
            alarming[end] = alarming.get(end, False) or row["is_alarm"]
    since = window_end
    for end in sorted(alarming, reverse=True):
        if alarming[end] != is_alarm:
            break
        since = end
    what = "in alarm" if is_alarm else "quiet"
    return f"{what} since {since:%Y-%m-%d}"


def _record(
    run: Run,
    champion: ModelVersion,
    window: Predicted,
    report: DriftReport,
    *,
    state: str = "not tested",
) -> None:
    rules = DriftRules()
    record = record_decision(
        run_id=run.run_id,
        ts=run.now,
        agent_id=DECIDER,
        model={
            "name": "block-permutation",
            "version": "1",
            "rate": rules.rate,
            "minimum": rules.minimum,
            "n_permutations": report.n_permutations,
            "block": report.block,
        },
        input_snapshot={
            "model": champion.model_name,
            "version": champion.version,
            "window_start": to_moment(window.judged.times[0]).isoformat(),
            "window_end": window.end.isoformat(),
            "n_rows": len(window),
        },
        output={
            "is_alarm": report.is_alarm,
            "severity": report.severity,
            "alarms": [one.feature for one in report.alarms],
            "state": state,
            "recommendations": list(report.recommendations),
            "estimate": _estimate(report),
        },
        rationale=report.alert_text(champion.model_name) or report.recommendations[0],
    )
    key = f"{champion.model_name}/{window.end.isoformat()}/{state}/{len(window)}"
    run.append("decision_records", record, window=f"drift/decision_records/{key}")


def _estimate(report: DriftReport) -> dict[str, float | None] | None:
    for one in report.figures:
        if one.kind == "estimate":
            return {
                "accuracy": _finite(one.current),
                "reference": _finite(one.reference),
                "n_rows": float(one.n_current),
            }
    return None


def _measure(
    run: Run, champion: ModelVersion, window: Predicted, report: DriftReport
) -> None:
    # The model is part of a figure's name: a run watches several at one moment.
    where = f"drift.{champion.model_name}"
    figures: dict[str, tuple[float, str]] = {
        f"{where}.rows": (float(len(window)), "1"),
        f"{where}.alarms": (float(len(report.alarms)), "1"),
        f"{where}.is_alarm": (float(report.is_alarm), "1"),
    }
    for one in report.figures:
        for what, value in (("psi", one.psi), ("ks", one.ks), ("q_value", one.q_value)):
            if math.isfinite(value):
                figures[f"{where}.{what}.{one.feature}"] = (value, "1")
        if one.kind in {"accuracy", "estimate", "metric"} and math.isfinite(
            one.current
        ):
            figures[f"{where}.mean.{one.feature}"] = (one.current, "1")
    labels = {"model": champion.model_name, "version": champion.version}
    rows = telemetry_rows(figures, ts=run.now, run_id=run.run_id, labels=labels)
    key = f"drift/telemetry/{run.run_id}/{champion.model_name}"
    run.append("telemetry", rows, window=key)


def _tell(
    run: Run,
    alarming: Sequence[str],
    severity: str,
    *,
    about: tuple[str, str, datetime],
) -> None:
    model, version, window_end = about
    payload = {
        "model": model,
        "version": version,
        "window": window_end.isoformat(),
        "severity": severity,
        "features": sorted(alarming),
        "cause": "performance" if PERFORMANCE & set(alarming) else "drift",
    }
    announce(run, DRIFT_DETECTED, resource=model_resource(model), payload=payload)
