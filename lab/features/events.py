"""The event tensor: scheduled releases, their surprises and the leading markets.

Twenty channels a row (`CHANNELS`), a row a bar. Rules:

- A bar answers for its stretch of time (`lab.features.bar_windows`), so what comes while
  a market is closed belongs to the first bar after.
- A row knows what was known when its bar ended, and never more than at `as_of`. A row
  after `as_of` therefore shows schedules announced by then, and no figure of later.
- `is_fomc` to `is_pce` mean releases of the United States, for every symbol. A rate
  decision counts if it is by the bank of one of the symbol's currencies; the Fed's
  always does. Minutes and speeches are no decision.
- A release that has only a date flags the daily bar of that date and nothing else.

Formulas:

- surprise: (actual - forecast) over the sample standard deviation of that gap in the 20
  releases before, at least 8, clipped to ±3; shown by the bar in which it came out.
- hawkish score: change of the target rate in basis points / 25, clipped to ±2.
- days to: sine and cosine of 2π·min(d, P)/P, d in days from the bar's open to the next
  announced release, P = 45 (FOMC) and 30 (CPI); both 0 if none is announced.
- leaders: log return of BTC, SPY and DXY, VIX in standard deviations of the 252 closes
  before (`lab.features.leaders`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

import numpy as np
import pyarrow as pa

from lab.arrays import AnyArray, IntArray, TimeArray
from lab.bars.series import Series
from lab.bars.timeframes import to_instant, to_moment
from lab.errors import FeatureError
from lab.features.bar_windows import BarWindows, bar_windows, calendar_starts
from lab.features.leaders import Leader
from lab.features.lookups import days_to, is_inside, newest_inside
from lab.features.releases import PRIMARY_NAMES, Occurrences, Releases

CHANNELS: Final = (
    "is_fomc",
    "is_cpi",
    "is_nfp",
    "is_gdp",
    "is_pce",
    "cpi_surprise_z",
    "fomc_hawkish_score",
    "nfp_surprise_z",
    "is_earnings",
    "is_rate_decision",
    "days_to_fomc_sin",
    "days_to_fomc_cos",
    "days_to_cpi_sin",
    "days_to_cpi_cos",
    "btc_log_return",
    "spy_log_return",
    "dxy_log_return",
    "vix_z",
    "reserved_18",
    "reserved_19",
)
N_PLACEHOLDER: Final = 10
LEADERS: Final = ("BTC", "SPY", "DXY", "VIX")
US_TYPES: Final = ("fomc", "cpi", "nfp", "gdp", "pce")
PERIODS: Final[Mapping[str, float]] = MappingProxyType({"fomc": 45.0, "cpi": 30.0})
HOME: Final = ("USD",)
_FIRST: Final = MappingProxyType({name: i for i, name in enumerate(CHANNELS)})


def placeholder(tensor: AnyArray) -> AnyArray:
    """Return the first 10 channels, the layout of models without the later ones.

    Parameters
    ----------
    tensor : ndarray of shape (n_rows, 20), float32
        One window, or several with leading axes.
    """
    return tensor[..., :N_PLACEHOLDER]


@dataclass(frozen=True, slots=True)
class EncodedHistory:
    """A symbol's rows, encoded once, from which training windows are cut.

    Attributes
    ----------
    encoder : EventEncoder
        What encoded them.
    rows : BarWindows
        The bars.
    starts : ndarray of shape (n_obs,), datetime64[us]
        Where each bar's stretch begins if there is no row before it.
    tensor : ndarray of shape (n_obs, 20), float32
        Each row as known at its own bar's end.
    flags : tuple of Occurrences
        What feeds the flags that depend on the symbol.
    timeframe : str
        Of the bars.
    """

    encoder: "EventEncoder"
    rows: BarWindows
    starts: TimeArray
    tensor: AnyArray
    flags: "SymbolReleases"
    timeframe: str

    def windows(self, last: IntArray, *, context: int, horizon: int) -> AnyArray:
        """Cut windows of `context` known bars and the `horizon` bars after them.

        Parameters
        ----------
        last : ndarray of shape (n_windows,), int64
            Row of each window's last known bar; its end is the window's `as_of`.
        context, horizon : int, bars
            Length of the two parts; `horizon` may be 0.

        Returns
        -------
        ndarray of shape (n_windows, context + horizon, 20), float32
            Equal to `EventEncoder.encode` on each window's bars at its `as_of`.

        Raises
        ------
        FeatureError
            If a window reaches beyond the rows.

        Notes
        -----
        Point in time: the rows after `last` know what was known at its bar's end.
        """
        n_obs = len(self.rows.ts)
        lowest, highest = context - 1, n_obs - 1 - horizon
        if context < 1 or horizon < 0 or len(last) == 0:
            raise FeatureError(
                "event windows: need context >= 1, horizon >= 0, a window"
            )
        if int(last.min()) < lowest or int(last.max()) > highest:
            raise FeatureError(
                f"event windows: last rows must lie in [{lowest}, {highest}]"
                f" of {n_obs} rows; found [{last.min()}, {last.max()}]"
            )
        places = last[:, None] + np.arange(1 - context, horizon + 1)
        tensor = np.asarray(self.tensor[places])
        ahead = places[:, context:].ravel()
        rows = BarWindows(*(column[ahead] for column in self.rows))
        as_of = np.repeat(self.rows.end[last], horizon)
        future = self.encoder.encode_rows(
            rows, np.minimum(rows.end, as_of), self.flags, timeframe=self.timeframe
        )
        tensor[:, context:] = future.reshape(len(last), horizon, len(CHANNELS))
        tensor[:, 0] = self._alone(places[:, 0])
        return tensor

    def _alone(self, places: IntArray) -> AnyArray:
        # A window's first row has no row before it that its stretch could reach back to.
        rows = BarWindows(
            self.rows.ts[places], self.starts[places], self.rows.end[places]
        )
        return self.encoder.encode_rows(
            rows, rows.end, self.flags, timeframe=self.timeframe
        )


@dataclass(frozen=True, slots=True)
class SymbolReleases:
    """What feeds the channels that depend on the symbol.

    Attributes
    ----------
    decisions : tuple of Occurrences
        Rate decisions of its currencies' banks, and the Fed's.
    earnings : Occurrences
        Its company's reports.
    """

    decisions: tuple[Occurrences, ...]
    earnings: Occurrences


class EventEncoder:
    """Encodes bars of any symbol; made once from all releases and leaders.

    Parameters
    ----------
    releases : pyarrow.Table
        Rows of `economic_calendar`, later ones included: rows see what they may know.
    leaders : mapping of str to Series
        Bars of `BTC`, `SPY`, `DXY` and `VIX`, or of those there are, later ones included;
        daily or of the rows' timeframe.
    currencies : mapping of str to sequence of str, optional
        By symbol, whose rate decisions count; the dollar's for any other symbol.
    primary : mapping of str to str
        By type, a pattern of the names whose figures count.

    Raises
    ------
    FeatureError
        If a column is missing, a leader is unknown or its closes are not positive.

    Notes
    -----
    Point in time: a row is unchanged by whatever became known after its bar's end or
    after `as_of`. Instances are not changed by use; threads may share one.
    """

    def __init__(
        self,
        releases: pa.Table,
        leaders: Mapping[str, Series],
        *,
        currencies: Mapping[str, Sequence[str]] | None = None,
        primary: Mapping[str, str] = PRIMARY_NAMES,
    ) -> None:
        unknown = sorted(set(leaders) - set(LEADERS))
        if unknown:
            raise FeatureError(
                f"leader {unknown[0]!r}: allowed are {', '.join(LEADERS)}"
            )
        self._releases = Releases.from_table(releases)
        self._currencies = {key: tuple(one) for key, one in (currencies or {}).items()}
        self._leaders = {
            name: (Leader.levels if name == "VIX" else Leader.returns)(leaders[name])
            for name in LEADERS
            if name in leaders
        }
        all_of, of = self._releases, self._releases.of
        home = {kind: of(kind, currency=HOME[0]) for kind in US_TYPES}
        self._flags = {
            is_timed: {
                kind: all_of.occurrences(chosen & (all_of.is_timed | (not is_timed)))
                for kind, chosen in home.items()
            }
            for is_timed in (True, False)
        }
        main = {
            kind: home[kind] & all_of.named(pattern)
            for kind, pattern in primary.items()
            if kind in US_TYPES
        }
        none = np.zeros(len(all_of.ts), dtype=np.bool_)
        self._fed = main.get("fomc", none)
        self._figures = {
            "cpi_surprise_z": all_of.surprises(main.get("cpi", none)),
            "fomc_hawkish_score": all_of.rate_changes(self._fed),
            "nfp_surprise_z": all_of.surprises(main.get("nfp", none)),
        }

    def encode(
        self,
        ts: TimeArray,
        *,
        as_of: datetime | np.datetime64,
        timeframe: str,
        calendar: str,
        symbol: str | None = None,
        currencies: Sequence[str] | None = None,
    ) -> AnyArray:
        """Encode bars.

        Parameters
        ----------
        ts : ndarray of shape (n_rows,), datetime64[us]
            Opens: the bars of the context, then the bars to forecast.
        as_of : datetime or datetime64
            Decision time, UTC.
        timeframe, calendar : str
            Of the symbol.
        symbol : str, optional
            Whose earnings and currencies count.
        currencies : sequence of str, optional
            Whose rate decisions count beside the Fed's; by the symbol if not given.

        Returns
        -------
        ndarray of shape (n_rows, 20), float32

        Raises
        ------
        BarsError
            If the calendar or the timeframe is unknown, or `as_of` has no time zone.

        Notes
        -----
        Point in time: row t knows what was known at the earlier of its bar's end and
        `as_of`.
        """
        rows = bar_windows(ts, timeframe=timeframe, calendar=calendar)
        knowledge = np.minimum(rows.end, to_instant(as_of))
        own = self.of_symbol(symbol, currencies, timeframe=timeframe)
        return self.encode_rows(rows, knowledge, own, timeframe=timeframe)

    def history(
        self,
        ts: TimeArray,
        *,
        timeframe: str,
        calendar: str,
        symbol: str | None = None,
        currencies: Sequence[str] | None = None,
    ) -> EncodedHistory:
        """Encode a long history once, to cut training windows from.

        Parameters
        ----------
        ts, timeframe, calendar, symbol, currencies
            As in `encode`.

        Notes
        -----
        Point in time: each row knows what was known when its bar ended.
        """
        rows = bar_windows(ts, timeframe=timeframe, calendar=calendar)
        own = self.of_symbol(symbol, currencies, timeframe=timeframe)
        tensor = self.encode_rows(rows, rows.end, own, timeframe=timeframe)
        starts = calendar_starts(rows.ts, timeframe=timeframe, calendar=calendar)
        return EncodedHistory(self, rows, starts, tensor, own, timeframe)

    def of_symbol(
        self, symbol: str | None, currencies: Sequence[str] | None, *, timeframe: str
    ) -> SymbolReleases:
        """Return the releases that concern one symbol's own channels.

        Parameters
        ----------
        symbol, currencies, timeframe
            As in `encode`.
        """
        every = self._releases
        if currencies is None:
            currencies = self._currencies.get(symbol or "", HOME)
        usable = every.is_timed | (timeframe == "1d")
        chosen = [every.of("rate_decision", currency=code) for code in currencies]
        named = np.asarray(every.symbol == symbol, dtype=np.bool_)
        earnings = every.of("earnings") & named & (symbol is not None)
        return SymbolReleases(
            tuple(every.occurrences(one & usable) for one in (*chosen, self._fed)),
            every.occurrences(earnings & usable),
        )

    def encode_rows(
        self,
        rows: BarWindows,
        knowledge: TimeArray,
        own: SymbolReleases,
        *,
        timeframe: str,
    ) -> AnyArray:
        """Encode rows whose stretches and knowledge are worked out already.

        Parameters
        ----------
        rows : BarWindows of n_rows
            Stretches of time, any order.
        knowledge : ndarray of shape (n_rows,), datetime64[us]
            Until when each row knows.
        own : SymbolReleases
            By `of_symbol`.
        timeframe : str
            Of the bars.

        Returns
        -------
        ndarray of shape (n_rows, 20), float32
        """
        tensor = np.zeros((len(rows.ts), len(CHANNELS)), dtype=np.float32)
        if len(rows.ts) == 0:
            return tensor
        flags = self._flags[timeframe != "1d"]
        for kind in US_TYPES:
            tensor[:, _FIRST[f"is_{kind}"]] = is_inside(flags[kind], rows, knowledge)
        for name, figures in self._figures.items():
            tensor[:, _FIRST[name]] = newest_inside(figures, rows, knowledge)
        tensor[:, _FIRST["is_earnings"]] = is_inside(own.earnings, rows, knowledge)
        for decisions in own.decisions:
            is_decided = is_inside(decisions, rows, knowledge)
            tensor[is_decided, _FIRST["is_rate_decision"]] = 1.0
        for kind, period in PERIODS.items():
            first = _FIRST[f"days_to_{kind}_sin"]
            pair = days_to(self._flags[True][kind], rows, knowledge, period=period)
            tensor[:, first : first + 2] = pair
        for name, leader in self._leaders.items():
            channel = _FIRST["btc_log_return"] + LEADERS.index(name)
            tensor[:, channel] = leader.at(rows, knowledge)
        return tensor

    def context_json(
        self,
        ts: TimeArray,
        *,
        as_of: datetime | np.datetime64,
        timeframe: str,
        calendar: str,
        symbol: str | None = None,
        currencies: Sequence[str] | None = None,
    ) -> str:
        """Return the announced releases from `as_of` to the last target bar as JSON.

        Parameters
        ----------
        ts : ndarray of shape (horizon,), datetime64[us]
            Opens of the target bars, increasing.
        as_of, timeframe, calendar, symbol, currencies
            As in `encode`.

        Returns
        -------
        str
            A list of `{"ts", "currency", "event", "type", "importance"}` of the
            releases that raise a flag, oldest first.

        Notes
        -----
        Point in time: only releases announced by `as_of`.
        """
        if len(ts) == 0:
            return "[]"
        every = self._releases
        rows = bar_windows(ts[[0, -1]], timeframe=timeframe, calendar=calendar)
        if currencies is None:
            currencies = self._currencies.get(symbol or "", HOME)
        begin = min(rows.start[0], to_instant(as_of))
        near = slice(*np.searchsorted(every.ts, [begin, rows.end[1]]).tolist())
        kind, currency = every.kind[near], every.currency[near]
        is_flag = np.isin(kind, US_TYPES) & (currency == HOME[0])
        is_flag |= (kind == "rate_decision") & np.isin(currency, list(currencies))
        if symbol is not None:
            is_flag |= (kind == "earnings") & (every.symbol[near] == symbol)
        is_flag &= every.announced[near] <= to_instant(as_of)
        is_flag &= every.is_timed[near] | (timeframe == "1d")
        shown = near.start + np.flatnonzero(is_flag)
        return json.dumps(
            [self._describe(row) for row in shown.tolist()], separators=(",", ":")
        )

    def _describe(self, row: int) -> dict[str, str | int | None]:
        every, importance = self._releases, self._releases.importance[row]
        return {
            "ts": to_moment(every.ts[row]).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "currency": every.currency[row],
            "event": every.event[row],
            "type": every.kind[row],
            "importance": None if np.isnan(importance) else int(importance),
        }
