"""Figures of the court per group: losses, calibration, ranks and returns."""

from typing import Final

import numpy as np

from lab.arrays import AnyArray, BoolArray, FloatArray, IntArray
from lab.scoring.calibration import (
    pit_chi_square,
    pit_error,
    pit_histograms,
    pit_p_values,
    quantile_error,
)
from lab.scoring.judged import Cells, Grouping
from lab.scoring.ranks import rank_correlations
from lab.scoring.segments import Segments, counted, mean_of_known, ratio, summed

MIN_CROSS_SECTION: Final = 5
"""Symbols of one decision time from which their ranks are compared."""

LEVELS: Final = np.array([0.1, 0.5, 0.9])
_MEANS: Final = {
    "hit_rate": "hit",
    "coverage_80": "covered",
    "share_below_p10": "below_p10",
    "share_below_p50": "below_p50",
    "share_below_p90": "below_p90",
    "mae": "mae",
    "mae_persistence": "mae_persistence",
    "mae_naive": "mae_naive",
    "pinball": "pinball",
    "pinball_naive": "pinball_naive",
    "crps": "crps",
    "winkler": "winkler",
    "mase": "scaled_error",
}


def group_figures(
    cells: Cells, grouping: Grouping, series: Segments, is_block: BoolArray
) -> dict[str, AnyArray]:
    """Return everything that needs no test, one value a group; NaN is unknown.

    Parameters
    ----------
    cells : Cells
        Judged forecasts.
    grouping : Grouping
        How they are grouped.
    series : Segments
        The groups' decision times.
    is_block : ndarray of shape (n_points,), bool
        Decision times that do not overlap.
    """
    values = {name: column[grouping.rows] for name, column in cells.values.items()}
    group, n_groups = grouping.group, grouping.n_groups
    found: dict[str, AnyArray] = {
        name: mean_of_known(values[column], group, n_groups)
        for name, column in _MEANS.items()
    }
    found["wql"] = 2 * ratio(
        summed(values["pinball"], group, n_groups),
        summed(values["price"], group, n_groups),
    )
    found["n_obs"] = counted(group, n_groups)
    found["n_symbols"] = _n_symbols(cells.symbol[grouping.rows], group, n_groups)
    found["n_blocks"] = counted(series.group[is_block], n_groups)
    found |= _calibration(values, found, group, n_groups)
    found["rank_ic"] = _rank_ic(values, grouping)
    found["sharpe"] = _sharpe(values, grouping, is_block)
    return found


def _calibration(
    values: dict[str, FloatArray],
    found: dict[str, AnyArray],
    group: IntArray,
    n_groups: int,
) -> dict[str, AnyArray]:
    n_samples = values["n_samples"].astype(np.int64)
    histograms = pit_histograms(values["pit"], n_samples, group, n_groups)
    shares = [found[f"share_below_{name}"] for name in ("p10", "p50", "p90")]
    statistic = pit_chi_square(histograms)
    return {
        "pit_histogram": histograms,
        "pit_chi2": statistic,
        "pit_p_value": pit_p_values(statistic, found["n_obs"], found["n_blocks"]),
        "pit_error": pit_error(histograms),
        "quantile_error": quantile_error(np.stack(shares, axis=1), LEVELS),
    }


def _rank_ic(values: dict[str, FloatArray], grouping: Grouping) -> FloatArray:
    predicted, actual = values["predicted"], values["actual_return"]
    n_groups = grouping.n_groups
    if len(grouping.point_group) == len(grouping.rows):
        return rank_correlations(predicted, actual, grouping.group, n_groups)
    n_points = len(grouping.point_group)
    at_points = rank_correlations(predicted, actual, grouping.point, n_points)
    width = counted(grouping.point, n_points)
    at_points = np.where(width >= MIN_CROSS_SECTION, at_points, np.nan)
    return mean_of_known(at_points, grouping.point_group, n_groups)


def _sharpe(
    values: dict[str, FloatArray], grouping: Grouping, is_block: BoolArray
) -> FloatArray:
    # Of the equally weighted symbols, one forecast a block; annualised.
    n_groups = grouping.n_groups
    group = grouping.point_group[is_block]
    returns = grouping.mean_at_points(values["strategy_return"])[is_block]
    n_obs = counted(group, n_groups)
    mean = mean_of_known(returns, group, n_groups)
    squares = summed(np.square(returns - mean[group]), group, n_groups)
    deviation = np.sqrt(ratio(squares, np.maximum(n_obs - 1, 0)))
    is_steady = ~(deviation > 1e-12 * np.abs(mean))
    yearly = mean_of_known(values["bars_per_year"], grouping.group, n_groups)
    per_year = yearly / grouping.horizons
    sharpe = ratio(mean, np.where(is_steady, 0.0, deviation)) * np.sqrt(per_year)
    return np.asarray(sharpe)


def _n_symbols(symbol: IntArray, group: IntArray, n_groups: int) -> IntArray:
    width = int(symbol.max()) + 1
    return counted(np.unique(group * width + symbol) // width, n_groups)
