"""What a row counts: less where its label overlaps others, less the older it is."""

import numpy as np

from lab.arrays import AnyArray, FloatArray, TimeArray
from lab.bars.timeframes import to_instant
from lab.errors import TrainingError
from lab.learning.samples import Samples

_DAY_US = 86_400_000_000.0


def sample_weights(
    samples: Samples, *, as_of: np.datetime64, half_life_days: float
) -> FloatArray:
    """Return uniqueness times recency, scaled to a mean of 1.

    Parameters
    ----------
    samples : Samples
        Rows that are learnt from together.
    as_of : datetime64
        Age is counted back from here to when a label was known.
    half_life_days : float
        Positive.

    Returns
    -------
    ndarray of shape (n_rows,), float64

    Notes
    -----
    Point in time: weights depend on the given rows alone, all known by `as_of`.
    """
    unique = uniqueness(samples.start, samples.end, groups=samples.symbol)
    found = unique * recency(samples.end, as_of=as_of, half_life_days=half_life_days)
    return found / found.mean() if len(found) else found


def uniqueness(
    start: TimeArray, end: TimeArray, *, groups: AnyArray | None = None
) -> FloatArray:
    """Return each label's average uniqueness over its life.

    At a moment a label is worth one over the number of labels alive; a label's
    uniqueness is the mean of that from its start to its end.

    Parameters
    ----------
    start, end : ndarray of shape (n_rows,), datetime64[us]
        Lives, end excluded; one that ends as it starts lives for a microsecond.
    groups : ndarray of shape (n_rows,), optional
        Labels only share a life with those of their group, e.g. of their symbol; all
        are one group if not given.

    Returns
    -------
    ndarray of shape (n_rows,), float64
        Above 0, up to 1.

    Raises
    ------
    TrainingError
        If a label ends before it starts.

    References
    ----------
    .. [1] López de Prado (2018), Advances in Financial Machine Learning, ch. 4.
    """
    first = start.astype("datetime64[us]").astype(np.int64)
    stop = end.astype("datetime64[us]").astype(np.int64)
    if bool((stop < first).any()):
        raise TrainingError("uniqueness: a label ends before it starts")
    stop = np.maximum(stop, first + 1)
    found = np.ones(len(first))
    keys = np.zeros(len(first), dtype=np.int64) if groups is None else groups
    for key in np.unique(keys):
        rows = np.flatnonzero(keys == key)
        found[rows] = _one_group(first[rows], stop[rows])
    return found


def recency(
    known: TimeArray, *, as_of: np.datetime64, half_life_days: float
) -> FloatArray:
    """Return 0.5 to the power of each label's age in half-lives.

    Parameters
    ----------
    known : ndarray of shape (n_rows,), datetime64[us]
        When labels were known, not after `as_of`.
    as_of : datetime64
        Age 0.
    half_life_days : float
        Positive.

    Raises
    ------
    TrainingError
        If a label was not known yet, or the half-life is not positive.
    """
    if not half_life_days > 0:
        raise TrainingError(f"half-life of {half_life_days} days: above 0")
    age = (to_instant(as_of) - known).astype("timedelta64[us]").astype(np.float64)
    if bool((age < 0).any()):
        raise TrainingError(f"a label was not known by {as_of}")
    return np.asarray(0.5 ** (age / _DAY_US / half_life_days), dtype=np.float64)


def _one_group(first: np.ndarray, stop: np.ndarray) -> FloatArray:
    # The integral of 1 / concurrency between every two moments at which it changes.
    moments = np.unique(np.concatenate([first, stop]))
    begins, ends = np.searchsorted(moments, first), np.searchsorted(moments, stop)
    change = np.bincount(begins, minlength=len(moments))
    change -= np.bincount(ends, minlength=len(moments))
    alive = np.maximum(np.cumsum(change), 1)[:-1]
    worth = np.concatenate([[0.0], np.cumsum(np.diff(moments) / alive)])
    return np.asarray((worth[ends] - worth[begins]) / (stop - first), dtype=np.float64)
