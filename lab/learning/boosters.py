"""XGBoost, CatBoost and LightGBM behind one contract, see `lab.learning.learners`."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lab.arrays import FloatArray
from lab.learning._base import damaged, shares, table_of
from lab.learning.config import TrainingConfig

_LEAF_HESSIAN: Final = 0.25


@dataclass(frozen=True, slots=True)
class XgboostLearner:
    """An XGBoost booster; its file is UBJ."""

    booster: Any
    threads: int = 1

    @property
    def n_features(self) -> int:
        """Number of columns it was fitted on."""
        return int(self.booster.num_features())

    def scores(self, features: FloatArray) -> FloatArray:
        """Return margins, shape (n_rows,)."""
        table = table_of(features, self.n_features)
        found = self.booster.inplace_predict(table, predict_type="margin")
        return np.asarray(found, dtype=np.float64)

    def contributions(self, features: FloatArray) -> FloatArray:
        """Return TreeSHAP values, shape (n_rows, n_features + 1)."""
        import xgboost

        table = table_of(features, self.n_features)
        if len(table) == 0:
            return np.zeros((0, self.n_features + 1))
        data = xgboost.DMatrix(table, nthread=self.threads)
        return np.asarray(
            self.booster.predict(data, pred_contribs=True), dtype=np.float64
        )

    def importance(self) -> FloatArray:
        """Return shares of the total gain, shape (n_features,)."""
        found = np.zeros(self.n_features)
        gain = self.booster.get_score(importance_type="total_gain")
        for key, value in gain.items():
            found[int(key[1:])] = value
        return shares(found)

    def to_bytes(self) -> bytes:
        """Return the model as UBJ."""
        return bytes(self.booster.save_raw("ubj"))

    @classmethod
    def fit(
        cls,
        config: TrainingConfig,
        features: FloatArray,
        labels: FloatArray,
        weights: FloatArray,
    ) -> "XgboostLearner":
        """Boost trees of histograms."""
        import xgboost

        is_classes = config.is_classification
        leaf = config.min_leaf_rows * (_LEAF_HESSIAN if is_classes else 1.0)
        data = xgboost.DMatrix(
            features, label=labels, weight=weights, nthread=config.threads
        )
        booster = xgboost.train(
            {
                "objective": "binary:logistic" if is_classes else "reg:squarederror",
                "tree_method": "hist",
                "max_bin": 64,
                "max_depth": config.max_depth,
                "eta": config.learning_rate,
                "lambda": config.l2,
                "min_child_weight": leaf,
                "subsample": config.subsample,
                "colsample_bytree": config.colsample,
                "base_score": float(weights @ labels / weights.sum()),
                "seed": config.seed,
                "nthread": config.threads,
            },
            data,
            num_boost_round=config.n_estimators,
        )
        return cls(booster, config.threads)

    @classmethod
    def load(cls, data: bytes) -> "XgboostLearner":
        """Read UBJ."""
        import xgboost

        booster = xgboost.Booster()
        try:
            booster.load_model(bytearray(data))
        except (xgboost.core.XGBoostError, ValueError, TypeError) as error:
            raise damaged("xgboost", error) from error
        booster.set_param({"nthread": 1})
        return cls(booster)


@dataclass(frozen=True, slots=True)
class CatboostLearner:
    """A CatBoost model; its file is CBM."""

    model: Any
    threads: int = 1

    @property
    def n_features(self) -> int:
        """Number of columns it was fitted on."""
        return len(self.model.feature_names_)

    def scores(self, features: FloatArray) -> FloatArray:
        """Return raw values, shape (n_rows,)."""
        table = table_of(features, self.n_features)
        if len(table) == 0:
            return np.zeros(0)
        found = self.model.predict(
            table, prediction_type="RawFormulaVal", thread_count=self.threads
        )
        return np.asarray(found, dtype=np.float64)

    def contributions(self, features: FloatArray) -> FloatArray:
        """Return CatBoost's SHAP values, shape (n_rows, n_features + 1)."""
        import catboost

        table = table_of(features, self.n_features)
        if len(table) == 0:
            return np.zeros((0, self.n_features + 1))
        found = self.model.get_feature_importance(
            type="ShapValues", data=catboost.Pool(table), thread_count=self.threads
        )
        return np.asarray(found, dtype=np.float64)

    def importance(self) -> FloatArray:
        """Return shares of CatBoost's prediction change, shape (n_features,)."""
        found = self.model.get_feature_importance(
            type="PredictionValuesChange", thread_count=self.threads
        )
        return shares(np.asarray(found, dtype=np.float64))

    def to_bytes(self) -> bytes:
        """Return the model as CBM."""
        # The only writer that needs no file; what `save_model` would write.
        return bytes(self.model._serialize_model())  # noqa: SLF001

    @classmethod
    def fit(
        cls,
        config: TrainingConfig,
        features: FloatArray,
        labels: FloatArray,
        weights: FloatArray,
    ) -> "CatboostLearner":
        """Boost symmetric trees."""
        import catboost

        model = catboost.CatBoost(
            {
                "loss_function": "Logloss" if config.is_classification else "RMSE",
                "iterations": config.n_estimators,
                "learning_rate": config.learning_rate,
                "depth": config.max_depth,
                "l2_leaf_reg": config.l2,
                "bootstrap_type": "Bernoulli",
                "subsample": config.subsample,
                "rsm": config.colsample,
                "boosting_type": "Plain",
                "border_count": 64,
                "random_seed": config.seed,
                "thread_count": config.threads,
                "allow_writing_files": False,
                "logging_level": "Silent",
            }
        )
        model.fit(
            catboost.Pool(features, labels, weight=weights, thread_count=config.threads)
        )
        # The file would name the moment and a random number: equal models, equal bytes.
        notes = model.get_metadata()
        for name in ("model_guid", "train_finish_time"):
            notes[name] = "0"
        for name in ("training", "output_options"):
            notes[name] = "{}"
        return cls(model, config.threads)

    @classmethod
    def load(cls, data: bytes) -> "CatboostLearner":
        """Read CBM."""
        import catboost

        model = catboost.CatBoost()
        try:
            model.load_model(blob=data)
        except (catboost.CatBoostError, ValueError, TypeError) as error:
            raise damaged("catboost", error) from error
        return cls(model)


