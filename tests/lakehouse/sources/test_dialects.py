"""Each dialect on small files made here: what is recognised, read, said and refused."""

import bz2
import gzip
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from lakehouse.errors import InputError, SourceError
from lakehouse.sources._base import RawBars
from lakehouse.sources.files import read_bars

HOURS = [f"2020-01-02 {hour:02d}:00" for hour in range(6)]


def read_one(path: Path, **options) -> RawBars:
    (raw,) = read_bars(path, **options)
    return raw


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def ohlc_lines(stamps, *, sep=",", template="{t}{s}1.1{s}1.3{s}1.0{s}1.2{s}7") -> str:
    return "\n".join(template.format(t=stamp, s=sep) for stamp in stamps)


def reasons(raw: RawBars) -> list[str | None]:
    return raw.bars["reason"].to_pylist()


def stamps(raw: RawBars) -> list[datetime | None]:
    return raw.bars["ts"].to_pylist()


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def our_table(n_rows: int = 5, step: timedelta = timedelta(hours=1)) -> pa.Table:
    return pa.table(
        {
            "symbol": pa.array(["AAA"] * n_rows, type=pa.large_string()),
            "asset_class": pa.array(["fx"] * n_rows, type=pa.large_string()),
            "ts": pa.array(
                [utc(2020, 1, 2) + step * i for i in range(n_rows)],
                type=pa.timestamp("us", tz="UTC"),
            ),
            "open": [1.1] * n_rows,
            "high": [1.3] * n_rows,
            "low": [1.0] * n_rows,
            "close": [1.2] * n_rows,
            "volume": [None, *[7.0] * (n_rows - 1)],
        }
    )


def test_our_own_layout_keeps_its_symbols_times_and_asset_class(tmp_path):
    path = tmp_path / "bars.parquet"
    pyarrow.parquet.write_table(our_table(), path)
    raw = read_one(path)
    assert raw.timeframe == "1h"
    assert stamps(raw)[1] == utc(2020, 1, 2, 1)
    assert raw.instruments[0].asset_class == "fx"
    assert raw.bars["volume"].null_count == 1
    assert raw.original.equals(our_table())


@pytest.mark.parametrize("suffix", ["feather", "arrow"])
def test_feather_and_arrow_read_like_parquet(tmp_path, suffix):
    path = tmp_path / f"bars.{suffix}"
    if suffix == "feather":
        pyarrow.feather.write_feather(our_table(step=timedelta(days=1)), path)
    else:
        with (
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_stream(sink, our_table().schema) as writer,
        ):
            writer.write_table(our_table(step=timedelta(days=1)))
    assert read_one(path).timeframe == "1d"


@pytest.mark.parametrize("has_header", [True, False])
@pytest.mark.parametrize("per_second", [1_000, 1_000_000])
def test_klines_are_read_by_position_whatever_the_epoch_unit(
    tmp_path, has_header, per_second
):
    lines = ["time,open,high,low,close,volume,closetime,a,b,c,d,ignore"] * has_header
    start = 1_567_900_800
    for hour in range(4):
        opened = (start + hour * 3600) * per_second
        lines.append(
            f"{opened},10,12,9,11,5,{opened + 3600 * per_second - 1},1,2,3,4,0"
        )
    raw = read_one(write(tmp_path, "BTCUSDT-1h-2019-09.csv", "\n".join(lines)))
    assert raw.notes[0] == "dialect klines"
    assert raw.timeframe == "1h"
    assert raw.bars["symbol"].to_pylist() == ["BTCUSDT"] * 4
    assert stamps(raw)[0] == utc(2019, 9, 8)


def test_klines_inside_a_zip_take_the_members_name(tmp_path):
    row = "1567900800000,10,12,9,11,5,1567987199999,1,2,3,4,0\n"
    path = tmp_path / "download.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ETHUSDT-1d-2019-09.csv", row)
    raw = read_one(path)
    assert raw.bars["symbol"].to_pylist() == ["ETHUSDT"]
    assert raw.timeframe == "1d"


