"""Bands and the ensemble at a decision time do not change when what settles later does."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.bars.timeframes import to_moment
from lab.forecasters.conformal import CellRows, ConformalParameters, calibrate
from lab.forecasters.conformal_rows import band_rows
from lab.forecasters.ensemble_features import EnsembleContext, MemberRows, RegimeCalls
from lab.forecasters.ensemble_training import (
    EnsembleParameters,
    LabelledRows,
    fit_ensemble,
)
from lab.scoring.unfold import times
from lakehouse.schema.research import REGIMES
from tests.lab import forecast_history

EXAMPLES = settings(max_examples=15, deadline=None, derandomize=True)
DAY = np.timedelta64(1, "D").astype("timedelta64[us]")
SPAN = 3 * DAY


def random_rows(seed, n_rows=160):
    rng = np.random.default_rng(seed)
    day = np.sort(rng.integers(0, 40, n_rows))
    symbol = rng.integers(0, 4, n_rows)
    return CellRows(
        symbol=symbol,
        asset_class=symbol % 2,
        as_of=np.datetime64("2021-01-01", "us") + day * DAY,
        known=np.datetime64("2021-01-01", "us")
        + (day + rng.integers(3, 9, n_rows)) * DAY,
        score=np.abs(rng.standard_normal(n_rows)),
        block=day // 3,
        is_event=rng.random(n_rows) < 0.3,
        factor=np.full(n_rows, np.nan),
    )


def other_future(rows, cut, rng):
    is_future = rows.known > cut
    score = np.where(is_future, rng.exponential(5, len(is_future)), rows.score)
    score[is_future & (rng.random(len(is_future)) < 0.3)] = np.nan
    return CellRows(
        rows.symbol, rows.asset_class, rows.as_of, rows.known, score,
        rows.block, rows.is_event, rows.factor,
    )  # fmt: skip


@EXAMPLES
@given(seed=st.integers(0, 10**6), day=st.integers(1, 40))
def test_a_factor_does_not_change_when_later_labels_do(seed, day):
    rows = random_rows(seed)
    cut = np.datetime64("2021-01-01", "us") + day * DAY
    altered = other_future(rows, cut, np.random.default_rng(seed + 1))
    first, second = (
        calibrate(one, span=SPAN, parameters=ConformalParameters())
        for one in (rows, altered)
    )
    is_past = rows.as_of <= cut
    assert (first.factor[is_past] == second.factor[is_past]).all()
    assert (first.level[is_past] == second.level[is_past]).all()
    assert (first.n_labels[is_past] == second.n_labels[is_past]).all()


def test_labels_known_a_day_early_would_be_found():
    rows = random_rows(3)
    early = CellRows(
        rows.symbol, rows.asset_class, rows.as_of, rows.as_of, rows.score,
        rows.block, rows.is_event, rows.factor,
    )  # fmt: skip
    cut = np.datetime64("2021-01-20", "us")
    shifted = other_future(rows, cut, np.random.default_rng(0))
    leaking = CellRows(
        rows.symbol, rows.asset_class, rows.as_of, rows.as_of, shifted.score,
        rows.block, rows.is_event, rows.factor,
    )  # fmt: skip
    first, second = (
        calibrate(one, span=SPAN, parameters=ConformalParameters())
        for one in (early, leaking)
    )
    is_past = rows.as_of <= cut
    assert (first.factor[is_past] != second.factor[is_past]).any()


@pytest.fixture(scope="module")
def predictions():
    return forecast_history.forecasts()


@pytest.fixture(scope="module")
def settled(predictions):
    return forecast_history.scores(predictions)


def altered_after(scores, cut, rng):
    """The same scores with other outcomes after `cut`, in a table."""
    known = times(scores["known_ts"])
    factor = np.where(known > cut, np.exp(rng.standard_normal(len(known))), 1.0)
    place = scores.column_names.index("actual")
    actual = pa.array(scores["actual"].to_numpy() * factor)
    return scores.set_column(place, scores.schema.field("actual"), actual)


@pytest.mark.parametrize("day", ["2021-01-25T21:00", "2021-02-03T09:00"])
def test_a_stored_band_does_not_change_when_later_scores_do(predictions, settled, day):
    cut = np.datetime64(day, "us")
    expected, found = (
        band_rows(
            predictions,
            forecast_history.band_inputs(one),
            timeframe="1h",
            run_id="run",
        )
        for one in (settled, altered_after(settled, cut, np.random.default_rng(1)))
    )
    is_past = pa.array(times(expected["as_of"]) <= cut)
    assert expected.filter(is_past).equals(found.filter(is_past))
    assert not expected.equals(found)


def test_a_trained_ensemble_does_not_change_when_later_scores_do(settled):
    cut = np.datetime64("2021-02-05T21:00", "us")
    context = EnsembleContext(
        forecast_history.schedule(*forecast_history.WEEKLY),
        RegimeCalls.from_table(REGIMES.to_arrow().empty_table()),
    )
    small = EnsembleParameters(
        min_rows=20, min_as_ofs=5, min_part_rows=3, n_rounds=5, min_child_weight=1
    )

    def trained(scores):
        rows = MemberRows.from_scores(scores, forecast_history.CLASSES, timeframe="1h")
        labelled = LabelledRows.of(rows, context, as_of=to_moment(cut))
        return fit_ensemble(labelled, asset_class="crypto", parameters=small)

    expected = trained(settled)
    found = trained(altered_after(settled, cut, np.random.default_rng(2)))
    assert found == expected
    early = np.datetime64("2021-01-28T21:00", "us")
    assert trained(altered_after(settled, early, np.random.default_rng(2))) != expected
