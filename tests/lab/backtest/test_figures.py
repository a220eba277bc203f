"""Figures against numbers worked out by hand."""

import math

import numpy as np
import pytest

from lab.backtest.figures import (
    book_capacity,
    figures,
    max_drawdown,
    observations_per_year,
)
from lab.errors import BacktestError
from tests.lab.backtest.random_panels import random_panel

DAY = np.timedelta64(1, "D").astype("m8[us]")
START = np.datetime64("2024-01-01", "us")


def days(n):
    return START + np.arange(n) * DAY


def test_figures_of_a_few_days():
    returns = np.array([0.1, -0.2, 0.05, 0.1])
    found = figures(
        returns,
        days(4),
        turnover=np.array([1.0, 0, 0, 1.0]),
        exposure=np.array([0.5, 1, 1, 0.5]),
        trades=np.array([1, 0, 0, 1]),
        capacity=1e6,
    )
    equity = np.array([1.1, 0.88, 0.924, 1.0164])
    root = math.sqrt(365.25)
    mean, deviation = returns.mean(), returns.std(ddof=1)
    assert found.sharpe == pytest.approx(mean / deviation * root)
    assert found.sortino == pytest.approx(mean / math.sqrt(0.04 / 4) * root)
    assert found.max_drawdown == pytest.approx(1 - 0.88 / 1.1)
    assert found.return_net == pytest.approx(equity[-1] - 1)
    annual = equity[-1] ** (365.25 / 4) - 1
    assert found.annual_return == pytest.approx(annual)
    assert found.calmar == pytest.approx(annual / 0.2)
    assert found.volatility == pytest.approx(deviation * root)
    assert found.turnover == pytest.approx(0.5 * 365.25)
    assert (found.exposure, found.trades, found.n_obs) == (0.75, 2, 4)
    assert found.capacity == 1e6


def test_annualisation_counts_the_observations_that_were_seen():
    sessions = days(365 * 2)[np.arange(365 * 2) % 7 < 5]
    assert observations_per_year(sessions) == pytest.approx(261, rel=0.01)
    assert observations_per_year(days(500)) == pytest.approx(365.25)
    assert observations_per_year(days(1)) is None
    returns = np.random.default_rng(0).standard_normal(len(sessions)) * 0.01
    expected = (
        returns.mean()
        / returns.std(ddof=1)
        * math.sqrt(observations_per_year(sessions))
    )
    assert figures(returns, sessions).sharpe == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 0.001])
def test_returns_that_do_not_vary_have_no_ratio(value):
    found = figures(np.full(50, value), days(50))
    assert (found.sharpe, found.sortino, found.calmar) == (None, None, None)
    assert (found.max_drawdown, found.volatility) == (0, 0)


def test_one_observation_has_no_yearly_figure():
    found = figures(np.array([0.02]), days(1), turnover=np.ones(1))
    assert (found.sharpe, found.annual_return, found.volatility) == (None, None, None)
    assert found.turnover is None
    assert found.return_net == pytest.approx(0.02)


def test_a_ruined_book_is_down_by_all_of_it():
    found = figures(np.array([0.1, -1.0, 0.0]), days(3))
    assert (found.max_drawdown, found.return_net, found.annual_return) == (1, -1, -1)


def test_drawdown_of_many_series_and_from_the_start():
    returns = np.array([[-0.5, 0.1], [0.5, -0.1]])
    np.testing.assert_allclose(max_drawdown(returns), [0.5, 0.1])


@pytest.mark.parametrize(
    ("returns", "n", "message"),
    [
        (np.zeros(0), 0, r"shape \(0,\)"),
        (np.zeros(3), 4, "and 4 times"),
        (np.zeros((3, 1)), 3, r"shape \(3, 1\)"),
        (np.array([0, np.nan]), 2, "return nan at 2024-01-02"),
    ],
)
def test_returns_that_cannot_be_are_refused(returns, n, message):
    with pytest.raises(BacktestError, match=message):
        figures(returns, days(n))


def test_capacity_is_that_of_the_least_liquid_instrument_held():
    panel = random_panel(1, 101, 3, is_clean=True)
    panel.volume[:] = 100 / panel.close * np.array([1.0, 10.0, 0.001])
    weights = np.zeros((101, 3))
    weights[5, 0], weights[7, 1] = -0.5, 1.0
    assert book_capacity(panel, weights) == pytest.approx(0.01 * 100 / 0.5)
    assert book_capacity(panel, np.zeros((101, 3))) is None


def test_capacity_is_unknown_where_volume_is():
    panel = random_panel(1, 101, 2, is_clean=True)
    panel.volume[:, 1] = 0
    assert book_capacity(panel, np.full((101, 2), 0.5)) is None
    assert book_capacity(panel, np.array([[0.5, 0.0]] * 101)) is not None
    panel.volume[:, 0] = np.nan
    assert book_capacity(panel, np.array([[0.5, 0.0]] * 101)) is None
