"""The baseline is locked: whoever changes it changes its name."""

import hashlib

import numpy as np
import pytest

from lab.sleeves import phase37
from lab.sleeves.donchian_breakout import DonchianBreakout
from lab.sleeves.phase37 import LOCKED_HASH, PARTS, RUNTIME_WEIGHT, Phase37
from tests.lab.sleeves.panels import panel, rough

# Of its weights on a random panel, in basis points: what its parts do is locked too.
BEHAVIOUR = {"1d": "48e9410673d9c64d", "1h": "8a7fbd91a4ba4bf5"}


def test_the_baseline_is_what_was_locked():
    assert Phase37().content_hash == LOCKED_HASH
    assert RUNTIME_WEIGHT == 1.0
    assert Phase37.variants() == (Phase37(),)


@pytest.mark.parametrize("change", ["weight", "parameter", "order", "left out"])
def test_any_change_of_a_part_shows_in_the_hash(change, monkeypatch):
    (weight, part), *others = PARTS["1d"]
    changed = {
        "weight": ((weight + 0.01, part), *others),
        "parameter": ((weight, type(part)(lookback=251)), *others),
        "order": (*others, (weight, part)),
        "left out": tuple(others),
    }[change]
    monkeypatch.setattr(phase37, "PARTS", {**PARTS, "1d": changed})
    assert Phase37().content_hash != LOCKED_HASH


def test_a_change_of_its_runtime_weight_shows_too(monkeypatch):
    monkeypatch.setattr(phase37, "RUNTIME_WEIGHT", 0.5)
    assert Phase37().content_hash != LOCKED_HASH


@pytest.mark.parametrize("timeframe", sorted(PARTS))
def test_the_weights_add_up_and_the_blend_is_that_of_its_parts(timeframe):
    parts = PARTS[timeframe]
    assert sum(weight for weight, _ in parts) == pytest.approx(1.0)
    one = rough(timeframe, n_obs=2500)
    blend = sum(weight * part.positions(one) for weight, part in parts)
    np.testing.assert_array_equal(Phase37().positions(one), blend)


@pytest.mark.parametrize("timeframe", sorted(PARTS))
def test_the_baseline_does_what_it_did_when_it_was_locked(timeframe):
    weights = Phase37().positions(rough(timeframe, n_obs=2500))
    coarse = np.round(weights * 1e4).astype(np.int64)
    assert hashlib.sha256(coarse.tobytes()).hexdigest()[:16] == BEHAVIOUR[timeframe]


def test_one_instrument_is_enough():
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0.001, 0.01, 600)))
    weights = Phase37().positions(panel(close))
    assert not weights[:60].any()
    assert np.abs(weights[-1, 0]) > 0.5
    assert DonchianBreakout().positions(panel(close)).any()
