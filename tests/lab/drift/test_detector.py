"""The detector's rules, its size under dependence and its power."""

from dataclasses import replace

import numpy as np
import pytest

from lab.drift.detector import DriftDetector
from lab.drift.figures import DriftRules
from lab.drift.performance import METRICS, Judged
from lab.drift.profile import ReferenceProfile
from lab.errors import DriftError
from tests.lab.drift.simulated import (
    autoregressive,
    in_spells,
    judged,
    overlapping,
    slow_under_noise,
    window_report,
)

NAMES = ["x0", "x1"]
SIZES = {
    "short": {"n_reference": 3_000, "n_current": 300, "n_features": 12},
    "months": {"n_reference": 3_000, "n_current": 1_000, "n_features": 12},
    "small": {"n_reference": 600, "n_current": 400, "n_features": 12},
    "wide": {"n_reference": 2_000, "n_current": 2_000, "n_features": 50},
}


def bound(n: int) -> float:
    return 0.05 + 2.33 * np.sqrt(0.05 * 0.95 / n)


def share_of_alarms(n: int, phi: float, size: str) -> float:
    found = [window_report(seed, phi=phi, **SIZES[size]).is_alarm for seed in range(n)]
    return float(np.mean(found))


@pytest.mark.parametrize("phi", [0.0, 0.9])
def test_windows_without_drift_rarely_alarm(phi):
    assert share_of_alarms(25, phi, "short") <= bound(25)


@pytest.mark.full
@pytest.mark.parametrize("size", sorted(SIZES))
@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_of_400_windows_without_drift_one_in_twenty_alarms_at_most(phi, size):
    assert share_of_alarms(400, phi, size) <= bound(400)


def share_of_hard_alarms(n: int, draw) -> float:
    found = []
    for seed in range(n):
        rows = draw(np.random.default_rng([9, seed]), 3_600, 6)
        profile = ReferenceProfile.of(rows[:3_000], [f"x{k}" for k in range(6)])
        report = DriftDetector().report(profile, rows[3_000:], seed=seed)
        found.append(report.is_alarm)
    return float(np.mean(found))


@pytest.mark.parametrize("draw", [slow_under_noise, in_spells, overlapping])
def test_dependence_that_a_first_lag_does_not_show_rarely_alarms_either(draw):
    assert share_of_hard_alarms(20, draw) <= bound(20)


@pytest.mark.full
@pytest.mark.parametrize("draw", [slow_under_noise, in_spells, overlapping])
def test_of_400_windows_of_any_dependence_one_in_twenty_alarms_at_most(draw):
    assert share_of_hard_alarms(400, draw) <= bound(400)


def found_and_named(n: int, phi: float, n_rows: int) -> float:
    found = 0
    for seed in range(n):
        report = window_report(
            seed,
            phi=phi,
            n_reference=n_rows,
            n_current=n_rows,
            n_features=50,
            shift=0.5,
            shifted=7,
        )
        named = "x7" in {one.feature for one in report.alarms}
        found += named and "x7" in report.alert_text("winprob")
    return found / n


@pytest.mark.parametrize("phi", [0.0, 0.5])
def test_half_a_deviation_in_one_of_fifty_features_is_found_and_named(phi):
    assert found_and_named(3, phi, 2_000) == 1.0


@pytest.mark.full
@pytest.mark.parametrize("n_rows", [1_000, 2_000])
@pytest.mark.parametrize("phi", [0.0, 0.5])
def test_half_a_deviation_is_found_in_nine_of_ten_of_200_trials(phi, n_rows):
    assert found_and_named(200, phi, n_rows) >= 0.9


def two_sides(seed: int, n_reference: int = 2_000, n_current: int = 800):
    rng = np.random.default_rng(seed)
    rows = autoregressive(rng, n_reference + n_current, 2, 0.3)
    past = judged(rng, rows[:n_reference], first=0, per_day=12)
    present = judged(rng, rows[n_reference:], first=n_reference, per_day=12)
    profile = ReferenceProfile.of(rows[:n_reference], NAMES, times=past.times)
    return profile, rows[n_reference:], past, present


def report_of(profile, current, past, present, **options):
    return DriftDetector().report(
        profile,
        current,
        seed=0,
        times=present.times,
        past=past,
        present=present,
        **options,
    )


def test_a_report_has_a_row_for_everything_and_is_the_same_again():
    sides = two_sides(0)
    report = report_of(*sides)
    names = [one.feature for one in report.figures]
    assert names == ["x0", "x1", "prediction", "accuracy", *METRICS]
    assert report == report_of(*sides)
    assert all(np.isnan(report.figure(name).psi) for name in (*METRICS, "accuracy"))
    with pytest.raises(DriftError, match="no row x9"):
        report.figure("x9")


