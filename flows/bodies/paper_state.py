"""Where the paper trader stands: its books after each bar, and what the lake has seen.

The decision record of a bar is the commit of that bar: it is written last, once, and
holds both books. Whatever a killed run left out, the next one does again from the
record before, and gets the same.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.bodies.market_panel import WARM_UP, open_panel
from flows.bodies.moments import decision_moment
from flows.runs import Run
from lab.backtest.panel import AlignedPanel
from lab.bars.calendars import known_ts, latest_panel_known_ts
from lab.bars.timeframes import to_instant, to_moment
from lab.errors import PaperError
from lab.paper.combine import ADDED, BASELINE
from lab.paper.orders import Book
from lab.paper.origins import Witness

BOOKS: Final = (BASELINE, ADDED)
_YEAR: Final = timedelta(days=366)
_LATE: Final = timedelta(days=4)


@dataclass(slots=True)
class Desk:
    """Both books after the newest bar that was traded.

    Attributes
    ----------
    timeframe : str
        `1h` or `1d`.
    since : datetime
        First bar that is read: the same at every bar, so that what is latched along
        the way does not depend on when it is asked for.
    bar : datetime64[us] or None
        `ts` of the newest row that was decided on; None before the first.
    origin : str
        Of the decision on it.
    books : dict of str to Book
        By sleeve; made on a panel's instruments.
    halted_at : datetime or None
        When the signals' book was closed for its losses.
    """

    timeframe: str
    since: datetime
    bar: np.datetime64 | None = None
    origin: str = ""
    books: dict[str, Book] = field(default_factory=dict)
    halted_at: datetime | None = None


def agent_of(timeframe: str) -> str:
    """Return the decider's name in `decision_records`."""
    return f"paper-{timeframe}"


def open_desk(
    run: Run, *, timeframe: str, as_of: str | None
) -> tuple[Desk, AlignedPanel]:
    """Take the books up where they were left, with the rows that are complete.

    Parameters
    ----------
    run : Run
        Where to read.
    timeframe : str
        `1h` or `1d`.
    as_of : str or None
        Bars known by then; now if not given.

    Raises
    ------
    InputError
        If `as_of` is not a time or later than now, or no bar was known by then.
    PaperError
        If the newest record holds no books, or a book an instrument without bars.

    Notes
    -----
    Point in time: the panel ends with the last row whose every market had closed by
    `as_of`; a day is not decided on before its last market closed.
    """
    limit = decision_moment(run, as_of)
    newest = _newest_record(run, agent_of(timeframe))
    midnight = limit.replace(hour=0, minute=0, second=0, microsecond=0)
    since = midnight - WARM_UP[timeframe] - _YEAR
    if newest is not None:
        since = datetime.fromisoformat(newest["input_snapshot"]["since"])
    panel = open_panel(
        run, timeframe=timeframe, as_of=limit.isoformat(), years=0, since=since
    )
    panel = panel.until(complete_rows(panel, limit))
    if panel.n_obs == 0:
        raise PaperError(f"no complete row of {timeframe} bars by {limit.isoformat()}")
    return _desk(timeframe, since, newest, panel), panel


def complete_rows(panel: AlignedPanel, limit: datetime) -> int:
    """Return how many rows had every market closed by a moment."""
    n_rows, bound = panel.n_obs, to_instant(limit)
    calendars = set(panel.calendars)
    while n_rows:
        known = latest_panel_known_ts(
            panel.ts[n_rows - 1], timeframe=panel.timeframe, calendars=calendars
        )
        if known <= bound:
            break
        n_rows -= 1
    return n_rows


def see(run: Run, panel: AlignedPanel) -> Witness:
    """Return what the lake knows about its own present.

    Parameters
    ----------
    run : Run
        Where to read.
    panel : AlignedPanel
        Decided on.

    Notes
    -----
    Point in time: looks beyond the clock on purpose, and tells nothing but that there is
    something.
    """
    later = run.read(
        "ohlcv",
        columns=["symbol", "ts"],
        filter=(pc.field("timeframe") == panel.timeframe)
        & pc.field("symbol").isin(list(panel.symbols))
        & (pc.field("ts") > pa.scalar(to_moment(panel.ts[-1]), _MOMENT)),
    )
    moments = [to_moment(panel.known_ts[-1])]
    newest_known = moments[0]
    calendars = dict(zip(panel.symbols, panel.calendars, strict=True))
    for symbol in pc.unique(later["symbol"]).to_pylist():
        own = later.filter(pc.equal(later["symbol"], symbol))["ts"].sort()
        opens = own.cast(pa.timestamp("us")).to_numpy()
        known = known_ts(opens, timeframe=panel.timeframe, calendar=calendars[symbol])
        moments.append(to_moment(known[-1]))
    opens = np.unique(later["ts"].cast(pa.timestamp("us")).to_numpy())
    for one in opens[:_MAX_LATER]:
        complete = latest_panel_known_ts(
            one, timeframe=panel.timeframe, calendars=set(panel.calendars)
        )
        if complete <= to_instant(run.now):
            newest_known = max(newest_known, to_moment(complete))
    for table, column in _SEEN:
        moments += _newest(run, table, column)
    return Witness(run.now, newest_known, max(moments))


_MOMENT: Final = pa.timestamp("us", tz="UTC")
_MAX_LATER: Final = 50
_SEEN: Final = (
    ("runs", "finished_at"),
    ("ohlcv", "ingested_at"),
    ("decision_records", "ts"),
)


def _newest(run: Run, table: str, column: str) -> list[datetime]:
    values = run.read(table, columns=[column])[column]
    found = pc.max(values).as_py() if len(values) else None
    return [] if found is None else [found]


def _newest_record(run: Run, agent: str) -> dict[str, Any] | None:
    # Only the newest rows are parsed: records of years are not read for one state.
    is_own = pc.field("agent_id") == agent
    newest = run.read("decision_records", columns=["ts"], filter=is_own)["ts"]
    if len(newest) == 0:
        return None
    floor = pa.scalar(pc.max(newest).as_py() - _LATE, _MOMENT)
    rows = run.read(
        "decision_records",
        columns=["input_snapshot", "output"],
        filter=is_own & (pc.field("ts") >= floor),
    )
    parsed = [
        {name: json.loads(text) for name, text in row.items()}
        for row in rows.to_pylist()
    ]
    return max(parsed, key=lambda row: str(row["input_snapshot"]["bar"]))


def _desk(
    timeframe: str,
    since: datetime,
    newest: Mapping[str, Any] | None,
    panel: AlignedPanel,
) -> Desk:
    desk = Desk(timeframe, since)
    if newest is None:
        desk.books = {name: Book.empty(panel.symbols) for name in BOOKS}
        return desk
    output, bar = newest["output"], newest["input_snapshot"]["bar"]
    try:
        desk.bar, desk.origin = np.datetime64(bar, "us"), output["origin"]
        halted = output["halted_at"]
        held = {name: output["books"][name] for name in BOOKS}
    except (KeyError, TypeError, ValueError) as error:
        raise PaperError(f"record of {bar}: holds no books: {error!r}") from error
    desk.halted_at = None if halted is None else datetime.fromisoformat(halted)
    desk.books = {
        name: Book.from_json(content, panel.symbols) for name, content in held.items()
    }
    return desk
