import json
import math
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse import intake
from lakehouse.clock import Clock
from lakehouse.errors import InputError, SchemaError
from lakehouse.intake import take_bars
from lakehouse.schema.market import QUARANTINE_REASONS
from lakehouse.screening.bars import bar_columns
from lakehouse.screening.corrections import compare_bars, supersede_bars
from lakehouse.sources._base import InstrumentInfo, RawBars
from lakehouse.store import Lake
from tests.simulators.inputs import START, bar, raw_bars

NOW = datetime(2024, 6, 1, tzinfo=UTC)


def quarantined(lake: Lake) -> list[dict]:
    return lake.read("quarantine").to_pylist()


def stored(lake: Lake) -> dict:
    rows = lake.read("ohlcv").to_pylist()
    return {(row["symbol"], row["ts"]): row for row in rows}


def adds_up(report) -> bool:
    parts = report.n_good + report.n_quarantined + report.n_held_back
    same = sum(report.reasons.values()) == report.n_quarantined
    return report.n_read == parts and same


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"symbol": None}, "symbol_missing"),
        ({"symbol": "  "}, "symbol_missing"),
        ({"ts": None}, "ts_unparsable"),
        ({"ts": datetime(1500, 1, 1, tzinfo=UTC)}, "ts_unparsable"),
        ({"ts": START + timedelta(minutes=30)}, "ts_not_on_grid"),
        ({"ts": NOW + timedelta(hours=1)}, "ts_in_future"),
        ({"ts": NOW}, "bar_unfinished"),
        ({"open": None}, "field_missing"),
        ({"close": math.nan}, "price_not_a_number"),
        ({"high": math.inf}, "price_not_a_number"),
        ({"low": 0.0}, "price_not_positive"),
        ({"open": -1.0}, "price_not_positive"),
        ({"high": 98.0}, "high_below_low"),
        ({"close": 103.0}, "price_outside_range"),
        ({"open": 98.9}, "price_outside_range"),
        ({"close": 102.0 * (1 + 1e-9)}, "price_outside_range"),
        ({"volume": -1.0}, "volume_negative"),
        ({"volume": math.nan}, "volume_not_a_number"),
        ({"reason": "value_unparsable", "detail": "close 'x'"}, "value_unparsable"),
    ],
)
def test_a_bad_row_is_quarantined_with_its_reason(lake, changes, reason):
    report = take_bars(
        lake, raw_bars([bar(number=1), bar(number=2, **changes)]), run_id="r"
    )
    assert report.reasons == {reason: 1}
    assert (report.n_good, report.n_written) == (1, 1)
    [row] = quarantined(lake)
    assert (row["reason"], row["row_number"], row["run_id"]) == (reason, 2, "r")
    assert row["source"] == "files:a.csv@11111111"
    assert row["table_name"] == "ohlcv"
    json.loads(row["row"], parse_constant=pytest.fail)


def test_float_dust_outside_the_range_is_taken_as_it_is(lake):
    close = 102.0 * (1 + 1e-14)
    report = take_bars(lake, raw_bars([bar(close=close)]), run_id="r")
    assert report.n_good == 1
    assert lake.read("ohlcv")["close"].to_pylist() == [close]


def test_a_parsers_detail_is_kept(lake):
    row = bar(number=1, close=None, reason="value_unparsable", detail="close 'n/a'")
    take_bars(lake, raw_bars([bar(), row]), run_id="r")
    assert quarantined(lake)[0]["detail"] == "close 'n/a'"


def test_an_unknown_reason_or_timeframe_is_refused(lake):
    with pytest.raises(SchemaError, match="reason 'odd' is not one of"):
        take_bars(lake, raw_bars([bar(reason="odd")]), run_id="r")
    with pytest.raises(SchemaError, match="timeframe '5m' is not one of: 1h, 1d"):
        take_bars(lake, raw_bars([bar()], timeframe="5m"), run_id="r")


def test_rows_that_do_not_pair_up_are_refused():
    raw = raw_bars([bar(), bar(number=1)])
    with pytest.raises(SchemaError, match="2 parsed rows, 1 original rows"):
        RawBars("s", "w", "1h", raw.bars, raw.original.slice(1))


