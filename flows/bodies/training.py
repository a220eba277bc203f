"""Everything that can be trained, for one bar length or for each that has data."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import pyarrow.compute as pc

from flows.bodies.acceptance import record_acceptance
from flows.runs import Run
from lab.bars.timeframes import HORIZONS
from lakehouse.errors import InputError


def train_ensemble(
    run: Run,
    *,
    timeframe: str | None = None,
    as_of: str | None = None,
    seed: int = 0,
    is_backfill: bool = False,
) -> str:
    """Train the ensemble's weights, one checkpoint per asset class.

    Parameters
    ----------
    run : Run
        Where to read; checkpoints go under its lake's root.
    timeframe : str, optional
        `1h` or `1d`; each that has settled scores if not given.
    as_of : str, optional
        Training time; the clock's now if not given.
    seed : int
        Seed of the boosting.
    is_backfill : bool
        Train as of past moments instead, and forecast what came after each.

    Raises
    ------
    InputError
        If a backfill is asked for as of one moment.

    Notes
    -----
    Point in time: labels are scores with `known_ts` <= the training time.
    """
    from flows.bodies import train_ensemble as bodies

    if is_backfill and as_of is not None:
        raise InputError(
            "train ensemble: --backfill has moments of its own, no --as-of"
        )

    def one(run: Run, *, timeframe: str) -> str:
        if is_backfill:
            return bodies.backfill_ensemble(run, timeframe=timeframe, seed=seed)
        told = bodies.train_ensemble(run, timeframe=timeframe, as_of=as_of, seed=seed)
        return _with_acceptance(run, told, timeframe=timeframe)

    return _each(run, one, timeframe, table="prediction_scores")


def train_kronos(run: Run, *, timeframe: str | None = None, **options: Any) -> str:
    """Fine-tune every weight of Kronos on the lake's bars."""
    from flows.bodies import train_kronos as bodies

    return _each(run, bodies.train_kronos, timeframe, **options)


def finetune_kronos(run: Run, *, timeframe: str | None = None, **options: Any) -> str:
    """Train one LoRA per asset class for Kronos."""
    from flows.bodies import train_kronos as bodies

    def one(run: Run, *, timeframe: str, **options: Any) -> str:
        told = bodies.finetune_kronos(run, timeframe=timeframe, **options)
        return _with_acceptance(run, told, timeframe=timeframe)

    return _each(run, one, timeframe, **options)


def train_chronos2(run: Run, *, timeframe: str | None = None, **options: Any) -> str:
    """Fine-tune every weight of Chronos-2 on the lake's bars."""
    from flows.bodies import train_chronos2 as bodies

    return _each(run, bodies.train_chronos2, timeframe, **options)


def finetune_chronos2(run: Run, *, timeframe: str | None = None, **options: Any) -> str:
    """Train one LoRA per asset class for Chronos-2."""
    from flows.bodies import train_chronos2 as bodies

    def one(run: Run, *, timeframe: str, **options: Any) -> str:
        told = bodies.finetune_chronos2(run, timeframe=timeframe, **options)
        return _with_acceptance(run, told, timeframe=timeframe)

    return _each(run, one, timeframe, **options)


BODIES: Final[Mapping[str, Callable[..., str]]] = MappingProxyType(
    {
        "train-ensemble": train_ensemble,
        "train-kronos": train_kronos,
        "kronos-rolling-finetune": finetune_kronos,
        "train-chronos2": train_chronos2,
        "chronos2-rolling-finetune": finetune_chronos2,
    }
)
"""By the name of their flow."""


def _with_acceptance(run: Run, told: str, *, timeframe: str) -> str:
    # What the adapters in use have reached so far is recorded, whatever it is.
    run.notes.append(record_acceptance(run, timeframe=timeframe))
    return told


def _each(
    run: Run,
    body: Callable[..., str],
    timeframe: str | None,
    *,
    table: str = "ohlcv",
    **options: Any,
) -> str:
    # The body for the bar length asked for, or for each that `table` has rows of.
    if timeframe is not None:
        return body(run, timeframe=timeframe, **options)
    stored = set(
        pc.unique(run.read(table, columns=["timeframe"])["timeframe"]).to_pylist()
    )
    lines = [body(run, timeframe=one, **options) for one in HORIZONS if one in stored]
    return "; ".join(lines) or f"nothing to train on: `{table}` is empty"
