"""What every registered forecaster has to keep."""

from dataclasses import replace

import numpy as np
import pytest

from lab.bars.panel import Panel
from lab.errors import ForecastError
from lab.forecasters._base import Forecast
from lab.forecasters.batches import forecast_panel
from lab.forecasters.frames import predictions_table
from lab.forecasters.registry import FORECASTERS, make_forecaster
from tests.lab import toy_market
from tests.lab.toy_market import moment

MARKET = toy_market.market()
INSTRUMENTS = toy_market.instruments()
AS_OF = moment("2021-02-24T10:55")
each_forecaster = pytest.mark.parametrize("name", sorted(FORECASTERS))


def series(timeframe="1h", as_of=AS_OF):
    return Panel.from_tables(MARKET, INSTRUMENTS, timeframe=timeframe).as_of(as_of)


def forecast(name, chosen, as_of=AS_OF, horizon=24, **kwargs):
    return make_forecaster(name).forecast(
        chosen, as_of=as_of, horizon=horizon, **kwargs
    )


def rows(forecasts):
    table = predictions_table(forecasts, generated_at=AS_OF, run_id="run")
    return {row["symbol"]: row for row in table.to_pylist()}


@each_forecaster
@pytest.mark.parametrize("timeframe", ["1h", "1d"])
def test_forecasts_have_bands_around_the_price(name, timeframe):
    as_of = {"1h": AS_OF, "1d": moment("2020-11-30T12:00")}[timeframe]
    found = forecast(name, series(timeframe, as_of), as_of=as_of, horizon=120)
    assert len(found) == 3
    for one in found:
        assert one.p50.shape == one.p10.shape == one.p90.shape == (120,)
        assert one.samples.shape == (20, 120)
        assert one.samples.dtype == np.float32
        assert (one.p10 < one.p90).all()
        width = np.log(one.p90 / one.p10)
        assert width[-1] > 2 * width[0] > 0
        assert 0.5 < one.p50[0] / one.last_close < 2
        assert (one.target_ts > np.datetime64(one.last_ts.replace(tzinfo=None))).all()


@each_forecaster
def test_the_same_request_gives_the_same_bits(name):
    assert rows(forecast(name, series())) == rows(forecast(name, series()))
    other = rows(forecast(name, series(), seed=1))
    assert other["BTC"]["p10"] != rows(forecast(name, series()))["BTC"]["p10"]


@each_forecaster
def test_a_symbol_is_forecast_alike_alone_in_a_batch_and_in_any_order(name):
    together = rows(forecast(name, series()))
    backwards = rows(forecast(name, series()[::-1]))
    alone = {one.symbol: rows(forecast(name, [one]))[one.symbol] for one in series()}
    assert together == backwards == alone


@each_forecaster
def test_quantiles_do_not_depend_on_the_number_of_samples(name):
    few, many, none = (forecast(name, series(), n_samples=n)[0] for n in (3, 400, 0))
    assert few.samples.shape[0] == 3
    assert none.samples is None
    assert few.p10.tobytes() == many.p10.tobytes() == none.p10.tobytes()
    assert set(few.samples[:, 0]) <= set(many.samples[:, 0])


@each_forecaster
def test_bars_beyond_the_models_context_change_nothing(name):
    model = make_forecaster(name)
    long = series("1h")[0]
    assert long.n_obs > model.context or name == "seasonal"
    cut = long.part(slice(max(0, long.n_obs - model.context), long.n_obs))
    assert rows(forecast(name, [long])) == rows(forecast(name, [cut]))


@each_forecaster
def test_a_short_series_is_refused_alone_and_skipped_in_a_panel(name):
    short = [one.part(slice(one.n_obs - 99, one.n_obs)) for one in series()]
    with pytest.raises(ForecastError, match=r"BTC 1h: 99 bars known .* 100 needed"):
        forecast(name, short)
    batch = forecast_panel(
        make_forecaster(name), [short[0], *series()[1:]], as_of=AS_OF, horizon=4
    )
    assert [one.symbol for one in batch.forecasts] == ["EURUSD", "SPY"]
    assert batch.skips == [("BTC", "99 bars known, 100 needed")]


