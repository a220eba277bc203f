"""What each sleeve does beyond its signal, and what none does with poor panels."""

from dataclasses import replace

import numpy as np
import pytest

from lab.backtest.panel import ForecastGrid
from lab.sleeves import signals
from lab.sleeves.catalogue import find, sleeves
from lab.sleeves.cross_sectional_momentum import CrossSectionalMomentum
from lab.sleeves.follow_kronos import FollowKronos
from lab.sleeves.moving_average_cross import MovingAverageCross
from lab.sleeves.pairs_reversion import PairsReversion
from lab.sleeves.sizing import sized
from lab.sleeves.time_series_momentum import TimeSeriesMomentum
from lab.sleeves.volatility_targeted_trend import VolatilityTargetedTrend
from tests.lab.sleeves.panels import MODELS, forecasts, panel, rough

CATALOGUE = sleeves()


def with_forecasts(one):
    rng = np.random.default_rng(0)
    grids = {model: forecasts(rng, one.close.shape) for model in MODELS}
    return replace(one, forecasts=grids)


@pytest.mark.parametrize("timeframe", ["1d", "1h"])
@pytest.mark.parametrize("sleeve_id", sorted(CATALOGUE))
def test_poor_panels_give_no_position_rather_than_an_error(sleeve_id, timeframe):
    poor = {
        "no rows": np.zeros((0, 2)),
        "one row": np.ones((1, 2)),
        "no bars": np.full((80, 2), np.nan),
        "too short": np.exp(np.random.default_rng(0).normal(0, 0.01, (4, 3)).cumsum(0)),
        "still": np.full((900, 2), 7.3),
    }
    for name, close in poor.items():
        one = with_forecasts(panel(close, timeframe=timeframe))
        weights = CATALOGUE[sleeve_id]().positions(one)
        assert weights.shape == close.shape, name
        if not CATALOGUE[sleeve_id].needs:
            assert not weights.any(), name


@pytest.mark.parametrize("sleeve_id", sorted(CATALOGUE))
def test_one_instrument_is_a_book(sleeve_id):
    rng = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 900)))
    surprises = np.where(rng.random((900, 1)) < 0.05, 2.0, 0.0)
    one = with_forecasts(panel(close, surprises=surprises))
    weights = CATALOGUE[sleeve_id]().positions(one)
    needs_others = {"cross-sectional-momentum", "pairs-reversion"}
    assert weights.any() == (sleeve_id not in needs_others)
    assert np.abs(weights).max() <= 1.0


@pytest.mark.parametrize("sleeve_id", sorted(CATALOGUE))
def test_a_dead_instrument_is_let_go(sleeve_id):
    one = rough(n_obs=1100)
    weights = CATALOGUE[sleeve_id]().positions(one)
    if not CATALOGUE[sleeve_id].needs:
        assert not weights[int(1100 * 0.7) + 11 :, 3].any()


@pytest.mark.parametrize("sleeve_id", sorted(CATALOGUE))
def test_a_price_in_other_units_is_the_same_price(sleeve_id):
    one = rough(n_obs=900)
    scaled = replace(one, close=one.close * 1024.0)
    sleeve = CATALOGUE[sleeve_id]()
    np.testing.assert_array_equal(sleeve.positions(scaled), sleeve.positions(one))


def test_momentum_is_long_what_rose_and_short_what_fell_by_equal_risk():
    noise = np.tile([0.01, -0.01], 200)
    moves = np.stack([0.002 + noise, -0.002 + noise * 2], axis=1)
    one = panel(np.exp(np.cumsum(moves, axis=0)))
    weights = TimeSeriesMomentum(lookback=60, threshold=0.5).positions(one)
    assert weights[-1, 0] == pytest.approx(2 / 3, rel=0.02)
    assert weights[-1, 1] == pytest.approx(-1 / 3, rel=0.02)


def test_a_fast_average_above_a_slow_one_is_long():
    close = np.concatenate([np.linspace(100, 80, 200), np.linspace(80, 120, 200)])
    weights = MovingAverageCross(fast=10, slow=60).positions(panel(close))[:, 0]
    assert weights[190] == -1.0
    assert weights[399] == 1.0
    assert set(weights.tolist()) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize(
    ("sleeve_id", "parameters", "signal", "arguments"),
    [
        ("time-series-momentum", {"lookback": 40, "threshold": 0.7}, "trend", {}),
        (
            "moving-average-cross",
            {"fast": 7, "slow": 40, "band": 0.3},
            "average_cross",
            {},
        ),
        (
            "donchian-breakout",
            {"entry": 55, "exit_share": 0.5},
            "breakout",
            {"entry": 55, "leave": 28},
        ),
        ("rsi-reversion", {"period": 9, "edge": 18.0}, "index_reversion", {}),
        ("bollinger-reversion", {"lookback": 33, "width": 1.2}, "band_reversion", {}),
        (
            "hour-of-week",
            {"weeks": 20, "threshold": 1.1, "hurdle_bps": 17.0},
            "seasonality",
            {},
        ),
        ("event-drift", {"hold": 7, "threshold": 0.8}, "surprise_drift", {}),
    ],
)
def test_a_sleeve_is_its_signal_sized_by_risk(sleeve_id, parameters, signal, arguments):
    one = rough()
    found = find(sleeve_id)(**parameters).positions(one)
    expected = sized(one, getattr(signals, signal)(one, **(arguments or parameters)))
    assert expected.any()
    np.testing.assert_array_equal(found, expected)


