"""The real panel through the intake; see the folder's PROVENANCE.md for its quirks."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lakehouse.clock import Clock
from lakehouse.intake import take_bars, take_releases
from lakehouse.sources._base import (
    BAR_SCHEMA,
    RELEASE_SCHEMA,
    InstrumentInfo,
    RawBars,
    RawReleases,
)
from lakehouse.store import Lake

pytestmark = pytest.mark.market
NOW = datetime(2026, 11, 1, tzinfo=UTC)
# Splits by the companies' own records; hourly bars of a subset of the symbols.
SPLITS_1H = {
    ("AAPL_CFD", "2020-08-31"),
    ("TSLA_CFD", "2020-08-31"),
    ("TSLA_CFD", "2022-08-25"),
    ("VXX", "2010-11-09"),
    ("VXX", "2012-10-05"),
    ("VXX", "2013-11-08"),
    ("VXX", "2016-08-09"),
    ("VXX", "2017-08-23"),
}
SPLITS_1D = {
    ("AAPL", "2000-06-21"),
    ("AAPL", "2005-02-28"),
    ("AAPL", "2014-06-09"),
    ("AAPL", "2020-08-31"),
    ("AAPL_CFD", "2020-08-31"),
    ("AIG", "1998-08-03"),
    ("AIG", "2000-07-31"),
    ("AIG", "2009-07-01"),
    ("BAC", "2004-08-30"),
    ("BNO", "2013-08-29"),
    ("EEM", "2005-06-09"),
    ("EEM", "2008-07-24"),
    ("GOOG", "2014-04-03"),
    ("IBM", "1999-05-27"),
    ("IWM", "2005-06-09"),
    ("QQQ", "2000-03-20"),
    ("TSLA_CFD", "2020-08-31"),
    ("TSLA_CFD", "2022-08-25"),
    ("USO", "2020-04-29"),
    ("WM", "2001-05-16"),
}


def read_panel(path: Path, timeframe: str) -> RawBars:
    table = pq.read_table(path)
    classes = table.group_by("symbol").aggregate([("asset_class", "min")]).to_pylist()
    filled = [
        *(
            table[name].cast(BAR_SCHEMA.field(name).type)
            for name in BAR_SCHEMA.names[:7]
        ),
        *(pa.nulls(table.num_rows, pa.string()) for _ in range(2)),
    ]
    return RawBars(
        source=f"files:{path.name}@00000000",
        window=f"sha256:{path.name}",
        timeframe=timeframe,
        bars=pa.table(filled, schema=BAR_SCHEMA),
        original=table,
        instruments=tuple(
            InstrumentInfo(row["symbol"], row["asset_class_min"]) for row in classes
        ),
    )


def flagged(lake: Lake, flag: str) -> set[tuple[str, str]]:
    rows = lake.read("ohlcv", columns=["symbol", "ts", "flags"])
    rows = rows.filter(pc.equal(rows["flags"], flag))
    return {(row["symbol"], f"{row['ts']:%Y-%m-%d}") for row in rows.to_pylist()}


def test_the_hourly_panel_adds_up_and_its_splits_are_all_flagged(tmp_path, market):
    lake = Lake.open(str(tmp_path), clock=Clock(NOW, "argument"))
    raw = read_panel(market / "ohlcv_1h.parquet", "1h")
    report = take_bars(lake, raw, run_id="r")
    assert report.n_read == 1_306_195
    assert report.n_read == report.n_good + report.n_quarantined
    assert report.reasons == {"price_not_positive": 1}
    assert report.n_written == lake.read("ohlcv", columns=["ts"]).num_rows
    assert take_bars(lake, raw, run_id="again").n_written == 0
    # Recall 8 of 8, precision 8 of 8.
    assert flagged(lake, "split?") == SPLITS_1H
    # SPY's are wicks of 5 % and more that one odd trade made, before 2008.
    bad_prints = flagged(lake, "bad_print?")
    assert len(bad_prints) < 60
    assert {("LINKUSDT", "2023-02-04"), ("SPY", "2002-01-28")} <= bad_prints


def test_the_daily_panel_adds_up_and_its_splits_are_all_flagged(tmp_path, market):
    lake = Lake.open(str(tmp_path), clock=Clock(NOW, "argument"))
    raw = read_panel(market / "ohlcv_1d.parquet", "1d")
    report = take_bars(lake, raw, run_id="r")
    assert report.n_read == report.n_good + report.n_quarantined == 237_491
    # VIX's misordered rows and LINK's rounded flash low; float dust is taken.
    assert report.reasons == {"price_outside_range": 47, "price_not_positive": 1}
    found = flagged(lake, "split?")
    # Recall 20 of 20; precision 20 of 24: two days of September 2008 in AIG, the last
    # of Washington Mutual, and an open of IBM at twice its price.
    assert found >= SPLITS_1D
    assert len(found) <= 24
    assert len(flagged(lake, "bad_print?")) < 25


def test_another_copy_of_the_daily_panel_is_compared_and_not_written(tmp_path, market):
    lake = Lake.open(str(tmp_path), clock=Clock(NOW, "argument"))
    raw = read_panel(market / "ohlcv_1d.parquet", "1d")
    take_bars(lake, raw, run_id="r")
    close = pc.multiply(raw.bars["close"].slice(0, 1), 0.9999)
    close = pa.chunked_array([*close.chunks, *raw.bars["close"].slice(1).chunks])
    other = RawBars(
        source="files:copy@11111111",
        window="sha256:copy",
        timeframe="1d",
        bars=raw.bars.set_column(5, BAR_SCHEMA.field("close"), close),
        original=raw.original,
    )
    report = take_bars(lake, other, run_id="r")
    assert (report.n_written, report.n_corrected) == (1, 1)


def test_the_real_calendar_is_taken_whole(tmp_path, market):
    lake = Lake.open(str(tmp_path), clock=Clock(NOW, "argument"))
    for name, n_rows, least in (
        ("economic_calendar", 63_834, 63_000),
        ("economic_calendar_untimed", 3_227, 3_000),
    ):
        table = pq.read_table(market / f"{name}.parquet")
        present = {field.name for field in RELEASE_SCHEMA} & set(table.column_names)
        filled = [
            table[field.name].cast(field.type)
            if field.name in present
            else pa.nulls(table.num_rows, field.type)
            for field in RELEASE_SCHEMA
        ]
        raw = RawReleases(
            source=f"files:{name}",
            window=f"sha256:{name}",
            releases=pa.table(filled, schema=RELEASE_SCHEMA),
            original=table,
        )
        report = take_releases(lake, raw, run_id="r")
        assert report.n_read == n_rows == report.n_good + report.n_quarantined
        assert report.n_good > least
        assert take_releases(lake, raw, run_id="r").n_written == 0
    assert lake.read("economic_calendar").num_rows > 66_000
