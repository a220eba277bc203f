from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.bars.calendars import (
    bars_per_year,
    elapsed_trading_time,
    is_open,
    known_ts,
    latest_panel_known_ts,
    next_opens,
    positions,
    trading_start,
)
from lab.bars.schedules import schedule, sessions
from lab.errors import BarsError, CalendarError
from tests.lab.toy_market import moment

ALL = ("24x7", "fx", "XNYS", "XTKS", "XETR")


def times(*texts):
    return np.array(texts, dtype="datetime64[us]")


def known(*texts, timeframe="1d", calendar="XNYS"):
    return known_ts(times(*texts), timeframe=timeframe, calendar=calendar).tolist()


def test_an_hourly_bar_is_known_an_hour_after_its_open():
    for calendar in ALL:
        assert known("2018-07-03T14:00", timeframe="1h", calendar=calendar) == (
            times("2018-07-03T15:00").tolist()
        )


def test_a_daily_exchange_bar_is_known_at_that_days_close():
    # New York: summer, winter, and the early closes of Independence Day and Christmas.
    assert known("2018-07-05", "2018-12-20", "2018-07-03", "2018-12-24") == (
        times(
            "2018-07-05T20:00",
            "2018-12-20T21:00",
            "2018-07-03T17:00",
            "2018-12-24T18:00",
        ).tolist()
    )


def test_daily_bars_of_continuous_markets_and_of_no_session_are_known_at_midnight():
    midnight = times("2018-07-05").tolist()
    assert known("2018-07-04", calendar="24x7") == midnight
    assert known("2018-07-04", calendar="fx") == midnight
    assert known("2018-07-04", calendar="XNYS") == midnight
    assert known("1970-01-01", calendar="XNYS") == times("1970-01-02").tolist()


@pytest.mark.parametrize("timeframe", ["1h", "1d"])
@pytest.mark.parametrize("calendar", ALL)
def test_bars_open_before_they_are_known_and_in_order(calendar, timeframe):
    bars = schedule(calendar, timeframe)
    assert (np.diff(bars.opens).astype(int) > 0).all()
    assert (np.diff(bars.known).astype(int) > 0).all()
    assert (bars.known > bars.opens).all()
    assert bars.opens[0] < times("1998-01-01")[0]
    assert bars.opens[-1] > times("2040-12-01")[0]
    assert not bars.opens.flags.writeable
    here = known_ts(bars.opens, timeframe=timeframe, calendar=calendar)
    assert (here == bars.known).all()


def test_the_next_bars_of_a_continuous_market_are_the_next_hours_and_days():
    hours = next_opens(moment("2021-12-31T22:00"), 2, timeframe="1h", calendar="24x7")
    assert hours.tolist() == times("2021-12-31T23:00", "2022-01-01T00:00").tolist()
    days = next_opens(np.datetime64("2021-12-31"), 2, timeframe="1d", calendar="24x7")
    assert days.tolist() == times("2022-01-01", "2022-01-02").tolist()


def test_the_fx_week_runs_from_sunday_to_friday_at_five_in_new_york():
    # Winter: 22:00 UTC. The clocks change on 2018-11-04 between the two.
    friday = next_opens(
        np.datetime64("2018-11-02T19:00"), 2, timeframe="1h", calendar="fx"
    )
    assert friday.tolist() == times("2018-11-02T20:00", "2018-11-04T22:00").tolist()
    summer = next_opens(
        np.datetime64("2018-07-06T20:00"), 1, timeframe="1h", calendar="fx"
    )
    assert summer.tolist() == times("2018-07-08T21:00").tolist()


def test_daily_fx_bars_skip_the_weekend():
    days = next_opens(np.datetime64("2018-03-08"), 3, timeframe="1d", calendar="fx")
    assert days.tolist() == times("2018-03-09", "2018-03-12", "2018-03-13").tolist()
    on_grid = positions(times("2018-03-11"), timeframe="1d", calendar="fx")
    assert on_grid.tolist() == [-1]


def test_hourly_exchange_bars_are_the_hours_that_overlap_the_session():
    # 14:30 to 21:00 UTC in winter; 13:30 to 17:00 on an early close in summer.
    winter = next_opens(
        np.datetime64("2018-12-19T22:00"), 8, timeframe="1h", calendar="XNYS"
    )
    assert winter[:7].tolist() == [
        times(f"2018-12-20T{hour}:00")[0].tolist() for hour in range(14, 21)
    ]
    assert winter[7] == times("2018-12-21T14:00")[0]
    early = next_opens(
        np.datetime64("2018-07-03T16:00"), 1, timeframe="1h", calendar="XNYS"
    )
    assert early.tolist() == times("2018-07-05T13:00").tolist()


def test_a_lunch_break_has_no_bar_when_it_covers_the_whole_hour():
    # Hong Kong pauses from 12:00 to 13:00 local, 04:00 to 05:00 UTC.
    hours = next_opens(
        np.datetime64("2022-03-01T00:00"), 7, timeframe="1h", calendar="XHKG"
    )
    assert [hour.tolist().hour for hour in hours] == [1, 2, 3, 5, 6, 7, 1]


