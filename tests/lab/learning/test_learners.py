import numpy as np
import pytest

from lab.errors import ModelError, TrainingError
from lab.learning.config import MODELS, TrainingConfig
from lab.learning.learners import MODEL_FILES, fit_learner, load_learner
from tests.lab.learning.planted import planted

ROWS = planted(0, 1_500)
ONES = np.ones(len(ROWS))


def fitted(model, **settings):
    config = TrainingConfig(model=model, n_estimators=40, **settings)
    label = ROWS.label
    if config.objective == "regression":
        label = np.nan_to_num(ROWS.features[:, 0])
    return fit_learner(config, ROWS.features, label, ONES)


@pytest.mark.parametrize("objective", ["classification", "regression"])
@pytest.mark.parametrize("model", MODELS)
def test_equal_settings_give_equal_bytes_and_bytes_give_equal_scores(model, objective):
    first, again = (fitted(model, objective=objective) for _ in range(2))
    assert first.to_bytes() == again.to_bytes()
    loaded = load_learner(model, first.to_bytes())
    np.testing.assert_array_equal(
        loaded.scores(ROWS.features), first.scores(ROWS.features)
    )
    assert loaded.n_features == 6


@pytest.mark.parametrize("model", MODELS[:3])
def test_another_seed_is_another_model(model):
    assert fitted(model).to_bytes() != fitted(model, seed=1).to_bytes()


@pytest.mark.parametrize("model", MODELS)
def test_contributions_sum_to_the_score_and_the_signal_leads(model):
    learner = fitted(model)
    parts = learner.contributions(ROWS.features)
    assert parts.shape == (len(ROWS), 7)
    np.testing.assert_allclose(
        parts.sum(axis=1), learner.scores(ROWS.features), atol=1e-5
    )
    gain = learner.importance()
    assert gain.sum() == pytest.approx(1.0)
    assert gain.argmax() == 0
    assert np.abs(parts[:, :-1]).mean(axis=0).argmax() == 0


@pytest.mark.parametrize("model", MODELS)
def test_weights_decide_what_is_learnt(model):
    config = TrainingConfig(model=model, n_estimators=40, min_leaf_rows=1)
    features = np.tile(np.array([[0.0], [1.0]]), (200, 1))
    labels = np.tile(np.array([0.0, 1.0, 1.0, 0.0]), 100)
    weights = np.tile(np.array([1.8, 1.8, 0.2, 0.2]), 100)
    scores = fit_learner(config, features, labels, weights).scores(features)
    assert scores[1] > scores[0]


@pytest.mark.parametrize("model", MODELS)
def test_no_row_has_no_score(model):
    learner = fitted(model)
    assert learner.scores(np.zeros((0, 6))).shape == (0,)
    assert learner.contributions(np.zeros((0, 6))).shape == (0, 7)


@pytest.mark.parametrize("model", MODELS)
def test_other_columns_are_refused(model):
    with pytest.raises(ModelError, match=r"shape \(2, 5\), not \(n_rows, 6\)"):
        fitted(model).scores(np.zeros((2, 5)))


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"tree\nversion=v4\n", b"{}"])
@pytest.mark.parametrize("model", MODELS)
def test_bytes_that_are_no_model_are_refused_in_one_line(model, data):
    with pytest.raises(ModelError, match=f"{model} model is damaged") as found:
        load_learner(model, data)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("model", MODELS)
def test_half_a_model_is_refused(model):
    data = fitted(model).to_bytes()
    with pytest.raises(ModelError, match=f"{model} model is damaged"):
        load_learner(model, data[: len(data) // 2])


def test_an_unknown_kind_is_refused():
    with pytest.raises(ModelError, match="model kind 'pickle': one of xgboost"):
        load_learner("pickle", b"x")


def test_rows_of_one_class_cannot_be_learnt_from():
    with pytest.raises(TrainingError, match="0 and 1, found 0"):
        fit_learner(TrainingConfig(), ROWS.features, np.zeros(len(ROWS)), ONES)


def test_the_ridge_is_the_solution_of_its_equations():
    rows = np.nan_to_num(ROWS.features)
    target = rows @ np.arange(6.0) + 2.0
    config = TrainingConfig(model="ridge", objective="regression", l2=0.0)
    learner = fit_learner(config, rows, target, ONES)
    np.testing.assert_allclose(learner.scores(rows), target, atol=1e-6)


def test_a_constant_column_does_no_harm_to_the_ridge():
    rows = np.column_stack([ROWS.features, np.full(len(ROWS), 7.0)])
    learner = fit_learner(TrainingConfig(model="ridge"), rows, ROWS.label, ONES)
    assert np.isfinite(learner.scores(rows)).all()
    assert learner.importance()[6] == 0.0


def test_every_model_has_a_file_of_its_own():
    assert sorted(MODEL_FILES) == sorted(MODELS)
    assert len(set(MODEL_FILES.values())) == len(MODELS)
