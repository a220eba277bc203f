"""The Diebold-Mariano test and many of them, against published formulas and slow versions."""

from datetime import UTC, datetime

import numpy as np
import pytest
from scipy import stats

from lab.errors import ScoringError
from lab.scoring.comparison import (
    MIN_BLOCKS,
    benjamini_hochberg,
    compare,
    harvey_factor,
)
from lab.scoring.segments import Segments

DAY = np.timedelta64(86_400_000_000, "us")
START = np.datetime64(datetime(2020, 1, 1, tzinfo=UTC).replace(tzinfo=None), "us")


def series(n_obs, horizon, *, n_groups=1, every=1):
    """Groups of equal forecasts, one every `every` days over `horizon` days."""
    moments = START + np.arange(n_obs) * every * DAY
    return Segments.of(
        np.repeat(np.arange(n_groups), n_obs),
        n_groups,
        as_of=np.tile(moments, n_groups),
        known=np.tile(moments + horizon * DAY, n_groups),
    )


def slow_test(d, horizon):
    """Diebold and Mariano's statistic with Harvey's correction, as written in the papers."""
    n_obs, mean = len(d), np.mean(d)
    autocovariance = [
        sum((d[t] - mean) * (d[t - k] - mean) for t in range(k, n_obs)) / n_obs
        for k in range(horizon)
    ]
    variance = (autocovariance[0] + 2 * sum(autocovariance[1:])) / n_obs
    h, n = horizon, n_obs
    correction = np.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    return mean / np.sqrt(variance) * correction


@pytest.mark.parametrize("horizon", [1, 2, 5, 12])
def test_statistic_is_the_published_formula(horizon):
    rng = np.random.default_rng(horizon)
    noise = rng.standard_normal(200 + horizon)
    d = 0.1 + np.convolve(noise, np.ones(horizon) / horizon, "valid")[:200]
    found = compare(d, series(200, horizon))
    expected = slow_test(d, horizon)
    assert found.statistic[0] == pytest.approx(expected, rel=1e-12)
    assert found.n_lags[0] == horizon - 1
    n_blocks = -(-200 // horizon)
    assert found.n_blocks[0] == n_blocks
    assert found.p_value[0] == pytest.approx(stats.t.sf(expected, n_blocks - 1))


def test_without_overlap_it_is_students_t_test():
    # n - 1 degrees, and HLN's factor turns the 1/n variance into the 1/(n - 1) one.
    d = np.random.default_rng(4).standard_normal(80) + 0.2
    found = compare(d, series(80, 1))
    expected = stats.ttest_1samp(d, 0, alternative="greater")
    assert found.statistic[0] == pytest.approx(expected.statistic, rel=1e-12)
    assert found.p_value[0] == pytest.approx(expected.pvalue, rel=1e-9)


def test_statistic_of_a_published_data_set():
    # Student's sleep data (Gosset 1908, Biometrika 6, p. 20): mean 1.58, t = 4.0621 on
    # 9 degrees; six copies of it keep the mean while the counts allow a judgement.
    gain = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    found = compare(np.tile(gain, 6), series(60, 1))
    spread = np.std(np.tile(gain, 6), ddof=1) / np.sqrt(60)
    assert found.mean[0] == pytest.approx(1.58)
    assert found.statistic[0] == pytest.approx(1.58 / spread)
    assert 1.58 / (np.std(gain, ddof=1) / np.sqrt(10)) == pytest.approx(
        4.0621, abs=1e-4
    )


def test_groups_do_not_touch_each_other():
    rng = np.random.default_rng(5)
    values = rng.standard_normal((7, 120)).cumsum(axis=1) / 20
    together = compare(values.ravel(), series(120, 4, n_groups=7))
    for group, own in enumerate(values):
        alone = compare(own, series(120, 4))
        assert together.statistic[group] == pytest.approx(alone.statistic[0])
        assert together.p_value[group] == pytest.approx(alone.p_value[0])


@pytest.mark.parametrize(
    ("horizon", "every", "lags"), [(5, 5, 0), (20, 5, 3), (21, 5, 4), (1, 5, 0)]
)
def test_lags_count_forecasts_that_overlap(horizon, every, lags):
    found = compare(np.arange(300.0) % 7, series(300, horizon, every=every))
    assert found.n_lags[0] == lags
    assert found.n_blocks[0] == -(-300 // (lags + 1))


def test_a_gap_ends_an_overlap():
    moments = START + np.concatenate([np.arange(50), 200 + np.arange(50)]) * DAY
    rows = Segments.of(
        np.zeros(100, dtype=np.int64), 1, as_of=moments, known=moments + 3 * DAY
    )
    overlaps = rows.overlaps()
    assert overlaps[:47].tolist() == [2] * 47
    assert overlaps[47:50].tolist() == [2, 1, 0]


def test_blocks_never_overlap_and_are_as_many_as_fit():
    rng = np.random.default_rng(6)
    days = np.sort(rng.choice(900, 400, replace=False))
    moments = START + days * DAY
    rows = Segments.of(
        np.repeat([0, 1], 200), 2, as_of=moments, known=moments + 4 * DAY
    )
    chosen = rows.blocks()
    for group in (0, 1):
        own = days[chosen & (rows.group == group)]
        assert np.diff(own).min() >= 4
        assert own[0] == days[rows.group == group][0]


def test_too_little_is_not_judged():
    d = np.random.default_rng(7).standard_normal(400)
    assert np.isnan(compare(d[:29], series(29, 1)).p_value[0])
    assert np.isnan(compare(d[:95], series(95, 11)).p_value[0])
    assert np.isfinite(compare(d[:110], series(110, 11)).p_value[0])
    assert compare(d[:110], series(110, 11)).n_blocks[0] == MIN_BLOCKS


def test_equal_losses_speak_for_nobody_and_a_constant_gain_is_no_test():
    assert compare(np.zeros(50), series(50, 1)).p_value[0] == 1.0
    assert np.isnan(compare(np.full(50, 0.1), series(50, 1)).p_value[0])


def test_a_variance_that_is_not_positive_falls_back_to_bartlett_weights():
    # Alternating signs: γ1 = -γ0, so γ0 + 2 γ1 is negative.
    d = 0.01 + np.where(np.arange(60) % 2 == 0, 1.0, -1.0)
    found = compare(d, series(60, 2))
    u = d - d.mean()
    expected = (u @ u + 2 * 0.5 * (u[1:] @ u[:-1])) / 60**2
    assert found.error[0] == pytest.approx(np.sqrt(expected))
    assert np.isfinite(found.p_value[0])


def test_unsorted_rows_are_refused():
    moments = START + np.arange(4) * DAY
    with pytest.raises(ScoringError, match="sorted by group, then by decision time"):
        Segments.of(np.array([0, 1, 0, 1]), 2, as_of=moments, known=moments)


def test_harvey_factor_is_one_for_many_forecasts_and_small_for_few():
    n = np.array([10, 100, 1_000_000])
    found = harvey_factor(n, np.array([4, 4, 4]))
    assert found[0] == pytest.approx(np.sqrt((10 + 1 - 8 + 12 / 10) / 10))
    assert found[2] == pytest.approx(1, abs=1e-5)
    assert harvey_factor(np.array([0]), np.array([1])) == [0.0]


def test_adjusted_p_values_are_scipys():
    rng = np.random.default_rng(8)
    p = np.concatenate([rng.uniform(size=200), rng.uniform(size=20) / 1000, [0, 1]])
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))


