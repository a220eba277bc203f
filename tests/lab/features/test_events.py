"""The event tensor: against a slow reference, at bar edges, and blind to the future."""

import json
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.bars.calendars import known_ts
from lab.bars.panel import Panel
from lab.bars.schedules import schedule
from lab.bars.timeframes import to_instant, to_moment
from lab.errors import BarsError, FeatureError
from lab.features.events import CHANNELS, EventEncoder, placeholder
from tests.lab import toy_market
from tests.lab.features.simple_encoder import encode_simply
from tests.lab.features.toy_events import (
    altered_releases,
    leaders,
    release,
    releases,
    table,
)

MARKET = toy_market.market()
CALENDAR = releases()
LEADERS = {timeframe: leaders(MARKET, timeframe) for timeframe in ("1h", "1d")}
CURRENCIES = {"EURUSD": ("EUR", "USD")}
ENCODERS = {
    timeframe: EventEncoder(CALENDAR, found, currencies=CURRENCIES)
    for timeframe, found in LEADERS.items()
}
PANELS = {
    timeframe: Panel.from_tables(MARKET, toy_market.instruments(), timeframe=timeframe)
    for timeframe in ("1h", "1d")
}
CASES = [(tf, symbol) for tf in ("1h", "1d") for symbol in ("BTC", "EURUSD", "SPY")]


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def column(tensor, name):
    return tensor[:, CHANNELS.index(name)]


def window(timeframe, symbol, last, *, context=60, horizon=30):
    """Opens of a context and its targets, the decision time, and the calendar."""
    series = PANELS[timeframe].series[symbol]
    last = min(max(last, context), series.n_obs - horizon - 1)
    ts = series.ts[last - context + 1 : last + horizon + 1]
    known = known_ts(ts, timeframe=timeframe, calendar=series.calendar)
    return ts, known[context - 1], series.calendar


def around_releases(timeframe, symbol):
    """Last rows of windows that hold the newest figures."""
    series = PANELS[timeframe].series[symbol]
    ends = known_ts(series.ts, timeframe=timeframe, calendar=series.calendar)
    found = []
    for name in ("CPI m/m", "Non-Farm Employment Change", "Federal Funds Rate"):
        moments = [
            to_instant(row["ts"])
            for row in CALENDAR.to_pylist()
            if row["event"] == name and row["forecast"] is not None and row["is_timed"]
        ]
        inside = [one for one in moments if series.ts[40] < one < ends[-30]]
        if inside:
            found.append(int(np.searchsorted(ends, max(inside))) + 2)
    return found


@pytest.mark.parametrize(("timeframe", "symbol"), CASES)
@pytest.mark.parametrize("minutes", [0, 1525])
def test_the_tensor_equals_the_rules_worked_out_row_by_row(timeframe, symbol, minutes):
    for last in (100, 640, *around_releases(timeframe, symbol)):
        ts, known, calendar = window(timeframe, symbol, last, context=14, horizon=8)
        as_of = known + np.timedelta64(minutes, "m")
        asked = {"timeframe": timeframe, "calendar": calendar, "symbol": symbol}
        tensor = ENCODERS[timeframe].encode(ts, as_of=as_of, **asked)
        expected = encode_simply(
            CALENDAR,
            LEADERS[timeframe],
            ts,
            as_of=as_of,
            currencies=CURRENCIES.get(symbol, ("USD",)),
            **asked,
        )
        assert tensor.dtype == np.float32
        assert tensor.shape == (len(ts), 20)
        np.testing.assert_allclose(tensor, expected, rtol=1e-5, atol=1e-6)


def test_the_reference_windows_use_every_channel():
    seen = np.zeros(20)
    for timeframe, symbol in CASES:
        series = PANELS[timeframe].series[symbol]
        tensor = ENCODERS[timeframe].history(
            series.ts, timeframe=timeframe, calendar=series.calendar, symbol=symbol
        )
        seen += np.abs(tensor.tensor).sum(axis=0)
    assert np.all(seen[:18] > 0)
    assert not seen[18:].any()


