"""The past must not depend on the future: for every forecaster, score and known time.

Rows known after a decision time are changed, deleted and added; what was decided at
that time has to stay bit-equal. Forecasters are walked from their registry, so one
that is added later is covered without a change here. A forecaster with a planted leak
proves that the check can fail.
"""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.bars.calendars import bars_per_year
from lab.bars.panel import Panel, series_as_of
from lab.bars.resample import daily_bars
from lab.bars.targets import forecast_targets
from lab.bars.timeframes import to_instant
from lab.forecasters.batches import forecast_panel, skip_reason
from lab.forecasters.frames import predictions_table
from lab.forecasters.naive import NaiveForecaster
from lab.forecasters.registry import FORECASTERS
from lab.scoring.predictions import settle_predictions
from tests.lab import toy_market
from tests.lab.toy_market import CALENDARS, altered_futures, moment

MARKET = toy_market.market()
INSTRUMENTS = toy_market.instruments()
NOW = moment("2022-01-01")
SPANS = {
    "1h": (moment("2021-02-20"), 24 * 20),
    "1d": (moment("2020-06-01"), 24 * 300),
}
EXAMPLES = settings(max_examples=6, deadline=None, derandomize=True)


class LeakingForecaster(NaiveForecaster):
    """Starts from the newest bar of the series, known or not."""

    def forecast(self, series, *, as_of, horizon, n_samples=20, seed=0):
        horizon_end = as_of + timedelta(days=3650)
        last = [one.until(horizon_end).close[-1] for one in series]
        honest = super().forecast(
            series, as_of=as_of, horizon=horizon, n_samples=n_samples, seed=seed
        )
        for forecast, close in zip(honest, last, strict=True):
            forecast.p90[:] = np.maximum(forecast.p90, close)
        return honest


def as_ofs(timeframe):
    begin, hours = SPANS[timeframe]
    return st.integers(0, hours * 12).map(lambda n: begin + timedelta(minutes=5 * n))


def forecast_rows(forecaster, ohlcv, timeframe, as_of):
    """Forecasts by the flows' way, and from series that hold the future too."""
    panel = Panel.from_tables(ohlcv, INSTRUMENTS, timeframe=timeframe)
    cut = panel.as_of(as_of, context=forecaster.context)
    whole = [panel.series[one.symbol] for one in cut]
    tables = []
    for series in (cut, whole):
        batch = forecast_panel(forecaster, series, as_of=as_of, horizon=30)
        ready = [
            one
            for one in series
            if skip_reason(one.until(as_of), forecaster, as_of=as_of) is None
        ]
        direct = forecaster.forecast(ready, as_of=as_of, horizon=30)
        tables += [batch.forecasts, direct]
    rows = [one for table in tables for one in table]
    return predictions_table(rows, generated_at=NOW, run_id="run")


def look_ahead(forecaster, timeframe, as_of):
    """Names of the futures that changed the forecaster's answer."""
    expected = forecast_rows(forecaster, MARKET, timeframe, as_of)
    assert expected.num_rows > 0
    futures = altered_futures(MARKET, as_of, np.random.default_rng(1))
    return [
        name
        for name, ohlcv in futures
        if not forecast_rows(forecaster, ohlcv, timeframe, as_of).equals(expected)
    ]


@pytest.mark.parametrize("timeframe", ["1h", "1d"])
@pytest.mark.parametrize("name", sorted(FORECASTERS))
def test_a_forecast_does_not_change_when_the_future_does(name, timeframe):
    @EXAMPLES
    @given(as_of=as_ofs(timeframe))
    def check(as_of):
        assert look_ahead(FORECASTERS[name](), timeframe, as_of) == []

    check()


def test_a_planted_leak_is_found():
    found = look_ahead(LeakingForecaster(), "1h", moment("2021-02-24T10:00"))
    assert {"other values", "new rows", "deleted"} <= set(found)


