"""What a training is asked to do, as one frozen and validated value.

The same configuration, samples and seed give the same model: equal XGBoost bytes, equal
CatBoost and LightGBM predictions. Hence the seed and the thread count belong to it.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias, cast

import numpy as np

from lab.errors import TrainingError

ModelKind: TypeAlias = Literal["xgboost", "catboost", "lightgbm", "ridge"]
Objective: TypeAlias = Literal["classification", "regression"]

MODELS: Final[tuple[ModelKind, ...]] = ("xgboost", "catboost", "lightgbm", "ridge")
BOOSTERS: Final[tuple[ModelKind, ...]] = ("xgboost", "catboost", "lightgbm")
OBJECTIVES: Final[tuple[Objective, ...]] = ("classification", "regression")

_FIRST: Final = np.datetime64("1900-01-01", "us")


def _whole(default: int, low: int, high: int) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


def _real(default: float, low: float, high: float) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Settings of one training.

    Attributes
    ----------
    feature_set : str
        Name of the features that the samples hold.
    model : str
        `xgboost`, `catboost`, `lightgbm` or `ridge`.
    objective : str
        `classification`: labels are 0 or 1 and scores are log odds before calibration
        (`ridge`: a linear fit of -1 and 1). `regression`: labels are real numbers.
    train_period_days : int
        7 to 365: only rows that start this long before a window are trained on.
    is_expanding : bool
        Train on every earlier row instead, weighted by age: for rows that are rare.
    backtest_period_days : int
        1 to 30: length of a walk-forward window, and of the last block, which the
        final model does not see and is checked on.
    n_estimators : int
        1 to 200 trees.
    learning_rate : float
        0.001 to 1.
    max_depth : int
        1 to 4: a served row costs at most 200 trees of depth 4.
    min_rows : int
        Fewest training rows; a walk-forward window with fewer has no scores.
    half_life_days : float
        Age at which a row counts half.
    l2 : float
        Shrinkage of a leaf; of `ridge`, of standardised coefficients.
    min_leaf_rows : int
        Fewest rows in a leaf, where the library has such a limit.
    subsample, colsample : float
        Share of the rows of each tree, and of the features.
    cost_bps : float
        Cost of one side of a trade; only regressions trade by their sign, twice a row.
    seed : int
        Of every draw.
    threads : int
        Of the library. It takes part in reproducibility; 1 is the product's choice.

    Raises
    ------
    TrainingError
        If a value is of another type or out of range.
    """

    feature_set: str = "order-v1"
    model: ModelKind = "xgboost"
    objective: Objective = "classification"
    train_period_days: int = _whole(365, 7, 365)
    is_expanding: bool = False
    backtest_period_days: int = _whole(30, 1, 30)
    n_estimators: int = _whole(200, 1, 200)
    learning_rate: float = _real(0.03, 0.001, 1.0)
    max_depth: int = _whole(4, 1, 4)
    min_rows: int = _whole(300, 20, 10_000_000)
    half_life_days: float = _real(180.0, 1.0, 36_500.0)
    l2: float = _real(10.0, 0.0, 1e6)
    min_leaf_rows: int = _whole(20, 1, 100_000)
    subsample: float = _real(0.8, 0.1, 1.0)
    colsample: float = _real(0.8, 0.1, 1.0)
    cost_bps: float = _real(10.0, 0.0, 1000.0)
    seed: int = _whole(0, 0, 2**31 - 1)
    threads: int = _whole(1, 1, 64)

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        _check_name("feature_set", self.feature_set)
        _check_choice("model", self.model, MODELS)
        _check_choice("objective", self.objective, OBJECTIVES)
        if not isinstance(self.is_expanding, bool):
            raise TrainingError(
                f"training is_expanding = {self.is_expanding!r}: true or false"
            )
        for one in fields(self):
            if one.metadata:
                value = _checked(one.name, getattr(self, one.name), one.metadata)
                object.__setattr__(self, one.name, value)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "TrainingConfig":
        """Read settings, e.g. from a TOML or JSON file.

        Parameters
        ----------
        values : mapping
            Some of the fields; the others take their defaults.

        Raises
        ------
        TrainingError
            If a key is unknown or a value not allowed.
        """
        known = [one.name for one in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise TrainingError(
                f"training settings: unknown {', '.join(map(str, unknown))};"
                f" allowed are {', '.join(known)}"
            )
        return cls(**values)

    @classmethod
    def from_json(cls, text: str | bytes) -> "TrainingConfig":
        """Read what `to_json` wrote.

        Raises
        ------
        TrainingError
            If it is not JSON, or not a configuration.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise TrainingError(f"training settings: not JSON: {error}") from error
        if not isinstance(values, dict):
            raise TrainingError("training settings: not a JSON object")
        return cls.from_mapping(values)

    def to_json(self) -> str:
        """Return the settings as JSON with sorted keys: equal ones give equal text."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def sha256(self) -> str:
        """Hash of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def train_from(self, moment: np.datetime64) -> np.datetime64:
        """Return the decision time from which rows teach a model made at `moment`."""
        if self.is_expanding:
            return _FIRST
        begin: np.datetime64 = moment - np.timedelta64(self.train_period_days, "D")
        return begin

    @property
    def is_classification(self) -> bool:
        """Whether labels are 0 or 1 and predictions probabilities."""
        return self.objective == "classification"


def _check_name(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise TrainingError(f"training {name} = {value!r}: a name")


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise TrainingError(f"training {name} = {value!r}: one of {', '.join(allowed)}")


def _checked(name: str, value: Any, limits: Mapping[str, Any]) -> int | float:
    # TOML writes 180 for 180.0: a whole number is a real one too.
    low, high = limits["low"], limits["high"]
    is_whole = isinstance(low, int)
    where = f"training {name} = {value!r}"
    is_typed = isinstance(value, int if is_whole else int | float)
    is_odd = isinstance(value, bool) or not is_typed
    if is_odd or (isinstance(value, float) and not math.isfinite(value)):
        raise TrainingError(f"{where}: a {'whole ' if is_whole else ''}number")
    if not low <= value <= high:
        raise TrainingError(f"{where}: between {low:g} and {high:g}")
    return cast("int", value) if is_whole else float(value)
