"""What a file of predictions may hold."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lab.errors import FeatureError
from lab.learning.predictions_io import PREDICTIONS, parse_predictions

GOOD = b"""symbol,timeframe,as_of,prediction
SPY,1d,2024-03-05T21:00:00Z,0.25
TLT,1d,2024-03-04T22:00:00+01:00,-0.5
"""


def test_a_csv_becomes_rows_in_order_with_moments_in_utc():
    rows = parse_predictions(GOOD, "a.csv")
    assert rows.schema == PREDICTIONS
    assert rows["subject_id"].to_pylist() == [
        "TLT/2024-03-04T21:00:00Z",
        "SPY/2024-03-05T21:00:00Z",
    ]
    assert rows["prediction"].to_pylist() == [-0.5, 0.25]


def test_parquet_and_csv_of_the_same_rows_are_the_same():
    rows = parse_predictions(GOOD, "a.csv")
    sink = io.BytesIO()
    pq.write_table(rows, sink)
    assert parse_predictions(sink.getvalue(), "a.parquet").equals(rows)


def test_a_file_may_name_what_its_rows_are_about():
    text = b"subject_id,symbol,timeframe,as_of,prediction\no-1,SPY,1h,2024-01-01T00:00:00Z,1\n"
    assert parse_predictions(text, "a.csv")["subject_id"].to_pylist() == ["o-1"]


BAD = {
    "no column": (
        b"symbol,timeframe,as_of\nSPY,1d,2024-03-05T21:00:00Z\n",
        "missing: prediction",
    ),
    "one more": (
        GOOD.replace(b"prediction", b"prediction,label")
        .replace(b"0.25", b"0.25,1")
        .replace(b"-0.5", b"-0.5,0"),
        "column label: only",
    ),
    "no offset": (GOOD.replace(b"00Z", b"00"), "no predictions"),
    "no number": (GOOD.replace(b"0.25", b"up"), "no predictions"),
    "infinite": (GOOD.replace(b"0.25", b"inf"), "not a finite number"),
    "a gap": (GOOD.replace(b"0.25", b""), "prediction: a value is missing"),
    "no symbol": (GOOD.replace(b"SPY", b""), "symbol: a value is missing"),
    "a timeframe": (GOOD.replace(b"SPY,1d", b"SPY,7w"), "7w"),
    "twice": (
        GOOD + b"SPY,1d,2024-03-05T21:00:00Z,0.3\n",
        "two rows are about the same",
    ),
    "no row": (b"symbol,timeframe,as_of,prediction\n", "no prediction in it"),
    "nothing": (b"", "no predictions"),
    "bytes": (bytes(range(256)), "a.csv"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_any_other_file_is_refused_in_one_line(name):
    data, reason = BAD[name]
    with pytest.raises(FeatureError, match=reason) as caught:
        parse_predictions(data, "a.csv")
    assert "\n" not in str(caught.value)


def test_a_damaged_parquet_file_is_refused():
    with pytest.raises(FeatureError, match=r"a\.parquet: no predictions"):
        parse_predictions(b"PAR1 and nothing else", "a.parquet")


def test_a_parquet_file_with_naive_times_is_refused():
    rows = parse_predictions(GOOD, "a.csv")
    at = rows.column_names.index("as_of")
    naive = rows.set_column(at, "as_of", rows["as_of"].cast(pa.timestamp("us")))
    sink = io.BytesIO()
    pq.write_table(naive, sink)
    with pytest.raises(FeatureError, match="not a time with its offset"):
        parse_predictions(sink.getvalue(), "a.parquet")


@pytest.mark.parametrize("micros", [2**62, -(2**62)])
def test_a_moment_beyond_the_calendar_is_refused(micros):
    rows = parse_predictions(GOOD, "a.csv")
    at = rows.column_names.index("as_of")
    moments = pa.array([micros] * len(rows)).cast(rows["as_of"].type)
    sink = io.BytesIO()
    pq.write_table(rows.set_column(at, "as_of", moments), sink)
    with pytest.raises(FeatureError, match="years from 1900 to 9999"):
        parse_predictions(sink.getvalue(), "a.parquet")
