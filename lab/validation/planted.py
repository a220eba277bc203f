"""Planted leaks and their honest twins: what the leak checker is graded on.

Each leak is a small real implementation of a mistake that is made in earnest; its twin
does the same work with what was known. Parameters are drawn, so a dozen variants of each
are a dozen different programs. Some twins look suspicious and are not: a window centred
and then shown late, a scaler fitted on the first rows and used after, an expanding rank.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import AnyArray, BoolArray, FloatArray, TimeArray
from lab.backtest.panel import AlignedPanel, bar_returns
from lab.bars.panel import Panel
from lab.validation.leaks import Answers, Subject
from lab.validation.markets import END, Market, moments

_WINDOWS: Final[Mapping[str, Callable[..., FloatArray]]] = MappingProxyType(
    {"mean": np.mean, "median": np.median, "deviation": np.std, "highest": np.max}
)
_SCALERS: Final = ("z-score", "range", "rank", "quantiles", "component")
_CHOICES: Final = ("still listed", "still trading", "long history", "most traded")
_JOINS: Final = ("forward return", "other market", "settled label", "figure of the day")
_REFIT: Final = 5
_DAY: Final = np.timedelta64(1, "D").astype("timedelta64[us]")
_FIELDS: Final = ("close", "volume", "return")


@dataclass(frozen=True)
class Planted:
    """A subject of the panel's rows whose values one function works out.

    Attributes
    ----------
    name, timeframe : str
        As in `Subject`.
    work : callable
        From market and decision time to answers.
    """

    name: str
    work: Callable[[Market, np.datetime64], Answers]
    timeframe: str = "1d"

    def answers(self, market: Market, as_of: np.datetime64) -> Answers:
        """Answer for every row."""
        return self.work(market, as_of)


@dataclass(frozen=True)
class PlantedFill:
    """A rule that fills decisions `lag` of the instrument's bars later, at some price.

    Attributes
    ----------
    name : str
        As in `FillRule`.
    lag : int, bars
        0 fills on the bar that was decided on: the leak.
    price : str
        `open`, `close`, `typical`, or `better`: the better of open and close.
    """

    name: str
    lag: int
    price: str

    def earned(self, panel: AlignedPanel, weights: FloatArray) -> FloatArray:
        """Return each row's return, marked at closes."""
        total = np.zeros(panel.n_obs)
        for column in range(panel.n_assets):
            rows = np.flatnonzero(panel.has_bar[:, column])
            wanted = weights[rows, column]
            target = np.concatenate([np.zeros(self.lag), wanted])[: len(rows)]
            held = np.concatenate([[0.0], target[:-1]])
            close = panel.close[rows, column]
            before = np.concatenate([close[:1], close[:-1]])
            fill = self._fill(panel, rows, column, target - held)
            total[rows] += held * (fill - before) / before
            total[rows] += target * (close - fill) / fill
        return total

    def _fill(
        self, panel: AlignedPanel, rows: AnyArray, column: int, change: FloatArray
    ) -> FloatArray:
        opened, close = panel.open[rows, column], panel.close[rows, column]
        better = np.where(change > 0, np.minimum(opened, close), opened)
        prices = {
            "open": opened,
            "close": close,
            "better": np.where(change < 0, np.maximum(opened, close), better),
            "typical": (panel.high[rows, column] + panel.low[rows, column] + close) / 3,
        }
        return np.asarray(prices[self.price])


def panel_answers(
    panel: AlignedPanel, values: FloatArray, *, column: str = "value"
) -> Answers:
    """Return an answer for each bar, and for each later row that holds a number.

    What is said of an instrument before its first bar is no answer: nobody could act on
    it, and a market cut before that bar does not list the instrument.

    Parameters
    ----------
    panel : AlignedPanel
        Rows and instruments.
    values : ndarray of shape (n_obs, n_assets), float64
        What is said.
    column : str
        Its name.
    """
    is_listed = np.maximum.accumulate(panel.has_bar, axis=0)
    says = panel.has_bar | (is_listed & (np.nan_to_num(values) != 0.0))
    rows, assets = np.nonzero(says)
    names = np.array(panel.symbols, dtype=str)
    return Answers(
        names[assets],
        panel.ts[rows],
        panel.known_ts[rows],
        values[rows, assets][:, None],
        (column,),
    )


