"""When to decide: the moments at which a panel's bars were known."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.runs import Run
from lab.bars.calendars import latest_panel_known_ts
from lab.bars.panel import instruments_by_symbol
from lab.bars.timeframes import step, to_instant, to_moment
from lakehouse.clock import parse_moment
from lakehouse.errors import InputError


class NoBarsError(InputError):
    """There is nothing to decide on."""


def decision_moment(run: Run, as_of: str | None) -> datetime:
    """Return the time that `--as-of` gives, the run's now if it is not given.

    Raises
    ------
    InputError
        If it is not a time, or later than now.
    """
    if as_of is None:
        return run.now
    moment = parse_moment(as_of, what="--as-of")
    if moment > run.now:
        raise InputError(f"--as-of {as_of}: later than now, {run.now.isoformat()}")
    return moment


def decision_times(
    run: Run,
    timeframe: str,
    *,
    symbols: Sequence[str] | None,
    as_of: str | None,
    earlier: int,
    every: int = 1,
) -> list[datetime]:
    """Return the decision times of a request, oldest first.

    The newest is `as_of`, else the newest moment up to now at which a bar of the panel
    was known; on daily bars the panel's latest market is waited for. `earlier` adds
    that many moments before it, `every` days apart (trading days for daily bars).

    Raises
    ------
    InputError
        If `as_of` is not a time or later than now, or there are no bars to decide on.

    Notes
    -----
    Point in time: never later than the run's clock.
    """
    step(timeframe)
    limit = decision_moment(run, as_of)
    opens, calendars = _panel_opens(run, timeframe, symbols)
    known = _known_moments(opens, timeframe, calendars)
    usable = known[known <= to_instant(limit)]
    if len(usable) == 0:
        raise NoBarsError(
            f"no {timeframe} bars known by {limit.isoformat()}; "
            "run `alphalake ingest ohlcv` first"
        )
    last = limit if as_of is not None else to_moment(usable[-1])
    if timeframe == "1h":
        days = [last - timedelta(days=k * every) for k in range(earlier, 0, -1)]
        first = to_moment(known[0])
        return [*(day for day in days if day > first), last]
    before = usable[usable < to_instant(last)]
    chosen = before[::-1][every - 1 :: every][:earlier]
    return [*(to_moment(one) for one in chosen[::-1]), last]


def _panel_opens(
    run: Run, timeframe: str, symbols: Sequence[str] | None
) -> tuple[np.ndarray, set[str]]:
    instruments = instruments_by_symbol(run.read("instruments"))
    if symbols is not None and (unknown := sorted(set(symbols) - set(instruments))):
        raise InputError(f"--symbols: not in `instruments`: {', '.join(unknown)}")
    chosen = [
        name
        for name, one in instruments.items()
        if (name in symbols if symbols is not None else not one.is_leader)
    ]
    rows = run.read(
        "ohlcv",
        columns=["symbol", "ts"],
        filter=(pc.field("timeframe") == timeframe) & pc.field("symbol").isin(chosen),
    )
    present = set(pc.unique(rows["symbol"]).to_pylist())
    opens = (
        pc.unique(rows["ts"]).cast(pa.timestamp("us")).to_numpy(zero_copy_only=False)
    )
    return np.sort(opens), {instruments[name].calendar for name in present}


def _known_moments(
    opens: np.ndarray, timeframe: str, calendars: set[str]
) -> np.ndarray:
    if len(opens) == 0:
        return opens
    if timeframe == "1h":
        return opens + step(timeframe)
    return np.array(
        [
            latest_panel_known_ts(one, timeframe=timeframe, calendars=calendars)
            for one in opens
        ]
    )