def test_equal_copies_keep_the_first_and_differing_copies_none(lake):
    rows = [
        bar(),
        bar(),
        bar("ETH"),
        bar("ETH", close=100.5),
        bar("ETH"),
        bar("XRP", volume=None),
        bar("XRP", volume=None),
    ]
    report = take_bars(lake, raw_bars(rows), run_id="r")
    assert report.reasons == {"duplicate": 2, "conflict": 3}
    assert sorted(lake.read("ohlcv")["symbol"].to_pylist()) == ["BTC", "XRP"]
    numbers = {row["row_number"]: row["reason"] for row in quarantined(lake)}
    assert numbers == {
        2: "duplicate",
        3: "conflict",
        4: "conflict",
        5: "conflict",
        7: "duplicate",
    }


def test_a_bad_copy_does_not_take_the_good_one_with_it(lake):
    report = take_bars(lake, raw_bars([bar(), bar(close=math.nan)]), run_id="r")
    assert report.reasons == {"price_not_a_number": 1}
    assert report.n_written == 1


def test_a_demo_holds_back_what_lies_beyond_its_date(tmp_path):
    lake = Lake.open(str(tmp_path), clock=Clock(START + timedelta(hours=2), "demo"))
    rows = [bar(number=n) for n in range(4)] + [bar("ETH", number=9, close=math.nan)]
    report = take_bars(lake, raw_bars(rows), run_id="r")
    assert (report.n_good, report.n_held_back, report.n_quarantined) == (2, 3, 0)
    assert lake.read("quarantine").num_rows == 0
    later = Lake.open(str(tmp_path), clock=Clock(START + timedelta(hours=3), "demo"))
    report = take_bars(later, raw_bars(rows), run_id="r")
    assert (report.n_good, report.n_written, report.n_held_back) == (3, 1, 2)


def test_taking_twice_adds_nothing(lake):
    raw = raw_bars([bar(number=n) for n in range(5)] + [bar(number=9, low=-1.0)])
    first = take_bars(lake, raw, run_id="one")
    versions = [lake.version(name) for name in ("ohlcv", "quarantine", "instruments")]
    second = take_bars(lake, raw, run_id="two")
    assert (first.n_written, second.n_written) == (5, 0)
    assert (second.n_good, second.n_quarantined) == (5, 1)
    assert second.registered == ()
    assert versions == [
        lake.version(name) for name in ("ohlcv", "quarantine", "instruments")
    ]


def test_an_equal_row_from_elsewhere_is_good_and_not_written(lake):
    take_bars(lake, raw_bars([bar(), bar(number=1)]), run_id="r")
    other = raw_bars(
        [bar(volume=None), bar(number=1), bar(number=2)],
        source="files:b.csv@33333333",
        window="sha256:b",
    )
    report = take_bars(lake, other, run_id="r")
    assert (report.n_good, report.n_written, report.n_corrected) == (3, 1, 0)
    rows = stored(lake)
    assert rows["BTC", START]["source"] == "files:a.csv@11111111"
    assert rows["BTC", START]["volume"] == 5.0


def test_a_differing_row_is_a_correction_and_the_old_one_is_superseded(lake):
    take_bars(lake, raw_bars([bar(), bar(number=1)]), run_id="r")
    other = raw_bars(
        [bar(close=100.5), bar(number=1), bar(number=2)],
        source="files:b.csv@33333333",
        window="sha256:b",
    )
    report = take_bars(lake, other, run_id="r2")
    assert (report.n_good, report.n_written, report.n_corrected) == (3, 2, 1)
    assert adds_up(report)
    assert stored(lake)["BTC", START]["close"] == 100.5
    [row] = quarantined(lake)
    assert (row["reason"], row["source"]) == ("superseded", "files:a.csv@11111111")
    assert json.loads(row["row"])["close"] == 101.0
    assert "replaced by files:b.csv@33333333 row 1" in row["detail"]


def test_an_old_file_read_again_does_not_undo_a_correction(lake):
    old = raw_bars([bar(), bar(number=1)])
    new = raw_bars([bar(close=100.5)], source="files:b.csv@3", window="sha256:b")
    for raw in (old, new, old, new, old):
        take_bars(lake, raw, run_id="r")
    assert stored(lake)["BTC", START]["close"] == 100.5
    assert len(quarantined(lake)) == 1


@pytest.mark.parametrize("source", ["files:a.csv@11111111", "files:z.csv@11111111"])
def test_an_old_file_with_more_good_rows_later_does_not_undo_a_correction(
    tmp_path, source
):
    def at(hours):
        return Lake.open(
            str(tmp_path), clock=Clock(START + timedelta(hours=hours), "demo")
        )

    old = raw_bars([bar(), bar(number=1)])
    new = raw_bars([bar(close=100.5)], source="files:b.csv@3", window="sha256:b")
    take_bars(at(1), old, run_id="r")
    take_bars(at(1), new, run_id="r")
    report = take_bars(at(2), replace(old, source=source), run_id="r")
    assert (report.n_written, report.n_corrected) == (1, 0)
    assert stored(at(2))["BTC", START]["close"] == 100.5


