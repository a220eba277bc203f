"""Aligned panels: what is in a row, when it is known, and that truncation forgets."""

from datetime import timedelta

import numpy as np
import pytest

from lab.backtest.panel import AlignedPanel, adjusted_closes, bar_returns
from lab.bars.panel import Panel
from lab.bars.timeframes import to_moment
from lab.errors import BacktestError
from tests.lab import toy_market

MARKET = toy_market.market()
FIELDS = ("ts", "known_ts", "open", "close", "is_break", "delisted", "surprises")


def bars(timeframe="1d", **delisted):
    instruments = toy_market.instruments(**delisted)
    return Panel.from_tables(MARKET, instruments, timeframe=timeframe)


AS_OF = toy_market.moment("2020-06-01T00:00")


@pytest.mark.parametrize("timeframe", ["1d", "1h"])
def test_a_row_holds_every_bar_that_opens_then_and_nothing_is_filled(timeframe):
    source = bars(timeframe)
    as_of = toy_market.moment("2021-03-01T00:30" if timeframe == "1h" else "2020-06-01")
    panel = AlignedPanel.from_bars(source, as_of=as_of)
    assert panel.symbols == ("BTC", "EURUSD", "SPY")
    n_bars = 0
    for column, symbol in enumerate(panel.symbols):
        series = source.series[symbol].until(as_of)
        rows = np.flatnonzero(panel.has_bar[:, column])
        np.testing.assert_array_equal(panel.ts[rows], series.ts)
        np.testing.assert_array_equal(panel.close[rows, column], series.close)
        assert (panel.known_ts[rows] >= source.known[symbol][: len(rows)]).all()
        n_bars += len(rows)
    assert np.isfinite(panel.open).sum() == n_bars
    assert panel.known_ts[-1] <= np.datetime64(as_of.replace(tzinfo=None), "us")
    assert (np.diff(panel.known_ts) >= np.timedelta64(0)).all()


def test_leaders_and_levels_that_nobody_trades_are_left_out_unless_named():
    source = bars()
    assert "VIX" not in AlignedPanel.from_bars(source, as_of=AS_OF).symbols
    named = AlignedPanel.from_bars(source, as_of=AS_OF, symbols=["VIX", "SPY"])
    assert named.symbols == ("SPY", "VIX")


def test_a_truncated_panel_is_the_panel_of_that_time():
    source = bars()
    whole = AlignedPanel.from_bars(source, as_of=AS_OF)
    for n_rows in (5, 200, 431):
        then = to_moment(whole.known_ts[n_rows - 1])
        again = AlignedPanel.from_bars(source, as_of=then)
        cut = whole.until(n_rows)
        assert again.n_obs == n_rows
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(cut, name), getattr(again, name))


def test_a_delisting_is_seen_only_after_it():
    last = toy_market.moment("2020-02-03")
    source = bars(SPY=last)
    panel = AlignedPanel.from_bars(source, as_of=AS_OF)
    spy = panel.symbols.index("SPY")
    assert panel.delisted[spy] >= 0
    assert panel.delisted[[0, 1]].tolist() == [-1, -1]
    row = panel.delisted[spy]
    assert panel.until(row).delisted[spy] == -1
    assert panel.part(slice(10, None)).delisted[spy] == row - 10
    assert panel.choose(["SPY"]).delisted.tolist() == [row]


def test_breaks_are_no_returns_and_chained_closes_step_over_them():
    panel = AlignedPanel.from_bars(bars(), as_of=AS_OF, symbols=["SPY"])
    is_break = panel.is_break.copy()
    is_break[100, 0] = True
    close = panel.close.copy()
    close[100:] *= 0.25
    split = type(panel)(
        **{
            name: getattr(panel, name)
            for name in panel.__slots__
            if name not in {"close", "is_break"}
        },
        close=close,
        is_break=is_break,
    )
    returns = bar_returns(split)
    assert np.isnan(returns[0, 0])
    assert returns[100, 0] == 0.0
    np.testing.assert_allclose(returns[101:], bar_returns(panel)[101:], rtol=1e-12)
    levels = adjusted_closes(split)[:, 0]
    assert levels[100] == levels[99]
    assert levels[0] == 1.0


def test_bad_panels_are_refused_in_one_line():
    source = bars()
    panel = AlignedPanel.from_bars(source, as_of=AS_OF)
    with pytest.raises(BacktestError, match="no 1d bars of NONE"):
        AlignedPanel.from_bars(source, as_of=AS_OF, symbols=["NONE"])
    with pytest.raises(BacktestError, match="no 1d bars known by 1990-01-01"):
        AlignedPanel.from_bars(source, as_of=toy_market.moment("1990-01-01"))
    with pytest.raises(BacktestError, match="panel has no GOLD"):
        panel.choose(["GOLD"])
    later = AlignedPanel.from_bars(
        source, as_of=AS_OF, since=AS_OF - timedelta(days=30)
    )
    assert later.n_obs < 32
    columns = {name: getattr(panel, name) for name in panel.__slots__}
    with pytest.raises(
        BacktestError, match=r"close has shape \(3, 3\), not \(\d+, 3\)"
    ):
        AlignedPanel(**columns | {"close": np.ones((3, 3))})
    with pytest.raises(BacktestError, match="ts must increase"):
        AlignedPanel(**columns | {"ts": panel.ts[::-1]})
