"""Bars and events that a model is trained on, as known at a moment.

Nothing is trained here: `train_kronos` and `train_chronos2` read through this module.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.moments import NoBarsError, decision_moment
from flows.runs import Run
from lab.bars.panel import Panel
from lab.bars.series import Series
from lab.bars.timeframes import step

if TYPE_CHECKING:
    from lab.features.events import EncodedHistory, EventEncoder


def series_by_class(
    run: Run, timeframe: str, as_of: str | None
) -> Mapping[str, list[Series]]:
    """Return the known bars of every listed symbol that is no leader.

    Parameters
    ----------
    run : Run
        Where to read; timeframe and moment go into its parameters.
    timeframe : str
        `1h` or `1d`.
    as_of : str or None
        Training time; the clock's now if None.

    Returns
    -------
    mapping of str to list of Series
        By asset class, at least one.

    Raises
    ------
    InputError
        If `as_of` is not a time or later than now, or no bar was known by then.

    Notes
    -----
    Point in time: bars with `known_ts` <= `as_of`.
    """
    step(timeframe)
    moment = decision_moment(run, as_of)
    run.parameters |= {"timeframe": timeframe, "as_of": moment.isoformat()}
    bound = pa.scalar(moment, pa.timestamp("us", tz="UTC"))
    bars = run.read(
        "ohlcv",
        filter=(pc.field("timeframe") == timeframe) & (pc.field("ts") < bound),
    )
    panel = Panel.from_tables(bars, run.read("instruments"), timeframe=timeframe)
    classes: dict[str, list[Series]] = {}
    for one in panel.as_of(moment):
        classes.setdefault(one.asset_class, []).append(one)
    if not classes:
        raise NoBarsError(
            f"no {timeframe} bars known by {moment.isoformat()}; "
            "run `alphalake ingest ohlcv` first"
        )
    return classes


def encoded_history(encoder: "EventEncoder", series: Series) -> "EncodedHistory":
    """Return the events of all bars of a series, each row as known at its bar."""
    return encoder.history(
        series.ts,
        timeframe=series.timeframe,
        calendar=series.calendar,
        symbol=series.symbol,
    )


def describe_series(series: Sequence[Series]) -> dict[str, Any]:
    """Return number and span of each symbol's bars, for a checkpoint's card."""
    return {
        one.symbol: {
            "bars": one.n_obs,
            "first": str(one.ts[0]),
            "last": str(one.ts[-1]),
        }
        for one in series
    }
