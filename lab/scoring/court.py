"""The court: how every model did on every symbol and horizon, and whether that is skill.

Judged are forecasts that count (`is_in_skill`), one a decision time: of several forecasts
of one model for one moment the first scored counts, so that trying other seeds cannot
improve a record. Losses are relative to the price the forecast started from: a symbol
whose price rose tenfold is not judged by its last year alone.

Two questions are asked of each cell (symbol × horizon × model), both one-sided:

- does the median err less than "the price stays" (absolute error), and
- are p10, p50 and p90 better than those of `naive` (pinball loss)?

Both compare like with like: persistence has no band, so a band must not count against
it, and every model states these three quantiles, while CRPS from samples and CRPS from
a few quantiles differ by some per cent for equal forecasts. A cell has skill when the
answer to both is yes: the larger p-value, adjusted over all cells that were judged,
stays at or below `FALSE_DISCOVERY_RATE`. `naive` itself answers the first one only.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lab.arrays import AnyArray
from lab.bars.timeframes import step
from lab.scoring.comparison import (
    MIN_BLOCKS,
    MIN_FORECASTS,
    Comparisons,
    benjamini_hochberg,
    compare,
)
from lab.scoring.figures import group_figures
from lab.scoring.judged import BASELINE, Cells, Grouping, grouped, read_cells
from lab.scoring.segments import Segments
from lakehouse.schema.verdicts import SKILL_VERDICTS

FALSE_DISCOVERY_RATE: Final = 0.05
SCOPES: Final = ("symbol", "asset_class", "all")


def judge(
    scores: pa.Table,
    *,
    timeframe: str,
    asset_classes: Mapping[str, str],
    as_of: datetime,
    judged_at: datetime,
    run_id: str,
) -> pa.Table:
    """Return a verdict on every cell and every pool of cells of one timeframe.

    Parameters
    ----------
    scores : pyarrow.Table
        Rows of `prediction_scores`; other timeframes are left out.
    timeframe : str
        `1h` or `1d`.
    asset_classes : mapping of str to str
        Of each symbol; `other` where it is absent.
    as_of : datetime
        Decision time, aware.
    judged_at : datetime
        Clock time, aware.
    run_id : str
        The run that judges.

    Returns
    -------
    pyarrow.Table
        Rows of `skill_verdicts`.

    Raises
    ------
    BarsError
        If the timeframe is unknown.
    ScoringError
        If a column is missing.

    Notes
    -----
    Point in time: only scores with `known_ts` <= `as_of`.
    """
    step(timeframe)
    cells = read_cells(scores, timeframe=timeframe, as_of=as_of)
    constants = {
        "timeframe": timeframe,
        "judged_as_of": as_of,
        "judged_at": judged_at,
        "run_id": run_id,
    }
    if len(cells.symbol) == 0:
        return SKILL_VERDICTS.to_arrow().empty_table()
    parts = [
        _to_table(
            _verdicts(cells, grouped(cells, scope, asset_classes)),
            constants | {"scope": scope},
        )
        for scope in SCOPES
    ]
    return pa.concat_tables(parts)


def _verdicts(cells: Cells, grouping: Grouping) -> dict[str, AnyArray]:
    series = Segments.of(
        grouping.point_group,
        grouping.n_groups,
        as_of=grouping.point_as_of,
        known=grouping.point_known,
    )
    found = group_figures(cells, grouping, series, series.blocks())
    ours = _compare(cells, grouping, series, "gain_persistence")
    theirs = _compare(cells, grouping, series, "gain_naive")
    is_baseline = np.array([name == BASELINE for name in grouping.models])
    p_skill = np.where(
        is_baseline, ours.p_value, np.maximum(ours.p_value, theirs.p_value)
    )
    q_skill = benjamini_hochberg(p_skill)
    first = np.flatnonzero(np.diff(grouping.point_group, prepend=-1))
    last = np.append(first[1:], len(grouping.point_group)) - 1
    known = np.maximum.reduceat(grouping.point_known, first)
    found |= {
        "subject": np.array(grouping.subjects, dtype=object),
        "horizon": grouping.horizons,
        "model_name": np.array(grouping.models, dtype=object),
        "first_as_of": grouping.point_as_of[first],
        "last_as_of": grouping.point_as_of[last],
        "known_ts": known,
        "coverage_se": _compare(cells, grouping, series, "covered").error,
        "n_lags": ours.n_lags,
        "n_naive": theirs.n_obs,
        "p_skill": p_skill,
        "q_skill": q_skill,
        "has_skill": q_skill <= FALSE_DISCOVERY_RATE,
    }
    for name, one in (("persistence", ours), ("naive", theirs)):
        found |= {
            f"skill_{name}": one.mean,
            f"dm_{name}": one.statistic,
            f"p_{name}": one.p_value,
            f"q_{name}": benjamini_hochberg(one.p_value),
        }
    found["reason"] = np.array(
        [
            _reason(at, ours, theirs, found, is_baseline=bool(is_baseline[at]))
            for at in range(grouping.n_groups)
        ],
        dtype=object,
    )
    return found


def _compare(
    cells: Cells, grouping: Grouping, series: Segments, name: str
) -> Comparisons:
    values = grouping.mean_at_points(cells.values[name][grouping.rows])
    is_known = np.isfinite(values)
    return compare(values[is_known], series.keep(is_known))


def _reason(
    at: int,
    ours: Comparisons,
    theirs: Comparisons,
    found: dict[str, AnyArray],
    *,
    is_baseline: bool,
) -> str:
    sides = [("persistence", ours)]
    if not is_baseline:
        sides.append((BASELINE, theirs))
    for name, one in sides:
        if not np.isfinite(one.p_value[at]):
            return "not judged: " + _lacking(name, one, at)
    if found["has_skill"][at]:
        return "beats " + " and ".join(name for name, _ in sides)
    failed = [name for name, one in sides if one.p_value[at] > FALSE_DISCOVERY_RATE]
    if not failed:
        return "no more than chance allows among so many cells"
    return "does not beat " + " and ".join(failed)


def _lacking(name: str, one: Comparisons, at: int) -> str:
    n_obs, n_blocks = int(one.n_obs[at]), int(one.n_blocks[at])
    if n_obs == 0:
        return f"no forecast of {name} to compare with"
    if n_blocks < MIN_BLOCKS:
        return f"{n_blocks} of {MIN_BLOCKS} blocks against {name}"
    if n_obs < MIN_FORECASTS:
        return f"{n_obs} of {MIN_FORECASTS} forecasts against {name}"
    return f"the difference to {name} does not vary"


def _to_table(columns: dict[str, AnyArray], constants: dict[str, Any]) -> pa.Table:
    schema = SKILL_VERDICTS.to_arrow()
    n_rows = len(columns["subject"])
    is_judged = np.isfinite(columns["q_skill"])
    arrays = {
        "has_skill": pa.array(columns.pop("has_skill"), mask=~is_judged),
        "pit_histogram": pa.array(list(columns.pop("pit_histogram").round(6))),
        **{
            name: pa.repeat(pa.scalar(value, schema.field(name).type), n_rows)
            for name, value in constants.items()
        },
    }
    for name, values in columns.items():
        is_float = values.dtype.kind == "f"
        mask = ~np.isfinite(values) if is_float else None
        arrays[name] = pa.array(values, mask=mask)
    return pa.table(
        [arrays[field.name].cast(field.type) for field in schema], schema=schema
    )
