"""Bars that a small model which travels with the project may learn from.

Three kinds, none of them licensed away or secret: the real daily bars that ship with
`arch`, the synthetic market of `lakehouse.sources.synthetic`, and invented paths whose
volatility behaves in many more ways than that market's.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.signal import lfilter

from lab.arrays import FloatArray, TimeArray
from lab.bars.panel import Panel
from lab.bars.schedules import schedule
from lab.bars.series import Series
from lakehouse.sources import sample, synthetic
from lakehouse.sources._base import InstrumentInfo, RawBars

ARCH_SYMBOLS: Final = ("SP500", "NASDAQ")
_INSIDE: Final = 12  # price moves within a bar, for its high and low
_STAMP: Final = pa.timestamp("us", tz="UTC")


class Habitat(NamedTuple):
    """A market in which invented paths live.

    Attributes
    ----------
    timeframe, calendar, asset_class : str
        As in `Series`.
    low, high : float
        Range of a bar's usual log-return volatility.
    has_volume : bool
        Whether volume is known.
    """

    timeframe: str
    calendar: str
    asset_class: str
    low: float
    high: float
    has_volume: bool


HABITATS: Final = (
    Habitat("1h", "24x7", "crypto", 0.002, 0.02, has_volume=True),
    Habitat("1h", "fx", "fx", 0.0005, 0.003, has_volume=False),
    Habitat("1h", "fx", "index", 0.001, 0.006, has_volume=False),
    Habitat("1h", "XNYS", "equity", 0.002, 0.012, has_volume=True),
    Habitat("1d", "24x7", "crypto", 0.01, 0.08, has_volume=True),
    Habitat("1d", "fx", "fx", 0.003, 0.02, has_volume=False),
    Habitat("1d", "XNYS", "equity", 0.005, 0.04, has_volume=True),
    Habitat("1d", "XNYS", "index", 0.004, 0.03, has_volume=True),
)


def arch_series(*, end: datetime) -> list[Series]:
    """Return the S&P 500's and the NASDAQ Composite's daily bars up to `end`.

    Notes
    -----
    Point in time: only bars known at `end`.
    """
    raw = list(sample.load(symbols=ARCH_SYMBOLS))
    return [one.until(end) for one in _series(raw, "1d")]


def synthetic_series(
    timeframe: str, *, end: datetime, seed: int, years: float
) -> list[Series]:
    """Return the synthetic market of one seed, as every flow would see it."""
    raw = list(synthetic.load(timeframe=timeframe, now=end, seed=seed, years=years))
    return _series(raw, timeframe)


def invented_series(
    *, end: datetime, n_paths: int, n_bars: int, seed: int
) -> Iterator[Series]:
    """Yield invented series, one habitat after the other.

    Parameters
    ----------
    end : datetime
        The newest bar opens before it.
    n_paths : int
        Series per habitat.
    n_bars : int
        Bars of each.
    seed : int
        Another seed, other paths.
    """
    rng = np.random.default_rng(seed)
    last = np.datetime64(end.astimezone(UTC).replace(tzinfo=None), "us")
    for habitat in HABITATS:
        opens = schedule(habitat.calendar, habitat.timeframe).opens
        ahead = int(np.searchsorted(opens, last))
        for number in range(n_paths):
            stop = ahead - int(rng.integers(0, n_bars // 4))
            ts = opens[stop - n_bars : stop]
            yield _path(habitat, number, ts, rng)


def _path(
    habitat: Habitat, number: int, ts: TimeArray, rng: np.random.Generator
) -> Series:
    n_bars = len(ts)
    usual = np.exp(rng.uniform(np.log(habitat.low), np.log(habitat.high)))
    volatility = usual * _volatility(n_bars, rng) * _season(ts, habitat, rng)
    tail = rng.choice([3.5, 4.0, 5.0, 8.0, 30.0])
    shocks = rng.standard_t(tail, (n_bars, _INSIDE)) * np.sqrt((tail - 2) / tail)
    moves = volatility[:, None] * shocks / np.sqrt(_INSIDE)
    moves += rng.normal(0, 0.03) * usual / _INSIDE
    gap = _gaps(ts, habitat, rng) * volatility * rng.standard_normal(n_bars)
    steps = np.concatenate([gap[:, None], moves], axis=1)
    log_price = np.cumsum(steps.ravel()).reshape(n_bars, _INSIDE + 1)
    log_price -= np.linspace(0, 1, n_bars)[:, None] * log_price[-1, -1] * rng.uniform()
    price = np.exp(log_price + np.log(10.0) * rng.uniform(-1, 4.5))
    return Series(
        symbol=f"{habitat.asset_class}{number}",
        timeframe=habitat.timeframe,
        calendar=habitat.calendar,
        asset_class=habitat.asset_class,
        ts=ts,
        open=price[:, 0],
        high=price.max(axis=1),
        low=price.min(axis=1),
        close=price[:, -1],
        volume=_volume(volatility / usual, moves, habitat, rng),
    )


def _volatility(n_bars: int, rng: np.random.Generator) -> FloatArray:
    # Log volatility: a slow and a fast mean-reverting part, and rare lasting shocks.
    total = np.zeros(n_bars)
    for low, high, size in ((40, 400, 0.5), (2, 20, 0.3)):
        keep = 0.5 ** (1 / np.exp(rng.uniform(np.log(low), np.log(high))))
        noise = rng.standard_normal(n_bars) * np.sqrt(1 - keep**2)
        total += rng.uniform(0, size) * lfilter([1.0], [1.0, -keep], noise)
    keep = 0.5 ** (1 / rng.uniform(5, 60))
    shocks = (rng.random(n_bars) < 0.003) * rng.uniform(0, 1.2, n_bars)
    total += lfilter([1.0], [1.0, -keep], shocks)
    volatility: FloatArray = np.exp(total - total.var() / 2)
    return volatility


def _season(ts: TimeArray, habitat: Habitat, rng: np.random.Generator) -> FloatArray:
    if habitat.timeframe == "1d":
        weekday = (ts.astype("datetime64[D]").astype(np.int64) + 3) % 7
        factor: FloatArray = np.exp(rng.normal(0, 0.1, 7))[weekday]
        return factor
    hour = (ts - ts.astype("datetime64[D]")).astype("timedelta64[h]").astype(np.int64)
    peak = rng.choice([8.0, 14.0, 15.0, 20.0, rng.uniform(0, 24)])
    distance = np.minimum(np.abs(hour - peak), 24 - np.abs(hour - peak))
    height = rng.uniform(0, 1.5 if habitat.calendar != "24x7" else 0.7)
    shape: FloatArray = 0.6 + height * np.exp(
        -0.5 * (distance / rng.uniform(1, 4)) ** 2
    )
    shape /= np.sqrt((shape**2).mean())
    return shape


def _gaps(ts: TimeArray, habitat: Habitat, rng: np.random.Generator) -> FloatArray:
    # Size of the move across a closed market, in units of a bar's volatility.
    step = np.diff(ts, prepend=ts[:1]).astype(np.int64) / 3_600_000_000
    is_closed = step > (1 if habitat.timeframe == "1h" else 24)
    if habitat.timeframe == "1d" and habitat.calendar == "XNYS":
        is_closed[:] = True
    height = rng.uniform(0, 2.0 if habitat.timeframe == "1h" else 0.7)
    gap: FloatArray = np.where(is_closed, height, rng.choice([0.0, 0.02]))
    return gap


def _volume(
    level: FloatArray, moves: FloatArray, habitat: Habitat, rng: np.random.Generator
) -> FloatArray:
    if not habitat.has_volume:
        return np.full(len(level), np.nan)
    size = np.abs(moves).sum(axis=1)
    keep = rng.uniform(0.3, 0.97)
    noise = rng.standard_normal(len(level)) * np.sqrt(1 - keep**2)
    own = lfilter([1.0], [1.0, -keep], noise) * rng.uniform(0.2, 0.8)
    volume: FloatArray = np.exp(
        rng.uniform(4, 18)
        + own
        + 0.5 * np.log(level)
        + 0.4 * np.log(size / size.mean())
    )
    return volume


def _series(raw: list[RawBars], timeframe: str) -> list[Series]:
    infos = {info.symbol: info for one in raw for info in one.instruments}
    bars = pa.concat_tables([one.bars for one in raw])
    bars = bars.append_column(
        "timeframe", pa.repeat(pa.scalar(timeframe), bars.num_rows)
    )
    bars = bars.filter(pc.field("close").is_valid())
    panel = Panel.from_tables(bars, _instruments(infos), timeframe=timeframe)
    return [panel.series[symbol] for symbol in sorted(panel.series)]


def _instruments(infos: dict[str, InstrumentInfo]) -> pa.Table:
    return pa.table(
        {
            "symbol": list(infos),
            "asset_class": [info.asset_class for info in infos.values()],
            "calendar": [info.calendar for info in infos.values()],
            "is_leader": [info.is_leader for info in infos.values()],
            "listed_to": pa.array([None] * len(infos), type=_STAMP),
        }
    )


def end_of(day: date) -> datetime:
    """Return the end of a day, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
