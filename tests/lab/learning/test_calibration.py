import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from lab.errors import ModelError, TrainingError
from lab.learning.calibration import (
    Platt,
    brier,
    ece,
    log_loss,
    reliability,
    sigmoid,
)


def law(seed: int, n_rows: int, slope: float = 1.5, intercept: float = -0.4):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n_rows)
    labels = (rng.random(n_rows) < sigmoid(slope * scores + intercept)).astype(float)
    return scores, labels, rng.random(n_rows) + 0.1


def test_the_planted_curve_is_found():
    scores, labels, _ = law(0, 100_000)
    found = Platt.fit(scores, labels)
    assert found.slope == pytest.approx(1.5, abs=0.03)
    assert found.intercept == pytest.approx(-0.4, abs=0.03)


@pytest.mark.parametrize("shift", [0.0, 1e4, -50.0])
def test_newton_ends_where_a_general_minimiser_ends(shift):
    scores, labels, weights = law(1, 500)
    ones, zeros = weights @ labels, weights @ (1 - labels)
    targets = np.where(labels > 0.5, (ones + 1) / (ones + 2), 1 / (zeros + 2))

    def loss(point):
        odds = point[0] * scores + point[1]
        return weights @ (np.logaddexp(0.0, odds) - targets * odds)

    best = optimize.minimize(loss, [0.0, 0.0], method="BFGS", options={"gtol": 1e-9}).x
    found = Platt.fit(scores + shift, labels, weights)
    assert found.slope == pytest.approx(best[0], rel=1e-5)
    assert found.slope * shift + found.intercept == pytest.approx(best[1], rel=1e-4)


def test_a_row_of_weight_two_is_two_rows():
    scores, labels, _ = law(2, 300)
    twice = Platt.fit(np.tile(scores, 2), np.tile(labels, 2))
    found = Platt.fit(scores, labels, np.full(300, 2.0))
    assert (found.slope, found.intercept) == pytest.approx(
        (twice.slope, twice.intercept), rel=1e-9
    )


def test_perfect_scores_stay_finite_and_never_certain():
    scores = np.array([-2.0, -1.0, 1.0, 2.0])
    found = Platt.fit(scores, (scores > 0).astype(float))
    assert math.isfinite(found.slope)
    assert 0.0 < found.apply(scores).min() < found.apply(scores).max() < 1.0


def test_scores_that_rank_the_wrong_way_give_the_base_rate():
    scores, labels, _ = law(3, 2_000)
    found = Platt.fit(-scores, labels)
    assert found.slope == 0.0
    assert found.apply(scores)[0] == pytest.approx(labels.mean(), abs=1e-3)


def test_equal_scores_give_the_base_rate():
    found = Platt.fit(np.full(40, 3.0), np.array([1.0] * 10 + [0.0] * 30))
    assert found.apply(np.array([3.0]))[0] == pytest.approx(0.25, abs=0.02)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100.0), st.floats(-1e3, 1e3))
def test_probabilities_do_not_depend_on_the_units_of_scores(seed, unit, shift):
    scores, labels, weights = law(seed, 120)
    plain = Platt.fit(scores, labels, weights).apply(scores)
    moved = scores * unit + shift
    np.testing.assert_allclose(
        Platt.fit(moved, labels, weights).apply(moved), plain, atol=1e-6
    )


def test_a_curve_survives_json():
    found = Platt(1.25, -0.1)
    assert Platt.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"kind": "platt", "slope": -1, "intercept": 0}',
        '{"kind": "platt", "slope": NaN, "intercept": 0}',
        '{"kind": "isotonic", "slope": 1, "intercept": 0}',
        '{"kind": "platt", "slope": 1}',
    ],
)
def test_anything_else_is_no_curve(text):
    with pytest.raises(ModelError, match="calibrator"):
        Platt.from_json(text)


def test_bins_have_equal_mass_and_the_error_is_the_mean_gap():
    probabilities = np.linspace(0.005, 0.995, 100)
    labels = (np.arange(100) % 2).astype(float)
    found = reliability(probabilities, labels)
    assert found.mass.tolist() == pytest.approx([0.1] * 10)
    assert found.observed.tolist() == pytest.approx([0.5] * 10)
    gaps = [abs(probabilities[i : i + 10].mean() - 0.5) for i in range(0, 100, 10)]
    assert found.ece == pytest.approx(np.mean(gaps))


def test_scores_that_are_equal_but_for_rounding_give_the_base_rate():
    rng = np.random.default_rng(3)
    labels = (rng.random(200) < 0.3).astype(float)
    scores = np.full(200, -0.8473) * (1.0 + 1e-16 * rng.standard_normal(200))
    scores[::2] = np.nextafter(scores[::2], 0.0)
    curve = Platt.fit(scores, labels, rng.random(200) + 0.5)
    assert curve.slope == 0.0
    np.testing.assert_allclose(curve.apply(scores + 1.0), labels.mean(), atol=0.05)


def test_a_constant_forecast_is_one_bin():
    labels = np.array([1.0, 0.0, 0.0, 0.0])
    found = reliability(np.full(4, 0.25), labels)
    assert (found.mass.tolist(), found.ece) == ([1.0], 0.0)


def test_figures_of_a_known_case():
    probabilities, labels = np.array([0.8, 0.4]), np.array([1.0, 0.0])
    assert brier(probabilities, labels) == pytest.approx((0.04 + 0.16) / 2)
    assert log_loss(probabilities, labels) == pytest.approx(
        -(math.log(0.8) + math.log(0.6)) / 2
    )
    assert brier(probabilities, labels, np.array([3.0, 1.0])) == pytest.approx(0.07)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        ([1.2], [1.0], "not within 0 and 1"),
        ([np.nan], [1.0], "not within 0 and 1"),
        ([0.5], [0.5], "labels are 0 or 1"),
        ([0.5, 0.5], [1.0], "as many of each"),
        ([], [], "1 or more"),
    ],
)
def test_what_is_no_probability_is_refused(probabilities, labels, message):
    with pytest.raises(TrainingError, match=message):
        ece(np.array(probabilities), np.array(labels))
