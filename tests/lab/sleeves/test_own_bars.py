"""Rolling figures and an instrument's own bars, against slow and obvious ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.backtest.panel import adjusted_closes, bar_returns
from lab.sleeves import rolling
from lab.sleeves.own_bars import OwnBars
from tests.lab.sleeves.panels import BEGIN, panel, rough

NAN = np.nan


@settings(max_examples=60, deadline=None, derandomize=True)
@given(n=st.integers(0, 80), window=st.integers(1, 90), seed=st.integers(0, 9))
def test_a_rolling_figure_is_that_of_its_window(n, window, seed):
    values = np.random.default_rng(seed).normal(size=n)
    kinds = (
        (rolling.rolling_sum, np.sum),
        (rolling.rolling_max, np.max),
        (rolling.rolling_min, np.min),
    )
    for rolled, plain in kinds:
        expected = [
            plain(values[t + 1 - window : t + 1]) if t + 1 >= window else NAN
            for t in range(n)
        ]
        np.testing.assert_allclose(rolled(values, window), expected, rtol=1e-12)


def test_a_rolling_sum_does_not_depend_on_where_the_series_begins():
    values = np.random.default_rng(0).normal(size=500)
    values[3] = 1e12
    whole, part = (rolling.rolling_sum(one, 37) for one in (values, values[100:]))
    np.testing.assert_array_equal(whole[136:], part[36:])


def test_own_bars_skip_the_rows_without_a_bar():
    bars = OwnBars.of(panel([[1.0, NAN], [NAN, 10.0], [2.0, 20.0], [NAN, 10.0]]))
    np.testing.assert_array_equal(bars.number, [0, 1, 0, 1, 2])
    np.testing.assert_array_equal(bars.level, [1, 2, 1, 2, 1])
    np.testing.assert_allclose(bars.growth, np.log([NAN, 2, NAN, 2, 0.5]))
    np.testing.assert_array_equal(bars.step_days, [NAN, 2, NAN, 1, 1])
    spread = bars.spread(np.array([5.0, 6.0, 7.0, NAN, 9.0]), missing=-1.0)
    np.testing.assert_array_equal(spread, [[5, -1], [5, 7], [6, -1], [6, 9]])


def test_levels_and_returns_are_those_of_the_panel():
    one = rough(n_obs=900)
    cleaned = one.close.copy()
    cleaned[cleaned == 0.0] = 1.0
    one = panel(cleaned, breaks=[(400, 1)])
    bars = OwnBars.of(one)
    np.testing.assert_allclose(bars.level, bars.pack(adjusted_closes(one)), rtol=1e-9)
    moves = np.expm1(bars.growth)
    np.testing.assert_allclose(moves, bars.pack(bar_returns(one)), atol=1e-12)


def test_a_price_of_zero_stays_a_number():
    bars = OwnBars.of(panel([100.0, 0.0, 0.0, 50.0]))
    np.testing.assert_allclose(bars.level, [1, 1e-3, 1e-3, 1e-3])
    assert np.isfinite(bars.growth[1:]).all()


def test_an_old_bar_is_no_opinion():
    close = np.full((14, 2), NAN)
    close[:, 0] = 1.0
    close[1, 1] = 1.0
    held = OwnBars.of(panel(close)).spread(np.full(15, 3.0))
    np.testing.assert_array_equal(held[:, 0], 3.0)
    np.testing.assert_array_equal(held[:, 1], [0] + [3] * 11 + [0] * 2)


def test_windows_never_reach_into_another_instrument():
    bars = OwnBars.of(panel(np.arange(1.0, 9.0).reshape(4, 2)))
    np.testing.assert_array_equal(
        bars.total(np.ones(8), 3), [NAN, NAN, 3, 3, NAN, NAN, 3, 3]
    )
    np.testing.assert_array_equal(bars.highest(bars.level, 2)[[0, 4]], [NAN, NAN])
    np.testing.assert_array_equal(bars.lagged(np.arange(8.0), 2)[4:], [NAN, NAN, 4, 5])


def test_a_latch_stays_as_it_was_turned_until_it_is_turned_again():
    bars = OwnBars.of(panel(np.ones((6, 2))))
    on = np.array([0, 1, 0, 0, 0, 1] + [0] * 6, dtype=np.bool_)
    off = np.array([0, 0, 0, 1, 0, 1] + [0] * 6, dtype=np.bool_)
    np.testing.assert_array_equal(bars.latched(on, off), [0, 1, 1, 0, 0, 1] + [0] * 6)


def test_an_opinion_is_held_between_its_thresholds():
    bars = OwnBars.of(panel(np.ones(9)))
    score = np.array([0.5, 1.5, 0.5, NAN, 0.1, -0.5, -1.5, -0.1, 0.2])
    np.testing.assert_array_equal(
        bars.held(score, enter=1.0, leave=0.0), [0, 1, 1, 1, 1, 0, -1, -1, 0]
    )


def test_faded_sums_are_wilders_but_for_their_start():
    values = np.abs(np.random.default_rng(3).normal(size=600))
    bars = OwnBars.of(panel(np.ones(600)))
    slow = np.zeros(600)
    slow[0] = values[0]
    for t in range(1, 600):
        slow[t] = slow[t - 1] * (1 - 1 / 14) + values[t]
    np.testing.assert_allclose(bars.faded(values, 14), slow, rtol=1e-5)


def test_volatility_is_of_a_day_whatever_the_hours_of_trading():
    rng = np.random.default_rng(1)
    hours = BEGIN + np.arange(24 * 400) * np.timedelta64(1, "h")
    close = np.exp(np.cumsum(rng.normal(0, 0.01, (len(hours), 2)), axis=0))
    is_closed = np.arange(len(hours)) % 24 >= 8
    close[is_closed, 1] = NAN
    one = panel(close, timeframe="1h", ts=hours)
    risk = OwnBars.of(one).volatility(1600)[-1]
    np.testing.assert_allclose(risk, 0.01 * np.sqrt(24), rtol=0.06)


def test_volatility_counts_no_time_across_a_break():
    moves = np.tile([0.01, -0.01], 10)
    close = np.exp(np.cumsum(moves))
    close[10:] *= 7.0
    ts = BEGIN + np.arange(20) * np.timedelta64(1, "D")
    ts[10:] += np.timedelta64(700, "D")
    risk = OwnBars.of(panel(close, ts=ts, breaks=[(10, 0)])).volatility(15)
    np.testing.assert_allclose(risk[-1], 0.01, rtol=1e-9)


@pytest.mark.parametrize("close", [np.zeros((0, 2)), np.full((4, 2), NAN)])
def test_a_panel_without_bars_has_no_opinion(close):
    bars = OwnBars.of(panel(close))
    assert bars.spread(bars.level).shape == close.shape
    assert not bars.spread(bars.level).any()
