"""The event tensor worked out row by row and release by release, as its rules say."""

import math
from datetime import timedelta

import numpy as np
import pyarrow as pa

from lab.bars.calendars import known_ts
from lab.bars.schedules import schedule, sessions
from lab.features.events import CHANNELS

US = ("fomc", "cpi", "nfp", "gdp", "pce")
PRIMARY = {
    "fomc": "Federal Funds Rate",
    "nfp": "Non-Farm Employment Change",
    "cpi": "CPI m/m",
}


def plain(moment):
    return np.datetime64(moment.replace(tzinfo=None), "us")


def rows_of(releases: pa.Table):
    rows = sorted(releases.to_pylist(), key=lambda row: (row["ts"], row["event_id"]))
    return [
        {
            **row,
            "at": plain(row["ts"]),
            "announced": plain(row["scheduled_known_ts"]),
            "known": plain(row["actual_known_ts"]),
        }
        for row in rows
    ]


def stretch(before, ts, timeframe, calendar):
    grid = schedule(calendar, timeframe)
    places = np.flatnonzero(grid.opens == ts)
    end = known_ts(np.array([ts]), timeframe=timeframe, calendar=calendar)[0]
    start = grid.known[places[0] - 1] if len(places) else ts
    if before is not None:
        ended = known_ts(np.array([before]), timeframe=timeframe, calendar=calendar)[0]
        start = min(start, max(ended, ts - np.timedelta64(4, "D")))
    return start, end


def primaries(rows, kind):
    """Stated primary releases in the order in which they became known, one a time."""
    found = []
    for row in sorted(rows, key=lambda row: row["known"]):
        is_primary = row["event"] == PRIMARY[kind] and row["event_type"] == kind
        if not (is_primary and row["currency"] == "USD" and row["is_timed"]):
            continue
        if row["actual"] is None or (kind != "fomc" and row["forecast"] is None):
            continue
        if not found or found[-1]["known"] != row["known"]:
            found.append(row)
    return found


def figure(stated, kind, start, end, knowledge):
    value = 0.0
    for place, row in enumerate(stated):
        if not (start <= row["known"] < end and row["known"] <= knowledge):
            continue
        if kind == "fomc":
            before = stated[place - 1]["actual"] if place else row["actual"]
            value = min(2.0, max(-2.0, (row["actual"] - before) * 100 / 25))
            continue
        gaps = [one["actual"] - one["forecast"] for one in stated[:place]][-20:]
        value = 0.0
        if len(gaps) >= 8:
            spread = np.std(gaps, ddof=1)
            z = (row["actual"] - row["forecast"]) / spread
            value = float(min(3.0, max(-3.0, z)))
    return value


def leader_figure(name, series, start, end, knowledge):
    market = sessions(series.calendar)
    if not np.any((market.starts < end) & (market.ends > start)):
        return 0.0
    known = known_ts(series.ts, timeframe=series.timeframe, calendar=series.calendar)
    newest = int(np.count_nonzero(known <= knowledge)) - 1
    grid = schedule(series.calendar, series.timeframe)
    due = grid.opens[grid.known <= end][-1]
    if newest < 0 or series.ts[newest] != due:
        return 0.0
    closes = series.close
    if name == "VIX":
        if newest < 252:
            return 0.0
        before = closes[newest - 252 : newest]
        return (closes[newest] - before.mean()) / before.std(ddof=1)
    if newest == 0 or series.is_break[newest]:
        return 0.0
    return math.log(closes[newest] / closes[newest - 1])


def encode_simply(
    releases, leaders, ts, *, as_of, timeframe, calendar, symbol, currencies
):
    rows = rows_of(releases)
    stated = {kind: primaries(rows, kind) for kind in PRIMARY}
    usable = [row for row in rows if row["is_timed"] or timeframe == "1d"]
    out = np.zeros((len(ts), len(CHANNELS)))
    for place, moment in enumerate(ts):
        before = ts[place - 1] if place else None
        start, end = stretch(before, moment, timeframe, calendar)
        knowledge = min(end, as_of)
        here = [
            row
            for row in usable
            if start <= row["at"] < end and row["announced"] <= knowledge
        ]
        home = [row for row in here if row["currency"] == "USD"]
        for channel, kind in enumerate(US):
            out[place, channel] = any(row["event_type"] == kind for row in home)
        out[place, 5] = figure(stated["cpi"], "cpi", start, end, knowledge)
        out[place, 6] = figure(stated["fomc"], "fomc", start, end, knowledge)
        out[place, 7] = figure(stated["nfp"], "nfp", start, end, knowledge)
        out[place, 8] = any(
            row["event_type"] == "earnings" and row["symbol"] == symbol for row in here
        )
        out[place, 9] = any(
            (row["event_type"] == "rate_decision" and row["currency"] in currencies)
            or (row["event"] == PRIMARY["fomc"] and row["currency"] == "USD")
            for row in here
        )
        for channel, kind, period in ((10, "fomc", 45), (12, "cpi", 30)):
            ahead = [
                row
                for row in rows
                if row["event_type"] == kind
                and row["currency"] == "USD"
                and row["is_timed"]
                and row["at"] >= start
                and row["announced"] <= knowledge
            ]
            if ahead:
                days = (ahead[0]["at"] - moment) / np.timedelta64(timedelta(days=1))
                angle = 2 * math.pi * min(max(days, 0.0), period) / period
                out[place, channel : channel + 2] = math.sin(angle), math.cos(angle)
        for channel, name in enumerate(("BTC", "SPY", "DXY", "VIX"), start=14):
            if name in leaders:
                out[place, channel] = leader_figure(
                    name, leaders[name], start, end, knowledge
                )
    return out
