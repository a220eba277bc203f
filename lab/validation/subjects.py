"""The real things that the leak checker asks: sleeves, features, labels, the engine.

Sleeves come from their catalogue and features from their modules, so one that is added
later is checked without a change here. Every subject answers with the moment at which
its rows claim to be known; the checker holds them to it.
"""

import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import AnyArray, FloatArray, IntArray, TimeArray
from lab.backtest.panel import AlignedPanel, adjusted_closes, bar_returns
from lab.bars.calendars import bars_per_year, known_ts
from lab.bars.panel import Panel, instruments_by_symbol
from lab.bars.resample import daily_bars
from lab.bars.targets import forecast_targets
from lab.bars.timeframes import step, to_moment
from lab.errors import SleeveError
from lab.features.events import CHANNELS, LEADERS, EventEncoder
from lab.features.regime import STATES, RegimePlan, call_regimes
from lab.features.releases import Releases
from lab.scoring.outcomes import outcomes
from lab.sleeves._base import Sleeve
from lab.sleeves.catalogue import sleeves
from lab.validation.forecast_subjects import ensemble_features, scores
from lab.validation.leaks import Answers, FillRule, Subject
from lab.validation.markets import Market, moments
from lab.validation.planted import panel_answers

_FEW: Final = 400
_REGIMES: Final = RegimePlan(min_returns=120, window=250, refit=60)
_EVERY: Final = 17
_WALKED: Final = "moving-average-cross"
_STANDS_FOR: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"BTC": ("BTC", "BTCUSDT", "BTCUSD"), "SPY": ("SPY", "US500", "SP500")}
)
_DAY: Final = np.timedelta64(1, "D").astype("timedelta64[us]")


@dataclass(frozen=True)
class OfPanel:
    """A subject made of the aligned bars alone.

    Attributes
    ----------
    name, timeframe : str
        As in `Subject`.
    work : callable
        From the panel to an array of shape (n_obs, n_assets).
    """

    name: str
    timeframe: str
    work: Callable[[AlignedPanel], FloatArray]

    def answers(self, market: Market, as_of: np.datetime64) -> Answers:
        """Answer for every bar."""
        panel = market.panel(self.timeframe, as_of)
        return panel_answers(panel, self.work(panel))


@dataclass(frozen=True)
class OfMarket:
    """A subject made of tables.

    Attributes
    ----------
    name, timeframe : str
        As in `Subject`.
    work : callable
        From market, timeframe and decision time to answers.
    """

    name: str
    timeframe: str
    work: Callable[[Market, str, np.datetime64], Answers]

    def answers(self, market: Market, as_of: np.datetime64) -> Answers:
        """Answer for every row."""
        return self.work(market, self.timeframe, as_of)


@dataclass(frozen=True)
class EngineFill:
    """The engine's own fills, for `check_fill`.

    Attributes
    ----------
    fill : str
        As in `lab.backtest.engine.Fill`.
    """

    fill: str

    @property
    def name(self) -> str:
        """What it is called in reports."""
        return f"engine: {self.fill}"

    def earned(self, panel: AlignedPanel, weights: FloatArray) -> FloatArray:
        """Return the book's gross return of each row."""
        from lab.backtest.engine import Fill, simulate

        return simulate(panel, weights, fill=Fill(self.fill)).gross[:, 0]


def real_subjects(timeframe: str, models: Collection[str]) -> list[Subject]:
    """Return everything that is checked on bars of one timeframe.

    Parameters
    ----------
    timeframe : str
        `1h` or `1d`.
    models : collection of str
        Whose forecasts the market has; followers of others are left out.
    """
    found: list[Subject] = [*sleeve_subjects(timeframe, models)]
    found += [
        OfPanel("panel: bar returns", timeframe, bar_returns),
        OfPanel("panel: adjusted closes", timeframe, adjusted_closes),
        OfPanel("panel: surprises", timeframe, lambda panel: panel.surprises),
        OfPanel("engine: returns", timeframe, _engine_returns),
        OfMarket("feature: event channels", timeframe, _channels),
        OfMarket("feature: events ahead", timeframe, _events_ahead),
        OfMarket("feature: bars per year", timeframe, _yearly_bars),
        OfMarket("label: forecast targets", timeframe, _targets),
        OfMarket("label: outcomes", timeframe, _outcomes),
    ]
    if models:
        found += [
            OfMarket("label: forecast scores", timeframe, scores),
            OfMarket("feature: ensemble features", timeframe, ensemble_features),
        ]
    if timeframe == "1d":
        found += [
            OfMarket("feature: release surprises", timeframe, _surprises),
            OfMarket("feature: regimes", timeframe, _regimes),
            OfMarket(f"walk-forward: returns of {_WALKED}", timeframe, _walked),
        ]
        found += _forecast_subjects(models)
    else:
        found.append(OfMarket("feature: daily bars from hours", timeframe, _days))
    return found