@pytest.mark.parametrize(("timeframe", "symbol"), CASES)
def test_rows_do_not_change_when_what_comes_later_does(timeframe, symbol):
    @settings(max_examples=4, deadline=None, derandomize=True)
    @given(last=st.integers(100, 660), minutes=st.integers(0, 240))
    def check(last, minutes):
        ts, known, calendar = window(timeframe, symbol, last)
        as_of = to_moment(known) + timedelta(minutes=minutes)
        asked = {"timeframe": timeframe, "calendar": calendar, "symbol": symbol}
        expected = ENCODERS[timeframe].encode(ts, as_of=as_of, **asked)
        told = ENCODERS[timeframe].context_json(ts[60:], as_of=as_of, **asked)
        rng = np.random.default_rng(last)
        futures = toy_market.altered_futures(MARKET, as_of, rng)
        changed = [
            (name, EventEncoder(other, LEADERS[timeframe], currencies=CURRENCIES))
            for name, other in altered_releases(CALENDAR, as_of, rng)
        ]
        changed += [
            (name, EventEncoder(CALENDAR, found, currencies=CURRENCIES))
            for name, market in futures
            for found in [leaders_of(market, timeframe)]
        ]
        for name, encoder in changed:
            found = encoder.encode(ts, as_of=as_of, **asked)
            assert found.tobytes() == expected.tobytes(), name
            assert encoder.context_json(ts[60:], as_of=as_of, **asked) == told, name

    check()


def test_an_encoding_that_knows_ten_days_too_much_is_found():
    ts, known, calendar = window("1d", "BTC", 660)
    asked = {"timeframe": "1d", "calendar": calendar, "symbol": "BTC"}
    leaking = known + np.timedelta64(10, "D")
    expected = ENCODERS["1d"].encode(ts, as_of=leaking, **asked)
    rng = np.random.default_rng(0)
    names = [
        name
        for name, other in altered_releases(CALENDAR, to_moment(known), rng)
        if EventEncoder(other, LEADERS["1d"])
        .encode(ts, as_of=leaking, **asked)
        .tobytes()
        != expected.tobytes()
    ]
    assert {"other figures", "new releases"} <= set(names)


def leaders_of(market, timeframe):
    """Leaders of a market whose future may lack bars altogether."""
    panels = {
        length: Panel.from_tables(market, toy_market.instruments(), timeframe=length)
        for length in ("1h", "1d")
    }
    wanted = {
        "BTC": (timeframe, "BTC"),
        "SPY": (timeframe, "SPY"),
        "DXY": ("1d", "EURUSD"),
        "VIX": ("1d", "VIX"),
    }
    return {
        name: panels[length].series[symbol]
        for name, (length, symbol) in wanted.items()
        if symbol in panels[length].series
    }


@pytest.mark.parametrize(("timeframe", "symbol"), CASES)
def test_each_row_is_blind_to_what_came_out_after_its_own_bar(timeframe, symbol):
    ts, known, calendar = window(timeframe, symbol, 500)
    asked = {"timeframe": timeframe, "calendar": calendar, "symbol": symbol}
    ends = known_ts(ts, timeframe=timeframe, calendar=calendar)
    whole = ENCODERS[timeframe].encode(ts, as_of=known, **asked)
    rng = np.random.default_rng(0)
    for row in (5, 20, 40, 55):
        moment = to_moment(ends[row])
        for name, other in altered_releases(CALENDAR, moment, rng):
            encoder = EventEncoder(other, LEADERS[timeframe], currencies=CURRENCIES)
            found = encoder.encode(ts, as_of=known, **asked)[: row + 1]
            assert found.tobytes() == whole[: row + 1].tobytes(), name


