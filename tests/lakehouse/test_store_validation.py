"""What the write path lets through: names, types, nulls, ranges."""

from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.errors import SchemaError
from lakehouse.schema._columns import number
from lakehouse.schema._spec import FLOATS, PATHS, ColumnSpec, TableSpec
from lakehouse.schema.catalogue import table_spec
from lakehouse.storage.validate import conform, decode
from lakehouse.store import Lake
from tests.simulators.lakehouse import START, bars, forecasts, rows_of

OHLCV = table_spec("ohlcv")


def with_column(rows: pa.Table, name: str, values: object) -> pa.Table:
    """Return rows with one column replaced."""
    return rows.set_column(rows.schema.get_field_index(name), name, values)


def close(*values: float | None) -> pa.Table:
    """Return bars whose closes are `values`."""
    return with_column(
        bars(len(values), symbols=("BTC",)), "close", pa.array(values, pa.float64())
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (bars().drop_columns(["open"]), "column missing: open"),
        (bars().append_column("vwap", bars()["open"]), "no such column: vwap"),
        (bars().append_column("open", bars()["open"]), "given twice"),
        (close(1.0, None), "column close: null in row 1"),
        (close(1.0, np.nan), "column close: NaN or infinity in row 1"),
        (close(np.inf, 1.0), "column close: NaN or infinity in row 0"),
        (close(1.0, 1.0, 0.0), r"column close: 0.0 in row 2; allowed: > 0"),
        (
            with_column(close(1.0), "volume", pa.array([-1.0])),
            r"column volume: -1.0 in row 0; allowed: >= 0",
        ),
        (
            with_column(close(1.0), "timeframe", pa.array(["4h"])),
            "column timeframe: '4h' in row 0; allowed: 1h, 1d",
        ),
        (
            with_column(close(1.0), "close", pa.array(["1.0"])),
            "column close: type string, expected double",
        ),
        (
            with_column(close(1.0), "symbol", pa.array([7])),
            "column symbol: type int64, expected string",
        ),
        (
            with_column(close(1.0), "ts", pa.array([START.replace(tzinfo=None)])),
            "column ts: type timestamp",
        ),
        (
            with_column(close(1.0), "ts", pa.array([1], pa.timestamp("ns", tz="UTC"))),
            "column ts: not exact",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_name(rows: pa.Table, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        conform(OHLCV, rows)


def test_types_widen_and_nullable_columns_may_be_left_out() -> None:
    rows = bars(2, symbols=("BTC",)).drop_columns(["flags"])
    rows = with_column(rows, "open", pa.array([1, 2], pa.int32()))
    rows = with_column(rows, "close", pa.array([1.5, 2.5], pa.float32()))
    rows = with_column(rows, "symbol", rows["symbol"].cast(pa.large_string()))
    rows = with_column(rows, "source", rows["source"].dictionary_encode())
    rows = with_column(rows, "ts", rows["ts"].cast(pa.timestamp("s", "Europe/Berlin")))
    found = decode(OHLCV, conform(OHLCV, rows.select(rows.column_names[::-1])))
    assert found.schema.names == OHLCV.to_arrow().names
    assert found.schema.types == OHLCV.to_arrow().types
    assert found["open"].to_pylist() == [1.0, 2.0]
    assert found["ts"][0].as_py() == START
    assert found["flags"].null_count == 2


def test_dictionaries_of_one_symbol_per_chunk_are_understood(lake: Lake) -> None:
    parts = [bars(3, symbols=(symbol,)) for symbol in ("SPX", "BTC", "EURUSD")]
    encoded = pa.concat_tables(
        [with_column(p, "symbol", p["symbol"].dictionary_encode()) for p in parts]
    )
    lake.append("ohlcv", encoded, window="w")
    assert rows_of(lake.read("ohlcv")) == rows_of(pa.concat_tables(parts))


def test_lists_are_checked_inside(lake: Lake) -> None:
    rows = forecasts([START])
    lake.append("ml_predictions", rows, window="w")
    assert rows_of(lake.read("ml_predictions")) == rows_of(rows)
    broken = pa.array([[1.0, np.nan]] * rows.num_rows)
    with pytest.raises(SchemaError, match="column p50: NaN or infinity inside a list"):
        conform(table_spec("ml_predictions"), with_column(rows, "p50", broken))
    holed = pa.array([[1.0, None]] * rows.num_rows)
    with pytest.raises(SchemaError, match="column p50: null inside a list"):
        conform(table_spec("ml_predictions"), with_column(rows, "p50", holed))


def test_a_list_with_gaps_keeps_its_nulls_and_refuses_nan(lake: Lake) -> None:
    column = ColumnSpec("x", FLOATS, "Items.", has_gaps=True)
    spec = TableSpec("toy", "A toy.", (column,), ("x",))
    found = conform(spec, pa.table({"x": [[1.0, None]]}))
    assert found["x"].to_pylist() == [[1.0, None]]
    with pytest.raises(SchemaError, match="NaN or infinity inside a list"):
        conform(spec, pa.table({"x": [[1.0, np.nan]]}))


def test_a_float32_column_rounds_but_never_overflows() -> None:
    spec = TableSpec("toy", "A toy.", (ColumnSpec("x", PATHS, "Paths."),), ("x",))
    found = conform(spec, pa.table({"x": [[[0.1]]]}))
    assert found["x"].type == PATHS
    with pytest.raises(SchemaError, match="infinity"):
        conform(spec, pa.table({"x": [[[1e300]]]}))


def test_ranges_hold_at_their_ends() -> None:
    column = number("share", "A share.", minimum=0, maximum=1)
    spec = TableSpec("toy", "A toy.", (column,), ("share",))
    assert conform(spec, pa.table({"share": [0.0, 1.0]})).num_rows == 2
    with pytest.raises(SchemaError, match=r"1.5 in row 1; allowed: <= 1"):
        conform(spec, pa.table({"share": [0.0, 1.5]}))


def test_naive_times_are_not_guessed(lake: Lake) -> None:
    rows = with_column(
        close(1.0),
        "ts",
        pa.array([datetime(2024, 1, 1)]),  # noqa: DTZ001
    )
    with pytest.raises(SchemaError, match="expected timestamp"):
        lake.append("ohlcv", rows, window="w")
    assert lake.version("ohlcv") is None