def test_what_was_not_tested_neither_counts_nor_gets_a_value():
    p = np.array([0.01, np.nan, 0.04, np.nan])
    found = benjamini_hochberg(p)
    assert found[[0, 2]] == pytest.approx([0.02, 0.04])
    assert np.isnan(found[[1, 3]]).all()
    assert np.isnan(benjamini_hochberg(np.array([np.nan]))).all()
    with pytest.raises(ScoringError, match="allowed are 0 to 1"):
        benjamini_hochberg(np.array([1.5]))


def null_p_values(seed, n_series, n_obs, horizon):
    """P-values of forecasts with overlapping errors and no skill at all."""
    rng = np.random.default_rng(seed)
    paths = rng.standard_normal((2, n_series, n_obs + horizon)).cumsum(axis=2)
    coming = paths[:, :, horizon:] - paths[:, :, :-horizon]
    gain = coming[0] * coming[1]  # both overlap by h - 1, their product has mean zero
    return compare(gain.ravel(), series(n_obs, horizon, n_groups=n_series)).p_value


def assert_size_holds(p, level, *, slack):
    """A correct test passes this in 999 of 1,000 runs."""
    allowed = stats.binom.ppf(0.999, len(p), slack * level)
    assert (p <= level).sum() <= allowed, (p <= level).mean()


@pytest.mark.parametrize(("n_obs", "horizon"), [(60, 1), (100, 5), (240, 24)])
def test_size_holds_for_overlapping_errors(n_obs, horizon):
    p = null_p_values(11, 600, n_obs, horizon)
    assert_size_holds(p, 0.05, slack=1.25)
    assert_size_holds(p, 0.005, slack=1.5)


@pytest.mark.full
@pytest.mark.parametrize("n_blocks", [10, 20, 50])
@pytest.mark.parametrize("horizon", [1, 4, 24, 120])
def test_size_holds_for_overlapping_errors_in_long_counts(n_blocks, horizon):
    n_obs = max(30, n_blocks * horizon)
    n_series = int(np.clip(2_000_000 // n_obs, 500, 20_000))
    p = null_p_values(12, n_series, n_obs, horizon)
    assert_size_holds(p, 0.05, slack=1.25)
    assert_size_holds(p, 0.005, slack=1.6)


def test_a_forecaster_that_is_better_is_found():
    rng = np.random.default_rng(13)
    noise = rng.standard_normal((200, 254)).cumsum(axis=1)
    gain = 0.8 + (noise[:, 4:] - noise[:, :-4]) / 2
    found = compare(gain.ravel(), series(250, 4, n_groups=200))
    assert (found.p_value <= 0.05).mean() > 0.95
    worse = compare(-gain.ravel(), series(250, 4, n_groups=200))
    assert (worse.p_value <= 0.05).sum() == 0
