"""Files as a whole: found, checked before anything is handed out, never a row lost."""

import random
import zipfile
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.errors import InputError, SourceError
from lakehouse.schema.market import QUARANTINE_REASONS
from lakehouse.sources.files import read_bars

HEADER = "symbol,ts,open,high,low,close,volume"
ROW = "AAA,2020-01-0{}T00:00:00Z,1,2,0.5,1.5,10"
GOOD = "\n".join([HEADER, *(ROW.format(day) for day in range(1, 6))]) + "\n"


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "n_rows", "timeframe"),
    [("ohlcv_1h.parquet", 1_306_195, "1h"), ("ohlcv_1d.parquet", 237_491, "1d")],
)
def test_the_panel_reads_whole_and_without_a_reason(market, name, n_rows, timeframe):
    (raw,) = read_bars(market / name)
    assert raw.bars.num_rows == raw.original.num_rows == n_rows
    assert raw.bars["reason"].null_count == n_rows
    assert raw.timeframe == timeframe
    assert {info.symbol: info.asset_class for info in raw.instruments}["EURUSD"] == "fx"


@pytest.mark.parametrize(
    ("name", "symbol", "n_rows", "first", "opened"),
    [
        ("hmate9_BTCUSDT_1d.csv", "BTCUSDT", 1_392, "2019-09-08 00:00", 10_000.0),
        ("lean_equity_usa_hour_vxx.zip", "VXX", 20_915, "2009-01-30 14:00", 100.11),
    ],
)
def test_raw_samples_read_as_they_are(market, name, symbol, n_rows, first, opened):
    (raw,) = read_bars(market / "dirty" / name)
    row = raw.bars.slice(0, 1).to_pylist()[0]
    assert raw.bars.num_rows == n_rows
    assert raw.bars["reason"].null_count == n_rows
    assert (row["symbol"], f"{row['ts']:%Y-%m-%d %H:%M}") == (symbol, first)
    assert row["open"] == opened


def test_the_lean_sample_equals_the_panel(market):
    (raw,) = read_bars(market / "dirty" / "lean_equity_usa_hour_vxx.zip")
    panel = pyarrow.parquet.read_table(
        market / "ohlcv_1h.parquet", filters=[("symbol", "=", "VXX")]
    )
    names = ["ts", "open", "high", "low", "close", "volume"]
    assert raw.bars.select(names).equals(
        panel.select(names).cast(raw.bars.select(names).schema)
    )


def test_a_pattern_that_matches_nothing_and_a_directory_are_refused(tmp_path):
    with pytest.raises(SourceError, match="no file matches"):
        list(read_bars(tmp_path / "*.csv"))
    with pytest.raises(SourceError, match=r"a directory; pass a glob"):
        list(read_bars(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.csv", b"", "empty"),
        ("h.csv", HEADER.encode(), "no row below"),
        ("j.csv", random.Random(1).randbytes(4000), "binary|columns"),
        ("g.csv.gz", b"\x1f\x8b\x08\x00aaaaaaaa", "damaged"),
        ("z.zip", b"PK\x03\x04aaaaaaaa", "damaged"),
        ("p.parquet", b"PAR1aaaaaaaaaaaPAR1", "damaged parquet"),
        ("f.feather", b"ARROW1aaaaaaaaaaa", "damaged arrow"),
        ("t.txt", b"nothing here\nto see", "no comma, tab"),
    ],
)
def test_a_file_that_is_none_is_refused_by_name(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(SourceError, match=message) as caught:
        list(read_bars(path))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_bad_file_refuses_all_before_the_first_is_handed_out(tmp_path):
    write(tmp_path, "a.csv", GOOD)
    write(tmp_path, "b.csv", "nothing\n")
    write(tmp_path, "c.csv", b"")
    with pytest.raises(SourceError, match=r"b\.csv.*1 more refused"):
        read_bars(tmp_path / "*.csv")


def test_files_are_handed_out_in_the_order_of_their_paths(tmp_path):
    for name in ("b.csv", "a.csv"):
        write(tmp_path, name, GOOD)
    sources = [raw.source.split("@")[0] for raw in read_bars(tmp_path / "*.csv")]
    assert sources == ["files:a.csv", "files:b.csv"]


def test_the_window_depends_on_content_and_reading_not_on_where_it_lies(tmp_path):
    (tmp_path / "x").mkdir()
    windows = [
        next(read_bars(path, **options)).window
        for path, options in [
            (write(tmp_path, "a.csv", GOOD), {}),
            (write(tmp_path / "x", "a.csv", GOOD), {}),
            (tmp_path / "a.csv", {"timeframe": "1d"}),
            (tmp_path / "a.csv", {"columns": "scale=10"}),
            (write(tmp_path, "b.csv", GOOD + ROW.format(6)), {}),
        ]
    ]
    assert len(set(windows[:3])) == 1
    assert len(set(windows[2:])) == 3
    assert windows[0].startswith("sha256:")


def nameless(n_rows: int = 4) -> str:
    lines = [f"2020-01-02T{hour:02d}:00:00Z,1,2,0.5,1.5" for hour in range(n_rows)]
    return "\n".join(["ts,open,high,low,close", *lines])


def symbol_of(path: Path, **options) -> str:
    return next(read_bars(path, **options)).bars["symbol"][0].as_py()


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("hmate9_BTCUSDT_1h.csv", "BTCUSDT"),
        ("EURUSDh1.csv", "EURUSD"),
        ("AUDCAD60.csv", "AUDCAD"),
        ("thesnowguru_AUDCHF_H1.csv", "AUDCHF"),
        ("BTC_USDT-1h.csv", "BTCUSDT"),
        ("vxx.csv", "VXX"),
    ],
)
def test_the_symbol_comes_from_the_file_name_and_is_said(tmp_path, name, symbol):
    raw = next(read_bars(write(tmp_path, name, nameless())))
    assert raw.bars["symbol"].to_pylist() == [symbol] * 4
    assert f"symbol {symbol} by the file name" in raw.notes


