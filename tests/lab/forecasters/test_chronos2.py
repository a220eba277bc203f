"""Chronos-2 behind the contract: batches, covariates, groups, refusals."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import torch

from lab.bars.panel import Panel
from lab.errors import ForecastError
from lab.forecasters._base import ForecastRequest, ModelForecaster
from lab.forecasters.chronos2_inputs import (
    KNOWN_AHEAD,
    PAST_ONLY,
    Chronos2View,
    log_levels,
    prepared_input,
)
from lakehouse.schema.forecasts import QUANTILE_LEVELS
from tests.lab import toy_market
from tests.lab.forecasters.chronos2_models import (
    make,
    random_forecaster,
    random_pipeline,
    small_forecaster,
)
from tests.lab.toy_market import moment

AS_OF = moment("2021-02-24T10:00")
PANEL = Panel.from_tables(toy_market.market(), toy_market.instruments(), timeframe="1h")
CONTEXT = 96
HORIZON = 24


def series(as_of=AS_OF):
    return PANEL.as_of(as_of)


def many(n_series=23):
    """Series of other lengths, levels and moves; some end a few bars early."""
    rng = np.random.default_rng(4)
    found = []
    for number in range(n_series):
        one = series()[number % 3]
        length = int(rng.integers(70, 500))
        late = int(rng.integers(0, 3))
        one = one.part(slice(one.n_obs - length - late, one.n_obs - late))
        close = 10.0 ** (number % 5) * (one.close / one.close[0]) ** (1 + number % 3)
        found.append(replace(one, symbol=f"S{number}", close=close))
    return found


def events(n_obs=CONTEXT, seed=0):
    rng = np.random.default_rng(seed)
    found = np.zeros((n_obs + HORIZON, 20), dtype=np.float32)
    found[:, [0, 1, 9]] = rng.random((n_obs + HORIZON, 3)) < 0.1
    found[:, 10:18] = rng.standard_normal((n_obs + HORIZON, 8))
    found[n_obs:, list(PAST_ONLY)] = 0
    return found


def values(forecast):
    return np.stack([forecast.p10, forecast.p50, forecast.p90]), forecast.quantiles


def same_bits(left, right):
    return all(
        np.array_equal(a, b)
        for one, other in zip(left, right, strict=True)
        for a, b in zip(values(one), values(other), strict=True)
    )


def assert_close(left, right):
    """Equal to 1e-4, of the price and of the distance from it."""
    for one, other in zip(left, right, strict=True):
        assert one.symbol == other.symbol
        for a, b in zip(values(one), values(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4)
        width = np.log(one.p90 / one.p10)
        assert (np.abs(np.log(one.p10 / other.p10)) <= 1e-3 * width).all()
        assert (np.abs(np.log(one.p90 / other.p90)) <= 1e-3 * width).all()


def test_it_is_a_model_forecaster():
    found = small_forecaster()
    assert isinstance(found, ModelForecaster)
    assert found.name == "chronos2"


def test_bands_surround_the_price_and_widen():
    for one in small_forecaster().forecast(series(), as_of=AS_OF, horizon=120):
        width = np.log(one.p90 / one.p10)
        assert 2 * width[0] < width[-1]
        assert np.abs(np.log(one.p50 / one.last_close)).max() < width[-1] / 4
        assert one.p10[0] < one.last_close < one.p90[0]


def test_there_are_quantiles_and_no_paths():
    one = small_forecaster().forecast(series(), as_of=AS_OF, horizon=24)[0]
    assert one.samples is None
    assert one.quantiles.shape == (21, 24)
    assert one.quantiles.dtype == np.float32
    for name, level in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9)):
        row = one.quantiles[QUANTILE_LEVELS.index(level)]
        np.testing.assert_allclose(getattr(one, name), row, rtol=1e-6)


def test_quantiles_that_cross_are_put_in_order():
    pipeline = copy.deepcopy(random_pipeline())
    head = pipeline.model.output_patch_embedding.output_layer
    torch.nn.init.normal_(head.bias, generator=torch.Generator().manual_seed(0))
    raw = pipeline.predict(torch.randn(1, 1, 96), prediction_length=24)[0][0].numpy()
    assert (np.diff(raw, axis=0) < 0).any()
    crossed = make(pipeline, Chronos2View(96, is_mirrored=True))
    for one in crossed.forecast(series(), as_of=AS_OF, horizon=24):
        assert (np.diff(one.quantiles, axis=0) >= 0).all()


@pytest.mark.parametrize("build", [small_forecaster, random_forecaster])
def test_a_series_is_forecast_alike_alone_in_a_batch_and_in_another_order(build):
    forecaster, batch = build(), many()
    together = forecaster.forecast(batch, as_of=AS_OF, horizon=100)
    alone = [forecaster.forecast([one], as_of=AS_OF, horizon=100)[0] for one in batch]
    assert_close(alone, together)
    turned = forecaster.forecast(batch[::-1], as_of=AS_OF, horizon=100)
    assert_close(turned[::-1], together)


def test_with_covariates_too_a_series_does_not_depend_on_its_batch():
    forecaster = random_forecaster()
    requests = [
        ForecastRequest(one, AS_OF, events(min(one.n_obs, CONTEXT), seed))
        for seed, one in enumerate(many())
    ]
    requests[3] = requests[3]._replace(events=None)
    together = forecaster.forecast_requests(requests, horizon=HORIZON)
    alone = [
        forecaster.forecast_requests([one], horizon=HORIZON)[0] for one in requests
    ]
    assert_close(alone, together)


def test_eight_threads_with_one_model_get_the_serial_results():
    forecaster = random_forecaster()
    calls = [many()[start : start + 1 + start % 5] for start in range(16)]

    def call(batch):
        return forecaster.forecast(batch, as_of=AS_OF, horizon=40)

    serial = [call(batch) for batch in calls]
    with ThreadPoolExecutor(8) as pool:
        parallel = list(pool.map(call, calls * 2))
    for left, right in zip(serial * 2, parallel, strict=True):
        assert same_bits(left, right)


def test_requests_of_many_moments_are_forecast_in_one_call():
    forecaster = small_forecaster()
    moments = [AS_OF - timedelta(hours=7 * k) for k in range(4)]
    requests = [ForecastRequest(one, at) for at in moments for one in series(at)]
    found = forecaster.forecast_requests(requests, horizon=24)
    assert [one.as_of for one in found] == [one.as_of for one in requests]
    single = [forecaster.forecast_requests([one], horizon=24)[0] for one in requests]
    assert_close(single, found)


def test_what_is_not_drawn_does_not_depend_on_seed_or_samples():
    forecaster = small_forecaster()
    usual = forecaster.forecast(series(), as_of=AS_OF, horizon=5)
    other = forecaster.forecast(series(), as_of=AS_OF, horizon=5, seed=9, n_samples=0)
    assert same_bits(usual, other)
    assert other[0].seed == 9


def test_a_forecast_scales_with_the_price():
    chosen = series()
    dear = [replace(one, close=one.close * 4096.0) for one in chosen]
    forecaster = small_forecaster()
    usual = forecaster.forecast(chosen, as_of=AS_OF, horizon=24)
    for one, other in zip(
        usual, forecaster.forecast(dear, as_of=AS_OF, horizon=24), strict=True
    ):
        np.testing.assert_allclose(other.p10, 4096 * one.p10, rtol=1e-5)


def test_a_split_is_no_return():
    chosen = series()[0]
    close, is_break = chosen.close.copy(), chosen.is_break.copy()
    close[-40:] /= 7
    is_break[-40] = True
    split = replace(chosen, close=close, is_break=is_break)
    smooth = close * np.where(np.arange(len(close)) < len(close) - 40, 1 / 7, 1)
    smooth[: len(close) - 40] *= close[-40] / smooth[len(close) - 41]
    forecaster = small_forecaster()
    one, other = (
        forecaster.forecast([each], as_of=AS_OF, horizon=24)[0]
        for each in (split, replace(chosen, close=smooth))
    )
    np.testing.assert_allclose(one.p10, other.p10, rtol=1e-6)


def test_a_price_that_never_moved_is_forecast_to_stay():
    flat = replace(series()[0], close=np.full(series()[0].n_obs, 3.0))
    one = small_forecaster().forecast([flat], as_of=AS_OF, horizon=24)[0]
    np.testing.assert_allclose(values(one)[0], 3.0, rtol=1e-3)


@pytest.mark.parametrize(
    ("close", "match"),
    [(np.nan, "finite and positive"), (0.0, "finite and positive")],
)
def test_a_close_that_is_no_price_is_refused(close, match):
    bad = series()[0]
    closes = bad.close.copy()
    closes[-5] = close
    with pytest.raises(ForecastError, match=match):
        small_forecaster().forecast(
            [replace(bad, close=closes)], as_of=AS_OF, horizon=5
        )


def test_a_history_of_three_bars_is_refused():
    short = series()[0]
    short = short.part(slice(short.n_obs - 3, short.n_obs))
    with pytest.raises(ForecastError, match=r"3 bars known .* 64 needed"):
        small_forecaster().forecast([short], as_of=AS_OF, horizon=5)


def test_a_horizon_beyond_the_model_is_refused():
    with pytest.raises(ForecastError, match=r"horizon 500 .* reaches 1"):
        small_forecaster().forecast(series(), as_of=AS_OF, horizon=500)
    with pytest.raises(ForecastError, match="horizon 0"):
        small_forecaster().forecast(series(), as_of=AS_OF, horizon=0)


def test_missed_bars_are_crossed_first():
    one = series()[0]
    late = one.part(slice(0, one.n_obs - 5))
    found = small_forecaster().forecast([late], as_of=AS_OF, horizon=10)[0]
    whole = small_forecaster().forecast(
        [late], as_of=AS_OF - timedelta(hours=5), horizon=15
    )[0]
    assert np.array_equal(found.target_ts, whole.target_ts[5:])
    assert np.array_equal(found.p10, whole.p10[5:])


def test_a_window_before_the_cutoff_is_contaminated():
    for cutoff, expected in (
        (moment("2020-01-01"), False),
        (AS_OF, False),
        (moment("2022-01-01"), True),
        (None, True),
    ):
        forecaster = small_forecaster(cutoff=cutoff)
        found = forecaster.forecast(series(), as_of=AS_OF, horizon=3)
        assert {one.is_contaminated for one in found} == {expected}


# --- covariates --------------------------------------------------------------------


def conditioned(tensor, **changes):
    request = ForecastRequest(series()[0], AS_OF, tensor, "[]")
    return random_forecaster(**changes).forecast_requests([request], horizon=HORIZON)


def test_events_change_the_forecast_of_a_model_that_takes_them():
    plain = conditioned(None)
    assert not same_bits(plain, conditioned(events()))
    deaf = conditioned(events(), takes_events=False)
    assert same_bits(plain, deaf)
    assert conditioned(events())[0].event_context == "[]"
    assert deaf[0].event_context == "[]"


def test_channels_that_say_nothing_leave_the_plain_forecast():
    assert same_bits(conditioned(None), conditioned(np.zeros_like(events())))
    constant = np.ones_like(events())
    constant[:, 4] = np.nan
    assert same_bits(conditioned(None), conditioned(constant))


def test_past_only_channels_are_not_read_after_the_last_bar():
    altered = events()
    altered[CONTEXT:, list(PAST_ONLY)] = 9.0
    altered[:, 18:] = 9.0
    assert same_bits(conditioned(events()), conditioned(altered))


@pytest.mark.parametrize("channel", [0, 9, 10, 13])
def test_scheduled_channels_are_read_ahead(channel):
    altered = events()
    altered[CONTEXT + 3, channel] += 1.0
    assert not same_bits(conditioned(events()), conditioned(altered))


def test_every_channel_but_the_reserved_has_its_place():
    assert sorted(KNOWN_AHEAD + PAST_ONLY) == list(range(18))
    tensor = events()
    tensor[:, :] = np.arange(len(tensor))[:, None]
    found = prepared_input(
        log_levels(series()[0])[-CONTEXT:],
        tensor,
        view=Chronos2View(CONTEXT),
        n_steps=32,
        n_missed=2,
    )
    assert found["context"].shape == (19, CONTEXT)
    assert (found["n_covariates"], found["n_future_covariates"]) == (18, 11)
    ahead = found["future_covariates"].numpy()
    assert np.isnan(ahead[:8]).all()
    assert np.isnan(ahead[8:, :2]).all()
    assert np.isnan(ahead[8:, 2 + HORIZON :]).all()
    assert (ahead[8:, 2 : 2 + HORIZON] == np.arange(CONTEXT, CONTEXT + HORIZON)).all()


@pytest.mark.parametrize(
    ("tensor", "match"),
    [
        (np.zeros((CONTEXT, 20)), "events have shape"),
        (np.zeros((CONTEXT + HORIZON, 10)), "events have shape"),
        (np.full((CONTEXT + HORIZON, 20), np.inf), "infinity"),
    ],
)
def test_events_that_do_not_fit_are_refused(tensor, match):
    with pytest.raises(ForecastError, match=match):
        conditioned(tensor)


# --- groups ------------------------------------------------------------------------

GROUPS = {"BTC": "risk", "SPY": "risk"}


def test_mates_of_a_declared_group_see_one_another_and_others_do_not():
    plain = random_forecaster().forecast(series(), as_of=AS_OF, horizon=24)
    grouped = random_forecaster(groups=GROUPS).forecast(
        series(), as_of=AS_OF, horizon=24
    )
    changed = [
        one.symbol
        for one, other in zip(plain, grouped, strict=True)
        if np.abs(one.p10 / other.p10 - 1).max() > 1e-4
    ]
    assert changed == ["BTC", "SPY"]


def test_a_mate_of_another_moment_is_never_seen():
    forecaster = random_forecaster(groups=GROUPS)
    chosen = {one.symbol: one for one in series()}
    later = AS_OF + timedelta(hours=48)
    request = ForecastRequest(chosen["BTC"], AS_OF)
    mate = ForecastRequest(
        next(one for one in series(later) if one.symbol == "SPY"), later
    )
    alone = forecaster.forecast_requests([request], horizon=24)
    together = forecaster.forecast_requests([request, mate], horizon=24)
    assert_close(alone, together[:1])


def test_the_version_says_that_there_are_groups():
    assert random_forecaster().version == "1"
    version = random_forecaster(groups=GROUPS).version
    assert version.startswith("1+groups.")
    assert version != random_forecaster(groups={"BTC": "risk"}).version
    assert random_forecaster(groups=GROUPS).card["groups"] == GROUPS


def test_a_history_longer_than_the_model_is_refused():
    with pytest.raises(ForecastError, match="192 allowed"):
        make(random_pipeline(), Chronos2View(97, is_mirrored=True))
    with pytest.raises(ForecastError, match="at least 64"):
        make(random_pipeline(), Chronos2View(63))
