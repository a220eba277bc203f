"""Every signal on prices small enough to work it out by hand."""

import numpy as np
import pytest

from lab.backtest.panel import ForecastGrid
from lab.sleeves import signals
from lab.sleeves.own_bars import OwnBars
from tests.lab.sleeves.panels import BEGIN, panel, rough

NAN = np.nan


def column(signal):
    assert signal.shape[1] == 1
    return signal[:, 0].tolist()


def prices(*moves):
    return panel(100.0 * np.exp(np.cumsum([0.0, *moves])))


def test_strength_is_the_move_over_the_root_of_its_squares():
    bars = OwnBars.of(prices(0.03, -0.04, 0.0, 0.05))
    np.testing.assert_allclose(
        signals.strength(bars, lookback=2),
        [NAN, NAN, -0.01 / 0.05, -1.0, 1.0],
    )
    np.testing.assert_allclose(
        signals.strength(bars, lookback=2, skip=1), [NAN, NAN, NAN, -0.2, -1.0]
    )


def test_a_trend_begins_at_its_threshold_and_ends_when_the_move_turns():
    one = prices(0.01, 0.01, 0.01, -0.005, -0.02, -0.02, 0.001)
    # Strength of two bars: 1.41, 1.41, 0.45, -1.21, -1.41, -0.95.
    found = signals.trend(one, lookback=2, threshold=1.3)
    assert column(found) == [0, 0, 1, 1, 1, 0, -1, -1]
    assert column(signals.trend(one, lookback=2)) == [0, 0, 1, 1, 1, -1, -1, -1]


def test_a_row_without_a_bar_keeps_the_opinion_of_the_bar_before():
    moves = np.exp(np.cumsum([0.0, 0.01, 0.01, 0.01, -0.05, -0.01]))
    close = np.full((8, 1), NAN)
    close[[0, 1, 3, 4, 6, 7], 0] = moves
    found = signals.trend(panel(close), lookback=2)
    assert column(found) == [0, 0, 0, 1, 1, 1, -1, -1]


def test_a_break_is_no_move():
    close = [100.0, 101.0, 102.0, 25.6, 25.8, 26.0]
    flagged = panel(close, breaks=[(3, 0)])
    assert column(signals.trend(flagged, lookback=2)) == [0, 0, 1, 1, 1, 1]
    assert column(signals.trend(panel(close), lookback=2))[3] == -1


def test_the_averages_cross():
    found = signals.average_cross(
        panel([10.0, 11, 12, 13, 10, 8, 8, 12, 14]), fast=1, slow=3, band=0.0
    )
    # Averages of three: 11, 12, 11.67, 10.33, 8.67, 9.33, 11.33; the first of them is
    # known on row 2, its volatility on row 3.
    assert column(found) == [0, 0, 0, 1, -1, -1, -1, 1, 1]


def test_a_cross_within_the_band_is_none():
    one = panel([100.0, 101, 100, 101, 100, 101, 100.5, 110])
    assert column(signals.average_cross(one, fast=1, slow=3, band=0.9))[:7] == [0] * 7
    assert column(signals.average_cross(one, fast=1, slow=3, band=0.5))[7] == 1


def test_a_breakout_lasts_until_the_shorter_channel_breaks():
    one = panel([5.0, 6, 5, 7, 6, 5.5, 5, 4, 4.5, 6])
    found = signals.breakout(one, entry=3, leave=2)
    # Above the three before at 7; below the two before at 5.5; below three at 5 and 4;
    # above the two before at 4.5? no, at 6, which is above the three before as well.
    assert column(found) == [0, 0, 0, 1, 1, 0, -1, -1, -1, 1]


def test_wilders_index_turns_at_its_edges_and_ends_in_the_middle():
    fall = [100.0 - n for n in range(6)]
    rise = [95.0 + n for n in range(1, 12)]
    found = column(signals.index_reversion(panel(fall + rise), period=3, edge=20.0))
    assert found[:3] == [0, 0, 0]
    assert found[3:6] == [1, 1, 1]
    assert found[-1] == -1
    change = np.diff(fall + rise, prepend=100.0)
    up = down = 0.0
    for row, one in enumerate(change):
        up = up * 2 / 3 + max(one, 0.0)
        down = down * 2 / 3 + max(-one, 0.0)
        if row >= 3:
            index = 100.0 * up / (up + down)
            assert not (found[row] == 1 and index >= 50 + 1e-6)
            assert not (found[row] == 0 and abs(index - 50) > 20 + 1e-6)


def test_a_close_outside_the_bands_is_sold_until_the_mean():
    one = panel([10.0, 11, 10, 11, 10, 14, 13, 12.5, 10])
    found = column(signals.band_reversion(one, lookback=5, width=1.5))
    # Row 5: mean 11.2, deviation 1.47, 1.9 above; row 8: 10 is below the mean of 11.9.
    assert found == [0, 0, 0, 0, 0, -1, -1, -1, 0]