@pytest.mark.parametrize(("timeframe", "symbol"), CASES)
def test_training_windows_equal_the_encoding_of_each_window(timeframe, symbol):
    series = PANELS[timeframe].series[symbol]
    asked = {"timeframe": timeframe, "calendar": series.calendar, "symbol": symbol}
    encoder = ENCODERS[timeframe]
    history = encoder.history(series.ts, **asked)
    last = np.array([80, 300, 301, 650])
    tensor = history.windows(last, context=50, horizon=24)
    for row, place in zip(tensor, last, strict=True):
        ts = series.ts[place - 49 : place + 25]
        as_of = history.rows.end[place]
        assert row.tobytes() == encoder.encode(ts, as_of=as_of, **asked).tobytes()
    assert history.windows(last, context=10, horizon=0).shape == (4, 10, 20)


@pytest.mark.parametrize(
    ("last", "context", "horizon", "match"),
    [
        ([8], 10, 5, r"last rows must lie in \[9, 694\]"),
        ([695], 10, 5, r"found \[695, 695\]"),
        ([50], 0, 5, "context >= 1"),
        ([], 10, 5, "a window"),
    ],
)
def test_windows_beyond_the_history_are_refused(last, context, horizon, match):
    series = PANELS["1d"].series["BTC"]
    history = ENCODERS["1d"].history(series.ts, timeframe="1d", calendar="24x7")
    with pytest.raises(FeatureError, match=match):
        history.windows(np.array(last, np.int64), context=context, horizon=horizon)


def hours(first, n):
    return np.datetime64(first, "us") + np.arange(n) * np.timedelta64(3600, "s")


def encoder_of(*rows, **leading):
    return EventEncoder(table(list(rows)), leading)


def test_a_release_at_a_bars_edge_belongs_to_the_bar_that_opens():
    encoder = encoder_of(
        release("CPI m/m", "cpi", "USD", at("2021-03-10T13:00")),
        release("Non-Farm Employment Change", "nfp", "USD", at("2021-03-10T14:59")),
    )
    tensor = encoder.encode(
        hours("2021-03-10T11:00", 5),
        as_of=at("2021-03-11"),
        timeframe="1h",
        calendar="24x7",
    )
    assert column(tensor, "is_cpi").tolist() == [0, 0, 1, 0, 0]
    assert column(tensor, "is_nfp").tolist() == [0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("day", "utc", "opens"),
    [("2021-03-10", "13:30", "14:00"), ("2021-03-30", "12:30", "13:00")],
)
def test_what_comes_before_an_exchange_opens_belongs_to_its_first_bar(day, utc, opens):
    encoder = encoder_of(release("CPI m/m", "cpi", "USD", at(f"{day}T{utc}")))
    grid = schedule("XNYS", "1h").opens
    ts = grid[(grid >= np.datetime64(day) - 1) & (grid < np.datetime64(day) + 1)]
    asked = {"timeframe": "1h", "calendar": "XNYS"}
    tensor = encoder.encode(ts, as_of=at(day) + timedelta(days=2), **asked)
    flagged = ts[column(tensor, "is_cpi") == 1]
    assert flagged.tolist() == [at(f"{day}T{opens}").replace(tzinfo=None)]


def test_a_daily_bar_answers_until_its_close_and_from_the_close_before():
    evening = release("CPI m/m", "cpi", "USD", at("2021-03-10T21:00"))
    saturday = release("Prelim GDP q/q", "gdp", "USD", at("2021-03-13T10:00"))
    days = np.arange("2021-03-08", "2021-03-17", dtype="datetime64[D]")
    exchange = np.intersect1d(
        days.astype("datetime64[us]"), schedule("XNYS", "1d").opens
    )
    encoder = encoder_of(evening, saturday)
    asked = {"as_of": at("2021-04-01"), "timeframe": "1d"}
    tensor = encoder.encode(exchange, calendar="XNYS", **asked)
    day = exchange.astype("datetime64[D]").astype(str)
    assert day[column(tensor, "is_cpi") == 1].tolist() == ["2021-03-11"]
    assert day[column(tensor, "is_gdp") == 1].tolist() == ["2021-03-15"]
    always = encoder.encode(days.astype("datetime64[us]"), calendar="24x7", **asked)
    assert days[column(always, "is_cpi") == 1].astype(str).tolist() == ["2021-03-10"]
    assert days[column(always, "is_gdp") == 1].astype(str).tolist() == ["2021-03-13"]


