"""Models that learn: three boosters and a ridge, in formats that run no code.

Rules:

- Equal rows, settings and seed give equal bytes and equal scores, on any machine load.
- Files are XGBoost's UBJ, CatBoost's CBM, LightGBM's text and JSON for the ridge.
- NaN is an unknown value: boosters branch on it, the ridge takes the training mean.
- The libraries are imported when a model is fitted or loaded, not before.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from lab.arrays import FloatArray
from lab.errors import ModelError, TrainingError
from lab.learning._base import Learner
from lab.learning.boosters import CatboostLearner, LightgbmLearner, XgboostLearner
from lab.learning.config import TrainingConfig
from lab.learning.ridge import RidgeLearner

_Fit: TypeAlias = Callable[
    [TrainingConfig, FloatArray, FloatArray, FloatArray], Learner
]
_Load: TypeAlias = Callable[[bytes], Learner]

MODEL_FILES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "xgboost": "model.ubj",
        "catboost": "model.cbm",
        "lightgbm": "model.txt",
        "ridge": "model.json",
    }
)
"""Name of a model's file, by kind."""


def fit_learner(
    config: TrainingConfig,
    features: FloatArray,
    labels: FloatArray,
    weights: FloatArray,
) -> Learner:
    """Fit the configuration's model.

    Parameters
    ----------
    config : TrainingConfig
        Model, objective, settings, seed and threads.
    features : ndarray of shape (n_rows, n_features), float64
        NaN where unknown.
    labels, weights : ndarray of shape (n_rows,), float64
        Weights have mean 1.

    Raises
    ------
    TrainingError
        If shapes differ, there are no rows or features, or one class is missing.

    Notes
    -----
    Point in time: it knows all it is given; purge before.
    """
    _check_rows(config, features, labels, weights)
    return _FITS[config.model](config, np.ascontiguousarray(features), labels, weights)


def load_learner(kind: str, data: bytes) -> Learner:
    """Read a model's file.

    Parameters
    ----------
    kind : str
        `xgboost`, `catboost`, `lightgbm` or `ridge`.
    data : bytes
        As `to_bytes` returned them. A library may not survive bytes made to harm it:
        check their hash first, as `lab.learning.bundle` does.

    Raises
    ------
    ModelError
        If the kind is unknown, or the bytes are not such a model.
    """
    if kind not in MODEL_FILES:
        raise ModelError(f"model kind {kind!r}: one of {', '.join(MODEL_FILES)}")
    if not data:
        raise ModelError(f"{kind} model is damaged: it is empty")
    return _LOADS[kind](data)


_FITS: Final[Mapping[str, _Fit]] = MappingProxyType(
    {
        "xgboost": XgboostLearner.fit,
        "catboost": CatboostLearner.fit,
        "lightgbm": LightgbmLearner.fit,
        "ridge": RidgeLearner.fit,
    }
)
_LOADS: Final[Mapping[str, _Load]] = MappingProxyType(
    {
        "xgboost": XgboostLearner.load,
        "catboost": CatboostLearner.load,
        "lightgbm": LightgbmLearner.load,
        "ridge": RidgeLearner.load,
    }
)


def _check_rows(
    config: TrainingConfig,
    features: FloatArray,
    labels: FloatArray,
    weights: FloatArray,
) -> None:
    if features.ndim != 2 or 0 in features.shape:
        raise TrainingError(f"features of shape {features.shape}: rows and columns")
    if not len(features) == len(labels) == len(weights):
        raise TrainingError(
            f"{len(features)} rows, {len(labels)} labels, {len(weights)} weights"
        )
    if not config.is_classification:
        return
    classes = set(np.unique(labels).tolist())
    if classes != {0.0, 1.0}:
        found = ", ".join(f"{one:g}" for one in sorted(classes)[:3])
        raise TrainingError(f"labels of a classification: 0 and 1, found {found}")
