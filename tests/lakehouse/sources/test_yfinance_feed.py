import time
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse.errors import SourceError, SourceUnavailableError
from lakehouse.sources import yfinance_feed
from tests.simulators.exchange import Fault, Yahoo, serving

UNTIL = datetime(2024, 3, 1, 17, 5, tzinfo=UTC)
NEW_YORK = {
    "currency": "USD",
    "instrumentType": "ETF",
    "exchangeTimezoneName": "America/New_York",
}
LONDON_FX = {
    "currency": "USD",
    "instrumentType": "CURRENCY",
    "exchangeTimezoneName": "Europe/London",
}


def seconds(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp())


@pytest.fixture
def yahoo():
    with serving(Yahoo()) as server:
        days = [
            (seconds(2024, 2, day, 14, 30), 10.0, 11.0, 9.0, 10.5, 100)
            for day in (26, 27, 28, 29)
        ]
        holiday = (seconds(2024, 2, 25, 14, 30), None, None, None, None, None)
        today = (seconds(2024, 3, 1, 14, 30), 10.0, 11.0, 9.0, 10.5, 100)
        server.add_chart("SPY", "1d", meta=NEW_YORK, rows=[holiday, *days, today])
        quarters = [
            (
                seconds(2024, 3, 1, 14, 30) + 900 * n,
                10.0 + n,
                11.0 + n,
                9.0,
                10.5 + n,
                10,
            )
            for n in range(11)
        ]
        server.add_chart("SPY", "15m", meta=NEW_YORK, rows=quarters)
        yield server


def fetch(server, ticker="SPY", timeframe="1d", **options):
    [raw] = yfinance_feed.load(
        [ticker],
        timeframe=timeframe,
        base_url=server.url,
        **{"until": UNTIL, **options},
    )
    return raw


def test_daily_bars_carry_their_session_date_and_the_running_day_is_left_out(yahoo):
    raw = fetch(yahoo)
    days = [datetime(2024, 2, day, tzinfo=UTC) for day in (26, 27, 28, 29)]
    assert raw.bars["ts"].to_pylist() == days
    [info] = raw.instruments
    assert (info.asset_class, info.calendar, info.currency) == ("equity", "XNYS", "USD")


def test_hourly_bars_are_made_on_clock_hours_and_know_no_later_quarter(yahoo):
    raw = fetch(yahoo, timeframe="1h")
    rows = raw.bars.to_pylist()
    assert [row["ts"].hour for row in rows] == [14, 15, 16]
    assert [row["open"] for row in rows] == [10.0, 12.0, 16.0]
    assert [row["close"] for row in rows] == [11.5, 15.5, 19.5]
    assert [row["high"] for row in rows] == [12.0, 16.0, 20.0]
    assert [row["volume"] for row in rows] == [20, 40, 40]
    assert yahoo.paths("chart/SPY")[0]["interval"] == "15m"


def test_a_currency_pair_is_dated_in_its_own_zone_and_plainly_named(yahoo):
    rows = [(seconds(2023, 7, day, 23), 1.1, 1.2, 1.0, 1.1, 0) for day in (10, 11)]
    yahoo.add_chart("EURUSD=X", "1d", meta=LONDON_FX, rows=rows)
    raw = fetch(yahoo, "EURUSD=X")
    assert raw.bars["symbol"].to_pylist() == ["EURUSD", "EURUSD"]
    assert [moment.day for moment in raw.bars["ts"].to_pylist()] == [11, 12]
    assert raw.instruments[0].asset_class == "fx"
    assert raw.notes == ("EURUSD=X is stored as EURUSD",)


def test_hourly_bars_reach_back_59_days(yahoo):
    raw = fetch(yahoo, timeframe="1h", since=UNTIL - timedelta(days=400))
    assert raw.notes[0].startswith(
        "Yahoo keeps hourly bars for 60 days: from 2024-01-02"
    )


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ([Fault(429, {}, b"Too Many Requests")] * 2, "asks to slow down"),
        ([Fault(503, {}, b"busy")] * 2, "status 503 and no chart"),
        ([Fault(is_truncated=True)], "no chart"),
        ([Fault(body=b'{"chart":{"result":[{}]}}')], "not in Yahoo's format"),
        (
            [Fault(body=b'{"chart":{"result":[{"indicators":{"quote":[{}]}}]}}')],
            "names no time zone",
        ),
    ],
)
def test_a_server_in_trouble_is_named_in_one_line(yahoo, faults, message):
    yahoo.fail_next("chart", *faults)
    with pytest.raises(SourceUnavailableError, match=message) as caught:
        fetch(yahoo)
    assert "\n" not in str(caught.value)


def test_an_unknown_ticker_is_bad_input(yahoo):
    with pytest.raises(SourceError, match="NOPE: No data found"):
        fetch(yahoo, "NOPE")
    with pytest.raises(SourceError, match="name tickers with --symbols"):
        yfinance_feed.load([], timeframe="1d", until=UNTIL)


def test_no_internet_is_said_at_once():
    with serving(Yahoo()) as server:
        closed = server
    started = time.monotonic()
    with pytest.raises(SourceUnavailableError, match="is there internet\\?"):
        fetch(closed)
    assert time.monotonic() - started < 5
