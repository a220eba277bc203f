"""Releases as arrays: when they come, since when that is known, and what they said.

A figure is worked out once per release from the releases before it, so it cannot depend
on a later one. When it may be seen is decided where it is looked up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lab.arrays import AnyArray, BoolArray, FloatArray, TimeArray
from lab.errors import FeatureError

N_BEFORE: Final = 20
MIN_BEFORE: Final = 8
MAX_SURPRISE: Final = 3.0
MAX_HAWKISH: Final = 2.0
STEP_BPS: Final = 25.0

PRIMARY_NAMES: Final[Mapping[str, str]] = {
    "fomc": r"^(Federal Funds Rate|Fed Interest Rate Decision)",
    "nfp": r"^Non-?farm (Employment Change|Payrolls)",
    "cpi": r"^CPI (m/m|\(MoM\))",
}
"""By type, the release whose figure counts where several come at once."""

COLUMNS: Final = (
    "event_id",
    "ts",
    "currency",
    "symbol",
    "event",
    "event_type",
    "importance",
    "actual",
    "forecast",
    "is_timed",
    "scheduled_known_ts",
    "actual_known_ts",
)


class Occurrences(NamedTuple):
    """Releases by their time; arrays of shape (n_releases,), datetime64[us].

    Attributes
    ----------
    ts : ndarray
        Scheduled times, in order.
    announced : ndarray
        When each one's date was known.
    """

    ts: TimeArray
    announced: TimeArray


class Figures(NamedTuple):
    """What releases said, by when it was known.

    Attributes
    ----------
    known : ndarray of shape (n_releases,), datetime64[us]
        In order.
    value : ndarray of shape (n_releases,), float64
        Ready for its channel.
    """

    known: TimeArray
    value: FloatArray


@dataclass(frozen=True, slots=True)
class Releases:
    """Rows of `economic_calendar` as arrays, ordered by `ts`, then `event_id`.

    Attributes
    ----------
    ts, announced, known : ndarray of shape (n_releases,), datetime64[us]
        Scheduled time, since when that is known, since when `actual` is.
    kind, currency, symbol, event : ndarray of shape (n_releases,), object
        Type, currency, company (None unless earnings) and name.
    importance : ndarray of shape (n_releases,), float64
        3 high to 1 low, NaN if unknown.
    actual, forecast : ndarray of shape (n_releases,), float64
        NaN where unknown.
    is_timed : ndarray of shape (n_releases,), bool
        False where `ts` is only a date.
    """

    ts: TimeArray
    announced: TimeArray
    known: TimeArray
    kind: AnyArray
    currency: AnyArray
    symbol: AnyArray
    event: AnyArray
    importance: FloatArray
    actual: FloatArray
    forecast: FloatArray
    is_timed: BoolArray

    @classmethod
    def from_table(cls, table: pa.Table) -> "Releases":
        """Take the typed releases out of rows of `economic_calendar`.

        Rows of type `other` or of none feed no channel and are left out.

        Raises
        ------
        FeatureError
            If a column is missing.
        """
        missing = [name for name in COLUMNS if name not in table.column_names]
        if missing:
            raise FeatureError(f"releases: column missing: {', '.join(missing)}")
        is_typed = pc.not_equal(pc.fill_null(table["event_type"], "other"), "other")
        rows = table.select(list(COLUMNS)).filter(is_typed)
        rows = rows.sort_by([("ts", "ascending"), ("event_id", "ascending")])
        is_timed = pc.fill_null(rows["is_timed"], fill_value=True).to_numpy()
        return cls(
            ts=_moments(rows, "ts"),
            announced=_moments(rows, "scheduled_known_ts"),
            known=_moments(rows, "actual_known_ts"),
            kind=_words(rows, "event_type"),
            currency=_words(rows, "currency"),
            symbol=_words(rows, "symbol"),
            event=_words(rows, "event"),
            importance=_numbers(rows, "importance"),
            actual=_numbers(rows, "actual"),
            forecast=_numbers(rows, "forecast"),
            is_timed=is_timed.astype(np.bool_),
        )

    def of(self, kind: str, *, currency: str | None = None) -> BoolArray:
        """Return which releases are of a type, and of a currency if one is given."""
        chosen = self.kind == kind
        if currency is not None:
            chosen &= self.currency == currency
        return np.asarray(chosen, dtype=np.bool_)

    def named(self, pattern: str) -> BoolArray:
        """Return which releases have a name that fits a pattern."""
        fits = pc.match_substring_regex(
            pa.array(self.event, pa.string()), pattern, ignore_case=True
        )
        return np.asarray(fits.to_numpy(zero_copy_only=False), dtype=np.bool_)

    def occurrences(self, chosen: BoolArray) -> Occurrences:
        """Return when the chosen releases come."""
        return Occurrences(self.ts[chosen], self.announced[chosen])

    def surprises(self, chosen: BoolArray) -> Figures:
        """Return (actual - forecast) over the spread of the 20 releases before.

        Parameters
        ----------
        chosen : ndarray of shape (n_releases,), bool
            Releases of one kind; of several at one time the first counts.

        Returns
        -------
        Figures
            Clipped to ±3; 0 with fewer than 8 releases before, or where those all
            surprised alike. The spread is the sample standard deviation (n - 1).

        Notes
        -----
        Point in time: a release is compared with those known before it.
        """
        rows = self._stated(chosen & np.isfinite(self.actual - self.forecast))
        gap = self.actual[rows] - self.forecast[rows]
        spread = _spread_before(gap)
        # A spread of rounding errors is none.
        is_usable = spread > 1e-9 * np.maximum(1.0, np.abs(gap))
        z = np.divide(gap, spread, out=np.zeros_like(gap), where=is_usable)
        return Figures(self.known[rows], np.clip(z, -MAX_SURPRISE, MAX_SURPRISE))

    def rate_changes(self, chosen: BoolArray) -> Figures:
        """Return the changes of a policy rate in steps of 25 basis points.

        Returns
        -------
        Figures
            Clipped to ±2; the first is 0. The rate before is the prior release's own
            figure, not what a page showed as `previous`.
        """
        rows = self._stated(chosen & np.isfinite(self.actual))
        rate = self.actual[rows]
        change = np.diff(rate, prepend=rate[:1]) * 100.0 / STEP_BPS
        return Figures(self.known[rows], np.clip(change, -MAX_HAWKISH, MAX_HAWKISH))

    def _stated(self, chosen: BoolArray) -> AnyArray:
        # Rows in the order in which they became known, one for each time.
        rows = np.flatnonzero(chosen & self.is_timed)
        rows = rows[np.argsort(self.known[rows], kind="stable")]
        known = self.known[rows]
        is_first = np.append(True, known[1:] != known[:-1])[: len(rows)]
        return np.asarray(rows[is_first])


def _spread_before(values: FloatArray) -> FloatArray:
    spread = np.zeros(len(values))
    for row in range(MIN_BEFORE, len(values)):
        spread[row] = np.std(values[max(0, row - N_BEFORE) : row], ddof=1)
    return spread


def _moments(rows: pa.Table, name: str) -> TimeArray:
    return np.asarray(rows[name].cast(pa.timestamp("us")).to_numpy())


def _words(rows: pa.Table, name: str) -> AnyArray:
    return np.array(rows[name].to_pylist(), dtype=object)


def _numbers(rows: pa.Table, name: str) -> FloatArray:
    return np.asarray(rows[name].cast(pa.float64()).to_numpy())
