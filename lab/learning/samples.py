"""Labelled rows to learn from, each with when it was decided and when it was known.

Rules:

- Rows are in the order of `start`, then of `subject_id`.
- A label may be used at a moment only if its `end` is not later: `known_by` cuts there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final

import numpy as np

from lab.arrays import AnyArray, BoolArray, FloatArray, IntArray, TimeArray
from lab.bars.timeframes import to_instant
from lab.errors import TrainingError

_COLUMNS: Final = (
    "features",
    "subject_id",
    "symbol",
    "timeframe",
    "start",
    "end",
    "label",
    "outcome",
)


@dataclass(frozen=True, slots=True)
class Samples:
    """Labelled rows.

    Attributes
    ----------
    names : tuple of str, n_features
        Features, in the order of the columns.
    features : ndarray of shape (n_rows, n_features), float64
        As they were known at `start`; NaN where unknown, never infinite.
    subject_id : ndarray of shape (n_rows,), str
        What a row is about, e.g. an order; no two are equal.
    symbol, timeframe : ndarray of shape (n_rows,), str
        Of the row.
    start : ndarray of shape (n_rows,), datetime64[us]
        When it was decided; never falls.
    end : ndarray of shape (n_rows,), datetime64[us]
        When its label was known; not before `start`.
    label : ndarray of shape (n_rows,), float64
        0 or 1, or a real number; finite.
    outcome : ndarray of shape (n_rows,), float64
        Classification: net profit of taking the row. Regression: profit before costs of
        one unit long.

    Raises
    ------
    TrainingError
        If shapes differ, rows are out of order, or a value is not allowed.
    """

    names: tuple[str, ...]
    features: FloatArray
    subject_id: AnyArray
    symbol: AnyArray
    timeframe: AnyArray
    start: TimeArray
    end: TimeArray
    label: FloatArray
    outcome: FloatArray

    def __post_init__(self) -> None:
        """Refuse rows that cannot be learnt from."""
        n_rows, n_features = len(self.start), len(self.names)
        if len(set(self.names)) != n_features:
            raise TrainingError("samples: two features have one name")
        for name in _COLUMNS:
            wanted = (n_rows, n_features) if name == "features" else (n_rows,)
            found = getattr(self, name).shape
            if found != wanted:
                raise TrainingError(f"samples: {name} has shape {found}, not {wanted}")
        _check_values(self)

    @classmethod
    def of(cls, *, names: Sequence[str], features: Any, **columns: Any) -> "Samples":
        """Build samples from rows in any order.

        Parameters
        ----------
        names : sequence of str
            Features.
        features : array-like of shape (n_rows, n_features)
            One column a feature.
        **columns : array-like of shape (n_rows,)
            `subject_id`, `symbol`, `timeframe`, `start`, `end`, `label`, `outcome`;
            times as `datetime64` in UTC.

        Raises
        ------
        TrainingError
            As the class; also if a column is missing or unknown.
        """
        if set(columns) != set(_COLUMNS[1:]):
            raise TrainingError(f"samples: columns are {', '.join(_COLUMNS[1:])}")
        table = np.asarray(features, dtype=np.float64)
        if table.size == 0:
            table = np.zeros((len(columns["start"]), len(names)))
        words = {
            name: np.asarray(columns[name], dtype=np.str_)
            for name in ("subject_id", "symbol", "timeframe")
        }
        times = {
            name: np.asarray(columns[name]).astype("datetime64[us]")
            for name in ("start", "end")
        }
        numbers = {
            name: np.asarray(columns[name], dtype=np.float64)
            for name in ("label", "outcome")
        }
        order = np.lexsort((words["subject_id"], times["start"]))
        arrays = {
            "features": table,
            **words,
            **times,
            **numbers,
        }
        if any(len(one) != len(order) for one in arrays.values()):
            raise TrainingError("samples: columns of different lengths")
        return cls(
            names=tuple(names), **{key: one[order] for key, one in arrays.items()}
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.start)

    def take(self, rows: BoolArray | IntArray | slice) -> "Samples":
        """Return some rows, in their order."""
        return replace(
            self,
            **{
                one.name: getattr(self, one.name)[rows]
                for one in fields(self)
                if one.name != "names"
            },
        )

    def known_by(self, moment: datetime | np.datetime64) -> "Samples":
        """Return the rows whose label was known.

        Notes
        -----
        Point in time: `end` <= `moment`, hence `start` too.
        """
        return self.take(self.end <= to_instant(moment))

    def between(
        self, first: datetime | np.datetime64, stop: datetime | np.datetime64
    ) -> "Samples":
        """Return the rows decided from `first` up to and without `stop`."""
        low, high = to_instant(first), to_instant(stop)
        return self.take((self.start >= low) & (self.start < high))


def _check_values(samples: Samples) -> None:
    if bool(np.isinf(samples.features).any()):
        column = int(np.flatnonzero(np.isinf(samples.features).any(axis=0))[0])
        raise TrainingError(f"samples: feature {samples.names[column]} is infinite")
    for name in ("label", "outcome"):
        bad = np.flatnonzero(~np.isfinite(getattr(samples, name)))
        if len(bad):
            raise TrainingError(
                f"samples: {name} of {samples.subject_id[bad[0]]} is not a number"
            )
    if bool(np.isnat(samples.start).any() or np.isnat(samples.end).any()):
        raise TrainingError("samples: a row lacks its start or end")
    early = np.flatnonzero(samples.end < samples.start)
    if len(early):
        raise TrainingError(
            f"samples: label of {samples.subject_id[early[0]]} is known before its start"
        )
    if not bool(np.all(samples.start[1:] >= samples.start[:-1])):
        raise TrainingError("samples: start must not fall")
    if len(np.unique(samples.subject_id)) != len(samples):
        raise TrainingError("samples: a subject_id is there twice")
