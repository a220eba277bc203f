import pytest

from lab.errors import TrainingError
from lab.learning.config import TrainingConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train_period_days": 6}, "train_period_days = 6: between 7 and 365"),
        ({"train_period_days": 366}, "between 7 and 365"),
        ({"backtest_period_days": 31}, "between 1 and 30"),
        ({"n_estimators": 201}, "between 1 and 200"),
        ({"n_estimators": 10.5}, "a whole number"),
        ({"n_estimators": True}, "a whole number"),
        ({"learning_rate": "fast"}, "a number"),
        ({"learning_rate": float("nan")}, "a number"),
        ({"learning_rate": 10**400}, "between 0.001 and 1"),
        ({"max_depth": 5}, "between 1 and 4"),
        ({"model": "forest"}, "model = 'forest': one of xgboost, catboost"),
        ({"objective": "ranking"}, "one of classification, regression"),
        ({"feature_set": ""}, "feature_set = '': a name"),
        ({"depth": 4}, "unknown depth; allowed are feature_set"),
        ({"l2": [1]}, "l2 = .*: a number"),
    ],
)
def test_a_setting_that_is_not_allowed_is_one_line(values, message):
    with pytest.raises(TrainingError, match=message) as found:
        TrainingConfig.from_mapping(values)
    assert "\n" not in str(found.value)


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(AttributeError):
        TrainingConfig().seed = 1  # ty: ignore


def test_settings_survive_json_and_equal_ones_have_equal_hashes():
    config = TrainingConfig(model="catboost", half_life_days=30, seed=7)
    again = TrainingConfig.from_json(config.to_json())
    assert again == config
    assert again.sha256 == config.sha256 != TrainingConfig().sha256


def test_a_whole_number_is_a_real_one_too():
    assert TrainingConfig.from_mapping({"l2": 5}) == TrainingConfig(l2=5.0)
    assert TrainingConfig(l2=5).sha256 == TrainingConfig(l2=5.0).sha256


@pytest.mark.parametrize("text", ["{", "[]", "1"])
def test_settings_that_are_no_object_are_refused(text):
    with pytest.raises(TrainingError, match=r"not (a )?JSON"):
        TrainingConfig.from_json(text)
