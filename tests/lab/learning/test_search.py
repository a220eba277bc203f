"""The search: resumable to the bit, told nothing it may not know, honest in the ledger."""

from dataclasses import replace

import numpy as np
import pytest

from lab.errors import TrainingError
from lab.learning.config import TrainingConfig
from lab.learning.samples import Samples
from lab.learning.search import (
    SPACES,
    Record,
    best_of,
    study_id,
    try_next,
    with_settings,
)

BASE = TrainingConfig(
    model="lightgbm", train_period_days=120, min_rows=100, n_estimators=50
)
PARAMETERS = {name: getattr(BASE, name) for name in SPACES["lightgbm"]}


def samples(seed=0, n=900):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4))
    seconds = np.sort(rng.integers(0, 240 * 86_400, n))
    start = np.datetime64("2020-01-01", "us") + seconds * np.timedelta64(1, "s")
    label = (rng.random(n) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(float)
    return Samples.of(
        names=("a", "b", "c", "d"),
        features=x,
        subject_id=[f"o{k:04d}" for k in range(n)],
        symbol=rng.choice(["A", "B"], n),
        timeframe=["1d"] * n,
        start=start,
        end=start + np.timedelta64(2, "D"),
        label=label,
        outcome=(label - 0.5) * 0.01,
    )


ROWS = samples()


def searched(n, *, records=(), seed=0):
    found = list(records)
    while len(found) < n:
        found.append(try_next(found, ROWS, BASE, seed=seed).record)
    return found


@pytest.fixture(scope="module")
def ten():
    return searched(10)


def test_a_search_taken_up_from_its_written_records_goes_on_alike(ten):
    written = [Record.from_json(one.to_json()) for one in ten[:9]]
    assert searched(10, records=written) == ten


def test_the_first_trial_is_what_training_takes_without_a_search(ten):
    assert ten[0].parameters == PARAMETERS
    assert with_settings(BASE, ten[0].parameters) == BASE
    assert len({tuple(sorted(one.parameters.items())) for one in ten}) == 10


def test_hopeless_trials_end_early_and_the_best_ran_to_its_end(ten):
    assert {one.state for one in ten} == {"complete", "pruned"}
    longest = len(ten[0].values)
    assert all(len(one.values) < longest for one in ten if one.state == "pruned")
    best = best_of(ten)
    assert best.value == max(one.value for one in ten if one.state == "complete")
    assert best.value > 0.1
    assert best_of([]) is None


def test_a_pruned_trial_earns_nothing_after_its_end(ten):
    number = next(k for k, one in enumerate(ten) if one.state == "pruned")
    pruned = try_next(ten[:number], ROWS, BASE, seed=0)
    whole = try_next([], ROWS, BASE, seed=0)
    np.testing.assert_array_equal(pruned.days, whole.days)
    last = np.flatnonzero(pruned.returns)[-1]
    assert last < np.flatnonzero(whole.returns)[-1]
    assert whole.returns.sum() > 0


def test_shuffled_labels_have_no_skill():
    rng = np.random.default_rng(1)
    shuffled = samples()
    order = rng.permutation(len(shuffled))
    shuffled.label[:] = shuffled.label[order]
    assert try_next([], shuffled, BASE, seed=0).record.value < 0.02


def test_windows_judge_alike_whatever_comes_after_them():
    cut = np.datetime64("2020-06-01", "us")
    early = try_next([], ROWS.known_by(cut), BASE, seed=0).record.values
    whole = try_next([], ROWS, BASE, seed=0).record.values
    n_whole_windows = len(early) - 1  # the last one of the shorter is cut
    assert early[:n_whole_windows] == whole[:n_whole_windows]


def test_other_rows_settings_and_seeds_are_other_studies():
    names = {
        study_id(ROWS, BASE, seed=0),
        study_id(ROWS, BASE, seed=1),
        study_id(samples(1), BASE, seed=0),
        study_id(ROWS, with_settings(BASE, {"min_rows": 101}), seed=0),
    }
    assert len(names) == 4
    assert study_id(samples(), BASE, seed=0) in names


@pytest.mark.parametrize("model", ["xgboost", "catboost", "ridge"])
def test_every_learner_has_a_space_that_holds_its_defaults(model):
    base = with_settings(BASE, {"model": model})
    record = try_next([], ROWS, base, seed=0).record
    assert set(record.parameters) == set(SPACES[model])
    assert record.value > 0.0


def test_too_few_rows_are_told():
    few = ROWS.take(slice(0, 90))
    with pytest.raises(
        TrainingError, match="no walk-forward window of 90 rows has 100"
    ):
        try_next([], few, BASE, seed=0)


def test_records_that_are_no_study_are_refused(ten):
    with pytest.raises(TrainingError, match="not numbered from 0"):
        try_next(ten[1:3], ROWS, BASE, seed=0)
    ridge = with_settings(BASE, {"model": "ridge"})
    with pytest.raises(TrainingError, match="of another space"):
        try_next(ten[:1], ROWS, ridge, seed=0)
    for text in (
        "{",
        "[]",
        '{"number":0,"parameters":{},"values":[],"state":"complete"}',
        '{"number":0,"parameters":{},"values":[NaN],"state":"complete"}',
    ):
        with pytest.raises(TrainingError, match="study: "):
            Record.from_json(text)


@pytest.mark.parametrize("value", [10**6, float("nan"), "many"])
def test_a_record_whose_settings_nobody_could_try_is_refused(ten, value):
    first = replace(ten[0], parameters={**ten[0].parameters, "n_estimators": value})
    with pytest.raises(TrainingError, match="study: trial 0: "):
        try_next([first], ROWS, BASE, seed=0)
