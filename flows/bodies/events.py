"""The event encoder of a lake: its releases and leaders, read at a run's versions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.runs import Run
from flows.settings import load_flow_settings
from lab.bars.panel import Panel
from lab.bars.series import Series
from lab.bars.targets import forecast_targets
from lab.bars.timeframes import step
from lab.features.events import HOME, EventEncoder
from lab.features.releases import COLUMNS
from lab.forecasters._base import ForecastRequest
from lakehouse.sources.event_types import EventTypes, event_types, read_event_types

LEADER_SYMBOLS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "BTC": ("BTCUSDT", "BTCUSD", "BTC"),
        "SPY": ("SPY", "US500", "SP500"),
        "DXY": ("DXY",),
        "VIX": ("VIX",),
    }
)
"""Whose bars stand for a leader: the first that the lake has."""

# Its level is compared with 252 daily closes.
_DAILY_ONLY: Final = frozenset(["VIX"])
_MAJORS: Final = frozenset(
    ["USD", "EUR", "GBP", "JPY", "AUD", "NZD", "CAD", "CHF", "CNY"]
)
_INDEX_CURRENCIES: Final = MappingProxyType(
    {"DE40": "EUR", "UK100": "GBP", "EU50": "EUR", "FR40": "EUR", "JP225": "JPY"}
)


def open_encoder(run: Run, timeframe: str) -> EventEncoder | None:
    """Make the event encoder of a run's lake; None with no releases and no leaders.

    Parameters
    ----------
    run : Run
        Whose versions of the tables are read.
    timeframe : str
        Of the bars to encode: hourly rows take hourly leaders where there are any.

    Raises
    ------
    BarsError
        If the timeframe is neither `1h` nor `1d`.
    InputError
        If the table of names that `ALPHALAKE_EVENT_TYPES` gives cannot be read.

    Notes
    -----
    Point in time: the encoder holds later rows too and shows a bar only what it may
    know; its types are those of the table of names now, whatever the rows say.
    """
    step(timeframe)
    types = _event_types()
    releases = _typed(run.read("economic_calendar", columns=COLUMNS), types)
    instruments = run.read("instruments")
    leaders = read_leaders(run, instruments, timeframe)
    if releases.num_rows == 0 and not leaders:
        return None
    currencies = {
        row["symbol"]: currencies_of(row["symbol"], row["currency"])
        for row in instruments.select(["symbol", "currency"]).to_pylist()
    }
    return EventEncoder(
        releases, leaders, currencies=currencies, primary=types.primary()
    )


def read_leaders(run: Run, instruments: pa.Table, timeframe: str) -> dict[str, Series]:
    """Read the bars of the leaders that the lake has.

    Parameters
    ----------
    run : Run
        Where to read.
    instruments : pyarrow.Table
        Rows of `instruments`.
    timeframe : str
        `1h` or `1d`; where a leader has no hourly bars its daily ones are taken.

    Returns
    -------
    dict of str to Series
        By `BTC`, `SPY`, `DXY` and `VIX`.
    """
    wanted = [symbol for names in LEADER_SYMBOLS.values() for symbol in names]
    is_wanted = pc.field("symbol").isin(wanted)
    stored = run.read("ohlcv", columns=["symbol", "timeframe"], filter=is_wanted)
    counted = stored.group_by(["symbol", "timeframe"]).aggregate([])
    present = set(
        zip(
            counted["symbol"].to_pylist(), counted["timeframe"].to_pylist(), strict=True
        )
    )
    chosen: dict[str, tuple[str, str]] = {}
    for leader, symbols in LEADER_SYMBOLS.items():
        lengths = ["1d"] if leader in _DAILY_ONLY else sorted({timeframe, "1d"})[::-1]
        options = [(one, length) for length in lengths for one in symbols]
        found = next((option for option in options if option in present), None)
        if found is not None:
            chosen[leader] = found
    return _series(run, instruments, chosen)


def _series(
    run: Run, instruments: pa.Table, chosen: Mapping[str, tuple[str, str]]
) -> dict[str, Series]:
    found: dict[str, Series] = {}
    for length in {length for _, length in chosen.values()}:
        symbols = {one: name for name, (one, each) in chosen.items() if each == length}
        bars = run.read(
            "ohlcv",
            filter=(pc.field("timeframe") == length)
            & pc.field("symbol").isin(list(symbols)),
        )
        panel = Panel.from_tables(bars, instruments, timeframe=length)
        found |= {symbols[one]: series for one, series in panel.series.items()}
    return {name: found[name] for name in LEADER_SYMBOLS if name in found}


def currencies_of(symbol: str, currency: str | None) -> tuple[str, ...]:
    """Return the currencies whose rate decisions concern a symbol.

    Parameters
    ----------
    symbol : str
        A pair of currencies gives both, a metal or a coin in dollars the dollar.
    currency : str or None
        What `instruments` says.
    """
    letters = symbol.upper()
    halves = (letters[:3], letters[3:]) if len(letters) == 6 else ()
    found = [half for half in halves if half in _MAJORS]
    stated = currency or _INDEX_CURRENCIES.get(letters)
    if not found and stated:
        found = [stated.upper()]
    return tuple(dict.fromkeys([*found, *HOME]))


def requests_with_events(
    encoder: EventEncoder | None,
    series: Sequence[Series],
    *,
    as_of: datetime,
    horizon: int,
    context: int,
) -> list[ForecastRequest]:
    """Return forecast requests that carry their events.

    Parameters
    ----------
    encoder : EventEncoder or None
        None leaves the requests without events.
    series : sequence of Series
        Already cut at `as_of`, each with a bar at least.
    as_of : datetime
        Decision time, aware.
    horizon : int, bars
        Bars ahead.
    context : int, bars
        Bars that the model looks at.

    Raises
    ------
    CalendarError
        If a calendar ends before the horizon.

    Notes
    -----
    Point in time: rows of the target bars show what was announced by `as_of`.
    """
    if encoder is None:
        return [ForecastRequest(one, as_of) for one in series]
    return [
        _request(encoder, one, as_of=as_of, horizon=horizon, context=context)
        for one in series
    ]


def _request(
    encoder: EventEncoder,
    series: Series,
    *,
    as_of: datetime,
    horizon: int,
    context: int,
) -> ForecastRequest:
    timeframe, calendar = series.timeframe, series.calendar
    ahead = forecast_targets(
        series.ts,
        as_of=as_of,
        horizon=horizon,
        timeframe=timeframe,
        calendar=calendar,
    ).target_ts
    events = encoder.encode(
        np.concatenate([series.ts[-context:], ahead]),
        as_of=as_of,
        timeframe=timeframe,
        calendar=calendar,
        symbol=series.symbol,
    )
    described = encoder.context_json(
        ahead,
        as_of=as_of,
        timeframe=timeframe,
        calendar=calendar,
        symbol=series.symbol,
    )
    return ForecastRequest(series, as_of, events, described)


def _typed(releases: pa.Table, types: EventTypes) -> pa.Table:
    # Rows keep the type of the day they were stored; the table of names may be newer.
    names = releases.group_by(["event", "currency", "symbol"]).aggregate([])
    kinds = {
        (row["event"], row["currency"], row["symbol"]): types.classify(
            row["event"], row["currency"] or "", row["symbol"]
        )
        for row in names.to_pylist()
    }
    columns = (releases[name].to_pylist() for name in ("event", "currency", "symbol"))
    found = pa.array([kinds[key] for key in zip(*columns, strict=True)], pa.string())
    place = releases.column_names.index("event_type")
    return releases.set_column(place, "event_type", found)


def _event_types() -> EventTypes:
    path = load_flow_settings().event_types
    return event_types() if path is None else read_event_types(Path(path))
