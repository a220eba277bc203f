"""Every model forecasts the same bars, however few of them it looks at."""

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pytest

from flows.bodies.forecast import forecast_closes
from flows.bodies.ingest import ingest_bars
from flows.wiring import Workplace
from tests.flows.conftest import run_plainly

AS_OF = "2018-09-28T15:00"


@pytest.fixture
def pausing(workplace: Workplace, tmp_path: Path) -> Workplace:
    """Eight weeks of a currency pair that nobody quotes on Sunday evenings."""
    hours = np.arange("2018-08-03", "2018-09-28T15", dtype="datetime64[h]")
    weekday = (hours.astype("datetime64[D]").astype(np.int64) + 3) % 7
    opens = hours[(weekday < 4) | ((weekday == 4) & (hours.astype(np.int64) % 24 < 21))]
    levels = np.random.default_rng(5).normal(0.0, 0.001, len(opens)).cumsum()
    close = 1.1 * np.exp(levels)
    columns = {
        "ts": opens.astype("datetime64[s]"),
        "open": close,
        "high": close * 1.001,
    }
    columns |= {"low": close * 0.999, "close": close, "volume": np.ones(len(opens))}
    path = tmp_path / "EURUSD.csv"
    csv.write_csv(pa.table(columns), path)
    done = run_plainly(
        "ingest-ohlcv",
        ingest_bars,
        source="files",
        timeframe="1h",
        path=str(path),
        options={"asset_class": "fx", "timezone": "UTC"},
    )
    assert done.counts["rows_written"] == len(opens)
    return workplace


def test_models_of_any_context_forecast_the_same_bars(pausing: Workplace) -> None:
    run_plainly(
        "forecast",
        forecast_closes,
        timeframe="1h",
        model="naive,kronos,chronos2",
        as_of=AS_OF,
        horizon=48,
    )
    rows = pausing.lake.read("ml_predictions").to_pylist()
    targets = {row["model_name"]: row["target_ts"] for row in rows}
    assert set(targets) == {"naive", "kronos", "chronos2"}
    assert targets["kronos"] == targets["chronos2"] == targets["naive"]
    monday = dt.datetime(2018, 10, 1, tzinfo=dt.UTC)
    assert [one for one in targets["kronos"] if one.day == 30] == []
    assert monday in targets["kronos"]
