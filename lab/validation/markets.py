"""A market in memory that can be cut at a moment, or given another future.

What the leak lab replays on: bars, instruments, releases with their later revisions, and
forecasts. Rules:

- `as_known` keeps what was known at a moment: later bars, announcements, figures,
  revisions, delistings and forecasts are gone.
- A future keeps the very same past and makes everything after it different: other
  values, thinned rows, splits, instruments that are delisted or listed, figures revised.
- Nothing here is told to a subject: it sees a market and cannot know which one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import BoolArray, TimeArray
from lab.backtest.panel import AlignedPanel
from lab.bars.calendars import known_ts
from lab.bars.panel import SPLIT_FLAG, Panel
from lab.bars.timeframes import to_moment
from lab.errors import ValidationError

UTC_US: Final = pa.timestamp("us", tz="UTC")
END: Final = np.datetime64("2100-01-01", "us")
"""A moment at which all of a market is known."""

_PRICES: Final = ("open", "high", "low", "close")
_LATER: Final = np.timedelta64(1456, "D").astype("timedelta64[us]")
_NEWCOMER: Final = "NEWCOMER"


@dataclass(frozen=True, eq=False)
class Market:
    """Everything that a sleeve, a feature or a label may be made of.

    Attributes
    ----------
    ohlcv, instruments, releases, predictions : pyarrow.Table
        Rows of the tables `ohlcv`, `instruments`, `economic_calendar` (figures as first
        published) and `ml_predictions`.
    revisions : pyarrow.Table
        `event_id`, `actual` and `known_ts` of figures that were restated later.
    models : tuple of str
        Whose forecasts panels hold, if only as a column of nothing; those that there
        are predictions of if not given. A market that is cut keeps them.
    """

    ohlcv: pa.Table
    instruments: pa.Table
    releases: pa.Table
    predictions: pa.Table
    revisions: pa.Table
    models: tuple[str, ...] = ()
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Find the models."""
        if not self.models:
            names = pc.unique(self.predictions["model_name"]).to_pylist()
            object.__setattr__(self, "models", tuple(sorted(names)))

    def known(self) -> TimeArray:
        """Return when each row of `ohlcv` was known, shape (n_rows,), datetime64[us]."""
        if "known" not in self._made:
            self._made["known"] = _known_times(self.ohlcv, self.instruments)
        return np.asarray(self._made["known"])

    def series(self, timeframe: str) -> Panel:
        """Return the bars of a timeframe by symbol."""
        key = "series", timeframe
        if key not in self._made:
            self._made[key] = Panel.from_tables(
                self.ohlcv, self.instruments, timeframe=timeframe
            )
        found: Panel = self._made[key]
        return found

    def panel(self, timeframe: str, as_of: np.datetime64 = END) -> AlignedPanel:
        """Return the aligned bars known at `as_of`, with surprises and forecasts.

        Notes
        -----
        Point in time: as `AlignedPanel.from_bars` cuts them.
        """
        key = "panel", timeframe, as_of
        if key not in self._made:
            self._made[key] = self._align(timeframe, as_of)
        found: AlignedPanel = self._made[key]
        return found

    def _align(self, timeframe: str, as_of: np.datetime64) -> AlignedPanel:
        from lab.backtest.context import forecast_grid, surprise_grid

        panel = AlignedPanel.from_bars(self.series(timeframe), as_of=to_moment(as_of))
        grids = {
            name: forecast_grid(self.predictions, panel, name) for name in self.models
        }
        panel = replace(panel, forecasts=grids)
        return replace(panel, surprises=surprise_grid(self.releases, panel))

    def as_known(self, as_of: np.datetime64) -> "Market":
        """Return what was known at `as_of`, and nothing else.

        Notes
        -----
        Point in time: rows with `known_ts <= as_of`; a figure known later is null, a
        delisting of later has not happened.
        """
        is_known = self.known() <= as_of
        releases = self.releases.filter(
            _until(self.releases, "scheduled_known_ts", as_of)
        )
        is_stated = _until(releases, "actual_known_ts", as_of)
        actual = pc.if_else(
            is_stated, releases["actual"], pa.scalar(None, pa.float64())
        )
        return Market(
            ohlcv=self.ohlcv.filter(pa.array(is_known)),
            instruments=_delist(self.instruments, as_of),
            releases=_with(releases, "actual", actual),
            predictions=self.predictions.filter(
                _until(self.predictions, "known_ts", as_of)
            ),
            revisions=self.revisions.filter(_until(self.revisions, "known_ts", as_of)),
            models=self.models,
        )

    def futures(
        self, as_of: np.datetime64, rng: np.random.Generator
    ) -> Iterator[tuple[str, "Market"]]:
        """Yield markets with this past and other futures, with what was changed.

        Parameters
        ----------
        as_of : datetime64
            Where past and future meet.
        rng : numpy.random.Generator
            Draws the futures.
        """
        past = self.as_known(as_of)
        yield "the future deleted", past
        yield "later values changed", self._rewritten(past, as_of, rng)
        yield (
            "later rows deleted, instruments gone and new",
            self._reshaped(past, as_of),
        )

    def _rewritten(
        self, past: "Market", as_of: np.datetime64, rng: np.random.Generator
    ) -> "Market":
        # Same rows, other values; every figure of the past is revised just after.
        later = self.ohlcv.filter(pa.array(self.known() > as_of))
        figures = self.releases.append_column(
            "_stated", _until(self.releases, "actual_known_ts", as_of)
        )
        noise = pa.array(rng.standard_normal(figures.num_rows) * 5.0 + 40.0)
        moved = pc.add(pc.multiply(pc.fill_null(figures["actual"], 0.0), 3.0), noise)
        actual = pc.if_else(figures["_stated"], figures["actual"], moved)
        releases = _with(self.releases, "actual", actual)
        after = pa.array(np.full(self.releases.num_rows, as_of + _LATER)).cast(UTC_US)
        restated = pa.table(
            {
                "event_id": self.releases["event_id"],
                "actual": moved,
                "known_ts": pa.chunked_array([after]),
            }
        ).cast(self.revisions.schema)
        predictions = self.predictions.filter(
            pc.invert(_until(self.predictions, "known_ts", as_of))
        )
        return Market(
            ohlcv=pa.concat_tables([past.ohlcv, _scaled(later, rng)]),
            instruments=self.instruments,
            releases=releases,
            predictions=pa.concat_tables(
                [past.predictions, _doubled_forecasts(predictions)]
            ),
            revisions=pa.concat_tables([past.revisions, restated]),
            models=self.models,
        )

    def _reshaped(self, past: "Market", as_of: np.datetime64) -> "Market":
        # Every other instrument is gone, the others jump, one is listed, years pass.
        names = sorted(pc.unique(past.ohlcv["symbol"]).to_pylist())
        gone = pa.array(names[::2], pa.string())
        later = self.ohlcv.filter(pa.array(self.known() > as_of))
        kept = later.filter(pc.invert(pc.is_in(later["symbol"], gone)))
        kept = kept.filter(pa.array(np.arange(kept.num_rows) % 3 != 0))
        flagged = _with(
            kept, "flags", pa.array([SPLIT_FLAG] * kept.num_rows, pa.string())
        )
        listed_to = _with(
            self.instruments,
            "listed_to",
            pc.if_else(
                pc.is_in(self.instruments["symbol"], gone),
                _stamp(as_of + np.timedelta64(1, "us")),
                past.instruments["listed_to"],
            ),
        )
        newcomer = _newcomer(past.ohlcv)
        return Market(
            ohlcv=pa.concat_tables([past.ohlcv, flagged, newcomer]),
            instruments=pa.concat_tables([listed_to, _listing(self.instruments)]),
            releases=past.releases,
            predictions=past.predictions,
            revisions=past.revisions,
            models=self.models,
        )