@dataclass(frozen=True, slots=True)
class LightgbmLearner:
    """A LightGBM booster; its file is text."""

    booster: Any
    threads: int = 1

    @property
    def n_features(self) -> int:
        """Number of columns it was fitted on."""
        return int(self.booster.num_feature())

    def scores(self, features: FloatArray) -> FloatArray:
        """Return raw scores, shape (n_rows,)."""
        table = table_of(features, self.n_features)
        if len(table) == 0:
            return np.zeros(0)
        found = self.booster.predict(table, raw_score=True, num_threads=self.threads)
        return np.asarray(found, dtype=np.float64)

    def contributions(self, features: FloatArray) -> FloatArray:
        """Return TreeSHAP values, shape (n_rows, n_features + 1)."""
        table = table_of(features, self.n_features)
        if len(table) == 0:
            return np.zeros((0, self.n_features + 1))
        found = self.booster.predict(table, pred_contrib=True, num_threads=self.threads)
        return np.asarray(found, dtype=np.float64)

    def importance(self) -> FloatArray:
        """Return shares of the total gain, shape (n_features,)."""
        gain = self.booster.feature_importance("gain")
        return shares(np.asarray(gain, dtype=np.float64))

    def to_bytes(self) -> bytes:
        """Return the model as LightGBM's text."""
        return bytes(self.booster.model_to_string().encode())

    @classmethod
    def fit(
        cls,
        config: TrainingConfig,
        features: FloatArray,
        labels: FloatArray,
        weights: FloatArray,
    ) -> "LightgbmLearner":
        """Boost trees of histograms, leaf by leaf."""
        import lightgbm

        parameters = {
            "objective": "binary" if config.is_classification else "regression",
            "learning_rate": config.learning_rate,
            "max_depth": config.max_depth,
            "num_leaves": 2**config.max_depth,
            "max_bin": 63,
            "lambda_l2": config.l2,
            "min_data_in_leaf": config.min_leaf_rows,
            "bagging_fraction": config.subsample,
            "bagging_freq": 1,
            "feature_fraction": config.colsample,
            "seed": config.seed,
            "num_threads": config.threads,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }
        data = lightgbm.Dataset(
            features, labels, weight=weights, params=parameters, free_raw_data=True
        )
        booster = lightgbm.train(parameters, data, num_boost_round=config.n_estimators)
        return cls(booster, config.threads)

    @classmethod
    def load(cls, data: bytes) -> "LightgbmLearner":
        """Read LightGBM's text."""
        import lightgbm

        try:
            booster = lightgbm.Booster(model_str=_lightgbm_text(data))
        except (lightgbm.basic.LightGBMError, ValueError, TypeError) as error:
            raise damaged("lightgbm", error) from error
        return cls(booster)


def _lightgbm_text(data: bytes) -> str:
    # Its parser trusts what it reads: a cut file must not reach it.
    text = data.decode()
    if not text.startswith("tree\n") or "\nend of trees\n" not in text:
        raise ValueError("not LightGBM's text")
    return text
