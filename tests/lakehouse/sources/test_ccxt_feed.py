import time
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse.clock import Clock
from lakehouse.errors import SourceError, SourceUnavailableError
from lakehouse.intake import take_bars
from lakehouse.sources import ccxt_feed
from lakehouse.store import Lake
from tests.simulators.exchange import Binance, Fault, serving

START = datetime(2024, 1, 1, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)
UNTIL = datetime(2024, 3, 1, 12, 30, tzinfo=UTC)


@pytest.fixture
def binance():
    with serving(Binance()) as server:
        server.add_bars("BTCUSDT", START_MS, [100 + n / 10 for n in range(1_450)])
        yield server


def fetch(server, symbol="BTC/USDT", **options):
    options = {"timeframe": "1h", "until": UNTIL, "since": START, **options}
    [raw] = ccxt_feed.load("binance", [symbol], base_url=server.url, **options)
    return raw


def test_pages_are_joined_and_the_symbol_is_plain(binance):
    raw = fetch(binance)
    assert raw.bars.num_rows == 1_440 + 10
    assert raw.bars["ts"].to_pylist() == [
        START + timedelta(hours=n) for n in range(1_450)
    ]
    assert raw.bars["symbol"][0].as_py() == "BTCUSDT"
    assert raw.bars["close"][3].as_py() == 100.3
    assert raw.window == "ccxt:binance:BTCUSDT:2024-01-01T00:2024-03-01T12"
    assert raw.instruments[0].asset_class == "crypto"
    pages = binance.paths("klines")
    assert [int(page["startTime"]) for page in pages[:2]] == [
        START_MS,
        START_MS + 1_000 * 3_600_000,
    ]
    assert not [path for path, _ in binance.requests if "sapi" in path]


def test_the_exchanges_own_id_names_the_same_market(binance):
    assert fetch(binance, "BTCUSDT").bars == fetch(binance).bars


def test_a_gap_in_the_history_does_not_stop_the_paging(binance):
    rows = binance.klines["BTCUSDT"]
    del rows[100:1_300]
    assert fetch(binance).bars.num_rows == 250


def test_the_running_bar_is_left_out(binance):
    until = START + timedelta(hours=5, minutes=59)
    assert fetch(binance, until=until).bars.num_rows == 5


def test_fetched_bars_pass_the_intake(binance, tmp_path):
    lake = Lake.open(str(tmp_path), clock=Clock(UNTIL, "argument"))
    report = take_bars(lake, fetch(binance), run_id="r")
    assert (report.n_good, report.n_quarantined) == (1_450, 0)
    assert take_bars(lake, fetch(binance), run_id="r").n_written == 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            Fault(429, {"Retry-After": "7"}, b'{"code":-1003,"msg":"Too many"}'),
            "asks to slow down, for 7 s",
        ),
        (
            Fault(418, {"Retry-After": "60"}, b'{"code":-1003,"msg":"banned"}'),
            "asks to slow down, for 60 s",
        ),
        (Fault(503, {}, b"<html>busy</html>"), "answered with an error: .*503"),
        (Fault(is_truncated=True), "characters that are not JSON"),
        (Fault(body=b""), "0 characters that are not JSON"),
    ],
)
@pytest.mark.parametrize("path", ["klines", "exchangeInfo"])
def test_a_server_in_trouble_is_named_in_one_line(binance, fault, message, path):
    binance.fail_next(path, fault)
    with pytest.raises(SourceUnavailableError, match=message) as caught:
        fetch(binance)
    assert "\n" not in str(caught.value)
    assert fetch(binance).bars.num_rows == 1_450


def test_an_unknown_symbol_or_exchange_is_bad_input(binance):
    with pytest.raises(SourceError, match="no symbol 'BTC/USD'; near: BTC/USDT"):
        fetch(binance, "BTC/USD")
    with pytest.raises(SourceError, match="ccxt knows no such exchange; near: binance"):
        ccxt_feed.load("binanse", ["BTC/USDT"], timeframe="1h", until=UNTIL)
    with pytest.raises(SourceError, match="name symbols with --symbols"):
        ccxt_feed.load("binance", [], timeframe="1h", until=UNTIL)
    with pytest.raises(SourceError, match="timeframe '5m' is not one of 1h, 1d"):
        fetch(binance, timeframe="5m")
    with pytest.raises(SourceError, match="no complete 1h bar between"):
        fetch(binance, since=UNTIL)


def test_no_internet_is_said_at_once():
    with serving(Binance()) as server:
        closed = server
    started = time.monotonic()
    with pytest.raises(SourceUnavailableError, match="is there internet\\?"):
        fetch(closed)
    assert time.monotonic() - started < 5
