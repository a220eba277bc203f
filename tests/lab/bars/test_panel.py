import numpy as np
import pyarrow as pa
import pytest

from lab.bars.calendars import known_ts
from lab.bars.panel import Panel, instruments_by_symbol, series_as_of
from lab.bars.series import Series
from lab.bars.timeframes import to_instant
from lab.errors import BarsError
from tests.lab import toy_market
from tests.lab.toy_market import bars, moment

MARKET = toy_market.market()
INSTRUMENTS = toy_market.instruments()


def daily(as_of, *, ohlcv=MARKET, instruments=INSTRUMENTS, **kwargs):
    found = series_as_of(
        ohlcv,
        instruments,
        timeframe="1d",
        as_of=moment(as_of),
        **{"context": None, **kwargs},
    )
    return {one.symbol: one for one in found}


@pytest.mark.parametrize("timeframe", ["1h", "1d"])
def test_a_panel_gives_exactly_the_rows_known_by_then(timeframe):
    as_of = moment("2021-02-03T17:30")
    panel = Panel.from_tables(MARKET, INSTRUMENTS, timeframe=timeframe)
    for one in panel.as_of(as_of):
        rows = [
            row
            for row in MARKET.to_pylist()
            if row["symbol"] == one.symbol and row["timeframe"] == timeframe
        ]
        ts = np.array(
            [row["ts"].replace(tzinfo=None) for row in rows], "datetime64[us]"
        )
        known = known_ts(ts, timeframe=timeframe, calendar=one.calendar)
        expected = [
            row["close"]
            for row, moment_known in zip(rows, known, strict=True)
            if moment_known <= to_instant(as_of)
        ]
        assert one.close.tolist() == expected


def test_a_daily_bar_appears_at_the_close_and_not_before():
    assert daily("2021-02-03T20:59")["SPY"].ts[-1] == np.datetime64("2021-02-02")
    assert daily("2021-02-03T21:00")["SPY"].ts[-1] == np.datetime64("2021-02-03")


def test_context_keeps_the_newest_bars():
    assert daily("2021-02-03T21:00", context=5)["SPY"].n_obs == 5
    whole = daily("2021-02-03T21:00")["SPY"]
    assert daily("2021-02-03T21:00", context=5)["SPY"].ts[0] == whole.ts[-5]


def test_leaders_are_left_out_unless_asked_for():
    assert set(daily("2021-02-03")) == {"BTC", "EURUSD", "SPY"}
    assert set(daily("2021-02-03", include_leaders=True)) >= {"VIX"}
    assert set(daily("2021-02-03", symbols=["VIX"])) == {"VIX"}


def test_a_delisted_symbol_is_left_out_from_its_last_bar_on():
    listed = toy_market.instruments(SPY=moment("2021-02-02"))
    assert "SPY" in daily("2021-02-02T20:00", instruments=listed)
    assert "SPY" not in daily("2021-02-02T21:00", instruments=listed)


def test_unknown_symbols_are_ignored_and_unregistered_ones_refused():
    assert daily("2021-02-03", symbols=["NONE"]) == {}
    stray = bars("STRAY", "1d", np.array(["2021-01-04"], "datetime64[us]"), np.ones(1))
    with pytest.raises(BarsError, match="'STRAY' has bars but is no instrument"):
        daily("2021-02-03", ohlcv=stray)


def test_missing_columns_are_named():
    with pytest.raises(BarsError, match="ohlcv: column missing: close"):
        daily("2021-02-03", ohlcv=MARKET.drop(["close"]))
    with pytest.raises(BarsError, match="instruments: column missing: calendar"):
        instruments_by_symbol(INSTRUMENTS.drop(["calendar"]))


def test_bars_off_the_grid_are_left_out():
    ts = np.array(["2021-03-05", "2021-03-07", "2021-03-08"], "datetime64[us]")
    fx = daily("2021-04-01", ohlcv=bars("EURUSD", "1d", ts, np.array([1.0, 9.0, 2.0])))
    assert fx["EURUSD"].close.tolist() == [1.0, 2.0]


def test_a_split_and_a_long_gap_break_the_returns():
    ts = np.array(
        ["2021-03-05", "2021-03-07", "2021-03-08", "2021-03-09"], "datetime64[us]"
    )
    flags = [None, "bad_print?,split?", None, "bad_print?"]
    rows = bars("EURUSD", "1d", ts, np.ones(4), flags)
    # The flag of the Sunday bar, which is left out, goes to Monday.
    assert daily("2021-04-01", ohlcv=rows)["EURUSD"].is_break.tolist() == [
        False,
        True,
        False,
    ]
    ts = np.array(["2021-03-05", "2021-03-12", "2021-03-22"], "datetime64[us]")
    gap = daily("2021-04-01", ohlcv=bars("EURUSD", "1d", ts, np.ones(3)))["EURUSD"]
    assert gap.is_break.tolist() == [False, False, True]


def test_a_table_without_flags_or_rows_is_read():
    assert set(daily("2021-02-03", ohlcv=MARKET.drop(["flags"]))) == {
        "BTC",
        "EURUSD",
        "SPY",
    }
    assert daily("2021-02-03", ohlcv=MARKET.slice(0, 0)) == {}


def test_the_order_of_rows_does_not_matter():
    shuffled = MARKET.take(pa.array(np.random.default_rng(0).permutation(len(MARKET))))
    for symbol, one in daily("2021-02-03").items():
        assert (
            one.close.tobytes()
            == daily("2021-02-03", ohlcv=shuffled)[symbol].close.tobytes()
        )


def test_a_series_refuses_ragged_columns_and_times_out_of_order():
    ts = np.array(["2021-03-05", "2021-03-04"], "datetime64[us]")
    ones = np.ones(2)
    with pytest.raises(BarsError, match="series X: ts must increase"):
        Series("X", "1d", "fx", "fx", ts, ones, ones, ones, ones, ones)
    with pytest.raises(BarsError, match="series X: columns differ in length"):
        Series("X", "1d", "fx", "fx", ts[:1], ones, ones, ones, ones, ones)
