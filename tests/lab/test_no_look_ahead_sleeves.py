"""No sleeve sees the future: every one in the catalogue, with all its variants.

Two ways: the rows after a cut are taken away, and they are changed. What was decided up
to the cut has to stay the same to the last bit. A planted leak proves that both find it.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.backtest.panel import AlignedPanel, ForecastGrid
from lab.bars.panel import Panel
from lab.bars.timeframes import step, to_instant
from lab.sleeves._base import Sleeve, ranged
from lab.sleeves.catalogue import sleeves
from tests.lab import toy_market
from tests.lab.sleeves.panels import rough
from tests.lab.toy_market import altered_futures, moment

CATALOGUE = sleeves()
N_OBS = {"1d": 1100, "1h": 9600}
PANELS = {
    timeframe: rough(timeframe, n_obs=n_obs) for timeframe, n_obs in N_OBS.items()
}


@dataclass(frozen=True)
class CentredMean(Sleeve):
    """Compares a price with the mean of the bars around it."""

    sleeve_id: ClassVar[str] = "centred-mean"
    ahead: int = ranged(2, 1, 5, tried=(2,))

    def positions(self, panel):
        price = np.nan_to_num(panel.close)
        later = np.vstack([price[self.ahead :], np.repeat(price[-1:], self.ahead, 0)])
        return np.sign(later - price) / panel.n_assets


def futures(panel, cut, rng):
    """Yield the same past with other futures, each with a name."""
    n_later = (panel.n_obs - cut, panel.n_assets)

    def later(values, changed):
        return np.concatenate([values[:cut], changed])

    close = panel.close[cut:] * np.exp(rng.normal(0, 0.2, n_later))
    yield "other prices", replace(panel, close=later(panel.close, close))
    close = np.where(rng.random(n_later) < 0.5, np.nan, panel.close[cut:])
    yield "missing bars", replace(panel, close=later(panel.close, close))
    close = np.full(n_later, 50.0)
    yield "new bars", replace(panel, close=later(panel.close, close))
    breaks = later(panel.is_break, np.ones(n_later, dtype=np.bool_))
    yield "breaks", replace(panel, is_break=breaks)
    grids = {
        name: ForecastGrid(
            later(one.move, rng.normal(0, 1, n_later)), later(one.width, 1.0 + close)
        )
        for name, one in panel.forecasts.items()
    }
    surprises = later(panel.surprises, rng.normal(0, 2, n_later))
    yield "other news", replace(panel, forecasts=grids, surprises=surprises)
    yield "delisted", replace(panel, delisted=np.full(panel.n_assets, panel.n_obs - 1))


def leaks(sleeve, panel, cut, *, n_futures=6):
    """Names of the ways in which the weights up to `cut` changed."""
    expected = sleeve.positions(panel)[:cut]
    found = []
    if not np.array_equal(sleeve.positions(panel.until(cut)), expected):
        found.append("truncated")
    changes = list(futures(panel, cut, np.random.default_rng(cut)))
    for name, other in changes[:n_futures]:
        if not np.array_equal(sleeve.positions(other)[:cut], expected):
            found.append(name)
    return found


@pytest.mark.parametrize("timeframe", ["1d", "1h"])
@pytest.mark.parametrize("sleeve_id", sorted(CATALOGUE))
def test_no_variant_sees_the_future(sleeve_id, timeframe):
    panel = PANELS[timeframe]
    rng = np.random.default_rng(7)
    for variant in CATALOGUE[sleeve_id].variants():
        for cut in rng.integers(panel.n_obs // 2, panel.n_obs, 2):
            assert leaks(variant, panel, int(cut), n_futures=0) == [], variant


@pytest.mark.parametrize("timeframe", ["1d", "1h"])
@pytest.mark.parametrize("sleeve_id", sorted(CATALOGUE))
def test_the_past_does_not_change_when_the_future_does(sleeve_id, timeframe):
    panel = PANELS[timeframe]

    @settings(max_examples=3, deadline=None, derandomize=True)
    @given(cut=st.integers(panel.n_obs // 2, panel.n_obs - 1))
    def check(cut):
        assert leaks(CATALOGUE[sleeve_id](), panel, cut) == []

    check()


@pytest.mark.full
@pytest.mark.parametrize("timeframe", ["1d", "1h"])
@pytest.mark.parametrize("sleeve_id", sorted(CATALOGUE))
def test_no_variant_sees_the_future_at_many_cuts(sleeve_id, timeframe):
    panel = PANELS[timeframe]
    rng = np.random.default_rng(8)
    for variant in CATALOGUE[sleeve_id].variants():
        for cut in rng.integers(1, panel.n_obs, 12):
            assert leaks(variant, panel, int(cut)) == [], variant


@pytest.mark.parametrize("timeframe", ["1d", "1h"])
@pytest.mark.parametrize("sleeve_id", sorted(CATALOGUE))
def test_every_variant_is_tested_on_positions_within_the_book(sleeve_id, timeframe):
    for variant in CATALOGUE[sleeve_id].variants():
        weights = variant.positions(PANELS[timeframe])
        assert weights.shape == PANELS[timeframe].close.shape
        assert np.isfinite(weights).all()
        gross = np.abs(weights).sum(axis=1)
        assert gross.max() <= 1 + 1e-12
        assert np.count_nonzero(gross[-N_OBS[timeframe] // 2 :]) > 0, variant


def test_a_sleeve_that_looks_ahead_is_found_both_ways():
    found = leaks(CentredMean(), PANELS["1d"], 700)
    assert {"truncated", "other prices", "new bars"} <= set(found)


@pytest.mark.parametrize("sleeve_id", sorted(CATALOGUE))
def test_the_position_at_a_row_is_that_of_the_whole_panel(sleeve_id):
    sleeve, panel = CATALOGUE[sleeve_id](), PANELS["1d"]
    weights = sleeve.positions(panel)
    for row in (0, 640, 1099):
        np.testing.assert_array_equal(sleeve.positions_at(panel, row), weights[row])


@pytest.mark.parametrize("cut", ["2020-06-03T20:30", "2020-09-12T00:00"])
def test_tables_with_another_future_give_the_same_weights(cut):
    as_of = moment(cut)
    names = [name for name, made in CATALOGUE.items() if not made.needs]

    def weights(ohlcv, until):
        bars = Panel.from_tables(ohlcv, toy_market.instruments(), timeframe="1d")
        panel = AlignedPanel.from_bars(bars, as_of=until)
        # The day that is under way has a row for the markets that have closed.
        rows = np.searchsorted(panel.ts + step("1d"), to_instant(as_of), side="right")
        found = {name: CATALOGUE[name]().positions(panel)[:rows] for name in names}
        return {name: one.tobytes() for name, one in found.items()}

    market = toy_market.market()
    expected = weights(market, as_of)
    assert weights(market, moment("2022-01-01")) == expected
    for name, ohlcv in altered_futures(market, as_of, np.random.default_rng(5)):
        assert weights(ohlcv, as_of) == expected, name
        assert weights(ohlcv, moment("2026-01-01")) == expected, name
