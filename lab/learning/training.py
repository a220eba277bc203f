"""Train a model and say honestly what it is worth.

The newest `backtest_period_days` of decisions are the last block. Before it:

1. walk-forward refits score the rows before the block out of fold,
2. Platt's curve is fitted on those scores,
3. the model is fitted on the newest train span.

All three know only labels that were known when the block began. The block then checks
the very model and curve that are kept: nothing is fitted after it was looked at.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

import numpy as np

from lab.arrays import BoolArray, FloatArray, IntArray
from lab.bars.timeframes import to_instant, to_moment
from lab.errors import TrainingError
from lab.learning._base import Learner
from lab.learning.bundle import build_bundle
from lab.learning.calibration import Platt, ece, reliability
from lab.learning.config import BOOSTERS, TrainingConfig
from lab.learning.importance import gain_importance, shap_importance
from lab.learning.learners import fit_learner
from lab.learning.ridge import RidgeLearner
from lab.learning.samples import Samples
from lab.learning.schema import FeatureSchema
from lab.learning.stack import Stack
from lab.learning.walk import (
    MIN_CALIBRATION,
    Walk,
    Window,
    figures,
    fit_curve,
    is_enough,
    training_rows,
    walk_forward_refit,
)
from lab.learning.weights import sample_weights

_DAY: Final = np.timedelta64(1, "D")


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Rows with what models that had not seen them said.

    Attributes
    ----------
    samples : Samples
        The rows, n_scored.
    scores, predictions : ndarray of shape (n_scored,), float64
        Raw; calibrated probabilities, or values of a regression.
    base : ndarray of shape (n_scored,), float64
        Weighted mean label of the training rows at the time.
    fold : ndarray of shape (n_scored,), int64
        Window whose refit scored it; the last block, scored by the kept model, has the
        number after the last window's.
    is_final : ndarray of shape (n_scored,), bool
        Whether the kept model scored it.
    """

    samples: Samples
    scores: FloatArray
    predictions: FloatArray
    base: FloatArray
    fold: IntArray
    is_final: BoolArray


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model.

    Attributes
    ----------
    files : dict of str to bytes
        See `lab.learning.bundle`.
    card : dict
        JSON values: `cutoff`, `config`, `schema_sha256`, `metrics`, `last_block`,
        `reliability`, `windows`, `importance`, ...
    metrics : dict
        Figures over all out-of-fold rows, by name; None where undefined.
    out_of_fold : OutOfFold
        Rows for comparison and for the reference of drift.
    windows : tuple of Window
        Of the walk-forward.
    """

    files: dict[str, bytes]
    card: dict[str, Any]
    metrics: dict[str, float | None]
    out_of_fold: OutOfFold
    windows: tuple[Window, ...]


_Model = TypeVar("_Model", Learner, Stack)


@dataclass(frozen=True, slots=True)
class _Final(Generic[_Model]):
    # The kept model, and the rows it was fitted on.
    model: _Model
    rows: IntArray
    base: float


def train(
    samples: Samples,
    config: TrainingConfig,
    *,
    as_of: datetime | np.datetime64 | None = None,
    definition: str | None = None,
) -> Trained:
    """Train one model: walk-forward, calibration, final fit and its check.

    Parameters
    ----------
    samples : Samples
        Labelled rows.
    config : TrainingConfig
        What to train.
    as_of : datetime, optional
        Labels known later are not looked at; the newest label's time if not given.
    definition : str, optional
        `FeatureSet.definition`; only the names are locked if not given.

    Raises
    ------
    TrainingError
        If there are too few rows to train, calibrate or check on.

    Notes
    -----
    Point in time: the card's `cutoff` is when the newest label was known that anything
    was decided from, the last block's included: being looked at is being used.
    """
    known = _known(samples, as_of)
    block = _block_start(known, config)
    before = known.known_by(block)
    _require(before, config, block)
    walk = walk_forward_refit(before, config)
    final = _fit_final(before, config, block)
    return _finish(
        known, config, block=block, walk=walk, final=final, definition=definition
    )


def train_stack(
    samples: Samples,
    config: TrainingConfig,
    *,
    as_of: datetime | np.datetime64 | None = None,
    definition: str | None = None,
) -> Trained:
    """Train the three boosters and a ridge over their out-of-fold scores.

    Parameters
    ----------
    samples : Samples
        Labelled rows.
    config : TrainingConfig
        Of every member, whatever its `model`; `l2` shrinks the ridge too.
    as_of, definition
        As `train`.

    Raises
    ------
    TrainingError
        As `train`.

    Notes
    -----
    Point in time: the ridge of a window learns from members' scores of earlier windows
    whose labels were known when it began.

    References
    ----------
    .. [1] Wolpert (1992), Stacked generalization, Neural Networks 5.
    """
    known = _known(samples, as_of)
    block = _block_start(known, config)
    before = known.known_by(block)
    _require(before, config, block)
    plans = {str(kind): _with_model(config, kind) for kind in BOOSTERS}
    meta = _with_model(config, "ridge")
    walks = {kind: walk_forward_refit(before, plan) for kind, plan in plans.items()}
    scored, level = _member_scores(before, walks)
    _require(level, meta, block)
    fits = {kind: _fit_final(before, plan, block) for kind, plan in plans.items()}
    top = _fit_final(level, meta, block)
    if not isinstance(top.model, RidgeLearner):
        raise TrainingError("stack: the learner over the members is a ridge")
    stack = Stack({kind: one.model for kind, one in fits.items()}, top.model)
    first = next(iter(fits.values()))
    walk = _spread(walk_forward_refit(level, meta), scored, len(before))
    final = _Final(stack, first.rows, first.base)
    return _finish(
        known, meta, block=block, walk=walk, final=final, definition=definition
    )


def _known(samples: Samples, as_of: datetime | np.datetime64 | None) -> Samples:
    known = samples if as_of is None else samples.known_by(to_instant(as_of))
    if len(known) == 0:
        raise TrainingError("no settled row to train on")
    return known


def _block_start(known: Samples, config: TrainingConfig) -> np.datetime64:
    start: np.datetime64 = known.start[-1] - config.backtest_period_days * _DAY
    return start


def _require(before: Samples, config: TrainingConfig, block: np.datetime64) -> None:
    rows = training_rows(before, config, moment=block)
    labels = before.label[rows]
    if is_enough(labels, config):
        return
    if len(labels) < config.min_rows:
        span = "" if config.is_expanding else f" of {config.train_period_days} days"
        raise TrainingError(
            f"{len(labels)} settled rows{span} before the last"
            f" {config.backtest_period_days} days: {config.min_rows} are needed"
        )
    raise TrainingError(f"{len(labels)} settled rows all of label {labels[0]:g}")


def _fit_final(
    before: Samples, config: TrainingConfig, block: np.datetime64
) -> _Final[Learner]:
    rows = training_rows(before, config, moment=block)
    taught = before.take(rows)
    weights = _weights(taught, config, block)
    model = fit_learner(config, taught.features, taught.label, weights)
    return _Final(model, rows, float(weights @ taught.label / weights.sum()))


def _finish(
    known: Samples,
    config: TrainingConfig,
    *,
    block: np.datetime64,
    walk: Walk,
    final: _Final[Learner] | _Final[Stack],
    definition: str | None,
) -> Trained:
    before = known.known_by(block)
    curve = _curve(before, config, walk, block)
    told = _out_of_fold(known, walk, final, curve=curve, block=block)
    taught = before.take(final.rows)
    schema = FeatureSchema.fit(known.names, taught.features, definition=definition)
    metrics = _figures(told, config, np.ones(len(told.scores), dtype=np.bool_))
    card: dict[str, Any] = {
        "kind": "learner",
        "cutoff": to_moment(known.end.max()).isoformat(),
        "config": asdict(config),
        "config_sha256": config.sha256,
        "members": list(final.model.members) if isinstance(final.model, Stack) else [],
        "names": list(known.names),
        "schema_sha256": schema.sha256,
        "n_train": len(taught),
        "train_from": to_moment(taught.start.min()).isoformat(),
        "train_to": to_moment(block).isoformat(),
        "base": final.base,
        "calibrator": None if curve is None else asdict(curve),
        "metrics": metrics,
        "last_block": _figures(told, config, told.is_final),
        "windows": [_window_json(one) for one in walk.windows],
        "importance": {
            "gain": gain_importance(final.model, known.names),
            "shap": shap_importance(final.model, taught.features, known.names),
        },
    }
    if config.is_classification:
        card["reliability"] = reliability(
            told.predictions, told.samples.label
        ).to_dict()
    files = build_bundle(
        config,
        final.model,
        schema=schema,
        calibrator=curve,
        reference=_reference(taught),
    )
    return Trained(files, card, metrics, told, walk.windows)


def _curve(
    before: Samples, config: TrainingConfig, walk: Walk, block: np.datetime64
) -> Platt | None:
    if not config.is_classification:
        return None
    rows = walk.rows
    scored = before.take(rows)
    weights = _weights(scored, config, block)
    curve = fit_curve(walk.scores[rows], scored.label, weights)
    if curve is None:
        raise TrainingError(
            f"{len(rows)} out-of-fold rows to calibrate on: {MIN_CALIBRATION}, and"
            f" {MIN_CALIBRATION // 10} of each class, are needed"
        )
    return curve


def _out_of_fold(
    known: Samples,
    walk: Walk,
    final: _Final[Learner] | _Final[Stack],
    *,
    curve: Platt | None,
    block: np.datetime64,
) -> OutOfFold:
    rows = walk.rows
    last = known.take(known.start > block)
    scores = final.model.scores(last.features)
    predictions = scores if curve is None else curve.apply(scores)
    places = np.flatnonzero(known.end <= block)[rows]
    kept = known.take(np.concatenate([places, np.flatnonzero(known.start > block)]))
    return OutOfFold(
        kept,
        np.concatenate([walk.scores[rows], scores]),
        np.concatenate([walk.predictions[rows], predictions]),
        np.concatenate([walk.base[rows], np.full(len(last), final.base)]),
        np.concatenate([walk.fold[rows], np.full(len(last), len(walk.windows))]),
        np.arange(len(kept)) >= len(rows),
    )


def _figures(
    told: OutOfFold, config: TrainingConfig, chosen: BoolArray
) -> dict[str, float | None]:
    rows = told.samples.take(chosen)
    if len(rows) == 0:
        return {"n_rows": 0.0}
    found = figures(
        rows,
        config,
        scores=told.scores[chosen],
        predictions=told.predictions[chosen],
        base=told.base[chosen],
        fold=told.fold[chosen],
    )
    found["n_rows"] = float(len(rows))
    if config.is_classification:
        found["ece"] = ece(told.predictions[chosen], rows.label)
    return found


def _reference(taught: Samples) -> bytes:
    from lab.drift.profile import ReferenceProfile

    profile = ReferenceProfile.of(taught.features, taught.names, times=taught.start)
    return profile.to_bytes()


def _member_scores(
    before: Samples, walks: Mapping[str, Walk]
) -> tuple[IntArray, Samples]:
    # Rows that every member scored, with the scores for features.
    is_scored = np.all([one.fold >= 0 for one in walks.values()], axis=0)
    rows = np.flatnonzero(is_scored)
    part = before.take(rows)
    level = Samples(
        names=tuple(walks),
        features=np.column_stack([one.scores[rows] for one in walks.values()]),
        subject_id=part.subject_id,
        symbol=part.symbol,
        timeframe=part.timeframe,
        start=part.start,
        end=part.end,
        label=part.label,
        outcome=part.outcome,
    )
    return rows, level


def _spread(walk: Walk, rows: IntArray, n_rows: int) -> Walk:
    # From rows of the second level to those of the first.
    found = []
    for values in (walk.scores, walk.predictions, walk.base):
        wide = np.full(n_rows, np.nan)
        wide[rows] = values
        found.append(wide)
    fold = np.full(n_rows, -1, dtype=np.int64)
    fold[rows] = walk.fold
    return Walk(walk.windows, found[0], found[1], found[2], fold)


def _with_model(config: TrainingConfig, model: str) -> TrainingConfig:
    return TrainingConfig.from_mapping({**asdict(config), "model": model})


def _window_json(window: Window) -> dict[str, Any]:
    found = asdict(window)
    for name in ("train_from", "start", "stop"):
        found[name] = to_moment(found[name]).isoformat()
    return found


def _weights(
    samples: Samples, config: TrainingConfig, moment: np.datetime64
) -> FloatArray:
    return sample_weights(samples, as_of=moment, half_life_days=config.half_life_days)
