"""The days a policy allocates on: sleeves' returns and what was known beside them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lab.arrays import FloatArray, TimeArray
from lab.errors import PolicyError


@dataclass(frozen=True, slots=True)
class SleeveDays:
    """Daily out-of-sample returns of all sleeves, on common days.

    Attributes
    ----------
    sleeves : tuple of str, n_sleeves
        Names, sorted.
    ts : ndarray of shape (n_days,), datetime64[us]
        Days, increasing.
    known_ts : ndarray of shape (n_days,), datetime64[us]
        When a day's returns were known, not decreasing.
    net : ndarray of shape (n_days, n_sleeves), float64
        Simple returns after the sleeves' own costs.
    regime : ndarray of shape (n_days, 3), float64
        Filtered probabilities of calm, normal and turbulent by the newest call known at
        `known_ts`; NaN where there was none.
    agreement : ndarray of shape (n_days,), float64
        How far the forecast models agreed on directions by `known_ts`, 0 to 1; NaN
        where there were no two models.

    Raises
    ------
    PolicyError
        If shapes differ, days do not increase, a return is not a finite number of at
        least -1, or names are not sorted and unique.

    Notes
    -----
    Point in time: row t holds what was known at `known_ts[t]`.
    """

    sleeves: tuple[str, ...]
    ts: TimeArray
    known_ts: TimeArray
    net: FloatArray
    regime: FloatArray
    agreement: FloatArray

    def __post_init__(self) -> None:
        """Refuse what is no such panel of days."""
        n = len(self.ts)
        shapes = {
            "known_ts": (n,),
            "net": (n, len(self.sleeves)),
            "regime": (n, 3),
            "agreement": (n,),
        }
        for name, shape in shapes.items():
            found = getattr(self, name).shape
            if found != shape:
                raise PolicyError(f"sleeve days: {name} of shape {found}, need {shape}")
        if not self.sleeves or list(self.sleeves) != sorted(set(self.sleeves)):
            raise PolicyError("sleeve days: sleeves must be named, sorted and unique")
        if np.any(np.diff(self.ts) <= np.timedelta64(0)) or np.any(
            np.diff(self.known_ts) < np.timedelta64(0)
        ):
            raise PolicyError("sleeve days: days must increase, known_ts not decrease")
        if not np.all(np.isfinite(self.net)) or np.any(self.net < -1.0):
            raise PolicyError("sleeve days: returns must be finite and at least -1")

    @property
    def n_days(self) -> int:
        """Number of days."""
        return len(self.ts)

    def until(self, stop: int) -> "SleeveDays":
        """Return the first `stop` days.

        Parameters
        ----------
        stop : int
            Rows to keep, from the first.
        """
        arrays = ("ts", "known_ts", "net", "regime", "agreement")
        return replace(self, **{name: getattr(self, name)[:stop] for name in arrays})

    def of(self, sleeves: Sequence[str]) -> "SleeveDays":
        """Return the days of fewer sleeves.

        Parameters
        ----------
        sleeves : sequence of str
            Sorted names, each of them here.

        Raises
        ------
        PolicyError
            If one is not here.
        """
        missing = [name for name in sleeves if name not in self.sleeves]
        if missing:
            raise PolicyError(f"sleeve days: no returns of {', '.join(missing)}")
        columns = [self.sleeves.index(name) for name in sleeves]
        return replace(self, sleeves=tuple(sleeves), net=self.net[:, columns])


def newest_known(
    values: FloatArray,
    known: TimeArray,
    at: TimeArray,
    *,
    max_age: np.timedelta64 | None = None,
) -> FloatArray:
    """Return, for each moment, the newest row that was known by then.

    Parameters
    ----------
    values : ndarray of shape (n_rows,) or (n_rows, k), float64
        Rows in the order in which they were known.
    known : ndarray of shape (n_rows,), datetime64[us]
        When each was known, not decreasing.
    at : ndarray of shape (n_moments,), datetime64[us]
        Moments.
    max_age : timedelta64, optional
        Rows known longer ago do not count.

    Returns
    -------
    ndarray of shape (n_moments,) or (n_moments, k), float64
        NaN where no row counts.

    Raises
    ------
    PolicyError
        If the rows are not in order.

    Notes
    -----
    Point in time: a row counts from `known` on, that moment included.
    """
    if len(known) != len(values) or np.any(np.diff(known) < np.timedelta64(0)):
        raise PolicyError("rows must be in the order in which they were known")
    found = np.full((len(at), *values.shape[1:]), np.nan)
    place = np.searchsorted(known, at, side="right") - 1
    counts = place >= 0
    if max_age is not None and counts.any():
        counts &= at - known[np.maximum(place, 0)] <= max_age
    found[counts] = values[place[counts]]
    return found


def families_of(sleeves: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the sleeves by what they trade on, families and members sorted.

    Parameters
    ----------
    sleeves : iterable of str
        Names. A name that is not of the catalogue belongs to `evolved`.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(sleeves):
        family = "forecast" if name.startswith("follow-") else _FAMILY.get(name)
        found.setdefault(family or "evolved", []).append(name)
    return {family: tuple(found[family]) for family in sorted(found)}


_FAMILY = {
    "phase37": "baseline",
    "bollinger-reversion": "reversion",
    "pairs-reversion": "reversion",
    "rsi-reversion": "reversion",
    "cross-sectional-momentum": "trend",
    "donchian-breakout": "trend",
    "moving-average-cross": "trend",
    "time-series-momentum": "trend",
    "volatility-targeted-trend": "trend",
    "event-drift": "calendar",
    "hour-of-week": "calendar",
}
