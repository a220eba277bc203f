"""What every learner can do, and what they share."""

from typing import Protocol

import numpy as np

from lab.arrays import FloatArray
from lab.errors import ModelError


class Learner(Protocol):
    """A fitted model."""

    @property
    def n_features(self) -> int:
        """Number of columns it was fitted on."""

    def scores(self, features: FloatArray) -> FloatArray:
        """Return raw scores, shape (n_rows,): log odds, or values of a regression."""

    def contributions(self, features: FloatArray) -> FloatArray:
        """Return what each feature adds to a score, shape (n_rows, n_features + 1).

        Exact SHAP values of the library; the last column is the expected score, and a
        row's sum is its score.
        """

    def importance(self) -> FloatArray:
        """Return shares of the gain, shape (n_features,): sum 1, or all 0."""

    def to_bytes(self) -> bytes:
        """Return the model's file."""


def shares(values: FloatArray) -> FloatArray:
    """Return values over their sum; zeros where that is not positive."""
    total = float(values.sum())
    return values / total if total > 0 else np.zeros(len(values))


def table_of(features: FloatArray, n_features: int) -> FloatArray:
    """Return rows as the libraries read them.

    Raises
    ------
    ModelError
        If the number of columns is another.
    """
    if features.ndim != 2 or features.shape[1] != n_features:
        raise ModelError(
            f"features of shape {features.shape}, not (n_rows, {n_features})"
        )
    return np.ascontiguousarray(features, dtype=np.float64)


def damaged(kind: str, error: Exception) -> ModelError:
    """Return the one line for bytes that are no such model."""
    lines = str(error).strip().splitlines() or [""]
    return ModelError(f"{kind} model is damaged: {lines[-1].strip()[:200]}")
