"""Orders as rows to learn from, and how well probabilities of winning held by week.

Rules:

- An order's features are those frozen at its entry; its label is known at its exit.
- An order was decided before it was filled, over a weekend by days: a label that came
  to be known in between could not be used, so a row starts at `decided_at`.
- What is filled at the very moment of a decision was no part of what it knew.
- A week's figures are of the orders that settled in it. They never change afterwards.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import FloatArray, TimeArray
from lab.bars.timeframes import to_instant, to_moment
from lab.errors import FeatureError
from lab.learning.calibration import brier, ece, log_loss
from lab.learning.samples import Samples
from lab.learning.schema import matrix_of

MIN_WEEK: Final = 50
"""Settled orders without which a week says nothing."""

BETTER_BY: Final = 1.05
"""A week is won at a log loss of at most the base rate's divided by this."""

WEEKS: Final = 4
"""Won weeks in a row before a signal may be looked at for more than weight 0."""

TRAILING_DAYS: Final = 365

_WEEK: Final = np.timedelta64(7, "D")
_MONDAY: Final = np.datetime64("1970-01-05", "us")
_US: Final = pa.timestamp("us")


@dataclass(frozen=True, slots=True)
class OrderRows:
    """Closed orders as samples.

    Attributes
    ----------
    samples : Samples
        Label 1 where net profit was made; outcome is that profit, a share of the book.
    n_odd : int
        Closed orders left out: their features are of another definition.
    """

    samples: Samples
    n_odd: int


@dataclass(frozen=True, slots=True)
class Week:
    """How probabilities held among the orders that settled in one week.

    Attributes
    ----------
    week : datetime
        Its Monday, 00:00 UTC.
    n_settled : int
        Settled orders.
    brier, log_loss, baseline_log_loss, ece : float
        Of the probabilities; `baseline_log_loss` of the base rate known at each order.
    """

    week: datetime
    n_settled: int
    brier: float
    log_loss: float
    baseline_log_loss: float
    ece: float

    @property
    def is_won(self) -> bool:
        """Whether it had orders enough and beat the base rate by the margin."""
        return (
            self.n_settled >= MIN_WEEK
            and self.log_loss <= self.baseline_log_loss / BETTER_BY
        )


def order_samples(
    orders: pa.Table, *, names: Sequence[str], as_of: datetime
) -> OrderRows:
    """Return the closed orders whose features are those named.

    Parameters
    ----------
    orders : pyarrow.Table
        Rows of `bot_orders`, open ones among them.
    names : sequence of str
        Features, in the order of the columns.
    as_of : datetime
        Decision time.

    Returns
    -------
    OrderRows

    Raises
    ------
    FeatureError
        If an order's features are not a JSON object of numbers and nulls.

    Notes
    -----
    Point in time: orders with `exit_ts` <= `as_of`. A row's `start` is its
    `decided_at`, its `end` the exit.
    """
    moment = pa.scalar(as_of, orders["exit_ts"].type)
    # An exit that is still to come is null, and no null is earlier than a moment.
    closed = orders.filter(
        pc.fill_null(pc.less_equal(orders["exit_ts"], moment), fill_value=False)
    )
    rows = frozen_features(closed)
    wanted = set(names)
    kept = [place for place, row in enumerate(rows) if row.keys() == wanted]
    chosen = closed.take(pa.array(kept, pa.int64()))
    pnl = _numbers(chosen["pnl_net"])
    samples = Samples.of(
        names=names,
        features=matrix_of(names, [rows[place] for place in kept]),
        subject_id=chosen["order_id"].to_pylist(),
        symbol=chosen["symbol"].to_pylist(),
        timeframe=chosen["timeframe"].to_pylist(),
        start=_instants(chosen["decided_at"]),
        end=_instants(chosen["exit_ts"]),
        label=(pnl > 0).astype(np.float64),
        outcome=pnl,
    )
    return OrderRows(samples, closed.num_rows - len(kept))


