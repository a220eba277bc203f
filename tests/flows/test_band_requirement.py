"""The promise of the 80 % bands on the real hourly panel: pooled, and in every cell."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flows.bodies.forecast import forecast_closes
from flows.bodies.ingest import ingest_bars, ingest_releases
from flows.bodies.score import score_settled
from flows.bodies.train_ensemble import backfill_ensemble
from flows.demo import MARKET_DAYS, MARKET_NOW, MARKET_PANEL
from flows.wiring import Workplace, open_workplace
from lab.bars.timeframes import HORIZONS
from lab.scoring.cells import check_coverage
from tests.flows.conftest import forget_settings, run_plainly
from tests.simulators.places import Place

pytestmark = [pytest.mark.full, pytest.mark.market]

Cells = dict[tuple[str, int, str], list[tuple[bool, int]]]


@pytest.fixture(scope="module")
def panel(
    market: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """Sixty days of forecasts of the demo's panel, scored; the ensemble's too."""
    place = Place(tmp_path_factory.mktemp("panel"), now=MARKET_NOW.isoformat())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.environment.items():
            patch.setenv(name, value)
        forget_settings()
        run_plainly(
            "ingest-ohlcv",
            ingest_bars,
            source="files",
            path=str(market / "ohlcv_1h.parquet"),
            symbols=list(MARKET_PANEL),
            timeframe="1h",
        )
        releases = str(market / "economic_calendar.parquet")
        run_plainly("ingest-calendar", ingest_releases, path=releases)
        run_plainly(
            "forecast",
            forecast_closes,
            model="naive,seasonal",
            timeframe="1h",
            earlier=MARKET_DAYS,
        )
        run_plainly("score-signals", score_settled, timeframe="1h")
        run_plainly("train-ensemble", backfill_ensemble, timeframe="1h")
        run_plainly("score-signals", score_settled, timeframe="1h")
        yield open_workplace()
    forget_settings()


@pytest.fixture(scope="module")
def cells(panel: Workplace) -> Cells:
    """Whether each settled outcome lay in its band, and its block, by cell."""
    bands = {
        row["prediction_id"]: row
        for row in panel.lake.read(
            "conformal_bands", columns=["prediction_id", "p10", "p90"]
        ).to_pylist()
    }
    found: Cells = defaultdict(list)
    for row in panel.lake.read("prediction_scores").to_pylist():
        if row["is_in_skill"]:
            band, step = bands[row["prediction_id"]], row["horizon"] - 1
            found[row["model_name"], row["horizon"], row["symbol"]].append(
                (band["p10"][step] <= row["actual"] <= band["p90"][step], row["block"])
            )
    return found


@pytest.mark.parametrize("model", ["naive", "seasonal", "ensemble"])
@pytest.mark.parametrize("horizon", HORIZONS["1h"])
def test_pooled_coverage_is_within_3_points(cells: Cells, model: str, horizon: int):
    # Every forecast counts, from the first day on: there is no warm-up.
    inside = [
        is_inside
        for (name, step, _), rows in cells.items()
        if (name, step) == (model, horizon)
        for is_inside, _ in rows
    ]
    assert len(inside) >= 1000
    assert np.mean(inside) == pytest.approx(0.8, abs=0.03)


def test_every_cell_is_within_3_block_standard_errors(cells: Cells):
    assert len(cells) == 3 * len(HORIZONS["1h"]) * len(MARKET_PANEL)
    for cell, rows in cells.items():
        is_inside, block = (np.array(one) for one in zip(*rows, strict=True))
        checked = check_coverage(is_inside, block)
        assert checked.distance() <= 3, (cell, checked)
