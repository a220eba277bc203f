"""Ridge regression, alone or over the scores of other learners."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.arrays import FloatArray
from lab.learning._base import damaged, shares, table_of
from lab.learning.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class RidgeLearner:
    """A ridge regression on standardised columns; its file is JSON.

    Attributes
    ----------
    mean, scale, coefficients : ndarray of shape (n_features,), float64
        Weighted mean and standard deviation of the training rows; slope of a score by
        one standard deviation.
    intercept : float
        Score of the mean row.

    References
    ----------
    .. [1] Hoerl, Kennard (1970), Ridge regression, Technometrics 12.
    """

    mean: FloatArray
    scale: FloatArray
    coefficients: FloatArray
    intercept: float

    @property
    def n_features(self) -> int:
        """Number of columns it was fitted on."""
        return len(self.mean)

    def scores(self, features: FloatArray) -> FloatArray:
        """Return the linear scores, shape (n_rows,)."""
        found = self.intercept + self._parts(features).sum(axis=1)
        return np.asarray(found, dtype=np.float64)

    def contributions(self, features: FloatArray) -> FloatArray:
        """Return the terms of the sum, shape (n_rows, n_features + 1)."""
        parts = self._parts(features)
        return np.column_stack([parts, np.full(len(parts), self.intercept)])

    def importance(self) -> FloatArray:
        """Return shares of the squared standardised slopes, shape (n_features,)."""
        return shares(self.coefficients**2)

    def to_bytes(self) -> bytes:
        """Return the model as JSON with sorted keys."""
        values = {
            "kind": "ridge",
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "coefficients": self.coefficients.tolist(),
            "intercept": self.intercept,
        }
        return json.dumps(values, sort_keys=True).encode()

    def _parts(self, features: FloatArray) -> FloatArray:
        table = (table_of(features, self.n_features) - self.mean) / self.scale
        return np.nan_to_num(table, nan=0.0) * self.coefficients

    @classmethod
    def fit(
        cls,
        config: TrainingConfig,
        features: FloatArray,
        labels: FloatArray,
        weights: FloatArray,
    ) -> "RidgeLearner":
        """Solve the weighted normal equations."""
        target = 2.0 * labels - 1.0 if config.is_classification else labels
        is_known = np.isfinite(features)
        mass = np.maximum(weights @ is_known, 1e-12)
        mean = weights @ np.where(is_known, features, 0.0) / mass
        gap = np.where(is_known, features - mean, 0.0)
        scale = np.sqrt(weights @ gap**2 / mass)
        scale[~(scale > 1e-12 * np.maximum(np.abs(mean), 1.0))] = 1.0
        table = gap / scale
        intercept = float(weights @ target / weights.sum())
        center = weights @ table / weights.sum()
        table -= center
        weighted = table * weights[:, None]
        penalty = (config.l2 + 1e-9) * np.eye(table.shape[1])
        slopes = np.linalg.solve(
            weighted.T @ table + penalty, weighted.T @ (target - intercept)
        )
        return cls(mean, scale, slopes, float(intercept - center @ slopes))

    @classmethod
    def load(cls, data: bytes) -> "RidgeLearner":
        """Read JSON."""
        try:
            return cls._of(json.loads(data))
        except (ValueError, TypeError, KeyError) as error:
            raise damaged("ridge", error) from error

    @classmethod
    def _of(cls, values: Any) -> "RidgeLearner":
        mean, scale, coefficients = (
            np.asarray(values[name], dtype=np.float64)
            for name in ("mean", "scale", "coefficients")
        )
        found = cls(mean, scale, coefficients, float(values["intercept"]))
        if values["kind"] != "ridge" or not _is_sound(found):
            raise ValueError("not a ridge")
        return found


def _is_sound(found: RidgeLearner) -> bool:
    arrays = (found.mean, found.scale, found.coefficients)
    shapes = {one.shape for one in arrays}
    is_finite = all(bool(np.isfinite(one).all()) for one in arrays)
    is_list = len(shapes) == 1 and found.mean.ndim == 1
    return is_list and is_finite and bool(np.isfinite(found.intercept))
