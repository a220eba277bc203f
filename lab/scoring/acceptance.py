"""Whether fine-tuning and the ensemble earned their place: four figures, with intervals.

1. *Event spread*: mean band width of forecasts with an event ahead over that of others.
2. *Surprise direction*: share of right directions right after a surprise.
3. *Quiet error*: median's error away from events over the base model's.
4. *Ensemble Sharpe*: the ensemble's Sharpe ratio minus the best single model's.

An event is a high-importance release; releases at one moment are one event. Rows of one
event depend on each other, so intervals resample events (and, where there is none, days)
whole. Nothing is decided below `MIN_EVENTS` events: the verdict is then
NEEDS_MORE_DATA, and the figures are recorded all the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import numpy as np
import pyarrow as pa

from lab.arrays import BoolArray, FloatArray, IntArray, TimeArray
from lab.bars.timeframes import step, to_instant
from lab.scoring.event_rows import Events, ScoredRows, days, scored_rows
from lab.scoring.segments import counted, ratio, summed

MIN_EVENTS: Final = 150
N_RESAMPLES: Final = 2000

SPREAD_RATIO: Final = 1.5
DIRECTION_SHARE: Final = 0.60
QUIET_ERROR_RATIO: Final = 1.02
SHARPE_GAIN: Final = 0.1

Verdict = Literal["PASS", "FAIL", "NEEDS_MORE_DATA"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One acceptance figure.

    Attributes
    ----------
    gate : str
        Which.
    value, low, high : float or None
        The figure and its 95 % interval; None where it cannot be worked out.
    threshold : float
        What it must reach, or for the quiet error not exceed.
    is_ceiling : bool
        Whether the threshold is an upper one.
    n_events, n_rows : int
        Events (for the Sharpe ratio: blocks) and forecasts behind it.
    verdict : str
        PASS, FAIL or NEEDS_MORE_DATA.
    """

    gate: str
    value: float | None
    low: float | None
    high: float | None
    threshold: float
    is_ceiling: bool
    n_events: int
    n_rows: int
    verdict: Verdict

    @property
    def distance(self) -> float | None:
        """How far from passing: zero or more means that the threshold is met."""
        if self.value is None:
            return None
        gap = self.value - self.threshold
        return -gap if self.is_ceiling else gap


def judge_acceptance(
    members: Mapping[str, pa.Table],
    releases: pa.Table,
    *,
    tuned: str,
    base: str,
    ensemble: str,
    timeframe: str,
    as_of: datetime,
    rng: np.random.Generator,
) -> list[Figure]:
    """Return the four figures.

    Parameters
    ----------
    members : mapping of str to pyarrow.Table
        Rows of `prediction_scores` of one timeframe, by member: the tuned model, its
        base, the ensemble, and every single model it may be held against. A member that
        is absent makes the figures that need it NEEDS_MORE_DATA.
    releases : pyarrow.Table
        Rows of `economic_calendar`.
    tuned, base, ensemble : str
        Which members these are.
    timeframe : str
        `1h` or `1d`.
    as_of : datetime
        Decision time, aware.
    rng : numpy.random.Generator
        Of the resampling.

    Raises
    ------
    ScoringError
        If a column is missing.

    Notes
    -----
    Judged at the shortest horizon at which the tuned model counts. Point in time: scores
    with `known_ts` <= `as_of`; an event counts as ahead of a forecast only if it was
    announced by the forecast's decision time, and a surprise once its value was known.
    """
    width = step(timeframe)
    events = Events.of(releases, to_instant(as_of))
    rows, horizon = scored_rows(members, as_of, at_shortest_of=tuned)
    return [
        _spread(rows.get(tuned), events, rng),
        _direction(rows.get(tuned), events, width, rng),
        _quiet_error(rows.get(tuned), rows.get(base), events, rng),
        _sharpe_gain(rows, ensemble, horizon, rng),
    ]


def _spread(
    rows: ScoredRows | None, events: Events, rng: np.random.Generator
) -> Figure:
    if rows is None:
        return _figure("event_spread", None, SPREAD_RATIO)
    ahead = events.ahead_of(rows)
    is_event = ahead >= 0
    # Each symbol's width in units of its usual one: symbols weigh alike.
    n_symbols = int(rows.symbol.max(initial=-1)) + 1
    quiet = rows.symbol[~is_event]
    usual = ratio(
        summed(rows.width[~is_event], quiet, n_symbols),
        counted(quiet, n_symbols),
    )[rows.symbol]
    is_known = np.isfinite(usual) & (usual > 0)
    wide = is_known & is_event
    relative = rows.width / np.where(is_known, usual, 1.0)
    found = _ratio_of_means(
        (relative[wide], ahead[wide]),
        (relative[is_known & ~is_event], days(rows.as_of[is_known & ~is_event])),
        rng,
    )
    return _figure("event_spread", found, SPREAD_RATIO, ahead[wide])


def _direction(
    rows: ScoredRows | None,
    events: Events,
    width: np.timedelta64,
    rng: np.random.Generator,
) -> Figure:
    if rows is None:
        return _figure("surprise_direction", None, DIRECTION_SHARE)
    behind = events.behind(rows, within=width)
    chosen = (behind >= 0) & np.isfinite(rows.hit)
    hits, event = rows.hit[chosen], behind[chosen]
    found = _ratio_of_means((hits, event), (np.ones(len(hits)), event), rng)
    return _figure("surprise_direction", found, DIRECTION_SHARE, event)