def lean_zip(folder: Path, path: str, members: dict[str, str]) -> Path:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return target


def test_lean_equities_are_unscaled_and_moved_from_new_york(tmp_path):
    text = "20200102 09:00,1001100,1004100,998900,1004100,100\n20200702 10:00,10,10,10,10,1\n"
    raw = read_one(lean_zip(tmp_path, "equity/usa/hour/spy.zip", {"spy.csv": text}))
    assert stamps(raw) == [utc(2020, 1, 2, 14), utc(2020, 7, 2, 14)]
    assert raw.bars["open"].to_pylist() == [100.11, 0.001]
    info = raw.instruments[0]
    assert (info.symbol, info.asset_class, info.calendar, info.currency) == (
        "SPY", "equity", "XNYS", "USD",
    )  # fmt: skip


def test_lean_quote_bars_use_the_bid_and_know_no_volume(tmp_path):
    text = "20200102 00:00,1.1,1.3,1.0,1.2,5,2.1,2.3,2.0,2.2,6\n20200103 00:00,1.1,1.3,1.0,1.2,5,2.1,2.3,2.0,2.2,6"
    raw = read_one(
        lean_zip(tmp_path, "lean_cfd_oanda_daily_xauusd.zip", {"xauusd.csv": text})
    )
    assert raw.timeframe == "1d"
    assert raw.bars["close"].to_pylist() == [1.2, 1.2]
    assert raw.bars["volume"].null_count == 2
    assert raw.instruments[0].asset_class == "commodity"


def test_lean_zip_with_two_members_holds_both_symbols(tmp_path):
    row = "20200102 10:00,10000,10000,10000,10000,1\n"
    raw = read_one(
        lean_zip(
            tmp_path, "equity/usa/hour/all.zip", {"aapl.csv": row, "ibm.csv": row * 2}
        )
    )
    assert raw.bars["symbol"].to_pylist() == ["AAPL", "IBM", "IBM"]
    assert "rows 2 to 3 are ibm.csv" in raw.notes


def test_lean_without_a_known_market_asks_for_zone_and_scale(tmp_path):
    row = "20200102 10:00,10000,10000,10000,10000,1\n20200102 11:00,1,1,1,1,1\n"
    path = write(tmp_path, "spy.csv", row)
    with pytest.raises(SourceError, match=r"pass --timezone TZ and --columns scale="):
        list(read_bars(path))
    raw = read_one(path, timezone="America/New_York", columns="scale=10000")
    assert raw.bars["open"].to_pylist()[0] == 1.0


def test_lean_minute_data_is_refused(tmp_path):
    path = lean_zip(
        tmp_path, "equity/usa/minute/spy.zip", {"spy.csv": "20200102 10:00,1,1,1,1,1\n"}
    )
    with pytest.raises(SourceError, match="only hour and daily"):
        list(read_bars(path))


MT5 = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"


def mt5_text() -> str:
    rows = [
        f"2020.01.02\t{hour:02d}:00:00\t1.1\t1.3\t1.0\t1.2\t70\t0\t3"
        for hour in range(4)
    ]
    return "\r\n".join([MT5, *rows])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_metatrader_exports_read_in_any_encoding(tmp_path, encoding):
    path = write(tmp_path, "EURUSD_H1.csv", mt5_text().encode(encoding))
    raw = read_one(path, timezone="EET")
    assert raw.notes[0] == "dialect metatrader"
    assert stamps(raw)[0] == utc(2020, 1, 1, 22)
    assert raw.bars["volume"].to_pylist() == [70.0] * 4
    assert any("tick volume" in note for note in raw.notes)


def test_broker_time_is_asked_for_when_the_file_does_not_state_it(tmp_path):
    path = write(tmp_path, "EURUSD_H1.csv", mt5_text())
    with pytest.raises(SourceError, match="pass --timezone"):
        list(read_bars(path))


