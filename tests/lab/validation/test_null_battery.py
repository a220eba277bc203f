"""Null markets hold nothing, planted edges hold what they say, and the chain tells them apart."""

from dataclasses import replace

import numpy as np
import pytest

from lab.backtest.panel import bar_returns
from lab.backtest.walkforward import WalkForwardPlan
from lab.errors import ValidationError
from lab.validation.null_battery import (
    BatteryPlan,
    SearchOutcome,
    allowed_promotions,
    null_search,
    outcome_from,
    share_of,
    tally,
    whole_search,
)
from lab.validation.null_markets import KINDS, null_market, sample_panel
from lab.validation.power import (
    plant_edge,
    power_document,
    power_from,
    power_search,
)

pytestmark = pytest.mark.xdist_group("null-battery")

# 8 instruments over 4 years: the same chain on a sixth of the bars.
PLAN = BatteryPlan(WalkForwardPlan(years=4.0))


@pytest.fixture(scope="module")
def panel():
    return sample_panel(n_assets=8, years=4.0)


@pytest.fixture(scope="module")
def battery(panel):
    return [null_search(panel, number, seed=0, plan=PLAN) for number in range(20)]


def test_twenty_searches_on_noise_promote_two_at_most(battery):
    result = tally(battery)
    assert result.shares["all"].n == 20
    assert result.shares["all"].count <= allowed_promotions(20) == 2
    assert {one.kind for one in battery} == set(KINDS)


def test_every_search_is_a_whole_one(battery):
    assert all(one.n_trials >= 60 + 20 for one in battery)
    assert all(one.n_judged >= 10 + 4 for one in battery)
    # Followers of forecasts are searched where there are forecasts.
    sizes = {
        kind: np.mean([one.n_trials for one in battery if one.kind == kind])
        for kind in KINDS
    }
    assert sizes["events"] > sizes["walk"]


def test_a_search_depends_on_its_number_alone(panel, battery):
    assert null_search(panel, 4, seed=0, plan=PLAN) == battery[4]
    assert null_search(panel, 4, seed=1, plan=PLAN) != battery[4]


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_two_hundred_searches_on_noise_promote_four_at_most():
    panel = sample_panel()
    result = tally(null_search(panel, number, seed=0) for number in range(200))
    assert result.shares["all"].count <= 4
    assert result.shares["all"].upper <= 0.046


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_the_chain_promotes_a_sleeve_that_is_strong_enough():
    panel = sample_panel()
    found = [power_search(panel, 10.0, number, seed=0) for number in range(6)]
    assert power_document(found)["10"]["any"]["count"] >= 1


def test_the_chain_promotes_what_passes_every_rule(panel, monkeypatch):
    from lab.validation import null_battery

    def generous(subject, returns, evidence, *, fill):
        real = judge(subject, returns, evidence, fill=fill)
        return tuple(replace(one, is_passed=True) for one in real)

    judge = null_battery.judge
    monkeypatch.setattr(null_battery, "judge", generous)
    null = null_market(panel, "walk", rng=np.random.default_rng(0))
    market = plant_edge(null, "time-series-momentum", 8.0)
    found = whole_search(
        market.panel, "power", 0, rng=np.random.default_rng(0), plan=PLAN
    )
    assert "time-series-momentum" in found.promoted
    # Gates alone are not enough: the lifecycle's own rules hold too.
    assert "rsi-reversion" not in found.promoted
    assert "phase37" not in found.promoted


@pytest.mark.parametrize("kind", KINDS)
def test_a_null_market_keeps_calendar_gaps_and_volatility(panel, kind):
    made = null_market(panel, kind, rng=np.random.default_rng(1))
    assert (made.has_bar == panel.has_bar).all()
    assert (made.ts == panel.ts).all()
    assert (made.delisted == panel.delisted).all()
    bars = [getattr(made, name)[made.has_bar] for name in ("open", "close")]
    assert (np.maximum(*bars) <= made.high[made.has_bar] * (1 + 1e-12)).all()
    assert (np.minimum(*bars) >= made.low[made.has_bar] * (1 - 1e-12)).all()
    assert (made.low[made.has_bar] > 0).all()
    before, after = (np.nanstd(bar_returns(one), axis=0) for one in (panel, made))
    assert np.allclose(before, after, rtol=0.4)


