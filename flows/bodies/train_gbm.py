"""Train a model of forward returns per timeframe: a booster, or a ridge over three."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from flows.bodies.market_panel import open_panel
from flows.bodies.model_registry import ModelVersion, enter_model, read_registry
from flows.bodies.out_of_fold import append_out_of_fold
from flows.runs import Run
from flows.studies import tuned_until, with_tuned
from lab.bars.timeframes import to_moment
from lab.errors import TrainingError
from lab.evaluation.decisions import record_decision
from lab.learning.config import BOOSTERS, MODELS, TrainingConfig
from lab.learning.feature_sets import BAR_FEATURES
from lab.learning.forward_returns import forward_samples
from lab.learning.metrics import acted
from lab.learning.samples import Samples
from lab.learning.training import Trained, train, train_stack
from lab.lifecycle.model_stages import Bound, first_stage
from lakehouse.errors import InputError, RefusedError

YEARS: Final = MappingProxyType({"1d": 3.0, "1h": 1.0})
"""How far back rows are taken, besides what the panel reads to warm up."""

DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "feature_set": BAR_FEATURES.name,
        "objective": "regression",
        "n_estimators": 100,
        "learning_rate": 0.01,
        "max_depth": 3,
        "l2": 100.0,
        "min_leaf_rows": 100,
        "min_rows": 500,
    }
)
"""Returns are nearly noise: shallow trees, strong shrinkage."""

THRESHOLDS: Final = (Bound("skill", at_least=0.0), Bound("sharpe_ratio", at_least=0.0))
"""A version that forecasts worse than 0, or loses money, is registered, not staged."""

_TRAINER: Final = "train-gbm"
_FIXED: Final = ("feature_set", "objective")


def run_train_gbm(
    run: Run,
    *,
    timeframe: str = "1d",
    learner: str = "xgboost",
    config: Mapping[str, Any] | None = None,
    as_of: str | None = None,
    seed: int = 0,
) -> str:
    """Train and register `gbm-<timeframe>`, and keep its out-of-fold predictions.

    Parameters
    ----------
    run : Run
        Where to read and write.
    timeframe : str
        `1d` or `1h`.
    learner : str
        `xgboost`, `catboost`, `lightgbm`, or `ridge`: all three and a ridge over their
        out-of-fold scores.
    config : mapping, optional
        Settings beside `DEFAULTS`, see `TrainingConfig`.
    as_of : str, optional
        Use only what was known then; when the newest bar was known if not given.
    seed : int
        Of every draw.

    Raises
    ------
    InputError
        If the timeframe or learner is unknown, a setting contradicts the model, or there
        are no bars.
    RefusedError
        If there are too few settled rows (NEEDS_MORE_DATA).

    Notes
    -----
    Point in time: bars known by `as_of`; see `lab.learning.training`.
    """
    if timeframe not in YEARS:
        raise InputError(f"timeframe {timeframe!r}: one of {', '.join(YEARS)}")
    plan = _plan(learner, config, seed)
    panel = open_panel(run, timeframe=timeframe, as_of=as_of, years=YEARS[timeframe])
    samples = forward_samples(panel, BAR_FEATURES.compute(panel), BAR_FEATURES.names)
    begin = panel.known_ts[-1] - np.timedelta64(int(YEARS[timeframe] * 365.25), "D")
    samples = samples.between(begin, panel.known_ts[-1])
    name = f"gbm-{timeframe}"
    if config is None and learner in BOOSTERS:
        plan, until = with_tuned(run, samples, plan, model=name)
    else:
        until = tuned_until(read_registry(run.workplace.lake).versions(name), plan)
    run.parameters |= {"learner": learner, "config_sha256": plan.sha256}
    run.seeds["training"] = plan.seed
    run.count("samples", len(samples))
    trained = _trained(samples, plan, learner)
    trained.card["tuned_until"] = None if until is None else until.isoformat()
    version = enter_model(
        run,
        model_name=name,
        files=trained.files,
        card={**trained.card, "kind": "gbm", "learner": learner},
        metrics=trained.metrics,
        who=_TRAINER,
        why=f"trained on bars known by {to_moment(panel.known_ts[-1]):%Y-%m-%d %H:%M}",
        evidence={"last_block": trained.card["last_block"]},
        thresholds=THRESHOLDS,
        keep=lambda version: _keep_out_of_fold(run, trained, plan, name, version),
    )
    _record(run, name, version, trained, run.parameters["as_of"])
    return _line(name, version.version, version.stage, trained, samples)


def _plan(learner: str, config: Mapping[str, Any] | None, seed: int) -> TrainingConfig:
    if learner not in MODELS:
        raise InputError(f"learner {learner!r}: one of {', '.join(MODELS)}")
    given = dict(config or {})
    fixed = {**DEFAULTS, "model": learner}
    for name in (*_FIXED, "model"):
        if given.get(name, fixed[name]) != fixed[name]:
            raise InputError(
                f"training setting {name} = {given[name]!r}: {fixed[name]} here"
            )
    try:
        return TrainingConfig.from_mapping({**fixed, "seed": seed, **given})
    except TrainingError as error:
        raise InputError(str(error)) from error


def _trained(samples: Samples, plan: TrainingConfig, learner: str) -> Trained:
    fit = train_stack if learner == "ridge" else train
    try:
        return fit(samples, plan, definition=BAR_FEATURES.definition)
    except TrainingError as error:
        raise RefusedError(f"NEEDS_MORE_DATA: {error}") from error


def _keep_out_of_fold(
    run: Run, trained: Trained, plan: TrainingConfig, name: str, version: str
) -> None:
    cost = 2.0 * plan.cost_bps / 10_000.0
    told = trained.out_of_fold
    append_out_of_fold(
        run,
        trained,
        model_name=name,
        version=version,
        earned=acted(told.scores, told.samples.outcome, 0.0, cost=cost),
        costs=np.full(len(told.scores), cost),
    )


def _record(
    run: Run, name: str, version: ModelVersion, trained: Trained, as_of: str
) -> None:
    decision = record_decision(
        run_id=run.run_id,
        ts=run.now,
        agent_id=_TRAINER,
        model={"name": f"{name}-trainer", "config": trained.card["config"]},
        input_snapshot={
            "as_of": as_of,
            "tables_read": dict(run.tables_read),
            "n_out_of_fold": len(trained.out_of_fold.samples),
        },
        output={"version": version.version, "stage": version.stage},
        rationale=f"thresholds {', '.join(map(str, THRESHOLDS))}",
    )
    window = f"{_TRAINER}/decision_records/{run.run_id}"
    run.append("decision_records", decision, window=window)


def _line(
    name: str, version: str, stage: str, trained: Trained, samples: Samples
) -> str:
    found = trained.metrics
    skill, signs = found.get("skill"), found.get("sign_match")
    missed = ", ".join(map(str, first_stage(found, THRESHOLDS)[1]))
    told = f"registered, not staged ({missed} is asked)" if stage == "None" else stage
    words = [f"{name} {version}: {told}", f"{len(samples)} settled rows"]
    if skill is not None and signs is not None:
        words.append(f"skill {skill:+.2%}, signs right {signs:.1%}")
    words.append(f"over {found['n_rows']:.0f} out-of-fold rows")
    return ", ".join(words)