def test_a_name_that_could_mean_two_symbols_is_asked_about(tmp_path):
    path = write(tmp_path, "AAPL_CFD.csv", nameless())
    with pytest.raises(SourceError, match="could mean AAPL, CFD; pass --symbols"):
        list(read_bars(path))
    assert symbol_of(path, symbols="AAPL_CFD") == "AAPL_CFD"


def test_one_symbol_is_never_given_to_files_named_after_others(tmp_path):
    for name in ("BTCUSDT.csv", "ETHUSDT.csv"):
        write(tmp_path, name, nameless())
    with pytest.raises(SourceError, match="none of --symbols XRPUSDT"):
        list(read_bars(tmp_path / "*.csv", symbols="XRPUSDT"))
    (raw,) = read_bars(tmp_path / "*.csv", symbols=["ETHUSDT"])
    assert raw.source.startswith("files:ETHUSDT.csv")


def test_symbols_select_where_the_file_names_them(tmp_path):
    text = GOOD + GOOD.replace("AAA", "BBB").split("\n", 1)[1]
    path = write(tmp_path, "two.csv", text)
    raw = next(read_bars(path, symbols=["BBB"]))
    assert raw.bars["symbol"].to_pylist() == ["BBB"] * 5
    with pytest.raises(SourceError, match="no row for CCC"):
        list(read_bars(path, symbols="CCC"))


@pytest.mark.parametrize(
    ("name", "timeframe", "message"),
    [
        ("A.csv", "1d", "timeframe 1d, but its bars are 1h apart"),
        ("A_1d.csv", None, "its name says 1d"),
        ("A.csv", "4h", "none of 1h, 1d"),
    ],
)
def test_a_contradicted_bar_length_is_refused(tmp_path, name, timeframe, message):
    path = write(tmp_path, name, nameless())
    with pytest.raises(InputError, match=message):
        list(read_bars(path, timeframe=timeframe))


def test_other_bar_lengths_and_single_bars_are_refused(tmp_path):
    minutes = nameless().replace(":00:00Z", ":00Z").replace("T", "T00:")
    with pytest.raises(SourceError, match="bars of 1m; only 1h and 1d"):
        list(read_bars(write(tmp_path, "A.csv", minutes)))
    single = write(tmp_path, "B.csv", nameless(1))
    with pytest.raises(SourceError, match="pass --timeframe"):
        list(read_bars(single))
    assert next(read_bars(single, timeframe="1h")).timeframe == "1h"


