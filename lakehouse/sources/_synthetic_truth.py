"""What is true of a window of the synthetic market, and the planted rule itself."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Any, Final

import numpy as np

from lakehouse.sources._synthetic_calendar import IMPACT_BPS, KINDS
from lakehouse.sources._synthetic_days import (
    LEANING,
    LOOKBACK_DAYS,
    PULL,
    REGIME_CORRELATION,
    REGIME_VOLATILITY,
    REGIMES,
    SHARPE,
    TRANSITIONS,
    VOLATILITY_DAYS,
    DailyPath,
)
from lakehouse.sources._synthetic_market import (
    COLUMNS,
    N_RULE,
    ORIGIN,
    PERMANENT,
    Company,
    FloatArray,
    IntArray,
    decimals,
)

ANNUAL_DAYS: Final = 365
RULE_DEFINITION: Final = (
    "Close = last close of each UTC day, carried forward over days without a bar. "
    "r = close / previous day's close - 1. At the end of day d hold "
    "weight = sign(close[d] / close[d - lookback_days] - 1) / std(r over the last "
    "volatility_days days, ddof 1) / n_symbols of each symbol over day d + 1. "
    "Profit[d + 1] = sum(weight * r[d + 1]). "
    "Sharpe = mean / std * sqrt(365) over all days with a full history in the window, "
    "before costs."
)


def rule_profits(
    closes: FloatArray,
    *,
    lookback_days: int = LOOKBACK_DAYS,
    volatility_days: int = VOLATILITY_DAYS,
) -> FloatArray:
    """Return the daily profits of the planted rule `ts_momentum`.

    Parameters
    ----------
    closes : ndarray of shape (n_days, n_symbols), float64
        Close of each UTC day, carried forward.
    lookback_days : int, days
        Span of the momentum.
    volatility_days : int, days
        Span of the volatility that scales positions.

    Returns
    -------
    ndarray of shape (n_days - 1 - max(lookback_days, volatility_days),), float64
        Profit per day, in units of risk.

    Notes
    -----
    Point in time: the position over day d + 1 uses closes up to day d.
    """
    returns = closes[1:] / closes[:-1] - 1
    n_symbols = closes.shape[1]
    warm_up = max(lookback_days, volatility_days)
    profits = []
    for day in range(warm_up, len(closes) - 1):
        usual = returns[day - volatility_days : day].std(axis=0, ddof=1)
        sign = np.sign(closes[day] / closes[day - lookback_days] - 1)
        weight = np.divide(sign, usual, out=np.zeros(n_symbols), where=usual > 0)
        profits.append(float(weight @ returns[day]) / n_symbols)
    return np.array(profits)


def sharpe_ratio(profits: FloatArray) -> float | None:
    """Return mean / std × √365 of daily profits; None below two days."""
    if len(profits) < 2:
        return None
    return float(profits.mean() / profits.std(ddof=1) * np.sqrt(ANNUAL_DAYS))


def published_closes(path: DailyPath, first: date, end: datetime) -> FloatArray:
    """Return the rule's symbols' daily closes as bars show them, carried forward."""
    start, stop = (first - ORIGIN).days, (end.date() - ORIGIN).days
    scale = 10.0 ** decimals()[:N_RULE]
    levels = path.close[start + 1 : stop + 1, :N_RULE]
    prices = np.maximum(np.round(np.exp(levels) * scale), 1.0) / scale
    has_bar = np.logical_or.reduce(path.hours[start:stop, :, :N_RULE], axis=1)
    return _carried_forward(prices, has_bar)


def _carried_forward(prices: FloatArray, has_bar: Any) -> FloatArray:
    rows: IntArray = np.where(has_bar, np.arange(len(prices))[:, None], -1)
    rows = np.maximum.accumulate(rows, axis=0)
    # Before a symbol's first bar of the window there is no return either.
    first = np.maximum(has_bar.argmax(axis=0), 0)
    rows = np.where(rows < 0, first, rows)
    carried: FloatArray = np.take_along_axis(prices, rows, axis=0)
    return carried


def describe_truth(
    path: DailyPath, pair: tuple[Company, Company], first: date, end: datetime
) -> dict[str, Any]:
    """Return the truth of the days from `first` until `end`."""
    return {
        "rule": _rule(path, first, end),
        "regimes": _regimes(path, first, end),
        "releases": _releases(path, first, end),
        "gaps": _gaps(path, first, end),
        "delisting": _delisting(pair[0], first),
        "splits": _splits(pair, first, end),
        "instruments": [
            {
                "symbol": column.symbol,
                "daily_volatility": column.volatility,
                "market_correlation": column.market,
                "class_correlation": column.sector,
            }
            for column in COLUMNS[:N_RULE]
        ],
        "dynamics": {
            "log_volatility": "AR(1) per class 0.975 (0.055) and per symbol 0.92 (0.09)",
            "pull_to_anchor_per_day": PULL,
            "leaning_against_luck_per_day": LEANING,
        },
    }


def _rule(path: DailyPath, first: date, end: datetime) -> dict[str, Any]:
    closes = published_closes(path, first, end)
    years = len(closes) / ANNUAL_DAYS
    profits = rule_profits(closes)
    return {
        "name": "ts_momentum",
        "parameters": {
            "lookback_days": LOOKBACK_DAYS,
            "volatility_days": VOLATILITY_DAYS,
        },
        "definition": RULE_DEFINITION,
        "symbols": [column.symbol for column in PERMANENT],
        "sharpe_gross": SHARPE,
        "sharpe_gross_realised": sharpe_ratio(profits),
        "tolerance": round(0.15 + 0.45 / max(years, 0.25), 3),
        "n_days": len(profits),
        "note": (
            "the tolerance holds from a year on; on hourly bars take the last close "
            "of each UTC day"
        ),
    }


def _regimes(path: DailyPath, first: date, end: datetime) -> dict[str, Any]:
    start, stop = (first - ORIGIN).days, (end.date() - ORIGIN).days
    spans, day = [], first
    for state, run in groupby(path.regime[start:stop].tolist()):
        length = sum(1 for _ in run)
        spans.append(
            {"from": str(day), "days": length, "regime": REGIMES[state]},
        )
        day += timedelta(days=length)
    return {
        "states": list(REGIMES),
        "daily_transitions": [list(row) for row in TRANSITIONS],
        "volatility_multiple": list(REGIME_VOLATILITY),
        "correlation_multiple": list(REGIME_CORRELATION),
        "path": spans,
    }


def _releases(path: DailyPath, first: date, end: datetime) -> dict[str, Any]:
    start = datetime.combine(first, time(), UTC)
    shown = [release for release in path.releases if start <= release.ts < end]
    return {
        "impact_bps_per_deviation": {
            KINDS[kind].event: impact for kind, impact in IMPACT_BPS.items()
        },
        "surprise_deviation": {kind.event: kind.deviation for kind in KINDS.values()},
        "n_releases": len(shown),
        "unnumbered": [
            {"ts": f"{release.ts:%Y-%m-%dT%H:%M:%SZ}", "shock": round(release.shock, 6)}
            for release in shown
            if release.actual is None
        ],
    }


def _gaps(path: DailyPath, first: date, end: datetime) -> list[dict[str, Any]]:
    return [
        {
            "symbol": COLUMNS[column].symbol,
            "from": str(day),
            "until": str(day + timedelta(days=length)),
        }
        for column, day, length in path.gaps
        if first <= day < end.date()
    ]


def _delisting(gone: Company, first: date) -> dict[str, Any]:
    return {
        "symbol": gone.symbol,
        "listed_from": str(gone.listed),
        "delisted_on": str(gone.delisted),
        "is_in_window": gone.delisted > first,
    }


def _splits(
    pair: tuple[Company, Company], first: date, end: datetime
) -> list[dict[str, Any]]:
    return [
        {
            "symbol": company.symbol,
            "first_day_at_new_price": str(company.split),
            "ratio": company.ratio,
        }
        for company in pair
        if first <= company.split < end.date()
    ]
