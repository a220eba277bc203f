"""What is made of forecasts once they are settled, for the leak checker.

Scores are labels: each claims to be known when its target bar was. The ensemble's
features are checked on the rows that it is trained on.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import AnyArray, TimeArray
from lab.bars.timeframes import to_moment
from lab.forecasters.ensemble_features import (
    EnsembleContext,
    MemberRows,
    RegimeCalls,
    feature_names,
    member_features,
)
from lab.forecasters.scheduled import ScheduledReleases
from lab.scoring.predictions import settle_predictions
from lab.validation.leaks import Answers
from lab.validation.markets import Market, moments
from lakehouse.schema.research import REGIMES

SCORES: Final = (
    "actual",
    "pinball_mean",
    "absolute_error",
    "scaled_error",
    "is_covered",
    "is_direction_hit",
    "is_in_skill",
)
_EVERY: Final = 3


def scores(market: Market, timeframe: str, as_of: np.datetime64) -> Answers:
    """Answer with the scores of forecasts that are settled at `as_of`."""
    table = _settled(market, timeframe, as_of)
    values = [_numbers(table, name) for name in SCORES]
    names = _named(
        table["prediction_id"].to_pylist(), moments(table, "as_of"), table["horizon"]
    )
    return Answers(
        names,
        moments(table, "target_ts"),
        moments(table, "known_ts"),
        np.stack(values, axis=1) if len(names) else np.zeros((0, len(SCORES))),
        SCORES,
    )


def ensemble_features(market: Market, timeframe: str, as_of: np.datetime64) -> Answers:
    """Answer with the rows that an ensemble trained at `as_of` would be shown."""
    table = _settled(market, timeframe, as_of)
    classes = dict(
        zip(
            market.instruments["symbol"].to_pylist(),
            market.instruments["asset_class"].to_pylist(),
            strict=True,
        )
    )
    rows = MemberRows.from_scores(table, classes, timeframe=timeframe)
    rows = rows.of_members(market.models)
    context = EnsembleContext(
        ScheduledReleases.from_table(market.releases, {}),
        RegimeCalls.from_table(REGIMES.to_arrow().empty_table()),
    )
    found = member_features(rows, context)
    members = np.array(market.models, dtype=str)[found.member]
    names = np.char.add(
        np.char.add(members, " "),
        _named(rows.symbol[found.row], rows.as_of[found.row], rows.horizon[found.row]),
    )
    columns = tuple(feature_names(market.models))
    return Answers(
        names,
        rows.until[found.row],
        rows.known[found.row],
        np.asarray(found.features, np.float64),
        columns,
    )


def _settled(market: Market, timeframe: str, as_of: np.datetime64) -> pa.Table:
    # Some of the forecasts, by their moment and not by their place.
    is_length = pc.equal(market.predictions["timeframe"], timeframe)
    rows = market.predictions.filter(is_length)
    day = moments(rows, "as_of").astype("datetime64[D]").astype(np.int64)
    known = moments(rows, "known_ts") <= as_of
    return settle_predictions(
        rows.filter(pa.array((day % _EVERY == 0) & known)),
        market.ohlcv,
        market.instruments,
        now=to_moment(as_of),
        run_id="leaks",
    ).scores


def _named(
    names: Sequence[str] | AnyArray, as_of: TimeArray, horizon: AnyArray
) -> AnyArray:
    pairs = zip(names, np.datetime_as_string(as_of, unit="m"), horizon, strict=True)
    return np.array([f"{name} {moment} +{step}" for name, moment, step in pairs], str)


def _numbers(table: pa.Table, name: str) -> AnyArray:
    return np.asarray(
        table[name].cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64
    )
