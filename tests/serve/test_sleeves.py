"""What `/showcase/sleeves` answers, over artefacts that the publisher's code made."""

import json
from collections.abc import Callable
from datetime import datetime

import pyarrow as pa
import pytest

from lakehouse.schema.catalogue import table_spec
from serve.snapshot import SnapshotError, build_snapshot
from tests.simulators.artefacts import NOW, MemoryProvider, tables
from tests.simulators.sleeves import SLEEVES, made_up_book

pytestmark = pytest.mark.xdist_group("sleeve-book")


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> dict[str, pa.Table]:
    """Both artefacts of a lake with three made-up walk-forward runs."""
    return made_up_book(tmp_path_factory.mktemp("book"), now=NOW)


@pytest.fixture
def gateway(start: Callable, book):
    return start(MemoryProvider(tables() | book))


def changed(table: pa.Table, name: str, value: object) -> pa.Table:
    column = pa.array([value] * table.num_rows, table.schema.field(name).type)
    return table.set_column(table.column_names.index(name), name, column)


def test_every_sleeve_is_listed_by_timeframe_the_baseline_first(gateway):
    got = gateway.get("/showcase/sleeves").json()
    names = [(one["timeframe"], one["sleeve_id"]) for one in got["items"]]
    assert (got["total"], got["offset"], got["limit"]) == (7, 0, 500)
    assert names[0] == ("1d", "phase37")
    assert names[5:] == [("1h", "phase37"), ("1h", "rsi-reversion")]
    assert {name for _, name in names[:5]} == set(SLEEVES)
    assert names[1:5] == sorted(names[1:5])
    assert got["stale"] is False
    assert got["artefact"] == got["sleeve_set"] == {"version": 1, "sha256": f"{1:064x}"}


def test_a_sleeve_carries_its_whole_record(gateway, book):
    (item,) = gateway.get(
        "/showcase/sleeves?timeframe=1d&sleeve_id=time-series-momentum"
    ).json()["items"]
    (row,) = (
        row
        for row in book["sleeve_book"].to_pylist()
        if (row["sleeve_id"], row["timeframe"]) == ("time-series-momentum", "1d")
    )
    assert [rung["slippage_bps"] for rung in item["rungs"]] == [0.0, 5.0, 10.0, 20.0]
    assert item["rungs"] == json.loads(row["rungs"])
    assert item["curve"]["equity"] == row["equity"]
    assert item["curve"]["drawdown"] == row["drawdown"]
    assert item["curve"]["ts"][0] == "2014-03-09T00:00:00Z"
    assert item["windows"]["start"][0] == "2014-03-03T00:00:00Z"
    assert len(item["windows"]["sharpe"]) == len(item["windows"]["start"]) == 68
    assert [gate["gate"] for gate in item["gates"]] == ["dsr", "reality_check", "pbo"]
    assert all(gate["is_passed"] for gate in item["gates"])
    assert item["weights"] == {"BTCUSDT": 0.25, "EURUSD": -0.125, "US500": 0.0625}
    assert (item["stage"], item["runtime_weight"]) == ("genesis", 0.0)
    assert item["run_id"] == "walk-forward-0123456789abcdef"
    assert item["run_id_before"] == "walk-forward-older"
    assert item["rungs"][2]["sharpe_before"] is not None
    assert item["is_baseline"] is False


def test_the_baseline_is_live_at_its_locked_weight_with_its_content(gateway, book):
    item = gateway.get("/showcase/sleeves").json()["items"][0]
    assert (item["is_baseline"], item["stage"]) == (True, "live")
    assert item["runtime_weight"] == 1.0
    (held,) = (
        row for row in book["sleeve_set"].to_pylist() if row["sleeve_id"] == "phase37"
    )
    assert item["content_sha256"] == held["content_sha256"]


def test_a_sleeve_that_never_trades_has_no_sharpe_and_all_its_money(gateway):
    (item,) = gateway.get("/showcase/sleeves?sleeve_id=flat").json()["items"]
    assert {rung["sharpe"] for rung in item["rungs"]} == {None}
    assert set(item["curve"]["equity"]) == {1.0}
    assert set(item["windows"]["sharpe"]) == {None}


