"""Bars read from their row groups are the stored ones, however they were written."""

from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.errors import InputError
from lakehouse.panel import PANEL_COLUMNS, read_bars
from lakehouse.query import connect
from lakehouse.schema.catalogue import TABLES
from lakehouse.store import Lake
from tests.simulators.lakehouse import NOW, START, SYMBOLS, bars, open_lake

HOUR = timedelta(hours=1)


def expected(lake: Lake, timeframe: str, symbols, start, end, columns) -> pa.Table:
    """Read the whole table and filter it, the plain way."""
    rows = lake.read("ohlcv")
    keep = pc.equal(rows["timeframe"], timeframe)
    if symbols is not None:
        keep = pc.and_(
            keep, pc.is_in(rows["symbol"], pa.array(list(symbols), pa.string()))
        )
    if start is not None:
        keep = pc.and_(keep, pc.greater_equal(rows["ts"], pa.scalar(start)))
    if end is not None:
        keep = pc.and_(keep, pc.less(rows["ts"], pa.scalar(end)))
    rows = rows.filter(keep).sort_by([("symbol", "ascending"), ("ts", "ascending")])
    return rows.select(columns)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Large row groups of one symbol, small mixed ones, late rows, and daily bars."""
    lake = open_lake(
        tmp_path_factory.mktemp("panel") / "lake", now=NOW + 900 * 24 * HOUR
    )
    lake.append("ohlcv", bars(5_000, start=START), window="long")
    for day in range(3):
        start = START + (5_000 + 24 * day) * HOUR
        lake.append("ohlcv", bars(24, start=start), window=f"day-{day}")
    lake.append("ohlcv", bars(40, start=START - 40 * HOUR), window="late")
    lake.append("ohlcv", bars(5_000, symbols=("LATER",)), window="another symbol")
    lake.append("ohlcv", bars(30, timeframe="1d"), window="daily")
    lake.upsert("ohlcv", bars(10, start=START + 100 * HOUR, seed=5), window="revised")
    return lake


HOURS = st.none() | st.integers(-60, 5_100).map(lambda n: START + n * HOUR)


@given(
    timeframe=st.sampled_from(["1h", "1d"]),
    symbols=st.none() | st.sets(st.sampled_from([*SYMBOLS, "LATER", "NOPE"])),
    start=HOURS,
    end=HOURS,
    columns=st.lists(
        st.sampled_from([c.name for c in TABLES["ohlcv"].columns]),
        min_size=1,
        unique=True,
    ),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_panel_is_the_table_filtered_and_sorted(
    lake: Lake, timeframe, symbols, start, end, columns
) -> None:
    found = read_bars(
        lake.root,
        timeframe=timeframe,
        symbols=symbols,
        start=start,
        end=end,
        columns=columns,
    )
    assert found.equals(expected(lake, timeframe, symbols, start, end, columns))
    schema = TABLES["ohlcv"].to_arrow()
    assert found.schema == pa.schema([schema.field(name) for name in columns])


def test_a_session_pins_the_panel(tmp_path) -> None:
    lake = open_lake(tmp_path / "lake")
    lake.append("ohlcv", bars(), window="a")
    with connect(lake.root, tables=["ohlcv"]) as session:
        lake.append("ohlcv", bars(start=START + 24 * HOUR), window="b")
        assert read_bars(session, timeframe="1h").num_rows == 72
        assert read_bars(session, timeframe="1h").column_names == list(PANEL_COLUMNS)
    assert read_bars(lake.root, timeframe="1h", start="2024-01-02").num_rows == 72


def test_an_empty_lake_has_an_empty_panel(tmp_path) -> None:
    (tmp_path / "lake").mkdir()
    found = read_bars(str(tmp_path / "lake"), timeframe="1d", columns=["ts", "close"])
    assert found.num_rows == 0
    assert found.schema.names == ["ts", "close"]


def test_bad_requests_are_said(lake: Lake) -> None:
    with pytest.raises(InputError, match=r"timeframe '4h': one of 1h, 1d"):
        read_bars(lake.root, timeframe="4h")
    with pytest.raises(InputError, match=r"column 'nope': one of symbol"):
        read_bars(lake.root, timeframe="1h", columns=["nope"])
    with pytest.raises(InputError, match=r"start: 'soon' is not an ISO 8601 time"):
        read_bars(lake.root, timeframe="1h", start="soon")


@pytest.mark.s3
def test_a_panel_is_read_from_s3(s3_root: str) -> None:
    open_lake(s3_root).append("ohlcv", bars(), window="a")
    assert read_bars(s3_root, timeframe="1h", symbols=["BTC"]).num_rows == 24
