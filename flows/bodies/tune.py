"""Search training settings: a study that goes on where it stopped, and the ledger.

A trial goes into the ledger before it goes into the study: one that is killed between
the two is made again, comes out the same, and is entered once.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np

from flows.bodies.market_panel import append_trials
from flows.bodies.moments import decision_moment
from flows.progress import plural, track
from flows.runs import Run
from flows.studies import StudyStore, keep_tuned
from lab.backtest.ledger import Trial, family_id
from lab.bars.timeframes import to_moment
from lab.errors import TrainingError
from lab.evaluation.decisions import record_decision
from lab.learning.config import BOOSTERS, TrainingConfig
from lab.learning.samples import Samples
from lab.learning.search import (
    Record,
    Tried,
    best_of,
    samples_hash,
    searched_rows,
    study_id,
    try_next,
    with_settings,
)
from lakehouse.errors import InputError, RefusedError

ORIGIN: Final = "tune"
MODELS: Final = ("winprob", "gbm-1d", "gbm-1h")


@dataclass(frozen=True, slots=True)
class _Study:
    # What is searched, and where it is written down.
    model: str
    samples: Samples
    base: TrainingConfig
    seed: int
    name: str
    store: StudyStore


def run_tune(
    run: Run,
    *,
    model: str = "winprob",
    learner: str = "xgboost",
    trials: int = 20,
    timeout_s: float | None = None,
    seed: int = 0,
    as_of: str | None = None,
) -> str:
    """Add trials to the study of a model's settings and keep the best for training.

    Counts `trials`, `pruned` and `ledger`.

    Parameters
    ----------
    run : Run
        Where to read and write.
    model : str
        `winprob`, `gbm-1d` or `gbm-1h`.
    learner : str
        `xgboost`, `catboost` or `lightgbm`.
    trials : int
        How many to add; the same rows, learner and seed are the same study.
    timeout_s : float, optional
        Seconds after which none is begun.
    seed : int
        Of the sampler.
    as_of : str, optional
        Only labels known by then; now if not given.

    Raises
    ------
    InputError
        If the model or learner is unknown, a count is below 1, or `as_of` is no time or
        later than now.
    RefusedError
        If there are too few settled rows (NEEDS_MORE_DATA).
    TrainingError
        If a stored trial is damaged.

    Notes
    -----
    Point in time: labels known by `as_of`, without the last block that a training checks
    itself on. Settings were chosen with all the rest in sight:
    `flows.studies.with_tuned` gives them to no training of an earlier time.
    """
    _require(model, learner, trials, timeout_s)
    moment = decision_moment(run, as_of)
    study = _open(run, model, learner, seed=seed, moment=moment)
    run.parameters |= {"as_of": moment.isoformat(), "study": study.name}
    run.seeds["tune"] = seed
    records = study.store.records(study.name)
    n_before = len(records)
    for tried in track(
        _trials(study, records, trials, timeout_s), f"tune {model}", total=trials
    ):
        _enter(run, study, tried)
        records.append(tried.record)
    run.count("trials", len(records) - n_before)
    run.count("pruned", sum(one.state == "pruned" for one in records[n_before:]))
    return _finish(run, study, records, n_before)


def _require(model: str, learner: str, trials: int, timeout_s: float | None) -> None:
    if model not in MODELS:
        raise InputError(f"--model {model}: one of {', '.join(MODELS)}")
    if learner not in BOOSTERS:
        raise InputError(f"--learner {learner}: one of {', '.join(BOOSTERS)}")
    if trials < 1 or (timeout_s is not None and timeout_s <= 0):
        raise InputError("--trials and --timeout: above 0")


def _open(run: Run, model: str, learner: str, *, seed: int, moment: datetime) -> _Study:
    samples, settings = _samples(run, model, moment)
    base = TrainingConfig.from_mapping({**settings, "model": learner})
    # Rows name the study, not the clock: without new labels the same one goes on.
    rows = searched_rows(samples, base)
    name = study_id(rows, base, seed=seed)
    store = StudyStore(run.workplace.root)
    study = _Study(model, rows, base, seed, name, store)
    _require_rows(study, samples)
    return study


def _samples(run: Run, model: str, moment: datetime) -> tuple[Samples, dict[str, Any]]:
    if model == "winprob":
        from flows.bodies.order_samples import read_order_samples
        from flows.bodies.train_winprob import SPAN

        found = read_order_samples(run, as_of=moment).samples
        settings = {"feature_set": "order-v1", "objective": "classification", **SPAN}
        return found.known_by(moment), settings
    return _bar_samples(run, model.removeprefix("gbm-"), moment)


def _bar_samples(
    run: Run, timeframe: str, moment: datetime
) -> tuple[Samples, dict[str, Any]]:
    # The rows and settings that `train gbm` takes.
    from flows.bodies.market_panel import open_panel
    from flows.bodies.train_gbm import DEFAULTS, YEARS
    from lab.learning.feature_sets import BAR_FEATURES
    from lab.learning.forward_returns import forward_samples

    panel = open_panel(
        run, timeframe=timeframe, as_of=moment.isoformat(), years=YEARS[timeframe]
    )
    rows = forward_samples(panel, BAR_FEATURES.compute(panel), BAR_FEATURES.names)
    newest = panel.known_ts[-1]
    begin = newest - np.timedelta64(int(YEARS[timeframe] * 365.25), "D")
    return rows.between(begin, newest).known_by(moment), dict(DEFAULTS)


def _trials(
    study: _Study, records: list[Record], n_trials: int, timeout_s: float | None
) -> Iterator[Tried]:
    # `records` grows outside, as each trial is written down.
    begun = time.monotonic()
    for _ in range(n_trials):
        if timeout_s is not None and time.monotonic() - begun >= timeout_s:
            return
        try:
            tried = try_next(records, study.samples, study.base, seed=study.seed)
        except TrainingError as error:
            raise RefusedError(f"NEEDS_MORE_DATA: {error}") from error
        yield tried


def _require_rows(study: _Study, newest: Samples) -> None:
    # One window of settled rows to train on, and something after it to judge by.
    n_rows, needed = len(study.samples), study.base.min_rows
    if n_rows <= needed:
        raise RefusedError(
            f"NEEDS_MORE_DATA: {n_rows} of {len(newest)} settled rows are before the last"
            f" {study.base.backtest_period_days} days: more than {needed} are needed"
        )


def _enter(run: Run, study: _Study, tried: Tried) -> None:
    # The model takes part in the family: its days are those on which rows settled, and
    # sleeves of these instruments were never choices in this search.
    timeframes = "+".join(np.unique(study.samples.timeframe).tolist())
    family = family_id(
        [*np.unique(study.samples.symbol).tolist(), f"model:{study.model}"],
        timeframes,
        (tried.days[0], tried.days[-1]),
    )
    configuration = {
        "kind": "training",
        "model": study.model,
        "settings": asdict(tried.config),
        "samples": samples_hash(study.samples)[:16],
        "windows": len(tried.record.values),
    }
    text = json.dumps(configuration, sort_keys=True, separators=(",", ":"))
    trial = Trial(text, tried.returns)
    n_new = append_trials(run, [trial], family=family, origin=ORIGIN, days=tried.days)
    run.count("ledger", n_new)
    study.store.add(study.name, tried.record)


def _finish(run: Run, study: _Study, records: list[Record], n_before: int) -> str:
    label = f"tune {study.model} {study.base.model}"
    n_new = len(records) - n_before
    told = f"{label}: {plural(n_new, 'trial')} added, {len(records)} in the study"
    best = best_of(records)
    if best is None:
        return f"{told}; none ran to its end yet"
    config = with_settings(study.base, best.parameters)
    first = records[0].value
    summary = {
        "study": study.name,
        "n_trials": len(records),
        "best": best.number,
        "skill": best.value,
        "skill_untuned": first,
        "seed": study.seed,
    }
    version = keep_tuned(
        run.workplace.root,
        config,
        model=study.model,
        study=summary,
        created_at=run.now,
        cutoff=to_moment(study.samples.end.max()),
    )
    _record(run, study, config, {**summary, "version": version})
    return (
        f"{told}; best is trial {best.number}, out-of-fold skill {best.value:.4f}"
        f" (untuned {first:.4f}); settings {version} are what trainings take from now on"
    )


def _record(
    run: Run, study: _Study, config: TrainingConfig, summary: dict[str, Any]
) -> None:
    row = record_decision(
        run_id=run.run_id,
        ts=run.now,
        agent_id=f"tune:{study.model}",
        model={"decider": "Optuna TPE, median pruning", "seed": study.seed},
        input_snapshot={
            "study": study.name,
            "n_trials": summary["n_trials"],
            "n_rows": len(study.samples),
        },
        output={**summary, "config": asdict(config)},
        rationale="highest out-of-fold skill over all windows among complete trials",
    )
    run.append("decision_records", row, window=f"tune/decision/{run.run_id}")
