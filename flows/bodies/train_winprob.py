"""Train the win-probability model on closed orders, and register it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import numpy as np

from flows.bodies.calibration_weeks import calibrate_weeks
from flows.bodies.model_registry import ModelVersion, enter_model, read_registry
from flows.bodies.moments import decision_moment
from flows.bodies.order_predictions import MODEL, known_rates, settle_predictions
from flows.bodies.order_samples import closed_orders, read_order_samples
from flows.bodies.out_of_fold import append_out_of_fold
from flows.bodies.winprob_artefact import enter_candidate
from flows.runs import Run
from flows.studies import tuned_until, with_tuned
from lab.errors import TrainingError
from lab.evaluation.decisions import record_decision
from lab.learning.config import BOOSTERS, TrainingConfig
from lab.learning.feature_sets import ORDER_FEATURES
from lab.learning.training import Trained, train
from lab.lifecycle.model_stages import STAGING, Bound
from lakehouse.errors import InputError, RefusedError

MIN_ORDERS: Final = 300
"""Closed orders below which nothing is trained."""

THRESHOLDS: Final = (Bound("n_rows", at_least=200.0), Bound("ece", at_most=0.1))
"""What a version must show to be watched: a probability that can be read as one. Whether
it beats the champion, or the base rate, is for the comparison and for live weeks."""

SPAN: Final = {"is_expanding": True, "half_life_days": 1825.0}
"""Every closed order teaches, an order of five years ago half as much: a slow book has
fewer than a hundred a year."""

_TRAINER: Final = "train-winprob"


def run_train_winprob(
    run: Run,
    *,
    learner: str = "xgboost",
    config: Mapping[str, Any] | None = None,
    as_of: str | None = None,
    seed: int = 0,
) -> str:
    """Train on closed orders, calibrate, register; its out-of-fold rows are kept.

    Parameters
    ----------
    run : Run
        Where to read and write.
    learner : str
        `xgboost`, `catboost` or `lightgbm`; a `model` of `config` goes first.
    config : mapping, optional
        Fields of `TrainingConfig`, e.g. of a TOML file.
    as_of : str, optional
        Only orders closed by then teach; now if not given.
    seed : int
        Of the training; a `seed` of `config` goes first.

    Returns
    -------
    str
        One line.

    Raises
    ------
    InputError
        If the learner or a setting cannot be used.
    RefusedError
        If there are too few closed orders (NEEDS_MORE_DATA), or they cannot be read.

    Notes
    -----
    Point in time: orders with `exit_ts` <= `as_of`, their features as frozen at entry.
    Orders of every origin teach; only live ones count for gates and drift. The newest
    closed orders neither teach nor check while more than 5 % of the orders of their
    time are open: losers close first. Notes and `orders_waiting` say how many wait.
    """
    moment = decision_moment(run, as_of)
    chosen = _config(learner, config, seed)
    run.seeds["training"] = chosen.seed
    run.parameters |= {"as_of": moment.isoformat(), "config_sha256": chosen.sha256}
    settle_predictions(run)
    samples = read_order_samples(run, as_of=moment).samples
    run.count("orders", len(samples))
    needed = max(MIN_ORDERS, chosen.min_rows)
    if len(samples) < needed:
        raise RefusedError(
            f"NEEDS_MORE_DATA: {len(samples)} closed orders to learn from by"
            f" {moment.isoformat()}, {needed} are needed; `alphalake paper --backfill`"
            " makes them from bars"
        )
    if config is None:
        chosen, until = with_tuned(run, samples, chosen, model=MODEL)
        run.parameters["config_sha256"] = chosen.sha256
    else:
        until = tuned_until(read_registry(run.workplace.lake).versions(MODEL), chosen)
    try:
        trained = train(
            samples, chosen, as_of=moment, definition=ORDER_FEATURES.definition
        )
    except TrainingError as error:
        raise RefusedError(f"NEEDS_MORE_DATA: {error}") from error
    trained.card["tuned_until"] = None if until is None else until.isoformat()
    version = _register(run, trained, chosen, moment)
    _record(run, trained, version, moment)
    calibrate_weeks(run)
    return _line(trained, version, len(samples))


def _config(
    learner: str, config: Mapping[str, Any] | None, seed: int
) -> TrainingConfig:
    given = {
        "feature_set": ORDER_FEATURES.name,
        "objective": "classification",
        "model": learner,
        "seed": seed,
        **SPAN,
        **(config or {}),
    }
    try:
        chosen = TrainingConfig.from_mapping(given)
    except TrainingError as error:
        raise InputError(str(error)) from error
    if chosen.model not in BOOSTERS:
        raise InputError(f"--learner {chosen.model}: one of {', '.join(BOOSTERS)}")
    wanted = (ORDER_FEATURES.name, "classification")
    if (chosen.feature_set, chosen.objective) != wanted:
        raise InputError(f"--config: winprob is a {wanted[1]} on {wanted[0]}")
    return chosen


def _register(
    run: Run, trained: Trained, config: TrainingConfig, moment: datetime
) -> ModelVersion:
    version = enter_model(
        run,
        model_name=MODEL,
        files=trained.files,
        card=trained.card,
        metrics=trained.metrics,
        who=_TRAINER,
        why=f"{config.model} trained on {trained.card['n_train']} closed orders",
        evidence={"last_block": trained.card["last_block"]},
        thresholds=THRESHOLDS,
        keep=lambda name: _keep_out_of_fold(run, trained, name, moment),
    )
    if version.stage == STAGING:
        enter_candidate(run, version.version)
    return version


def _keep_out_of_fold(
    run: Run, trained: Trained, version: str, moment: datetime
) -> None:
    told = trained.out_of_fold
    closed = closed_orders(run, as_of=moment)
    rates = known_rates(closed, told.samples.start)
    is_taken = told.predictions > rates
    costs = dict(
        zip(closed["order_id"].to_pylist(), closed["costs"].to_pylist(), strict=True)
    )
    append_out_of_fold(
        run,
        trained,
        model_name=MODEL,
        version=version,
        earned=np.where(is_taken, told.samples.outcome, np.nan),
        costs=np.array([costs[one] for one in told.samples.subject_id.tolist()]),
    )


def _record(
    run: Run, trained: Trained, version: ModelVersion, moment: datetime
) -> None:
    card = trained.card
    decision = record_decision(
        run_id=run.run_id,
        ts=run.now,
        agent_id=_TRAINER,
        model={"name": "winprob-trainer", "config": card["config"]},
        input_snapshot={
            "as_of": moment.isoformat(),
            "tables_read": dict(run.tables_read),
            "n_out_of_fold": len(trained.out_of_fold.samples),
        },
        output={"version": version.version, "stage": version.stage},
        rationale=f"thresholds {', '.join(map(str, THRESHOLDS))}",
    )
    window = f"{_TRAINER}/decision_records/{run.run_id}"
    run.append("decision_records", decision, window=window)


def _line(trained: Trained, version: ModelVersion, n_orders: int) -> str:
    figures = trained.metrics
    shown = [
        f"{word} {value:.3f}"
        for word, name in (
            ("AUC", "auc"),
            ("log loss", "log_loss"),
            ("base rate's", "baseline_log_loss"),
            ("Brier", "brier"),
            ("ECE", "ece"),
        )
        if (value := figures.get(name)) is not None and np.isfinite(value)
    ]
    return (
        f"{MODEL} {version.version}: stage {version.stage}, from {n_orders} closed"
        f" orders; out of fold {', '.join(shown)}"
    )