def test_fewer_than_300_rows_are_reported_and_not_tested():
    profile, current, past, present = two_sides(1, n_current=299)
    report = report_of(profile, current + 3.0, past, present)
    assert report.figure("x0").psi > 1
    assert report.figure("x0").crossed == ("psi >= 0.25", "ks p < 0.05")
    assert np.isnan(report.figure("x0").p_value)
    assert not report.is_alarm
    assert report.n_permutations == 0
    with pytest.raises(DriftError, match="300 and 30 at least"):
        DriftRules(minimum=200)


def test_trading_metrics_take_30_days_on_both_sides():
    short, long = (report_of(*two_sides(2, n_current=n)) for n in (340, 400))
    assert np.isnan(short.figure("profit_total").p_value)
    assert np.isfinite(long.figure("profit_total").p_value)
    assert long.figure("profit_total").n_current >= 30


def test_customary_cut_offs_are_reported_and_alarm_nothing():
    crossed = 0
    for seed in range(12):
        report = window_report(
            seed, phi=0.9, n_reference=3_000, n_current=300, n_features=6
        )
        quiet = [one for one in report.figures if not one.is_alarm]
        crossed += sum("psi >= 0.25" in one.crossed for one in quiet)
    assert crossed > 5


def test_worse_predictions_alarm_and_better_ones_do_not():
    profile, current, past, present = two_sides(3, n_current=1_500)
    against = np.random.default_rng(0).random(1_500) < 0.75
    told = (present.prediction > 0.5).astype(float)
    worse = replace(present, label=np.where(against, 1.0 - told, told))
    better = replace(present, label=np.where(against, told, 1.0 - told))
    bad, good = (report_of(profile, current, past, one) for one in (worse, better))
    assert "accuracy" in {one.feature for one in bad.alarms}
    assert bad.figure("accuracy").crossed == ("accuracy deviation > 10%",)
    assert good.figure("accuracy").q_value <= 0.05
    assert not good.figure("accuracy").is_alarm
    assert good.figure("accuracy").recommendation.startswith("watch")


def test_losses_alarm_and_gains_do_not():
    profile, current, past, present = two_sides(4, n_current=1_500)
    loss, gain = (
        report_of(
            profile, current, past, replace(present, outcome=present.outcome + shift)
        )
        for shift in (-1.5, 1.5)
    )
    assert {"profit_total", "win_rate"} <= {one.feature for one in loss.alarms}
    assert not {one.feature for one in gain.alarms} & {"profit_total", "win_rate"}


def test_a_change_inside_the_window_is_told_with_its_beginning():
    profile, current, past, present = two_sides(5, n_current=2_000)
    current[1_600:, 1] += 1.0
    report = report_of(profile, current, past, present)
    [alarm] = [one for one in report.alarms if one.kind == "feature"]
    assert alarm.feature == "x1"
    assert alarm.since is not None
    began = present.times[1_600].astype(np.int64)
    assert abs(alarm.since - began) < 8 * 86_400_000_000


def test_open_labels_are_estimated_and_never_alarm():
    profile, current, past, present = two_sides(6)
    blind = replace(present, label=np.full(800, np.nan), outcome=np.full(800, np.nan))
    report = report_of(profile, current, past, blind)
    names = [one.feature for one in report.figures]
    assert names == ["x0", "x1", "prediction", "accuracy_estimate"]
    found = report.figure("accuracy_estimate")
    assert found.current == pytest.approx(found.reference, abs=0.05)
    assert not found.is_alarm


def test_a_feature_that_dies_alarms():
    profile, current, past, present = two_sides(7)
    current[:, 0] = np.nan
    report = report_of(profile, current, past, present)
    assert report.alarms[0].feature == "x0"
    assert report.severity == "significant"


def test_features_alone_make_a_report_and_times_may_be_left_out():
    rng = np.random.default_rng(8)
    rows = rng.standard_normal((1_400, 2))
    profile = ReferenceProfile.of(rows[:1_000], NAMES)
    report = DriftDetector().report(profile, rows[1_000:], seed=1)
    assert [one.feature for one in report.figures] == NAMES
    assert report.recommendations == ("none: 2 rows tested, none alarms",)
    assert report.alert_text("m") == ""


def test_regressions_hit_by_their_sign():
    profile, current, past, present = two_sides(9)
    signed = [
        Judged(one.times, one.prediction - 0.5, one.label - 0.5, one.outcome)
        for one in (past, present)
    ]
    found = report_of(profile, current, *signed, objective="regression")
    same = report_of(profile, current, past, present)
    assert found.figure("accuracy").current == same.figure("accuracy").current


def test_rows_out_of_order_are_refused():
    profile, current, past, present = two_sides(10)
    with pytest.raises(DriftError, match="not in time order"):
        DriftDetector().report(profile, current, seed=0, times=present.times[::-1])
    with pytest.raises(DriftError, match="800 rows"):
        DriftDetector().report(profile, current, seed=0, times=past.times)