def test_what_another_writer_has_corrected_meanwhile_is_not_superseded_again(lake):
    take_bars(lake, raw_bars([bar(), bar(number=1)]), run_id="r")
    later = raw_bars(
        [bar(close=100.5), bar(number=1, close=101.5)],
        source="files:b.csv@3",
        window="sha256:b",
    )
    columns = bar_columns(later.bars)
    seen = compare_bars(lake, later, columns, np.arange(2)).corrected
    assert len(seen) == 2
    take_bars(lake, later, run_id="first")
    assert not supersede_bars(lake, later, columns, seen, run_id="second").size
    assert [row["run_id"] for row in quarantined(lake)] == ["first", "first"]


def test_a_feed_may_correct_back_and_forth(lake):
    for number, close in enumerate((101.0, 100.5, 101.0)):
        raw = raw_bars(
            [bar(close=close)], source="ccxt:x", window=f"ccxt:x:BTC:{number}"
        )
        take_bars(lake, raw, run_id="r")
    assert stored(lake)["BTC", START]["close"] == 101.0
    assert Counter(row["reason"] for row in quarantined(lake)) == {"superseded": 2}


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("n_writes", range(6))
def test_a_kill_between_any_two_writes_leaves_nothing_lost_or_doubled(
    tmp_path, monkeypatch, n_writes
):
    old = raw_bars([bar(), bar(number=1)])
    new = raw_bars(
        [bar(close=100.5), bar(number=2), bar("ETH"), bar(number=4, low=-1.0)],
        source="files:b.csv@3",
        window="sha256:b",
    )

    def outcome(root, *, dies_after):
        lake = Lake.open(str(root), clock=Clock(NOW, "argument"))
        take_bars(lake, old, run_id="r")
        left = [dies_after]

        def dying(verb):
            def write(self, *arguments, **options):
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                return verb(self, *arguments, **options)

            return write

        with monkeypatch.context() as patch:
            patch.setattr(Lake, "append", dying(Lake.append))
            patch.setattr(Lake, "upsert", dying(Lake.upsert))
            try:
                take_bars(lake, new, run_id="r")
            except Killed:
                left[0] = -1
        take_bars(lake, new, run_id="r")
        return {
            name: sorted(map(str, lake.read(name).to_pylist()))
            for name in ("ohlcv", "quarantine", "instruments")
        }

    expected = outcome(tmp_path / "whole", dies_after=99)
    assert outcome(tmp_path / "killed", dies_after=n_writes) == expected
    assert len(expected["ohlcv"]) == 4
    assert len(expected["quarantine"]) == 2


def test_another_writer_in_between_is_compared_again(lake, monkeypatch):
    mine = raw_bars([bar(close=100.5), bar(number=1)])
    other = raw_bars([bar()], source="files:b.csv@3", window="sha256:b")
    compare, calls = intake.compare_bars, []

    def compare_then_lose_the_race(*arguments):
        found = compare(*arguments)
        if not calls:
            calls.append(1)
            monkeypatch.setattr(intake, "compare_bars", compare)
            take_bars(lake, other, run_id="other")
        return found

    monkeypatch.setattr(intake, "compare_bars", compare_then_lose_the_race)
    report = take_bars(lake, mine, run_id="r")
    assert (report.n_corrected, report.n_written) == (1, 2)
    assert stored(lake)["BTC", START]["close"] == 100.5


def test_inputs_in_any_order_leave_equal_bars(tmp_path):
    parts = [
        raw_bars([bar(number=n) for n in span], source=f"ccxt:{k}", window=f"w{k}")
        for k, span in enumerate((range(5), range(3, 9), range(9, 12)))
    ]
    tables = []
    for name, order in (("a", (0, 1, 2)), ("b", (2, 1, 0, 1, 2)), ("c", (1, 2, 0))):
        lake = Lake.open(str(tmp_path / name), clock=Clock(NOW, "argument"))
        for number in order:
            take_bars(lake, parts[number], run_id="r")
        table = lake.read("ohlcv").drop_columns(["source"]).sort_by("ts")
        tables.append(table.combine_chunks())
    assert tables[0] == tables[1] == tables[2]


