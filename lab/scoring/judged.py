"""Rows of `prediction_scores` made ready for the court: cleaned, paired and grouped."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import AnyArray, BoolArray, FloatArray, IntArray, TimeArray
from lab.errors import ScoringError
from lab.scoring.segments import mean_of_known
from lakehouse.schema.forecasts import PREDICTION_SCORES

BASELINE: Final = "naive"
NEEDED: Final = (
    "prediction_id",
    "symbol",
    "timeframe",
    "horizon",
    "model_name",
    "as_of",
    "known_ts",
    "last_close",
    "actual",
    "p10",
    "p50",
    "p90",
    "is_direction_hit",
    "is_covered",
    "absolute_error",
    "persistence_error",
    "scaled_error",
    "pinball_mean",
    "crps",
    "pit",
    "n_samples",
    "winkler",
    "actual_return",
    "strategy_return",
    "bars_per_year",
    "is_in_skill",
    "scored_at",
)
"""Columns that a judgement reads."""

_RELATIVE: Final = {
    "mae": "absolute_error",
    "mae_persistence": "persistence_error",
    "pinball": "pinball_mean",
    "crps": "crps",
    "winkler": "winkler",
    "price": "actual",
}
_COPIED: Final = (
    "pit",
    "actual_return",
    "strategy_return",
    "scaled_error",
    "bars_per_year",
)


@dataclass(frozen=True, slots=True)
class Cells:
    """Judged forecasts, one a cell and decision time.

    Attributes
    ----------
    symbols, models : tuple of str
        Names behind the codes.
    symbol, model, horizon : ndarray of shape (n_rows,), int64
        Codes, and the horizon in bars.
    as_of, known : ndarray of shape (n_rows,), datetime64[us]
        Decision time, and when the outcome was known.
    values : dict of str to ndarray of shape (n_rows,), float64
        Losses as shares of the starting price, flags as 0 or 1; NaN is unknown.
    """

    symbols: tuple[str, ...]
    models: tuple[str, ...]
    symbol: IntArray
    model: IntArray
    horizon: IntArray
    as_of: TimeArray
    known: TimeArray
    values: dict[str, FloatArray]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Rows of `Cells` in groups, and groups as series of decision times.

    Attributes
    ----------
    rows : ndarray of shape (n_rows,), int64
        Rows of the cells, sorted by group and decision time.
    group, point : ndarray of shape (n_rows,), int64
        Group and (group, decision time) of each.
    subjects, models : list of str of length n_groups
        Symbol, asset class or `all`; model.
    horizons : ndarray of shape (n_groups,), int64
        In bars.
    point_group : ndarray of shape (n_points,), int64
        Group of each decision time.
    point_as_of, point_known : ndarray of shape (n_points,), datetime64[us]
        The decision time, and when the last of its outcomes was known.
    """

    rows: IntArray
    group: IntArray
    point: IntArray
    subjects: list[str]
    models: list[str]
    horizons: IntArray
    point_group: IntArray
    point_as_of: TimeArray
    point_known: TimeArray

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.subjects)

    def mean_at_points(self, values: FloatArray) -> FloatArray:
        """Return the mean of the known `values` at each decision time; NaN if none is."""
        return mean_of_known(values, self.point, len(self.point_group))


def read_cells(scores: pa.Table, *, timeframe: str, as_of: datetime) -> Cells:
    """Choose the rows that are judged and pair them with the baseline's.

    Parameters
    ----------
    scores : pyarrow.Table
        Rows of `prediction_scores`.
    timeframe : str
        Others are left out.
    as_of : datetime
        Decision time, aware.

    Raises
    ------
    ScoringError
        If a column is missing.

    Notes
    -----
    Point in time: only rows with `known_ts` <= `as_of`.
    """
    missing = [name for name in NEEDED if name not in scores.column_names]
    if missing:
        raise ScoringError(f"scores: column missing: {', '.join(missing)}")
    moment = pa.scalar(as_of, PREDICTION_SCORES.column("known_ts").dtype)
    table = scores.select(list(NEEDED)).filter(
        (pc.field("timeframe") == timeframe)
        & pc.field("is_in_skill")
        & (pc.field("known_ts") <= moment)
        & (pc.field("last_close") > 0)
    )
    symbols, symbol = _coded(table["symbol"])
    models, model = _coded(table["model_name"])
    horizon = table["horizon"].to_numpy()
    as_ofs = _times(table["as_of"])
    order = np.lexsort(
        (_ranked(table), _times(table["scored_at"]), as_ofs, model, horizon, symbol)
    )
    keys = (symbol[order], horizon[order], model[order], as_ofs[order])
    order = order[_is_first(*keys)]
    table, symbol, model, horizon = (
        table.take(pa.array(order)),
        symbol[order],
        model[order],
        horizon[order],
    )
    cells = Cells(
        symbols,
        models,
        symbol,
        model,
        horizon,
        as_ofs[order],
        _times(table["known_ts"]),
        _values(table),
    )
    _compare_with_baselines(cells)
    return cells