def test_a_walk_keeps_correlation_tails_and_clusters():
    panel = sample_panel(years=8.0)
    made = null_market(panel, "walk", rng=np.random.default_rng(1))
    returns = bar_returns(made)[:, 6:20]
    days = returns[np.isfinite(returns).all(axis=1)]
    correlation = np.corrcoef(days.T)[np.triu_indices(14, 1)]
    assert 0.2 < correlation.mean() < 0.4
    kurtosis = ((days - days.mean(axis=0)) ** 4).mean(axis=0) / days.var(axis=0) ** 2
    assert np.median(kurtosis) > 4.0
    size = np.abs(days)
    clusters = [np.corrcoef(size[:-1, k], size[1:, k])[0, 1] for k in range(14)]
    assert np.mean(clusters) > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_no_direction_can_be_known(panel, kind):
    autocorrelations, means = [], []
    for seed in range(8):
        made = null_market(panel, kind, rng=np.random.default_rng(seed))
        for column in range(made.n_assets):
            returns = bar_returns(made)[:, column]
            sign = np.sign(returns[np.isfinite(returns)])
            autocorrelations.append((sign[1:] * sign[:-1]).mean())
            means.append(sign.mean())
    n = len(sign)
    for found in (autocorrelations, means):
        assert abs(np.mean(found)) < 4.0 / np.sqrt(n * len(found) / 4.0)


def test_a_shuffle_keeps_every_move_of_an_instrument(panel):
    made = null_market(panel, "shuffle", rng=np.random.default_rng(0))
    for column in range(panel.n_assets):
        before, after = (
            np.sort(np.abs(values[np.isfinite(values)]))
            for values in (
                panel.close[:, column] / panel.open[:, column] - 1.0,
                made.close[:, column] / made.open[:, column] - 1.0,
            )
        )
        assert np.allclose(before, after)


def test_events_are_moved_and_forecasts_know_nothing(panel):
    made = null_market(panel, "events", rng=np.random.default_rng(0))
    assert (made.surprises != panel.surprises).any()
    assert np.allclose(
        np.sort(np.abs(made.surprises).ravel()),
        np.sort(np.abs(panel.surprises).ravel()),
    )
    assert set(made.forecasts) == {"kronos", "chronos2", "ensemble"}


def test_an_unknown_kind_and_a_tiny_sample_are_refused(panel):
    with pytest.raises(ValidationError, match="one of walk, shuffle, events"):
        null_market(panel, "noise", rng=np.random.default_rng(0))
    with pytest.raises(ValidationError, match="at least 4 instruments and 250 days"):
        sample_panel(n_assets=3)


@pytest.mark.parametrize("sleeve_id", ["time-series-momentum", "event-drift"])
@pytest.mark.parametrize("sharpe", [1.0, 3.0])
def test_a_planted_edge_is_as_strong_as_it_says(panel, sleeve_id, sharpe):
    null = null_market(panel, "walk", rng=np.random.default_rng(3))
    assert plant_edge(null, sleeve_id, sharpe).sharpe == pytest.approx(sharpe, rel=0.1)


def test_outcomes_survive_json(panel, battery):
    assert all(outcome_from(one.document()) == one for one in battery)
    found = power_search(panel, 2.0, 0, seed=0, plan=PLAN)
    assert power_from(found.document()) == found
    report = power_document([found])["2"]
    assert report["any"]["n"] == 1
    assert report["mean_planted_sharpe"] == pytest.approx(2.0, rel=0.2)


def test_clopper_and_pearson_give_the_papers_bounds():
    # 4 of 200: the bound that is promised; 0 of n: 1 - 0.05^(1/n).
    assert share_of(4, 200).upper == pytest.approx(0.0452, abs=1e-4)
    assert share_of(0, 20).upper == pytest.approx(1 - 0.05 ** (1 / 20))
    assert share_of(0, 20).low == 0.0
    assert share_of(20, 20).high == 1.0
    # Clopper & Pearson's own chart: 3 of 10 gives 0.067 to 0.652.
    three = share_of(3, 10)
    assert (three.low, three.high) == pytest.approx((0.067, 0.652), abs=1e-3)
    with pytest.raises(ValidationError, match="share: 3 of 2"):
        share_of(3, 2)


def test_a_tally_counts_searches_and_not_sleeves():
    def outcome(number, promoted):
        kind = KINDS[number % 3]
        return SearchOutcome(kind, number, 100, promoted, 15, {}, 1.0)

    result = tally([outcome(k, ("a", "b") if k == 1 else ()) for k in range(6)])
    assert result.shares["all"].count == 1
    assert result.shares["shuffle"].count == 1
    assert result.shares["walk"].n == 2
    assert [allowed_promotions(n) for n in (1, 20, 100, 200, 500)] == [2, 2, 2, 4, 10]
