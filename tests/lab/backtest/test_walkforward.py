"""Walk-forward: the choice, the stitched book, and nothing of the future in either."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from lab.backtest.engine import Fill, simulate
from lab.backtest.ledger import LEDGER_BPS
from lab.backtest.walk_frames import days_a_year, sharpes_of, snapshots_of, walk_frames
from lab.backtest.walkforward import (
    WalkForwardPlan,
    cut_windows,
    purge_of,
    stitched_configuration,
    walk_forward,
)
from lab.backtest.windows import of_age
from lab.errors import BacktestError
from lab.sleeves._base import Sleeve, ranged
from lab.sleeves.moving_average_cross import MovingAverageCross
from lab.sleeves.phase37 import Phase37
from lab.sleeves.rsi_reversion import RsiReversion
from tests.lab.sleeves.panels import panel, rough

PLAN = WalkForwardPlan(train_days=120, test_days=30)


def market(timeframe="1d", **more):
    """Random walks with gaps, late starts, a break and a delisting; prices positive."""
    found = rough(timeframe, **more)
    prices = {
        name: np.where(found.close > 0, getattr(found, name), np.nan)
        for name in ("open", "high", "low", "close")
    }
    return replace(found, **prices)


BARS = market(n_obs=700)


@dataclass(frozen=True)
class Held(Sleeve):
    """Hold the first instrument, long or short."""

    sleeve_id: ClassVar[str] = "held"
    weight: float = ranged(1.0, -2.0, 2.0, tried=(-1.0, 0.5, 1.0))
    lives: int = ranged(1, 1, 50, tried=(1,))

    def positions(self, panel):
        """Return a constant weight."""
        found = np.zeros(panel.close.shape)
        found[:, 0] = self.weight
        return found

    def span(self):
        """Return how long a position lives."""
        return self.lives


def walked(sleeve=MovingAverageCross, *, bars=BARS, plan=PLAN):
    return walk_forward(bars, sleeve.variants(), plan)


def chosen_slowly(bars, variants, plan):
    """Choose by the definition: every variant, window and rung on its own."""
    allowed = of_age(bars, cut_windows(bars, plan))
    fill = Fill(plan.fill)
    weights = [np.where(allowed, one.positions(bars), 0.0) for one in variants]
    done = [simulate(bars, one, fill=fill) for one in weights]
    windows = cut_windows(bars, plan, purge=purge_of(variants))
    chosen = np.zeros((len(windows), len(plan.slippages_bps)), dtype=int)
    for w, window in enumerate(windows):
        for s, slippage in enumerate(plan.slippages_bps):
            sharpes = []
            for one in done:
                net = one.net(slippage)[window.train, 0]
                spread = net.std(ddof=1)
                sharpes.append(net.mean() / spread if spread > 1e-9 else -np.inf)
            chosen[w, s] = int(np.argmax(sharpes))
    return windows, weights, chosen


@pytest.mark.parametrize("fill", ["next_open", "next_close", "same_close"])
@pytest.mark.parametrize("sleeve", [MovingAverageCross, RsiReversion])
def test_the_walk_equals_a_slow_obvious_one(sleeve, fill):
    plan = replace(PLAN, fill=fill)
    found = walked(sleeve, plan=plan)
    windows, weights, chosen = chosen_slowly(BARS, sleeve.variants(), plan)
    assert len(np.unique(chosen)) > 2
    np.testing.assert_array_equal(found.chosen, chosen)
    rows = slice(windows[0].test.start, windows[-1].test.stop)
    for s, slippage in enumerate(plan.slippages_bps):
        book = np.zeros(BARS.close.shape)
        for w, window in enumerate(windows):
            book[window.test] = weights[chosen[w, s]][window.test]
        done = simulate(BARS, book, fill=Fill(fill))
        np.testing.assert_array_equal(found.gross[:, s], done.gross[rows, 0])
        np.testing.assert_array_equal(found.net[:, s], done.net(slippage)[rows, 0])
        np.testing.assert_array_equal(found.turnover[:, s], done.turnover[rows, 0])
        np.testing.assert_array_equal(found.trades[:, s], done.trades[rows, 0])


def test_costs_only_subtract():
    found = walked()
    assert (found.net <= found.gross + 1e-15).all()
    assert (found.net[:, 0] == found.gross[:, 0]).all()
    fixed = walk_forward(BARS, [Phase37()], PLAN)
    assert (np.diff(fixed.net, axis=1) <= 0).all()
    assert (np.diff(fixed.net, axis=1) < 0).any()


def test_what_comes_later_changes_nothing_before():
    whole = walked()
    rng = np.random.default_rng(1)
    for n_rows in (333, 480, 601):
        later = np.exp(rng.normal(0, 0.05, BARS.close[n_rows:].shape).cumsum(axis=0))
        altered = replace(
            BARS,
            **{
                name: np.vstack(
                    [getattr(BARS, name)[:n_rows], getattr(BARS, name)[n_rows:] * later]
                )
                for name in ("open", "high", "low", "close")
            },
        )
        n_days = n_rows - whole.calendar.rows.start
        for other in (altered, BARS.until(n_rows)):
            again = walked(bars=other)
            np.testing.assert_array_equal(again.net[:n_days], whole.net[:n_days])
            n_windows = sum(w.test.start < n_rows for w in whole.windows)
            np.testing.assert_array_equal(
                again.chosen[:n_windows], whole.chosen[:n_windows]
            )


def test_a_hole_as_long_as_a_train_span_is_sat_out_and_changes_nothing_before():
    ts = BARS.ts.copy()
    ts[500:] += np.timedelta64(1200, "D")
    holed = replace(BARS, ts=ts, known_ts=ts + np.timedelta64(1, "D"))
    found, before = walked(bars=holed), walked(bars=BARS.until(500))
    n_windows, n_days = len(before.windows), len(before.calendar.days)
    np.testing.assert_array_equal(found.chosen[:n_windows], before.chosen)
    np.testing.assert_array_equal(found.net[: n_days - 1], before.net[:-1])
    flat = found.windows[n_windows]
    assert not flat.has_train
    assert not found.chosen[n_windows].any()
    # What was held across the hole is sold on its first rows; nothing is bought.
    days = np.flatnonzero(found.calendar.window == flat.number)
    assert not found.gross[days[2:]].any()
    assert found.turnover[days[-1] + 1 :].any()


def test_parameters_are_chosen_for_each_rung_on_its_own():
    found = walked(RsiReversion)
    assert (found.chosen[:, 0] != found.chosen[:, -1]).any()
    assert found.net.shape == (len(found.calendar.days), 4)


def test_a_window_is_judged_by_the_variant_that_its_train_span_liked():
    close = 100 * np.cumprod(1 + np.r_[np.full(400, 0.01), np.full(300, -0.01)])
    close *= 1 + 0.0005 * np.cos(np.arange(700))
    found = walk_forward(panel(close), Held.variants(), PLAN)
    assert set(found.chosen[:3, 0]) <= {1, 2}  # long after a rise
    assert set(found.chosen[-3:, 0]) == {0}  # short after a fall
    turn = next(w for w in found.windows if w.test.start >= 400)
    assert found.chosen[turn.number, 0] in {1, 2}  # nobody knows it has turned


def test_changing_parameters_pays_for_its_trades():
    found = walk_forward(BARS, Held.variants(), PLAN)
    switches = np.flatnonzero(np.diff(found.chosen[:, 0]))
    assert len(switches)
    for number in switches + 1:
        day = int(np.argmax(found.calendar.window == number))
        assert found.turnover[day + 1 : day + 4, 0].max() > 0.4


def test_every_variant_and_the_stitched_series_are_trials():
    found = walked()
    variants = MovingAverageCross.variants()
    assert len(found.trials) == 1 + len(variants)
    stitched, *fixed = found.trials
    ten = PLAN.slippages_bps.index(LEDGER_BPS)
    n_days = found.calendar.n_ledger
    np.testing.assert_array_equal(stitched.returns, found.net[:n_days, ten])
    assert [one.configuration for one in fixed] == [v.configuration for v in variants]
    allowed = of_age(BARS, found.windows)
    rows = slice(found.calendar.rows.start, found.calendar.rows.start + n_days)
    for one, trial in zip(variants, fixed, strict=True):
        done = simulate(BARS, np.where(allowed, one.positions(BARS), 0.0))
        np.testing.assert_array_equal(trial.returns, done.net(LEDGER_BPS)[rows, 0])


def test_a_sleeve_with_one_variant_is_one_trial_with_its_own_name():
    found = walk_forward(BARS, [Phase37()], PLAN)
    (trial,) = found.trials
    assert trial.configuration == Phase37().configuration == found.configuration


def test_the_ledger_has_its_own_rung_where_the_ladder_lacks_it():
    plan = replace(PLAN, slippages_bps=(0.0, 20.0))
    short, whole = walked(plan=plan), walked()
    assert short.net.shape[1] == 2
    np.testing.assert_array_equal(short.trials[0].returns, whole.trials[0].returns)


def test_another_fill_or_plan_or_grid_is_another_trial():
    variants = MovingAverageCross.variants()
    names = {
        stitched_configuration(variants, PLAN),
        stitched_configuration(variants, replace(PLAN, train_days=121)),
        stitched_configuration(variants, replace(PLAN, embargo_days=1)),
        stitched_configuration(variants, replace(PLAN, fill="next_close")),
        stitched_configuration(variants[:-1], PLAN),
    }
    assert len(names) == 5
    (trial,) = walk_forward(BARS, [Phase37()], replace(PLAN, fill="same_close")).trials
    assert json.loads(trial.configuration)["fill"] == "same_close"


def test_the_purge_is_as_long_as_a_position_may_live():
    found = walk_forward(BARS, [Held(lives=9), Held(weight=0.5)], PLAN)
    for one in found.windows:
        assert one.test.start - one.train.stop == 10


def test_an_instrument_is_not_traded_before_its_time():
    close = 100 * np.exp(np.random.default_rng(0).normal(0, 0.01, (700, 2)).cumsum(0))
    close[:400, 0] = np.nan
    bars = panel(close)
    found = walk_forward(bars, [Held()], PLAN)
    first = int(np.argmax(found.turnover[:, 0] > 0)) + found.calendar.rows.start
    assert 400 + 40 < first < 400 + 120


def test_hours_compound_into_days():
    bars = market("1h", n_obs=24 * 130, seed=2)
    plan = WalkForwardPlan(train_days=40, test_days=10)
    found = walk_forward(bars, RsiReversion.variants(), plan)
    days = found.calendar.days
    assert (days.astype("datetime64[D]") == days).all()
    book = np.zeros(bars.close.shape)
    weights = [
        np.where(of_age(bars, found.windows), one.positions(bars), 0.0)
        for one in RsiReversion.variants()
    ]
    for window, number in zip(found.windows, found.chosen[:, 2], strict=True):
        book[window.test] = weights[number][window.test]
    done = simulate(bars, book)
    net = done.net(10)[:, 0]
    of_row = bars.ts.astype("datetime64[D]")
    for k in (0, 7, len(days) - 1):
        hours = of_row == days[k]
        assert found.net[k, 2] == pytest.approx(np.prod(1 + net[hours]) - 1, abs=1e-15)
        assert found.turnover[k, 2] == pytest.approx(done.turnover[hours, 0].sum())
        assert found.trades[k, 2] == done.trades[hours, 0].sum()


def test_snapshots_are_the_figures_of_each_test_span():
    found = walked()
    figures = snapshots_of(found)
    scale = np.sqrt(days_a_year(found.calendar.days))
    for row, window in enumerate(found.windows):
        net = found.net[found.calendar.window == window.number, 1]
        equity = np.r_[1.0, np.cumprod(1 + net)]
        fall = (1 - equity / np.maximum.accumulate(equity)).max()
        assert figures.return_net[row, 1] == pytest.approx(equity[-1] - 1)
        assert figures.max_drawdown[row, 1] == pytest.approx(fall, abs=1e-15)
        sharpe = scale * net.mean() / net.std(ddof=1)
        assert figures.sharpe[row, 1] == pytest.approx(sharpe)
    assert days_a_year(found.calendar.days) == pytest.approx(365.25)


def test_rows_hold_every_day_and_window_and_the_newest_weights():
    found = walked()
    baseline = {(w.number, 0.0): 2.0 for w in found.windows} | {(1, 5.0): -1.0}
    returns, snapshots = walk_frames(found, BARS, run_id="job", baseline=baseline)
    assert returns.num_rows == found.net.size
    assert snapshots.num_rows == len(found.windows) * 4
    rows = snapshots.to_pylist()
    known = sharpes_of(found)
    for row in rows:
        place = (row["window"], row["slippage_bps"])
        assert row["sharpe"] == known.get(place)
        ratio = None if place[1] != 0 or row["sharpe"] is None else row["sharpe"] / 2
        assert row["baseline_ratio"] == ratio
        parameters = json.loads(row["parameters"])
        rung = PLAN.slippages_bps.index(place[1])
        number = found.chosen[place[0], rung]
        assert parameters == MovingAverageCross.variants()[number].parameters
        assert row["known_ts"] > row["test_end"] > row["test_start"]
        assert row["test_start"] > row["train_start"]
        assert (row["weights"] is not None) == (place[0] == len(found.windows) - 1)
    last = MovingAverageCross.variants()[found.chosen[-1, 0]].positions(BARS)[-1]
    held = json.loads(next(r["weights"] for r in rows if r["weights"] is not None))
    assert set(held) <= set(BARS.symbols)
    for asset, symbol in enumerate(BARS.symbols):
        assert held.get(symbol, 0.0) in {last[asset], 0.0}
    assert returns["known_ts"].to_pylist() > returns["ts"].to_pylist()


def test_a_book_that_never_trades_has_rows_and_no_sharpe():
    found = walk_forward(BARS, [Held(weight=0.0)], PLAN)
    assert not found.net.any()
    assert np.isnan(snapshots_of(found).sharpe).all()
    assert found.trials[0].is_constant


def test_weights_that_are_none_are_refused():
    with pytest.raises(BacktestError, match="no variant"):
        walk_forward(BARS, [], PLAN)
    with pytest.raises(BacktestError, match=r"held .* add up to more than 1"):
        walk_forward(BARS, [Held(weight=1.5)], PLAN)

    class Odd(Held):
        def positions(self, panel):
            return super().positions(panel)[:-1]

    class Unknown(Held):
        def positions(self, panel):
            return super().positions(panel) * np.nan

    with pytest.raises(BacktestError, match="positions of shape"):
        walk_forward(BARS, [Odd()], PLAN)
    with pytest.raises(BacktestError, match="positions must be finite"):
        walk_forward(BARS, [Unknown()], PLAN)