def empty_revisions() -> pa.Table:
    """Return revisions of a market whose figures were never restated."""
    return pa.table(
        {
            "event_id": pa.array([], pa.string()),
            "actual": pa.array([], pa.float64()),
            "known_ts": pa.array([], UTC_US),
        }
    )


def moments(table: pa.Table, name: str) -> TimeArray:
    """Return a timestamp column as `datetime64[us]`."""
    return np.asarray(table[name].cast(pa.timestamp("us")).to_numpy())


def cut_moments(
    market: Market, timeframe: str, *, rng: np.random.Generator
) -> list[np.datetime64]:
    """Return moments to cut a market at.

    Six where the market has them, in the second half of its history: two at which all
    bars of a row were known; two at which only the first of its date were, so that what
    closes later is still open; two between the close of a bar and a figure of the same
    date or an earlier one, first of a release with a clock time, then of one without.

    Parameters
    ----------
    market : Market
        What is cut.
    timeframe : str
        Whose rows.
    rng : numpy.random.Generator
        Draws them.

    Raises
    ------
    ValidationError
        If there are fewer than 40 rows.
    """
    rows = pc.equal(market.ohlcv["timeframe"], timeframe).to_numpy()
    ts, known = moments(market.ohlcv, "ts")[rows], market.known()[rows]
    grid, row = np.unique(ts, return_inverse=True)
    n = len(grid)
    if n < 40:
        raise ValidationError(f"leak lab: 40 rows of {timeframe} needed, {n} found")
    first = np.full(n, END)
    np.minimum.at(first, row, known)
    last = np.full(n, np.datetime64(0, "us"))
    np.maximum.at(last, row, known)
    edges = np.linspace(n // 2, n - n // 20, 5).astype(int)
    chosen = []
    for k in range(4):
        place = np.arange(edges[k], edges[k + 1])
        split = place[first[place] < last[place]]
        if k % 2 and len(split):
            chosen.append(first[rng.choice(split)])
        else:
            chosen.append(last[rng.choice(place)])
    moments_known = np.unique(known[known > last[n // 2]])
    for is_timed in (True, False):
        gaps = _gaps(market.releases, moments_known, is_timed=is_timed)
        if len(gaps):
            chosen.append(rng.choice(gaps))
    return chosen


def _gaps(releases: pa.Table, known: TimeArray, *, is_timed: bool) -> TimeArray:
    # Moments at which a bar was known and a figure of its date or before was not yet.
    kept = releases.filter(pc.equal(releases["is_timed"], is_timed))
    stated = moments(kept, "actual_known_ts")
    if len(known) == 0 or len(stated) == 0:
        return np.zeros(0, "datetime64[us]")
    place = np.searchsorted(known, stated) - 1
    newest = known[np.maximum(place, 0)]
    date = moments(kept, "ts").astype("datetime64[D]")
    return np.asarray(newest[(place >= 0) & (newest > date)])


def _known_times(ohlcv: pa.Table, instruments: pa.Table) -> TimeArray:
    calendars: Mapping[str, str] = dict(
        zip(
            instruments["symbol"].to_pylist(),
            instruments["calendar"].to_pylist(),
            strict=True,
        )
    )
    ts = moments(ohlcv, "ts")
    known = ts.copy()
    codes = {}
    for name in ("symbol", "timeframe"):
        encoded = pa.array(ohlcv[name].to_pylist(), pa.string()).dictionary_encode()
        codes[name] = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    for number, timeframe in enumerate(codes["timeframe"][1]):
        is_length = codes["timeframe"][0] == number
        for code, symbol in enumerate(codes["symbol"][1]):
            rows = is_length & (codes["symbol"][0] == code)
            known[rows] = known_ts(
                ts[rows], timeframe=timeframe, calendar=calendars[symbol]
            )
    return known


def _until(table: pa.Table, name: str, as_of: np.datetime64) -> pa.ChunkedArray:
    return pc.less_equal(table[name], _stamp(as_of))


def _stamp(moment: np.datetime64) -> pa.Scalar:
    return pa.scalar(to_moment(moment), UTC_US)


def _with(table: pa.Table, name: str, values: Any) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(name), values)


def _delist(instruments: pa.Table, as_of: np.datetime64) -> pa.Table:
    ends = instruments["listed_to"]
    is_over = pc.less_equal(ends, _stamp(as_of))
    return _with(
        instruments, "listed_to", pc.if_else(is_over, ends, pa.scalar(None, ends.type))
    )


def _scaled(rows: pa.Table, rng: np.random.Generator) -> pa.Table:
    factor = np.exp(rng.standard_normal(rows.num_rows))
    for name in (*_PRICES, "volume"):
        rows = _with(rows, name, pc.multiply(rows[name], pa.array(factor)))
    return rows


def _doubled_forecasts(predictions: pa.Table) -> pa.Table:
    # Later forecasts say something else: their last close is half of what it was.
    return _with(predictions, "last_close", pc.multiply(predictions["last_close"], 0.5))


def _newcomer(past: pa.Table) -> pa.Table:
    # The newest bars of one instrument again, years on, under a name of their own.
    symbol = past["symbol"][-1].as_py()
    rows = past.filter(pc.equal(past["symbol"], symbol))
    rows = rows.slice(max(0, rows.num_rows - 50))
    later = pa.array(moments(rows, "ts") + _LATER).cast(UTC_US)
    names = pa.array([_NEWCOMER] * rows.num_rows, pa.string())
    return _with(_with(rows, "ts", later), "symbol", names)


def _listing(instruments: pa.Table) -> pa.Table:
    row = instruments.slice(instruments.num_rows - 1, 1)
    ends = row["listed_to"].type
    row = _with(row, "symbol", pa.array([_NEWCOMER], pa.string()))
    return _with(row, "listed_to", pa.array([None], ends))


def is_same(first: Any, second: Any) -> BoolArray:
    """Return where two arrays are equal: bit-equal, or within 1e-12, or both NaN."""
    left, right = np.asarray(first, np.float64), np.asarray(second, np.float64)
    with np.errstate(invalid="ignore"):
        near = np.abs(left - right) <= 1e-12 * np.maximum(1.0, np.abs(left))
    both_nan = np.isnan(left) & np.isnan(right)
    return np.asarray((left == right) | near | both_nan, dtype=np.bool_)
