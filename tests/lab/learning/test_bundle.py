import json
import subprocess
import sys

import numpy as np
import pytest

from lab.drift.profile import ReferenceProfile
from lab.errors import ModelError
from lab.learning.bundle import CONFIG, REFERENCE, Predictor, load_predictor
from lab.learning.config import TrainingConfig
from lab.learning.feature_sets import ORDER_FEATURES
from lab.learning.training import train, train_stack
from tests.lab.learning.planted import planted

pytestmark = pytest.mark.xdist_group("learning")

ROWS = planted(0, 1_500, days=200)
CONFIG_OF_ALL = TrainingConfig(n_estimators=20, min_rows=200)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return train(ROWS, CONFIG_OF_ALL).files


@pytest.fixture(scope="module")
def stack() -> dict[str, bytes]:
    return train_stack(ROWS, CONFIG_OF_ALL).files


@pytest.fixture(scope="module")
def predictor(files) -> Predictor:
    return load_predictor(files)


def test_a_bundle_holds_only_safe_formats(files, stack):
    shared = {"calibrator.json", "schema.json", "reference.arrow", "config.json"}
    assert set(files) == {"model.ubj", *shared}
    assert set(stack) == {
        "model.ubj",
        "model.cbm",
        "model.txt",
        "model.json",
        *shared,
    }


def test_contributions_of_a_stack_sum_to_its_score(stack):
    found = load_predictor(stack)
    parts = found.contributions(ROWS.features[:200])
    np.testing.assert_allclose(
        parts.sum(axis=1), found.scores(ROWS.features[:200]), atol=1e-5
    )
    assert np.abs(parts[:, :-1]).mean(axis=0).argmax() == 0


def test_every_flipped_byte_is_refused_before_a_library_sees_it(files):
    rng = np.random.default_rng(0)
    for name in ("model.ubj", "calibrator.json", "schema.json", REFERENCE):
        data = bytearray(files[name])
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        with pytest.raises(ModelError, match=f"{name} is altered"):
            load_predictor(files | {name: bytes(data)})


@pytest.mark.parametrize("name", ["model.ubj", "calibrator.json", "schema.json"])
def test_a_missing_file_is_named(files, name):
    with pytest.raises(ModelError, match=f"{name} is missing"):
        load_predictor({key: one for key, one in files.items() if key != name})


def test_the_reference_may_be_left_out_but_not_altered(files):
    load_predictor({key: one for key, one in files.items() if key != REFERENCE})
    with pytest.raises(ModelError, match=r"reference.arrow is altered"):
        load_predictor(files | {REFERENCE: b"x"})


def changed(files, **changes):
    return files | {CONFIG: json.dumps(json.loads(files[CONFIG]) | changes).encode()}


def test_a_head_that_says_something_else_is_refused(files):
    for changes, message in (
        ({"format": 2}, "format 2, 1 is known"),
        ({"members": ["forest"]}, "members"),
        ({"members": ["xgboost"]}, "names no model.json"),
        ({"config": {"model": "catboost"}}, "names no model.cbm"),
        ({"config": {"model": "forest"}}, "config.json is damaged"),
        ({"sha256": {}}, "names no calibrator.json"),
        ({"sha256": 3}, "config.json is damaged"),
    ):
        with pytest.raises(ModelError, match=message):
            load_predictor(changed(files, **changes))
    with pytest.raises(ModelError, match=r"config.json is missing"):
        load_predictor({})
    with pytest.raises(ModelError, match=r"config.json is damaged"):
        load_predictor(files | {CONFIG: b"{"})


def test_features_that_are_not_the_models_are_refused(predictor):
    with pytest.raises(ModelError, match=r"\(2, 5\), not \(n_rows, 6\)"):
        predictor.probabilities(np.zeros((2, 5)))
    with pytest.raises(ModelError, match="feature f3 is infinite"):
        predictor.probabilities(np.array([[0, 0, 0, np.inf, 0, 0.0]]))


def test_rows_far_from_the_training_rows_are_flagged(predictor):
    usual = predictor.is_novel(ROWS.features)
    assert usual.mean() < 0.01
    assert predictor.is_novel(np.full((1, 6), 25.0)).all()


def test_one_row_and_many_rows_have_equal_answers(predictor):
    many = predictor.probabilities(ROWS.features[:50])
    single = [predictor.probabilities(one[None])[0] for one in ROWS.features[:50]]
    assert many.tolist() == single
    assert ((many > 0) & (many < 1)).all()


def test_the_schema_of_a_feature_set_is_locked_in():
    rng = np.random.default_rng(0)
    names = ORDER_FEATURES.names
    rows = planted(1, 900, days=200, n_features=len(names))
    rows = type(rows).of(
        names=names,
        features=rng.normal(size=(900, len(names))),
        subject_id=rows.subject_id,
        symbol=rows.symbol,
        timeframe=rows.timeframe,
        start=rows.start,
        end=rows.end,
        label=rows.label,
        outcome=rows.outcome,
    )
    found = train(rows, CONFIG_OF_ALL, definition=ORDER_FEATURES.definition)
    assert found.card["schema_sha256"] == ORDER_FEATURES.sha256
    assert load_predictor(found.files).schema_sha256 == ORDER_FEATURES.sha256


def test_the_reference_describes_the_training_rows(files):
    profile = ReferenceProfile.from_bytes(files[REFERENCE])
    assert profile.names == ROWS.names


def test_reading_the_module_imports_no_heavy_library():
    code = (
        "import sys, lab.learning.bundle, lab.learning.training;"
        "heavy = {'pandas','scipy','xgboost','catboost','lightgbm','sklearn','numba'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
