"""Which features a model leans on: by gain, and by its own SHAP values."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from lab.arrays import FloatArray
from lab.learning._base import Learner, shares
from lab.learning.stack import Stack

SHAP_ROWS: Final = 1_000
_DIGITS: Final = 6


def gain_importance(model: Learner | Stack, names: Sequence[str]) -> dict[str, float]:
    """Return each feature's share of the gain, the largest first.

    CatBoost: of the change of predictions; ridge: of the squared standardised slopes.
    """
    return _ranked(model.importance(), names)


def shap_importance(
    model: Learner | Stack, features: FloatArray, names: Sequence[str]
) -> dict[str, float]:
    """Return each feature's share of the mean absolute SHAP value, the largest first.

    Parameters
    ----------
    model : Learner or Stack
        Whose exact values.
    features : ndarray of shape (n_rows, n_features), float64
        At most `SHAP_ROWS` of them, evenly spaced, are explained.
    names : sequence of str
        Of the columns.

    References
    ----------
    .. [1] Lundberg et al. (2020), From local explanations to global understanding with
       explainable AI for trees, Nature Machine Intelligence 2.
    """
    every = max(1, -(-len(features) // SHAP_ROWS))
    found = model.contributions(features[::every])[:, :-1]
    return _ranked(shares(np.abs(found).mean(axis=0)), names)


def _ranked(values: FloatArray, names: Sequence[str]) -> dict[str, float]:
    pairs = sorted(zip(names, values.tolist(), strict=True), key=_by_size)
    return {name: round(value, _DIGITS) for name, value in pairs}


def _by_size(pair: tuple[str, float]) -> tuple[float, str]:
    return -pair[1], pair[0]