@pytest.mark.parametrize("sep", [",", "\t", ";"])
def test_headerless_exports_are_read_by_position(tmp_path, sep):
    path = write(tmp_path, "AUDCHF60.csv", ohlc_lines(HOURS, sep=sep))
    raw = read_one(path, timezone="+02:00")
    assert raw.bars["symbol"].to_pylist()[0] == "AUDCHF"
    assert stamps(raw)[0] == utc(2020, 1, 1, 22)
    assert any("no header" in note for note in raw.notes)


def test_headerless_columns_that_are_no_bars_are_not_guessed(tmp_path):
    text = ohlc_lines(HOURS, template="{t},1.1,1.0,1.3,1.2,7")
    with pytest.raises(
        SourceError, match=r"comma-separated, 6 columns, no header.*pass"
    ):
        list(read_bars(write(tmp_path, "X.csv", text), timezone="UTC"))


@pytest.mark.parametrize(
    ("symbol", "raw_price", "price"),
    [
        ("EURUSD", "129587.00000000001", 1.29587),
        ("AUDJPY", "82123.0", 82.123),
        ("XAUUSD", "160234.0", 1602.34),
    ],
)
def test_scaled_prices_are_divided_back_where_the_scale_can_be_known(
    tmp_path, symbol, raw_price, price
):
    line = "{t},p,p,p,p,9".replace("p", raw_price)
    text = "Date,open,high,low,close,tick_volume\n" + ohlc_lines(HOURS, template=line)
    raw = read_one(write(tmp_path, f"{symbol}h1.csv", text), timezone="EET")
    assert raw.bars["close"].to_pylist()[0] == price
    assert any("prices divided by" in note for note in raw.notes)


def test_scaled_prices_of_unknown_scale_are_asked_for(tmp_path):
    text = "Date,open,high,low,close,tick_volume\n" + ohlc_lines(
        HOURS, template="{t},7123.00000001,7123,7123,7123,9"
    )
    path = write(tmp_path, "COCOAh1.csv", text)
    with pytest.raises(SourceError, match="scale="):
        list(read_bars(path, timezone="UTC"))
    raw = read_one(path, timezone="UTC", columns={"scale": "10"})
    assert raw.bars["open"].to_pylist()[0] == 712.3


def test_an_hour_that_happens_twice_is_told_apart_by_its_order(tmp_path):
    times = [
        "2020-10-25 02:00",
        "2020-10-25 03:00",
        "2020-10-25 03:00",
        "2020-10-25 04:00",
    ]
    text = "time,open,high,low,close,volume\n" + ohlc_lines(times)
    raw = read_one(
        write(tmp_path, "BTCUSD.csv", text), timezone="Europe/Athens", timeframe="1h"
    )
    assert stamps(raw) == [utc(2020, 10, 24, 23) + timedelta(hours=i) for i in range(4)]


def test_an_hour_that_happens_twice_and_is_there_once_is_refused(tmp_path):
    times = [
        "2020-10-25 02:00",
        "2020-10-25 03:00",
        "2020-10-25 04:00",
        "2020-10-25 05:00",
    ]
    text = "time,open,high,low,close,volume\n" + ohlc_lines(times)
    raw = read_one(write(tmp_path, "BTCUSD.csv", text), timezone="Europe/Athens")
    assert reasons(raw) == [None, "ts_unparsable", None, None]
    assert "happened twice" in raw.bars["detail"].to_pylist()[1]


def test_an_hour_that_never_happened_is_refused(tmp_path):
    times = ["2020-03-29 02:00", "2020-03-29 03:00", "2020-03-29 04:00"]
    text = "time,open,high,low,close,volume\n" + ohlc_lines(times)
    raw = read_one(write(tmp_path, "BTCUSD.csv", text), timezone="Europe/Athens")
    assert reasons(raw) == [None, "ts_unparsable", None]


