"""Regime calls: against the textbook recursion, and blind to later returns."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import FeatureError
from lab.features.regime import (
    STATES,
    RegimeModel,
    RegimePlan,
    call_regimes,
    fit_regime,
)

PLAN = RegimePlan(min_returns=250, window=300, refit=220)
MODEL = RegimeModel(
    start=np.array([0.2, 0.5, 0.3]),
    transition=np.array([[0.9, 0.08, 0.02], [0.05, 0.9, 0.05], [0.02, 0.1, 0.88]]),
    mean=np.array([0.001, 0.0, -0.002]),
    variance=np.array([0.005, 0.01, 0.03]) ** 2,
)


def drawn(n=900, seed=0):
    """Returns of a market that is calm, turbulent and normal in turn."""
    rng = np.random.default_rng(seed)
    states = np.repeat(rng.permutation(np.arange(n // 60) % 3), 60)
    return np.array([0.004, 0.009, 0.028])[states] * rng.standard_normal(n), states


def test_probabilities_follow_the_recursion_of_hamilton():
    returns = drawn()[0][:40]
    found = MODEL.filtered(returns)
    # By enumeration: the joint density of all paths of states up to each day.
    joint = MODEL.start
    for day, value in enumerate(returns):
        scale = np.sqrt(2 * np.pi * MODEL.variance)
        density = np.exp(-((value - MODEL.mean) ** 2) / (2 * MODEL.variance)) / scale
        joint = (joint if day == 0 else joint @ MODEL.transition) * density
        np.testing.assert_allclose(found[day], joint / joint.sum(), rtol=1e-9)
        joint = joint / joint.sum()
    assert found.shape == (40, 3)


def test_filtering_is_not_smoothing():
    from hmmlearn.hmm import GaussianHMM

    returns = drawn(seed=3)[0][:120]
    model = GaussianHMM(n_components=3, covariance_type="diag")
    model.startprob_, model.transmat_ = MODEL.start, MODEL.transition
    model.means_, model.covars_ = MODEL.mean[:, None], MODEL.variance[:, None]
    smoothed = model.predict_proba(returns[:, None])
    found = MODEL.filtered(returns)
    np.testing.assert_allclose(found[-1], smoothed[-1], rtol=1e-6, atol=1e-12)
    assert np.abs(found - smoothed).max() > 0.1


def test_a_return_beyond_every_density_still_gives_probabilities():
    found = MODEL.filtered(np.array([0.0, 5.0, -5.0, 0.0]))
    assert np.allclose(found.sum(axis=1), 1.0)
    assert found[1].argmax() == STATES.index("turbulent")


def test_states_are_ordered_by_variance_and_last():
    returns, states = drawn(1200)
    model = fit_regime(returns)
    assert np.all(np.diff(model.variance) > 0)
    assert np.all(np.diag(model.transition) > 0.9)
    called = model.filtered(returns).argmax(axis=1)
    assert np.mean(called == states) > 0.8


@settings(max_examples=3, deadline=None, derandomize=True)
@given(cut=st.integers(260, 890), seed=st.integers(0, 9))
def test_a_call_does_not_change_when_the_future_does(cut, seed):
    returns = drawn()[0]
    expected = call_regimes(returns, plan=PLAN)[:cut]
    later = returns.copy()
    later[cut:] = np.random.default_rng(seed).normal(0, 0.1, len(returns) - cut)
    for future in (later, returns[:cut], np.append(returns, later)):
        assert call_regimes(future, plan=PLAN)[:cut].tobytes() == expected.tobytes()


def test_calls_from_a_later_day_equal_those_from_the_first():
    returns = drawn()[0]
    whole = call_regimes(returns, plan=PLAN)
    part = call_regimes(returns, first=700, plan=PLAN)
    assert np.isnan(whole[:250]).all()
    assert np.isfinite(whole[250:]).all()
    assert np.isnan(part[:700]).all()
    assert part[700:].tobytes() == whole[700:].tobytes()


def test_a_planted_leak_is_found():
    returns = drawn()[0]
    cut = 600
    later = returns.copy()
    later[cut:] *= 5
    leaks = [fit_regime(each).filtered(each)[:cut] for each in (returns, later)]
    assert leaks[0].tobytes() != leaks[1].tobytes()


def test_a_fit_is_repeatable_and_survives_json():
    returns = drawn()[0]
    model = fit_regime(returns)
    text = json.dumps(model.to_dict())
    assert text == json.dumps(fit_regime(returns).to_dict())
    again = RegimeModel.from_dict(json.loads(text))
    assert again.filtered(returns).tobytes() == model.filtered(returns).tobytes()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"variance": [1.0, 2.0]}, "variance must be finite"),
        ({"variance": [2.0, 1.0, 3.0]}, "must be positive and increase"),
        ({"mean": [0.0, np.nan, 0.0]}, "mean must be finite"),
        ({"start": [0.5, 0.6, 0.1]}, "start must hold probabilities"),
    ],
)
def test_parameters_that_are_no_model_are_refused(change, match):
    with pytest.raises(FeatureError, match=match):
        RegimeModel.from_dict({**MODEL.to_dict(), **change})


def test_unusable_returns_and_plans_are_refused():
    with pytest.raises(FeatureError, match="missing: start"):
        RegimeModel.from_dict({"mean": [0, 0, 0]})
    with pytest.raises(FeatureError, match="100 returns are needed to fit, not 20"):
        fit_regime(np.full(20, 0.01))
    with pytest.raises(FeatureError, match="the returns are constant"):
        fit_regime(np.zeros(200))
    with pytest.raises(FeatureError, match="finite numbers"):
        call_regimes(np.array([0.0, np.nan]))
    with pytest.raises(FeatureError, match="min_returns <= window"):
        call_regimes(np.zeros(300), plan=RegimePlan(window=100))
    assert np.isnan(call_regimes(np.zeros(700))).all()