def test_pages_cover_every_sleeve_once(gateway):
    whole = gateway.get("/showcase/sleeves").json()["items"]
    pages = [
        gateway.get(f"/showcase/sleeves?limit=3&offset={offset}").json()
        for offset in (0, 3, 6, 9)
    ]
    assert [len(page["items"]) for page in pages] == [3, 3, 1, 0]
    assert [one for page in pages for one in page["items"]] == whole


def test_the_list_is_answered_fast_with_etag_cors_and_gzip(gateway):
    first = gateway.get("/showcase/sleeves")
    assert gateway.app.answered["/showcase/sleeves", "fast", 200] == 1
    assert first.headers["access-control-allow-origin"] == "*"
    assert first.headers["content-encoding"] == "gzip"
    again = gateway.get(
        "/showcase/sleeves", headers={"if-none-match": first.headers["etag"]}
    )
    assert again.status_code == 304
    routed = gateway.get("/showcase/sleeves", inner=True)
    assert routed.content == first.content
    assert len(first.content) / 7 < 40_000


def test_the_schema_knows_the_route(gateway):
    document = gateway.get("/schema/openapi.json").json()
    operation = document["paths"]["/showcase/sleeves"]["get"]
    assert operation["operationId"] == "listSleeves"
    names = {one["name"] for one in operation["parameters"]}
    assert names == {"sleeve_id", "timeframe", "limit", "offset"}


@pytest.mark.parametrize(
    "query",
    ["limit=0", "timeframe=5m", "sleeve_id=%27%3B--", "slippage_bps=10", "offset=-1"],
)
def test_malformed_parameters_are_400(gateway, query):
    answer = gateway.get(f"/showcase/sleeves?{query}")
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:alphalake:problem:malformed-request"


def test_before_any_run_the_list_is_empty_and_says_so(client):
    got = client.get("/showcase/sleeves").json()
    assert (got["items"], got["total"]) == ([], 0)
    assert got["artefact"] is got["sleeve_set"] is None


def test_nothing_verified_is_503(start):
    provider = MemoryProvider()
    provider.broken = OSError("gone")
    assert start(provider).get("/showcase/sleeves").status_code == 503


def test_a_weight_set_since_the_book_is_the_one_that_is_shown(start, book):
    held = changed(book["sleeve_set"], "runtime_weight", 0.5)
    got = start(MemoryProvider(tables() | book | {"sleeve_set": held}))
    items = got.get("/showcase/sleeves").json()["items"]
    assert {one["runtime_weight"] for one in items} == {0.5}


def test_a_book_without_a_set_shows_what_the_book_says(start, book):
    client = start(MemoryProvider(tables() | {"sleeve_book": book["sleeve_book"]}))
    item = client.get("/showcase/sleeves").json()["items"][0]
    assert (item["stage"], item["runtime_weight"]) == ("live", 1.0)
    assert item["content_sha256"] is None


# fmt: off
DAMAGE = [
    ("rungs", "[{}]", "rungs: .*missing required field"),
    ("rungs", "not json", "rungs:"),
    ("windows", '{"start":["2014-03-03T00:00:00Z"],"sharpe":[]}', "windows without"),
    ("gates", '[{"gate":1}]', "gates:"),
    ("weights", '{"BTC":"all"}', "weights:"),
    ("equity", [1.0], "series of several lengths"),
]
# fmt: on


@pytest.mark.parametrize(("column", "value", "match"), DAMAGE)
def test_a_book_that_does_not_hold_what_it_declares_is_refused(
    book, column, value, match
):
    bad = changed(book["sleeve_book"], column, value)
    provider = MemoryProvider(tables() | book | {"sleeve_book": bad})
    with pytest.raises(SnapshotError, match=match):
        build_snapshot(provider.refresh().artefacts)


def test_a_deep_json_column_is_refused_not_a_crash(book):
    deep = "[" * 100_000
    bad = changed(book["sleeve_book"], "gates", deep)
    provider = MemoryProvider(tables() | {"sleeve_book": bad})
    with pytest.raises(SnapshotError, match="gates:"):
        build_snapshot(provider.refresh().artefacts)


def test_the_made_up_book_fits_its_declaration(book):
    for kind, table in book.items():
        assert table.schema == table_spec(f"artefact_{kind}").to_arrow()
        assert table.num_rows
    assert isinstance(book["sleeve_book"]["as_of"][0].as_py(), datetime)
