"""The synthetic market's fixed facts: who trades, when, and how much.

23 instruments at any moment: 21 that are always there, under the names of the real
panel so that everything built for it runs, and two made-up companies of which one has
been delisted. A company is listed every 15 September, splits in its last May and is
delisted after three years; the universe holds the company delisted last and the one
that goes next. All dates are absolute, so a later end changes no earlier bar.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ORIGIN: Final = date(2000, 1, 1)
LISTING_DAY: Final = (9, 15)
COMPANY_YEARS: Final = 3
N_TRACKS: Final = COMPANY_YEARS
CALENDARS: Final = ("24x7", "fx", "XNYS")
_NEW_YORK: Final = ZoneInfo("America/New_York")


@dataclass(frozen=True, slots=True)
class Instrument:
    """One column of the simulation.

    Attributes
    ----------
    symbol, asset_class, calendar, currency
        As registered.
    anchor : float, quote currency
        Price at the origin; prices are pulled back to it over years.
    volatility : float
        Standard deviation of a whole day's log return in normal times.
    market, sector : float
        Correlation of its noise with the market factor and its class factor.
    has_volume : bool
        Whether volume is known.
    """

    symbol: str
    asset_class: str
    calendar: str
    currency: str | None
    anchor: float
    volatility: float
    market: float
    sector: float
    has_volume: bool


def _crypto(symbol: str, anchor: float, volatility: float) -> Instrument:
    return Instrument(
        symbol, "crypto", "24x7", None, anchor, volatility, 0.30, 0.70, has_volume=True
    )


def _fx(symbol: str, anchor: float, market: float, sector: float) -> Instrument:
    currency = symbol[3:]
    return Instrument(
        symbol, "fx", "fx", currency, anchor, 0.005, market, sector, has_volume=False
    )


def _cfd(
    symbol: str, asset_class: str, currency: str, facts: tuple[float, ...]
) -> Instrument:
    anchor, volatility, market, sector = facts
    return Instrument(
        symbol,
        asset_class,
        "fx",
        currency,
        anchor,
        volatility,
        market,
        sector,
        has_volume=False,
    )


PERMANENT: Final = (
    _crypto("BTCUSDT", 20_000.0, 0.030),
    _crypto("ETHUSDT", 1_500.0, 0.036),
    _crypto("XRPUSDT", 0.5, 0.042),
    _crypto("LTCUSDT", 90.0, 0.040),
    _crypto("ADAUSDT", 0.4, 0.045),
    _crypto("LINKUSDT", 9.0, 0.048),
    _fx("EURUSD", 1.15, 0.20, 0.70),
    _fx("GBPUSD", 1.35, 0.30, 0.60),
    _fx("USDJPY", 115.0, 0.15, -0.45),
    _fx("AUDUSD", 0.75, 0.45, 0.55),
    _fx("USDCAD", 1.28, -0.40, -0.50),
    _fx("USDCHF", 0.95, 0.05, -0.70),
    _fx("EURJPY", 130.0, 0.45, 0.20),
    _cfd("US500", "index", "USD", (2_800.0, 0.011, 0.80, 0.45)),
    _cfd("US100", "index", "USD", (8_000.0, 0.014, 0.75, 0.45)),
    _cfd("US30", "index", "USD", (25_000.0, 0.010, 0.78, 0.42)),
    _cfd("DE40", "index", "EUR", (12_000.0, 0.012, 0.70, 0.35)),
    _cfd("UK100", "index", "GBP", (7_000.0, 0.010, 0.68, 0.32)),
    _cfd("XAUUSD", "commodity", "USD", (1_400.0, 0.009, 0.05, 0.60)),
    _cfd("XAGUSD", "commodity", "USD", (18.0, 0.017, 0.15, 0.65)),
    _cfd("BRENT", "commodity", "USD", (70.0, 0.020, 0.35, 0.25)),
)
TRACKS: Final = tuple(
    Instrument(
        f"track{number}",
        "equity",
        "XNYS",
        "USD",
        120.0,
        0.020,
        0.55,
        0.20,
        has_volume=True,
    )
    for number in range(N_TRACKS)
)
COLUMNS: Final = (*PERMANENT, *TRACKS)
N_RULE: Final = len(PERMANENT)
CLASSES: Final = ("crypto", "fx", "index", "commodity", "equity")


@dataclass(frozen=True, slots=True)
class Company:
    """A made-up company and what becomes of it.

    Attributes
    ----------
    symbol : str
        Named after the year of its listing.
    track : int
        Its column among `TRACKS`.
    listed, delisted, split : date
        First day; day from which it is gone; first day at the new price.
    ratio : int
        New shares per old one.
    """

    symbol: str
    track: int
    listed: date
    delisted: date
    split: date
    ratio: int

    def last_bar(self) -> datetime:
        """Return the open of its last hourly bar: 15:00 in New York."""
        day = self.delisted - timedelta(days=1)
        while not is_exchange_day(day):
            day -= timedelta(days=1)
        hour = 15 - _offset(day)
        return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


def company(delisting_year: int) -> Company:
    """Return the company that is delisted in `delisting_year`."""
    listed = delisting_year - COMPANY_YEARS
    split = date(delisting_year, 5, 15)
    while split.weekday() > 4:
        split += timedelta(days=1)
    return Company(
        symbol=f"ACME{listed % 100:02d}_CFD",
        track=delisting_year % N_TRACKS,
        listed=date(listed, *LISTING_DAY),
        delisted=date(delisting_year, *LISTING_DAY),
        split=split,
        ratio=3 + delisting_year % 2,
    )


def companies(today: date) -> tuple[Company, Company]:
    """Return the company delisted last and the one delisted next."""
    year = today.year if (today.month, today.day) >= LISTING_DAY else today.year - 1
    return company(year), company(year + 1)


def dates_until(end: date) -> list[date]:
    """Return all dates from the origin to `end`, both included."""
    return [
        ORIGIN + timedelta(days=number) for number in range((end - ORIGIN).days + 1)
    ]


def open_hours(days: list[date]) -> BoolArray:
    """Return which UTC hours trade, shape (n_days, 3, 24), calendars as `CALENDARS`.

    `fx` opens on Sunday and closes on Friday at 17:00 in New York; `XNYS` has the
    seven UTC hours that overlap 09:30 to 16:00 in New York, no early closes.
    """
    hours = np.arange(24)
    weekday = np.array([day.weekday() for day in days])[:, None]
    offset = np.array([_offset(day) for day in days])[:, None]
    week_turn = 17 - offset
    is_open = np.ones((len(days), len(CALENDARS), 24), dtype=np.bool_)
    is_open[:, 1] = (
        (weekday < 4)
        | ((weekday == 4) & (hours < week_turn))
        | ((weekday == 6) & (hours >= week_turn))
    )
    is_session = np.array([is_exchange_day(day) for day in days])[:, None]
    in_session = (hours >= 9 - offset) & (hours < 16 - offset)
    is_open[:, 2] = is_session & in_session
    return is_open


def _offset(day: date) -> int:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=_NEW_YORK)
    offset = noon.utcoffset() or timedelta()
    return int(offset.total_seconds()) // 3600


def is_exchange_day(day: date) -> bool:
    """Return whether New York's exchange opens, by its regular holidays."""
    return day.weekday() < 5 and day not in _holidays(day.year)


