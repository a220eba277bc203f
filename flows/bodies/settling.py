"""Forecasts that may be scored: found and read in batches, oldest first.

What is stored of a forecast's scores is a small number a forecast (one bit a horizon), so
that a million settled ones cost a lookup and not a set of keys; lists of prices are read
for forecasts that have something to score only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.progress import track
from flows.runs import Run
from lab.arrays import AnyArray, BoolArray, IntArray, TimeArray
from lab.bars.timeframes import HORIZONS, to_instant, to_moment
from lab.scoring.outcomes import Histories
from lab.scoring.predictions import score_predictions
from lab.scoring.unfold import READ
from lakehouse.schema._spec import TIMESTAMP

BATCH_FORECASTS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Candidates:
    """Forecasts with horizons that are not scored, in the order of their decision times.

    Attributes
    ----------
    ids : pyarrow.Array
        `prediction_id` of each.
    as_of : ndarray of shape (n_rows,), datetime64[us]
        Decision times, ascending.
    done : ndarray of shape (n_rows,), int64
        Bit i is set where horizon i of the timeframe is scored.
    """

    ids: pa.Array
    as_of: TimeArray
    done: IntArray

    def batches(self) -> Iterator["Candidates"]:
        """Yield batches that end where a decision time ends."""
        start, n_rows = 0, len(self.as_of)
        while start < n_rows:
            last = min(start + BATCH_FORECASTS, n_rows) - 1
            stop = int(np.searchsorted(self.as_of, self.as_of[last], side="right"))
            yield Candidates(
                self.ids.slice(start, stop - start),
                self.as_of[start:stop],
                self.done[start:stop],
            )
            start = stop

    def done_of(self, ids: pa.Array) -> IntArray:
        """Return the bits of forecasts; -1 where one is no candidate."""
        at = pc.fill_null(pc.index_in(ids, value_set=self.ids), -1).to_numpy()
        return np.where(at < 0, np.int64(-1), self.done[at])


def fresh_scores(run: Run, *, timeframe: str, now: datetime) -> Iterator[pa.Table]:
    """Yield the scores that are settled at `now` and not stored, in batches.

    Notes
    -----
    Point in time: a score uses the target bar only once its `known_ts` <= `now`.
    """
    candidates = find_candidates(run, timeframe, now=now)
    if len(candidates.as_of) == 0:
        return
    bars = Histories(
        run.read(
            "ohlcv",
            columns=["symbol", "timeframe", "ts", "close", "flags"],
            filter=pc.field("timeframe") == timeframe,
        ),
        timeframe=timeframe,
    )
    instruments = run.read("instruments")
    batches = list(candidates.batches())
    for batch in track(batches, f"score {timeframe}", total=len(batches)):
        forecasts = read_open(run, timeframe, batch, now=now)
        if forecasts.num_rows == 0:
            continue
        scores = score_predictions(
            forecasts, bars, instruments, now=now, run_id=run.run_id
        )
        done = batch.done_of(scores["prediction_id"].combine_chunks())
        bit = _bits(scores["horizon"].to_numpy(), HORIZONS[timeframe])
        yield scores.filter(pa.array((done & bit) == 0))


def find_candidates(run: Run, timeframe: str, *, now: datetime) -> Candidates:
    """Return the forecasts made before `now` of which a horizon is not scored."""
    rows = run.read(
        "ml_predictions",
        columns=["prediction_id", "as_of"],
        filter=(pc.field("timeframe") == timeframe)
        & (pc.field("as_of") < _scalar(now)),
    )
    ids = rows["prediction_id"].combine_chunks()
    as_of = rows["as_of"].cast(pa.timestamp("us")).to_numpy()
    done = _scored_bits(run, timeframe, ids)
    everything = (1 << len(HORIZONS[timeframe])) - 1
    open_rows = np.flatnonzero(done != everything)
    order = open_rows[np.argsort(as_of[open_rows], kind="stable")]
    return Candidates(ids.take(pa.array(order)), as_of[order], done[order])


def read_open(
    run: Run, timeframe: str, batch: Candidates, *, now: datetime
) -> pa.Table:
    """Read those forecasts of a batch that have a target which opened and is not scored."""
    between = (
        (pc.field("timeframe") == timeframe)
        & (pc.field("as_of") >= _scalar(to_moment(batch.as_of[0])))
        & (pc.field("as_of") <= _scalar(to_moment(batch.as_of[-1])))
    )
    targets = run.read(
        "ml_predictions", columns=["prediction_id", "target_ts"], filter=between
    ).combine_chunks()
    if targets.num_rows == 0:
        return targets
    ids = targets["prediction_id"].combine_chunks()
    is_open = has_open_target(
        targets["target_ts"].combine_chunks(),
        batch.done_of(ids),
        horizons=HORIZONS[timeframe],
        now=to_instant(now),
    )
    n_open = int(np.count_nonzero(is_open))
    if n_open == 0:
        return targets.slice(0, 0)
    wanted = between
    if n_open < len(is_open):
        chosen = ids.filter(pa.array(is_open))
        wanted = between & pc.field("prediction_id").isin(chosen)
    return run.read("ml_predictions", columns=list(READ), filter=wanted)


def has_open_target(
    target_ts: pa.Array, done: IntArray, *, horizons: Sequence[int], now: np.datetime64
) -> BoolArray:
    """Return which forecasts have a target that opened by `now` and is not scored.

    Parameters
    ----------
    target_ts : pyarrow.ListArray of shape (n_rows,)
        Opens of each forecast's targets, ascending.
    done : ndarray of shape (n_rows,), int64
        Bit i is set where horizon i is scored; -1 asks for nothing.
    horizons : sequence of int
        Steps that are scored.
    now : datetime64
        Decision time.
    """
    offsets = target_ts.offsets.to_numpy().astype(np.int64)
    opens = target_ts.values.cast(pa.timestamp("us")).to_numpy()
    length = np.diff(offsets)
    is_open = np.zeros(len(length), dtype=np.bool_)
    for number, horizon in enumerate(horizons):
        is_asked = (length >= horizon) & ((done >> number) & 1 == 0)
        rows = np.flatnonzero(is_asked)
        is_open[rows] |= opens[offsets[rows] + horizon - 1] <= now
    return is_open


def _scored_bits(run: Run, timeframe: str, ids: pa.Array) -> IntArray:
    stored = run.read(
        "prediction_scores",
        columns=["prediction_id", "horizon"],
        filter=pc.field("timeframe") == timeframe,
    )
    done = np.zeros(len(ids), dtype=np.int64)
    if stored.num_rows == 0 or len(ids) == 0:
        return done
    at = pc.index_in(stored["prediction_id"], value_set=ids)
    rows = pc.fill_null(at, -1).to_numpy()
    bits = _bits(stored["horizon"].to_numpy(), HORIZONS[timeframe])
    is_known = rows >= 0
    np.bitwise_or.at(done, rows[is_known], bits[is_known])
    return done


def _bits(horizon: AnyArray, horizons: Sequence[int]) -> IntArray:
    # Zero for a horizon that is not scored any more.
    bits = np.zeros(len(horizon), dtype=np.int64)
    for number, one in enumerate(horizons):
        bits[horizon == one] = 1 << number
    return bits


def _scalar(moment: datetime) -> pa.Scalar:
    return pa.scalar(moment, TIMESTAMP)