def frozen_features(orders: pa.Table) -> list[dict[str, float | None]]:
    """Return the features of each order as they were frozen at its entry.

    Parameters
    ----------
    orders : pyarrow.Table
        With `order_id` and `features`.

    Raises
    ------
    FeatureError
        If one is not a JSON object.
    """
    found = []
    names, texts = orders["order_id"].to_pylist(), orders["features"].to_pylist()
    for name, text in zip(names, texts, strict=True):
        try:
            row = json.loads(text)
        except ValueError as error:
            raise FeatureError(f"order {name}: features: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise FeatureError(f"order {name}: features: a JSON object is allowed")
        found.append(row)
    return found


def base_rates(
    at: TimeArray, *, settled_at: TimeArray, label: FloatArray
) -> FloatArray:
    """Return the share of wins among the orders known before each moment.

    Parameters
    ----------
    at : ndarray of shape (n,), datetime64
        Moments.
    settled_at : ndarray of shape (n_orders,), datetime64
        When each order settled, in any order.
    label : ndarray of shape (n_orders,), float64
        1 if it won.

    Returns
    -------
    ndarray of shape (n,), float64
        (wins + 1) / (orders + 2) over the trailing year: 1/2 before the first.

    Notes
    -----
    Point in time: orders with `settled_at` < the moment: one that is filled at the
    moment of a decision was decided with it.
    """
    order = np.argsort(settled_at, kind="stable")
    times, wins = settled_at[order], np.append(0.0, np.cumsum(label[order]))
    last = np.searchsorted(times, at, side="left")
    first = np.searchsorted(times, at - np.timedelta64(TRAILING_DAYS, "D"), side="left")
    rates: FloatArray = (wins[last] - wins[first] + 1.0) / (last - first + 2.0)
    return rates


def take_order(
    probability: float, base_rate: float, *, pnl: float, costs: float
) -> dict[str, float]:
    """Return what a prediction should have been, and what acting on it made.

    An order is taken where its probability is above the base rate of its time;
    otherwise nothing is earned and nothing is paid.

    Parameters
    ----------
    probability, base_rate : float
        0 to 1.
    pnl, costs : float
        Of the closed order, shares of the book.

    Returns
    -------
    dict
        `label`, `outcome`, `costs` as in `model_predictions`.
    """
    is_taken = probability > base_rate
    return {
        "label": float(pnl > 0),
        "outcome": pnl if is_taken else 0.0,
        "costs": costs if is_taken else 0.0,
    }


def weekly_calibration(
    *,
    probability: FloatArray,
    label: FloatArray,
    base_rate: FloatArray,
    settled_at: TimeArray,
    until: datetime,
) -> list[Week]:
    """Return how probabilities held in each week that is over.

    Parameters
    ----------
    probability, label, base_rate : ndarray of shape (n,), float64
        Of settled orders; the base rate is that of each order's decision.
    settled_at : ndarray of shape (n,), datetime64
        When each settled.
    until : datetime
        The present: weeks that end later are left out.

    Notes
    -----
    Point in time: a week's row needs only orders that settled in it.
    """
    weeks = (settled_at.astype("datetime64[us]") - _MONDAY) // _WEEK
    found = []
    for number in np.unique(weeks):
        start = _MONDAY + number * _WEEK
        if start + _WEEK > to_instant(until):
            continue
        chosen = weeks == number
        p, y = probability[chosen], label[chosen]
        found.append(
            Week(
                week=to_moment(start),
                n_settled=int(chosen.sum()),
                brier=brier(p, y),
                log_loss=log_loss(p, y),
                baseline_log_loss=log_loss(base_rate[chosen], y),
                ece=ece(p, y),
            )
        )
    return found


def weeks_running(weeks: Sequence[Week], *, as_of: datetime) -> int:
    """Return how many weeks in a row were won, counted back from the last that is over.

    Parameters
    ----------
    weeks : sequence of Week
        In any order; a week that is not among them had no settled order and is lost.
    as_of : datetime
        Decision time.
    """
    by_start = {to_instant(one.week): one for one in weeks}
    start = _MONDAY + ((to_instant(as_of) - _MONDAY) // _WEEK - 1) * _WEEK
    n_won = 0
    while (one := by_start.get(start)) is not None and one.is_won:
        n_won += 1
        start -= _WEEK
    return n_won


def week_of(row: Mapping[str, Any]) -> Week | None:
    """Return a row of `signal_calibration` as a week; None without probabilities."""
    names = ("brier", "log_loss", "baseline_log_loss", "ece")
    if any(row[name] is None for name in names):
        return None
    return Week(row["week"], row["n_settled"], **{name: row[name] for name in names})


def _instants(column: pa.ChunkedArray) -> TimeArray:
    found: TimeArray = column.cast(_US).to_numpy()
    return found


def _numbers(column: pa.ChunkedArray) -> FloatArray:
    return np.asarray(column.to_numpy(), dtype=np.float64)