@pytest.mark.parametrize("timeframe", ["1h", "1d"])
def test_series_do_not_change_when_the_future_does(timeframe):
    @EXAMPLES
    @given(as_of=as_ofs(timeframe))
    def check(as_of):
        expected = columns_of(MARKET, timeframe, as_of)
        for name, ohlcv in altered_futures(MARKET, as_of, np.random.default_rng(2)):
            assert columns_of(ohlcv, timeframe, as_of) == expected, name

    check()


def columns_of(ohlcv, timeframe, as_of):
    series = series_as_of(
        ohlcv, INSTRUMENTS, timeframe=timeframe, as_of=as_of, context=None
    )
    return {
        one.symbol: (
            one.ts.tobytes(),
            one.close.tobytes(),
            one.is_break.tobytes(),
            forecast_targets(
                one.ts,
                as_of=as_of,
                horizon=50,
                timeframe=timeframe,
                calendar=one.calendar,
            ).path_ts.tobytes(),
        )
        for one in series
    }


@pytest.fixture(scope="module")
def predictions():
    forecasts = []
    for timeframe, (begin, hours) in SPANS.items():
        panel = Panel.from_tables(MARKET, INSTRUMENTS, timeframe=timeframe)
        for name in sorted(FORECASTERS):
            forecaster = FORECASTERS[name]()
            for k in range(8):
                as_of = begin + timedelta(hours=hours / 8 * k, minutes=55)
                series = panel.as_of(as_of, context=forecaster.context)
                forecasts += forecast_panel(
                    forecaster, series, as_of=as_of, horizon=120
                ).forecasts
    return predictions_table(forecasts, generated_at=NOW, run_id="run")


def settled(predictions, ohlcv, cut):
    scores = settle_predictions(
        predictions, ohlcv, INSTRUMENTS, now=NOW, run_id="run"
    ).scores
    known = scores["known_ts"].cast(pa.timestamp("us")).to_numpy()
    return scores.filter(pa.array(known <= to_instant(cut)))


@pytest.mark.parametrize("cut", ["2020-09-01T20:30", "2021-02-26T12:00"])
def test_a_score_does_not_change_when_bars_after_its_target_do(predictions, cut):
    expected = settled(predictions, MARKET, moment(cut))
    assert expected.num_rows > 50
    futures = altered_futures(MARKET, moment(cut), np.random.default_rng(3))
    for name, ohlcv in futures:
        assert settled(predictions, ohlcv, moment(cut)).equals(expected), name


def test_scoring_at_an_earlier_time_gives_the_same_scores_for_what_was_known(
    predictions,
):
    cut = moment("2021-02-26T12:00")
    then = settle_predictions(predictions, MARKET, INSTRUMENTS, now=cut, run_id="run")
    later = settled(predictions, MARKET, cut)
    assert then.n_waiting > 0
    assert then.scores.drop(["scored_at"]).equals(later.drop(["scored_at"]))


@pytest.mark.parametrize("symbol", sorted(CALENDARS))
def test_daily_bars_do_not_change_when_the_future_does(symbol):
    as_of = moment("2021-02-24T16:30")

    def days(ohlcv):
        rows = [
            row
            for row in ohlcv.to_pylist()
            if row["symbol"] == symbol and row["timeframe"] == "1h"
        ]
        hourly = pa.Table.from_pylist(rows, schema=ohlcv.schema)
        return daily_bars(hourly, calendar=CALENDARS[symbol], as_of=as_of)

    expected = days(MARKET)
    assert expected.num_rows > 20
    for name, ohlcv in altered_futures(MARKET, as_of, np.random.default_rng(4)):
        assert days(ohlcv).equals(expected), name


@settings(max_examples=30, deadline=None, derandomize=True)
@given(at=st.integers(1, 699))
def test_bars_per_year_counts_no_later_bar(at):
    ts = np.arange(700).astype("datetime64[D]").astype("datetime64[us]")
    alone = bars_per_year(ts[: at + 1])
    assert alone == bars_per_year(ts, ts[at : at + 1])