def test_what_comes_while_a_symbol_pauses_belongs_to_its_next_bar():
    # The market opens on Sunday at 21:00; this feed delivers from Monday 00:00 on.
    cut = release("Federal Funds Rate", "fomc", "USD", at("2020-03-15T21:00"))
    old = release("CPI m/m", "cpi", "USD", at("2020-03-11T19:00"))
    ts = np.array(
        ["2020-03-11T18:00", "2020-03-16T00:00", "2020-03-16T01:00"], "datetime64[us]"
    )
    asked = {"as_of": at("2020-03-17"), "timeframe": "1h", "calendar": "fx"}
    tensor = encoder_of(cut, old).encode(ts, **asked)
    assert column(tensor, "is_fomc").tolist() == [0, 1, 0]
    assert not column(tensor, "is_cpi").any()
    assert not column(encoder_of(cut).encode(ts[1:], **asked), "is_fomc").any()


@pytest.mark.parametrize("timeframe", ["1h", "1d"])
def test_training_windows_with_gaps_equal_the_encoding_of_each_window(timeframe):
    series = PANELS[timeframe].series["EURUSD"]
    kept = np.random.default_rng(0).random(series.n_obs) < 0.7
    ts = series.ts[kept]
    asked = {"timeframe": timeframe, "calendar": "fx", "symbol": "EURUSD"}
    history = ENCODERS[timeframe].history(ts, **asked)
    last = np.arange(30, len(ts) - 10, 7)
    tensor = history.windows(last, context=20, horizon=8)
    for row, place in zip(tensor, last, strict=True):
        cut, as_of = ts[place - 19 : place + 9], history.rows.end[place]
        expected = ENCODERS[timeframe].encode(cut, as_of=as_of, **asked)
        assert row.tobytes() == expected.tobytes()


def monthly_cpi(n, surprise):
    """CPI a month, each surprising by `surprise(k)`."""
    begin = at("2019-01-10T13:30")
    return [
        release(
            "CPI m/m",
            "cpi",
            "USD",
            begin + timedelta(days=30 * k),
            actual=0.2 + surprise(k),
            forecast=0.2,
        )
        for k in range(n)
    ]


def cpi_surprises(rows, as_of=None):
    encoder = encoder_of(*rows)
    ts = np.array([to_instant(row["ts"]).astype("datetime64[h]") for row in rows])
    as_of = as_of or rows[-1]["ts"] + timedelta(days=1)
    asked = {"timeframe": "1h", "calendar": "24x7"}
    return column(encoder.encode(ts, as_of=as_of, **asked), "cpi_surprise_z")


def test_a_surprise_needs_eight_releases_before_it_and_compares_with_twenty():
    gaps = [0.1 * (-1) ** k * (1 + k % 3) for k in range(30)]
    found = cpi_surprises(monthly_cpi(30, lambda k: gaps[k]))
    assert not found[:8].any()
    assert found[8] == pytest.approx(gaps[8] / np.std(gaps[:8], ddof=1), rel=1e-5)
    assert found[29] == pytest.approx(gaps[29] / np.std(gaps[9:29], ddof=1), rel=1e-5)


def test_a_surprise_is_clipped_and_zero_where_nothing_varied_before():
    gaps = [0.1, -0.1] * 5 + [5.0, -5.0]
    found = cpi_surprises(monthly_cpi(12, lambda k: gaps[k]))
    assert found[10] == 3.0
    assert found[11] < -2.5
    assert not cpi_surprises(monthly_cpi(12, lambda _: 0.1)).any()


