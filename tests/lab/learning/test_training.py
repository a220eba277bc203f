"""The whole training path: same again, honest about noise, right about a signal."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lab.errors import TrainingError
from lab.learning.bundle import REFERENCE, load_predictor
from lab.learning.calibration import ece
from lab.learning.config import MODELS, TrainingConfig
from lab.learning.metrics import auc, auc_standard_error
from lab.learning.samples import Samples
from lab.learning.training import Trained, train, train_stack
from lab.learning.walk import training_rows, walk_forward_refit
from tests.lab.learning.planted import planted

pytestmark = pytest.mark.xdist_group("learning")

QUICK = {"n_estimators": 40, "learning_rate": 0.1, "min_rows": 200}


def config(model="xgboost", **settings) -> TrainingConfig:
    return TrainingConfig(model=model, **(QUICK | settings))


@pytest.fixture(scope="module")
def rows() -> Samples:
    return planted(0, 2_000, days=240)


@pytest.fixture(scope="module")
def trained(rows: Samples) -> Trained:
    return train(rows, config())


def shuffled(rows: Samples, seed: int) -> Samples:
    order = np.random.default_rng(seed).permutation(len(rows))
    return replace(rows, label=rows.label[order], outcome=rows.outcome[order])


def test_a_training_made_twice_gives_the_same_files(rows, trained):
    again = train(rows, config())
    assert again.files == trained.files
    assert json.dumps(again.card) == json.dumps(trained.card)
    np.testing.assert_array_equal(
        again.out_of_fold.predictions, trained.out_of_fold.predictions
    )


@pytest.mark.parametrize("model", ["catboost", "lightgbm", "ridge", "stack"])
def test_every_model_trained_twice_predicts_the_same(rows, model):
    part = rows.take(slice(0, 1_200))
    fit = train_stack if model == "stack" else train
    plan = config("ridge" if model == "stack" else model, n_estimators=15)
    first, again = fit(part, plan), fit(part, plan)
    assert first.files == again.files
    one, two = load_predictor(first.files), load_predictor(again.files)
    np.testing.assert_array_equal(
        one.probabilities(rows.features), two.probabilities(rows.features)
    )


def test_rows_given_in_another_order_are_the_same_samples(rows, trained):
    order = np.random.default_rng(5).permutation(len(rows))
    turned = Samples.of(
        names=rows.names,
        features=rows.features[order],
        **{
            name: getattr(rows, name)[order]
            for name in (
                "subject_id",
                "symbol",
                "timeframe",
                "start",
                "end",
                "label",
                "outcome",
            )
        },
    )
    assert train(turned, config()).files == trained.files


def test_a_window_learns_only_from_labels_known_when_it_begins(rows):
    plan = config(train_period_days=60)
    moment = rows.start[1_000]
    found = training_rows(rows, plan, moment=moment)
    assert (rows.end[found] < moment).all()
    newest = rows.end[found].max()
    then = training_rows(rows, plan, moment=newest)
    assert newest not in rows.end[then], "what is known at the moment is too late"
    assert (rows.start[found] >= moment - np.timedelta64(60, "D")).all()
    spanning = (rows.start < moment) & (rows.end > moment)
    assert spanning.any()
    assert not np.isin(np.flatnonzero(spanning), found).any()


@pytest.mark.parametrize("seed", range(3))
def test_an_altered_future_changes_no_earlier_window(rows, seed):
    rng = np.random.default_rng(seed)
    plan = config(n_estimators=10)
    known = walk_forward_refit(rows, plan)
    window = known.windows[int(rng.integers(1, len(known.windows) - 1))]
    later = rows.end > window.start
    label = np.where(later, 1.0 - rows.label, rows.label)
    table = np.where((rows.start >= window.stop)[:, None], 9.0, rows.features)
    altered = replace(rows, label=label, features=table)
    found = walk_forward_refit(altered, plan)
    part = rows.start < window.stop
    np.testing.assert_array_equal(found.scores[part], known.scores[part])
    np.testing.assert_array_equal(found.predictions[part], known.predictions[part])


def test_labels_not_known_by_the_moment_are_not_looked_at(rows):
    moment = rows.start[1_500]
    label = np.where(rows.end > moment, 1.0 - rows.label, rows.label)
    altered = replace(rows, label=label)
    first, again = (train(one, config(), as_of=moment) for one in (rows, altered))
    assert first.files == again.files
    assert first.card["cutoff"] <= str(moment)


def test_the_kept_model_and_curve_saw_nothing_of_the_last_block(rows, trained):
    block = rows.start[-1] - np.timedelta64(30, "D")
    later = rows.end > block
    assert later.sum() > 200
    altered = replace(rows, label=np.where(later, 1.0 - rows.label, rows.label))
    found = train(altered, config())
    names = [name for name in trained.files if name != "config.json"]
    assert [found.files[one] for one in names] == [trained.files[one] for one in names]
    assert found.card["last_block"]["ece"] > trained.card["last_block"]["ece"] + 0.1


def test_the_card_says_what_the_model_is(rows, trained):
    card = trained.card
    assert json.loads(json.dumps(card)) == card
    assert card["cutoff"].startswith(str(rows.end.max())[:19])
    assert card["config"]["seed"] == 0
    assert next(iter(card["importance"]["gain"])) == "f0"
    assert next(iter(card["importance"]["shap"])) == "f0"
    assert sum(card["importance"]["shap"].values()) == pytest.approx(1.0, abs=1e-4)
    assert len(card["windows"]) == len(trained.windows) > 3
    assert {"sharpe_ratio", "profit_total", "max_drawdown", "trades_count"} <= set(
        card["windows"][0]["metrics"]
    )
    assert REFERENCE in trained.files


def test_orders_scored_above_the_usual_earn_more_than_all_orders(rows, trained):
    told = trained.out_of_fold.samples
    assert trained.metrics["profit_total"] > 2 * told.outcome.sum()
    assert trained.metrics["skill"] > 0.03
    assert trained.metrics["log_loss"] < trained.metrics["baseline_log_loss"]


@pytest.mark.parametrize("model", [*MODELS, "stack"])
def test_shuffled_labels_rank_nothing_through_the_whole_path(model):
    seed = (*MODELS, "stack").index(model)
    rows = shuffled(planted(seed, 2_500, days=300), seed)
    fit = train_stack if model == "stack" else train
    found = fit(rows, config("ridge" if model == "stack" else model, n_estimators=20))
    for figures in (found.metrics, found.card["last_block"]):
        gap = abs(figures["auc"] - 0.5)
        assert gap <= 2.58 * figures["auc_standard_error"]
    fresh = shuffled(planted(seed + 50, 10_000), seed)
    said = load_predictor(found.files).probabilities(fresh.features)
    assert abs(auc(said, fresh.label) - 0.5) <= 2.58 * auc_standard_error(fresh.label)
    assert said.std() < 0.02
    assert ece(said, fresh.label) <= 0.03


@pytest.mark.parametrize("model", [*MODELS, "stack"])
def test_a_planted_signal_is_found_and_its_probabilities_are_right(model):
    fit = train_stack if model == "stack" else train
    plan = config("ridge" if model == "stack" else model, n_estimators=60)
    predictor = load_predictor(fit(planted(7, 10_000, days=360), plan).files)
    held_out = planted(8, 12_000)
    said = predictor.probabilities(held_out.features)
    assert auc(said, held_out.label) > 0.68
    assert ece(said, held_out.label) <= 0.03


def spread_of_nothing(model: str, n_seeds: int) -> np.ndarray:
    # Gaps of the AUC from one half in standard errors, on labels that mean nothing.
    found = []
    for seed in range(n_seeds):
        rows = shuffled(planted(seed, 2_000, days=240), seed)
        figures = train(rows, config(model, n_estimators=20)).metrics
        found.append((figures["auc"] - 0.5) / figures["auc_standard_error"])
    return np.array(found)


def test_the_standard_error_of_nothing_is_neither_too_small_nor_biased():
    gaps = spread_of_nothing("ridge", 60)
    assert abs(gaps.mean()) <= 2.58 / np.sqrt(60)
    assert 0.77 <= gaps.std() <= 1.23  # 1 % of sixty normal draws are beyond
    assert (np.abs(gaps) > 2.58).sum() <= 3


@pytest.mark.full
@pytest.mark.parametrize("model", MODELS)
def test_no_model_finds_anything_in_two_hundred_shuffled_markets(model):
    gaps = spread_of_nothing(model, 200)
    assert abs(gaps.mean()) <= 2.58 / np.sqrt(200)
    assert (np.abs(gaps) > 2.58).sum() <= 7


@pytest.mark.full
def test_the_default_settings_find_the_signal_on_a_year_of_orders():
    predictor = load_predictor(
        train(planted(9, 16_000, days=700), TrainingConfig()).files
    )
    held_out = planted(10, 20_000)
    said = predictor.probabilities(held_out.features)
    assert auc(said, held_out.label) > 0.72
    assert ece(said, held_out.label) <= 0.03


def test_a_regression_has_no_probabilities_but_a_skill():
    rows = planted(3, 3_000, days=300, objective="regression", strength=5.0)
    found = train(rows, config(objective="regression"))
    assert found.metrics["skill"] > 0.05
    assert found.metrics["sign_match"] > 0.52
    assert found.card["calibrator"] is None
    predictor = load_predictor(found.files)
    np.testing.assert_array_equal(
        predictor.predictions(rows.features), predictor.scores(rows.features)
    )


def test_too_few_rows_say_how_many_are_needed(rows):
    with pytest.raises(TrainingError, match=r"settled rows of 365 days before.*5000"):
        train(rows, config(min_rows=5_000))
    with pytest.raises(TrainingError, match="no settled row"):
        train(rows, config(), as_of=rows.start[0])


def test_rows_all_of_one_label_are_refused(rows):
    with pytest.raises(TrainingError, match="all of label 1"):
        train(replace(rows, label=np.ones(len(rows))), config())
