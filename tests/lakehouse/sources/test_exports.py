"""Exports as vendors write them, and files made to hurt."""

import gzip
import json
import zipfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from lakehouse.errors import InputError, SourceError
from lakehouse.screening.refusals import refused_rows
from lakehouse.sources._base import RawBars
from lakehouse.sources.files import read_bars

START = datetime(2024, 1, 2, tzinfo=UTC)  # a Tuesday
HOURS = [START + timedelta(hours=hour) for hour in range(6)]
DAYS = [START + timedelta(days=day) for day in range(14)]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(header: str, times: list[str], row: str = "{t},1.1,1.3,1.0,1.2,7") -> str:
    return "\n".join([header, *(row.format(t=time) for time in times)]) + "\n"


def read_one(path: Path, **options) -> RawBars:
    (raw,) = read_bars(path, **options)
    assert raw.bars.num_rows == raw.original.num_rows
    return raw


def first_time(raw: RawBars) -> datetime:
    return raw.bars["ts"][0].as_py()


OHLCV = "date,open,high,low,close,volume"


def test_the_hour_with_am_or_pm_alone_is_read(tmp_path):
    text = "https://www.CryptoDataDownload.com\n" + lines(
        OHLCV, [time.strftime("%Y-%m-%d %I-%p") for time in HOURS[::-1]]
    )
    raw = read_one(write(tmp_path, "Coinbase_ETHUSD_1h.csv", text), timezone="UTC")
    assert raw.bars["ts"].to_pylist() == HOURS[::-1]


def test_a_zone_named_in_every_cell_holds(tmp_path):
    cells = [time.strftime("%Y%m%d  %H:%M:%S US/Eastern") for time in HOURS]
    path = write(tmp_path, "IBM_1h.csv", lines(OHLCV, cells))
    raw = read_one(path, timezone="Europe/Athens")
    assert first_time(raw) == START + timedelta(hours=5)
    assert "times are US/Eastern; --timezone is not used" in raw.notes


def test_two_digit_years_are_read_once_the_order_is_given(tmp_path):
    cells = [day.strftime("%m/%d/%y") for day in DAYS]
    path = write(tmp_path, "wsj_GE.csv", lines(OHLCV, cells))
    with pytest.raises(SourceError, match=r"'date': 01/02/24 may be day first.*dates="):
        list(read_bars(path))
    assert first_time(read_one(path, columns="dates=mdy")) == START


def test_two_digit_years_after_a_named_month_are_read(tmp_path):
    cells = [day.strftime("%d-%b-%y") for day in DAYS]
    assert (
        first_time(read_one(write(tmp_path, "MSFT.csv", lines(OHLCV, cells)))) == START
    )


def test_one_unclear_date_among_others_is_a_row_not_a_refusal(tmp_path):
    cells = [day.strftime("%Y-%m-%d") for day in DAYS]
    cells[3] = "03/04/2024"
    raw = read_one(write(tmp_path, "MSFT.csv", lines(OHLCV, cells)))
    assert raw.bars["reason"].to_pylist().count("ts_unparsable") == 1


def test_a_column_without_one_readable_time_refuses_the_file(tmp_path):
    path = write(tmp_path, "ABC_1h.csv", lines(OHLCV, ["soon"] * 6))
    with pytest.raises(
        SourceError, match=r"column 'date': no time can be read.*'soon'"
    ):
        list(read_bars(path))


def test_two_level_headers_give_symbol_and_columns(tmp_path):
    head = (
        "Price,Close,High,Low,Open,Volume\nTicker,AAPL,AAPL,AAPL,AAPL,AAPL\nDate,,,,,"
    )
    cells = [day.strftime("%Y-%m-%d") for day in DAYS]
    raw = read_one(
        write(tmp_path, "x.csv", lines(head, cells, "{t},1.2,1.3,1.0,1.1,7"))
    )
    assert set(raw.bars["symbol"].to_pylist()) == {"AAPL"}
    assert raw.bars["open"][0].as_py() == 1.1
    assert "symbol AAPL by the header" in raw.notes


