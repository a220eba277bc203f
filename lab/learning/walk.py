"""Walk-forward refits: train, score what comes next, move on.

Rules:

- Windows of `backtest_period_days` tile the time from the day of the first row: rows
  added later change no earlier window.
- A window trains on rows decided in the `train_period_days` before it (on all earlier
  ones if the span grows) whose label was known when it begins, and scores the rows
  decided in it. Early windows train on what
  there is, from `min_rows` on.
- Probabilities of a window come from a Platt curve over earlier windows' scores whose
  labels were known by then; before there are enough, from the training rows' base rate.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from lab.arrays import FloatArray, IntArray
from lab.learning.calibration import Platt, brier, log_loss
from lab.learning.config import TrainingConfig
from lab.learning.learners import fit_learner
from lab.learning.metrics import acted, fold_auc, regression_figures, trading_figures
from lab.learning.samples import Samples
from lab.learning.weights import sample_weights

MIN_CALIBRATION: Final = 100
"""Fewest out-of-fold rows, and a tenth of it of each class, that a Platt curve takes."""

_DAY: Final = np.timedelta64(1, "D")


@dataclass(frozen=True, slots=True)
class Window:
    """One refit and the rows it scored.

    Attributes
    ----------
    train_from, start, stop : datetime64[us]
        Trained on rows decided from `train_from` and known by `start`; scored those
        decided from `start` up to and without `stop`.
    n_train, n_test : int
        Rows.
    base : float
        Weighted mean label of the training rows.
    metrics : dict
        Classification: `log_loss`, `baseline_log_loss` of `base`, `brier`, `auc`
        and its `auc_standard_error` of no skill. Regression: `squared_error`,
        `baseline_squared_error` of 0, `sign_match`. Both: `skill`, 1 less the loss over
        the baseline's, and `lab.learning.metrics.trading_figures`. None where undefined.
    model_sha256 : str
        Of the window's model file.
    """

    train_from: np.datetime64
    start: np.datetime64
    stop: np.datetime64
    n_train: int
    n_test: int
    base: float
    metrics: dict[str, float | None]
    model_sha256: str

    @property
    def loss(self) -> float:
        """What a search makes small: log-loss, or mean squared error."""
        found = self.metrics.get("log_loss", self.metrics.get("squared_error"))
        return math.nan if found is None else found


@dataclass(frozen=True, slots=True)
class WindowScores:
    """A window with what it said.

    Attributes
    ----------
    window : Window
        Figures.
    rows : ndarray of shape (n_test,), int64
        Rows of the samples.
    scores, predictions : ndarray of shape (n_test,), float64
        Raw; probabilities, or values of a regression.
    """

    window: Window
    rows: IntArray
    scores: FloatArray
    predictions: FloatArray


@dataclass(frozen=True, slots=True)
class Walk:
    """All windows of a walk-forward.

    Attributes
    ----------
    windows : tuple of Window
        In the order of time; those without enough to train on are left out.
    scores, predictions : ndarray of shape (n_rows,), float64
        Out of fold; NaN where no window scored the row.
    base : ndarray of shape (n_rows,), float64
        Mean label of the rows that the row's model was trained on; NaN likewise.
    fold : ndarray of shape (n_rows,), int64
        Number of the window, -1 where none.
    """

    windows: tuple[Window, ...]
    scores: FloatArray
    predictions: FloatArray
    base: FloatArray
    fold: IntArray

    @property
    def rows(self) -> IntArray:
        """Rows that a window scored."""
        return np.flatnonzero(self.fold >= 0)


def walk_forward_refit(samples: Samples, config: TrainingConfig) -> Walk:
    """Refit window by window and score every row that can be scored honestly.

    Parameters
    ----------
    samples : Samples
        All labels known.
    config : TrainingConfig
        Model, periods, weights and seed.

    Notes
    -----
    Point in time: a row's score, probability and base rate come from rows whose label
    was known when its window began. Equal samples and settings give equal models.
    """
    n_rows = len(samples)
    scores, predictions, base = (np.full(n_rows, np.nan) for _ in range(3))
    fold = np.full(n_rows, -1, dtype=np.int64)
    windows = []
    for number, found in enumerate(walk_windows(samples, config)):
        rows = found.rows
        scores[rows], predictions[rows] = found.scores, found.predictions
        base[rows], fold[rows] = found.window.base, number
        windows.append(found.window)
    return Walk(tuple(windows), scores, predictions, base, fold)


def walk_windows(samples: Samples, config: TrainingConfig) -> Iterator[WindowScores]:
    """Yield one window after the other, so that a search may stop early.

    Parameters
    ----------
    samples, config
        As `walk_forward_refit`.
    """
    past: list[WindowScores] = []
    for start, stop in _edges(samples, config):
        first, last = np.searchsorted(samples.start, [start, stop])
        rows = np.arange(first, last, dtype=np.int64)
        train = training_rows(samples, config, moment=start)
        if len(rows) == 0 or not is_enough(samples.label[train], config):
            continue
        found = _fit_window(
            samples,
            config,
            train=train,
            rows=rows,
            span=(start, stop),
            known=known_curve(samples, past, start),
        )
        past.append(found)
        yield found


def training_rows(
    samples: Samples, config: TrainingConfig, *, moment: np.datetime64
) -> IntArray:
    """Return the rows that a model made at a moment may learn from.

    Notes
    -----
    Point in time: decided before the moment, within `train_period_days` unless the span
    grows, label known before it: what comes to be known at the moment itself, as an
    exit at the open that a decision waits for, is no part of it.
    """
    first, last = np.searchsorted(samples.start, [config.train_from(moment), moment])
    rows = np.arange(first, last, dtype=np.int64)
    return rows[samples.end[rows] < moment]


def is_enough(labels: FloatArray, config: TrainingConfig) -> bool:
    """Return whether labels are many enough, and of both classes, to train on."""
    if len(labels) < config.min_rows:
        return False
    return not config.is_classification or 0.0 < float(labels.mean()) < 1.0


def fit_curve(
    scores: FloatArray, labels: FloatArray, weights: FloatArray
) -> Platt | None:
    """Return a Platt curve; None where there are too few rows of a class for one."""
    ones = int((labels > 0.5).sum())
    if len(labels) < MIN_CALIBRATION:
        return None
    if min(ones, len(labels) - ones) < MIN_CALIBRATION // 10:
        return None
    return Platt.fit(scores, labels, weights)


def known_curve(
    samples: Samples, past: list[WindowScores], moment: np.datetime64
) -> tuple[FloatArray, IntArray]:
    """Return the out-of-fold scores known before a moment, and their rows."""
    if not past:
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    rows = np.concatenate([one.rows for one in past])
    scores = np.concatenate([one.scores for one in past])
    is_known = samples.end[rows] < moment
    return scores[is_known], rows[is_known]


def neutral_score(config: TrainingConfig, base: float) -> float:
    """Return the raw score of a row that is as good as the training rows' mean."""
    if not config.is_classification:
        return 0.0
    if config.model == "ridge":
        return 2.0 * base - 1.0
    return math.log(base / (1.0 - base))


