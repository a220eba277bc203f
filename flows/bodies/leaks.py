"""Look for the future in everything that is said of the past."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.progress import plural, track
from flows.runs import Run
from lab.errors import LabError, ValidationError
from lab.evaluation.decisions import record_decision
from lab.validation.grading import Grade, grade_checker
from lab.validation.leaks import (
    LeakVerdict,
    Replay,
    Subject,
    check_causal,
    check_fill,
    replays,
)
from lab.validation.markets import Market, empty_revisions
from lab.validation.practice import practice_market
from lab.validation.subjects import engine_fills, real_subjects
from lakehouse.errors import RefusedError
from lakehouse.schema.telemetry import EVALUATIONS

MODULE: Final = "leak-lab"
PRACTICE: Final = "a practice market"
PRACTICE_DAYS: Final = 700
PRACTICE_HOURS: Final = 1400
LAKE_SPANS: Final = {"1d": timedelta(days=900), "1h": timedelta(days=90)}
"""How much of the lake's own bars is replayed, up to its newest."""


def run_leaks(run: Run, *, seed: int = 0) -> str:
    """Grade the leak checker, then check every sleeve, feature, label and the engine.

    Parameters
    ----------
    run : Run
        Where to read and write.
    seed : int
        Of planted leaks, cuts and futures.

    Returns
    -------
    str
        One line.

    Raises
    ------
    RefusedError
        If the checker fails its own examination: then it certifies nothing; or if
        anything leaks, by name.

    Notes
    -----
    Point in time: the lake's bars, releases and forecasts known at the run's now.
    """
    run.seeds["leaks"] = seed
    grade = grade_checker(seed=seed)
    if not grade.is_passed:
        _keep(run, seed, grade, {})
        wrong = [line for kind in grade.kinds for line in kind.wrong]
        raise RefusedError(
            f"the leak checker failed its examination, nothing is certified: {wrong[0]}"
        )
    found = {
        where: _check(where, market, seed) for where, market in _markets(run, seed)
    }
    _keep(run, seed, grade, found)
    _tell(run, grade, found)
    leaks = {
        v.subject: f"{where}, {v.detail}"
        for where, verdicts in found.items()
        for v in verdicts
        if v.is_leaking
    }
    if leaks:
        names, first = ", ".join(sorted(leaks)), min(leaks)
        raise RefusedError(
            f"{plural(len(leaks), 'leak')}: {names}; {first} on {leaks[first]}"
        )
    n_subjects = len({v.subject for verdicts in found.values() for v in verdicts})
    return (
        f"no leak in {n_subjects} subjects on {' and '.join(found)}; checker:"
        f" {sum(k.n_found for k in grade.kinds)} of"
        f" {sum(k.n_leaks for k in grade.kinds)} planted leaks found,"
        f" {plural(grade.n_alarms, 'false alarm')} on"
        f" {sum(k.n_honest for k in grade.kinds)} honest twins"
    )


def _markets(run: Run, seed: int) -> Iterator[tuple[str, Market]]:
    yield (
        PRACTICE,
        practice_market(seed=seed, n_days=PRACTICE_DAYS, n_hours=PRACTICE_HOURS),
    )
    lake = lake_market(run)
    if lake.ohlcv.num_rows:
        yield "the lake's own bars", lake


def lake_market(run: Run) -> Market:
    """Return the newest part of the lake's bars, with its releases and forecasts.

    Parameters
    ----------
    run : Run
        Where to read.

    Notes
    -----
    Point in time: bars that open before the run's now. The lake keeps figures as first
    published, so there are no revisions but those that the checker makes up.
    """
    now = pa.scalar(run.now, pa.timestamp("us", tz="UTC"))
    parts = []
    for timeframe, span in LAKE_SPANS.items():
        is_length = (pc.field("timeframe") == timeframe) & (pc.field("ts") < now)
        newest = pc.max(run.read("ohlcv", columns=["ts"], filter=is_length)["ts"])
        if newest.is_valid:
            begin = pa.scalar(newest.as_py() - span, now.type)
            is_new = is_length & (pc.field("ts") >= begin)
            parts.append(run.read("ohlcv", filter=is_new))
    ohlcv = pa.concat_tables(parts) if parts else run.read("ohlcv").slice(0, 0)
    first = pc.min(ohlcv["ts"])
    columns = [
        one.name
        for one in run.read("ml_predictions").schema
        if one.name not in {"samples", "quantiles", "event_context"}
    ]
    wanted = pc.field("as_of") >= first if first.is_valid else None
    return Market(
        ohlcv=ohlcv,
        instruments=run.read("instruments"),
        releases=run.read("economic_calendar"),
        predictions=run.read("ml_predictions", columns=columns, filter=wanted),
        revisions=empty_revisions(),
    )