def test_symbols_side_by_side_are_refused(tmp_path):
    head = "Price,Close,Close\nTicker,AAPL,MSFT\nDate,,"
    path = write(tmp_path, "x.csv", lines(head, ["2024-01-02"], "{t},1,2"))
    with pytest.raises(SourceError, match="2 symbols side by side"):
        list(read_bars(path))


def test_prices_in_billionths_are_asked_for(tmp_path):
    row = "{t},1100000000,1300000000,1000000000,1200000000,7,NVDA"
    cells = [str(int(time.timestamp() * 1e9)) for time in HOURS]
    path = write(
        tmp_path,
        "x.csv",
        lines("ts_event,open,high,low,close,volume,symbol", cells, row),
    )
    with pytest.raises(SourceError, match="scale=1000000000"):
        list(read_bars(path))
    raw = read_one(path, columns="scale=1000000000")
    assert (first_time(raw), raw.bars["open"][0].as_py()) == (START, 1.1)


def test_decimals_keep_their_digits(tmp_path):
    price = pa.array([Decimal("100.10")] * 6, pa.decimal128(18, 4))
    table = pa.table(
        {"symbol": ["A"] * 6, "ts": pa.array(HOURS, pa.timestamp("us", "UTC"))}
        | dict.fromkeys(("open", "high", "low", "close"), price)
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert read_one(tmp_path / "a.parquet").bars["open"][0].as_py() == 100.10


@pytest.mark.parametrize("timezone", [None, "America/New_York", "Asia/Tokyo"])
def test_dates_at_midnight_utc_are_dates_in_every_zone(tmp_path, timezone):
    cells = [day.strftime("%Y-%m-%dT00:00:00.000Z") for day in DAYS]
    path = write(tmp_path, "tiingo_V.csv", lines(OHLCV, cells))
    assert first_time(read_one(path, timezone=timezone)) == START


def test_daily_bars_that_open_in_the_evening_belong_to_the_next_day(tmp_path):
    # 17:00 New York, Sunday to Thursday, over the change of clocks of 2024-03-10.
    sunday = datetime(2024, 3, 3, 22, tzinfo=UTC)
    opens = [sunday + timedelta(days=day) for day in range(5)]
    opens += [sunday + timedelta(days=day, hours=-1) for day in range(7, 12)]
    cells = [time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in opens]
    path = write(tmp_path, "OANDA_XAUUSD, 1D.csv", lines(OHLCV, cells))
    raw = read_one(path, timezone="America/New_York")
    dates = [datetime(2024, 3, day, tzinfo=UTC) for day in (4, 5, 6, 7, 8)]
    dates += [datetime(2024, 3, day, tzinfo=UTC) for day in (11, 12, 13, 14, 15)]
    assert raw.bars["ts"].to_pylist() == dates


def test_bars_of_a_market_that_never_closes_must_begin_at_midnight(tmp_path):
    cells = [day.strftime("%Y-%m-%dT16:00:00Z") for day in DAYS]
    path = write(tmp_path, "BTCCNY_1d.csv", lines(OHLCV, cells))
    with pytest.raises(SourceError, match="span two dates"):
        list(read_bars(path, timezone="UTC"))
    raw = read_one(path, timezone="Asia/Shanghai")
    assert first_time(raw) == START + timedelta(days=1)


@pytest.mark.parametrize("unit", ["us", "ms"])
def test_times_beyond_every_calendar_are_rows_with_a_reason(tmp_path, unit):
    ts = pa.array([2**52 if unit == "ms" else 2**62, 0], pa.int64())
    table = pa.table({"symbol": ["A"] * 2, "ts": ts.cast(pa.timestamp(unit, "UTC"))})
    for name in ("open", "high", "low", "close"):
        table = table.append_column(name, pa.array([1.0, 1.0]))
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    raw = read_one(tmp_path / "a.parquet", timeframe="1d")
    assert raw.bars["reason"].to_pylist() == ["ts_unparsable", None]
    (row,) = refused_rows(
        raw.original,
        np.array([0]),
        source="s",
        first_row=1,
        table="ohlcv",
        reasons=["ts_unparsable"],
        details=[None],
    )
    assert json.loads(row["row"])["ts"] == str(ts[0].as_py())


@pytest.mark.parametrize(
    "symbol", ["../../etc/passwd", "..", ".", "a//b", "S" * 100, "a'b", "nan", "☃"]
)
def test_names_that_are_no_symbols_are_refused(tmp_path, symbol):
    cells = [time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in HOURS]
    path = write(tmp_path, "x_1h.csv", lines(OHLCV, cells))
    with pytest.raises(InputError, match="--symbols"):
        list(read_bars(path, symbols=[symbol]))
    row = "{t},1.1,1.3,1.0,1.2,7," + symbol
    named = write(tmp_path, "y_1h.csv", lines(OHLCV + ",symbol", cells, row))
    assert set(read_one(named).bars["reason"].to_pylist()) == {"symbol_missing"}


@pytest.mark.parametrize("symbol", ["BTC/USDT:USDT", "^GSPC", "ES=F", ".SPX", "BRK.B"])
def test_symbols_of_every_venue_are_taken(tmp_path, symbol):
    cells = [time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in HOURS]
    path = write(tmp_path, "x_1h.csv", lines(OHLCV, cells))
    raw = read_one(path, symbols=[symbol])
    assert set(raw.bars["symbol"].to_pylist()) == {symbol}


def test_a_zip_that_unpacks_without_end_is_refused(tmp_path):
    path = tmp_path / "bomb_1h.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a_1h.csv", bytes(80 * 1024**2))
    with pytest.raises(SourceError, match="250 times its size"):
        list(read_bars(path))