@pytest.mark.parametrize(
    "timezone", ["Mars/Olympus", "+25:00", "../etc", "", "EST5EDTX"]
)
def test_a_wrong_zone_is_refused_with_examples(tmp_path, timezone):
    path = write(tmp_path, "EURUSD_H1.csv", mt5_text())
    with pytest.raises(InputError, match="Europe/Athens"):
        list(read_bars(path, timezone=timezone))


GENERIC = "symbol,ts,open,high,low,close,volume\n"


def test_bad_rows_of_a_plain_file_carry_reasons(tmp_path):
    good = "AAA,2020-01-02T0{}:00:00Z,1,2,0.5,1.5,10\n"
    text = GENERIC + good.format(0) + good.format(1) + good.format(2)
    text += "AAA,2020-01-02T03:00:00Z,nan,2,0.5,1.5,10\n"
    text += "AAA,not-a-time,1,2,0.5,1.5,10\n"
    text += ",2020-01-02T04:00:00Z,1,2,0.5,1.5,10\n"
    text += "AAA,2020-01-02T05:00:00Z,1,2\n"
    text += "AAA,2020-01-02T06:00:00Z,1,2,0.5,1.5,10,11,12\n"
    text += "AAA,2020-01-02T07:00:00Z,1,,0.5,1.5,10\n"
    text += "AAA,2020-01-02T08:00:00Z,1,2,0.5,1.5,lots\n"
    text += "AAA,2020-01-02T09:00:00Z,1,2,0.5,1.5,\n"
    raw = read_one(write(tmp_path, "btc.csv", text))
    assert reasons(raw) == [
        None, None, None, "price_not_a_number", "ts_unparsable", "symbol_missing",
        "field_missing", "value_unparsable", "field_missing", "volume_not_a_number", None,
    ]  # fmt: skip
    assert raw.original["ts"].to_pylist()[4] == "not-a-time"
    assert raw.original["surplus"].to_pylist()[7] == "11,12"


@pytest.mark.parametrize(
    ("header", "template"),
    [
        ("Date;Open;High;Low;Close;Volume", "{t};1,1;1,3;1,0;1,2;7"),
        (
            "Date,Open,High,Low,Close,Adj Close,Volume",
            '{t},"1.1","1.3",1.0,1.2,0.9,"7"',
        ),
        (" Open , High ,Low,Close,Vol.,Time ", "1.1,1.3,1.0,1.2,7,{t}"),
        ("time|o|h|l|c|v|extra", "{t}|1.1|1.3|1.0|1.2|7|x"),
        ("Timestamp,Close/Last,Volume,Open,High,Low", "{t},$1.2,7,$1.1,$1.3,$1.0"),
    ],
)
def test_usual_headers_are_recognised(tmp_path, header, template):
    text = header + "\n" + ohlc_lines(HOURS, template=template)
    raw = read_one(write(tmp_path, "ABC.csv", text), timezone="UTC")
    assert reasons(raw) == [None] * 6
    row = raw.bars.to_pylist()[0]
    assert [row[name] for name in ("open", "high", "low", "close", "volume")] == [
        1.1, 1.3, 1.0, 1.2, 7.0,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "cells", [('"1,100.5"', 1100.5), ("1100.5", 1100.5), ('"1 100.5"', 1100.5)]
)
def test_thousands_separators_are_understood(tmp_path, cells):
    line = "{t},p,p,p,p,1".replace("p", cells[0])
    text = "time,open,high,low,close,volume\n" + ohlc_lines(HOURS, template=line)
    raw = read_one(write(tmp_path, "ABC.csv", text), timezone="UTC")
    assert raw.bars["open"].to_pylist()[0] == cells[1]


