"""A small made-up market on real calendars, to grade the leak checker on.

Nine instruments on three calendars that close at different times, one of them delisted,
one listed late, one with missing bars and an unadjusted split; daily and hourly bars;
releases that come at other hours than bars close, some with a date only, a quarter of
them restated weeks later; forecasts by a stand-in. Prices are random walks: there is
nothing to be found in them but mistakes.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import AnyArray, FloatArray, TimeArray
from lab.bars.calendars import known_ts
from lab.bars.panel import SPLIT_FLAG
from lab.bars.schedules import schedule
from lab.validation.markets import UTC_US, Market
from lakehouse.schema.forecasts import ML_PREDICTIONS
from lakehouse.schema.market import ECONOMIC_CALENDAR, INSTRUMENTS, OHLCV

FOLLOWED: Final = ("kronos", "chronos2", "ensemble")
"""Models whose forecasts the market has, so that their followers trade."""

_START: Final = np.datetime64("2018-01-01", "us")
_HOURS_START: Final = np.datetime64("2018-09-03", "us")
_DAY: Final = np.timedelta64(1, "D").astype("timedelta64[us]")
_MINUTE: Final = np.timedelta64(1, "m").astype("timedelta64[us]")
_HORIZONS: Final = MappingProxyType({"1d": (5, 4), "1h": (24, 12)})


@dataclass(frozen=True, slots=True)
class _Listing:
    symbol: str
    asset_class: str
    calendar: str
    currency: str
    first: int = 0
    last: int | None = None
    is_leader: bool = False


_LISTINGS: Final = (
    _Listing("BTC", "crypto", "24x7", "USD"),
    _Listing("ETH", "crypto", "24x7", "USD", first=70),
    _Listing("EURUSD", "fx", "fx", "USD"),
    _Listing("USDJPY", "fx", "fx", "JPY"),
    _Listing("XAUUSD", "metal", "fx", "USD"),
    _Listing("SPY", "equity", "XNYS", "USD"),
    _Listing("OLD", "equity", "XNYS", "USD", last=200),
    _Listing("GAPS", "equity", "XNYS", "USD"),
    _Listing("VIX", "index", "XNYS", "USD", is_leader=True),
)
_KINDS: Final = (
    # name, type, minutes after midnight, days between
    ("CPI m/m", "cpi", 13 * 60 + 30, 15),
    ("Non-Farm Employment Change", "nfp", 22 * 60 + 30, 14),
    ("Federal Funds Rate", "fomc", 19 * 60, 21),
)


def practice_market(*, seed: int = 0, n_days: int = 300, n_hours: int = 700) -> Market:
    """Return the market.

    Parameters
    ----------
    seed : int
        Another seed is another market.
    n_days, n_hours : int, bars
        Length of each instrument's daily and hourly history; 0 leaves one out.
    """
    rng = np.random.default_rng(seed)
    lengths = {"1d": n_days, "1h": n_hours}
    tables = [
        _bars(one, timeframe, n_bars, rng)
        for timeframe, n_bars in lengths.items()
        for one in _LISTINGS
        if n_bars and not (one.is_leader and timeframe == "1h")
    ]
    ohlcv = pa.concat_tables(tables)
    releases, revisions = _releases(max(n_days, 40), rng)
    return Market(
        ohlcv=ohlcv,
        instruments=_instruments(),
        releases=releases,
        predictions=_forecasts(ohlcv, rng),
        revisions=revisions,
    )


def _bars(
    one: _Listing, timeframe: str, n_bars: int, rng: np.random.Generator
) -> pa.Table:
    grid = schedule(one.calendar, timeframe)
    begin = _START if timeframe == "1d" else _HOURS_START
    opens = grid.opens[np.searchsorted(grid.opens, begin) :][:n_bars]
    is_daily = timeframe == "1d"
    ts = opens[one.first if is_daily else 0 : one.last if is_daily else None]
    if one.symbol == "GAPS":
        ts = ts[rng.random(len(ts)) > 0.05]
    noise = rng.standard_normal(len(ts)) * np.exp(
        0.4 * np.sin(np.arange(len(ts)) / 25 + len(one.symbol))
    )
    scale = 0.012 if is_daily else 0.003
    close = 100.0 * np.exp(np.cumsum(scale * noise))
    flags: list[str | None] = [None] * len(ts)
    if one.symbol == "GAPS" and is_daily:
        close[len(ts) // 2 :] /= 2.0
        flags[len(ts) // 2] = SPLIT_FLAG
    gap = np.exp(0.3 * scale * rng.standard_normal(len(ts)))
    opened = np.concatenate([close[:1], close[:-1]]) * gap
    wick = np.exp(0.5 * scale * np.abs(rng.standard_normal((2, len(ts)))))
    rows = {
        "symbol": [one.symbol] * len(ts),
        "timeframe": [timeframe] * len(ts),
        "ts": pa.array(ts).cast(UTC_US),
        "open": opened,
        "high": np.maximum(opened, close) * wick[0],
        "low": np.minimum(opened, close) / wick[1],
        "close": close,
        "volume": np.exp(8.0 + rng.standard_normal(len(ts))),
        "flags": pa.array(flags, pa.string()),
    }
    return _typed(rows, OHLCV.to_arrow())


def _instruments() -> pa.Table:
    last = []
    for one in _LISTINGS:
        grid = schedule(one.calendar, "1d").opens
        first = int(np.searchsorted(grid, _START))
        last.append(None if one.last is None else grid[first + one.last - 1].item())
    rows = {
        "symbol": [one.symbol for one in _LISTINGS],
        "asset_class": [one.asset_class for one in _LISTINGS],
        "calendar": [one.calendar for one in _LISTINGS],
        "currency": [one.currency for one in _LISTINGS],
        "is_leader": [one.is_leader for one in _LISTINGS],
        "listed_to": pa.array(last, UTC_US),
    }
    return _typed(rows, INSTRUMENTS.to_arrow())


def _releases(n_days: int, rng: np.random.Generator) -> tuple[pa.Table, pa.Table]:
    names, kinds, stamps, figures = [], [], [], []
    for name, kind, minutes, every in _KINDS:
        n = int(n_days * 1.5 / every)
        days = np.arange(n) * every + rng.integers(0, 4, n)
        stamps.append(_START + days * _DAY + minutes * _MINUTE)
        names += [name] * n
        kinds += [kind] * n
        walk = rng.standard_normal(n)
        figures.append(np.cumsum(walk) * 0.25 if kind == "fomc" else walk)
    ts, actual = np.concatenate(stamps), np.concatenate(figures)
    forecast = actual + rng.standard_normal(len(ts))
    is_timed = rng.random(len(ts)) > 0.1
    ts = np.where(is_timed, ts, ts.astype("datetime64[D]").astype("datetime64[us]"))
    known = np.where(is_timed, ts, ts + 36 * 60 * _MINUTE)
    events = [f"{kind}-{k}" for k, kind in enumerate(kinds)]
    rows = {
        "event_id": events,
        "ts": pa.array(ts).cast(UTC_US),
        "currency": ["USD"] * len(ts),
        "event": names,
        "event_type": kinds,
        "importance": [3] * len(ts),
        "actual": actual,
        "forecast": forecast,
        "is_timed": is_timed,
        "scheduled_known_ts": pa.array(ts - 30 * _DAY).cast(UTC_US),
        "actual_known_ts": pa.array(known).cast(UTC_US),
    }
    chosen = np.flatnonzero(rng.random(len(ts)) < 0.25)
    after = rng.integers(10, 40, len(chosen)) * _DAY
    revisions = {
        "event_id": [events[k] for k in chosen],
        "actual": actual[chosen] + rng.standard_normal(len(chosen)),
        "known_ts": pa.array(known[chosen] + after).cast(UTC_US),
    }
    return _typed(rows, ECONOMIC_CALENDAR.to_arrow()), pa.table(revisions)


def _forecasts(ohlcv: pa.Table, rng: np.random.Generator) -> pa.Table:
    # Now and then two instruments are followed by forecasts.
    parts = [_typed({}, ML_PREDICTIONS.to_arrow())]
    for symbol, calendar in (("BTC", "24x7"), ("SPY", "XNYS")):
        for timeframe, (horizon, every) in _HORIZONS.items():
            is_row = (pc.field("symbol") == symbol) & (
                pc.field("timeframe") == timeframe
            )
            bars = ohlcv.filter(is_row)
            ts = np.asarray(bars["ts"].cast(pa.timestamp("us")).to_numpy())
            rows = np.arange(20, len(ts) - horizon, every)
            known = known_ts(ts[rows], timeframe=timeframe, calendar=calendar)
            close = bars["close"].to_numpy()[rows]
            targets = ts[rows[:, None] + 1 + np.arange(horizon)]
            for model in FOLLOWED:
                named = {
                    "model_name": model, "symbol": symbol, "timeframe": timeframe
                }  # fmt: skip
                times = ts[rows], known, targets
                parts.append(_predictions(named, times, close, rng))
    return pa.concat_tables(parts)


def _predictions(
    named: dict[str, str],
    times: tuple[TimeArray, TimeArray, TimeArray],
    close: FloatArray,
    rng: np.random.Generator,
) -> pa.Table:
    last, known, targets = times
    n, horizon = targets.shape
    move = 0.04 * rng.standard_normal((n, horizon))
    width = 0.02 * np.sqrt(1.0 + np.arange(horizon))
    middle = close[:, None] * (1.0 + move)
    offsets = np.arange(n + 1) * horizon

    def lists(values: AnyArray) -> pa.Array:
        flat = pa.array(values.ravel())
        if pa.types.is_timestamp(flat.type):
            flat = flat.cast(UTC_US)
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)

    rows = {
        "prediction_id": [f"{'-'.join(named.values())}-{k}" for k in range(n)],
        **{name: [value] * n for name, value in named.items()},
        "model_version": ["practice"] * n,
        "as_of": pa.array(known).cast(UTC_US),
        "generated_at": pa.array(known).cast(UTC_US),
        "known_ts": pa.array(known).cast(UTC_US),
        "last_close": close,
        "last_ts": pa.array(last).cast(UTC_US),
        "target_ts": lists(targets),
        "p10": lists(middle * (1.0 - width)),
        "p50": lists(middle),
        "p90": lists(middle * (1.0 + width)),
        "seed": [0] * n,
        "is_contaminated": [False] * n,
    }
    return _typed(rows, ML_PREDICTIONS.to_arrow())


def _typed(rows: dict[str, object], schema: pa.Schema) -> pa.Table:
    # Columns that are not given are null: nothing here is written to a lake.
    n_rows = len(next(iter(rows.values()), ()))  # type: ignore[arg-type]
    columns = [
        pa.array(rows[one.name]).cast(one.type)
        if one.name in rows
        else pa.nulls(n_rows, one.type)
        for one in schema
    ]
    fields = [one.with_nullable(True) for one in schema]  # noqa: FBT003 - pyarrow's own
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))