def test_a_surprise_shows_to_the_minute_when_it_is_known():
    rows = monthly_cpi(12, lambda k: 0.1 * (-1) ** k)
    out = rows[-1]["ts"]
    assert cpi_surprises(rows, as_of=out - timedelta(minutes=1))[-1] == 0
    assert cpi_surprises(rows, as_of=out)[-1] != 0


def test_only_the_headline_figure_of_the_united_states_is_compared():
    rows = monthly_cpi(12, lambda k: 0.1 * (-1) ** k)
    others = [
        {
            **row,
            "event_id": f"{name}{k}",
            "event": name,
            "currency": code,
            "actual": 9.0,
        }
        for k, row in enumerate(rows)
        for name, code in (("Core CPI m/m", "USD"), ("CPI m/m", "CAD"))
    ]
    assert cpi_surprises(rows + others)[:12].tolist() == cpi_surprises(rows).tolist()


def test_the_hawkish_score_counts_steps_of_25_basis_points_from_the_rate_before():
    rates = [1.75, 1.25, 0.25, 0.25, 0.5]
    rows = [
        release(
            "Federal Funds Rate",
            "fomc",
            "USD",
            at("2020-01-29T19:00") + timedelta(days=42 * k),
            actual=rate,
            previous=9.0,
        )
        for k, rate in enumerate(rates)
    ]
    ts = np.array([to_instant(row["ts"]) for row in rows])
    tensor = encoder_of(*rows).encode(
        ts, as_of=at("2021-01-01"), timeframe="1h", calendar="24x7"
    )
    assert column(tensor, "fomc_hawkish_score").tolist() == [0, -2, -2, 0, 1]
    assert column(tensor, "is_fomc").tolist() == [1] * 5
    assert column(tensor, "is_rate_decision").tolist() == [1] * 5


def test_days_to_a_release_go_round_a_circle_and_are_zero_where_none_is_announced():
    cpi = release("CPI m/m", "cpi", "USD", at("2021-03-31T00:00"))
    days = np.arange("2021-02-20", "2021-04-03", dtype="datetime64[D]")
    tensor = encoder_of(cpi).encode(
        days.astype("datetime64[us]"),
        as_of=at("2021-05-01"),
        timeframe="1d",
        calendar="24x7",
    )
    pair = tensor[:, CHANNELS.index("days_to_cpi_sin") :][:, :2]
    place = {str(day): k for k, day in enumerate(days)}
    # Announced at 2021-03-01T00:00, which the bar of 28 February knows at its end.
    assert not pair[: place["2021-02-28"]].any()
    quarter = [(0, 1), (1, 0), (0, -1), (-1, 0), (0, 1)]
    for left, expected in zip((0, 7.5, 15, 22.5, 30), quarter, strict=True):
        if left == int(left):
            day = str(np.datetime64("2021-03-31") - int(left))
            assert pair[place[day]] == pytest.approx(expected, abs=1e-6)
    assert pair[place["2021-02-28"]] == pytest.approx((0, 1), abs=1e-6)
    assert not pair[place["2021-04-01"] :].any()


def test_a_cut_between_meetings_is_not_counted_down_to():
    meeting = release("Federal Funds Rate", "fomc", "USD", at("2020-03-18T18:00"))
    cut = release(
        "Federal Funds Rate",
        "fomc",
        "USD",
        at("2020-03-03T15:00"),
        scheduled_known_ts=at("2020-03-03T15:00"),
    )
    ts = hours("2020-03-03T12:00", 5)
    asked = {"timeframe": "1h", "calendar": "24x7"}
    with_cut = encoder_of(meeting, cut).encode(ts, as_of=at("2020-03-04"), **asked)
    without = encoder_of(meeting).encode(ts, as_of=at("2020-03-04"), **asked)
    assert with_cut[:2].tobytes() == without[:2].tobytes()
    assert column(with_cut, "is_fomc").tolist() == [0, 0, 0, 1, 0]
    before = encoder_of(meeting, cut).encode(ts, as_of=at("2020-03-03T14:00"), **asked)
    assert not column(before, "is_fomc").any()