def grouped(cells: Cells, scope: str, asset_classes: Mapping[str, str]) -> Grouping:
    """Group rows by subject, horizon and model.

    Parameters
    ----------
    cells : Cells
        From `read_cells`.
    scope : str
        `symbol`, `asset_class` or `all`: what a subject is.
    asset_classes : mapping of str to str
        Of each symbol; `other` where it is absent.
    """
    names = {
        "symbol": list(cells.symbols),
        "asset_class": [asset_classes.get(one, "other") for one in cells.symbols],
        "all": ["all"] * len(cells.symbols),
    }[scope]
    subjects, codes = np.unique(np.array(names, dtype=object), return_inverse=True)
    subject = codes.astype(np.int64)[cells.symbol]
    rows = np.lexsort((cells.as_of, cells.model, cells.horizon, subject))
    keys = (subject[rows], cells.horizon[rows], cells.model[rows])
    starts = _is_first(*keys)
    group = np.cumsum(starts) - 1
    is_point = _is_first(group, cells.as_of[rows])
    point = np.cumsum(is_point) - 1
    known = cells.known[rows][is_point].copy()
    np.maximum.at(known, point, cells.known[rows])
    return Grouping(
        rows=rows,
        group=group,
        point=point,
        subjects=[str(subjects[code]) for code in keys[0][starts]],
        models=[cells.models[code] for code in keys[2][starts]],
        horizons=keys[1][starts],
        point_group=group[is_point],
        point_as_of=cells.as_of[rows][is_point],
        point_known=known,
    )


def _values(table: pa.Table) -> dict[str, FloatArray]:
    last_close = table["last_close"].to_numpy()
    actual = table["actual"].to_numpy()
    found = {
        name: table[column].to_numpy() / last_close
        for name, column in _RELATIVE.items()
    }
    found |= {name: _numbers(table[name]) for name in _COPIED}
    found |= {
        f"below_{name}": (actual <= table[name].to_numpy()).astype(np.float64)
        for name in ("p10", "p50", "p90")
    }
    return found | {
        "hit": _numbers(table["is_direction_hit"]),
        "covered": _numbers(table["is_covered"]),
        "n_samples": np.nan_to_num(_numbers(table["n_samples"])),
        "predicted": table["p50"].to_numpy() / last_close - 1.0,
    }


def _compare_with_baselines(cells: Cells) -> None:
    # Differences of losses in units of the baseline's mean loss on the same rows of the
    # cell: their mean is the skill score, and symbols weigh alike in a pool.
    values = cells.values
    cell = np.cumsum(_is_first(cells.symbol, cells.horizon, cells.model)) - 1
    for name in ("mae", "pinball"):
        values[f"{name}_naive"] = _of_baseline(cells, values[name])
    persistence = values["mae_persistence"]
    values["gain_persistence"] = _gain(values["mae"], persistence, cell)
    values["gain_naive"] = _gain(values["pinball"], values["pinball_naive"], cell)


def _of_baseline(cells: Cells, loss: FloatArray) -> FloatArray:
    # The baseline's loss at the same symbol, horizon and decision time; NaN if none.
    found = np.full(len(loss), np.nan)
    if BASELINE not in cells.models or len(loss) == 0:
        return found
    _, moment = np.unique(cells.as_of, return_inverse=True)
    steps, horizon = np.unique(cells.horizon, return_inverse=True)
    n_moments = int(moment.max()) + 1
    key = (cells.symbol * len(steps) + horizon) * n_moments + moment
    is_baseline = cells.model == cells.models.index(BASELINE)
    theirs = key[is_baseline]  # sorted, as the rows are
    if len(theirs) == 0:
        return found
    at = np.minimum(np.searchsorted(theirs, key), len(theirs) - 1)
    is_paired = (theirs[at] == key) & ~is_baseline
    found[is_paired] = loss[is_baseline][at[is_paired]]
    return found


def _gain(loss: FloatArray, reference: FloatArray, cell: IntArray) -> FloatArray:
    unit = mean_of_known(reference, cell, int(cell.max(initial=-1)) + 1)[cell]
    # A baseline that never errs cannot be beaten.
    scale = np.where(unit > 0, unit, 1.0)
    return np.asarray((reference - loss) / scale)


def _ranked(table: pa.Table) -> IntArray:
    # Order among forecasts of one model for one moment that were scored together.
    keys = ["symbol", "horizon", "model_name", "as_of"]
    n_keys = table.group_by(keys).aggregate([]).num_rows
    if n_keys == table.num_rows:
        return np.zeros(table.num_rows, dtype=np.int64)
    ranks = pc.rank(table["prediction_id"], tiebreaker="dense")
    return np.asarray(ranks.to_numpy(), dtype=np.int64)


def _is_first(*columns: AnyArray) -> BoolArray:
    # Where a run of equal keys starts.
    n_rows = len(columns[0])
    is_first = np.zeros(n_rows, dtype=np.bool_)
    is_first[:1] = True
    for column in columns:
        is_first[1:] |= column[1:] != column[:-1]
    return is_first


def _coded(column: pa.ChunkedArray) -> tuple[tuple[str, ...], IntArray]:
    # Names in order, and each row's place among them.
    encoded = column.combine_chunks().dictionary_encode()
    found = np.array(encoded.dictionary.to_pylist(), dtype=object)
    names, places = np.unique(found, return_inverse=True)
    codes = places.astype(np.int64)[encoded.indices.to_numpy()]
    return tuple(str(name) for name in names), codes


def _times(column: pa.ChunkedArray) -> TimeArray:
    return np.asarray(column.cast(pa.timestamp("us")).to_numpy())


def _numbers(column: pa.ChunkedArray) -> FloatArray:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
