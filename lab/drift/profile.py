"""What a model was trained on, kept for comparing with what it sees now.

A profile is made once, at training, and travels with the model: per feature its sorted
values, its decile edges with their shares, its moments; and a sample of whole rows in
time order for block permutations. It holds no labels and no predictions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lab.arrays import AnyArray, FloatArray, IntArray, TimeArray
from lab.errors import DriftError

N_BINS: Final = 10
MAX_ROWS: Final = 5_000
POINTS: Final = 20_000
_CHUNKS: Final = 5
_FORMAT: Final = b"drift-profile-1"


@dataclass(frozen=True, slots=True)
class FeatureProfile:
    """One feature of the reference.

    Attributes
    ----------
    name : str
        Feature.
    n_known, n_missing : int
        Finite values, and the others.
    mean, std : float
        Of the finite values (ddof 0); NaN without any.
    edges : ndarray of shape (n_edges,), float64
        Inner decile edges, increasing. A value that several deciles share has an edge
        of its own just below it instead.
    shares : ndarray of shape (n_edges + 1,), float64
        Share of the finite values in each bin; a value on an edge is in the lower bin.
    values : ndarray of shape (n_points,), float64
        Sorted finite values: all of them, or as many evenly spaced order statistics.
    """

    name: str
    n_known: int
    n_missing: int
    mean: float
    std: float
    edges: FloatArray
    shares: FloatArray
    values: FloatArray


@dataclass(frozen=True, slots=True)
class ReferenceProfile:
    """The reference of a drift report.

    Attributes
    ----------
    features : tuple of FeatureProfile
        In the order of the columns.
    rows : ndarray of shape (n_kept, n_features), float64
        A sample of whole rows in time order: all of them, or contiguous stretches
        spread evenly over the time.
    moments : ndarray of shape (n_kept,), int64
        Microseconds since 1970, or row numbers where no times were given. Rows of one
        moment stay together.
    stretch : ndarray of shape (n_kept,), int64
        Number of the stretch each kept row is of; blocks never cross stretches.
    """

    features: tuple[FeatureProfile, ...]
    rows: FloatArray
    moments: IntArray
    stretch: IntArray

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(one.name for one in self.features)

    @classmethod
    def of(
        cls,
        X: FloatArray,  # noqa: N803 - the field's name for a table of features
        names: Sequence[str],
        *,
        times: TimeArray | None = None,
        max_rows: int = MAX_ROWS,
        points: int | None = POINTS,
    ) -> "ReferenceProfile":
        """Describe the rows a model was trained on.

        Parameters
        ----------
        X : ndarray of shape (n_obs, n_features), float64
            Rows in time order; NaN is a missing value.
        names : sequence of str
            Of the features.
        times : ndarray of shape (n_obs,), datetime64, optional
            When each row was decided on, not decreasing. Rows of one time are kept
            together, as a panel of instruments needs; without it each row is a moment
            of its own.
        max_rows : int, default 5,000
            Most rows kept for permutations.
        points : int, optional
            Most sorted values kept per feature, 20,000 by default: a KS statistic is
            then within 1 / 20,000 of the exact one. None keeps all of them.

        Raises
        ------
        DriftError
            If the shapes do not fit, a name repeats, or times decrease.

        Notes
        -----
        Point in time: it knows exactly the rows it is given; give training rows only.
        """
        table = np.asarray(X, dtype=np.float64)
        _check(table, names, times)
        moments = (
            np.arange(len(table))
            if times is None
            else np.asarray(times).astype("datetime64[us]").astype(np.int64)
        )
        kept, stretch = take_stretches(moments, max_rows)
        return cls(
            tuple(
                _feature(str(name), table[:, number], points)
                for number, name in enumerate(names)
            ),
            np.ascontiguousarray(table[kept]),
            moments[kept],
            stretch,
        )

    def to_bytes(self) -> bytes:
        """Return it as two Arrow IPC streams, features and rows; equal for equal data."""
        sink = pa.BufferOutputStream()
        for table in (_feature_table(self.features), self._row_table()):
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
        return bytes(sink.getvalue())

    def _row_table(self) -> pa.Table:
        columns: dict[str, AnyArray] = {
            "moment": self.moments,
            "stretch": self.stretch,
        }
        columns |= {f"x{k}": self.rows[:, k] for k in range(self.rows.shape[1])}
        return pa.table(columns)

    @classmethod
    def from_bytes(cls, data: bytes) -> "ReferenceProfile":
        """Take a profile back from its bytes.

        Raises
        ------
        DriftError
            If they are not a profile.
        """
        try:
            return cls._read(pa.BufferReader(data))
        except (pa.ArrowException, KeyError, ValueError, OSError) as error:
            told = " ".join(str(error).split())
            raise DriftError(f"reference profile cannot be read: {told}") from error

    @classmethod
    def _read(cls, source: Any) -> "ReferenceProfile":
        described = pa.ipc.open_stream(source).read_all()
        if (described.schema.metadata or {}).get(b"format") != _FORMAT:
            raise DriftError(f"reference profile: not of format {_FORMAT.decode()}")
        kept = pa.ipc.open_stream(source).read_all()
        features = _features(described)
        columns = [kept[f"x{k}"].to_numpy() for k in range(len(features))]
        rows = (
            np.column_stack(columns) if kept.num_rows else np.empty((0, len(columns)))
        )
        return cls(
            features, rows, kept["moment"].to_numpy(), kept["stretch"].to_numpy()
        )


def _check(table: FloatArray, names: Sequence[str], times: TimeArray | None) -> None:
    if table.ndim != 2 or table.shape[1] != len(names) or not table.size:
        raise DriftError(
            f"reference of shape {table.shape}: rows, and one column for each of"
            f" {len(names)} names"
        )
    if len(set(names)) != len(names):
        raise DriftError("reference: a name repeats")
    if times is not None:
        if len(times) != len(table):
            raise DriftError(f"reference: {len(times)} times of {len(table)} rows")
        if (np.diff(np.asarray(times)) < np.timedelta64(0)).any():
            raise DriftError("reference: rows are not in time order")


def _feature(name: str, column: FloatArray, points: int | None) -> FeatureProfile:
    values = np.sort(column[np.isfinite(column)])
    n = len(values)
    edges, shares = np.empty(0), np.ones(1)
    if n:
        edges = _edges(values)
        upto = np.searchsorted(values, edges, side="right")
        shares = np.diff(upto, prepend=0, append=n) / n
    kept = values
    if points is not None and n > points:
        kept = values[((np.arange(points) + 0.5) * n / points).astype(np.int64)]
    return FeatureProfile(
        name,
        n,
        len(column) - n,
        float(values.mean()) if n else float("nan"),
        float(values.std()) if n else float("nan"),
        edges,
        shares,
        kept,
    )


def _edges(values: FloatArray) -> FloatArray:
    # A value that fills a bin gets one of its own, with an edge just below it.
    deciles, counts = np.unique(
        np.quantile(values, np.arange(1, N_BINS) / N_BINS), return_counts=True
    )
    is_atom = (counts > 1) | (deciles == values[-1])
    return np.unique(np.append(deciles, np.nextafter(deciles[is_atom], -np.inf)))


def take_stretches(moments: IntArray, max_rows: int) -> tuple[AnyArray, IntArray]:
    """Choose rows for permutations: all, or contiguous stretches spread over the time.

    Parameters
    ----------
    moments : ndarray of shape (n_rows,), int64
        Of the rows, not decreasing; stretches are cut between moments.
    max_rows : int
        Most rows to choose.

    Returns
    -------
    kept, stretch : ndarray of shape (n_kept,), int64
        Row numbers, increasing, and the stretch each is of.
    """
    n = len(moments)
    if n <= max_rows:
        return np.arange(n), np.zeros(n, dtype=np.int64)
    width = max_rows // _CHUNKS
    parts, numbers = [], []
    for k in range(_CHUNKS):
        start = round(k * (n - width) / (_CHUNKS - 1))
        first = int(np.searchsorted(moments, moments[start], side="left"))
        first = first if first == start else _next_moment(moments, start)
        last = int(np.searchsorted(moments, moments[min(start + width, n) - 1], "left"))
        is_whole = start + width >= n or moments[start + width] != moments[last]
        rows = np.arange(first, start + width if is_whole else last)
        parts.append(rows)
        numbers.append(np.full(len(rows), k, dtype=np.int64))
    return np.concatenate(parts), np.concatenate(numbers)


def _next_moment(moments: IntArray, row: int) -> int:
    return int(np.searchsorted(moments, moments[row], side="right"))


def _feature_table(features: Sequence[FeatureProfile]) -> pa.Table:
    lists = pa.large_list(pa.float64())
    fields = [
        ("name", pa.string(), [one.name for one in features]),
        ("n_known", pa.int64(), [one.n_known for one in features]),
        ("n_missing", pa.int64(), [one.n_missing for one in features]),
        ("mean", pa.float64(), [one.mean for one in features]),
        ("std", pa.float64(), [one.std for one in features]),
    ]
    schema = pa.schema(
        [
            *(pa.field(name, kind) for name, kind, _ in fields),
            *(pa.field(name, lists) for name in ("edges", "shares", "values")),
        ],
        metadata={b"format": _FORMAT},
    )
    arrays = [pa.array(values, kind) for _, kind, values in fields]
    for name in ("edges", "shares", "values"):
        parts = [np.asarray(getattr(one, name)) for one in features]
        ends = np.cumsum([0, *(len(part) for part in parts)])
        arrays.append(
            pa.LargeListArray.from_arrays(
                pa.array(ends, pa.int64()), pa.array(np.concatenate(parts))
            )
        )
    return pa.table(arrays, schema=schema)


def _features(table: pa.Table) -> tuple[FeatureProfile, ...]:
    table = table.combine_chunks()
    scalars = table.select(["name", "n_known", "n_missing", "mean", "std"]).to_pylist()
    lists = {
        name: table[name].chunk(0) if table.num_rows else pa.array([])
        for name in ("edges", "shares", "values")
    }
    found = []
    for number, row in enumerate(scalars):
        own = {name: column[number].values.to_numpy() for name, column in lists.items()}
        found.append(FeatureProfile(**row, **own))
    return tuple(found)