def test_earnings_are_those_of_the_symbols_own_company():
    day = at("2021-02-03")
    late = {"is_timed": False, "actual_known_ts": day + timedelta(hours=36)}
    encoder = encoder_of(
        release("Q1 Earnings", "earnings", "USD", day, symbol="AAPL", **late),
        release("Average Hourly Earnings m/m", "other", "USD", at("2021-02-05T13:30")),
    )
    days = np.arange("2021-02-01", "2021-02-06", dtype="datetime64[D]")
    ts = days.astype("datetime64[us]")
    asked = {"as_of": at("2021-02-10"), "timeframe": "1d", "calendar": "XNYS"}
    for symbol, expected in (
        ("AAPL", [0, 0, 1, 0, 0]),
        ("IBM", [0] * 5),
        (None, [0] * 5),
    ):
        tensor = encoder.encode(ts, symbol=symbol, **asked)
        assert column(tensor, "is_earnings").tolist() == expected
    hourly = encoder.encode(
        hours("2021-02-03", 24),
        as_of=at("2021-02-10"),
        timeframe="1h",
        calendar="24x7",
        symbol="AAPL",
    )
    assert not hourly.any()


def test_a_rate_decision_counts_for_the_symbols_currencies_and_the_feds_for_all():
    encoder = encoder_of(
        release(
            "Main Refinancing Rate", "rate_decision", "EUR", at("2021-03-11T12:45")
        ),
        release("Federal Funds Rate", "fomc", "USD", at("2021-03-11T14:00")),
        release("FOMC Meeting Minutes", "fomc_minutes", "USD", at("2021-03-11T16:00")),
    )
    ts = hours("2021-03-11T11:00", 6)
    asked = {"as_of": at("2021-03-12"), "timeframe": "1h", "calendar": "24x7"}
    euro = encoder.encode(ts, currencies=("EUR", "USD"), **asked)
    home = encoder.encode(ts, **asked)
    assert column(euro, "is_rate_decision").tolist() == [0, 1, 0, 1, 0, 0]
    assert column(home, "is_rate_decision").tolist() == [0, 0, 0, 1, 0, 0]
    assert column(home, "is_fomc").tolist() == [0, 0, 0, 1, 0, 0]


def test_leaders_are_masked_when_closed_ended_or_not_yet_known():
    encoder, found = ENCODERS["1h"], LEADERS["1h"]
    week = hours("2021-01-16", 72)  # Saturday; Monday the 18th is a US holiday
    asked = {"timeframe": "1h", "calendar": "24x7"}
    tensor = encoder.encode(week, as_of=at("2021-02-01"), **asked)
    assert not column(tensor, "spy_log_return").any()
    assert not column(tensor, "vix_z").any()
    assert np.all(column(tensor, "btc_log_return") != 0)
    after = hours(str(found["BTC"].ts[-1] + np.timedelta64(2, "h")), 5)
    ended = encoder.encode(after, as_of=at("2030-01-01"), **asked)
    assert not column(ended, "btc_log_return").any()
    day = hours("2021-01-20T12:00", 12)
    live = encoder.encode(day, as_of=at("2021-01-20T16:00"), **asked)
    assert np.flatnonzero(column(live, "btc_log_return")).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(column(live, "spy_log_return")).tolist() == [2, 3]


def test_a_daily_leader_shows_yesterdays_close_until_its_own_day_is_known():
    vix = LEADERS["1d"]["VIX"]
    day = hours("2020-11-18T12:00", 12)
    tensor = ENCODERS["1d"].encode(
        day, as_of=at("2020-11-20"), timeframe="1h", calendar="24x7"
    )
    shown = column(tensor, "vix_z")
    place = int(np.searchsorted(vix.ts, np.datetime64("2020-11-18", "us")))

    def z(row):
        before = vix.close[row - 252 : row]
        return (vix.close[row] - before.mean()) / before.std(ddof=1)

    # New York trades from 14:30 to 21:00; the day's close is known at 21:00.
    assert shown[2:8] == pytest.approx([z(place - 1)] * 6, rel=1e-5)
    assert shown[8] == pytest.approx(z(place), rel=1e-5)
    assert not shown[:2].any()
    assert not shown[9:].any()


