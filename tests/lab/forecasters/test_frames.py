from dataclasses import replace
from datetime import timedelta, timezone

import numpy as np
import pytest

from lab.bars.panel import Panel
from lab.errors import ForecastError
from lab.forecasters.frames import prediction_id, predictions_table
from lab.forecasters.naive import NaiveForecaster
from lakehouse.schema.forecasts import ML_PREDICTIONS
from tests.lab import toy_market
from tests.lab.toy_market import moment

AS_OF = moment("2021-02-24T10:00")
IDENTITY = {
    "symbol": "BTC",
    "timeframe": "1h",
    "model_name": "naive",
    "model_version": "1",
    "as_of": AS_OF,
    "seed": 0,
}


@pytest.fixture(scope="module")
def forecasts():
    panel = Panel.from_tables(
        toy_market.market(), toy_market.instruments(), timeframe="1h"
    )
    return NaiveForecaster().forecast(panel.as_of(AS_OF), as_of=AS_OF, horizon=6)


def test_forecasts_become_rows_of_ml_predictions(forecasts):
    table = predictions_table(forecasts, generated_at=AS_OF, run_id="run")
    assert table.schema.equals(ML_PREDICTIONS.to_arrow())
    row = table.to_pylist()[0]
    assert row["symbol"] == "BTC"
    assert row["p50"] == forecasts[0].p50.tolist()
    assert row["target_ts"][0] == AS_OF
    assert row["last_ts"] == AS_OF - timedelta(hours=1)
    assert row["known_ts"] == row["as_of"] == AS_OF
    assert np.array(row["samples"]).shape == (20, 6)


def test_a_model_without_paths_has_null_samples(forecasts):
    quantiles_only = [replace(one, samples=None) for one in forecasts]
    table = predictions_table(quantiles_only, generated_at=AS_OF, run_id="run")
    assert table["samples"].null_count == len(forecasts)


def test_a_grid_of_quantiles_is_kept_with_its_forecast(forecasts):
    grid = np.linspace(90, 110, 21)[:, None] * np.ones(6)
    with_grid = [replace(one, quantiles=grid) for one in forecasts]
    table = predictions_table(with_grid, generated_at=AS_OF, run_id="run")
    assert np.array(table["quantiles"][0].as_py()) == pytest.approx(grid)
    plain = predictions_table(forecasts, generated_at=AS_OF, run_id="run")
    assert plain["quantiles"].null_count == len(forecasts)


@pytest.mark.parametrize(
    ("grid", "match"),
    [
        (np.ones((9, 6)), "shape"),
        (np.full((21, 6), -1.0), "finite and positive"),
        (np.linspace(2, 1, 21)[:, None] * np.ones(6), "must not fall"),
    ],
)
def test_a_grid_that_is_none_is_refused(forecasts, grid, match):
    with pytest.raises(ForecastError, match=match):
        replace(forecasts[0], quantiles=grid)


def test_no_forecasts_are_no_rows():
    table = predictions_table([], generated_at=AS_OF, run_id="run")
    assert table.num_rows == 0
    assert table.schema.equals(ML_PREDICTIONS.to_arrow())


@pytest.mark.parametrize(
    "change",
    [
        {"symbol": "ETH"},
        {"timeframe": "1d"},
        {"model_name": "seasonal"},
        {"model_version": "2"},
        {"as_of": AS_OF + timedelta(microseconds=1)},
        {"seed": 1},
    ],
)
def test_each_part_of_a_request_makes_another_identity(change):
    assert prediction_id(**IDENTITY) != prediction_id(**{**IDENTITY, **change})


def test_an_identity_does_not_depend_on_how_the_time_is_written():
    elsewhere = AS_OF.astimezone(timezone(timedelta(hours=9)))
    assert prediction_id(**{**IDENTITY, "as_of": elsewhere}) == prediction_id(
        **IDENTITY
    )
    assert prediction_id(**IDENTITY) == "c5df2f4686e79c42fd09873dd340decf"