def test_a_time_beyond_the_calendars_is_refused():
    with pytest.raises(CalendarError, match="'XNYS' ends in 2040"):
        next_opens(np.datetime64("2040-12-28"), 20, timeframe="1d", calendar="XNYS")


def test_an_unknown_calendar_is_refused_with_what_is_allowed():
    with pytest.raises(CalendarError, match="'NOPE': allowed are 24x7, fx"):
        sessions("NOPE")


def test_markets_are_open_in_their_sessions_only():
    moments = times("2018-07-03T16:59", "2018-07-03T17:00", "2018-07-04T15:00")
    assert is_open(moments, calendar="XNYS").tolist() == [True, False, False]
    assert is_open(moments, calendar="24x7").all()
    weekend = times("2018-07-06T20:59", "2018-07-06T21:00", "2018-07-08T21:00")
    assert is_open(weekend, calendar="fx").tolist() == [True, False, True]
    assert is_open(times("1980-01-01"), calendar="fx").tolist() == [False]


def elapsed(start, end, calendar, timeframe="1h"):
    return elapsed_trading_time(
        moment(start), moment(end), calendar, timeframe=timeframe
    )


def test_elapsed_time_counts_open_hours():
    friday, monday = "2022-03-04T20:55", "2022-03-07T15:30"
    assert elapsed(friday, monday, "XNYS") == timedelta(minutes=65)
    assert elapsed(friday, monday, "24x7") == timedelta(days=2, hours=18, minutes=35)
    assert elapsed("2022-03-04T21:00", "2022-03-06T23:00", "fx") == timedelta(hours=2)


def test_elapsed_time_on_daily_bars_counts_all_hours_of_trading_days():
    friday, monday = "2022-03-04T21:00", "2022-03-07T21:00"
    assert elapsed(friday, monday, "XNYS", "1d") == timedelta(hours=24)
    assert elapsed(friday, monday, "fx", "1d") == timedelta(hours=24)
    assert elapsed(friday, monday, "24x7", "1d") == timedelta(hours=72)


def test_elapsed_time_is_never_negative():
    assert elapsed("2022-03-07T00:00", "2022-03-04T00:00", "24x7") == timedelta(0)


def test_elapsed_time_refuses_an_unknown_timeframe():
    with pytest.raises(BarsError, match="allowed are 1h, 1d"):
        elapsed("2022-03-04T00:00", "2022-03-07T00:00", "fx", "5m")


@settings(max_examples=30, deadline=None, derandomize=True)
@given(minutes=st.lists(st.integers(0, 60 * 24 * 30), min_size=3, max_size=3))
@pytest.mark.parametrize("calendar", ["24x7", "fx", "XNYS", "XTKS"])
def test_elapsed_times_of_adjoining_spans_add_up(calendar, minutes):
    begin = moment("2022-03-01")
    a, b, c = (begin + timedelta(minutes=m) for m in sorted(minutes))
    parts = [elapsed_trading_time(*ends, calendar) for ends in ((a, b), (b, c), (a, c))]
    assert parts[0] + parts[1] == parts[2]
    assert parts[2] <= c - a


def test_trading_starts_with_the_session_not_with_the_bar():
    start = {"timeframe": "1d", "calendar": "XNYS"}
    assert trading_start(times("2018-12-20"), **start) == times("2018-12-20T14:30")
    start = {"timeframe": "1h", "calendar": "XNYS"}
    assert trading_start(times("2018-12-20T14:00"), **start) == times(
        "2018-12-20T14:30"
    )
    assert trading_start(times("2018-12-20T15:00"), **start) == times(
        "2018-12-20T15:00"
    )
    assert trading_start(times("2018-12-22"), timeframe="1d", calendar="XNYS") == times(
        "2018-12-22"
    )


def test_bars_per_year_are_those_observed():
    days = schedule("XNYS", "1d").opens
    ts = days[(days >= times("2015-01-01")) & (days < times("2019-01-01"))]
    assert bars_per_year(ts)[0] == pytest.approx(251, abs=1)
    hourly = schedule("24x7", "1h").opens[:2000]
    assert bars_per_year(hourly)[0] == pytest.approx(8766, rel=1e-9)
    with pytest.raises(BarsError, match="no bars given"):
        bars_per_year(ts[:0])


def test_one_bar_is_not_a_thousand_a_year():
    assert bars_per_year(times("2020-01-01"))[0] == pytest.approx(365.25 / 28)


def test_a_panel_waits_for_its_latest_close():
    date = moment("2018-12-20")
    latest = latest_panel_known_ts(date, timeframe="1d", calendars={"XNYS", "XTKS"})
    assert latest == times("2018-12-20T21:00")[0]
    with_fx = latest_panel_known_ts(date, timeframe="1d", calendars={"XNYS", "fx"})
    assert with_fx == times("2018-12-21")[0]
    with pytest.raises(BarsError, match="no calendars"):
        latest_panel_known_ts(date, timeframe="1d", calendars=set())