def engine_fills() -> list[FillRule]:
    """Return the engine's fills that a sleeve may be judged by."""
    return [EngineFill("next_open"), EngineFill("next_close")]


def sleeve_subjects(timeframe: str, models: Collection[str]) -> list[Subject]:
    """Return every sleeve of the catalogue: default, another variant, and a quick one.

    The quick one has the shortest memory that makes sense: it speaks on markets that
    are too short for the others.
    """
    found: list[Subject] = []
    for name, kind in sleeves().items():
        if timeframe not in kind.timeframes or (
            kind.needs and kind.needs not in models
        ):
            continue
        default = kind.from_parameters({})
        others = [one for one in kind.variants() if one != default]
        # Any other will do; which one depends on the name alone.
        picks = others[zlib.crc32(name.encode()) % len(others) :][:1] if others else []
        found += [
            OfPanel(f"sleeve: {name} {_short(one)}".strip(), timeframe, one.positions)
            for one in dict.fromkeys((default, *picks, *_quick(kind)))
        ]
    return found


def _quick(kind: type[Sleeve]) -> tuple[Sleeve, ...]:
    parameters = {}
    for each in fields(kind):
        if isinstance(each.default, int) and "low" in each.metadata:
            least = min(each.metadata["tried"]) // 8
            parameters[each.name] = int(max(each.metadata["low"], least))
    try:
        return (kind.from_parameters(parameters),)
    except SleeveError:
        return ()


def _short(sleeve: Sleeve) -> str:
    return " ".join(f"{name}={value}" for name, value in sleeve.parameters.items())


def _forecast_subjects(models: Collection[str]) -> list[Subject]:
    def grid(field: str, model: str) -> Callable[[AlignedPanel], FloatArray]:
        def work(panel: AlignedPanel) -> FloatArray:
            values: FloatArray = getattr(panel.forecasts[model], field)
            return values

        return work

    return [
        OfPanel(f"panel: {model} forecast {field}", "1d", grid(field, model))
        for model in sorted(models)
        for field in ("move", "width")
    ]


def _engine_returns(panel: AlignedPanel) -> FloatArray:
    from lab.backtest.engine import Fill, simulate

    # Weights that turn with the calendar, not with prices: only the engine can leak.
    turn = np.sin(np.arange(panel.n_obs)[:, None] / 3.0)
    spread = np.array([zlib.crc32(name.encode()) % 7 - 3 for name in panel.symbols])
    # The same for an instrument whatever stands beside it: small, for a thousand fit.
    weights = np.sign(turn) * spread * panel.has_bar / 3000.0
    done = simulate(panel, weights, fill=Fill.NEXT_OPEN, is_by_asset=True)
    if done.asset_gross is None:
        return np.full(panel.close.shape, np.nan)
    return np.where(panel.has_bar, done.asset_gross, np.nan)


def _encoder(market: Market, timeframe: str) -> EventEncoder:
    bars = market.series("1d")
    usable = bars if bars.series else market.series(timeframe)
    leaders = {
        str(name): usable.series[name] for name in LEADERS if name in usable.series
    }
    return EventEncoder(market.releases, leaders)


def _channels(market: Market, timeframe: str, as_of: np.datetime64) -> Answers:
    encoder = _encoder(market, timeframe)
    bars = market.series(timeframe)
    parts = []
    for symbol in _few_symbols(bars):
        ts = bars.series[symbol].ts[: _n_known(bars, symbol, as_of)]
        if len(ts) == 0:
            continue
        calendar = bars.series[symbol].calendar
        encoded = encoder.history(
            ts, timeframe=timeframe, calendar=calendar, symbol=symbol
        )
        parts.append((symbol, ts, encoded.rows.end, encoded.tensor))
    return _joined(parts, CHANNELS)