def _check(where: str, market: Market, seed: int) -> list[LeakVerdict]:
    found: list[LeakVerdict] = []
    for timeframe in ("1d", "1h"):
        rng = np.random.default_rng([seed, len(found)])
        try:
            plans = replays(market, timeframe, rng=rng)
        except LabError:
            # Too few bars of this length to cut: there is nothing to check.
            continue
        label = f"Leaks in {timeframe} of {where}"
        found += [
            _named(_judged(subject, market, plans), timeframe)
            for subject in track(real_subjects(timeframe, market.models), label)
        ]
        for rule in engine_fills():
            verdict = check_fill(rule, market.panel(timeframe), rng=rng)
            found.append(_named(verdict, timeframe))
    return found


def _judged(subject: Subject, market: Market, plans: list[Replay]) -> LeakVerdict:
    try:
        return check_causal(subject, market, plans)
    except ValidationError:
        # No row by any cut: said so in the notes, beside those that only say nothing.
        return LeakVerdict(subject.name, is_leaking=False, n_rows=0, n_telling=0)


def _named(verdict: LeakVerdict, timeframe: str) -> LeakVerdict:
    return LeakVerdict(
        f"{timeframe} {verdict.subject}",
        is_leaking=verdict.is_leaking,
        n_rows=verdict.n_rows,
        n_telling=verdict.n_telling,
        detail=verdict.detail,
    )


def _tell(run: Run, grade: Grade, found: dict[str, list[LeakVerdict]]) -> None:
    run.notes += [
        f"{one.kind}: {one.n_found} of {one.n_leaks} found, {one.n_alarms} alarms on"
        f" {one.n_honest} honest twins"
        for one in grade.kinds
    ]
    for where, verdicts in found.items():
        kinds = Counter(v.subject.split(":")[0] for v in verdicts)
        checked = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
        silent = [v.subject for v in verdicts if not v.is_leaking and not v.n_telling]
        run.notes.append(f"{where}: {checked}")
        if silent:
            run.notes.append(f"{where}: nothing to say: {', '.join(silent)}")
        run.notes += [
            f"LEAK {v.subject} on {where}, {v.detail}" for v in verdicts if v.is_leaking
        ]
        run.count("subjects_checked", len(verdicts))
        run.count("leaks_found", sum(v.is_leaking for v in verdicts))


def _keep(
    run: Run, seed: int, grade: Grade, found: dict[str, list[LeakVerdict]]
) -> None:
    rows = [
        _row(run, "recall", grade.recall, {"passed": grade.is_passed}),
        _row(run, "false_alarms", float(grade.n_alarms), {}),
    ]
    rows += [
        _row(
            run,
            f"planted/{one.kind}",
            one.n_found / max(1, one.n_leaks),
            {
                "planted": one.n_leaks,
                "honest": one.n_honest,
                "alarms": one.n_alarms,
                "wrong": list(one.wrong),
            },
        )
        for one in grade.kinds
    ]
    for where, verdicts in found.items():
        rows += [
            _row(
                run,
                f"leak/{where}/{one.subject}",
                float(one.is_leaking),
                {
                    "rows": one.n_rows,
                    "telling": one.n_telling,
                    "first_difference": one.detail,
                },
            )
            for one in verdicts
        ]
    table = pa.Table.from_pylist(rows, schema=EVALUATIONS.to_arrow())
    run.append("evaluations", table, window=f"leaks/evaluations/{run.run_id}")
    leaks = sorted(
        v.subject for verdicts in found.values() for v in verdicts if v.is_leaking
    )
    decision = record_decision(
        run_id=run.run_id,
        ts=run.now,
        agent_id=MODULE,
        model={"seed": seed, "recall": grade.recall, "false_alarms": grade.n_alarms},
        input_snapshot={"subjects": {w: len(one) for w, one in found.items()}},
        output={"is_certified": grade.is_passed and not leaks, "leaks": leaks},
        rationale=_why(grade, leaks),
    )
    run.append(
        "decision_records", decision, window=f"leaks/decision_records/{run.run_id}"
    )


def _why(grade: Grade, leaks: list[str]) -> str:
    if not grade.is_passed:
        return "the checker missed a planted leak or alarmed on an honest twin"
    if leaks:
        return "the past of these changed when the future did"
    return "no past changed, whatever the future"


def _row(run: Run, metric: str, value: float, detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "module": MODULE,
        "metric": metric,
        "value": value,
        "detail": json.dumps(detail, sort_keys=True),
        "evaluated_at": run.now,
    }
