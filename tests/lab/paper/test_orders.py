"""The paper book does, row by row, what the engine does at once."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lab.backtest.engine import simulate
from lab.backtest.parts import trade_list
from lab.backtest.steps import Fill, steps_of
from lab.errors import PaperError
from lab.paper.orders import Book, replay
from tests.lab.backtest.random_panels import random_panel, random_positions

SHAPE = (160, 4)


def made(seed, *, is_clean=False):
    panel = random_panel(seed, *SHAPE, is_clean=is_clean)
    return panel, random_positions(seed, *SHAPE, 1)[:, :, 0]


def in_order(found):
    return sorted(found, key=lambda one: (one.symbol, one.entry_ts))


def check_against_engine(seed):
    panel, targets = made(seed)
    book, orders = replay(panel, targets)
    slow = in_order(trade_list(panel, targets))
    fast = in_order([*orders, *book.open_orders()])
    assert [(o.symbol, o.side, o.entry_ts) for o in fast] == [
        (t.symbol, t.side, t.entry_ts) for t in slow
    ]
    for order, trade in zip(fast, slow, strict=True):
        assert order.gross == pytest.approx(trade.gross, abs=1e-12)
        assert order.cost_base == pytest.approx(trade.cost_base, abs=1e-12)
        assert order.entry_price == trade.entry_price
        assert order.is_open == np.isnat(trade.exit_ts)
        assert order.decided_ts < order.entry_ts
        if not order.is_open:
            assert order.exit_price == trade.exit_price
            # A close is known after its bar, an open is where it trades.
            assert order.exit_ts >= trade.exit_ts
    whole = simulate(panel, targets)
    grown = np.prod(1.0 + whole.net(10.0)[:, 0])
    assert book.net_equity == pytest.approx(grown, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
@example(207)  # ruined on a row on which one holding has no bar, and delisted later
def test_orders_are_the_engine_s_trades(seed):
    check_against_engine(seed)


@pytest.mark.full
@settings(deadline=None, max_examples=1500)
@given(st.integers(0, 1_000_000))
def test_orders_are_the_engine_s_trades_on_many_panels(seed):
    check_against_engine(seed)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(1, SHAPE[0] - 1))
def test_a_book_that_is_put_down_as_json_and_taken_up_goes_on_the_same(seed, cut):
    panel, targets = made(seed)
    whole, orders = replay(panel, targets)
    steps = steps_of(panel, Fill.NEXT_OPEN)
    book, found = Book.empty(panel.symbols), []
    for row in range(panel.n_obs):
        if row == cut:
            book = Book.from_json(json.loads(json.dumps(book.to_json())), panel.symbols)
        found += book.step(panel, row, steps)
        book.decide(targets[row], panel.ts[row])
    assert found == orders
    assert book.net_equity == whole.net_equity
    assert repr(book.to_json()) == repr(whole.to_json())


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(20, SHAPE[0] - 1))
def test_what_comes_later_changes_no_order_that_was_closed(seed, cut):
    panel, targets = made(seed)
    panel = replace(panel, delisted=np.full(panel.n_assets, -1))
    _, orders = replay(panel, targets)
    _, before = replay(panel.until(cut), targets[:cut])
    assert before == orders[: len(before)]
    assert all(one.exit_ts >= panel.ts[cut] for one in orders[len(before) :])


def test_bars_that_come_late_mark_what_is_held_and_fill_nothing_in_the_past():
    panel, targets = made(3, is_clean=True)
    targets[:] = np.array([0.4, -0.2, 0.1, 0.0])
    cut = 60
    whole, _ = replay(panel.until(cut + 10), targets[: cut + 10])
    gone = panel.close.copy()
    gone[cut - 3 : cut, 0] = np.nan
    thin = replace(panel, close=gone, open=np.where(np.isnan(gone), np.nan, panel.open))
    book, _ = replay(thin.until(cut), targets[:cut])
    steps = steps_of(panel.until(cut + 10), Fill.NEXT_OPEN)
    assert book.take_late(panel.until(cut + 10), steps) == ["S0"]
    assert book.take_late(panel.until(cut + 10), steps) == []
    for row in range(cut, cut + 10):
        book.step(panel.until(cut + 10), row, steps)
        book.decide(targets[row], panel.ts[row])
    # Only the rebalancing of three bars is missing.
    assert book.equity == pytest.approx(whole.equity, rel=1e-3)
    blind, _ = replay(thin.until(cut), targets[:cut])
    assert abs(blind.equity / book.equity - 1) > 1e-4


def test_a_book_goes_forward_only_and_takes_no_strange_targets():
    panel, targets = made(1, is_clean=True)
    book = Book.empty(panel.symbols)
    book.decide(targets[5], panel.ts[5])
    with pytest.raises(PaperError, match="rows go forward"):
        book.decide(targets[5], panel.ts[5])
    with pytest.raises(PaperError, match="must be 4 finite weights"):
        book.decide(np.array([np.nan, 0, 0, 0]), panel.ts[6])
    with pytest.raises(PaperError, match="not a book: KeyError"):
        Book.from_json({"equity": 1.0}, panel.symbols)
    _, held = replay(panel, targets)[0], replay(panel, targets)[0].to_json()
    with pytest.raises(PaperError, match="no bars any more of S"):
        Book.from_json(held, ("S9",))


def test_a_book_without_money_trades_no_more():
    panel, targets = made(2, is_clean=True)
    close = panel.close.copy()
    close[80:] *= 30.0
    opens = panel.open.copy()
    opens[80:] *= 30.0
    targets[:] = np.array([-0.9, 0.0, 0.0, 0.0])
    book, orders = replay(replace(panel, close=close, open=opens), targets)
    assert book.equity == book.net_equity == 0.0
    assert book.open_orders() == []
    assert orders[-1].side == "short"
    assert orders[-1].exit_ts == panel.known_ts[80]