def _events_ahead(market: Market, timeframe: str, as_of: np.datetime64) -> Answers:
    # What a forecast is told of the bars ahead, on some rows: known at that row's close.
    encoder = _encoder(market, timeframe)
    bars = market.series(timeframe)
    parts = []
    for symbol in _few_symbols(bars)[:2]:
        series, known = bars.series[symbol], bars.known[symbol]
        n_known = _n_known(bars, symbol, as_of)
        for row in _sampled(series.ts[:n_known], timeframe, first=40):
            ahead = forecast_targets(
                series.ts[: row + 1],
                as_of=known[row],
                horizon=5,
                timeframe=timeframe,
                calendar=series.calendar,
            ).target_ts
            tensor = encoder.encode(
                np.concatenate([series.ts[row - 2 : row + 1], ahead]),
                as_of=known[row],
                timeframe=timeframe,
                calendar=series.calendar,
                symbol=symbol,
            )
            flat = tensor[-len(ahead) :].reshape(1, -1)
            parts.append((symbol, series.ts[[row]], known[[row]], flat))
    return _joined(parts, tuple(f"{n}+{k}" for k in range(5) for n in CHANNELS))


def _yearly_bars(market: Market, timeframe: str, as_of: np.datetime64) -> Answers:
    bars = market.series(timeframe)
    parts = []
    for symbol in _few_symbols(bars):
        n_known = _n_known(bars, symbol, as_of)
        ts = bars.series[symbol].ts
        if n_known:
            values = bars_per_year(ts, ts[:n_known])[:, None]
            parts.append((symbol, ts[:n_known], bars.known[symbol][:n_known], values))
    return _joined(parts, ("bars_per_year",))


def _targets(market: Market, timeframe: str, as_of: np.datetime64) -> Answers:
    bars = market.series(timeframe)
    parts = []
    for symbol in _few_symbols(bars):
        series, known = bars.series[symbol], bars.known[symbol]
        n_known = _n_known(bars, symbol, as_of)
        for row in _sampled(series.ts[:n_known], timeframe, first=5):
            found = forecast_targets(
                series.ts[: row + 1],
                as_of=known[row],
                horizon=10,
                timeframe=timeframe,
                calendar=series.calendar,
            )
            path = found.target_ts.astype(np.int64).astype(np.float64)[None, :]
            parts.append((symbol, series.ts[[row]], known[[row]], path))
    return _joined(parts, tuple(f"target_{k + 1}" for k in range(10)))


def _outcomes(market: Market, timeframe: str, as_of: np.datetime64) -> Answers:
    bars = market.series(timeframe)
    names, last, targets, decided = [], [], [], []
    for symbol in _few_symbols(bars):
        n_known = _n_known(bars, symbol, as_of)
        ts, known = bars.series[symbol].ts[:n_known], bars.known[symbol][:n_known]
        for ahead in (1, 5):
            rows = _sampled(ts[: max(0, len(ts) - ahead)], timeframe, first=5)
            names.append(np.full(len(rows), symbol))
            last.append(ts[rows])
            decided.append(known[rows])
            targets.append(ts[rows + ahead])
    if not names:
        return _joined([], _OUTCOMES)
    symbols, target = np.concatenate(names), np.concatenate(targets)
    found = outcomes(
        symbols.astype(object),
        as_of=np.concatenate(decided),
        last_ts=np.concatenate(last),
        target_ts=target,
        ohlcv=market.ohlcv,
        instruments=market.instruments,
        timeframe=timeframe,
        now=to_moment(as_of),
    )
    values = np.stack(
        [found.actual, found.scale, found.yearly_bars, found.is_early, found.is_split],
        axis=1,
    ).astype(np.float64)
    pairs = np.char.add(
        np.char.add(symbols.astype(str), " from "),
        np.datetime_as_string(np.concatenate(last), unit="h"),
    )
    return Answers(pairs, target, found.known, values, _OUTCOMES)


_OUTCOMES: Final = ("actual", "scale", "yearly_bars", "is_early", "is_split")


def _surprises(market: Market, _timeframe: str, as_of: np.datetime64) -> Answers:
    every = Releases.from_table(market.releases)
    parts = []
    for kind in ("cpi", "nfp", "fomc"):
        for name, figures in (
            ("z", every.surprises(every.of(kind))),
            ("steps", every.rate_changes(every.of(kind))),
        ):
            is_known = figures.known <= as_of
            known, value = figures.known[is_known], figures.value[is_known]
            parts.append((f"{kind} {name}", known, known, value[:, None]))
    return _joined(parts, ("figure",))


