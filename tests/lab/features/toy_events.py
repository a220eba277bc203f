"""Releases around the toy market, and what to change about their future."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from lab.bars.panel import Panel
from lakehouse.schema.market import ECONOMIC_CALENDAR
from tests.lab import toy_market

SCHEMA = ECONOMIC_CALENDAR.to_arrow()
MONTHLY = (
    ("CPI m/m", "cpi", "USD"),
    ("Core CPI m/m", "cpi", "USD"),
    ("Non-Farm Employment Change", "nfp", "USD"),
    ("Prelim GDP q/q", "gdp", "USD"),
    ("Core PCE Price Index m/m", "pce", "USD"),
    ("CPI y/y", "cpi", "GBP"),
    ("Federal Funds Rate", "fomc", "USD"),
    ("Main Refinancing Rate", "rate_decision", "EUR"),
    ("Unemployment Rate", "other", "USD"),
)


def release(event, kind, currency, ts, rng=None, **changes):
    """A row of `economic_calendar`."""
    notice = timedelta(days=365 if kind == "fomc" else 30)
    figures = (None, None) if rng is None else rng.normal(0.2, 0.1, 2).round(2).tolist()
    row = {
        "event_id": f"{ts:%Y%m%d%H%M}-{event}-{currency}",
        "ts": ts,
        "currency": currency,
        "symbol": None,
        "event": event,
        "event_type": kind,
        "importance": 3,
        "actual": figures[0],
        "forecast": figures[1],
        "previous": None,
        "is_timed": True,
        "scheduled_known_ts": ts - notice,
        "actual_known_ts": ts,
        "source": "toy",
        "ingested_at": ts,
    }
    return {**row, **changes}


def table(rows):
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def releases(seed=0):
    """Releases of 2018-10 to 2021-12 at odd times, at bar edges and on weekends too."""
    rng = np.random.default_rng(seed)
    rows = []
    for month in range(38):
        begin = datetime(2018, 10, 1, tzinfo=UTC) + timedelta(days=30.5 * month)
        begin = begin.replace(hour=0, minute=0, second=0, microsecond=0)
        for event, kind, currency in MONTHLY:
            minutes = int(rng.choice([0, 30, 750, 810, 840, 1260, 1275]))
            at = begin + timedelta(days=int(rng.integers(0, 30)), minutes=minutes)
            if event.startswith("Core CPI"):
                at = next(row["ts"] for row in rows[::-1] if row["event"] == "CPI m/m")
            rows.append(release(event, kind, currency, at, rng))
    for row in rng.choice(len(rows), 6, replace=False):
        rows[row] |= {"scheduled_known_ts": rows[row]["ts"]}
    for row in rng.choice(len(rows), 8, replace=False):
        rows[row] |= {"forecast": None}
    for day in (10, 40, 700, 770, 780):
        at = datetime(2019, 1, 1, tzinfo=UTC) + timedelta(days=day)
        late = {"is_timed": False, "actual_known_ts": at + timedelta(hours=36)}
        rows.append(release("Q3 Earnings", "earnings", "USD", at, symbol="SPY", **late))
        rows.append(release("CPI m/m", "cpi", "USD", at, rng, **late))
    unique = {row["event_id"]: row for row in rows}
    return table(list(unique.values()))


def leaders(ohlcv, timeframe):
    """Leaders of the toy market: SPY stands for DXY too, on its own calendar."""
    instruments = toy_market.instruments()
    bars = {
        length: Panel.from_tables(ohlcv, instruments, timeframe=length).series
        for length in ("1h", "1d")
    }
    return {
        "BTC": bars[timeframe]["BTC"],
        "SPY": bars[timeframe]["SPY"],
        "DXY": bars["1d"]["EURUSD"],
        "VIX": bars["1d"]["VIX"],
    }


def altered_releases(calendar, as_of, rng):
    """Yield the same calendar with other figures and plans after `as_of`."""
    rows = calendar.to_pylist()
    for name in ("other figures", "figures gone", "new releases", "moved away"):
        changed = []
        for row in rows:
            has_figure = row["actual_known_ts"] > as_of
            if name == "other figures" and has_figure:
                row = {**row, "actual": float(rng.normal()), "forecast": 0.0}
            if name == "figures gone" and has_figure:
                row = {**row, "actual": None}
            if name == "moved away" and row["scheduled_known_ts"] > as_of:
                continue
            changed.append(row)
        if name == "new releases":
            for event, kind, currency in MONTHLY:
                for days in (0.1, 1.3, 9.0):
                    at = as_of + timedelta(days=days)
                    late = {"scheduled_known_ts": as_of + timedelta(minutes=1)}
                    changed.append(release(event, kind, currency, at, rng, **late))
        yield name, table(changed)
