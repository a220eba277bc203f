"""A market whose truth is known: for tests, demos and for judging research code.

23 instruments, hourly or daily (the days are the hours aggregated), from 2000 to any
end. Regimes, volatility clustering, correlation, daily and weekly patterns, releases
that move prices, gaps, a delisting, an unadjusted split, and one rule that earns a
stated Sharpe ratio before costs. `truth` tells all of it.

The same seed gives the same bars wherever a window starts and ends. The symbols are
those of the real panel; the prices are not: keep them in a root of their own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lakehouse.errors import SourceError
from lakehouse.schema._spec import TEXT, TIMEFRAMES, TIMESTAMP
from lakehouse.sources._base import (
    BAR_SCHEMA,
    RELEASE_SCHEMA,
    InstrumentInfo,
    RawBars,
    RawReleases,
)
from lakehouse.sources._synthetic_bars import Grid, daily_grid, hourly_grids
from lakehouse.sources._synthetic_calendar import KINDS, Release, releases_until
from lakehouse.sources._synthetic_days import DailyPath, daily_path
from lakehouse.sources._synthetic_market import (
    COLUMNS,
    N_RULE,
    ORIGIN,
    PERMANENT,
    BoolArray,
    Company,
    companies,
)
from lakehouse.sources._synthetic_truth import describe_truth
from lakehouse.sources.event_types import event_type

DEFAULT_SEED: Final = 7
DEFAULT_YEARS: Final = 2.0
_EPOCH: Final = date(1970, 1, 1)
_HOUR: Final = timedelta(hours=1)
_NOTICE: Final = timedelta(days=30)
_LAST_YEAR: Final = 2100


@dataclass(frozen=True, slots=True)
class Window:
    """What is asked for: whole days from `first` to `last`, bars complete at `now`."""

    timeframe: str
    first: date
    last: date
    now: datetime
    seed: int

    @property
    def source(self) -> str:
        """Name of the source."""
        return f"synthetic:seed={self.seed}"

    @property
    def end(self) -> datetime:
        """End of the last complete bar."""
        hour = self.now.replace(minute=0, second=0, microsecond=0)
        return hour if self.timeframe == "1h" else hour.replace(hour=0)

    def window_id(self, what: str) -> str:
        """Return the logical window."""
        return f"synthetic:{self.seed}:{what}:{self.first}:{self.end:%Y-%m-%dT%H}"


def make_window(timeframe: str, *, now: datetime, seed: int, years: float) -> Window:
    """Return the window of `years` that ends at `now`, from the first of a month.

    Raises
    ------
    SourceError
        If the timeframe is unknown, the seed negative, or the window not within 2000
        to 2100.
    """
    if timeframe not in TIMEFRAMES:
        allowed = ", ".join(TIMEFRAMES)
        raise SourceError(f"synthetic: timeframe {timeframe!r} is not one of {allowed}")
    if not 0 <= seed < 2**63:
        raise SourceError(f"synthetic: seed {seed} is not between 0 and 2^63")
    now = now.astimezone(UTC)
    longest = (now.date() - ORIGIN).days / 365.25
    if not 0 < years <= longest or now.year >= _LAST_YEAR:
        raise SourceError(
            f"synthetic: {years} years until {now:%Y-%m-%d}: the market starts at "
            f"{ORIGIN} and ends before {_LAST_YEAR}; years > 0"
        )
    first = (now - timedelta(days=years * 365.25)).date().replace(day=1)
    return Window(timeframe, max(first, ORIGIN), now.date(), now, seed)


def load(
    *,
    timeframe: str,
    now: datetime,
    seed: int = DEFAULT_SEED,
    years: float = DEFAULT_YEARS,
) -> Iterator[RawBars]:
    """Yield the market's bars, all symbols together.

    Parameters
    ----------
    timeframe : str
        `1h` or `1d`.
    now : datetime
        Clock time; the last bar is the last one complete at it.
    seed : int, default 7
        Another seed is another market.
    years : float, default 2
        Length; the start is moved back to the first of its month.

    Yields
    ------
    RawBars

    Raises
    ------
    SourceError
        If a parameter is out of range.

    Notes
    -----
    Point in time: a later `now` adds bars and changes none, save that once a year the
    older of the two companies leaves the universe for a younger one.
    """
    window = make_window(timeframe, now=now, seed=seed, years=years)
    return (_load(each) for each in (window,))


def _load(window: Window) -> RawBars:
    path = daily_path(window.last, window.seed)
    pair = companies(window.last)
    parts = []
    for grid in hourly_grids(path, window.first, window.last, window.seed):
        scaled = grid if window.timeframe == "1h" else daily_grid(grid)
        parts += _tables(scaled, pair, window)
    bars = pa.concat_tables(parts).cast(BAR_SCHEMA)
    return RawBars(
        source=window.source,
        window=window.window_id(window.timeframe),
        timeframe=window.timeframe,
        bars=bars,
        original=bars.select(BAR_SCHEMA.names[:7]),
        instruments=_instruments(path, pair),
        notes=("synthetic prices: invented, with known truth",),
    )


def _instruments(
    path: DailyPath, pair: tuple[Company, Company]
) -> tuple[InstrumentInfo, ...]:
    infos = [
        InstrumentInfo(
            column.symbol, column.asset_class, column.calendar, column.currency
        )
        for column in PERMANENT
    ]
    for company in pair:
        is_gone = path.days[-1] >= company.delisted
        infos.append(
            InstrumentInfo(
                company.symbol,
                "equity",
                "XNYS",
                "USD",
                listed_to=company.last_bar() if is_gone else None,
            )
        )
    return tuple(infos)


def _tables(
    grid: Grid, pair: tuple[Company, Company], window: Window
) -> list[pa.Table]:
    n_days, n_hours, _ = grid.is_open.shape
    first = (grid.first - _EPOCH).days
    days = first + np.arange(n_days)
    stamps = days[:, None] * 24 + np.arange(n_hours)
    step = 1 if n_hours == 24 else 24
    end = int(window.now.timestamp()) // 3600
    is_complete = stamps + step <= end
    found = [
        _table(
            grid,
            number,
            column.symbol,
            stamps,
            grid.is_open[:, :, number] & is_complete,
        )
        for number, column in enumerate(COLUMNS[:N_RULE])
    ]
    for company in pair:
        number = N_RULE + company.track
        is_listed = (days >= (company.listed - _EPOCH).days) & (
            days < (company.delisted - _EPOCH).days
        )
        shown = grid.is_open[:, :, number] & is_complete & is_listed[:, None]
        table = _table(grid, number, company.symbol, stamps, shown)
        found.append(_split(table, company))
    return found


def _table(
    grid: Grid, number: int, symbol: str, stamps: Any, shown: BoolArray
) -> pa.Table:
    ts = stamps[shown].astype(np.int64) * 3_600_000_000
    volume = grid.volume[:, :, number][shown]
    prices = (grid.open, grid.high, grid.low, grid.close)
    return pa.table(
        {
            "symbol": pa.repeat(pa.scalar(symbol, TEXT), len(ts)),
            "ts": pa.array(ts).cast(pa.timestamp("us")).cast(TIMESTAMP),
            **{
                name: values[:, :, number][shown]
                for name, values in zip(BAR_SCHEMA.names[2:6], prices, strict=True)
            },
            "volume": pa.array(volume, mask=np.isnan(volume)),
            "reason": pa.nulls(len(ts), TEXT),
            "detail": pa.nulls(len(ts), TEXT),
        }
    )


def _split(table: pa.Table, company: Company) -> pa.Table:
    """Divide the prices from the split on, as an unadjusted feed shows them."""
    from_us = (company.split - _EPOCH).days * 86_400_000_000
    is_after = table["ts"].cast(pa.int64()).to_numpy() >= from_us
    if not is_after.any():
        return table
    ratio = np.where(is_after, float(company.ratio), 1.0)
    for name in BAR_SCHEMA.names[2:6]:
        values = np.round(table[name].to_numpy() / ratio, 4)
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(values))
    volume = np.round(table["volume"].to_numpy() * ratio, 2)
    place = table.column_names.index("volume")
    return table.set_column(place, "volume", pa.array(volume))


def load_calendar(
    *, now: datetime, seed: int = DEFAULT_SEED, years: float = DEFAULT_YEARS
) -> Iterator[RawReleases]:
    """Yield the market's releases, those announced up to 30 days ahead included.

    Parameters
    ----------
    now, seed, years
        As in `load`.

    Yields
    ------
    RawReleases
        `actual` is null where the release is still to come.

    Raises
    ------
    SourceError
        If a parameter is out of range.
    """
    window = make_window("1h", now=now, seed=seed, years=years)
    return (_load_calendar(each) for each in (window,))


def _load_calendar(window: Window) -> RawReleases:
    until = window.now + _NOTICE
    start = datetime.combine(window.first, time(), UTC)
    shown = [
        release
        for release in releases_until(until.date(), window.seed)
        if start <= release.ts <= until
    ]
    rows = pa.Table.from_pylist(
        [_release_row(release, window.now) for release in shown], schema=RELEASE_SCHEMA
    )
    return RawReleases(
        source=window.source,
        window=window.window_id("calendar"),
        releases=rows,
        original=rows.select(
            ["ts", "currency", "event", "importance", "actual", "forecast", "previous"]
        ),
        notes=("synthetic releases: invented, with known impact",),
    )


def _release_row(release: Release, now: datetime) -> dict[str, Any]:
    kind = KINDS[release.kind]
    return {
        "ts": release.ts,
        "currency": kind.currency,
        "event": kind.event,
        "event_type": event_type(kind.event, kind.currency),
        "importance": kind.importance,
        "actual": release.actual if release.ts <= now else None,
        "forecast": release.forecast,
        "previous": release.previous,
        "is_timed": True,
    }


def truth(
    *,
    timeframe: str,
    now: datetime,
    seed: int = DEFAULT_SEED,
    years: float = DEFAULT_YEARS,
) -> dict[str, Any]:
    """Return what is true of the bars that `load` yields for the same arguments.

    Parameters
    ----------
    timeframe, now, seed, years
        As in `load`.

    Returns
    -------
    dict
        Ready for JSON: the window, the rule and its Sharpe ratio stated and realised,
        regimes, releases and their impact, gaps, the delisting, splits, volatilities
        and correlations.

    Raises
    ------
    SourceError
        If a parameter is out of range.
    """
    window = make_window(timeframe, now=now, seed=seed, years=years)
    path = daily_path(window.last, window.seed)
    return {
        "source": window.source,
        "timeframe": timeframe,
        "start": f"{window.first}T00:00:00Z",
        "end": f"{window.end:%Y-%m-%dT%H:%M:%SZ}",
        **describe_truth(path, companies(window.last), window.first, window.end),
    }