@each_forecaster
def test_a_series_that_ended_is_skipped_as_stale(name):
    later = moment("2021-06-01T00:00")
    batch = forecast_panel(make_forecaster(name), series(), as_of=later, horizon=4)
    assert batch.forecasts == []
    assert all(skip.reason.startswith("stale: last bar 2021-") for skip in batch.skips)


@each_forecaster
def test_a_late_series_is_forecast_across_what_it_missed(name):
    whole = series()[0]
    late = whole.part(slice(0, whole.n_obs - 20))
    on_time, behind = forecast(name, [whole])[0], forecast(name, [late])[0]
    assert (on_time.target_ts == behind.target_ts).all()
    width = [np.log(one.p90[0] / one.p10[0]) for one in (on_time, behind)]
    assert width[1] > 2 * width[0]


@each_forecaster
def test_a_price_that_never_moved_is_forecast_not_to_move(name):
    one = series()[0]
    flat = replace(one, close=np.full(one.n_obs, 7.0))
    found = forecast(name, [flat])[0]
    np.testing.assert_allclose(found.p10, 7.0)
    np.testing.assert_allclose(found.p90, 7.0)


@each_forecaster
def test_a_suspected_split_does_not_widen_the_bands(name):
    one = series()[0]
    ratio = np.where(np.arange(one.n_obs) < one.n_obs - 200, 4.0, 1.0)
    is_break = np.arange(one.n_obs) == one.n_obs - 200
    split = replace(one, close=one.close * ratio, is_break=is_break)
    plain, found = forecast(name, [one])[0], forecast(name, [split])[0]
    width = [np.log(x.p90[-1] / x.p10[-1]) for x in (plain, found)]
    assert width[1] == pytest.approx(width[0], rel=0.1)


@each_forecaster
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"horizon": 0}, "horizon 0: allowed are 1 to 1000"),
        ({"n_samples": 401}, "samples 401: allowed are 0 to 400"),
        ({"seed": -1}, "seed -1: allowed are 0 to"),
    ],
)
def test_a_bad_request_is_refused_with_what_is_allowed(name, bad, message):
    with pytest.raises(ForecastError, match=message):
        forecast(name, series(), **bad)


def test_an_unknown_model_is_refused_with_what_there_is():
    with pytest.raises(ForecastError, match="'oracle': allowed are naive, seasonal"):
        make_forecaster("oracle")


@each_forecaster
def test_versions_name_code_and_parameters(name):
    model = make_forecaster(name)
    changed = type(model)(replace(model.parameters, mean_block=11.0))
    assert model.version != changed.version
    assert model.version.split("+")[0] == changed.version.split("+")[0]
    assert model.version == make_forecaster(name).version


def good_forecast(**changes):
    one = forecast("naive", series(), horizon=3)[0]
    return replace(one, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p10": np.array([1e9, 1e9, 1e9])}, "p10 <= p50 <= p90"),
        ({"p50": np.array([1.0, np.nan, 1.0])}, "finite and positive"),
        ({"p10": np.array([-1.0, 1.0, 1.0])}, "finite and positive"),
        ({"p90": np.ones(2)}, r"p90 must have shape \(3,\)"),
        ({"samples": np.ones((5, 2), np.float32)}, r"shape \(n_samples, 3\)"),
        (
            {"samples": np.zeros((5, 3), np.float32)},
            "samples must be finite and positive",
        ),
        ({"last_close": 0.0}, "last_close must be finite and positive"),
        ({"target_ts": np.array([], "datetime64[us]")}, "no target bars"),
        ({"as_of": AS_OF.replace(tzinfo=None)}, "aware of their time zone"),
        ({"last_ts": moment("2030-01-01")}, "increase from last_ts on"),
    ],
)
def test_what_is_no_forecast_is_refused(changes, message):
    assert isinstance(good_forecast(), Forecast)
    with pytest.raises(ForecastError, match=message):
        good_forecast(**changes)