def test_symbols_are_registered_once_with_what_is_known(lake):
    infos = (
        InstrumentInfo("SP500", "index", None, "USD"),
        InstrumentInfo("VIX", "index", is_leader=True),
        InstrumentInfo("GONE", "equity", listed_to=START),
    )
    rows = [bar(name) for name in ("SP500", "VIX", "GONE", "US500", "EURUSD", "ABC")]
    raw = raw_bars(rows, instruments=infos)
    report = take_bars(lake, raw, run_id="r", asset_class="fx")
    assert report.registered[0] == "registered ABC: fx, calendar fx"
    assert len(report.registered) == 6
    known = {row["symbol"]: row for row in lake.read("instruments").to_pylist()}
    assert known["SP500"]["calendar"] == "XNYS"
    assert known["US500"]["calendar"] == "fx"
    assert known["EURUSD"]["currency"] == "USD"
    assert known["VIX"]["is_leader"]
    assert known["GONE"]["listed_to"] == START
    assert known["ABC"]["listed_from"] == START
    assert known["ABC"]["listed_to"] is None


def test_an_unclassed_symbol_is_other_until_somebody_knows(lake):
    late = raw_bars([bar(number=5)])
    early = raw_bars([bar(number=1)], window="sha256:b")
    take_bars(lake, late, run_id="r")
    [row] = lake.read("instruments").to_pylist()
    assert (row["asset_class"], row["calendar"]) == ("other", "24x7")
    report = take_bars(lake, early, run_id="r", asset_class="equity")
    assert report.registered == ()
    [row] = lake.read("instruments").to_pylist()
    assert (row["asset_class"], row["calendar"]) == ("equity", "XNYS")
    assert row["listed_from"] == START + timedelta(hours=1)


def test_an_unknown_asset_class_is_refused_before_anything_is_written(lake):
    raw = raw_bars([bar(), bar(number=1, low=-1.0)])
    with pytest.raises(
        InputError, match=r"'stocks' is unknown; --asset-class takes: crypto"
    ):
        take_bars(lake, raw, run_id="r", asset_class="stocks")
    assert lake.version("ohlcv") is None
    assert lake.version("quarantine") is None


def test_a_symbol_without_good_bars_is_not_registered(lake):
    report = take_bars(lake, raw_bars([bar(low=-1.0)]), run_id="r")
    assert report.registered == ()
    assert lake.version("ohlcv") is None


def test_an_empty_input_is_no_error(lake):
    report = take_bars(lake, raw_bars([]), run_id="r")
    assert (report.n_read, report.n_good, report.n_written) == (0, 0, 0)


prices = st.sampled_from(
    [100.0, 101.0, 99.0, 0.0, -5.0, None, math.nan, math.inf, 1e-300, 1e300, 5e-324]
)
any_bar = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["BTC", "ETH", "", None, "a'b", "\0", "é" * 40]),
        "ts": st.sampled_from(
            [None, NOW, NOW + timedelta(days=9), datetime(1, 1, 1, tzinfo=UTC)]
        )
        | st.integers(0, 3).map(lambda n: START + timedelta(hours=n)),
        "open": prices,
        "high": prices,
        "low": prices,
        "close": prices,
        "volume": st.sampled_from([None, 0.0, 1.0, -1.0, math.nan, math.inf]),
        "reason": st.sampled_from([None, None, None, "value_unparsable"]),
        "detail": st.none(),
    }
) | st.integers(0, 3).map(lambda n: bar("ETH", n))


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(inputs=st.lists(st.lists(any_bar, max_size=12), min_size=1, max_size=3))
def test_read_is_good_plus_quarantined_whatever_comes(tmp_path_factory, inputs):
    root = tmp_path_factory.mktemp("lake")
    lake = Lake.open(str(root), clock=Clock(NOW, "argument"))
    n_refused = 0
    for number, rows in enumerate(inputs):
        raw = raw_bars(rows, source=f"files:{number}", window=f"sha256:{number}")
        report = take_bars(lake, raw, run_id="r")
        again = take_bars(lake, raw, run_id="r")
        assert report.n_read == len(rows)
        assert adds_up(report)
        assert again.n_written == 0
        assert again.reasons == report.reasons
        n_refused += report.n_quarantined
    kept = lake.read("quarantine")
    refused = kept.filter(pc.not_equal(kept["reason"], "superseded"))
    assert refused.num_rows == n_refused
    assert set(kept["reason"].to_pylist()) <= set(QUARANTINE_REASONS)
    bars = lake.read("ohlcv")
    assert pc.all(pc.greater_equal(bars["high"], bars["low"])).as_py() is not False
    assert pa.types.is_timestamp(bars["ts"].type)
