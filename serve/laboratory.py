"""What the lab says of itself: unsigned telemetry, read for `/admin` only."""

import asyncio
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from lakehouse.errors import LakehouseError
from serve.schemas import FlowRun, Substrate, Uptime

if TYPE_CHECKING:
    from lakehouse.query import Session

HEARTBEAT: Final = timedelta(minutes=5)
WINDOW: Final = timedelta(days=7)

_BEATS: Final = """
SELECT count(DISTINCT CASE WHEN ts > $since
                      THEN time_bucket(INTERVAL 5 MINUTE, ts) END) AS recent,
       count(DISTINCT time_bucket(INTERVAL 5 MINUTE, ts)) AS ever,
       min(ts) AS first_ts, max(ts) AS last_ts
FROM telemetry WHERE name = 'lab.heartbeat' AND ts <= $now
"""
_RUNS: Final = """
SELECT flow, arg_max(run_id, finished_at) AS run_id,
       arg_max(status, finished_at) AS status, max(finished_at) AS finished_at,
       arg_max(seconds, finished_at) AS seconds,
       arg_max(message, finished_at) AS message
FROM runs WHERE flow IS NOT NULL AND finished_at IS NOT NULL GROUP BY flow ORDER BY flow
"""
_SUBSTRATE: Final = """
SELECT check_ts, count(*) AS n_rows, sum(value)::BIGINT AS n_ok
FROM substrate_checks GROUP BY check_ts ORDER BY check_ts DESC LIMIT 1
"""


PATIENCE_S: Final = 10.0  # how long an answer waits for the lake


class SilentLabError(LakehouseError):
    """The lake does not answer."""


@dataclass(frozen=True, slots=True)
class LabReport:
    """Figures of the lab; null where no flow has written any."""

    uptime: Uptime | None
    runs: list[FlowRun] | None
    substrate: Substrate | None


@dataclass(slots=True)
class LabReader:
    """Reads the lake once at a time: requests that come meanwhile share the answer.

    Attributes
    ----------
    root : str
        Root of the lake.
    patience_s : float
        Seconds a request waits; the read goes on.
    """

    root: str
    patience_s: float = PATIENCE_S
    _reading: asyncio.Future[LabReport] | None = None

    async def read(self, *, now: datetime) -> LabReport:
        """Return the lab's figures as of `now`.

        Raises
        ------
        LakehouseError
            If the lake cannot be read or does not answer.
        """
        if self._reading is None or self._reading.done():
            thread = asyncio.to_thread(read_lab, self.root, now=now)
            self._reading = asyncio.ensure_future(thread)
        done, _ = await asyncio.wait({self._reading}, timeout=self.patience_s)
        if not done:
            raise SilentLabError(f"the lake has not answered in {self.patience_s} s")
        return self._reading.result()


def read_lab(root: str, *, now: datetime) -> LabReport:
    """Read the lab's figures as of `now`. Blocks: call it in a thread.

    Raises
    ------
    LakehouseError
        If the lake cannot be read.
    """
    from lakehouse.query import connect

    with connect(
        root, tables=("runs", "substrate_checks", "telemetry"), threads=1
    ) as session:
        runs = [FlowRun(**_utc(row)) for row in session.sql(_RUNS).rows()]
        checks = session.sql(_SUBSTRATE).rows()
        return LabReport(
            uptime=_uptime(session, now),
            runs=runs or None,
            substrate=Substrate(**_utc(checks[0])) if checks else None,
        )


def _uptime(session: "Session", now: datetime) -> Uptime | None:
    row = _utc(session.sql(_BEATS, {"since": now - WINDOW, "now": now}).rows()[0])
    first, last = row["first_ts"], row["last_ts"]
    if first is None:
        return None
    return Uptime(
        last_7_days=_share(row["recent"], WINDOW),
        since_start=_share(row["ever"], now - first),
        last_heartbeat=last,
    )


def _share(n_beats: int, span: timedelta) -> float:
    expected = max(1, math.floor(span / HEARTBEAT))
    return min(1.0, n_beats / expected)


def _utc(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.astimezone(UTC) if isinstance(value, datetime) else value
        for name, value in row.items()
    }
