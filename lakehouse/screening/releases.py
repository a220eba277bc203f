"""Judging economic releases, and what is known of them at a moment."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.schema._spec import TEXT
from lakehouse.screening.bars import (
    CODE,
    EARLIEST_US,
    GOOD,
    HELD_BACK,
    Verdict,
    mark_parser_reasons,
    to_microseconds,
)
from lakehouse.sources._base import RELEASE_SCHEMA, RawReleases
from lakehouse.sources.event_types import is_unscheduled

NOTICE: Final = timedelta(days=30)
FOMC_NOTICE: Final = timedelta(days=365)
# A bare date has ended everywhere 12 hours after it ended in UTC.
UNTIMED_DELAY: Final = timedelta(hours=36)
# No calendar announces a date further ahead: beyond it the date was misread.
LONGEST_NOTICE: Final = timedelta(days=400)
VALUES: Final = ("actual", "forecast", "previous")
CONTENT: Final = ("importance", *VALUES, "is_timed")
_FOMC: Final = re.compile(
    r"fomc (statement|press conference|meeting minutes|economic projections)"
    r"|federal funds rate|fomc.*rate decision",
    re.IGNORECASE,
)


def notice(row: Mapping[str, Any]) -> timedelta:
    """Return how long before a release its date is announced.

    Notes
    -----
    Point in time: nothing for what came unscheduled, such as a cut between meetings.
    """
    event, event_type = row["event"] or "", row["event_type"]
    ts, currency = row["ts"], row["currency"] or ""
    if ts is not None and is_unscheduled(event, event_type, currency, ts):
        return timedelta(0)
    is_fomc = bool(_FOMC.search(event)) or (event_type or "").lower() == "fomc"
    return FOMC_NOTICE if is_fomc else NOTICE


@dataclass(frozen=True, slots=True)
class ReleaseRows:
    """Releases of one input, as rows and as the arrays that judging needs.

    Attributes
    ----------
    source : str
        For messages.
    rows : list of dict, n_rows
        Columns of `RELEASE_SCHEMA`.
    ts : ndarray of shape (n_rows,), int64
        Microseconds since 1970; 0 where `has_ts` is false.
    has_ts : ndarray of shape (n_rows,), bool
        Whether there is a time.
    notice_us : ndarray of shape (n_rows,), int64
        How long before `ts` the date was announced, microseconds.
    reason : pyarrow.ChunkedArray of n_rows
        What the parser refused.
    """

    source: str
    rows: list[dict[str, Any]]
    ts: npt.NDArray[np.int64]
    has_ts: npt.NDArray[np.bool_]
    notice_us: npt.NDArray[np.int64]
    reason: pa.ChunkedArray

    @classmethod
    def of(cls, raw: RawReleases) -> "ReleaseRows":
        """Take rows and arrays out of an input."""
        table = raw.releases
        if "event_type" not in table.column_names:
            table = table.append_column("event_type", pa.nulls(table.num_rows, TEXT))
        rows = table.select(RELEASE_SCHEMA.names).to_pylist()
        notices = [notice(row) for row in rows]
        return cls(
            source=raw.source,
            rows=rows,
            ts=pc.fill_null(table["ts"].cast(pa.int64()), 0).to_numpy(),
            has_ts=table["ts"].is_valid().to_numpy(),
            notice_us=np.array([n.days * 86_400_000_000 for n in notices], np.int64),
            reason=table["reason"],
        )

    def describe(self, verdict: Verdict) -> list[str | None]:
        """Say per refused row what decided it."""
        names = {code: reason for reason, code in CODE.items()}
        return [
            self.rows[row]["detail"] or _describe(names[code], self.rows[row])
            for row, code in zip(
                verdict.refused, verdict.code[verdict.refused].tolist(), strict=True
            )
        ]


def _describe(reason: str, row: dict[str, Any]) -> str | None:
    match reason:
        case "field_missing":
            return f"event {row['event']!r}, currency {row['currency']!r}"
        case "value_unparsable":
            values = ", ".join(f"{name} {row[name]}" for name in CONTENT)
            return f"{values}; importance is 1, 2 or 3, numbers are finite"
        case "ts_in_future":
            return f"ts {row['ts']} is more than {LONGEST_NOTICE.days} days ahead"
        case "duplicate":
            return f"{row['ts']} {row['currency']} {row['event']}: equal to another row"
        case _:
            return None


def screen_releases(rows: ReleaseRows, *, now: datetime, is_demo: bool) -> Verdict:
    """Judge every row.

    Parameters
    ----------
    rows : ReleaseRows
        The input.
    now : datetime
        Clock time, UTC.
    is_demo : bool
        Whether releases not yet announced at `now` are held back.

    Returns
    -------
    Verdict
        One mark per row.

    Notes
    -----
    Point in time: a release is announced `notice` before its `ts`.
    """
    moment = to_microseconds(now)
    verdict = Verdict(np.zeros(len(rows.rows), dtype=np.int8))
    if is_demo:
        verdict.mark(rows.has_ts & (rows.ts - rows.notice_us > moment), HELD_BACK)
    mark_parser_reasons(verdict, rows.reason, rows.source)
    verdict.mark(~rows.has_ts | (rows.ts < EARLIEST_US), CODE["ts_unparsable"])
    furthest = to_microseconds(now + LONGEST_NOTICE)
    verdict.mark(rows.ts > furthest, CODE["ts_in_future"])
    verdict.mark(_each(rows, _lacks_field), CODE["field_missing"])
    verdict.mark(_each(rows, _has_bad_value), CODE["value_unparsable"])
    _mark_duplicates(verdict, rows)
    return verdict


def _each(rows: ReleaseRows, test: Any) -> npt.NDArray[np.bool_]:
    return np.fromiter((test(row) for row in rows.rows), np.bool_, len(rows.rows))


def _lacks_field(row: dict[str, Any]) -> bool:
    return not (row["event"] or "").strip() or not (row["currency"] or "").strip()


def _has_bad_value(row: dict[str, Any]) -> bool:
    importance = row["importance"]
    if importance is not None and not 1 <= importance <= 3:
        return True
    return any(row[name] is not None and not np.isfinite(row[name]) for name in VALUES)


def _mark_duplicates(verdict: Verdict, rows: ReleaseRows) -> None:
    seen: set[tuple[Any, ...]] = set()
    names = ("ts", "currency", "symbol", "event", *CONTENT)
    for number in verdict.rows(GOOD).tolist():
        row = rows.rows[number]
        key = tuple(row[name] for name in names)
        if key in seen:
            verdict.code[number] = CODE["duplicate"]
        seen.add(key)


def release_table_rows(
    rows: ReleaseRows, good: npt.NDArray[np.int64], *, source: str, now: datetime
) -> list[dict[str, Any]]:
    """Build rows of `economic_calendar` from good rows.

    Notes
    -----
    Point in time: `actual` is null until it could be known: at `ts`, or, for a row that
    gives only a date, once that date has ended everywhere.
    """
    occurrences: Counter[tuple[Any, ...]] = Counter()
    built = []
    for number in good.tolist():
        row = rows.rows[number]
        name = (row["ts"], row["currency"], row["symbol"], row["event"])
        occurrences[name] += 1
        ts, is_timed = row["ts"], row["is_timed"] is not False
        known = ts if is_timed else ts + UNTIMED_DELAY
        built.append(
            {
                "event_id": event_id(*name, occurrence=occurrences[name]),
                **{key: row[key] for key in ("ts", "currency", "symbol", "event")},
                "event_type": row["event_type"],
                "importance": row["importance"],
                "actual": row["actual"] if known <= now else None,
                "forecast": row["forecast"],
                "previous": row["previous"],
                "is_timed": is_timed,
                "scheduled_known_ts": ts - notice(row),
                "actual_known_ts": known,
                "source": source,
                "ingested_at": now,
            }
        )
    return built


def event_id(
    ts: datetime, currency: str, symbol: str | None, event: str, *, occurrence: int
) -> str:
    """Return the id of a release: a SHA-256 prefix of what names it.

    Parameters
    ----------
    ts : datetime
        Scheduled release time, UTC.
    currency, symbol, event : str
        As stored.
    occurrence : int
        1 for the first release of that name and time in its input, 2 for the second.
    """
    parts = (ts.isoformat(), currency, symbol or "", event, str(occurrence))
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "replace")).hexdigest()[
        :32
    ]