def test_a_price_that_stands_still_has_no_bands():
    one = panel(np.full(40, 0.1) * 3)
    assert not signals.band_reversion(one, lookback=7, width=0.5).any()
    assert not signals.index_reversion(one, period=5, edge=1.0).any()
    assert not signals.trend(one, lookback=5).any()


def test_the_strongest_are_bought_and_the_weakest_sold_from_monday_on():
    speed = np.array([0.03, 0.01, -0.01, -0.03])
    noise = 0.01 * np.where(np.arange(21) % 2, 1.0, -1.0)
    moves = speed + noise[:, None]
    moves[16:] = -speed + noise[16:, None]  # turns on a Wednesday
    found = signals.relative_strength(
        panel(np.exp(np.cumsum(moves, axis=0))), lookback=4, share=0.3
    )
    np.testing.assert_array_equal(found[:7], 0.0)
    np.testing.assert_array_equal(found[7:], [[1, 0, 0, -1]] * 14)
    three = panel(np.exp(np.cumsum(moves, axis=0))[:, :3])
    assert not signals.relative_strength(three, lookback=4).any()


def test_a_large_surprise_is_held_for_as_many_bars():
    close = np.ones((9, 1))
    close[3] = NAN
    surprises = np.zeros((9, 1))
    surprises[1], surprises[2], surprises[6] = 1.5, 0.4, -6.0
    one = panel(close, surprises=surprises)
    found = signals.surprise_drift(one, hold=2, threshold=1.0)
    assert column(found) == [0, 0.5, 0.5, 0.5, 0, 0, -1, -1, 0]


def test_an_hour_is_followed_by_what_followed_it():
    n_weeks = 40
    moves = np.tile([0.0, 0.0, 0.004, 0.0, 0.0, 0.0, 0.0], n_weeks)
    moves = moves + np.random.default_rng(2).normal(0, 1e-3, len(moves))
    one = panel(np.exp(np.cumsum(moves)))
    found = signals.seasonality(one, weeks=26, threshold=4.0, hurdle_bps=20.0)
    # What rises is Wednesday, so Tuesday's close is when to buy: from the 27th on.
    bought = np.zeros((n_weeks, 7))
    bought[26:, 1] = 1.0
    np.testing.assert_array_equal(found[:, 0], bought.ravel())


def test_a_season_too_small_for_its_costs_is_left():
    moves = np.tile([0.0, 0.0, 0.004, 0.0, 0.0, 0.0, 0.0], 40)
    moves = moves + np.random.default_rng(2).normal(0, 1e-4, len(moves))
    one = panel(np.exp(np.cumsum(moves)))
    kept = {"weeks": 26, "threshold": 4.0}
    assert not signals.seasonality(one, hurdle_bps=50.0, **kept).any()


def test_hours_of_the_week_are_168():
    ts = BEGIN + np.arange(168 * 30) * np.timedelta64(1, "h")
    moves = np.random.default_rng(4).normal(0, 1e-3, len(ts))
    moves[50::168] += 0.01
    one = panel(np.exp(np.cumsum(moves)), timeframe="1h", ts=ts)
    found = signals.seasonality(one, weeks=26, threshold=6.0, hurdle_bps=50.0)
    assert np.flatnonzero(found[:, 0]).tolist() == [
        49 + 168 * n for n in (26, 27, 28, 29)
    ]


def test_a_forecast_is_followed_from_its_threshold_until_it_turns_or_ends():
    move = np.array([[0.01], [0.04], [0.01], [NAN], [0.01], [-0.04], [0.01]])
    grid = ForecastGrid(move, np.full((7, 1), 0.1))
    found = signals.forecast_side(grid, threshold=0.3)
    assert column(found) == [0, 1, 1, 0, 0, -1, 0]


@pytest.mark.parametrize("timeframe", ["1d", "1h"])
def test_opinions_are_between_minus_one_and_one(timeframe):
    one = OwnBars.of(rough(timeframe))
    found = [
        signals.trend(one, lookback=20, threshold=0.3),
        signals.average_cross(one, fast=5, slow=30),
        signals.breakout(one, entry=20, leave=20),
        signals.index_reversion(one, period=5, edge=10.0),
        signals.band_reversion(one, lookback=20, width=1.0),
        signals.relative_strength(one, lookback=20, skip=2),
        signals.surprise_drift(one, hold=5, threshold=0.5),
        signals.seasonality(one, weeks=10, threshold=0.5, hurdle_bps=0.0),
    ]
    for each in found:
        assert each.shape == one.panel.close.shape
        assert np.isfinite(each).all()
        assert np.abs(each).max() <= 1.0
