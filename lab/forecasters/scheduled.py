"""What the calendar had announced at a decision time: releases up to a target, days to the next.

Only dates are read here, never figures. A release counts from the moment on at which its
date was known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from lab.arrays import AnyArray, BoolArray, FloatArray, IntArray, TimeArray
from lab.errors import FeatureError

HIGH_IMPACT: Final = 3
HOME: Final = ("USD",)
_COLUMNS: Final = ("ts", "currency", "event_type", "importance", "scheduled_known_ts")
_DAY: Final = np.timedelta64(86_400_000_000, "us")


@dataclass(frozen=True, slots=True)
class ScheduledReleases:
    """Dates of releases.

    Attributes
    ----------
    ts : ndarray of shape (n_releases,), datetime64[us]
        Scheduled times, in order.
    lead : ndarray of shape (n_releases,), timedelta64[us]
        How long before it the date was known; may be negative.
    currency, kind : ndarray of shape (n_releases,), object
        Currency and event type, None where there is none.
    importance : ndarray of shape (n_releases,), int64
        3 high to 1 low, 0 if unknown.
    currencies : mapping of str to sequence of str
        Whose releases concern a symbol; the dollar's for symbols that are not in it.
    """

    ts: TimeArray
    lead: AnyArray
    currency: AnyArray
    kind: AnyArray
    importance: IntArray
    currencies: Mapping[str, Sequence[str]]

    @classmethod
    def from_table(
        cls, calendar: pa.Table, currencies: Mapping[str, Sequence[str]]
    ) -> "ScheduledReleases":
        """Take the dates out of rows of `economic_calendar`.

        Raises
        ------
        FeatureError
            If a column is missing.
        """
        missing = [name for name in _COLUMNS if name not in calendar.column_names]
        if missing:
            raise FeatureError(f"releases: column missing: {', '.join(missing)}")
        rows = calendar.select(list(_COLUMNS)).sort_by(
            [(name, "ascending") for name in _COLUMNS]
        )
        ts, announced = (
            np.asarray(rows[name].cast(pa.timestamp("us")).to_numpy())
            for name in ("ts", "scheduled_known_ts")
        )
        return cls(
            ts=ts,
            lead=ts - announced,
            currency=np.array(rows["currency"].to_pylist(), dtype=object),
            kind=np.array(rows["event_type"].to_pylist(), dtype=object),
            importance=rows["importance"].fill_null(0).to_numpy().astype(np.int64),
            currencies=currencies,
        )

    def count(
        self,
        symbols: AnyArray,
        as_of: TimeArray,
        until: TimeArray,
        *,
        kind: str | None = None,
        importance: int = 0,
    ) -> IntArray:
        """Count the announced releases after `as_of` and up to `until`.

        Parameters
        ----------
        symbols : ndarray of shape (n_rows,), object
            Whose currencies count.
        as_of, until : ndarray of shape (n_rows,), datetime64[us]
            Decision time and end of the horizon.
        kind : str, optional
            Only releases of this type.
        importance : int, default 0
            Only releases of this importance or more.

        Returns
        -------
        ndarray of shape (n_rows,), int64

        Notes
        -----
        Point in time: a release counts if its date was known at `as_of`.
        """
        chosen = self.importance >= importance
        if kind is not None:
            chosen &= self.kind == kind
        found = np.zeros(len(symbols), dtype=np.int64)
        for symbol in np.unique(symbols):
            rows = np.flatnonzero(symbols == symbol)
            own = chosen & self._concerns(str(symbol))
            for lead in np.unique(self.lead[own]):
                ts = self.ts[own & (self.lead == lead)]
                stop = np.minimum(until[rows], as_of[rows] + lead)
                counted = np.searchsorted(ts, stop, side="right") - np.searchsorted(
                    ts, as_of[rows], side="right"
                )
                found[rows] += np.maximum(counted, 0)
        return found

    def days_to(self, kind: str, as_of: TimeArray) -> FloatArray:
        """Return the days to the next announced release of a type of the United States.

        Returns
        -------
        ndarray of shape (n_rows,), float64
            NaN where none is announced.

        Notes
        -----
        Point in time: only releases whose date was known at `as_of`.
        """
        own = (self.kind == kind) & np.isin(self.currency, HOME)
        days = np.full(len(as_of), np.inf)
        for lead in np.unique(self.lead[own]):
            ts = self.ts[own & (self.lead == lead)]
            place = np.searchsorted(ts, as_of, side="right")
            following = ts[np.minimum(place, len(ts) - 1)]
            is_known = (place < len(ts)) & (following <= as_of + lead)
            days = np.where(
                is_known, np.minimum(days, (following - as_of) / _DAY), days
            )
        return np.where(np.isfinite(days), days, np.nan)

    def _concerns(self, symbol: str) -> BoolArray:
        wanted = list(self.currencies.get(symbol, HOME))
        return np.isin(self.currency, wanted)
