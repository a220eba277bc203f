"""From a genome to target weights: each part is one step, each step is causal.

Opinions in [-1, 1] are blended by weight and filtered: set to 0, or taken on one day of
the week only. They are held for a number of days, for every change costs. The universe
and the sizing give each instrument a share of the book, and a weight is opinion times
share. Shares add up to at most 1 over the universe, so weights do. A book that was
riskier of late than `BOOK_RISK` is scaled down to it.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from lab.arrays import BoolArray, FloatArray
from lab.evolution.genome import Genome, Part
from lab.sleeves import signals
from lab.sleeves.own_bars import OwnBars
from lab.sleeves.sizing import first_rows, inverse_shares, refreshed, targeted

BOOK_RISK: Final = 0.05
"""Volatility of a book a year, at most: about that of the sleeves of the catalogue.

A family's Reality Check compares mean returns, so one book of ten times the others' risk
would set a bar that none of them could meet, however good.
"""

_YEAR_DAYS: Final = 365.25
_SLOW: Final = 5
"""A volatility is high or low beside that of so many times its bars."""


def weights_of(genome: Genome, bars: OwnBars) -> FloatArray:
    """Return a genome's target weights.

    Parameters
    ----------
    genome : Genome
        The rule.
    bars : OwnBars
        Of a panel.

    Returns
    -------
    ndarray of shape (n_obs, n_assets), float64
        Finite; the absolute weights of a row add up to at most 1.

    Notes
    -----
    Point in time: row t uses rows up to t.
    """
    opinion = _blend(genome.signals, bars)
    for part in genome.filters:
        opinion = _FILTERS[part.kind](part, bars, opinion)
    opinion = opinion[first_rows(bars.panel.ts, days=genome.sizing["hold"])]
    is_member = _UNIVERSES[genome.universe.kind](genome.universe, bars)
    return _sized(genome.sizing, bars, opinion, is_member)


def _blend(parts: tuple[Part, ...], bars: OwnBars) -> FloatArray:
    total, weight = np.zeros(bars.has_bar.shape), 0.0
    for part in parts:
        total += part["weight"] * _SIGNALS[part.kind](part, bars)
        weight += part["weight"]
    return np.clip(total / weight, -1.0, 1.0)


def _average_cross(part: Part, bars: OwnBars) -> FloatArray:
    slow = max(part["fast"] + 1, round(part["fast"] * part["ratio"]))
    return signals.average_cross(bars, fast=part["fast"], slow=slow, band=part["band"])


def _breakout(part: Part, bars: OwnBars) -> FloatArray:
    leave = max(1, round(part["entry"] * part["share"]))
    return signals.breakout(bars, entry=part["entry"], leave=leave)


def _seasonality(part: Part, bars: OwnBars) -> FloatArray:
    return signals.seasonality(
        bars,
        weeks=part["weeks"],
        threshold=part["threshold"],
        hurdle_bps=part["hurdle_bps"],
    )


_SIGNALS: Final[Mapping[str, Callable[[Part, OwnBars], FloatArray]]] = MappingProxyType(
    {
        "trend": lambda part, bars: signals.trend(
            bars, lookback=part["lookback"], threshold=part["threshold"]
        ),
        "average-cross": _average_cross,
        "breakout": _breakout,
        "index-reversion": lambda part, bars: signals.index_reversion(
            bars, period=part["period"], edge=part["edge"]
        ),
        "band-reversion": lambda part, bars: signals.band_reversion(
            bars, lookback=part["lookback"], width=part["width"]
        ),
        "relative-strength": lambda part, bars: signals.relative_strength(
            bars, lookback=part["lookback"], share=part["share"]
        ),
        "seasonality": _seasonality,
        "surprise-drift": lambda part, bars: signals.surprise_drift(
            bars, hold=part["hold"], threshold=part["threshold"]
        ),
    }
)


def _in_volatility_band(part: Part, bars: OwnBars, opinion: FloatArray) -> FloatArray:
    # Looked at once a week: daily changes of an estimate are not worth their costs.
    recent = bars.volatility(part["window"])
    ratio = refreshed(recent / bars.volatility(_SLOW * part["window"]), bars.panel.ts)
    is_in = (ratio >= part["low"]) & (ratio <= part["high"])
    return np.where(is_in, opinion, 0.0)


def _with_trend(part: Part, bars: OwnBars, opinion: FloatArray) -> FloatArray:
    above = signals.average_cross(bars, fast=1, slow=part["window"], band=0.0)
    return np.where(opinion * above > 0.0, opinion, 0.0)


def _on_weekday(part: Part, bars: OwnBars, opinion: FloatArray) -> FloatArray:
    # The opinion of the newest such day; 1970-01-01 was a Thursday, Monday is 0.
    day = bars.panel.ts.astype("datetime64[D]").astype(np.int64)
    is_day = (day + 3) % 7 == part["day"]
    newest = np.maximum.accumulate(np.where(is_day, np.arange(len(day)), -1))
    return np.where(newest[:, None] >= 0, opinion[newest], 0.0)


_FILTERS: Final[Mapping[str, Callable[[Part, OwnBars, FloatArray], FloatArray]]] = (
    MappingProxyType(
        {
            "volatility-band": _in_volatility_band,
            "trend": _with_trend,
            "weekday": _on_weekday,
        }
    )
)


def _everything(_part: Part, bars: OwnBars) -> BoolArray:
    return np.ones(bars.has_bar.shape, dtype=np.bool_)


def _of_class(part: Part, bars: OwnBars) -> BoolArray:
    is_in = np.array([one == part["asset_class"] for one in bars.panel.asset_classes])
    return np.broadcast_to(is_in, bars.has_bar.shape)


def _most_liquid(part: Part, bars: OwnBars) -> BoolArray:
    # Traded value is price times volume; an unknown or zero volume is no liquidity.
    traded = bars.pack(bars.panel.volume * bars.panel.close)
    known = np.where(np.isfinite(traded), traded, 0.0)
    value = bars.spread(bars.total(known, part["window"]), missing=np.nan)
    value[~(value > 0.0)] = np.nan
    return _first(-refreshed(value, bars.panel.ts), part["count"])


def _least_volatile(part: Part, bars: OwnBars) -> BoolArray:
    risk = refreshed(bars.volatility(part["window"]), bars.panel.ts)
    return _first(risk, part["count"])


def _first(figure: FloatArray, count: int) -> BoolArray:
    # The lowest `count` of each row; equal ones in the panel's order, NaN never.
    order = np.argsort(figure, axis=1, kind="stable")
    is_first = np.zeros(figure.shape, dtype=np.bool_)
    np.put_along_axis(is_first, order[:, :count], values=True, axis=1)
    return is_first & np.isfinite(figure)


_UNIVERSES: Final[Mapping[str, Callable[[Part, OwnBars], BoolArray]]] = (
    MappingProxyType(
        {
            "all": _everything,
            "asset-class": _of_class,
            "most-liquid": _most_liquid,
            "least-volatile": _least_volatile,
        }
    )
)


def _sized(
    part: Part, bars: OwnBars, opinion: FloatArray, is_member: BoolArray
) -> FloatArray:
    risk = bars.risk if part.kind == "equal" else bars.volatility(part["window"])
    # Who has no known risk takes no part, in equal shares neither.
    measure = risk if part.kind == "inverse-volatility" else np.ones(risk.shape)
    taking = np.where(is_member & np.isfinite(risk), measure, np.nan)
    shares = inverse_shares(taking, bars.panel.ts, cap=part["cap"])
    if part.kind == "volatility-target":
        yearly = refreshed(risk, bars.panel.ts) * _YEAR_DAYS**0.5
        shares *= np.nan_to_num(np.minimum(1.0, part["target"] / yearly))
    return targeted(bars, opinion * shares, target=BOOK_RISK)