def test_zstandard_is_unpacked_and_a_cut_one_refused(tmp_path):
    text = lines(OHLCV, [time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in HOURS])
    packed = pa.compress(text.encode(), codec="zstd", asbytes=True)
    raw = read_one(write(tmp_path, "BTCUSD_1h.csv.zst", packed))
    assert first_time(raw) == START
    with pytest.raises(SourceError, match="damaged"):
        list(read_bars(write(tmp_path, "cut_1h.csv.zst", packed[:-6])))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[1704153600000,1,2,0.5,1.5]]", "JSON is not read"),
        ("<!DOCTYPE html><html>Sign in</html>", "web page"),
        ("," * 100_000, "100001 columns"),
        ("open,high,low,close," + "x" * 10_000, "no row below it"),
    ],
)
def test_what_is_no_table_is_named_in_a_short_line(tmp_path, content, message):
    with pytest.raises(SourceError, match=message) as caught:
        list(read_bars(write(tmp_path, "x_1h.csv", content)))
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_a_long_run_of_letters_is_refused_quickly(tmp_path):
    text = OHLCV + "\n" + "a" * 200_000 + ",1,2,0.5,1.5,7\n"
    with pytest.raises(SourceError, match="x_1h"):
        list(
            read_bars(
                write(tmp_path, "x_1h.csv.gz", gzip.compress(text.encode())),
                columns="ts=9",
            )
        )


def test_a_name_that_is_no_text_is_refused_alone_and_in_a_pattern(tmp_path):
    write(tmp_path, "a\udcff_1h.csv", OHLCV + "\n")
    for path in (tmp_path / "a\udcff_1h.csv", tmp_path / "*_1h.csv", "x" * 5000):
        with pytest.raises(SourceError, match="--path"):
            list(read_bars(path))


def test_hours_that_open_at_half_past_are_said(tmp_path):
    cells = [time.strftime("%Y-%m-%d %H:30:00-05:00") for time in HOURS]
    raw = read_one(write(tmp_path, "MSFT_1h.csv", lines(OHLCV, cells)))
    assert "its bars open at :30: only bars on the clock hour are taken" in raw.notes


def test_a_histdata_name_holds_one_symbol(tmp_path):
    rows = [
        f"{time:%Y%m%d %H%M%S};1.306600;1.306700;1.306500;1.306600;0" for time in HOURS
    ]
    path = write(tmp_path, "DAT_ASCII_EURUSD_H1_2024.csv", "\n".join(rows))
    raw = read_one(path, timezone="-05:00")
    assert raw.bars["symbol"][0].as_py() == "EURUSD"
    assert first_time(raw) == START + timedelta(hours=5)
