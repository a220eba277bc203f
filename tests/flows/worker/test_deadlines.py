"""When a batch is too late."""

from datetime import UTC, datetime, timedelta

import pytest

from flows.bodies.batch import run_batch
from flows.bodies.ingest import ingest_bars
from flows.worker.deadlines import batch_deadline
from lakehouse.clock import Clock
from lakehouse.errors import InputError
from lakehouse.store import Lake
from tests.flows.conftest import run_plainly
from tests.simulators.places import Place

DUE = datetime(2022, 3, 4, 20, 55, tzinfo=UTC)


@pytest.mark.parametrize(
    ("timeframe", "given", "minutes"),
    [("1h", None, 50), ("1d", None, 1200), ("1h", 5, 5), ("1d", " 90 ", 90)],
)
def test_a_deadline_counts_from_the_scheduled_start(timeframe, given, minutes):
    found = batch_deadline(DUE, timeframe=timeframe, given=given)
    assert found == DUE + timedelta(minutes=minutes)


def test_a_deadline_may_be_a_time():
    found = batch_deadline(DUE, timeframe="1h", given="2022-03-04T22:00:00+01:00")
    assert found == datetime(2022, 3, 4, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    ("timeframe", "given", "why"),
    [("1h", "soon", "deadline: 'soon' is not"), ("4h", None, "timeframe '4h': exp")],
)
def test_what_is_no_deadline_is_refused(timeframe, given, why):
    with pytest.raises(InputError, match=why):
        batch_deadline(DUE, timeframe=timeframe, given=given)


def run_naive(deadline: datetime | None) -> str:
    return run_plainly(
        "naive-batch", run_batch, model="naive", timeframe="1d", deadline=deadline
    ).message


def test_a_batch_on_a_lake_without_bars_has_nothing_to_do(place: Place):
    assert run_naive(None).startswith("naive 1d: nothing to forecast: no 1d bars")


def test_a_late_batch_is_skipped_by_wall_time_and_a_timely_one_runs(place: Place):
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    now = Clock().now()  # the place's own clock stands in 2018
    skipped = run_naive(now - timedelta(seconds=1))
    assert skipped.endswith("passed; skipped")
    lake = Lake.open(place.root, clock=Clock())
    assert lake.version("ml_predictions") is None
    assert "2 forecasts" in run_naive(now + timedelta(minutes=5))
    assert "nothing new" in run_naive(None)
    records = lake.read("runs").to_pylist()
    assert {row["status"] for row in records} == {"completed"}
