"""Kronos behind the forecasters' contract."""

import threading
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import torch

from lab.errors import ForecastError
from lab.forecasters._base import ForecastRequest, ModelForecaster
from lab.forecasters.kronos.adapter import EventAdapter
from lab.forecasters.kronos.forecaster import FLOOR
from tests.lab.forecasters.kronos.small_forecaster import (
    AS_OF,
    CONTEXT,
    WINDOW,
    series,
    small_forecaster,
)

FORECASTER = small_forecaster()
SERIES = series()


def run(chosen=SERIES, forecaster=FORECASTER, as_of=AS_OF, horizon=12, **kwargs):
    return forecaster.forecast(chosen, as_of=as_of, horizon=horizon, **kwargs)


def bits(forecast):
    parts = (forecast.p10, forecast.p50, forecast.p90, forecast.samples)
    return [part.tobytes() for part in parts]


def test_forecasts_have_bands_of_real_paths():
    assert isinstance(FORECASTER, ModelForecaster)
    found = run()
    assert [one.symbol for one in found] == [one.symbol for one in SERIES]
    for one in found:
        assert one.samples.shape == (20, 12)
        assert one.samples.dtype == np.float32
        band = np.quantile(
            one.samples.astype(float), [0.1, 0.5, 0.9], axis=0, method="weibull"
        )
        np.testing.assert_allclose([one.p10, one.p50, one.p90], band, rtol=1e-6)
        assert (one.known_ts, one.seed, one.model_name) == (AS_OF, 0, "kronos")


def test_a_forecast_is_the_same_alone_and_together():
    together = run()
    for one, expected in zip(SERIES, together, strict=True):
        assert bits(run([one])[0]) == bits(expected)
    turned = run(list(reversed(SERIES)))
    assert [bits(one) for one in reversed(turned)] == [bits(one) for one in together]


def test_bands_and_paths_do_not_depend_on_how_many_paths_are_returned():
    usual, few, many = run(), run(n_samples=9), run(n_samples=45)
    for one, short, long in zip(usual, few, many, strict=True):
        for other in (short, long):
            np.testing.assert_array_equal(one.p10, other.p10)
            np.testing.assert_array_equal(one.p90, other.p90)
        np.testing.assert_array_equal(one.samples[:9], short.samples)
        np.testing.assert_array_equal(one.samples, long.samples[:20])


def test_a_longer_horizon_begins_with_the_shorter_one():
    for short, long in zip(run(horizon=5), run(horizon=30), strict=True):
        np.testing.assert_allclose(long.samples[:, :5], short.samples, rtol=1e-5)


def test_the_seed_the_symbol_and_the_moment_decide_the_draws():
    base = run()[0]
    assert bits(run()[0]) == bits(base)
    assert bits(run(seed=1)[0]) != bits(base)
    renamed = replace(SERIES[0], symbol="OTHER")
    assert bits(run([renamed])[0]) != bits(base)
    later = AS_OF + timedelta(minutes=1)
    assert bits(run(as_of=later)[0]) != bits(base)


def test_bars_before_the_context_change_nothing():
    cut = [one.part(slice(one.n_obs - 1050, one.n_obs)) for one in SERIES]
    assert [bits(one) for one in run(cut)] == [bits(one) for one in run()]


def test_eight_threads_with_mixed_requests_give_the_serial_bits():
    requests = [
        ForecastRequest(
            one.until(AS_OF - timedelta(hours=k)), AS_OF - timedelta(hours=k)
        )
        for one in SERIES
        for k in range(6)
    ]
    serial = [
        bits(FORECASTER.forecast_requests([one], horizon=9)[0]) for one in requests
    ]
    wrong = []

    def work(seed):
        chosen = np.random.default_rng(seed).permutation(len(requests))[:7]
        found = FORECASTER.forecast_requests([requests[k] for k in chosen], horizon=9)
        pairs = zip(chosen, found, strict=True)
        wrong.extend(int(k) for k, one in pairs if bits(one) != serial[k])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_big_batches_are_forecast_in_parts():
    many = [replace(SERIES[0], symbol=f"S{k}") for k in range(70)]
    found = run(many, horizon=2)
    assert bits(found[65]) == bits(run([many[65]], horizon=2)[0])


