"""What sleeves see beside bars: forecasts and surprises on the rows of a panel.

Both grids keep one rule: row t holds what was known by the row's `known_ts`, so a sleeve
may use its row without asking when anything in it came out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import AnyArray, BoolArray, FloatArray, TimeArray
from lab.backtest.panel import AlignedPanel, ForecastGrid
from lab.bars.timeframes import step
from lab.errors import BacktestError
from lab.features.releases import Figures, Releases
from lab.scoring.unfold import checked_predictions, times, unfold

HORIZONS: Final = MappingProxyType({"1h": 24, "1d": 5})
"""Step whose forecast followers trade, by timeframe: a day and a week of trading."""

GROUPS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "nfp": "growth",
        "gdp": "growth",
        "cpi": "inflation",
        "pce": "inflation",
        "fomc": "rates",
        "rate_decision": "rates",
    }
)
"""What a release speaks of, by its type; releases of other types move nothing here."""

SIGNS: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType(
    {
        "currency": {"growth": 1, "inflation": 1, "rates": 1},
        "stocks": {"growth": 1, "inflation": -1, "rates": -1},
        "bonds": {"growth": -1, "inflation": -1, "rates": -1},
    }
)
"""Which way a price goes when a figure of its currency is higher than expected.

Higher growth, inflation or rates than expected raise the rates that are expected, and
with them the currency; bonds fall; stocks like growth and dislike the rest. A price in a
currency (a pair, a metal, a coin) goes against it.
"""

_CURRENCIES: Final = frozenset(
    ["USD", "EUR", "GBP", "JPY", "CHF", "CAD", "AUD", "NZD", "CNY"]
)
_HOMES: Final = MappingProxyType({"DE40": "EUR", "UK100": "GBP"})
_STOCKS: Final = frozenset({"equity", "index"})
_METALS: Final = ("XAU", "XAG", "XPT", "XPD", "GC", "SI")


@dataclass(frozen=True, slots=True)
class _Forecasts:
    # Forecasts of one symbol in the order in which they were known.
    known: TimeArray
    target: TimeArray
    move: FloatArray
    width: FloatArray


def forecast_grid(
    predictions: pa.Table,
    panel: AlignedPanel,
    model: str,
    *,
    horizon: int | None = None,
    is_contaminated_kept: bool = False,
) -> ForecastGrid:
    """Return a model's newest forecast at each row.

    Parameters
    ----------
    predictions : pyarrow.Table
        Rows of `ml_predictions`; other symbols, timeframes and models are ignored.
    panel : AlignedPanel
        Rows and instruments.
    model : str
        `model_name`.
    horizon : int, bars
        Step whose median and band are taken, `HORIZONS` of the timeframe if not given;
        forecasts that do not reach it are left out.
    is_contaminated_kept : bool
        Keep forecasts of windows that the model may have been trained on.

    Returns
    -------
    ForecastGrid
        Shares of the forecast's own last close; NaN before the first forecast and from
        the row on whose bar is the target's, until a newer forecast comes.

    Raises
    ------
    BacktestError
        If the horizon is below 1.
    ScoringError
        If a column is missing or has another type.

    Notes
    -----
    Point in time: row t holds the newest forecast with `as_of` and `known_ts` at or
    before the row's `known_ts`; of several at one `as_of` the one generated last.
    """
    wanted_step = HORIZONS[panel.timeframe] if horizon is None else horizon
    if wanted_step < 1:
        raise BacktestError(f"forecasts of {model}: horizon {wanted_step}: at least 1")
    rows = _chosen(predictions, panel, model, is_contaminated_kept=is_contaminated_kept)
    by_symbol = _by_symbol(rows, wanted_step)
    move = np.full((panel.n_obs, panel.n_assets), np.nan)
    width = np.full((panel.n_obs, panel.n_assets), np.nan)
    for column, symbol in enumerate(panel.symbols):
        found = by_symbol.get(symbol)
        if found is None:
            continue
        newest = np.searchsorted(found.known, panel.known_ts, side="right") - 1
        is_live = (newest >= 0) & (found.target[newest] > panel.ts)
        move[is_live, column] = found.move[newest[is_live]]
        width[is_live, column] = found.width[newest[is_live]]
    return ForecastGrid(move, width)


def surprise_grid(
    releases: pa.Table,
    panel: AlignedPanel,
    *,
    currencies: Mapping[str, str] | None = None,
) -> FloatArray:
    """Return the signed surprises of the releases that concern each instrument.

    A release's surprise is its z-score against those of its own name before
    (`Releases.surprises`); names of one type and currency that come at one moment (CPI,
    Core CPI) count as one, their mean. A company's earnings concern its own share.

    Parameters
    ----------
    releases : pyarrow.Table
        Rows of `economic_calendar`.
    panel : AlignedPanel
        Rows and instruments.
    currencies : mapping of str to str, optional
        Currency of an instrument by symbol, where it is not the dollar and the symbol
        does not say so.

    Returns
    -------
    ndarray of shape (n_obs, n_assets), float64
        A positive one speaks for a higher price; 0 where nothing came out.

    Raises
    ------
    FeatureError
        If a column is missing.

    Notes
    -----
    Point in time: a surprise stands in the first row whose `known_ts` is at or after the
    moment at which it was known, and in no other.
    """
    grid = np.zeros((panel.n_obs, panel.n_assets))
    every = Releases.from_table(releases)
    homes = {**_HOMES, **(currencies or {})}
    rows = {key: _on_rows(found, panel) for key, found in _macro(every).items()}
    pairs = zip(panel.symbols, panel.asset_classes, strict=True)
    for column, (symbol, asset_class) in enumerate(pairs):
        signs = exposures(symbol, asset_class, currency=homes.get(symbol))
        for key, sign in signs.items():
            if key in rows:
                grid[:, column] += sign * rows[key]
        own = every.of("earnings") & _is(every.symbol, symbol)
        grid[:, column] += _on_rows([_merged(every, own)], panel)
    return grid


def exposures(
    symbol: str, asset_class: str, *, currency: str | None = None
) -> dict[tuple[str, str], int]:
    """Return which way an instrument goes, by currency and group of releases.

    Parameters
    ----------
    symbol, asset_class : str
        As in `instruments`.
    currency : str, optional
        Its currency; the dollar if not given, or what a pair's name says.

    Returns
    -------
    dict of (str, str) to int
        1 or -1 by currency and group; empty where we do not presume to know: oil, and
        classes not named in this module.

    Notes
    -----
    A pair goes with the figures of its first currency and against those of its second.
    """
    letters = symbol.upper()
    home = currency or "USD"
    base, quote = letters[:3], letters[3:6]
    if asset_class == "fx":
        if len(letters) != 6 or not {base, quote} <= _CURRENCIES:
            return {}
        return _signed(base, "currency", 1) | _signed(quote, "currency", -1)
    is_metal = asset_class == "commodity" and letters.startswith(_METALS)
    if asset_class == "crypto" or is_metal:
        return _signed(home, "currency", -1)
    if asset_class in _STOCKS:
        return _signed(home, "stocks", 1)
    return _signed(home, "bonds", 1) if asset_class == "rates" else {}


def _signed(currency: str, kind: str, factor: int) -> dict[tuple[str, str], int]:
    return {(currency, group): factor * sign for group, sign in SIGNS[kind].items()}


def _chosen(
    predictions: pa.Table,
    panel: AlignedPanel,
    model: str,
    *,
    is_contaminated_kept: bool,
) -> pa.Table:
    paths = {"samples", "quantiles"} & set(predictions.column_names)
    rows = checked_predictions(predictions.drop(sorted(paths)))
    for name in ("known_ts", "generated_at"):
        if name not in predictions.column_names:
            raise BacktestError(f"forecasts of {model}: column missing: {name}")
        rows = rows.append_column(name, predictions[name])
    wanted = pc.and_(
        pc.equal(rows["timeframe"], panel.timeframe),
        pc.equal(rows["model_name"], model),
    )
    symbols = pa.array(panel.symbols, type=rows["symbol"].type)
    wanted = pc.and_(wanted, pc.is_in(rows["symbol"], value_set=symbols))
    if not is_contaminated_kept:
        wanted = pc.and_(wanted, pc.invert(rows["is_contaminated"]))
    return rows.filter(wanted).combine_chunks()


def _by_symbol(rows: pa.Table, horizon: int) -> dict[str, _Forecasts]:
    # Forecasts that reach the horizon, by symbol, the one that counts last.
    if rows.num_rows == 0:
        return {}
    asked = unfold(rows, (horizon,))
    last_close = rows["last_close"].to_numpy()[asked.row]
    known = np.maximum(times(rows["as_of"]), times(rows["known_ts"]))[asked.row]
    order = np.lexsort(
        (
            _words(rows, "prediction_id")[asked.row],
            times(rows["generated_at"])[asked.row],
            times(rows["as_of"])[asked.row],
            known,
        )
    )
    symbol = _words(rows, "symbol")[asked.row][order]
    known, target = known[order], asked.target_ts[order]
    p10, p50, p90 = (asked.bands[order] / last_close[order, None]).T
    width = np.where(p90 > p10, p90 - p10, np.nan)
    return {
        str(name): _Forecasts(known[own], target[own], p50[own] - 1.0, width[own])
        for name in np.unique(symbol)
        for own in [np.flatnonzero(symbol == name)]
    }


def _macro(every: Releases) -> dict[tuple[str, str], list[Figures]]:
    # Figures by currency and group.
    found: dict[tuple[str, str], list[Figures]] = {}
    for kind, group in GROUPS.items():
        for currency in sorted(set(every.currency[every.of(kind)])):
            figures = _merged(every, every.of(kind, currency=currency))
            found.setdefault((currency, group), []).append(figures)
    return found


def _merged(every: Releases, chosen: BoolArray) -> Figures:
    # Each name is compared with its own past; names of one moment become their mean.
    names = sorted(set(every.event[chosen]))
    parts = [every.surprises(chosen & _is(every.event, name)) for name in names]
    empty = np.zeros(0, dtype="datetime64[us]")
    known = np.concatenate([empty, *(part.known for part in parts)])
    value = np.concatenate([np.zeros(0), *(part.value for part in parts)])
    moments, place = np.unique(known, return_inverse=True)
    count = np.bincount(place, minlength=len(moments))
    total = np.bincount(place, weights=value, minlength=len(moments))
    return Figures(moments, total / np.maximum(count, 1))


def _on_rows(found: list[Figures], panel: AlignedPanel) -> FloatArray:
    # Sum of the figures that became known after each row's before and by the row; by
    # the first row only those of the bar before it.
    rows = np.zeros(panel.n_obs)
    if panel.n_obs == 0:
        return rows
    begin = panel.known_ts[0] - step(panel.timeframe)
    for known, value in found:
        row = np.searchsorted(panel.known_ts, known)
        is_inside = (row < panel.n_obs) & (known > begin)
        np.add.at(rows, row[is_inside], value[is_inside])
    return rows


def _words(rows: pa.Table, name: str) -> AnyArray:
    return np.array(rows[name].to_pylist(), dtype=str)


def _is(words: AnyArray, word: str) -> BoolArray:
    return np.asarray(words == word, dtype=np.bool_)
