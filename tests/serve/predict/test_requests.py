"""From a client's bytes to a checked request."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import MalformedError
from serve.predict.documents import EXAMPLE
from serve.predict.requests import read_order
from serve.predict.schemas import WorkRequest
from serve.schemas import Instrument
from tests.simulators.predict import body


def read(request, instruments=None):
    data = request if isinstance(request, bytes) else msgspec.json.encode(request)
    return read_order(data, instruments or {})


def with_cell(column: str, row: int, value, **changes) -> dict:
    request = body(6, **changes)
    request["ohlcv"][column][row] = value
    return request


def with_columns(**columns) -> dict:
    request = body(6)
    request["ohlcv"].update(columns)
    return request


REFUSED = {
    "nothing": (b"", "truncated"),
    "no JSON": (b"{", "truncated"),
    "no object": (b"[]", "Expected `object`"),
    "NaN": (b'{"ohlcv": {"open": [NaN]}}', "invalid character"),
    "beyond float": (b'{"ohlcv": {"open": [1e999]}}', "Number out of range"),
    "not UTF-8": (b'{"model": "\xff"}', "."),
    "deep": (b'{"ohlcv": ' + b"[" * 100_000, "."),
    "no bars": ({}, "missing required field `ohlcv`"),
    "a stranger": (body(6, horizon=5), "unknown field `horizon`"),
    "no close": ({"ohlcv": {"ts": []}}, r"length >= 3 - at `\$.ohlcv.ts`"),
    "two bars": (body(2), r"length >= 3 - at `\$.ohlcv"),
    "too many bars": (body(4097), "length <= 4096"),
    "zero": (with_cell("low", 3, 0.0), r"> 0.0 - at `\$.ohlcv.low\[3\]`"),
    "negative": (with_cell("open", 2, -1.0), r"at `\$.ohlcv.open\[2\]`"),
    "text": (with_cell("close", 1, "1"), r"got `str` - at `\$.ohlcv.close\[1\]`"),
    "null price": (with_cell("close", 1, None), r"at `\$.ohlcv.close\[1\]`"),
    "negative volume": (with_cell("volume", 1, -1.0), r"volume\[1\]"),
    "naive time": (with_cell("ts", 2, "2021-01-01T02:00:00"), "timezone"),
    "a date": (with_cell("ts", 2, "2021-01-01"), "RFC3339"),
    "a number for a time": (with_cell("ts", 2, 1), r"got `int` - at `\$.ohlcv.ts\[2\]`"),
    "time before time": (with_cell("ts", 0, "0001-01-01T00:00:00+23:00"), "ohlcv.ts"),
    "unequal": (with_columns(close=[1.0] * 5), "ohlcv.close has 5 items, ohlcv.ts 6"),
    "unequal volume": (with_columns(volume=[1.0] * 7), "ohlcv.volume has 7 items"),
    "high below low": (with_cell("high", 4, 1.0), r"ohlcv.high\[4\] is below low"),
    "open outside": (with_cell("open", 4, 1e9), r"ohlcv.open\[4\] is outside"),
    "close outside": (with_cell("close", 5, 1e-9), r"ohlcv.close\[5\] is outside"),
    "repeated": (
        with_cell("ts", 3, "2021-01-01T02:00:00Z"),
        r"ohlcv.ts\[3\] is not after the one before",
    ),
    "backwards": (with_cell("ts", 5, "2020-01-01T02:00:00Z"), r"ohlcv.ts\[5\]"),
    "off the hour": (with_cell("ts", 2, "2021-01-01T02:30:00Z"), "whole UTC hour"),
    "other timeframe": (body(6) | {"timeframe": "5m"}, "Invalid enum value '5m'"),
    "wrong timeframe": (
        {**body(6), "timeframe": "1d"},
        "bars are 3600 seconds apart, timeframe is 1d: allowed",
    ),
    "unknown model": (body(6, model="oracle"), "Invalid enum value 'oracle'"),
    "pred_len 0": (body(6, pred_len=0), "pred_len"),
    "pred_len 513": (body(6, pred_len=513), "pred_len"),
    "few samples": (body(6, n_samples=8), "n_samples"),
    "many samples": (body(6, n_samples=101), "n_samples"),
    "seed": (body(6, seed=7) | {"seed": -1}, "seed"),
    "odd symbol": (body(6, symbol="a b"), "symbol"),
    "odd calendar": (body(6, calendar="../x"), "calendar"),
    "odd class": (body(6, asset_class="art"), "asset_class"),
    "narrow events": (body(6, events=[[0.0] * 19]), r"length >= 20 - at `\$.events\[0\]`"),
    "few events": (
        body(6, events=[[0.0] * 20] * 10),
        "events has 10 rows of 20: allowed are 11, one per bar given",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "match"), REFUSED.values(), ids=REFUSED)
def test_a_bad_request_is_refused_with_what_where_and_allowed(request_, match):
    with pytest.raises(MalformedError, match=match) as caught:
        read(request_)
    assert "\n" not in caught.value.detail
    assert len(caught.value.detail) < 420


def test_the_documented_example_is_a_request():
    order = read(EXAMPLE)
    assert order.timeframe == "1d"
    assert order.group == ("kronos", "1d", 5, 20, 0)


def test_what_is_not_said_is_filled_in():
    request = body(6)
    del request["model"], request["pred_len"], request["ohlcv"]["volume"]
    whole = msgspec.json.decode(read(request).payload, type=WorkRequest)
    assert (whole.model, whole.pred_len, whole.n_samples, whole.seed) == (
        "kronos",
        120,
        20,
        0,
    )
    assert (whole.timeframe, whole.calendar, whole.asset_class) == (
        "1h",
        "24x7",
        "other",
    )
    assert whole.ohlcv.volume is None
    assert whole.events is None


def test_a_served_symbol_lends_its_calendar_and_class():
    known = Instrument(
        symbol="EUR/USD",
        asset_class="fx",
        calendar="fx",
        currency="USD",
        is_leader=False,
        listed_from=None,
        listed_to=None,
        timeframes=[],
        forecasts=[],
    )
    served = {"EUR/USD": known}
    order = read(body(6, symbol="EUR/USD"), served)
    whole = msgspec.json.decode(order.payload, type=WorkRequest)
    assert (whole.calendar, whole.asset_class) == ("fx", "fx")
    own = read(body(6, symbol="EUR/USD", calendar="XNYS", asset_class="index"), served)
    whole = msgspec.json.decode(own.payload, type=WorkRequest)
    assert (whole.calendar, whole.asset_class) == ("XNYS", "index")


def test_days_with_gaps_are_daily_bars():
    request = body(8, timeframe="1d")
    for column in request["ohlcv"].values():
        del column[3:5]
    assert read(request).timeframe == "1d"


def test_the_same_moments_in_another_zone_are_the_same_request():
    there = body(6)
    there["ohlcv"]["ts"] = [
        datetime.fromisoformat(ts).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for ts in there["ohlcv"]["ts"]
    ]
    shifted = body(6)
    shifted["ohlcv"]["ts"] = [ts.replace("Z", "+00:00") for ts in there["ohlcv"]["ts"]]
    explicit = body(6, calendar="24x7", seed=7) | {"seed": 0}
    assert read(there).key == read(shifted).key == read(explicit).key


@pytest.mark.parametrize(
    "change",
    [
        {"pred_len": 6},
        {"model": "seasonal"},
        {"symbol": "X"},
        {"n_samples": 21},
        {"calendar": "fx"},
        {"asset_class": "fx"},
        {"events": [[0.0] * 20] * 11},
    ],
    ids=str,
)
def test_whatever_decides_a_forecast_is_part_of_its_key(change):
    assert read(body(6, **change)).key != read(body(6)).key


@given(data=st.binary(max_size=200))
@settings(max_examples=200)
def test_random_bytes_are_malformed_and_nothing_else(data):
    with pytest.raises(MalformedError):
        read(data)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*body(3), *body(3)["ohlcv"]]), inner)
    ),
    max_leaves=20,
)


@given(changes=st.dictionaries(st.sampled_from([*body(3), "events"]), _VALUES))
@settings(max_examples=150)
def test_odd_members_are_malformed_or_read(changes):
    try:
        order = read({**body(4), **changes})
    except MalformedError:
        return
    assert (
        msgspec.json.decode(order.payload, type=WorkRequest).pred_len == order.pred_len
    )