def test_a_context_names_what_is_announced_inside_the_target_bars():
    encoder = encoder_of(
        release("CPI m/m", "cpi", "USD", at("2021-03-10T13:30")),
        release("CPI m/m", "cpi", "CAD", at("2021-03-10T13:30")),
        release(
            "Main Refinancing Rate", "rate_decision", "EUR", at("2021-03-11T12:45")
        ),
        release("Non-Farm Employment Change", "nfp", "USD", at("2021-05-07T12:30")),
    )
    ts = hours("2021-03-10T00:00", 48)
    asked = {"as_of": at("2021-03-10"), "timeframe": "1h", "calendar": "24x7"}
    assert json.loads(encoder.context_json(ts, **asked)) == [
        {
            "ts": "2021-03-10T13:30:00Z",
            "currency": "USD",
            "event": "CPI m/m",
            "type": "cpi",
            "importance": 3,
        }
    ]
    euro = json.loads(encoder.context_json(ts, currencies=("EUR", "USD"), **asked))
    assert [row["type"] for row in euro] == ["cpi", "rate_decision"]
    assert encoder.context_json(ts[:5], **asked) == "[]"
    assert encoder.context_json(ts[:0], **asked) == "[]"


def test_the_placeholder_layout_is_the_first_ten_channels():
    tensor = np.arange(40, dtype=np.float32).reshape(2, 20)
    assert placeholder(tensor).tolist() == tensor[:, :10].tolist()
    assert CHANNELS[9] == "is_rate_decision"


def test_no_rows_no_releases_and_no_leaders_are_fine():
    empty = EventEncoder(CALENDAR.slice(0, 0), {})
    asked = {"as_of": at("2021-01-01"), "timeframe": "1h", "calendar": "24x7"}
    assert empty.encode(hours("2021-01-01", 0), **asked).shape == (0, 20)
    assert not empty.encode(hours("2021-01-01", 5), **asked).any()


def test_what_cannot_be_used_is_refused_in_words():
    with pytest.raises(FeatureError, match="column missing: actual"):
        EventEncoder(CALENDAR.drop_columns(["actual"]), {})
    with pytest.raises(FeatureError, match="leader 'GOLD': allowed are BTC, SPY"):
        EventEncoder(CALENDAR, {"GOLD": LEADERS["1d"]["BTC"]})
    bad = LEADERS["1d"]["BTC"].part(slice(None))
    bad.close.flags.writeable = True
    with pytest.raises(FeatureError, match="leader BTC: closes must be positive"):
        EventEncoder(CALENDAR, {"BTC": with_close(bad, -1.0)})
    with pytest.raises(BarsError, match="time zone is required"):
        ENCODERS["1h"].encode(
            hours("2021-01-01", 3),
            as_of=datetime(2021, 1, 1),  # noqa: DTZ001 - what is refused
            timeframe="1h",
            calendar="24x7",
        )


def with_close(series, value):
    from dataclasses import replace

    close = series.close.copy()
    close[3] = value
    return replace(series, close=close)


def test_a_symbol_takes_under_ten_milliseconds():
    rows = CALENDAR.to_pylist()
    many = [
        {**row, "event_id": f"{k}-{row['event_id']}"} for k in range(40) for row in rows
    ]
    encoder = EventEncoder(table(many), LEADERS["1h"])
    series = PANELS["1h"].series["BTC"]
    ts = series.ts[:632]
    took = []
    for _ in range(20):
        begin = time.process_time()
        encoder.encode(ts, as_of=ts[512], timeframe="1h", calendar="24x7")
        took.append(time.process_time() - begin)
    assert min(took) < 0.010
