"""Forecasts and settled scores in, rows of `conformal_bands` out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import AnyArray, BoolArray, FloatArray, IntArray, TimeArray
from lab.bars.timeframes import HORIZONS, step
from lab.errors import ScoringError
from lab.forecasters.conformal import (
    COVERAGE,
    CellRows,
    ConformalParameters,
    band_scores,
    between_horizons,
    calibrate,
    stretched,
)
from lab.forecasters.scheduled import HIGH_IMPACT, ScheduledReleases
from lab.scoring.unfold import times, unfold
from lakehouse.schema.bands import CONFORMAL_BANDS

FORECAST_COLUMNS: Final = (
    "prediction_id",
    "symbol",
    "timeframe",
    "model_name",
    "as_of",
    "target_ts",
    "p10",
    "p50",
    "p90",
)
SCORE_COLUMNS: Final = (
    "prediction_id",
    "horizon",
    "symbol",
    "model_name",
    "as_of",
    "target_ts",
    "known_ts",
    "actual",
    "p10",
    "p50",
    "p90",
    "block",
    "is_in_skill",
)
GIVEN_COLUMNS: Final = ("prediction_id", "horizons", "factors")


@dataclass(frozen=True, slots=True)
class BandInputs:
    """What bands are made of.

    Attributes
    ----------
    scores : pyarrow.Table
        Rows of `prediction_scores` with `SCORE_COLUMNS`; those in skill are labels.
    given : pyarrow.Table
        Rows of `conformal_bands` with `GIVEN_COLUMNS`: the bands of scored forecasts
        that were given before.
    releases : ScheduledReleases
        The calendar.
    asset_classes : mapping of str to str
        By symbol.
    """

    scores: pa.Table
    given: pa.Table
    releases: ScheduledReleases
    asset_classes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Cells:
    # One row per forecast and horizon: those asked for, forecast `i` from `starts[i]`
    # on, then labels of other forecasts.
    starts: IntArray
    horizon: IntArray
    model: AnyArray
    symbol: AnyArray
    as_of: TimeArray
    is_event: BoolArray
    known: TimeArray
    score: FloatArray
    block: IntArray
    factor: FloatArray


def band_rows(
    forecasts: pa.Table,
    inputs: BandInputs,
    *,
    timeframe: str,
    run_id: str,
    parameters: ConformalParameters | None = None,
) -> pa.Table:
    """Return the bands of `forecasts`.

    Parameters
    ----------
    forecasts : pyarrow.Table
        Rows of `ml_predictions` with `FORECAST_COLUMNS`, of one timeframe; every
        forecast without a band up to the newest among them, or those are taken for
        raw.
    inputs : BandInputs
        Labels, earlier bands, calendar.
    timeframe : str
        `1h` or `1d`.
    run_id : str
        The run that makes them.
    parameters : ConformalParameters, optional
        Settings.

    Returns
    -------
    pyarrow.Table
        Rows of `conformal_bands`, by `as_of`, then `prediction_id`.

    Raises
    ------
    ScoringError
        If a forecast's symbol has no asset class.

    Notes
    -----
    Point in time: a band uses scores with `known_ts` <= the forecast's `as_of` only.
    """
    chosen = parameters or ConformalParameters()
    forecasts = forecasts.sort_by(
        [("as_of", "ascending"), ("prediction_id", "ascending")]
    ).combine_chunks()
    if forecasts.num_rows == 0:
        return CONFORMAL_BANDS.to_arrow().empty_table()
    cells = _cells(forecasts, inputs, timeframe)
    _require_classes(cells.symbol, inputs.asset_classes)
    _, classes = np.unique(
        [inputs.asset_classes[one] for one in cells.symbol.tolist()],
        return_inverse=True,
    )
    _, symbols = np.unique(cells.symbol.astype(str), return_inverse=True)
    level = np.full(len(cells.factor), np.nan)
    n_labels = np.zeros(len(cells.factor), dtype=np.int64)
    factor = cells.factor.copy()
    for model in np.unique(cells.model.astype(str)):
        centre: dict[np.datetime64, float] = {}
        for horizon in np.unique(cells.horizon):
            rows = np.flatnonzero((cells.model == model) & (cells.horizon == horizon))
            found = calibrate(
                CellRows(
                    symbol=symbols[rows],
                    asset_class=classes[rows],
                    as_of=cells.as_of[rows],
                    known=cells.known[rows],
                    score=cells.score[rows],
                    block=cells.block[rows],
                    is_event=cells.is_event[rows],
                    factor=cells.factor[rows],
                ),
                span=step(timeframe) * int(horizon),
                parameters=chosen,
                shorter=centre,
            )
            centre = found.centre
            factor[rows] = found.factor
            level[rows], n_labels[rows] = found.level, found.n_labels
    return _to_table(forecasts, cells, factor, level, n_labels, run_id=run_id)


def _cells(forecasts: pa.Table, inputs: BandInputs, timeframe: str) -> _Cells:
    asked = unfold(forecasts, HORIZONS[timeframe])
    ids = _words(forecasts, "prediction_id")[asked.row]
    labels = inputs.scores.filter(pc.field("is_in_skill")).combine_chunks()
    label_ids, label_horizons = _words(labels, "prediction_id"), _integers(labels)
    bands = [labels[name].to_numpy() for name in ("p10", "p50", "p90", "actual")]
    scores = band_scores(*bands)
    place = _places(ids, asked.horizon, label_ids, label_horizons)
    is_labelled = place >= 0
    is_old = np.ones(len(label_ids), dtype=np.bool_)
    is_old[place[is_labelled]] = False
    n_asked = len(ids)
    old = np.flatnonzero(is_old)

    def joined(of_asked: AnyArray, of_label: AnyArray) -> AnyArray:
        return np.concatenate([of_asked, of_label[old]])

    def settled(values: AnyArray, missing: object) -> AnyArray:
        found = np.full(n_asked, missing, dtype=values.dtype)
        found[is_labelled] = values[place[is_labelled]]
        return np.concatenate([found, values[old]])

    symbol = joined(_words(forecasts, "symbol")[asked.row], _words(labels, "symbol"))
    as_of = joined(times(forecasts["as_of"])[asked.row], times(labels["as_of"]))
    target = joined(asked.target_ts, times(labels["target_ts"]))
    until: TimeArray = np.asarray(target + step(timeframe), dtype="datetime64[us]")
    n_releases = inputs.releases.count(symbol, as_of, until, importance=HIGH_IMPACT)
    return _Cells(
        starts=np.searchsorted(asked.row, np.arange(forecasts.num_rows + 1)),
        horizon=joined(asked.horizon, label_horizons),
        model=joined(
            _words(forecasts, "model_name")[asked.row], _words(labels, "model_name")
        ),
        symbol=symbol,
        as_of=as_of,
        is_event=n_releases > 0,
        known=settled(times(labels["known_ts"]), np.datetime64("NaT")),
        score=settled(scores, np.nan),
        block=settled(labels["block"].to_numpy(), 0),
        factor=joined(
            np.full(n_asked, np.nan),
            _given_factors(inputs.given, label_ids, label_horizons),
        ),
    )


def _given_factors(
    given: pa.Table, label_ids: AnyArray, label_horizons: IntArray
) -> FloatArray:
    # The factor of each label's band; 1 where no band was given.
    factors = np.ones(len(label_ids))
    if given.num_rows == 0 or len(label_ids) == 0:
        return factors
    given = given.combine_chunks()
    lists = given["horizons"].combine_chunks()
    owner = np.repeat(np.arange(given.num_rows), lists.value_lengths().to_numpy())
    place = _places(
        label_ids,
        label_horizons,
        _words(given, "prediction_id")[owner],
        lists.flatten().to_numpy(),
    )
    stored = given["factors"].combine_chunks().flatten().to_numpy()
    return np.where(place >= 0, stored[place], 1.0)


def _places(
    ids: AnyArray, horizons: IntArray, in_ids: AnyArray, in_horizons: IntArray
) -> IntArray:
    # Row of each (id, horizon) among others; -1 where it is not.
    where = {
        key: row
        for row, key in enumerate(
            zip(in_ids.tolist(), in_horizons.tolist(), strict=True)
        )
    }
    pairs = zip(ids.tolist(), horizons.tolist(), strict=True)
    return np.array([where.get(pair, -1) for pair in pairs], dtype=np.int64)


def _to_table(
    forecasts: pa.Table,
    cells: _Cells,
    factor: FloatArray,
    level: FloatArray,
    n_labels: IntArray,
    *,
    run_id: str,
) -> pa.Table:
    rows = []
    for number, one in enumerate(forecasts.to_pylist()):
        part = slice(int(cells.starts[number]), int(cells.starts[number + 1]))
        p10, p50, p90 = (np.array(one[name]) for name in ("p10", "p50", "p90"))
        low, high = stretched(
            p10, p50, p90, between_horizons(cells.horizon[part], factor[part], len(p50))
        )
        rows.append(
            {name: one[name] for name in FORECAST_COLUMNS[:5]}
            | {
                "known_ts": one["as_of"],
                "p10": low,
                "p90": high,
                "coverage": COVERAGE,
                "horizons": cells.horizon[part],
                "factors": factor[part],
                "levels": level[part],
                "n_labels": n_labels[part],
                "is_event_day": cells.is_event[part],
                "run_id": run_id,
            }
        )
    return pa.Table.from_pylist(rows, schema=CONFORMAL_BANDS.to_arrow())


def _require_classes(symbols: AnyArray, asset_classes: Mapping[str, str]) -> None:
    unknown = sorted(set(symbols.tolist()) - set(asset_classes))
    if unknown:
        raise ScoringError(f"symbol {unknown[0]!r} was forecast but is no instrument")


def _words(table: pa.Table, name: str) -> AnyArray:
    return np.array(table[name].to_pylist(), dtype=object)


def _integers(table: pa.Table) -> IntArray:
    return np.asarray(table["horizon"].to_numpy().astype(np.int64))