def plant(
    kind: str, *, is_leak: bool, rng: np.random.Generator
) -> Subject | PlantedFill:
    """Return one planted leak of a kind in `KINDS`, or its honest twin."""
    return _MAKERS[kind](is_leak, rng)


def _window(is_leak: bool, rng: np.random.Generator) -> Planted:  # noqa: FBT001
    ahead, back = int(rng.integers(1, 16)), int(rng.integers(0, 16))
    statistic = str(rng.choice(list(_WINDOWS)))
    field = str(rng.choice(_FIELDS))
    is_late = bool(rng.random() < 0.5)

    def work(market: Market, as_of: np.datetime64) -> Answers:
        panel = market.panel("1d", as_of)
        source = _source(panel, field)
        size = ahead + back + 1
        ends = np.full(source.shape, np.nan)
        if panel.n_obs >= size:
            windows = np.lib.stride_tricks.sliding_window_view(source, size, axis=0)
            ends[size - 1 :] = _WINDOWS[statistic](windows, axis=-1)
        # A trailing window's value belongs to its last row; moved back it is centred.
        moved = np.full(source.shape, np.nan)
        if is_leak:
            moved[:-ahead] = ends[ahead:]
        elif is_late:
            moved[ahead:] = ends[:-ahead]
        else:
            moved = ends
        return panel_answers(panel, moved)

    word = "centred" if is_leak else ("centred, shown late" if is_late else "trailing")
    return Planted(f"{word} {statistic} of {field}, {back} back {ahead} ahead", work)


def _scaler(is_leak: bool, rng: np.random.Generator) -> Planted:  # noqa: FBT001
    how = str(rng.choice(_SCALERS))
    field = str(rng.choice(_FIELDS))
    fitted = int(rng.integers(60, 150))
    is_expanding = bool(rng.random() < 0.5)

    def work(market: Market, as_of: np.datetime64) -> Answers:
        panel = market.panel("1d", as_of)
        source = _source(panel, field)
        scaled = np.full(source.shape, np.nan)
        if is_leak:
            scaled = _scale(source, source, how)
        elif is_expanding:
            for row in range(20, len(source), _REFIT):
                applied = source[row : row + _REFIT]
                scaled[row : row + _REFIT] = _scale(source[: row + 1], applied, how)
        else:
            scaled[fitted:] = _scale(source[:fitted], source[fitted:], how)
        return panel_answers(panel, scaled)

    word = (
        "full-sample" if is_leak else "expanding" if is_expanding else f"first {fitted}"
    )
    return Planted(f"{word} {how} of {field}", work)


def _scale(sample: FloatArray, values: FloatArray, how: str) -> FloatArray:
    # NaN-aware statistics of the sample's columns, applied to the values.
    with np.errstate(all="ignore"):
        seen = np.isfinite(sample)
        n = np.maximum(seen.sum(axis=0), 1)
        filled = np.where(seen, sample, 0.0)
        mean = filled.sum(axis=0) / n
        spread = np.sqrt(np.where(seen, (sample - mean) ** 2, 0.0).sum(axis=0) / n)
        if how == "z-score":
            return np.asarray((values - mean) / spread)
        if how == "range":
            low = np.where(seen, sample, np.inf).min(axis=0)
            high = np.where(seen, sample, -np.inf).max(axis=0)
            return np.asarray((values - low) / (high - low))
        if how == "component":
            weights = (spread / n) * mean
            return np.asarray((values - mean) * weights / np.abs(weights).max())
    scaled = np.full(values.shape, np.nan)
    for column in range(sample.shape[1]):
        ordered = np.sort(sample[seen[:, column], column])
        if len(ordered) < 5:
            continue
        if how == "rank":
            scaled[:, column] = np.searchsorted(ordered, values[:, column]) / len(
                ordered
            )
        else:
            low, high = np.quantile(ordered, [0.05, 0.95])
            scaled[:, column] = (np.clip(values[:, column], low, high) - low) / (
                high - low
            )
    return np.where(np.isfinite(values), scaled, np.nan)


