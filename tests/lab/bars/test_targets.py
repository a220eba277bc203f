import numpy as np
import pytest

from lab.bars.schedules import schedule
from lab.bars.targets import forecast_targets, traded_slots
from lab.errors import CalendarError


def opens(calendar, timeframe, start, stop):
    bars = schedule(calendar, timeframe).opens
    return bars[(bars >= np.datetime64(start)) & (bars < np.datetime64(stop))]


def hour_of(ts):
    return (ts - ts.astype("datetime64[D]")) // np.timedelta64(1, "h")


def targets(ts, as_of, horizon=24, timeframe="1h", calendar="24x7"):
    return forecast_targets(
        ts,
        as_of=np.datetime64(as_of),
        horizon=horizon,
        timeframe=timeframe,
        calendar=calendar,
    )


def test_targets_begin_with_the_bar_that_is_running():
    ts = opens("24x7", "1h", "2022-01-01", "2022-02-01T10:00")
    found = targets(ts, "2022-02-01T10:55")
    assert found.n_missed == 0
    assert found.target_ts[0] == np.datetime64("2022-02-01T10:00")
    assert found.target_ts[-1] == np.datetime64("2022-02-02T09:00")


def test_a_late_series_crosses_the_bars_that_are_over_first():
    ts = opens("24x7", "1h", "2022-01-01", "2022-02-01T07:00")
    found = targets(ts, "2022-02-01T10:00")
    assert found.n_missed == 3
    assert found.path_ts[0] == np.datetime64("2022-02-01T07:00")
    assert found.target_ts[0] == np.datetime64("2022-02-01T10:00")
    assert len(found.path_ts) == 27


def test_an_hour_that_a_symbol_never_trades_is_no_target():
    ts = opens("fx", "1h", "2021-11-01", "2022-02-01T10:00")
    ts = ts[hour_of(ts) != 22]
    found = targets(ts, "2022-02-01T10:00", horizon=48, calendar="fx")
    assert 22 not in hour_of(found.target_ts)
    assert {21, 23} <= set(hour_of(found.target_ts).tolist())


def test_the_pause_moves_with_the_local_clock():
    # A pause at 17:00 New York: 22:00 UTC in winter, 21:00 after 2022-03-13.
    ts = opens("fx", "1h", "2021-12-01", "2022-03-11T20:00")
    ts = ts[hour_of(ts) != 22]
    found = targets(ts, "2022-03-11T20:00", horizon=60, calendar="fx").target_ts
    after = found[found > np.datetime64("2022-03-14")]
    assert 21 not in hour_of(after)
    assert 22 in hour_of(after)


def test_one_missed_day_does_not_close_a_market():
    ts = opens("XNYS", "1d", "2021-06-01", "2022-02-01")
    ts = ts[ts != np.datetime64("2022-01-26")]
    found = targets(ts, "2022-02-01", horizon=5, timeframe="1d", calendar="XNYS")
    assert (
        found.target_ts.tolist()
        == opens("XNYS", "1d", "2022-02-01", "2022-02-08").tolist()
    )


def test_a_short_history_trusts_the_calendar():
    ts = opens("24x7", "1h", "2022-01-01", "2022-01-05")
    ts = ts[hour_of(ts) != 3]
    assert traded_slots(ts, schedule("24x7", "1h")).all()


def test_a_long_gap_does_not_close_every_hour():
    ts = opens("24x7", "1h", "2022-01-01", "2022-02-15")
    gap = (ts > np.datetime64("2022-01-12")) & (ts < np.datetime64("2022-02-12"))
    assert traded_slots(ts[~gap], schedule("24x7", "1h")).sum() >= 72


def test_targets_beyond_the_calendars_are_refused():
    ts = opens("XNYS", "1d", "2040-06-01", "2040-12-29")
    with pytest.raises(CalendarError, match="ends in 2040"):
        targets(ts, "2040-12-30", horizon=30, timeframe="1d", calendar="XNYS")