def test_a_comma_that_may_be_decimal_or_thousands_is_asked_about(tmp_path):
    text = "time;open;high;low;close\n" + ohlc_lines(
        HOURS, template="{t};1,100;1,100;1,100;1,100"
    )
    path = write(tmp_path, "ABC.csv", text)
    with pytest.raises(SourceError, match="decimal="):
        list(read_bars(path, timezone="UTC"))
    raw = read_one(path, timezone="UTC", columns="decimal=,")
    assert raw.bars["open"].to_pylist()[0] == 1.1


@pytest.mark.parametrize(
    "first", ["1577923200", "1577923200000", "1577923200000000", "1577923200000000000"]
)
def test_epochs_of_any_unit_are_utc(tmp_path, first):
    step = 3600 * 10 ** (len(first) - 10)
    times = [int(first) + step * i for i in range(4)]
    text = "unix,open,high,low,close\n" + ohlc_lines(times, template="{t},1,1,1,1")
    raw = read_one(write(tmp_path, "ABC.csv", text))
    assert stamps(raw)[1] == utc(2020, 1, 2, 1)
    assert raw.timeframe == "1h"


def test_a_day_that_may_be_a_month_is_asked_about(tmp_path):
    text = "date,open,high,low,close\n" + ohlc_lines(
        ["01/02/2020", "01/03/2020", "01/06/2020"], template="{t},1,1,1,1"
    )
    path = write(tmp_path, "ABC.csv", text)
    with pytest.raises(SourceError, match="dates=dmy or dates=mdy"):
        list(read_bars(path, timeframe="1d"))
    raw = read_one(path, timeframe="1d", columns="dates=mdy")
    assert stamps(raw)[2] == utc(2020, 1, 6)


def test_daily_bars_carry_their_session_date(tmp_path):
    text = "date,open,high,low,close\n" + ohlc_lines(
        [f"2020-01-0{day} 16:00:00-05:00" for day in range(1, 6)],
        template="{t},1,1,1,1",
    )
    raw = read_one(write(tmp_path, "SPY_daily.csv", text))
    assert stamps(raw)[0] == utc(2020, 1, 1)


def test_daily_bars_stamped_in_the_evening_utc_need_the_markets_zone(tmp_path):
    text = "date,open,high,low,close\n" + ohlc_lines(
        [f"2020-01-0{day}T22:00:00Z" for day in range(1, 6)], template="{t},1,1,1,1"
    )
    path = write(tmp_path, "EURUSD_D1.csv", text)
    with pytest.raises(SourceError, match="session date"):
        list(read_bars(path))
    assert stamps(read_one(path, timezone="EET"))[0] == utc(2020, 1, 2)


def test_a_column_map_reads_names_nobody_would_guess(tmp_path):
    text = "quand,a,b,c,d,qui\n" + ohlc_lines(HOURS, template="{t},1,2,0.5,1.5,ZZZ")
    path = write(tmp_path, "odd.csv", text)
    with pytest.raises(SourceError, match=r"odd\.csv: no column.*header quand, a, b"):
        list(read_bars(path))
    raw = read_one(
        path, timezone="UTC", columns="ts=quand,open=a,high=b,low=c,close=d,symbol=qui"
    )
    assert raw.bars["symbol"].to_pylist() == ["ZZZ"] * 6


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("opn=a", "'opn' is no field"),
        ("open=zzz", "no such column"),
        ("scale=x", "not a number"),
    ],
)
def test_a_wrong_column_map_is_refused(tmp_path, columns, message):
    path = write(tmp_path, "ABC.csv", GENERIC + "A,2020-01-02T00:00:00Z,1,1,1,1,1\n")
    with pytest.raises(InputError, match=message):
        list(read_bars(path, columns=columns, timeframe="1h"))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_compression_is_recognised_by_content(tmp_path, pack):
    text = "time,open,high,low,close\n" + ohlc_lines(HOURS, template="{t},1,1,1,1")
    path = write(tmp_path, "ABC.csv", pack(text.encode()))
    assert read_one(path, timezone="UTC").bars.num_rows == 6