def _fill(is_leak: bool, rng: np.random.Generator) -> PlantedFill:  # noqa: FBT001
    lag = 0 if is_leak else int(rng.integers(1, 4))
    price = str(rng.choice(["open", "close", "typical", "better"]))
    word = "the bar decided on" if is_leak else f"bar {lag} after"
    return PlantedFill(f"filled at {price} of {word}", lag, price)


def _calendar(is_leak: bool, rng: np.random.Generator) -> Planted:  # noqa: FBT001
    mistake = str(rng.choice(["revised", "before it was known", "before the release"]))
    depth = int(rng.integers(1, 6))
    days = int(rng.integers(2, 25))
    is_gap = bool(rng.random() < 0.5)

    def work(market: Market, as_of: np.datetime64) -> Answers:
        panel = market.panel("1d", as_of)
        columns = [
            _newest_figures(
                market, panel.known_ts, kind, when, depth=depth, is_gap=is_gap
            )
            for kind in ("cpi", "nfp", "fomc")
        ]
        values = np.stack(columns, axis=1)
        names = np.full(panel.n_obs, "macro")
        return Answers(names, panel.ts, panel.known_ts, values, ("cpi", "nfp", "fomc"))

    when = _When(mistake if is_leak else "", days)
    what = "surprise" if is_gap else "figure"
    word = f"{mistake} ({days} days)" if is_leak else "vintages by when they were known"
    return Planted(f"mean of the last {depth} {what}s, {word}", work)


@dataclass(frozen=True)
class _When:
    mistake: str
    days: int

    def usable(self, releases: pa.Table) -> TimeArray:
        """Return when the (mistaken) researcher thinks each figure was known."""
        if self.mistake == "before it was known":
            return moments(releases, "ts")
        known = moments(releases, "actual_known_ts")
        if self.mistake == "before the release":
            return np.asarray(known - self.days * _DAY)
        return known


def _newest_figures(
    market: Market,
    known: TimeArray,
    kind: str,
    when: _When,
    *,
    depth: int,
    is_gap: bool,
) -> FloatArray:
    releases = market.releases
    rows = releases.filter(
        pc.and_(pc.equal(releases["event_type"], kind), pc.is_valid(releases["actual"]))
    )
    usable = when.usable(rows)
    order = np.argsort(usable, kind="stable")
    usable = usable[order]
    ids = np.array(rows["event_id"].to_pylist(), dtype=str)[order]
    first = rows["actual"].to_numpy()[order]
    forecast = rows["forecast"].to_numpy()[order] if is_gap else np.zeros(len(order))
    restated = _Vintages(market.revisions)
    found = np.full(len(known), np.nan)
    limits = np.full_like(known, END) if when.mistake == "revised" else known
    stops = np.searchsorted(usable, known, side="right").tolist()
    for row, stop in enumerate(stops):
        if stop:
            span = slice(max(0, stop - depth), stop)
            limit = limits[row]
            values = restated.at(ids[span], first[span], limit)
            found[row] = np.mean(values - forecast[span])
    return found


