"""Conformal bands: raw at first, then as wide as what settled says."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lab.errors import ScoringError
from lab.forecasters.conformal import (
    COVERAGE,
    CellRows,
    ConformalParameters,
    band_scores,
    between_horizons,
    calibrate,
    stretched,
)
from lab.forecasters.conformal_rows import GIVEN_COLUMNS, band_rows
from lab.scoring.unfold import times
from tests.lab import forecast_history

DAY = np.timedelta64(1, "D").astype("timedelta64[us]")
START = np.datetime64("2021-01-01", "us")


def cell_rows(score, *, n_symbols=1, is_event=None, delay=1, asset_class=None):
    """One forecast a symbol and day; scores of shape (n_days, n_symbols)."""
    n_days = len(score)
    day = np.repeat(np.arange(n_days), n_symbols)
    symbol = np.tile(np.arange(n_symbols), n_days)
    return CellRows(
        symbol=symbol,
        asset_class=np.zeros_like(symbol) if asset_class is None else asset_class,
        as_of=START + day * DAY,
        known=START + (day + delay) * DAY,
        score=np.asarray(score, dtype=np.float64).ravel(),
        block=day // delay,
        is_event=np.zeros(len(day), dtype=np.bool_) if is_event is None else is_event,
        factor=np.full(len(day), np.nan),
    )


def calibrated(rows, delay=1, **settings):
    return calibrate(rows, span=DAY * delay, parameters=ConformalParameters(**settings))


def normal_scores(n_days, n_symbols, width, seed=0):
    """Scores of normal outcomes whose raw band has `width` times the right width."""
    draws = np.random.default_rng(seed).standard_normal((n_days, n_symbols))
    return np.abs(draws) / 1.2815515655446004 / width


def test_a_score_is_the_factor_at_which_the_band_ends_at_the_outcome():
    p10, p50, p90 = (
        np.array([90.0, 95.0]),
        np.array([100.0, 100]),
        np.array([120.0, 101]),
    )
    actual = np.array([80.0, 103.0])
    factor = band_scores(p10, p50, p90, actual)
    low, high = stretched(p10, p50, p90, factor)
    assert low[0] == pytest.approx(80)
    assert high[1] == pytest.approx(103)
    assert (low <= p50).all()
    assert (high >= p50).all()


def test_a_band_without_width_gives_no_label():
    one = np.array([100.0])
    assert np.isnan(band_scores(one, one, one, np.array([101.0])))


def test_before_any_label_the_band_is_raw():
    found = calibrated(cell_rows(normal_scores(3, 2, 1.0), n_symbols=2, delay=5), 5)
    assert (found.factor == 1).all()
    assert (found.level == COVERAGE).all()
    assert (found.n_labels == 0).all()


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("delay", [1, 5])
def test_the_band_keeps_its_promise_whatever_the_raw_one_did(width, delay):
    score = normal_scores(200, 8, width)
    found = calibrated(cell_rows(score, n_symbols=8, delay=delay), delay)
    is_covered = (score.ravel() <= found.factor).reshape(200, 8)[40:]
    assert is_covered.mean() == pytest.approx(COVERAGE, abs=0.03)
    assert np.median(found.factor[-800:]) == pytest.approx(1 / width, rel=0.15)


def test_a_symbol_that_differs_from_its_class_gets_its_own_band():
    score = normal_scores(300, 6, 1.0)
    score[:, 0] *= 3
    found = calibrated(cell_rows(score, n_symbols=6)).factor.reshape(300, 6)
    assert np.median(found[-50:, 0]) > 1.8 * np.median(found[-50:, 1:])
    covered = (score <= found)[100:].mean(axis=0)
    assert np.abs(covered - COVERAGE).max() < 0.1


def test_a_burst_widens_the_band_within_days_and_a_calm_narrows_it():
    score = normal_scores(200, 10, 1.0)
    score[100:130] *= 2.5
    found = calibrated(cell_rows(score, n_symbols=10)).factor.reshape(200, 10)
    assert found[110].mean() > 1.3 * found[95].mean()
    assert found[-1].mean() < found[129].mean()


def test_event_days_have_a_band_of_their_own():
    score = normal_scores(300, 5, 1.0)
    is_event = np.arange(300) % 5 == 0
    score[is_event] *= 2
    rows = cell_rows(score, n_symbols=5, is_event=np.repeat(is_event, 5))
    found = calibrated(rows).factor.reshape(300, 5)[150:]
    assert found[is_event[150:]].mean() > 1.5 * found[~is_event[150:]].mean()
    covered = (score[150:] <= found).mean(axis=1)
    assert covered[is_event[150:]].mean() == pytest.approx(COVERAGE, abs=0.12)


def test_a_longer_horizon_starts_from_what_the_shorter_one_learnt():
    rows = cell_rows(normal_scores(4, 2, 1.0), n_symbols=2, delay=9)
    centre = {START + k * DAY: 1.7 for k in range(4)}
    found = calibrate(
        rows, span=9 * DAY, parameters=ConformalParameters(), shorter=centre
    )
    start = 1.7 ** ConformalParameters().carried
    assert found.factor == pytest.approx(start)
    assert list(found.centre.values()) == pytest.approx([start] * 4)


def test_the_level_moves_with_misses_and_stays_in_its_bounds():
    missed = calibrated(cell_rows(1.1 ** np.arange(10, 130)[:, None]))
    assert missed.level[-1] == ConformalParameters().highest_level
    covered = calibrated(cell_rows(np.full((400, 3), 1e-3), n_symbols=3))
    # 0.01/(1 - 0.97) of the symbol's and 3/5 of 0.05/(1 - 0.95) of the panel's 0.2.
    assert covered.level[-1] == pytest.approx(0.8 - 0.2 * (1 / 3 + 0.6), abs=1e-3)


def test_steps_between_horizons_lie_between_their_factors():
    found = between_horizons(np.array([1, 4, 24]), np.array([1.0, 2.0, 0.5]), 30)
    assert found[[0, 3, 23, 29]] == pytest.approx([1, 2, 0.5, 0.5])
    assert found[1] == pytest.approx(np.sqrt(2))
    assert len(found) == 30


@pytest.fixture(scope="module")
def predictions():
    return forecast_history.forecasts()


@pytest.fixture(scope="module")
def settled(predictions):
    return forecast_history.scores(predictions)


def bands(predictions, inputs):
    return band_rows(predictions, inputs, timeframe="1h", run_id="run")


def test_a_stored_forecast_gets_a_band_at_every_step(predictions, settled):
    found = bands(predictions, forecast_history.band_inputs(settled))
    assert found.num_rows == predictions.num_rows
    assert found["horizons"][0].as_py() == [1, 4, 24]
    assert pc.all(pc.equal(pc.list_value_length(found["p10"]), 30)).as_py()
    medians = dict(
        zip(
            predictions["prediction_id"].to_pylist(),
            predictions["p50"].to_pylist(),
            strict=True,
        )
    )
    for row in found.to_pylist():
        p50 = np.array(medians[row["prediction_id"]])
        assert (np.array(row["p10"]) <= p50).all()
        assert (p50 <= np.array(row["p90"])).all()
    assert {True, False} == {
        day for row in found["is_event_day"].to_pylist() for day in row
    }
    assert max(max(row) for row in found["n_labels"].to_pylist()) >= 15


def test_bands_made_day_by_day_equal_bands_made_at_the_end(predictions, settled):
    at_once = bands(predictions, forecast_history.band_inputs(settled))
    known = times(settled["known_ts"])
    as_of = times(predictions["as_of"])
    given = at_once.slice(0, 0)
    for moment in np.unique(as_of)[2::3]:
        done = pc.is_in(
            predictions["prediction_id"], given["prediction_id"].combine_chunks()
        )
        is_due = pc.and_(pc.invert(done), pa.array(as_of <= moment))
        so_far = settled.filter(pa.array(known <= moment))
        inputs = forecast_history.band_inputs(so_far, given.select(list(GIVEN_COLUMNS)))
        given = pa.concat_tables([given, bands(predictions.filter(is_due), inputs)])
    assert given.num_rows > 90
    expected = at_once.filter(
        pc.is_in(at_once["prediction_id"], given["prediction_id"].combine_chunks())
    )
    order = [("as_of", "ascending"), ("prediction_id", "ascending")]
    assert given.sort_by(order).equals(expected.sort_by(order))


def test_scores_out_of_skill_are_no_labels(predictions, settled):
    place = settled.column_names.index("is_in_skill")
    none = settled.set_column(
        place, "is_in_skill", pa.array([False] * settled.num_rows)
    )
    found = bands(predictions, forecast_history.band_inputs(none))
    assert {one for row in found["factors"].to_pylist() for one in row} == {1.0}
    assert found["p10"].to_pylist()[3] == pytest.approx(
        predictions.sort_by([("as_of", "ascending"), ("prediction_id", "ascending")])[
            "p10"
        ].to_pylist()[3]
    )


def test_a_symbol_without_an_asset_class_is_refused(predictions, settled):
    inputs = forecast_history.band_inputs(settled)
    inputs = type(inputs)(
        inputs.scores, inputs.given, inputs.releases, {"BTC": "crypto"}
    )
    with pytest.raises(
        ScoringError, match="'EURUSD' was forecast but is no instrument"
    ):
        bands(predictions, inputs)


def test_no_forecasts_have_no_bands(predictions, settled):
    inputs = forecast_history.band_inputs(settled)
    assert bands(predictions.slice(0, 0), inputs).num_rows == 0