def _quiet_error(
    tuned: ScoredRows | None,
    base: ScoredRows | None,
    events: Events,
    rng: np.random.Generator,
) -> Figure:
    if tuned is None or base is None:
        return _figure("quiet_error", None, QUIET_ERROR_RATIO)
    ours, theirs = tuned.paired_with(base)
    ahead = events.ahead_of(tuned)
    is_quiet = (ahead < 0)[ours]
    day = days(tuned.as_of[ours][is_quiet])
    found = _ratio_of_means(
        (tuned.error[ours][is_quiet], day), (base.error[theirs][is_quiet], day), rng
    )
    return _figure(
        "quiet_error", found, QUIET_ERROR_RATIO, ahead[ours][~is_quiet], len(day)
    )


def _sharpe_gain(
    rows: Mapping[str, ScoredRows],
    ensemble: str,
    horizon: int,
    rng: np.random.Generator,
) -> Figure:
    # Equal weights over symbols, decision times that all have, forecasts that do not
    # overlap. The best single model is chosen anew in every resample.
    singles = sorted(set(rows) - {ensemble})
    if ensemble not in rows or not singles:
        return _figure("ensemble_sharpe", None, SHARPE_GAIN)
    names = [ensemble, *singles]
    moments = rows[ensemble].as_of
    for name in singles:
        moments = np.intersect1d(moments, rows[name].as_of)
    returns = np.stack([_book(rows[name], moments) for name in names])
    chosen = _non_overlapping(rows[ensemble], np.unique(moments))
    returns = returns[:, chosen]
    n_blocks = returns.shape[1]
    if n_blocks < 3:
        return _figure("ensemble_sharpe", None, SHARPE_GAIN, n_rows=n_blocks)
    yearly = float(rows[ensemble].yearly.mean()) / horizon
    draws = rng.integers(0, n_blocks, (N_RESAMPLES, n_blocks))
    gains = _gain(returns[:, draws], yearly)
    value = float(_gain(returns[:, None, :], yearly)[0])
    low, high = np.nanquantile(gains, [0.025, 0.975])
    found = value, float(low), float(high)
    return _figure("ensemble_sharpe", found, SHARPE_GAIN, np.arange(n_blocks))


def _gain(returns: FloatArray, yearly: float) -> FloatArray:
    # Who never takes a side earns nothing and risks nothing: zero.
    deviation = returns.std(axis=2, ddof=1)
    sharpe = np.nan_to_num(ratio(returns.mean(axis=2), deviation)) * np.sqrt(yearly)
    return np.asarray(sharpe[0] - sharpe[1:].max(axis=0))


def _book(rows: ScoredRows, moments: TimeArray) -> FloatArray:
    unique = np.unique(moments)
    at = np.searchsorted(unique, rows.as_of)
    at = np.minimum(at, len(unique) - 1)
    is_there = unique[at] == rows.as_of
    total = summed(rows.gain[is_there], at[is_there], len(unique))
    return ratio(total, counted(at[is_there], len(unique)))


def _non_overlapping(rows: ScoredRows, moments: TimeArray) -> BoolArray:
    at = np.searchsorted(moments, rows.as_of)
    is_there = (at < len(moments)) & (
        moments[np.minimum(at, len(moments) - 1)] == rows.as_of
    )
    ends = moments.copy()
    np.maximum.at(ends, at[is_there], rows.known[is_there])
    chosen = np.zeros(len(moments), dtype=np.bool_)
    place = 0
    while place < len(moments):
        chosen[place] = True
        place = max(place + 1, int(np.searchsorted(moments, ends[place])))
    return chosen


def _ratio_of_means(
    above: tuple[FloatArray, IntArray],
    below: tuple[FloatArray, IntArray],
    rng: np.random.Generator,
) -> tuple[float, float, float] | None:
    """Return mean over mean with a 95 % interval that resamples clusters whole."""
    if len(above[0]) == 0 or len(below[0]) == 0 or float(below[0].mean()) == 0:
        return None
    value = float(above[0].mean() / below[0].mean())
    is_shared = above[1] is below[1]
    top, counts = _cluster_weights(above[1], rng)
    bottom, others = (top, counts) if is_shared else _cluster_weights(below[1], rng)
    means = ratio(top @ _by_cluster(above), top @ counts)
    reference = ratio(bottom @ _by_cluster(below), bottom @ others)
    low, high = np.nanquantile(ratio(means, reference), [0.025, 0.975])
    return value, float(low), float(high)


def _cluster_weights(
    cluster: IntArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    # How often each resample draws each cluster, and the clusters' rows.
    _, counts = np.unique(cluster, return_counts=True)
    n_clusters = len(counts)
    drawn = rng.multinomial(
        n_clusters, np.full(n_clusters, 1 / n_clusters), N_RESAMPLES
    )
    return drawn.astype(np.float64), counts.astype(np.float64)


def _by_cluster(part: tuple[FloatArray, IntArray]) -> FloatArray:
    names, codes = np.unique(part[1], return_inverse=True)
    return summed(part[0], codes, len(names))


def _figure(
    gate: str,
    found: tuple[float, float, float] | None,
    threshold: float,
    events: IntArray | None = None,
    n_rows: int | None = None,
) -> Figure:
    n_events = 0 if events is None else len(np.unique(events))
    rows = n_rows if n_rows is not None else 0 if events is None else len(events)
    is_ceiling = gate == "quiet_error"
    value, low, high = found or (None, None, None)
    verdict: Verdict = "NEEDS_MORE_DATA"
    if value is not None and n_events >= MIN_EVENTS:
        is_met = value <= threshold if is_ceiling else value >= threshold
        verdict = "PASS" if is_met else "FAIL"
    return Figure(
        gate, value, low, high, threshold, is_ceiling, n_events, rows, verdict
    )
