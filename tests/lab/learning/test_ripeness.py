"""Rows that are settled as a whole, and what those that settled first would say."""

import numpy as np
import pytest

from lab.errors import TrainingError
from lab.learning.ripeness import ripe_rows

DAY = np.timedelta64(1, "D")
START = np.datetime64("2020-01-01", "us")


def days(n: int) -> np.ndarray:
    return START + np.arange(n) * DAY


def by_search(decided: np.ndarray, is_settled: np.ndarray) -> int:
    """The definition: of every stretch of moments that ends there 95 % are settled."""
    moments = np.unique(decided)
    found = 0
    for last in moments:
        shares = [
            is_settled[(decided >= first) & (decided <= last)].mean()
            for first in moments[moments <= last]
        ]
        if min(shares) >= 0.95 - 1e-12:
            found = int((decided <= last).sum())
    return found


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_newest_moment_with_no_stretch_before_it_that_is_open(seed):
    rng = np.random.default_rng(seed)
    n = 150
    decided = START + np.sort(rng.integers(0, 60, n)) * DAY
    is_settled = rng.random(n) < np.where(np.arange(n) < 110, 0.985, 0.6)
    assert ripe_rows(decided, is_settled) == by_search(decided, is_settled)


def test_one_row_that_stays_open_holds_up_nineteen_others():
    is_settled = np.ones(60, dtype=bool)
    is_settled[40] = False
    assert ripe_rows(days(60), is_settled) == 60
    assert ripe_rows(days(59), is_settled[:59]) == 40
    assert ripe_rows(days(0), np.ones(0, dtype=bool)) == 0
    assert ripe_rows(days(3), np.zeros(3, dtype=bool)) == 0


def test_rows_of_one_moment_stay_together():
    decided = np.repeat(days(30), 2)
    is_settled = np.ones(60, dtype=bool)
    is_settled[59] = False
    assert ripe_rows(decided, is_settled) == 58


def test_rows_out_of_order_and_of_two_lengths_are_refused():
    with pytest.raises(TrainingError, match="order of time"):
        ripe_rows(days(3)[::-1], np.ones(3, dtype=bool))
    with pytest.raises(TrainingError, match="one length"):
        ripe_rows(days(3), np.ones(2, dtype=bool))


@pytest.mark.parametrize("seed", range(6))
def test_after_years_the_newest_month_wins_as_often_as_all_do(seed):
    """Winners are held 10 to 40 days, losers 1 to 5; half of the orders win."""
    rng = np.random.default_rng(seed)
    n_days, a_day = 1500, 8
    decided = START + np.repeat(np.arange(n_days), a_day) * DAY
    is_win = rng.random(len(decided)) < 0.5
    held = np.where(
        is_win,
        rng.integers(10, 41, len(decided)),
        rng.integers(1, 6, len(decided)),
    )
    is_closed = decided + held * DAY <= START + n_days * DAY
    assert is_closed.mean() > 0.95  # of all years: the share of them all says nothing
    newest = decided > decided[-1] - 30 * DAY
    assert is_win[newest & is_closed].mean() < 0.35
    n_ripe = ripe_rows(decided, is_closed)
    last = decided[n_ripe - 1]
    block = is_closed & (decided > last - 30 * DAY) & (decided <= last)
    error = np.sqrt(0.25 / block.sum())
    assert block.sum() > 200
    assert abs(is_win[block].mean() - 0.5) < 2.58 * error
    assert (decided[-1] - last) / DAY < 45