def figures(
    samples: Samples,
    config: TrainingConfig,
    *,
    scores: FloatArray,
    predictions: FloatArray,
    base: FloatArray,
    fold: IntArray,
) -> dict[str, float | None]:
    """Return the metrics of scored rows, see `Window.metrics`.

    Parameters
    ----------
    samples : Samples
        The rows.
    config : TrainingConfig
        Objective and cost.
    scores, predictions, base : ndarray of shape (n_rows,), float64
        See `Walk`.
    fold : ndarray of shape (n_rows,), int64
        See `fold_auc`.
    """
    found: dict[str, float | None] = {}
    labels = samples.label
    neutral: FloatArray | float = 0.0
    cost: float | None = 2.0 * config.cost_bps / 10_000.0
    if config.is_classification:
        found["log_loss"] = log_loss(predictions, labels)
        found["baseline_log_loss"] = log_loss(base, labels)
        found["brier"] = brier(predictions, labels)
        ranked = fold_auc(scores, labels, fold)
        found["auc"], found["auc_standard_error"] = ranked or (None, None)
        neutral, cost = np.array([neutral_score(config, one) for one in base]), None
    else:
        found |= regression_figures(predictions, labels)
    loss, floor = _losses(found)
    found["skill"] = 1.0 - loss / floor if floor > 0 else None
    earned = acted(scores, samples.outcome, neutral, cost=cost)
    return found | trading_figures(earned, samples.end)


def _losses(found: Mapping[str, float | None]) -> tuple[float, float]:
    kind = "log_loss" if "log_loss" in found else "squared_error"
    return found[kind] or 0.0, found[f"baseline_{kind}"] or 0.0


def _edges(
    samples: Samples, config: TrainingConfig
) -> Iterator[tuple[np.datetime64, np.datetime64]]:
    if len(samples) == 0:
        return
    size = config.backtest_period_days * _DAY
    start = samples.start[0].astype("datetime64[D]").astype("datetime64[us]")
    while start <= samples.start[-1]:
        yield start, start + size
        start = start + size


def _fit_window(
    samples: Samples,
    config: TrainingConfig,
    *,
    train: IntArray,
    rows: IntArray,
    span: tuple[np.datetime64, np.datetime64],
    known: tuple[FloatArray, IntArray],
) -> WindowScores:
    start, stop = span
    taught, tested = samples.take(train), samples.take(rows)
    weights = _weights(taught, config, start)
    base = float(weights @ taught.label / weights.sum())
    model = fit_learner(config, taught.features, taught.label, weights)
    scores = model.scores(tested.features)
    predictions = scores
    if config.is_classification:
        past = samples.take(known[1])
        curve = fit_curve(known[0], past.label, _weights(past, config, start))
        predictions = np.full(len(rows), base) if curve is None else curve.apply(scores)
    metrics = figures(
        tested,
        config,
        scores=scores,
        predictions=predictions,
        base=np.full(len(rows), base),
        fold=np.zeros(len(rows), dtype=np.int64),
    )
    window = Window(
        max(config.train_from(start), taught.start[0]),
        start,
        stop,
        len(train),
        len(rows),
        base,
        metrics,
        hashlib.sha256(model.to_bytes()).hexdigest(),
    )
    return WindowScores(window, rows, scores, predictions)


def _weights(
    samples: Samples, config: TrainingConfig, moment: np.datetime64
) -> FloatArray:
    return sample_weights(samples, as_of=moment, half_life_days=config.half_life_days)
