"""Daily bars from hourly ones."""

from datetime import datetime

import numpy as np
import pyarrow as pa

from lab.arrays import TimeArray
from lab.bars.calendars import known_ts
from lab.bars.schedules import sessions
from lab.bars.timeframes import step, to_instant

_COLUMNS = ("open", "high", "low", "close", "volume")


def daily_bars(hourly: pa.Table, *, calendar: str, as_of: datetime) -> pa.Table:
    """Return one bar per symbol and session: first open, extremes, last close.

    An hour belongs to the session that it overlaps; an hour outside every session
    belongs to the next one, so the Sunday hours of `fx` are Monday's.

    Parameters
    ----------
    hourly : pyarrow.Table
        `symbol`, `ts`, `open`, `high`, `low`, `close`, `volume` of symbols on one
        calendar, in any order.
    calendar : str
        `24x7`, `fx` or an exchange MIC.
    as_of : datetime
        Decision time, aware.

    Returns
    -------
    pyarrow.Table
        Same columns, sorted by symbol and `ts`, the session date. Volume is null if it
        is null in any hour.

    Raises
    ------
    CalendarError
        If the calendar is unknown.

    Notes
    -----
    Point in time: only sessions that were over, from hours that were known, at `as_of`.
    """
    import polars as pl

    moment = to_instant(as_of)
    naive = hourly["ts"].cast(pa.timestamp("us"))
    is_known = naive.to_numpy() + step("1h") <= moment
    table = hourly.select(["symbol", "ts", *_COLUMNS]).filter(pa.array(is_known))
    dates = session_dates(naive.to_numpy()[is_known], calendar=calendar)
    is_over = known_ts(dates, timeframe="1d", calendar=calendar) <= moment
    frame = pl.DataFrame(pl.from_arrow(table)).with_columns(
        pl.Series("date", dates).dt.replace_time_zone("UTC")
    )
    volume = pl.col("volume")
    days = (
        frame.filter(pl.Series(is_over))
        .sort("symbol", "ts")
        .group_by("symbol", "date", maintain_order=True)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.when(volume.null_count() == 0).then(volume.sum()).alias("volume"),
        )
        .rename({"date": "ts"})
    )
    return days.to_arrow().cast(table.schema)


def session_dates(ts: TimeArray, *, calendar: str) -> TimeArray:
    """Return the session date of each hourly bar: the first session that ends after it.

    Parameters
    ----------
    ts : ndarray of shape (n_obs,), datetime64[us]
        Opens of hourly bars.
    calendar : str
        `24x7`, `fx` or an exchange MIC.

    Returns
    -------
    ndarray of shape (n_obs,), datetime64[us]

    Raises
    ------
    CalendarError
        If the calendar is unknown.
    """
    market = sessions(calendar)
    rows = np.searchsorted(market.closes, ts, side="right")
    return market.dates[np.minimum(rows, len(market.dates) - 1)]
