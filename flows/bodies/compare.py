"""Decide between a model's champion and its challenger, and move them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.model_registry import (
    ModelEvent,
    ModelVersion,
    Registry,
    append_events,
    load_files,
    mirror,
    read_registry,
    settle,
)
from flows.bodies.moments import decision_moment
from flows.bodies.promotion import Decided, promotion_events, require_model
from flows.runs import Run
from lab.arrays import FloatArray, IntArray, TimeArray
from lab.evaluation.decisions import record_decision
from lab.learning.comparison import (
    DEFAULT_RULES,
    RULES,
    Acted,
    Comparison,
    ComparisonRules,
    compare,
)
from lakehouse.clock import parse_moment

JUDGE: Final = "model-compare"
ORIGINS: Final = ("live", "out_of_fold")
"""Predictions of a version that had not seen the row, the better witness first."""

_MOMENT: Final = pa.timestamp("us", "UTC")
_SERIES: Final = "#"
_COLUMNS: Final = (
    "version",
    "origin",
    "subject_id",
    "as_of",
    "prediction",
    "label",
    "outcome",
    "costs",
    "settled_at",
)


def run_compare(
    run: Run, *, model: str = "winprob", as_of: str | None = None, seed: int = 0
) -> str:
    """Compare champion and challenger on the rows both predicted, and act on it.

    The rows are those of `model_predictions` that both versions predicted out of
    sample, live or out of fold, and that are settled; one without an outcome was not
    acted on and earned nothing. Rows out of fold up to either's `tuned_until` are no
    witnesses: its settings were selected on them. Without a champion, the
    challenger stands against no model at all: nothing is traded, the trailing base rate
    is the probability, and its predictions must be better, too. A `subject_id` that
    ends in `#` and a number is of one of several equal trainings (a policy's seeds).

    Parameters
    ----------
    run : Run
        Where to read and write.
    model : str
        Registered model.
    as_of : str, optional
        Only outcomes known by then count; now if not given.
    seed : int
        Of the bootstrap.

    Returns
    -------
    str
        The decision, `PROMOTE`, `KEEP`, `INCONCLUSIVE` or `NEEDS_MORE_DATA`, first.

    Raises
    ------
    InputError
        If no version of the model is registered, or `as_of` is no time or later than
        now.
    RefusedError
        If the challenger's files are not those registered, or the chain is broken.

    Notes
    -----
    Point in time: outcomes with `settled_at` ≤ `as_of` of predictions made by versions
    that had not seen the row. A promotion moves an alias; weights stay at 0.
    """
    moment = decision_moment(run, as_of)
    rules = RULES.get(model, DEFAULT_RULES)
    run.seeds["bootstrap"] = seed
    run.parameters |= {"as_of": moment.isoformat(), "rules": asdict(rules)}
    settle(run)  # what a killed run left out
    registry = read_registry(run.workplace.lake)
    require_model(registry, model)
    challenger, champion = registry.challenger(model), registry.champion(model)
    if challenger is None:
        return _no_challenger(run, model, champion)
    load_files(run.workplace.lake, challenger)
    if champion is None:
        rules = replace(rules, is_loss_decisive=model not in RULES)
    verdict = _judge(run, champion, challenger, moment, rules)
    if verdict.decision == "PROMOTE":
        _promote(run, champion, challenger, verdict)
    _record(run, model, champion, challenger, verdict)
    mirror(run)
    run.count("rows_compared", verdict.n_rows)
    return _line(champion, challenger, verdict)


@dataclass(frozen=True, slots=True)
class _Common:
    # Rows that both predicted, in the order of their subjects.
    champion: Acted
    challenger: Acted
    days: TimeArray
    series: IntArray | None


def _judge(
    run: Run,
    champion: ModelVersion | None,
    challenger: ModelVersion,
    moment: datetime,
    rules: ComparisonRules,
) -> Comparison:
    selected = _selected_until(champion, challenger)
    new = _rows(run, challenger, moment, selected)
    if champion is None:
        old = new
    else:
        old = _rows(run, champion, moment, selected)
        keys = sorted(set(new["subject_id"].to_pylist()) & set(_subjects(old)))
        new, old = _chosen(new, keys), _chosen(old, keys)
    common = _common(old, new, has_champion=champion is not None)
    return compare(
        common.champion,
        common.challenger,
        days=common.days,
        rules=rules,
        seed=run.seeds["bootstrap"],
        series=common.series,
    )


def _selected_until(*versions: ModelVersion | None) -> datetime:
    # Newest moment that the search knew for the settings of any of them.
    found = [
        parse_moment(str(one.manifest["tuned_until"]), what="tuned_until")
        for one in versions
        if one is not None and one.manifest.get("tuned_until") is not None
    ]
    return max(found, default=datetime(1, 1, 1, tzinfo=UTC))


def _rows(
    run: Run, version: ModelVersion, moment: datetime, selected: datetime
) -> pa.Table:
    is_known = pc.field("settled_at") <= pa.scalar(moment, _MOMENT)
    is_witness = (pc.field("origin") == "live") | (
        pc.field("as_of") > pa.scalar(selected, _MOMENT)
    )
    rows = run.read(
        "model_predictions",
        columns=list(_COLUMNS),
        filter=(pc.field("model_name") == version.model_name)
        & (pc.field("version") == version.version)
        & pc.field("origin").isin(list(ORIGINS))
        & is_known
        & is_witness,
    )
    # One row a subject, of the better witness: "live" sorts before "out_of_fold".
    order = [("subject_id", "ascending"), ("origin", "ascending")]
    rows = rows.sort_by(order)
    names = np.asarray(_subjects(rows), dtype=object)
    is_first = np.ones(len(names), dtype=bool)
    is_first[1:] = names[1:] != names[:-1]
    return rows.filter(pa.array(is_first))


def _subjects(rows: pa.Table) -> list[str]:
    found: list[str] = rows["subject_id"].to_pylist()
    return found


def _chosen(rows: pa.Table, keys: list[str]) -> pa.Table:
    return rows.filter(pc.is_in(rows["subject_id"], pa.array(keys, pa.string())))


def _common(old: pa.Table, new: pa.Table, *, has_champion: bool) -> _Common:
    days = new["as_of"].cast(pa.timestamp("us")).to_numpy().astype("datetime64[D]")
    labels = _numbers(new, "label")
    has_labels = len(labels) > 0 and bool(np.isfinite(labels).all())
    losses: list[FloatArray | None] = [None, None]
    if has_labels:
        is_binary = bool(np.isin(labels, (0.0, 1.0)).all())
        base = _numbers(old, "prediction") if has_champion else _base_rate(new, labels)
        given = (base, _numbers(new, "prediction"))
        losses = [_loss(one, labels, is_binary=is_binary) for one in given]
    nothing = np.zeros(new.num_rows)
    champion = Acted(nothing, nothing, losses[0])
    if has_champion:
        champion = Acted(_earned(old), _numbers(old, "costs"), losses[0])
    challenger = Acted(_earned(new), _numbers(new, "costs"), losses[1])
    return _Common(champion, challenger, days, _series(_subjects(new)))


def _earned(rows: pa.Table) -> FloatArray:
    # A settled row without an outcome was not acted on.
    return np.nan_to_num(_numbers(rows, "outcome"))


def _numbers(rows: pa.Table, name: str) -> FloatArray:
    column = rows[name].cast(pa.float64()).fill_null(float("nan"))
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _loss(values: FloatArray, labels: FloatArray, *, is_binary: bool) -> FloatArray:
    if not is_binary:
        return np.asarray((values - labels) ** 2)
    inside = np.clip(values, 1e-6, 1.0 - 1e-6)
    return np.asarray(-np.where(labels == 1.0, np.log(inside), np.log1p(-inside)))


def _base_rate(rows: pa.Table, labels: FloatArray) -> FloatArray:
    # Mean of the labels that were known at each decision, with one of each before any.
    known = rows["settled_at"].cast(pa.int64()).to_numpy()
    decided = rows["as_of"].cast(pa.int64()).to_numpy()
    if not np.isin(labels, (0.0, 1.0)).all():
        return np.zeros(len(labels))
    order = np.argsort(known, kind="stable")
    before = np.searchsorted(known[order], decided, side="right")
    totals = np.concatenate([[0.0], np.cumsum(labels[order])])
    return np.asarray((totals[before] + 1.0) / (before + 2.0))


def _series(subjects: list[str]) -> IntArray | None:
    ends = [name.rpartition(_SERIES)[2] if _SERIES in name else "" for name in subjects]
    if not subjects or not all(end.isdigit() for end in ends):
        return None
    return np.array([int(end) for end in ends], dtype=np.int64)


def _promote(
    run: Run,
    champion: ModelVersion | None,
    challenger: ModelVersion,
    verdict: Comparison,
) -> None:
    name = challenger.model_name
    decided = Decided(run.flow, verdict.why, run.now)
    evidence = {"comparison": verdict.document()}

    def plan(registry: Registry) -> list[ModelEvent]:
        present = registry.champion(name)
        is_same = registry.version(name, challenger.version) == challenger
        if not is_same or _key(present) != _key(champion):
            return []
        return promotion_events(registry, challenger, decided, evidence)

    if append_events(run, plan):
        run.count("models_promoted", 1)
    else:
        run.notes.append(f"{name}: moved by another run meanwhile; nothing was moved")


def _key(version: ModelVersion | None) -> str | None:
    return None if version is None else version.version


def _no_challenger(run: Run, model: str, champion: ModelVersion | None) -> str:
    why = "no version in Staging is newer than the champion"
    if champion is None:
        why = "no version is in Staging"
    _record(run, model, champion, None, Comparison("KEEP", why))
    mirror(run)
    return f"KEEP: {model}: {why}"


def _record(
    run: Run,
    model: str,
    champion: ModelVersion | None,
    challenger: ModelVersion | None,
    verdict: Comparison,
) -> None:
    snapshot: Mapping[str, Any] = {
        "model_name": model,
        "champion": _key(champion),
        "challenger": _key(challenger),
        "tables_read": dict(run.tables_read),
        "seed": run.seeds["bootstrap"],
        "as_of": run.parameters["as_of"],
    }
    run.parameters["comparison"] = verdict.document()
    record = record_decision(
        run_id=run.run_id,
        ts=run.now,
        agent_id=JUDGE,
        model={"name": "paired-block-bootstrap", "rules": run.parameters["rules"]},
        input_snapshot=snapshot,
        output=verdict.document(),
        rationale=verdict.why,
    )
    window = f"{JUDGE}/decision_records/{run.run_id}"
    run.append("decision_records", record, window=window)


def _line(
    champion: ModelVersion | None, challenger: ModelVersion, verdict: Comparison
) -> str:
    against = "no model" if champion is None else champion.version
    figures = ""
    if verdict.improvement is not None and verdict.standard_error is not None:
        figures = (
            f"; {verdict.improvement:+.3g} a day (standard error"
            f" {verdict.standard_error:.2g}) on {verdict.n_days} days"
        )
    return (
        f"{verdict.decision}: {challenger.model_name} {challenger.version} against"
        f" {against}: {verdict.why}{figures}"
    )