def test_a_title_line_above_the_header_is_passed_over(tmp_path):
    text = "https://www.example.org/data\nUnix,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USDT\n"
    for hour in range(4):
        text += f"{1577923200 + 3600 * hour},2020-01-02 0{hour}:00:00,BTC/USDT,1,2,0.5,1.5,3,4\n"
    raw = read_one(write(tmp_path, "x.csv", text))
    assert raw.bars["symbol"].to_pylist()[0] == "BTC/USDT"
    assert raw.bars["volume"].null_count == 4
    assert any("Volume BTC, Volume USDT could be meant" in note for note in raw.notes)


def test_a_quote_left_open_does_not_swallow_the_rows_below(tmp_path):
    text = "time,open,high,low,close\n" + ohlc_lines(HOURS, template="{t},1,1,1,1")
    text = text.replace("02:00,1,1", '02:00,"1,1')
    raw = read_one(write(tmp_path, "ABC.csv", text), timezone="UTC")
    assert raw.bars.num_rows == 6
    assert sum(reason is not None for reason in reasons(raw)) == 1


def test_stooq_exports_with_ticker_period_and_digit_clocks_read(tmp_path):
    text = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
    text += "".join(
        f"EURUSD,60,20200102,{hour:02d}0000,1.1,1.3,1.0,1.2,7,0\n" for hour in range(4)
    )
    raw = read_one(write(tmp_path, "h_world.txt", text), timezone="CET")
    assert (raw.timeframe, stamps(raw)[0]) == ("1h", utc(2020, 1, 1, 23))
    assert raw.bars["symbol"].to_pylist() == ["EURUSD"] * 4


def test_dates_with_dots_are_day_first_and_a_gmt_column_is_utc(tmp_path):
    text = "Gmt time,Open,High,Low,Close,Volume\n" + ohlc_lines(
        [f"02.01.2020 0{hour}:00:00.000" for hour in range(4)]
    )
    raw = read_one(write(tmp_path, "EURUSD.csv", text))
    assert stamps(raw)[3] == utc(2020, 1, 2, 3)


def test_one_odd_cell_does_not_change_the_decimal_mark(tmp_path):
    text = "time,open,high,low,close\n" + ohlc_lines(
        HOURS, template="{t},1.5,1.5,1.5,1.5"
    )
    text = text.replace("05:00,1.5", '05:00,"1,5"')
    raw = read_one(write(tmp_path, "ABC.csv", text), timezone="UTC")
    assert reasons(raw) == [None] * 5 + ["price_not_a_number"]


def test_an_export_of_both_bar_lengths_asks_for_one_and_selects_it(tmp_path):
    text = "symbol,timeframe,ts,open,high,low,close,volume\n"
    text += "A,1h,2020-01-02T00:00:00Z,1,1,1,1,1\nA,1d,2020-01-02T00:00:00Z,1,1,1,1,1\n"
    path = write(tmp_path, "both.csv", text)
    with pytest.raises(SourceError, match=r"both\.csv: holds bars of 1d, 1h"):
        list(read_bars(path))
    assert read_one(path, timeframe="1d").bars.num_rows == 1


def test_an_office_document_is_refused_with_advice(tmp_path):
    path = lean_zip(tmp_path, "book.xlsx", {"[Content_Types].xml": "<x/>"})
    with pytest.raises(SourceError, match="export its sheet as CSV"):
        list(read_bars(path))


def test_a_very_long_field_is_a_cell_like_any_other(tmp_path):
    text = "time,open,high,low,close\n" + ohlc_lines(HOURS, template="{t},1,1,1,1")
    raw = read_one(
        write(tmp_path, "ABC.csv", text + f"\n{'x' * 200_000},1"), timezone="UTC"
    )
    assert reasons(raw)[-1] == "field_missing"
