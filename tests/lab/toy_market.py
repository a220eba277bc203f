"""A small market on real calendars, and ways to change its future."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.bars.calendars import known_ts
from lab.bars.schedules import schedule
from lab.bars.timeframes import step, to_instant

CALENDARS = {"BTC": "24x7", "EURUSD": "fx", "SPY": "XNYS"}
CLASSES = {"BTC": "crypto", "EURUSD": "fx", "SPY": "equity", "VIX": "index"}
BEGIN = {
    "1h": np.datetime64("2021-01-04", "us"),
    "1d": np.datetime64("2019-01-01", "us"),
}
N_BARS = {"1h": 1300, "1d": 700}


def moment(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def instruments(**changes):
    rows = [
        {
            "symbol": symbol,
            "asset_class": asset_class,
            "calendar": CALENDARS.get(symbol, "XNYS"),
            "is_leader": symbol == "VIX",
            "listed_to": changes.get(symbol),
        }
        for symbol, asset_class in CLASSES.items()
    ]
    schema = pa.schema(
        [
            ("symbol", pa.string()),
            ("asset_class", pa.string()),
            ("calendar", pa.string()),
            ("is_leader", pa.bool_()),
            ("listed_to", pa.timestamp("us", tz="UTC")),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def bars(symbol, timeframe, ts, close, flags=None):
    """Rows of `ohlcv` around the given closes."""
    opens = np.concatenate([close[:1], close[:-1]])
    return pa.table(
        {
            "symbol": [symbol] * len(ts),
            "timeframe": [timeframe] * len(ts),
            "ts": pa.array(ts).cast(pa.timestamp("us", tz="UTC")),
            "open": opens,
            "high": np.maximum(opens, close) * 1.001,
            "low": np.minimum(opens, close) * 0.999,
            "close": close,
            "volume": pa.array([None] * len(ts), pa.float64()),
            "flags": pa.array(flags or [None] * len(ts), pa.string()),
        }
    )


def market(seed=0):
    """1h and 1d bars of BTC, EURUSD and SPY with moving volatility, VIX daily."""
    rng = np.random.default_rng(seed)
    parts = []
    for timeframe in ("1h", "1d"):
        for symbol in (*CALENDARS, *(("VIX",) if timeframe == "1d" else ())):
            opens = schedule(CALENDARS.get(symbol, "XNYS"), timeframe).opens
            start = np.searchsorted(opens, BEGIN[timeframe])
            ts = opens[start : start + N_BARS[timeframe]]
            volatility = 0.01 * np.exp(0.3 * np.sin(np.arange(len(ts)) / 20))
            close = 100 * np.exp(np.cumsum(volatility * rng.standard_normal(len(ts))))
            parts.append(bars(symbol, timeframe, ts, close))
    return pa.concat_tables(parts)


def known_times(ohlcv):
    """When each row of `ohlcv` was known."""
    ts = ohlcv["ts"].cast(pa.timestamp("us")).to_numpy()
    symbols = np.array(ohlcv["symbol"].to_pylist())
    timeframes = np.array(ohlcv["timeframe"].to_pylist())
    known = np.empty_like(ts)
    for symbol in set(symbols):
        for timeframe in set(timeframes):
            rows = (symbols == symbol) & (timeframes == timeframe)
            known[rows] = known_ts(
                ts[rows],
                timeframe=timeframe,
                calendar=CALENDARS.get(symbol, "XNYS"),
            )
    return known


def altered_futures(ohlcv, as_of, rng):
    """Yield the same past with other futures: values, deletions, new rows, flags."""
    is_future = known_times(ohlcv) > to_instant(as_of)
    past = ohlcv.filter(pa.array(~is_future))
    future = ohlcv.filter(pa.array(is_future))
    yield "deleted", past
    yield (
        "thinned",
        pa.concat_tables(
            [past, future.filter(pa.array(rng.random(len(future)) < 0.5))]
        ),
    )
    yield "other values", pa.concat_tables([past, _scaled(future, rng)])
    flagged = future.set_column(
        future.column_names.index("flags"),
        "flags",
        pa.array(["split?"] * len(future), pa.string()),
    )
    yield "flagged", pa.concat_tables([flagged, past])
    yield "new rows", pa.concat_tables([past, _later(past), _scaled(future, rng)])


def _scaled(rows, rng):
    factor = pa.array(np.exp(rng.standard_normal(len(rows))))
    for name in ("open", "high", "low", "close"):
        at = rows.column_names.index(name)
        rows = rows.set_column(at, name, pc.multiply(rows[name], factor))
    return rows


def _later(rows):
    # The last rows again, beyond everything there is: three years on.
    last = rows.slice(max(0, len(rows) - 50))
    shift = pa.scalar(
        1096 * step("1d").astype("timedelta64[us]").astype(int), pa.int64()
    )
    ts = pc.add(last["ts"].cast(pa.int64()), shift).cast(pa.timestamp("us", tz="UTC"))
    return last.set_column(last.column_names.index("ts"), "ts", ts)