@pytest.mark.parametrize(
    "options", [{"dialect": "excel"}, {"dialect": "klines"}, {"dialect": "lean"}]
)
def test_a_wrong_dialect_is_refused(tmp_path, options):
    with pytest.raises(InputError, match=r"none of auto|not klines|6 or 11 columns"):
        list(read_bars(write(tmp_path, "a.csv", GOOD), **options))


CELLS = st.text(
    st.characters(
        blacklist_characters="\r\n\0\x1a", blacklist_categories=("Cs", "Cc", "Zl", "Zp")
    ),
    max_size=12,
)
JUNK = st.lists(CELLS, min_size=1, max_size=9).map(",".join).filter(str.strip)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(junk=st.lists(JUNK, max_size=15), at=st.integers(0, 5))
def test_no_row_is_lost_whatever_it_holds(tmp_path, junk, at):
    lines = GOOD.splitlines()
    body = lines[1 : 1 + at] + junk + lines[1 + at :]
    path = write(tmp_path, "junk.csv", "\n".join([lines[0], *body]))
    (raw,) = read_bars(path, timeframe="1d")
    assert raw.bars.num_rows == raw.original.num_rows == len(body)
    found = set(raw.bars["reason"].to_pylist()) - {None}
    assert found <= set(QUARANTINE_REASONS)
    assert raw.bars["reason"].null_count >= 5


def _samples(folder: Path) -> list[Path]:
    table = pa.table(
        {"symbol": ["A"] * 40, "ts": pa.array(range(40), pa.timestamp("us", "UTC"))}
    )
    table = table.set_column(
        1,
        "ts",
        pa.array(
            [3_600_000_000 * i + 10**15 - 10**15 % 3_600_000_000 for i in range(40)],
            pa.timestamp("us", "UTC"),
        ),
    )
    for name in ("open", "high", "low", "close"):
        table = table.append_column(name, pa.array([1.5] * 40))
    pyarrow.parquet.write_table(table, folder / "ours.parquet")
    pyarrow.feather.write_feather(table, folder / "ours.feather")
    klines = "\n".join(
        f"{1567900800000 + 3600000 * i},10,12,9,11,5,{1567904399999 + 3600000 * i},1,2,3,4,0"
        for i in range(40)
    )
    write(folder, "BTCUSDT-1h.csv", klines)
    metatrader = "\r\n".join(
        ["<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"]
        + [
            f"2020.01.02\t{i % 24:02d}:00:00\t1.1\t1.3\t1.0\t1.2\t7\t0\t1"
            for i in range(24)
        ]
    )
    write(folder, "EURUSD_H1.csv", metatrader.encode("utf-16"))
    write(folder, "plain.csv", GOOD * 1)
    with zipfile.ZipFile(
        folder / "lean_equity_usa_hour_spy.zip", "w", zipfile.ZIP_DEFLATED
    ) as archive:
        rows = "".join(
            f"20200102 {9 + i:02d}:00,1000000,1000000,1000000,1000000,5\n"
            for i in range(8)
        )
        archive.writestr("spy.csv", rows)
    return sorted(folder.iterdir())


def _mutate(data: bytes, rng: random.Random) -> bytes:
    mutated = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(mutated) + 1)
        match rng.randrange(4):
            case 0:
                mutated[at : at + 1] = rng.randbytes(1)
            case 1:
                del mutated[at : at + rng.randint(1, 9)]
            case 2:
                mutated[at:at] = rng.choice(
                    [b",", b'"', b"\n", b"\t", b"\0", b"nan", b"9" * 25]
                )
            case _:
                mutated = mutated[: max(at, 1)]
    return bytes(mutated)


def _fuzz(folder: Path, n_mutations: int) -> None:
    samples = folder / "samples"
    samples.mkdir()
    rng = random.Random(20)
    for sample in _samples(samples):
        data = sample.read_bytes()
        assert next(read_bars(sample, timezone="EET")).bars.num_rows
        for _ in range(n_mutations):
            path = write(folder, sample.name, _mutate(data, rng))
            with suppress(InputError):
                for raw in read_bars(path, timezone="EET"):
                    assert raw.bars.num_rows == raw.original.num_rows


def test_mutated_files_are_read_or_refused_never_a_crash(tmp_path):
    _fuzz(tmp_path, 40)


@pytest.mark.full
def test_many_mutated_files_are_read_or_refused_never_a_crash(tmp_path):
    _fuzz(tmp_path, 300)
