"""Probabilities from scores, and how far they can be believed.

`Platt` is a logistic curve of two numbers. Its slope is never negative: where the scores
rank nothing it answers the base rate, it does not turn the ranking round.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lab.arrays import FloatArray
from lab.errors import ModelError, TrainingError

N_BINS: Final = 10
_STEPS: Final = 100
_RIDGE: Final = 1e-12
_TINY: Final = 1e-15
_NOISE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Platt:
    """Probability 1 / (1 + exp(-(slope · score + intercept))).

    Attributes
    ----------
    slope : float
        0 or more.
    intercept : float
        Log odds of a score of 0.

    References
    ----------
    .. [1] Platt (1999), Probabilistic outputs for support vector machines.
    .. [2] Lin, Lin, Weng (2007), A note on Platt's probabilistic outputs for support
       vector machines, Machine Learning 68.
    """

    slope: float
    intercept: float

    @classmethod
    def fit(
        cls, scores: FloatArray, labels: FloatArray, weights: FloatArray | None = None
    ) -> "Platt":
        """Fit by Newton's method with backtracking, on Lin's smoothed targets.

        Parameters
        ----------
        scores : ndarray of shape (n_rows,), float64
            Of rows that the scoring models did not see.
        labels : ndarray of shape (n_rows,), float64
            0 or 1.
        weights : ndarray of shape (n_rows,), float64, optional
            Not negative; 1 each if not given. Targets are smoothed by the weights' sums.

        Raises
        ------
        TrainingError
            If there is no row, shapes differ, or a value is not allowed.

        Notes
        -----
        Point in time: it knows the labels it is given; the caller purges them.
        """
        weight = np.ones(len(scores)) if weights is None else weights
        _check_fit(scores, labels, weight)
        targets = _targets(labels, weight)
        center, scale = _standard(scores, weight)
        if scale <= _NOISE * max(1.0, abs(center)):
            # Equal scores tell nothing, and their rounding must not be scaled up.
            return cls(0.0, _log_odds(targets, weight))
        slope, intercept = _newton((scores - center) / scale, targets, weight)
        return cls(slope / scale, intercept - slope * center / scale)

    def apply(self, scores: FloatArray) -> FloatArray:
        """Return probabilities of the scores' shape."""
        return sigmoid(self.slope * scores + self.intercept)

    def to_json(self) -> str:
        """Return it as JSON with sorted keys."""
        return json.dumps(
            {"intercept": self.intercept, "kind": "platt", "slope": self.slope},
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> "Platt":
        """Read what `to_json` wrote.

        Raises
        ------
        ModelError
            If it is anything else.
        """
        try:
            values = json.loads(text)
            kind = values["kind"]
            slope, intercept = float(values["slope"]), float(values["intercept"])
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(f"calibrator is damaged: {error}") from error
        is_finite = math.isfinite(slope) and math.isfinite(intercept)
        if kind != "platt" or not is_finite or slope < 0:
            raise ModelError("calibrator: not a rising logistic curve")
        return cls(slope, intercept)


@dataclass(frozen=True, slots=True)
class Reliability:
    """Predicted against observed, in bins of equal mass.

    Attributes
    ----------
    predicted, observed : ndarray of shape (n_bins,), float64
        Mean probability and share of ones.
    mass : ndarray of shape (n_bins,), float64
        Share of the rows' weight.
    """

    predicted: FloatArray
    observed: FloatArray
    mass: FloatArray

    @property
    def ece(self) -> float:
        """Expected calibration error: mean absolute gap, weighted by mass."""
        return float(self.mass @ np.abs(self.predicted - self.observed))

    def to_dict(self) -> Mapping[str, Any]:
        """Return the curve as JSON values."""
        return {
            "predicted": self.predicted.tolist(),
            "observed": self.observed.tolist(),
            "mass": self.mass.tolist(),
        }


def sigmoid(values: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def reliability(
    probabilities: FloatArray,
    labels: FloatArray,
    *,
    n_bins: int = N_BINS,
    weights: FloatArray | None = None,
) -> Reliability:
    """Compare probabilities with what happened, in bins of as many rows each.

    Equal probabilities always share a bin: a constant forecast is one bin.

    Parameters
    ----------
    probabilities, labels : ndarray of shape (n_rows,), float64
        Within 0 and 1; 0 or 1.
    n_bins : int, default 10
        1 or more; fewer come out where probabilities tie.
    weights : ndarray of shape (n_rows,), float64, optional
        Of the rows inside a bin, and of the bins.

    Raises
    ------
    TrainingError
        If there is no row, or a value is not allowed.
    """
    weight = np.ones(len(labels)) if weights is None else weights
    _check_pairs(probabilities, labels, weight)
    if n_bins < 1:
        raise TrainingError(f"{n_bins} bins: 1 or more")
    order = np.argsort(probabilities, kind="stable")
    ranked = probabilities[order]
    edges = (np.arange(1, n_bins) * len(ranked)) // n_bins
    cuts = ranked[edges[edges > 0]]
    bins = np.searchsorted(np.unique(cuts), probabilities, side="right")
    mass = np.bincount(bins, weight)
    kept = mass > 0
    sums = np.bincount(bins, weight * probabilities), np.bincount(bins, weight * labels)
    predicted, observed = (one[kept] / mass[kept] for one in sums)
    return Reliability(predicted, observed, mass[kept] / mass.sum())


def ece(
    probabilities: FloatArray,
    labels: FloatArray,
    *,
    n_bins: int = N_BINS,
    weights: FloatArray | None = None,
) -> float:
    """Return the expected calibration error over bins of equal mass, see `reliability`.

    References
    ----------
    .. [1] Naeini, Cooper, Hauskrecht (2015), Obtaining well calibrated probabilities
       using Bayesian binning, AAAI.
    """
    return reliability(probabilities, labels, n_bins=n_bins, weights=weights).ece


def brier(
    probabilities: FloatArray, labels: FloatArray, weights: FloatArray | None = None
) -> float:
    """Return the mean squared error of probabilities (Brier, 1950)."""
    weight = np.ones(len(labels)) if weights is None else weights
    _check_pairs(probabilities, labels, weight)
    return float(weight @ (probabilities - labels) ** 2 / weight.sum())


def log_loss(
    probabilities: FloatArray, labels: FloatArray, weights: FloatArray | None = None
) -> float:
    """Return the mean negative log-likelihood, in nats; probabilities cut at 1e-15."""
    weight = np.ones(len(labels)) if weights is None else weights
    _check_pairs(probabilities, labels, weight)
    sure = np.clip(probabilities, _TINY, 1.0 - _TINY)
    loss = -np.where(labels > 0.5, np.log(sure), np.log1p(-sure))
    return float(weight @ loss / weight.sum())


def _targets(labels: FloatArray, weight: FloatArray) -> FloatArray:
    # Lin et al. eq. 5: the maximum a posteriori of uniform priors, never 0 or 1.
    ones = float(weight @ labels)
    zeros = float(weight.sum()) - ones
    return np.where(labels > 0.5, (ones + 1.0) / (ones + 2.0), 1.0 / (zeros + 2.0))


def _standard(scores: FloatArray, weight: FloatArray) -> tuple[float, float]:
    center = float(weight @ scores / weight.sum())
    spread = math.sqrt(float(weight @ (scores - center) ** 2 / weight.sum()))
    return center, spread


def _log_odds(targets: FloatArray, weight: FloatArray) -> float:
    mean = float(weight @ targets / weight.sum())
    return math.log(mean / (1.0 - mean))


def _newton(
    scores: FloatArray, targets: FloatArray, weight: FloatArray
) -> tuple[float, float]:
    flat = _log_odds(targets, weight)
    here = (0.0, flat)
    loss = _loss(*here, scores, targets, weight)
    for _ in range(_STEPS):
        step = _direction(*here, scores, targets, weight)
        size = 1.0
        there, found = here, loss
        while size > 1e-10 and not found < loss:
            there = here[0] + size * step[0], here[1] + size * step[1]
            found = _loss(*there, scores, targets, weight)
            size /= 2.0
        if not found < loss:
            break
        gain, here, loss = loss - found, there, found
        if gain < 1e-13 * abs(loss):
            break
    return here if here[0] > 0 else (0.0, flat)


def _direction(
    slope: float,
    intercept: float,
    scores: FloatArray,
    targets: FloatArray,
    weight: FloatArray,
) -> tuple[float, float]:
    chance = sigmoid(slope * scores + intercept)
    bend = weight * chance * (1.0 - chance)
    miss = weight * (chance - targets)
    a, b, c = float(bend @ scores**2), float(bend @ scores), float(bend.sum())
    a, c = a + _RIDGE, c + _RIDGE
    first, second = float(miss @ scores), float(miss.sum())
    determinant = a * c - b * b
    return (
        -(c * first - b * second) / determinant,
        -(a * second - b * first) / determinant,
    )


def _loss(
    slope: float,
    intercept: float,
    scores: FloatArray,
    targets: FloatArray,
    weight: FloatArray,
) -> float:
    odds = slope * scores + intercept
    return float(weight @ (np.logaddexp(0.0, odds) - targets * odds))


def _check_fit(scores: FloatArray, labels: FloatArray, weight: FloatArray) -> None:
    if not bool(np.isfinite(scores).all()):
        raise TrainingError("calibration: a score is not a number")
    _check_labels(scores, labels, weight)


def _check_pairs(
    probabilities: FloatArray, labels: FloatArray, weight: FloatArray
) -> None:
    if not bool(((probabilities >= 0) & (probabilities <= 1)).all()):
        raise TrainingError("calibration: a probability is not within 0 and 1")
    _check_labels(probabilities, labels, weight)


def _check_labels(values: FloatArray, labels: FloatArray, weight: FloatArray) -> None:
    if not len(values) == len(labels) == len(weight) > 0:
        raise TrainingError(
            f"calibration of {len(values)} values, {len(labels)} labels,"
            f" {len(weight)} weights: as many of each, 1 or more"
        )
    if not bool(np.isin(labels, (0.0, 1.0)).all()):
        raise TrainingError("calibration: labels are 0 or 1")
    if not bool((weight >= 0).all()) or float(weight.sum()) <= 0:
        raise TrainingError("calibration: weights are not negative, and not all 0")
