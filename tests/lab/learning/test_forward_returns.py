from dataclasses import replace

import numpy as np
import pytest

from lab.backtest.panel import AlignedPanel
from lab.errors import TrainingError
from lab.learning.feature_sets import BAR_FEATURES
from lab.learning.forward_returns import (
    CAP,
    decision_bars,
    forward_samples,
    trailing_volatility,
)
from tests.lab.sleeves.panels import panel, rough

NAMES = ("one",)


def samples(bars: AlignedPanel):
    return forward_samples(bars, np.ones((*bars.close.shape, 1)), NAMES)


def walked(n_obs=200, seed=0) -> AlignedPanel:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.01 * rng.normal(size=(n_obs, 2)), axis=0))
    bars = panel(close)
    return replace(bars, open=bars.close * (1 + 0.002 * rng.normal(size=close.shape)))


def test_a_row_is_entered_at_the_next_open_and_left_five_bars_later():
    bars = walked()
    found = samples(bars)
    row = int(np.flatnonzero(found.symbol == "S00")[10])
    at = int(np.flatnonzero(bars.known_ts == found.start[row])[0])
    move = bars.open[at + 6, 0] / bars.open[at + 1, 0] - 1.0
    assert found.outcome[row] == pytest.approx(move)
    assert found.end[row] == bars.known_ts[at + 6]
    scale = np.log(bars.close[max(0, at - 60) : at + 1, 0])
    assert found.label[row] == pytest.approx(
        np.clip(move / (np.diff(scale).std() * np.sqrt(5)), -CAP, CAP)
    )


def test_a_label_is_never_larger_than_its_cap():
    found = samples(rough())
    assert np.abs(found.label).max() <= CAP
    assert np.isfinite(found.outcome).all()


def test_a_split_is_no_move():
    close = np.full(120, 100.0) * (1 + 0.001 * np.arange(120) % 2)
    close[80:] /= 4.0
    bars = panel(close, breaks=[(80, 0)])
    assert np.abs(samples(bars).outcome).max() < 0.2


def test_hours_are_decided_on_every_sixth():
    bars = panel(walked().close, timeframe="1h")
    hours = bars.ts[np.unique(decision_bars(bars).row)].astype("datetime64[h]")
    assert set(hours.astype(np.int64) % 6) == {0}


@pytest.mark.parametrize("seed", range(3))
def test_no_later_bar_changes_a_settled_row_or_a_scale(seed):
    bars = rough(n_obs=500, seed=seed)
    cut = 350
    early = bars.until(cut)
    whole, part = samples(bars), samples(early)
    known = whole.known_by(early.known_ts[-1])
    found = dict(zip(part.subject_id.tolist(), part.label.tolist(), strict=True))
    told = dict(zip(known.subject_id.tolist(), known.label.tolist(), strict=True))
    assert found == told
    np.testing.assert_array_equal(
        trailing_volatility(early), trailing_volatility(bars)[:cut]
    )


def test_features_of_another_panel_are_refused():
    with pytest.raises(TrainingError, match="features of shape"):
        forward_samples(walked(), np.ones((3, 2, 1)), NAMES)


def test_the_bar_features_make_rows_that_can_be_learnt_from():
    bars = walked()
    found = forward_samples(bars, BAR_FEATURES.compute(bars), BAR_FEATURES.names)
    assert found.names == BAR_FEATURES.names
    assert len(found) > 300
