"""Windows and training of a small Chronos-2."""

import numpy as np
import pytest

from lab.bars.schedules import schedule
from lab.errors import TrainingError
from lab.features.events import EventEncoder
from lab.forecasters.chronos2_inputs import Chronos2View
from lab.forecasters.chronos2_training import (
    Chronos2Training,
    LevelSampler,
    LevelSet,
    measured_bands,
    train_from_scratch,
)
from lab.forecasters.chronos2_weights import new_pipeline, write_pipeline
from lab.forecasters.chronos2_windows import Stretch, held_out_loss, training_windows
from tests.lab.features.toy_events import releases
from tests.lab.forecasters.chronos2_models import TINY, random_pipeline, small_pipeline

VIEW = Chronos2View(96, is_mirrored=True)
SETTINGS = Chronos2Training(n_steps=20, batch_size=16, horizon=32, n_warmup=5)


def walks(n_series=4, n_obs=600, seed=0):
    rng = np.random.default_rng(seed)
    return [np.cumsum(rng.normal(0, 0.01, n_obs)) for _ in range(n_series)]


def stretches(levels):
    return [Stretch(one, 0, len(one)) for one in levels]


def draw(view=VIEW, levels=None, **changes):
    settings = Chronos2Training(**{"batch_size": 64, "horizon": 32, **changes})
    sets = [LevelSet("walks", levels or walks(), 1.0)]
    sampler = LevelSampler(sets, view=view, settings=settings)
    return sampler.draw(np.random.default_rng(1))


def test_a_window_starts_at_its_last_price():
    past, future, spread = draw()
    assert past.shape == (64, 192)
    assert future.shape == spread.shape == (64, 32)
    assert (past[:, -1] == 0).all()
    assert 0.005 < np.abs(future[:, 0]).mean() < 0.012
    assert spread[:, 0].mean() == pytest.approx(0.01, rel=0.1)
    np.testing.assert_allclose(spread[:, 3], 2 * spread[:, 0], rtol=1e-6)


def test_the_mirror_image_makes_the_last_price_the_mean():
    past, _, _ = draw(short=1.0)
    assert np.isnan(past).any(axis=1).mean() > 0.9
    assert np.abs(np.nanmean(past, axis=1)).max() < 1e-6
    np.testing.assert_array_equal(past[:, :96], -past[:, :95:-1])
    plain, _, _ = draw(view=Chronos2View(96), short=1.0)
    np.testing.assert_array_equal(plain, past[:, 96:])


def test_half_of_the_windows_are_turned_over():
    rising = [np.arange(600) * 0.01]
    _, future, _ = draw(levels=rising, flip=0.5)
    assert 0.3 < (future[:, 0] < 0).mean() < 0.7
    _, future, _ = draw(levels=rising, flip=0.0)
    assert (future[:, 0] > 0).all()


def test_series_that_are_too_short_to_train_on_are_refused():
    with pytest.raises(TrainingError, match="no series of 128 bars"):
        draw(levels=walks(n_obs=127))


def train(seed=2, **changes):
    pipeline = new_pipeline(TINY, seed=seed)
    measures = train_from_scratch(
        pipeline,
        [LevelSet("walks", walks(), 1.0)],
        view=VIEW,
        settings=SETTINGS,
        rng=np.random.default_rng(seed),
    )
    return pipeline, measures


def test_training_lowers_the_loss_and_repeats_itself():
    pipeline, measures = train()
    untrained = held_out_loss(
        new_pipeline(TINY, seed=2), stretches(walks()), view=VIEW, horizon=32
    )
    trained = held_out_loss(pipeline, stretches(walks(seed=1)), view=VIEW, horizon=32)
    assert trained.mean() < 0.9 * untrained.mean()
    again, _ = train()
    assert write_pipeline(again) == write_pipeline(pipeline)
    assert set(measures) == {"loss_first", "loss_last"}
    assert not any(one.requires_grad for one in pipeline.model.parameters())


def test_the_small_checkpoint_knows_what_a_random_walk_does():
    view = Chronos2View(192, is_mirrored=True)
    found = measured_bands(
        small_pipeline(), walks(n_obs=700), view=view, horizons=(1, 5, 20, 60)
    )
    for step in (1, 5, 20, 60):
        assert 0.65 < found[f"coverage_{step}"] < 0.92
        assert found[f"median_{step}"] < 0.2


def test_nothing_to_judge_with_is_refused():
    with pytest.raises(TrainingError, match="no series of 128 bars to judge"):
        held_out_loss(
            random_pipeline(), stretches(walks(n_obs=100)), view=VIEW, horizon=32
        )


def test_windows_keep_to_their_stretch_and_carry_their_future():
    level = np.arange(400.0)
    stretch = Stretch(level, 100, 300)
    assert stretch.n_windows(96 + 32) == 73
    inputs, future = stretch.windows(np.array([0, 72]), view=VIEW, horizon=32)
    np.testing.assert_array_equal(future, np.tile(np.arange(1.0, 33.0), (2, 1)))
    assert inputs[0]["context"].shape == (1, 192)
    assert inputs[0]["context"][0, 96] == -95
    found = training_windows(
        [stretch], view=VIEW, horizon=32, n_windows=5, rng=np.random.default_rng(0)
    )
    assert len(found) == 5
    np.testing.assert_array_equal(found[0]["context"][0, 192:], np.arange(1.0, 33.0))


def test_windows_carry_the_events_known_at_their_last_bar():
    encoder = EventEncoder(releases(), {})
    opens = schedule("24x7", "1h").opens
    start = np.searchsorted(opens, np.datetime64("2021-01-04", "us"))
    ts = opens[start : start + 400]
    history = encoder.history(ts, timeframe="1h", calendar="24x7")
    stretch = Stretch(np.arange(400.0), 0, 400, history)
    inputs, _ = stretch.windows(np.array([40]), view=VIEW, horizon=32)
    one = inputs[0]
    assert one["n_future_covariates"] >= 4
    flags = one["future_covariates"].numpy()
    is_ahead = ~np.isnan(flags).all(axis=1)
    assert is_ahead.sum() == one["n_future_covariates"]
    (whole,) = training_windows(
        [
            Stretch(
                np.arange(128.0),
                0,
                128,
                encoder.history(ts[40:168], timeframe="1h", calendar="24x7"),
            )
        ],
        view=VIEW,
        horizon=32,
        n_windows=1,
        rng=np.random.default_rng(0),
    )
    np.testing.assert_array_equal(whole["context"].numpy()[1:, 192:], flags[1:])
