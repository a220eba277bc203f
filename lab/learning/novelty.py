"""Whether a row is like those that a model was trained on.

A row is novel if any of this holds:

- **Far.** Its distance from the training rows is beyond their own 99.9 % quantile. The
  distance is the larger of two, each divided by its own quantile among the training
  rows: the furthest single feature in robust standard deviations, and Mahalanobis'
  distance, which sees values that are common one by one but never come together.
- **A value of a category never seen.** A column that took a few whole numbers in
  training (a weekday, a flag, a constant) takes another.
- **A pattern of unknowns never seen.** Features are NaN that never were so together.
- **Not a number to compute with**: an infinite value.

The guard flags and never changes a prediction: whoever asks decides what a flag means.
Only numpy is needed, so a server may load it.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lab.arrays import BoolArray, FloatArray
from lab.errors import FeatureError

QUANTILE: Final = 0.999
"""Share of the training rows that are not far."""

MAX_CATEGORIES: Final = 12
"""A column of whole numbers with more distinct values is a measure, not a category."""

_MIN_ROWS: Final = 2
_CLIP: Final = 5.0  # robust standard deviations that a row may pull on the covariance
_SHRINK: Final = 0.1  # towards no correlation, at least
_BLOCK: Final = 512  # rows at a time: they stay in the processor's cache
_IQR_OF_NORMAL: Final = 1.3489795003921634
_FIELDS: Final = (
    "centre",
    "scale",
    "whitener",
    "limits",
    "threshold",
    "categories",
    "patterns",
)


@dataclass(frozen=True, slots=True, eq=False)
class NoveltyGuard:
    """What training rows looked like.

    Attributes
    ----------
    centre, scale : ndarray of shape (n_features,), float64
        Median and robust standard deviation; 0 and 1 of a column that is a category.
    whitener : ndarray of shape (n_features, n_features), float64
        Takes scaled rows to uncorrelated ones; zeros at categories.
    limits : ndarray of shape (2,), float64
        Quantiles of the two distances among the training rows.
    threshold : float
        Quantile of the combined distance among the training rows.
    categories : dict of int to tuple of float
        Values seen, by column.
    patterns : frozenset of bytes
        Packed bits of which features were NaN.
    """

    centre: FloatArray
    scale: FloatArray
    whitener: FloatArray
    limits: FloatArray
    threshold: float
    categories: dict[int, tuple[float, ...]]
    patterns: frozenset[bytes]

    @classmethod
    def fit(cls, features: FloatArray) -> "NoveltyGuard":
        """Remember training rows.

        Parameters
        ----------
        features : ndarray of shape (n, n_features), float64
            Training rows; NaN = unknown. No infinite values.

        Raises
        ------
        FeatureError
            If there are fewer than two rows, no column, or an infinite value.

        Notes
        -----
        Point in time: knows the rows given and nothing else; give training rows alone.

        References
        ----------
        .. [1] Rousseeuw & Leroy (1987), Robust Regression and Outlier Detection, ch. 7.
        .. [2] Ledoit & Wolf (2004), A Well-Conditioned Estimator for Large-Dimensional
           Covariance Matrices, J. of Multivariate Analysis 88(2).
        """
        rows = _checked(features, None)
        if len(rows) < _MIN_ROWS or rows.shape[1] == 0:
            raise FeatureError(
                f"novelty: at least {_MIN_ROWS} rows and a column are needed,"
                f" not {rows.shape}"
            )
        if np.isinf(rows).any():
            raise FeatureError("novelty: a training row holds an infinite value")
        categories = _categories(rows)
        centre, scale = _scales(rows, categories)
        whitener = _whitener(_scaled(rows, centre, scale, categories))
        draft = cls(
            centre=centre,
            scale=scale,
            whitener=whitener,
            limits=np.ones(2),
            threshold=np.inf,
            categories=categories,
            patterns=frozenset(_patterns(rows)),
        )
        parts = draft._distances(rows)
        limits = np.maximum(np.quantile(parts, QUANTILE, axis=0), 1e-9)
        far = float(np.quantile((parts / limits).max(axis=1), QUANTILE))
        return cls(
            centre=centre,
            scale=scale,
            whitener=whitener,
            limits=limits,
            threshold=max(far, 1e-9),
            categories=categories,
            patterns=draft.patterns,
        )

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return len(self.centre)

    def distance(self, features: FloatArray) -> FloatArray:
        """Return how far rows are; beyond `threshold` is far.

        Parameters
        ----------
        features : ndarray of shape (n, n_features), float64
            Rows; an unknown counts as the middle.

        Returns
        -------
        ndarray of shape (n,), float64

        Raises
        ------
        FeatureError
            If the rows have another number of columns.
        """
        rows = _checked(features, self.n_features)
        found: FloatArray = (self._distances(rows) / self.limits).max(axis=1)
        return found

    def is_novel(self, features: FloatArray) -> BoolArray:
        """Return which rows are unlike the training rows.

        Parameters
        ----------
        features : ndarray of shape (n, n_features), float64
            Rows; NaN = unknown.

        Returns
        -------
        ndarray of shape (n,), bool

        Raises
        ------
        FeatureError
            If the rows have another number of columns.
        """
        rows = _checked(features, self.n_features)
        blocks = [
            self._is_block_novel(rows[start : start + _BLOCK])
            for start in range(0, len(rows), _BLOCK)
        ]
        return np.concatenate([np.zeros(0, dtype=np.bool_), *blocks])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as lists, ready for JSON; floats keep every bit."""
        return {
            "centre": self.centre.tolist(),
            "scale": self.scale.tolist(),
            "whitener": self.whitener.tolist(),
            "limits": self.limits.tolist(),
            "threshold": self.threshold,
            "categories": {
                str(column): list(seen) for column, seen in self.categories.items()
            },
            "patterns": sorted(one.hex() for one in self.patterns),
        }

    def to_json(self) -> str:
        """Return canonical JSON."""
        return json.dumps(
            self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False
        )

    @classmethod
    def from_dict(cls, content: Any) -> "NoveltyGuard":
        """Take a guard back from lists.

        Raises
        ------
        FeatureError
            If it is no such guard.
        """
        if not isinstance(content, dict) or set(content) != set(_FIELDS):
            raise FeatureError(f"novelty: a guard has {', '.join(_FIELDS)}")
        try:
            guard = cls(
                centre=np.array(content["centre"], np.float64),
                scale=np.array(content["scale"], np.float64),
                whitener=np.array(content["whitener"], np.float64),
                limits=np.array(content["limits"], np.float64),
                threshold=float(content["threshold"]),
                categories={
                    int(column): tuple(float(value) for value in seen)
                    for column, seen in content["categories"].items()
                },
                patterns=frozenset(bytes.fromhex(one) for one in content["patterns"]),
            )
        except (AttributeError, TypeError, ValueError) as error:
            raise FeatureError(f"novelty: not a guard: {error}") from error
        guard._require_shapes()
        return guard

    @classmethod
    def from_json(cls, text: str) -> "NoveltyGuard":
        """Take a guard back from JSON.

        Raises
        ------
        FeatureError
            If it is no such guard.
        """
        try:
            content = json.loads(text)
        except ValueError as error:
            raise FeatureError(f"novelty: not JSON: {error}") from error
        return cls.from_dict(content)

    def _require_shapes(self) -> None:
        n = self.n_features
        shapes = {"scale": (n,), "whitener": (n, n), "limits": (2,)}
        for name in ("centre", *shapes):
            values = getattr(self, name)
            if values.shape != shapes.get(name, (n,)) or not np.isfinite(values).all():
                raise FeatureError(f"novelty: {name} has the wrong shape or no number")
        if n == 0 or self.scale.min() <= 0 or self.limits.min() <= 0:
            raise FeatureError("novelty: scales and limits must be positive")
        if not self.threshold > 0 or any(not 0 <= one < n for one in self.categories):
            raise FeatureError("novelty: threshold or a category's column is off")
        if any(len(one) != (n + 7) // 8 for one in self.patterns):
            raise FeatureError(f"novelty: a pattern is not of {n} features")

    def _is_block_novel(self, rows: FloatArray) -> BoolArray:
        # An infinite value is infinitely far, or not among a category's.
        with np.errstate(over="ignore", invalid="ignore"):
            distance = (self._distances(rows) / self.limits).max(axis=1)
            found = ~(distance <= self.threshold)
        for column, seen in self.categories.items():
            values = rows[:, column]
            is_seen = np.isnan(values)
            for one in seen:
                is_seen |= values == one
            found |= ~is_seen
        known = self.patterns
        is_new = [one not in known for one in _patterns(rows)]
        return np.asarray(found | np.array(is_new, dtype=np.bool_))

    def _distances(self, rows: FloatArray) -> FloatArray:
        # Furthest feature, Mahalanobis: (n, 2)
        scaled = _scaled(rows, self.centre, self.scale, self.categories)
        white = scaled @ self.whitener
        squares = np.einsum("ij,ij->i", white, white)
        return np.column_stack([np.abs(scaled).max(axis=1), np.sqrt(squares)])


def _checked(features: FloatArray, n_features: int | None) -> FloatArray:
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or n_features not in {None, rows.shape[1]}:
        wanted = "n_features" if n_features is None else n_features
        raise FeatureError(f"novelty: rows of shape {rows.shape}, not (n, {wanted})")
    return rows


def _categories(rows: FloatArray) -> dict[int, tuple[float, ...]]:
    found = {}
    for column in range(rows.shape[1]):
        known = rows[~np.isnan(rows[:, column]), column]
        seen = np.unique(known)
        is_whole = bool(np.all(seen == np.round(seen)))
        if len(seen) == 1 or (is_whole and len(seen) <= MAX_CATEGORIES):
            found[column] = tuple(seen.tolist())
    return found


def _scales(
    rows: FloatArray, categories: dict[int, tuple[float, ...]]
) -> tuple[FloatArray, FloatArray]:
    n = rows.shape[1]
    centre, scale = np.zeros(n), np.ones(n)
    for column in range(n):
        known = rows[~np.isnan(rows[:, column]), column]
        if column in categories or len(known) == 0:
            continue
        low, centre[column], high = np.quantile(known, [0.25, 0.5, 0.75])
        # Mostly one value, e.g. no news: the spread of all is what there is.
        spread = (high - low) / _IQR_OF_NORMAL
        scale[column] = spread if spread > 0 else known.std()
    return centre, np.where(scale > 0, scale, 1.0)


def _scaled(
    rows: FloatArray,
    centre: FloatArray,
    scale: FloatArray,
    categories: dict[int, tuple[float, ...]],
) -> FloatArray:
    scaled = rows - centre
    scaled /= scale
    np.copyto(scaled, 0.0, where=np.isnan(rows))
    scaled[:, list(categories)] = 0.0
    return scaled


def _whitener(scaled: FloatArray) -> FloatArray:
    # Of the shrunk covariance C: the matrix W with W Wᵀ = C⁻¹, by eigenvectors.
    n, k = scaled.shape
    clipped = np.clip(scaled, -_CLIP, _CLIP)
    covariance = clipped.T @ clipped / n
    share = max(_SHRINK, k / (k + n))
    variance = np.diag(covariance).copy()
    covariance = (1 - share) * covariance + share * np.diag(variance)
    is_constant = variance <= 0
    covariance[is_constant, is_constant] = 1.0
    values, vectors = np.linalg.eigh(covariance)
    whitener = vectors / np.sqrt(np.maximum(values, 1e-9))
    whitener[is_constant] = 0.0
    return np.asarray(whitener, dtype=np.float64)


def _patterns(rows: FloatArray) -> list[bytes]:
    packed = np.packbits(np.isnan(rows), axis=1)
    width = packed.shape[1]
    if width == 0:
        return [b""] * len(rows)
    whole = packed.tobytes()
    return [whole[i : i + width] for i in range(0, len(whole), width)]
