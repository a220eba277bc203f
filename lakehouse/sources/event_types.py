"""Which releases are of which type: a table that a person can read and correct.

`event_types.csv` holds one pattern a line; the first line that fits a name and its
currency decides, and what none fits is `other`. A line marked `primary` names the
release whose figure stands for its type where several come at once (the headline CPI
month on month, not the core or the yearly figure). Lines of type `earnings` fit only
rows that name a company.

`unscheduled_releases.csv` lists decisions taken between meetings: nobody knew their
date before they came.
"""

import csv
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from lakehouse.errors import InputError

OTHER: Final = "other"
EARNINGS: Final = "earnings"
DECISIONS: Final = frozenset(["fomc", "rate_decision"])
_COLUMNS: Final = ("event_type", "currency", "primary", "pattern")
_ANNOUNCEMENT: Final = re.compile(r"^Fed Announcement")


@dataclass(frozen=True, slots=True)
class EventTypes:
    """The table of names.

    Attributes
    ----------
    lines : tuple of (str, str, bool, re.Pattern)
        Type, currency (empty for any), whether it is primary, and pattern.
    """

    lines: tuple[tuple[str, str, bool, re.Pattern[str]], ...]

    def classify(self, event: str, currency: str, symbol: str | None = None) -> str:
        """Return the type of a release.

        Parameters
        ----------
        event, currency : str
            Name and currency as published.
        symbol : str, optional
            The company of an earnings report.
        """
        for kind, code, _, pattern in self.lines:
            if kind == EARNINGS and not symbol:
                continue
            if code in {"", currency} and pattern.search(event):
                return kind
        return OTHER

    def primary(self) -> Mapping[str, str]:
        """Return, by type, the patterns of its primary releases as one."""
        found: dict[str, list[str]] = {}
        for kind, _, is_primary, pattern in self.lines:
            if is_primary:
                found.setdefault(kind, []).append(pattern.pattern)
        return MappingProxyType({kind: "|".join(each) for kind, each in found.items()})


def read_event_types(path: Path) -> EventTypes:
    """Read a table of names.

    Parameters
    ----------
    path : Path
        CSV with columns `event_type`, `currency`, `primary` and `pattern`.

    Raises
    ------
    InputError
        If it cannot be read, a column is missing or a pattern is none.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return EventTypes(tuple(_lines(csv.DictReader(file), path)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as event types: {error}") from error


def _lines(
    reader: "csv.DictReader[str]", path: Path
) -> Iterator[tuple[str, str, bool, re.Pattern[str]]]:
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"{path}: event types: column missing: {', '.join(missing)}")
    for row in reader:
        kind, code, primary, text = ((row[name] or "").strip() for name in _COLUMNS)
        try:
            pattern = re.compile(text, re.IGNORECASE)
        except re.error as error:
            raise InputError(
                f"{path}: line {reader.line_num}: {text!r} is no pattern: {error}"
            ) from error
        if not kind or not text:
            raise InputError(f"{path}: line {reader.line_num}: type or pattern missing")
        yield kind, code, primary.lower() == "yes", pattern


@functools.cache
def event_types() -> EventTypes:
    """Return the table that comes with the package."""
    return read_event_types(Path(__file__).with_name("event_types.csv"))


@functools.lru_cache(maxsize=20_000)
def event_type(event: str, currency: str, symbol: str | None = None) -> str:
    """Classify a release by the table that comes with the package."""
    return event_types().classify(event, currency, symbol)


def is_unscheduled(event: str, kind: str | None, currency: str, ts: datetime) -> bool:
    """Return whether nobody knew of a release before it came.

    Parameters
    ----------
    event, currency : str
        As published.
    kind : str or None
        Its type.
    ts : datetime
        When it came, aware.
    """
    if _ANNOUNCEMENT.search(event):
        return True
    return kind in DECISIONS and (currency, ts.date()) in _unscheduled()


@functools.cache
def _unscheduled() -> frozenset[tuple[str, date]]:
    path = Path(__file__).with_name("unscheduled_releases.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return frozenset(
            (row["currency"], date.fromisoformat(row["date"]))
            for row in csv.DictReader(file)
        )