def test_winners_and_losers_have_half_the_book_each():
    rng = np.random.default_rng(3)
    moves = rng.normal(0, 0.01, (700, 12)) + np.linspace(-0.002, 0.002, 12)
    one = panel(np.exp(np.cumsum(moves, axis=0)))
    weights = CrossSectionalMomentum(lookback=250, skip=5, share=0.33).positions(one)
    late = weights[400:]
    np.testing.assert_allclose(np.clip(late, 0, None).sum(axis=1), 0.5)
    np.testing.assert_allclose(np.clip(late, None, 0).sum(axis=1), -0.5)
    assert late[:, 8:].sum() > 0 > late[:, :4].sum()
    assert (np.abs(np.diff(late, axis=0)).sum(axis=1) > 0).sum() <= 1 + 300 // 7


def test_a_rougher_market_makes_the_trend_smaller():
    rng = np.random.default_rng(5)
    calm, rough_moves = rng.normal(0, 0.005, 600), rng.normal(0, 0.03, 400)
    one = panel(np.exp(np.cumsum(np.concatenate([calm, rough_moves]) + 1e-3)))
    weights = VolatilityTargetedTrend(period=20, target=0.05).positions(one)
    size = np.abs(weights[:, 0])
    assert size[400:600].max() > 2 * size[750:].max() > 0


def test_a_follower_takes_the_side_of_the_median_by_the_width_of_the_band():
    close = np.ones((3, 2))
    grid = ForecastGrid(np.tile([0.02, -0.02], (3, 1)), np.tile([0.05, 0.1], (3, 1)))
    one = replace(panel(close), forecasts={"kronos": grid})
    weights = FollowKronos(threshold=0.1).positions(one)
    np.testing.assert_allclose(weights, np.tile([2 / 3, -1 / 3], (3, 1)))
    timid = FollowKronos(threshold=0.3).positions(one)
    np.testing.assert_allclose(timid, np.tile([2 / 3, 0], (3, 1)))


def test_a_pair_that_came_apart_is_traded_until_it_meets():
    # Formed on 120 days before 1 July 2018 of a common walk and small differences.
    n_obs, start = 260, 181
    rng = np.random.default_rng(6)
    common = np.cumsum(rng.normal(0, 0.01, n_obs))
    apart = rng.normal(0, 0.002, n_obs)
    apart[start + 10 : start + 20] = 0.05
    apart[start + 20 :] = -0.003
    loner = np.cumsum(rng.normal(0, 0.01, n_obs))
    close = np.exp(np.stack([common + apart, common, loner], axis=1))
    one = panel(close, classes=["crypto", "crypto", "fx"])
    assert one.ts[start] == np.datetime64("2018-07-01")
    weights = PairsReversion(formation=120, width=2.5, n_pairs=1).positions(one)
    assert not weights[:start].any()
    assert not weights[:, 2].any()
    held = weights[start + 10 : start + 20]
    np.testing.assert_allclose(np.abs(held).sum(axis=1), 1.0)
    assert (held[:, 0] < -0.45).all()
    assert (held[:, 1] > 0.45).all()
    assert not weights[start + 20].any()


def test_pairs_are_of_one_class_and_of_prices_throughout():
    rng = np.random.default_rng(7)
    common = np.cumsum(rng.normal(0, 0.01, 600))
    close = np.exp(common[:, None] + rng.normal(0, 0.004, (600, 4)))
    close[:500, 3] = np.nan
    one = panel(close, classes=["fx", "index", "crypto", "fx"])
    assert not PairsReversion(formation=120, width=0.5).positions(one)[:500].any()
    same = panel(close, classes=["fx", "fx", "crypto", "fx"])
    weights = PairsReversion(formation=120, width=0.5).positions(same)
    assert weights[:, :2].any()
    assert not weights[:, 2:].any()


def test_pairs_are_formed_before_the_row_that_first_trades_them():
    rng = np.random.default_rng(8)
    common = np.cumsum(rng.normal(0, 0.01, 220))
    close = np.exp(common[:, None] + rng.normal(0, 0.003, (220, 2)))
    sleeve = PairsReversion(formation=120, width=1.0, n_pairs=1)
    apart = close.copy()
    apart[181, 0] *= 3.0
    weights, other = (sleeve.positions(panel(each)) for each in (close, apart))
    assert weights[181:].any()
    assert other[181, 0] < 0
    # What the one odd price of that row did is over when both are back.
    is_both_turned = (weights[182:] != 0.0).any(axis=1) & (other[182:, 0] > 0)
    assert is_both_turned.any()
    np.testing.assert_allclose(
        other[182:][is_both_turned], weights[182:][is_both_turned], rtol=1e-12
    )


def test_pairs_do_not_depend_on_where_the_panel_begins():
    one = rough(n_obs=1100)
    part = one.part(slice(500, 1100))
    sleeve = PairsReversion(formation=120, width=0.8)
    np.testing.assert_allclose(
        sleeve.positions(part)[300:], sleeve.positions(one)[800:], atol=1e-9
    )


def test_parameters_by_name_make_the_same_sleeve():
    made = find("time-series-momentum")
    assert made.from_parameters({"lookback": 60}) == TimeSeriesMomentum(lookback=60)