def test_windows_before_the_cut_off_or_with_an_unknown_one_are_contaminated():
    assert not run()[0].is_contaminated
    for cutoff in (None, AS_OF + timedelta(seconds=1)):
        assert run(forecaster=small_forecaster(cutoff=cutoff))[0].is_contaminated


def test_without_events_an_adapter_changes_no_bit():
    adapter = EventAdapter(48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        adapter.outer.weight.normal_(generator=torch.Generator().manual_seed(1))
    conditioned = small_forecaster(adapter=adapter)
    assert conditioned.takes_events
    assert not FORECASTER.takes_events
    assert bits(run(forecaster=conditioned)[0]) == bits(run()[0])
    events = np.random.default_rng(0).standard_normal((CONTEXT + 12, 20))
    request = ForecastRequest(SERIES[0], AS_OF, events.astype(np.float32), "{}")
    plain = ForecastRequest(SERIES[1], AS_OF)
    found = conditioned.forecast_requests([request, plain], horizon=12)
    assert bits(found[0]) != bits(run()[0])
    assert bits(found[1]) == bits(run()[1])
    assert found[0].event_context == "{}"
    ignored = FORECASTER.forecast_requests([request], horizon=12)[0]
    assert bits(ignored) == bits(run()[0])
    short = request._replace(events=events[1:])
    with pytest.raises(ForecastError, match=f"{CONTEXT} \\+ 12 needed"):
        conditioned.forecast_requests([short], horizon=12)


def changed(**columns):
    return replace(SERIES[0], **columns)


def test_unknown_and_zero_volume_are_the_same():
    zero = changed(volume=np.zeros(SERIES[0].n_obs))
    assert np.isnan(SERIES[0].volume).all()
    assert bits(run([zero])[0]) == bits(run()[0])


def test_constant_bars_are_forecast_as_constant():
    flat = np.full(SERIES[0].n_obs, 1_234_567.8)
    one = run([changed(open=flat, high=flat, low=flat, close=flat)])[0]
    np.testing.assert_allclose(one.samples, 1_234_567.8, rtol=1e-6)
    assert (one.p10 <= one.p90).all()


def test_decoded_closes_at_or_below_zero_are_raised_to_the_floor():
    rng = np.random.default_rng(0)
    close = np.where(rng.random(SERIES[0].n_obs) < 0.9, 1e-3, 100.0)
    wild = changed(open=close, high=close, low=close, close=close)
    forecast = run([wild], horizon=40, n_samples=100)[0]
    assert forecast.samples.min() > 0
    np.testing.assert_allclose(forecast.samples.min(), FLOOR * forecast.last_close)


def spoilt(column, value):
    values = getattr(SERIES[0], column).copy()
    values[-3] = value
    return changed(**{column: values})


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (spoilt("close", np.nan), "BTC 1h: bars: close holds values"),
        (spoilt("open", np.inf), "BTC 1h: bars: open holds values"),
        (spoilt("volume", np.inf), "BTC 1h: bars: volume holds values"),
        (spoilt("high", 1e-9), "BTC 1h: a bar's high is below its low"),
        (SERIES[0].part(slice(0, 3)), "BTC 1h: 3 bars known"),
    ],
)
def test_bars_that_give_no_forecast_are_refused(one, message):
    with pytest.raises(ForecastError, match=message):
        run([one])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"horizon": WINDOW + 1}, f"reaches {WINDOW}"),
        ({"horizon": 0}, "1 to 1000"),
        ({"n_samples": 8}, "takes 9 or more"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(request_, message):
    with pytest.raises(ForecastError, match=message):
        run(**request_)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_paths": 8}, "9 to 400"),
        ({"window": 1}, "at least 2"),
        ({"context": 3}, "at least 16"),
        ({"temperature": 0}, "use top_k = 1"),
        ({"top_k": None}, "0 is off"),
    ],
)
def test_settings_that_give_no_forecast_are_refused(settings, message):
    with pytest.raises(ForecastError, match=message):
        small_forecaster(**settings)