def _regimes(market: Market, timeframe: str, as_of: np.datetime64) -> Answers:
    bars = market.series(timeframe)
    symbol = _reference(bars)
    series = bars.series[symbol]
    n_known = min(_n_known(bars, symbol, as_of), _FEW)
    returns = np.diff(np.log(series.close[:n_known]))
    returns = np.where(series.is_break[1:n_known], 0.0, returns)
    if len(returns) == 0:
        return _joined([], STATES)
    probabilities = call_regimes(returns, plan=_REGIMES)
    ts = series.ts[1:n_known]
    return _joined([(symbol, ts, bars.known[symbol][1:n_known], probabilities)], STATES)


def _reference(bars: Panel) -> str:
    names = [n for n in sorted(bars.series) if not bars.instruments[n].is_leader]
    preferred = [n for n in ("SPY", "US500", "SP500") if n in names]
    return (preferred or names)[0]


def _walked(market: Market, timeframe: str, as_of: np.datetime64) -> Answers:
    # Parameters chosen by the walk-forward itself: no test day may choose for another.
    # Before costs: the engine books the cost of selling a delisted instrument on its
    # last bar, which only later is known to have been the last.
    from lab.backtest.walkforward import WalkForwardPlan, walk_forward

    kind = sleeves()[_WALKED]
    panel = market.panel(timeframe, as_of)
    panel = panel.part(slice(0, min(panel.n_obs, 2 * _FEW)))
    plan = WalkForwardPlan(60, 15, years=60, slippages_bps=(0.0,))
    walk = walk_forward(panel, kind.variants(), plan)
    days = walk.calendar.days
    row = np.searchsorted(panel.ts, days + _DAY) - 1
    return Answers(
        np.full(len(days), "book"),
        days,
        panel.known_ts[row],
        walk.net,
        tuple(f"net at {bps:g} bps" for bps in walk.slippages_bps),
    )


def _days(market: Market, timeframe: str, as_of: np.datetime64) -> Answers:
    instruments = instruments_by_symbol(market.instruments)
    hourly = market.ohlcv.filter(pc.equal(market.ohlcv["timeframe"], timeframe))
    parts = []
    for symbol in _few_symbols(market.series(timeframe)):
        calendar = instruments[symbol].calendar
        rows = hourly.filter(pc.equal(hourly["symbol"], symbol))
        days = daily_bars(rows, calendar=calendar, as_of=to_moment(as_of))
        ts = moments(days, "ts")
        known = known_ts(ts, timeframe="1d", calendar=calendar)
        values = np.stack(
            [days[name].cast(pa.float64()).to_numpy() for name in _PRICES], axis=1
        )
        parts.append((symbol, ts, known, values))
    return _joined(parts, _PRICES)


_PRICES: Final = ("open", "high", "low", "close", "volume")


def _few_symbols(bars: Panel) -> list[str]:
    # One a calendar and one more: the code is the same for all of a calendar.
    names = [n for n in sorted(bars.series) if not bars.instruments[n].is_leader]
    first = {bars.instruments[name].calendar: name for name in reversed(names)}
    return sorted({*first.values(), *names[-1:]})


def _sampled(ts: TimeArray, timeframe: str, *, first: int) -> IntArray:
    # About every 14th row, by its date and not by its place in what happens to be there.
    number = ts.astype(np.int64) // step(timeframe).astype("timedelta64[us]").astype(
        int
    )
    rows = np.flatnonzero(number % _EVERY == 0)
    return rows[rows >= first]


def _n_known(bars: Panel, symbol: str, as_of: np.datetime64) -> int:
    return int(np.searchsorted(bars.known[symbol], as_of, side="right"))


_Part = tuple[str, TimeArray, TimeArray, AnyArray]


def _joined(parts: Sequence[_Part], columns: tuple[str, ...]) -> Answers:
    if not parts:
        empty = np.zeros(0, "datetime64[us]")
        return Answers(
            np.zeros(0, dtype=str), empty, empty, np.zeros((0, len(columns))), columns
        )
    names = [np.full(len(part[1]), part[0]) for part in parts]
    return Answers(
        np.concatenate(names),
        np.concatenate([part[1] for part in parts]),
        np.concatenate([part[2] for part in parts]),
        np.concatenate([np.asarray(part[3], np.float64) for part in parts]),
        columns,
    )
