"""Every sleeve on the real panels: it trades, within the book, causally, and fast."""

import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lab.backtest.context import surprise_grid
from lab.backtest.panel import AlignedPanel
from lab.bars.panel import Panel
from lab.sleeves.catalogue import sleeves
from tests.lab.features.test_real_events import read_calendar
from tests.lab.sleeves.panels import MODELS, forecasts

pytestmark = [pytest.mark.market, pytest.mark.xdist_group("real_sleeves")]
CATALOGUE = sleeves()
CRYPTO = ("BTCUSDT", "ETHUSDT", "XRPUSDT", "LTCUSDT", "ADAUSDT", "LINKUSDT")
SPANS = {
    "1d": (datetime(2014, 1, 1, tzinfo=UTC), datetime(2022, 3, 1, tzinfo=UTC)),
    "1h": (datetime(2020, 9, 1, tzinfo=UTC), datetime(2022, 3, 4, tzinfo=UTC)),
}
# On an idle core a variant takes a tenth of this; it is here against a loop in Python.
SLOWEST_S = 2.0


def read_panel(market, timeframe):
    since, as_of = SPANS[timeframe]
    bars = pq.read_table(
        market / f"ohlcv_{timeframe}.parquet", filters=[("ts", ">=", since)]
    )
    keys = bars.select(["symbol", "asset_class"]).group_by(["symbol", "asset_class"])
    rows = [
        {
            "symbol": row["symbol"],
            "asset_class": row["asset_class"],
            "calendar": "24x7" if row["symbol"] in CRYPTO else "fx",
            "is_leader": row["symbol"] in {"VIX", "DXY"},
            "listed_to": None,
        }
        for row in keys.aggregate([]).to_pylist()
    ]
    never = pa.field("listed_to", pa.timestamp("us", tz="UTC"))
    instruments = pa.Table.from_pylist(rows)
    at = instruments.column_names.index("listed_to")
    instruments = instruments.set_column(
        at, never, pa.array([None] * len(rows), never.type)
    )
    bars = bars.append_column("timeframe", pa.array([timeframe] * len(bars)))
    panel = AlignedPanel.from_bars(
        Panel.from_tables(bars, instruments, timeframe=timeframe),
        as_of=as_of,
        since=since,
    )
    rng = np.random.default_rng(0)
    return replace(
        panel,
        surprises=surprise_grid(read_calendar(market), panel),
        forecasts={model: forecasts(rng, panel.close.shape) for model in MODELS},
    )


@pytest.fixture(scope="module", params=sorted(SPANS))
def real(market, request):
    return read_panel(market, request.param)


@pytest.mark.parametrize("sleeve_id", sorted(CATALOGUE))
def test_a_sleeve_trades_the_real_panel(real, sleeve_id):
    variants = CATALOGUE[sleeve_id].variants()
    rng = np.random.default_rng(1)
    for variant in (variants[0], variants[-1]):
        begin = time.process_time()
        weights = variant.positions(real)
        assert time.process_time() - begin < SLOWEST_S
        assert np.isfinite(weights).all()
        gross = np.abs(weights).sum(axis=1)
        assert gross.max() <= 1 + 1e-12
        assert np.count_nonzero(gross) > 20, variant
        cut = int(rng.integers(real.n_obs // 2, real.n_obs))
        np.testing.assert_array_equal(variant.positions(real.until(cut)), weights[:cut])
