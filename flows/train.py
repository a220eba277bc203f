"""Flows that train: the ensemble, Kronos, Chronos-2 and their adapters."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from prefect import flow
from prefect.flows import Flow

from flows.bodies import training as bodies
from flows.prefect_steps import GPU, run_body
from flows.runs import Outcome


@flow(name="train-ensemble")
def train_ensemble(
    timeframe: str | None = None,
    as_of: str | None = None,
    seed: int = 0,
    is_backfill: bool = False,  # noqa: FBT001, FBT002 - a parameter of the deployment
) -> Outcome:
    """Train the ensemble's weights, one checkpoint per asset class.

    Parameters
    ----------
    timeframe : str, optional
        `1h` or `1d`; each that has settled scores if not given.
    as_of : str, optional
        Only scores known by then count; now if not given.
    seed : int
        Seed of the boosting.
    is_backfill : bool
        Train as of past moments too, and forecast what came after them.
    """
    return run_body(
        "train-ensemble",
        bodies.train_ensemble,
        resource="lab-batch",
        timeframe=timeframe,
        as_of=as_of,
        seed=seed,
        is_backfill=is_backfill,
    )


@flow(name="train-kronos")
def train_kronos(
    timeframe: str | None = None,
    as_of: str | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> Outcome:
    """Fine-tune every weight of Kronos on the lake's bars.

    Parameters
    ----------
    timeframe : str, optional
        `1h` or `1d`; each that has bars if not given.
    as_of : str, optional
        Only bars known by then count; now if not given.
    steps, seed : int, optional
        Of the training.
    """
    return _train("train-kronos", timeframe, as_of=as_of, steps=steps, seed=seed)


@flow(name="kronos-rolling-finetune")
def kronos_rolling_finetune(
    timeframe: str | None = None,
    as_of: str | None = None,
    asset_class: str | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> Outcome:
    """Train one LoRA per asset class for Kronos.

    Parameters
    ----------
    timeframe : str, optional
        `1h` or `1d`; each that has bars if not given.
    as_of : str, optional
        Only bars known by then count; now if not given.
    asset_class : str, optional
        This class only.
    steps, seed : int, optional
        Of the training.
    """
    return _train(
        "kronos-rolling-finetune",
        timeframe,
        as_of=as_of,
        asset_class=asset_class,
        steps=steps,
        seed=seed,
    )


@flow(name="train-chronos2")
def train_chronos2(
    timeframe: str | None = None,
    as_of: str | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> Outcome:
    """Train a small Chronos-2 from scratch on the lake's bars.

    Parameters
    ----------
    timeframe : str, optional
        `1h` or `1d`; each that has bars if not given.
    as_of : str, optional
        Only bars known by then count; now if not given.
    steps, seed : int, optional
        Of the training.
    """
    return _train("train-chronos2", timeframe, as_of=as_of, steps=steps, seed=seed)


@flow(name="chronos2-rolling-finetune")
def chronos2_rolling_finetune(
    timeframe: str | None = None,
    as_of: str | None = None,
    asset_class: str | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> Outcome:
    """Train one LoRA per asset class for Chronos-2.

    Parameters
    ----------
    timeframe : str, optional
        `1h` or `1d`; each that has bars if not given.
    as_of : str, optional
        Only bars known by then count; now if not given.
    asset_class : str, optional
        This class only.
    steps, seed : int, optional
        Of the training.
    """
    return _train(
        "chronos2-rolling-finetune",
        timeframe,
        as_of=as_of,
        asset_class=asset_class,
        steps=steps,
        seed=seed,
    )


def _train(name: str, timeframe: str | None, **parameters: Any) -> Outcome:
    # One training at a time, and none beside a forecast batch on the same device.
    given = {key: value for key, value in parameters.items() if value is not None}
    return run_body(
        name, bodies.BODIES[name], resource=GPU, timeframe=timeframe, **given
    )


FLOWS: Final[Mapping[str, Flow[Any, Any]]] = MappingProxyType(
    {
        one.name: one
        for one in (
            train_ensemble,
            train_kronos,
            kronos_rolling_finetune,
            train_chronos2,
            chronos2_rolling_finetune,
        )
    }
)
"""By name, as `alphalake train` looks them up."""
