"""Kronos must not see the future."""

import pytest
from hypothesis import given, settings

from tests.lab.forecasters.kronos.small_forecaster import small_forecaster
from tests.lab.test_no_look_ahead import as_ofs, look_ahead

EXAMPLES = settings(max_examples=1, deadline=None, derandomize=True)


@pytest.mark.parametrize("timeframe", ["1h", "1d"])
def test_a_forecast_does_not_change_when_the_future_does(timeframe):
    forecaster = small_forecaster()

    @EXAMPLES
    @given(as_of=as_ofs(timeframe))
    def check(as_of):
        assert look_ahead(forecaster, timeframe, as_of) == []

    check()