class _Vintages:
    # Figures as they stood at a moment: the last revision known by then.
    def __init__(self, revisions: pa.Table) -> None:
        self._of: dict[str, list[tuple[int, float]]] = {}
        known = moments(revisions, "known_ts").astype(np.int64).tolist()
        ids, values = revisions["event_id"].to_pylist(), revisions["actual"].to_pylist()
        for name, value, moment in sorted(
            zip(ids, values, known, strict=True), key=lambda row: row[2]
        ):
            self._of.setdefault(name, []).append((moment, value))

    def at(self, ids: AnyArray, first: FloatArray, limit: np.datetime64) -> FloatArray:
        values, latest = first.copy(), int(limit.astype(np.int64))
        for place, name in enumerate(ids):
            for known, value in self._of.get(name, ()):
                if known <= latest:
                    values[place] = value
        return values


def _universe(is_leak: bool, rng: np.random.Generator) -> Planted:  # noqa: FBT001
    how = str(rng.choice(_CHOICES))
    lookback = int(rng.integers(5, 40))
    share = float(rng.uniform(0.82, 0.97))
    output = str(rng.choice(["average return", "demeaned momentum"]))

    def work(market: Market, as_of: np.datetime64) -> Answers:
        panel = market.panel("1d", as_of)
        if is_leak:
            members = np.broadcast_to(
                _survivors(market, panel, how, share), panel.close.shape
            )
        else:
            members = _members(panel, how, share, lookback)
        momentum = _momentum(panel, lookback)
        is_in = members & np.isfinite(momentum)
        n = np.maximum(is_in.sum(axis=1), 1)
        middle = np.where(is_in, momentum, 0.0).sum(axis=1) / n
        if output == "average return":
            names = np.full(panel.n_obs, "universe")
            return Answers(names, panel.ts, panel.known_ts, middle[:, None], (output,))
        return panel_answers(panel, np.where(is_in, momentum - middle[:, None], 0.0))

    word = "survivors" if is_leak else "members of the day"
    return Planted(f"{output} of {lookback} bars over {word}: {how}", work)


def _survivors(
    market: Market, panel: AlignedPanel, how: str, share: float
) -> BoolArray:
    if how == "still listed":
        listed_to = dict(
            zip(
                market.instruments["symbol"].to_pylist(),
                market.instruments["listed_to"].to_pylist(),
                strict=True,
            )
        )
        return np.array([listed_to[name] is None for name in panel.symbols])
    n_bars = panel.has_bar.sum(axis=0)
    if how == "long history":
        return np.asarray(n_bars >= share * n_bars.max())
    if how == "most traded":
        traded = np.nansum(panel.volume * panel.close, axis=0)
        return np.asarray(traded >= np.median(traded))
    return np.asarray(panel.has_bar[-30:].any(axis=0))


def _members(panel: AlignedPanel, how: str, share: float, lookback: int) -> BoolArray:
    has_bar = panel.has_bar
    if how == "long history":
        n_bars = np.cumsum(has_bar, axis=0)
        return np.asarray(n_bars >= share * n_bars.max(axis=1, keepdims=True))
    if how == "most traded":
        traded = np.cumsum(np.nan_to_num(panel.volume * panel.close), axis=0)
        # Zeros of instruments that are not listed yet take no part in the middle.
        ranked = np.where(traded > 0, traded, np.nan)
        known = np.isfinite(ranked).any(axis=1)
        middle = np.full(len(ranked), np.inf)
        middle[known] = np.nanmedian(ranked[known], axis=1)
        return np.asarray(traded >= middle[:, None])
    count = np.cumsum(has_bar, axis=0)
    before = np.zeros_like(count)
    before[lookback:] = count[:-lookback]
    return np.asarray(count > before)


def _momentum(panel: AlignedPanel, lookback: int) -> FloatArray:
    growth = np.cumsum(
        np.nan_to_num(np.log1p(np.nan_to_num(bar_returns(panel)))), axis=0
    )
    moved = np.full(growth.shape, np.nan)
    moved[lookback:] = growth[lookback:] - growth[:-lookback]
    has_begun = np.cumsum(panel.has_bar, axis=0) > 0
    return np.where(has_begun, moved, np.nan)