def _nth(year: int, month: int, weekday: int, number: int) -> date:
    first = date(year, month, 1)
    ahead = (weekday - first.weekday()) % 7
    return first + timedelta(days=ahead + 7 * (number - 1))


def _observed(day: date) -> date:
    shift = {5: -1, 6: 1}.get(day.weekday(), 0)
    return day + timedelta(days=shift)


def _easter(year: int) -> date:
    golden, century = year % 19, year // 100
    epact = (century - century // 4 - (8 * century + 13) // 25 + 19 * golden + 15) % 30
    epact -= (epact // 28) * (1 - (29 // (epact + 1)) * ((21 - golden) // 11))
    weekday = (year + year // 4 + epact + 2 - century + century // 4) % 7
    shift = epact - weekday
    month = 3 + (shift + 40) // 44
    return date(year, month, shift + 28 - 31 * (month // 4))


@lru_cache(maxsize=256)
def _holidays(year: int) -> frozenset[date]:
    last_of_may = _nth(year, 5, 0, 5)
    if last_of_may.month != 5:
        last_of_may -= timedelta(days=7)
    days = {
        _nth(year, 1, 0, 3),
        _nth(year, 2, 0, 3),
        _easter(year) - timedelta(days=2),
        last_of_may,
        _observed(date(year, 7, 4)),
        _nth(year, 9, 0, 1),
        _nth(year, 11, 3, 4),
        _observed(date(year, 12, 25)),
    }
    new_year = date(year, 1, 1)
    if new_year.weekday() != 5:
        days.add(_observed(new_year))
    if year >= 2022:
        days.add(_observed(date(year, 6, 19)))
    return frozenset(days)


def hour_weights() -> FloatArray:
    """Return each column's share of variance per UTC hour, (24, n_columns).

    Each column sums to 1 over the day's 24 hours.
    """
    hours = np.arange(24)

    def bump(centre: float, width: float) -> FloatArray:
        distance = np.minimum(np.abs(hours - centre), 24 - np.abs(hours - centre))
        shape: FloatArray = np.exp(-0.5 * (distance / width) ** 2)
        return shape

    shapes = {
        "crypto": 1.0 + 0.8 * bump(15, 3),
        "fx": 0.4 + 1.2 * bump(8, 1.5) + 1.8 * bump(14, 2),
        "index": 0.3 + 0.8 * bump(8, 1.5) + 2.5 * bump(15, 2) + 1.0 * bump(20, 1),
        "commodity": 0.5 + 0.6 * bump(8, 2) + 2.0 * bump(14.5, 2),
        "equity": 0.6 + 1.2 * bump(14, 1) + 0.7 * bump(20, 1),
    }
    weights = np.stack([shapes[column.asset_class] for column in COLUMNS], axis=1)
    normalised: FloatArray = weights / weights.sum(axis=0)
    return normalised


def weekday_factors() -> FloatArray:
    """Return the volatility multiple per weekday, Monday first, (7, n_columns)."""
    calm_start = np.array([0.92, 1.03, 1.05, 1.05, 1.00, 1.0, 0.8])
    weekend = np.array([1.05, 1.05, 1.05, 1.05, 1.0, 0.75, 0.8])
    return np.stack(
        [weekend if c.asset_class == "crypto" else calm_start for c in COLUMNS], axis=1
    )


def decimals() -> IntArray:
    """Return how many decimals each column's prices have, (n_columns,)."""
    anchors = np.array([column.anchor for column in COLUMNS])
    places: IntArray = (6 - np.floor(np.log10(anchors))).astype(np.int64)
    return places
