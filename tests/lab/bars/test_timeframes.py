from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from lab.bars.timeframes import HORIZONS, step, to_instant, to_moment
from lab.errors import BarsError


def test_steps_are_an_hour_and_a_day():
    assert step("1h") == np.timedelta64(1, "h")
    assert step("1d") == np.timedelta64(1, "D")


def test_an_unknown_timeframe_is_refused_with_what_is_allowed():
    with pytest.raises(BarsError, match="'5m': allowed are 1h, 1d"):
        step("5m")


def test_moments_survive_the_way_there_and_back():
    moment = datetime(2022, 3, 4, 21, 0, 0, 123456, tzinfo=UTC)
    assert to_moment(to_instant(moment)) == moment
    local = moment.astimezone(timezone(timedelta(hours=5)))
    assert to_instant(local) == to_instant(moment)
    assert to_instant(np.datetime64("2022-03-04")).dtype == np.dtype("datetime64[us]")


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(BarsError, match="time zone is required"):
        to_instant(datetime(2022, 3, 4))  # noqa: DTZ001 - the point of the test


def test_horizons_are_those_of_the_requirements():
    assert HORIZONS["1h"] == (1, 4, 24, 120)
    assert HORIZONS["1d"] == (1, 5, 20, 60, 120)
