"""What decisions at weight 0 would have made adds up to a book on fixed notional."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.backtest.steps import Fill, steps_of
from lab.errors import PaperError
from lab.paper.shadow import Shadow, settle, shadow_decisions, turnover
from tests.lab.backtest.random_panels import random_panel, random_positions

SHAPE = (90, 3)


def decided(panel, weights):
    found = []
    for row in range(panel.n_obs):
        found += shadow_decisions(panel, row, {"s": weights[row]})
    return found


def outcome(panel, decisions, bps=10.0):
    steps = steps_of(panel, Fill.NEXT_OPEN)
    known = {(one.signal, one.symbol, one.known): one.weight for one in decisions}
    return settle(panel, steps, decisions, known, bps=bps)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_the_profits_add_up_to_those_of_a_book_on_fixed_notional(seed):
    panel = random_panel(seed, *SHAPE, is_clean=True)
    weights = random_positions(seed, *SHAPE, 1)[:, :, 0]
    weights[-5:] = 0.0
    total = sum(one.pnl for one in outcome(panel, decided(panel, weights)).values())
    move = panel.open[2:] / panel.open[1:-1] - 1.0
    earned = (weights[:-2] * move).sum()
    traded = np.abs(np.diff(np.vstack([np.zeros(SHAPE[1]), weights]), axis=0)).sum()
    assert total == pytest.approx(earned - traded * 1e-3, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(5, SHAPE[0] - 1))
def test_later_bars_change_no_outcome_that_was_known(seed, cut):
    panel = random_panel(seed, *SHAPE)
    panel = replace(panel, delisted=np.full(panel.n_assets, -1))
    weights = random_positions(seed, *SHAPE, 1)[:, :, 0]
    whole = outcome(panel, decided(panel, weights))
    early = outcome(panel.until(cut), decided(panel.until(cut), weights[:cut]))
    moment = panel.known_ts[cut - 1]
    assert all(one.known <= moment for one in early.values())
    assert early == {k: v for k, v in whole.items() if v.known <= moment}


def test_every_decision_settles_once_its_instrument_is_gone():
    panel = random_panel(1, *SHAPE, is_clean=True)
    close = panel.close.copy()
    close[40:, 1] = np.nan
    gone = replace(
        panel,
        close=close,
        open=np.where(np.isnan(close), np.nan, panel.open),
        delisted=np.array([-1, 39, -1]),
    )
    weights = np.tile([0.0, 0.5, 0.0], (SHAPE[0], 1))
    made = decided(gone, weights)
    found = outcome(gone, made)
    assert set(found) == set(made)
    assert found[made[-1]].pnl == 0.0, "it was never filled"
    last = found[made[-2]]
    leg = gone.close[39, 1] / gone.open[39, 1] - 1.0
    assert last.pnl == pytest.approx(0.5 * leg - 0.5 * 1e-3)


def test_decisions_are_only_taken_on_a_bar_and_for_something():
    panel = random_panel(4, *SHAPE)
    weights = np.array([0.1, 0.0, -0.2])
    for row in (0, 30, 60):
        names = [one.symbol for one in shadow_decisions(panel, row, {"s": weights})]
        bars = panel.has_bar[row] & (weights != 0)
        assert names == [panel.symbols[k] for k in np.flatnonzero(bars)]


def test_a_turn_pays_for_both_sides():
    assert turnover(0.0, 0.2, 0.2) == pytest.approx(0.2)
    assert turnover(0.2, 0.2, 0.0) == pytest.approx(0.2)
    assert turnover(0.1, 0.3, 0.2) == pytest.approx(0.3)
    assert turnover(-0.1, 0.2, -0.3) == pytest.approx(0.4)
    assert turnover(0.3, 0.2, 0.2) == 0.0


def test_a_decision_is_known_by_signal_symbol_bars_and_time():
    moment = np.datetime64("2021-01-04T00:00:00", "us")
    one = Shadow("trend", "AAA", moment, 0.1)
    assert one.decision_id("1d") == replace(one, weight=0.2).decision_id("1d")
    others = [
        replace(one, signal="event").decision_id("1d"),
        replace(one, symbol="BBB").decision_id("1d"),
        replace(one, known=moment + np.timedelta64(1, "D")).decision_id("1d"),
        one.decision_id("1h"),
    ]
    assert len({one.decision_id("1d"), *others}) == 5
    with pytest.raises(PaperError, match="AAA: no bars of it"):
        outcome(random_panel(0, *SHAPE), [one])
