"""Flows that train registered models."""

from typing import Any

from prefect import flow

from flows.prefect_steps import run_body
from flows.runs import Outcome


@flow(name="train-gbm", flow_run_name="train-gbm-{timeframe}")
def train_gbm(
    timeframe: str = "1d",
    learner: str = "xgboost",
    config: dict[str, Any] | None = None,
    as_of: str | None = None,
    seed: int = 0,
) -> Outcome:
    """Train and register a model of forward returns.

    Parameters
    ----------
    timeframe : str
        `1d` or `1h`.
    learner : str
        `xgboost`, `catboost`, `lightgbm`, or `ridge` over all three.
    config : dict, optional
        Training settings.
    as_of : str, optional
        Use only what was known then; now if not given.
    seed : int
        Of the training.
    """
    from flows.bodies.train_gbm import run_train_gbm

    return run_body(
        "train-gbm",
        run_train_gbm,
        resource="lab-train",
        timeframe=timeframe,
        learner=learner,
        config=config,
        as_of=as_of,
        seed=seed,
    )


@flow(name="train-winprob", flow_run_name="train-winprob")
def train_winprob(
    learner: str = "xgboost",
    config: dict[str, Any] | None = None,
    as_of: str | None = None,
    seed: int = 0,
) -> Outcome:
    """Train and register the model of an order's probability to win.

    Parameters
    ----------
    learner : str
        `xgboost`, `catboost` or `lightgbm`.
    config : dict, optional
        Training settings.
    as_of : str, optional
        Only orders closed by then teach; now if not given.
    seed : int
        Of the training.
    """
    from flows.bodies.train_winprob import run_train_winprob

    return run_body(
        "train-winprob",
        run_train_winprob,
        resource="lab-train",
        learner=learner,
        config=config,
        as_of=as_of,
        seed=seed,
    )
