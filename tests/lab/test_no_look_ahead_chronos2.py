"""Chronos-2 must not see the future: bars, and past-only channels of events."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.bars.panel import Panel
from lab.forecasters._base import ForecastRequest
from lab.forecasters.chronos2_inputs import PAST_ONLY
from tests.lab import toy_market
from tests.lab.forecasters.chronos2_models import random_forecaster, small_forecaster
from tests.lab.test_no_look_ahead import as_ofs, look_ahead
from tests.lab.toy_market import moment

EXAMPLES = settings(max_examples=2, deadline=None, derandomize=True)
GROUPS = {"BTC": "all", "EURUSD": "all", "SPY": "all"}


@pytest.mark.parametrize(
    ("timeframe", "is_grouped"), [("1h", False), ("1d", False), ("1h", True)]
)
def test_a_forecast_does_not_change_when_the_future_does(timeframe, is_grouped):
    build = random_forecaster if is_grouped else small_forecaster
    forecaster = build(groups=GROUPS if is_grouped else None)

    @EXAMPLES
    @given(as_of=as_ofs(timeframe))
    def check(as_of):
        assert look_ahead(forecaster, timeframe, as_of) == []

    check()


@EXAMPLES
@given(seed=st.integers(0, 1000))
def test_a_surprise_or_a_leader_after_the_last_bar_changes_nothing(seed):
    as_of = moment("2021-02-24T10:00")
    panel = Panel.from_tables(
        toy_market.market(), toy_market.instruments(), timeframe="1h"
    )
    one = panel.as_of(as_of, symbols=["BTC"])[0]
    rng = np.random.default_rng(seed)
    tensor = rng.standard_normal((96 + 24, 20)).astype(np.float32)
    future = tensor.copy()
    future[96:, list(PAST_ONLY)] = rng.standard_normal((24, len(PAST_ONLY)))
    found = [
        random_forecaster().forecast_requests(
            [ForecastRequest(one, as_of, events)], horizon=24
        )[0]
        for events in (tensor, future)
    ]
    assert np.array_equal(found[0].quantiles, found[1].quantiles)
