import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from lab.bars.resample import daily_bars
from lab.bars.schedules import schedule
from tests.lab.toy_market import bars, moment


def hourly(calendar, start, stop, seed=0):
    opens = schedule(calendar, "1h").opens
    ts = opens[(opens >= np.datetime64(start)) & (opens < np.datetime64(stop))]
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(len(ts))))
    table = bars("X", "1h", ts, close)
    volume = pa.array(rng.random(len(ts)))
    return table.set_column(table.column_names.index("volume"), "volume", volume)


@pytest.mark.parametrize("calendar", ["24x7", "fx", "XNYS", "XTKS"])
def test_daily_bars_keep_the_aggregates_of_their_hours(calendar):
    hours = hourly(calendar, "2022-01-10", "2022-03-01")
    days = daily_bars(hours, calendar=calendar, as_of=moment("2022-03-02"))
    grid = schedule(calendar, "1d").opens
    ts = days["ts"].cast(pa.timestamp("us")).to_numpy()
    assert np.isin(ts, grid).all()
    assert days.num_rows > 20
    x, y = pl.from_arrow(hours), pl.from_arrow(days)
    assert y["high"].max() == x["high"].max()
    assert y["low"].min() == x["low"].min()
    assert y["open"][0] == x["open"][0]
    assert y["close"][-1] == x["close"][-1]
    assert y["volume"].sum() == pytest.approx(x["volume"].sum())
    assert (y["high"] >= y["low"]).all()


def test_the_sunday_hours_of_fx_are_mondays():
    hours = hourly("fx", "2022-03-06", "2022-03-08")
    days = daily_bars(hours, calendar="fx", as_of=moment("2022-03-09"))
    assert days.num_rows == 1
    assert days["ts"][0].as_py() == moment("2022-03-07")
    assert days["open"][0] == hours["open"][0]


def test_a_session_that_is_not_over_gives_no_bar():
    hours = hourly("XNYS", "2022-03-01", "2022-03-03")
    assert (
        daily_bars(hours, calendar="XNYS", as_of=moment("2022-03-02T20:59")).num_rows
        == 1
    )
    assert (
        daily_bars(hours, calendar="XNYS", as_of=moment("2022-03-02T21:00")).num_rows
        == 2
    )


def test_unknown_volume_makes_the_days_volume_unknown():
    hours = hourly("24x7", "2022-03-01", "2022-03-03")
    volume = [1.0] * 24 + [None] + [1.0] * 23
    at = hours.column_names.index("volume")
    hours = hours.set_column(at, "volume", pa.array(volume, pa.float64()))
    days = daily_bars(hours, calendar="24x7", as_of=moment("2022-03-03"))
    assert days["volume"].to_pylist() == [24.0, None]
