"""What predictions turned out to be worth: hits, days of trading, and an estimate.

A hit is a prediction whose sign, or for a probability whose side of one half, was the
label's. Rows whose label is not known yet are not rows of the accuracy: what is known
first is not like the rest, as a loss is taken sooner than a gain.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from lab.arrays import BoolArray, FloatArray, TimeArray
from lab.drift.profile import ReferenceProfile
from lab.errors import DriftError
from lab.learning.ripeness import ripe_rows

Objective = Literal["classification", "regression"]
METRICS: Final = (
    "profit_total",
    "win_rate",
    "sharpe_ratio",
    "max_drawdown",
    "trades_count",
)
_PRIOR_ROWS: Final = 10.0
_DAY: Final = np.timedelta64(1, "D")


@dataclass(frozen=True, slots=True)
class Judged:
    """Predictions with what came of them, in time order.

    Attributes
    ----------
    times : ndarray of shape (n_rows,), datetime64[us]
        When each was made, not decreasing.
    prediction : ndarray of shape (n_rows,), float64
        Probability, or forecast value.
    label : ndarray of shape (n_rows,), float64
        What it should have been; NaN while that is not known.
    outcome : ndarray of shape (n_rows,), float64
        Net profit of acting on it; NaN while that is not known.
    """

    times: TimeArray
    prediction: FloatArray
    label: FloatArray
    outcome: FloatArray

    def __post_init__(self) -> None:
        lengths = {len(self.times), len(self.prediction), len(self.label)}
        if lengths != {len(self.outcome)}:
            raise DriftError("predictions: times, labels and outcomes of one length")
        if (np.diff(self.times) < np.timedelta64(0)).any():
            raise DriftError("predictions: rows are not in time order")

    def rows(self, chosen: BoolArray) -> "Judged":
        """Return some of the rows."""
        return Judged(
            self.times[chosen],
            self.prediction[chosen],
            self.label[chosen],
            self.outcome[chosen],
        )

    def ripe(self) -> "Judged":
        """Return the rows with a label up to where rows are settled as a whole.

        Notes
        -----
        Point in time: rows that are settled early say which way they went; see
        `lab.learning.ripeness`, which trainings go by too.
        """
        is_known = np.isfinite(self.label)
        n_ripe = ripe_rows(self.times, is_known)
        return self.rows(is_known & (np.arange(len(is_known)) < n_ripe))


def hits(rows: Judged, objective: Objective) -> FloatArray:
    """Return 1 where a prediction was on the label's side, else 0, float64."""
    middle = 0.5 if objective == "classification" else 0.0
    found: FloatArray = ((rows.prediction > middle) == (rows.label > middle)).astype(
        np.float64
    )
    return found


def trading_days(rows: Judged) -> tuple[TimeArray, FloatArray]:
    """Return the trading metrics of every UTC day with a known outcome.

    Parameters
    ----------
    rows : Judged
        Rows without an outcome are left out.

    Returns
    -------
    days : ndarray of shape (n_days,), datetime64[us]
        Midnights.
    metrics : ndarray of shape (n_days, 5), float64
        In the order of `METRICS`: sum of outcomes; share of positive ones; mean over
        standard deviation (NaN for one trade, or equal ones); largest fall of the day's
        running sum from its peak (at least 0); number of outcomes.
    """
    kept = rows.rows(np.isfinite(rows.outcome))
    days, first = np.unique(kept.times.astype("datetime64[D]"), return_index=True)
    parts = np.split(kept.outcome, first[1:]) if len(days) else []
    table = np.array([_day(part) for part in parts]).reshape(len(days), len(METRICS))
    return days.astype("datetime64[us]"), table


def _day(outcomes: FloatArray) -> tuple[float, ...]:
    total = np.cumsum(outcomes)
    peak = np.maximum(np.maximum.accumulate(total), 0.0)
    spread = float(outcomes.std(ddof=1)) if len(outcomes) > 1 else 0.0
    return (
        float(total[-1]),
        float((outcomes > 0).mean()),
        float(outcomes.mean()) / spread if spread > 0 else math.nan,
        float((peak - total).max()),
        float(len(outcomes)),
    )


@dataclass(frozen=True, slots=True)
class PerformanceEstimate:
    """Accuracy to expect of predictions whose labels are not known.

    Attributes
    ----------
    accuracy : float
        Expected share of hits.
    standard_error : float
        Of the estimate, with the reference's own uncertainty.
    reference : float
        Share of hits of the reference.
    n_rows : int
        Predictions it is about.
    """

    accuracy: float
    standard_error: float
    reference: float
    n_rows: int


def estimate_accuracy(
    past: Judged, present: Judged, objective: Objective
) -> PerformanceEstimate | None:
    """Estimate the accuracy of predictions that are not settled, from their confidence.

    Parameters
    ----------
    past : Judged
        Predictions out of fold, with labels.
    present : Judged
        Those without a label are estimated.
    objective : {"classification", "regression"}
        What a prediction is.

    Returns
    -------
    PerformanceEstimate or None
        None without rows on either side.

    Notes
    -----
    A probability is expected to hit as often as it says, put right by how often those
    of its tenth of the reference's predictions did; a forecast value as often as those
    of its tenth. It sees that a model has become less sure, not that the world has come
    to answer otherwise: that takes labels.

    Point in time: uses labels of `past` only.

    References
    ----------
    .. [1] Kivimäki, Białek, Nurminen and Kuberski (2025), Confidence-based estimators
       for predictive performance in model monitoring, JAIR 82.
    """
    known = past.rows(np.isfinite(past.label) & np.isfinite(past.prediction))
    is_open = ~np.isfinite(present.label) & np.isfinite(present.prediction)
    asked = present.prediction[is_open]
    if not len(known.label) or not len(asked):
        return None
    profile = ReferenceProfile.of(known.prediction[:, None], ["prediction"])
    edges = profile.features[0].edges
    n_bins = len(edges) + 1
    hit, surplus = hits(known, objective), hits(known, objective)
    surplus -= _confidence(known.prediction, objective)
    own = np.searchsorted(edges, known.prediction, side="left")
    n = np.bincount(own, minlength=n_bins) + _PRIOR_ROWS
    added: FloatArray = np.bincount(own, weights=surplus, minlength=n_bins).astype(
        np.float64
    )
    added += _PRIOR_ROWS * float(surplus.mean())
    bins = np.searchsorted(edges, asked, side="left")
    chance = np.clip(_confidence(asked, objective) + (added / n)[bins], 0.0, 1.0)
    share = np.bincount(bins, minlength=n_bins) / len(asked)
    doubt = np.bincount(bins, weights=chance * (1.0 - chance), minlength=n_bins)
    variance = float(np.sum(share * doubt / n) + doubt.sum() / len(asked)) / len(asked)
    return PerformanceEstimate(
        float(chance.mean()), math.sqrt(variance), float(hit.mean()), len(asked)
    )


def _confidence(prediction: FloatArray, objective: Objective) -> FloatArray:
    # What a prediction itself says of its hit; a forecast value says nothing.
    if objective == "regression":
        return np.zeros(len(prediction))
    return np.maximum(prediction, 1.0 - prediction)
