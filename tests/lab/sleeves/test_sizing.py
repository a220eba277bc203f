"""Shares, calendar weeks and the volatility target, with numbers worked out by hand."""

import numpy as np

from lab.sleeves.sizing import (
    first_rows,
    inverse_shares,
    refreshed,
    sized,
    targeted,
)
from tests.lab.sleeves.panels import BEGIN, panel

NAN = np.nan
DAY = np.timedelta64(1, "D")


def days(n, *, skip=0):
    return BEGIN + (skip + np.arange(n)) * DAY


def test_a_week_begins_on_monday_wherever_the_rows_do():
    np.testing.assert_array_equal(first_rows(days(9)), [0] * 7 + [7] * 2)
    np.testing.assert_array_equal(first_rows(days(9, skip=5)), [0, 0] + [2] * 7)
    late = np.concatenate([days(3), days(3, skip=9)])
    np.testing.assert_array_equal(first_rows(late), [0, 0, 0, 3, 3, 3])


def test_a_number_is_refreshed_once_a_week():
    values = np.arange(16.0).reshape(8, 2)
    values[:2, 1] = NAN
    values[4, 0] = NAN
    held = refreshed(values, days(8))
    np.testing.assert_array_equal(held[:, 0], [0, 0, 0, 0, NAN, 0, 0, 14])
    np.testing.assert_array_equal(held[:, 1], [NAN, NAN, 5, 5, 5, 5, 5, 15])


def test_shares_are_in_proportion_to_one_over_the_risk():
    shares = inverse_shares(np.array([[1.0, 2.0, 4.0, NAN]]), days(1), cap=0.9)
    np.testing.assert_allclose(shares, [[4 / 7, 2 / 7, 1 / 7, 0]])


def test_no_share_is_above_the_cap_but_few_instruments_may_fill_the_book():
    risk = np.array([[1.0, *[20.0] * 11]])
    assert inverse_shares(risk, days(1)).max() == 0.2
    assert inverse_shares(risk[:, :4], days(1)).max() == 0.5
    one = inverse_shares(np.array([[1.0, NAN]]), days(1))
    np.testing.assert_array_equal(one, [[1.0, 0.0]])
    two = inverse_shares(np.array([[1.0, 3.0]]), days(1))
    np.testing.assert_array_equal(two, [[0.75, 0.25]])
    assert not inverse_shares(np.array([[NAN, NAN]]), days(1)).any()


def test_a_signal_before_there_is_a_volatility_is_no_position():
    close = 100 + np.sin(np.arange(80.0))
    weights = sized(panel(close), np.ones((80, 1)))
    np.testing.assert_array_equal(weights[:60], 0.0)
    np.testing.assert_array_equal(weights[60:], 1.0)


def test_a_book_twice_as_risky_as_its_target_is_halved():
    moves = np.tile([0.01, -0.01], 60)
    one = panel(np.exp(np.cumsum(moves)))
    weights = np.ones((120, 1))
    risk = np.sqrt((np.expm1(0.01) ** 2 + np.expm1(-0.01) ** 2) / 2 * 365.25)
    scaled = targeted(one, weights, target=risk / 2)
    np.testing.assert_allclose(scaled[-1], 0.5, rtol=1e-9)
    np.testing.assert_array_equal(targeted(one, weights, target=2 * risk), weights)


def test_the_book_of_the_past_earns_on_the_row_after_its_decision():
    moves = np.zeros(90)
    moves[10] = 0.5
    one = panel(np.exp(np.cumsum(moves)))
    decided = np.zeros((90, 2))
    decided[9, 0] = decided[10, 1] = 1.0
    calm = np.full(90, 0.1)
    on_time, late = (
        targeted(one, np.where(np.arange(90) < 60, each, calm)[:, None], target=0.01)
        for each in decided.T
    )
    assert on_time[69, 0] < 0.01
    assert late[69, 0] == 0.1