def _label(is_leak: bool, rng: np.random.Generator) -> Planted:  # noqa: FBT001
    join = str(rng.choice(_JOINS))
    horizon = int(rng.integers(1, 12))
    scale = float(rng.uniform(0.5, 2.0))

    def work(market: Market, as_of: np.datetime64) -> Answers:
        bars = market.series("1d")
        labels = _Labels.made(market, bars, join, horizon)
        parts = []
        for symbol in sorted(bars.series):
            if symbol in {"BTC", "ETH"}:
                continue
            known = bars.known[symbol]
            stop = int(np.searchsorted(known, as_of, side="right"))
            ts, known = bars.series[symbol].ts[:stop], known[:stop]
            values = scale * labels.at(symbol, ts, known, by_date=is_leak)
            parts.append((np.full(len(ts), symbol), ts, known, values[:, None]))
        name, ts, known, values = (
            np.concatenate([part[k] for part in parts]) for k in range(4)
        )
        return Answers(name, ts, known, values, (join,))

    word = "by date" if is_leak else "by when it was known"
    return Planted(f"label ({join}, {horizon} bars) joined {word}", work)


@dataclass(frozen=True)
class _Labels:
    # By symbol, or for all under "": date it is filed under, when known, and value.
    of: dict[str, tuple[TimeArray, TimeArray, FloatArray]]

    @classmethod
    def made(cls, market: Market, bars: Panel, join: str, horizon: int) -> "_Labels":
        if join == "figure of the day":
            rows = market.releases.filter(pc.is_valid(market.releases["actual"]))
            order = np.argsort(moments(rows, "actual_known_ts"), kind="stable")
            rows = rows.take(pa.array(order))
            date = moments(rows, "ts").astype("datetime64[D]").astype("datetime64[us]")
            value = rows["actual"].to_numpy()
            return cls({"": (date, moments(rows, "actual_known_ts"), value)})
        if join in {"other market", "settled label"}:
            series, known = bars.series["BTC"], bars.known["BTC"]
            lag = 1 if join == "other market" else horizon
            value = np.log(series.close[lag:] / series.close[:-lag])
            return cls({"": (series.ts[lag:], known[lag:], value)})
        return cls(
            {
                name: (
                    one.ts[:-horizon],
                    bars.known[name][horizon:],
                    np.log(one.close[horizon:] / one.close[:-horizon]),
                )
                for name, one in bars.series.items()
                if one.n_obs > horizon
            }
        )

    def at(
        self, symbol: str, ts: TimeArray, known: TimeArray, *, by_date: bool
    ) -> FloatArray:
        empty = (
            np.zeros(0, "datetime64[us]"),
            np.zeros(0, "datetime64[us]"),
            np.zeros(0),
        )
        date, stated, value = self.of.get("" if "" in self.of else symbol, empty)
        if len(value) == 0:
            return np.full(len(ts), np.nan)
        order = np.argsort(date, kind="stable")
        if by_date:
            place = np.searchsorted(date[order], ts, side="right") - 1
            values = value[order]
        else:
            place = np.searchsorted(stated, known, side="right") - 1
            values = value
        return np.where(place >= 0, values[np.maximum(place, 0)], np.nan)


def _source(panel: AlignedPanel, field: str) -> FloatArray:
    if field == "return":
        return bar_returns(panel)
    values: FloatArray = getattr(panel, field)
    return np.log(values)


_Maker = Callable[[bool, np.random.Generator], Subject | PlantedFill]
_MAKERS: Final[Mapping[str, _Maker]] = MappingProxyType(
    {
        "centred window": _window,
        "full-sample scaler": _scaler,
        "same-bar fill": _fill,
        "revised calendar value": _calendar,
        "survivor-only universe": _universe,
        "label joined by date": _label,
    }
)
KINDS: Final = tuple(_MAKERS)
"""Kinds of planted leaks."""
