"""Scores of forecasts whose horizon has passed: rows of `prediction_scores`.

A forecast is scored at a horizon when the bar with exactly that `target_ts` exists and
is known. While it is not known the forecast waits; if its time has passed without a bar
(a holiday, a gap, a delisting) it stays unscored and is counted as missing: scoring it
against another bar would score another question. A late bar is picked up by the next
run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import AnyArray, BoolArray, FloatArray, IntArray
from lab.bars.timeframes import HORIZONS, to_instant
from lab.scoring.coverage import (
    is_covered,
    pit_from_band,
    pit_from_samples,
    winkler_score,
)
from lab.scoring.crps import crps_from_quantiles, crps_from_samples
from lab.scoring.outcomes import Histories, Outcomes, outcomes
from lab.scoring.point import direction
from lab.scoring.quantile import pinball_loss
from lab.scoring.unfold import Unfolded, checked_predictions, samples_at, times, unfold
from lakehouse.schema.forecasts import PREDICTION_SCORES, QUANTILE_LEVELS

__all__ = ["HORIZONS", "Settlement", "score_predictions", "settle_predictions"]

LEVELS: Final = np.array([0.1, 0.5, 0.9])
_GRID: Final = np.array(QUANTILE_LEVELS)
_COPIED: Final = ("prediction_id", "symbol", "timeframe", "model_name", "model_version")


@dataclass(frozen=True, slots=True)
class Settlement:
    """Result of a scoring run.

    Attributes
    ----------
    scores : pyarrow.Table
        Rows of `prediction_scores`.
    n_waiting : int
        Forecast × horizon whose target bar is not known yet.
    n_missing : int
        Forecast × horizon whose target bar should be known but does not exist.
    """

    scores: pa.Table
    n_waiting: int
    n_missing: int


def score_predictions(
    predictions: pa.Table,
    ohlcv: pa.Table | Histories,
    instruments: pa.Table,
    *,
    now: datetime,
    run_id: str,
    horizons: Sequence[int] | None = None,
) -> pa.Table:
    """Return the rows of `prediction_scores` that can be scored at `now`.

    `settle_predictions` also says how many could not.

    Raises
    ------
    ScoringError
        If a column is missing, or a forecast's symbol is not among the instruments.

    Notes
    -----
    Point in time: a score uses bars up to its target's `known_ts` only.
    """
    return settle_predictions(
        predictions, ohlcv, instruments, now=now, run_id=run_id, horizons=horizons
    ).scores


def settle_predictions(
    predictions: pa.Table,
    ohlcv: pa.Table | Histories,
    instruments: pa.Table,
    *,
    now: datetime,
    run_id: str,
    horizons: Sequence[int] | None = None,
) -> Settlement:
    """Score the forecasts whose target bars are known.

    Parameters
    ----------
    predictions : pyarrow.Table
        Rows of `ml_predictions`, of any models and timeframes; `samples` may be absent.
        What was scored before is for the caller to leave out.
    ohlcv : pyarrow.Table or Histories
        Bars of these symbols: the targets and, before the oldest forecast, a year and
        512 bars for the scaled error and the bars a year. `flags` may be absent.
    instruments : pyarrow.Table
        Rows of `instruments`.
    now : datetime
        Clock time, aware.
    run_id : str
        The run that scores.
    horizons : sequence of int, optional
        Steps to score; `HORIZONS` of the timeframe if not given. Steps beyond a
        forecast's end are ignored.

    Raises
    ------
    ScoringError
        If a column is missing, or a forecast's symbol is not among the instruments.

    Notes
    -----
    Point in time: a score uses bars up to its target's `known_ts` only. `is_in_skill`
    is false where the model may have been trained on the window, where half of the
    target bar was over at the decision time, and where a suspected split lies between.
    """
    table = checked_predictions(predictions)
    parts = []
    n_waiting = n_missing = 0
    timeframes = pc.unique(table["timeframe"]).to_pylist()
    for timeframe in timeframes:
        # Sample paths are large: they are copied only where rows have to be parted.
        is_wanted = pc.equal(table["timeframe"], timeframe)
        part = table if len(timeframes) == 1 else table.filter(is_wanted)
        asked = unfold(part, horizons or HORIZONS[timeframe])
        found = outcomes(
            part["symbol"].to_numpy()[asked.row],
            as_of=times(part["as_of"])[asked.row],
            last_ts=times(part["last_ts"])[asked.row],
            target_ts=asked.target_ts,
            ohlcv=ohlcv,
            instruments=instruments,
            timeframe=timeframe,
            now=now,
        )
        is_scored = np.isfinite(found.actual)
        is_due = found.known <= to_instant(now)
        n_waiting += int(np.count_nonzero(~is_due))
        n_missing += int(np.count_nonzero(is_due & ~is_scored))
        columns = _scores(part, asked.keep(is_scored), found.keep(is_scored))
        parts.append(_to_table(columns, scored_at=now, run_id=run_id))
    schema = PREDICTION_SCORES.to_arrow()
    scores = pa.concat_tables(parts) if parts else schema.empty_table()
    return Settlement(scores, n_waiting, n_missing)


def _scores(
    predictions: pa.Table, asked: Unfolded, found: Outcomes
) -> dict[str, AnyArray]:
    # Columns of `prediction_scores`; NaN and -1 stand for null until `_to_table`.
    actual, bands = found.actual, asked.bands
    p10, p50, p90 = bands.T
    last_close = predictions["last_close"].to_numpy()[asked.row]
    predicted = direction(last_close, p50)
    happened = direction(last_close, actual)
    actual_return = np.log(actual / last_close)
    absolute_error = np.abs(actual - p50)
    is_contaminated = _flags(predictions["is_contaminated"])[asked.row]
    crps, pit, n_samples = _distribution_scores(predictions, asked, actual)
    is_flat = (predicted == 0) | (happened == 0)
    return {
        **{name: predictions[name].to_numpy()[asked.row] for name in _COPIED},
        "as_of": times(predictions["as_of"])[asked.row],
        "horizon": asked.horizon,
        "target_ts": asked.target_ts,
        "known_ts": found.known,
        "last_close": last_close,
        "actual": actual,
        "p10": p10,
        "p50": p50,
        "p90": p90,
        "is_direction_hit": np.where(is_flat, -1, predicted == happened),
        "is_covered": is_covered(p10, p90, actual),
        "absolute_error": absolute_error,
        "persistence_error": np.abs(actual - last_close),
        "scaled_error": absolute_error / found.scale,
        "pinball_mean": pinball_loss(bands, LEVELS, actual).mean(axis=1),
        "crps": crps,
        "pit": pit,
        "n_samples": n_samples,
        "winkler": winkler_score(p10, p90, actual),
        "actual_return": actual_return,
        "strategy_return": predicted * actual_return,
        "block": found.position // asked.horizon,
        "bars_per_year": found.yearly_bars,
        "is_in_skill": ~is_contaminated & found.is_early & ~found.is_split,
        "is_contaminated": is_contaminated,
    }


def _distribution_scores(
    predictions: pa.Table, asked: Unfolded, actual: FloatArray
) -> tuple[FloatArray, FloatArray, IntArray]:
    # CRPS and PIT: from the three quantiles; CRPS from the grid of quantiles where there
    # is one; both from samples where there are any.
    crps = crps_from_quantiles(asked.bands, LEVELS, actual)
    p10, p50, p90 = asked.bands.T
    pit = pit_from_band(p10, p50, p90, actual)
    n_samples = np.zeros(len(actual), dtype=np.int64)
    for rows, grid in samples_at(predictions, asked, column="quantiles"):
        crps[rows] = crps_from_quantiles(grid, _GRID, actual[rows])
    for rows, samples in samples_at(predictions, asked):
        crps[rows] = crps_from_samples(samples, actual[rows])
        pit[rows] = pit_from_samples(samples, actual[rows])
        n_samples[rows] = samples.shape[1]
    return crps, pit, n_samples


def _to_table(
    columns: dict[str, AnyArray], *, scored_at: datetime, run_id: str
) -> pa.Table:
    schema = PREDICTION_SCORES.to_arrow()
    n_rows = len(columns["actual"])
    hit = columns.pop("is_direction_hit")
    scaled = columns.pop("scaled_error")
    arrays = {
        "is_direction_hit": pa.array(hit == 1, mask=hit < 0),
        "scaled_error": pa.array(scaled, mask=~np.isfinite(scaled)),
        "scored_at": pa.repeat(
            pa.scalar(scored_at, schema.field("scored_at").type), n_rows
        ),
        "run_id": pa.repeat(run_id, n_rows),
        **{name: pa.array(values) for name, values in columns.items()},
    }
    return pa.table(
        [arrays[field.name].cast(field.type) for field in schema], schema=schema
    )


def _flags(column: pa.ChunkedArray) -> BoolArray:
    return np.asarray(column.to_numpy(), dtype=np.bool_)
