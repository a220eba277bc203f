"""The synthetic market's scheduled releases, and what they do to prices.

Dates and surprises are functions of the seed and the date alone. At the release hour
(for the companies: at the next session's first bar) each symbol named in `IMPACT_BPS`
moves by that many basis points per standard deviation of surprise. An `FOMC Statement`
has no number: it moves prices by a draw nobody sees beforehand.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from lakehouse.sources._synthetic_market import ORIGIN, FloatArray


@dataclass(frozen=True, slots=True)
class ReleaseKind:
    """A kind of release.

    Attributes
    ----------
    event, currency, importance
        As published.
    zone : str
        Where its clock time holds.
    hour, minute : int
        Local clock time.
    mean, deviation : float
        Level of the consensus, and standard deviation of the surprise, in its unit.
    digits : int
        Decimals published.
    """

    event: str
    currency: str
    importance: int
    zone: str
    hour: int
    minute: int
    mean: float
    deviation: float
    digits: int


_US: Final = "America/New_York"
KINDS: Final = {
    "payrolls": ReleaseKind(
        "Non-Farm Employment Change", "USD", 3, _US, 8, 30, 180_000.0, 60_000.0, 0
    ),
    "us_cpi": ReleaseKind("CPI m/m", "USD", 3, _US, 8, 30, 0.2, 0.1, 2),
    "claims": ReleaseKind(
        "Unemployment Claims", "USD", 2, _US, 8, 30, 230_000.0, 12_000.0, 0
    ),
    "oil": ReleaseKind(
        "Crude Oil Inventories", "USD", 1, _US, 10, 30, 0.0, 3_000_000.0, 0
    ),
    "fomc": ReleaseKind("FOMC Statement", "USD", 3, _US, 14, 0, 0.0, 0.0, 0),
    "uk_cpi": ReleaseKind("CPI y/y", "GBP", 3, "Europe/London", 7, 0, 2.5, 0.2, 2),
    "de_pmi": ReleaseKind(
        "German Flash Manufacturing PMI", "EUR", 2, "Europe/Berlin", 9, 30, 50.0, 0.9, 1
    ),
}
_DOLLAR: Final = {
    "EURUSD": -1.0,
    "GBPUSD": -0.9,
    "AUDUSD": -0.9,
    "USDJPY": 1.0,
    "USDCAD": 0.6,
    "USDCHF": 0.9,
    "XAUUSD": -1.4,
    "XAGUSD": -1.8,
}
_STOCKS: Final = {"US500": 1.0, "US100": 1.3, "US30": 0.9, "DE40": 0.7, "UK100": 0.5}


def _scaled(*parts: tuple[dict[str, float], float]) -> dict[str, float]:
    scaled: dict[str, float] = {}
    for table, factor in parts:
        for symbol, weight in table.items():
            scaled[symbol] = round(scaled.get(symbol, 0.0) + weight * factor, 3)
    return scaled


# Basis points per standard deviation of surprise.
IMPACT_BPS: Final = {
    "payrolls": _scaled((_DOLLAR, 25.0), (_STOCKS, 20.0), ({"company": 1.0}, 25.0)),
    "us_cpi": _scaled((_DOLLAR, 30.0), (_STOCKS, -45.0), ({"company": 1.0}, -50.0)),
    "claims": _scaled((_DOLLAR, -6.0)),
    "oil": {"BRENT": -60.0, "USDCAD": 6.0},
    "fomc": _scaled((_DOLLAR, 25.0), (_STOCKS, -35.0), ({"company": 1.0}, -40.0)),
    "uk_cpi": {"GBPUSD": 25.0, "UK100": -20.0},
    "de_pmi": {"EURUSD": 10.0, "DE40": 15.0, "EURJPY": 10.0},
}
# Weekday, Monday 0, and which of the month's; None: every week.
_WEEK: Final[dict[str, tuple[int, int | None]]] = {
    "payrolls": (4, 1),
    "us_cpi": (2, 2),
    "claims": (3, None),
    "oil": (2, None),
    "fomc": (2, 3),
    "uk_cpi": (2, 3),
    "de_pmi": (1, 4),
}
_FOMC_MONTHS: Final = frozenset({1, 3, 5, 6, 7, 9, 11, 12})


@dataclass(frozen=True, slots=True)
class Release:
    """One release.

    Attributes
    ----------
    kind : str
        Key of `KINDS`.
    ts : datetime
        UTC.
    forecast, actual, previous : float or None
        As published.
    shock : float
        What moved prices, in standard deviations; for kinds with a number this is
        (actual − forecast) / deviation, exactly.
    """

    kind: str
    ts: datetime
    forecast: float | None
    actual: float | None
    previous: float | None
    shock: float


def is_release_day(kind: str, day: date) -> bool:
    """Return whether `kind` is released on `day`."""
    weekday, number = _WEEK[kind]
    in_month = number is None or (day.day - 1) // 7 + 1 == number
    meets = kind != "fomc" or day.month in _FOMC_MONTHS
    return day.weekday() == weekday and in_month and meets


def releases_until(end: date, seed: int) -> list[Release]:
    """Return all releases from the origin to `end`, in order of time.

    Parameters
    ----------
    end : date
        Last day, included.
    seed : int
        Seed of the market.
    """
    found: list[Release] = []
    for number, kind in enumerate(KINDS):
        first = ORIGIN
        days = [
            day
            for offset in range((end - first).days + 1)
            if is_release_day(kind, day := first + timedelta(days=offset))
        ]
        rng = np.random.Generator(np.random.Philox(key=[seed, 100 + number]))
        draws = rng.standard_normal((len(days), 2))
        found += _of_kind(kind, days, draws)
    return sorted(found, key=lambda release: (release.ts, release.kind))


def _of_kind(kind: str, days: list[date], draws: FloatArray) -> list[Release]:
    spec, made = KINDS[kind], []
    zone = ZoneInfo(spec.zone)
    drift, previous = 0.0, None
    for day, (surprise, step) in zip(days, draws.tolist(), strict=True):
        local = datetime(
            day.year, day.month, day.day, spec.hour, spec.minute, tzinfo=zone
        )
        ts = local.astimezone(UTC)
        if not spec.deviation:
            made.append(Release(kind, ts, None, None, None, surprise))
            continue
        drift = 0.9 * drift + 0.5 * step * spec.deviation
        forecast = round(spec.mean + drift, spec.digits)
        actual = round(forecast + surprise * spec.deviation, spec.digits)
        shock = (actual - forecast) / spec.deviation
        made.append(Release(kind, ts, forecast, actual, previous, shock))
        previous = actual
    return made
