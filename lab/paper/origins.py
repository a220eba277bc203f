"""What counts: a decision is live only if it was taken when its bar was news.

Days, samples and streaks are earned in real time, or in the time of a simulated clock
that the whole lake lives by. A decision is `live` if all of this holds, else `replay`:

- it was taken within one bar of the moment at which its own bar was known;
- its bar was the newest that was known at that time;
- nothing in the lake is from later than that time: no bar that was known after it, no
  row that was ingested, no run that ended. Who turns the clock back, or gives a past
  `--as-of`, stands in a lake that knows what comes next.

The baseline's orders over stored history have an origin of their own, `backfill`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from lab.bars.timeframes import step

LIVE: Final = "live"
REPLAY: Final = "replay"
BACKFILL: Final = "backfill"

CADENCE: Final = MappingProxyType({"1h": timedelta(hours=1), "1d": timedelta(days=1)})
"""How long a bar is news: until the next one of its length."""

SKEW: Final = timedelta(minutes=2)
"""How far the clocks of two machines may be apart."""


@dataclass(frozen=True, slots=True)
class Witness:
    """What a lake knows about its own present.

    Attributes
    ----------
    now : datetime
        The clock.
    newest_known : datetime
        When the newest bar that is known by now was known, of the bars decided on.
    newest_seen : datetime
        The latest moment anything in the lake is from.
    """

    now: datetime
    newest_known: datetime
    newest_seen: datetime

    @property
    def is_turned_back(self) -> bool:
        """Whether the lake has seen a later time than the clock shows."""
        return self.newest_seen > self.now + SKEW


def origin_of(known: datetime, witness: Witness, *, timeframe: str) -> str:
    """Return `live` or `replay` for a decision on a bar.

    Parameters
    ----------
    known : datetime
        When the bar was known.
    witness : Witness
        The lake's present.
    timeframe : str
        `1h` or `1d`.

    Raises
    ------
    BarsError
        If there is no such timeframe.

    Notes
    -----
    Point in time: a decision on a bar uses what was known by then, whatever its origin.
    """
    step(timeframe)
    is_news = timedelta(0) <= witness.now - known <= CADENCE[timeframe]
    is_newest = known >= witness.newest_known
    is_live = is_news and is_newest and not witness.is_turned_back
    return LIVE if is_live else REPLAY
