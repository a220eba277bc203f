import json
import math
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse.clock import Clock
from lakehouse.intake import take_releases
from lakehouse.store import Lake
from tests.simulators.inputs import START, raw_releases, release

NOW = datetime(2024, 6, 1, tzinfo=UTC)


def calendar(lake: Lake) -> list[dict]:
    return lake.read("economic_calendar").sort_by("ts").to_pylist()


def open_at(root, moment: datetime, source="argument") -> Lake:
    return Lake.open(str(root), clock=Clock(moment, source))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ts": None}, "ts_unparsable"),
        ({"ts": NOW + timedelta(days=500)}, "ts_in_future"),
        ({"event": None}, "field_missing"),
        ({"event": " "}, "field_missing"),
        ({"currency": None}, "field_missing"),
        ({"importance": 7}, "value_unparsable"),
        ({"actual": math.inf}, "value_unparsable"),
        ({"reason": "value_unparsable", "detail": "Pass"}, "value_unparsable"),
    ],
)
def test_a_bad_release_is_quarantined_with_its_reason(lake, changes, reason):
    raw = raw_releases([release(), release(**{"event": "GDP q/q", **changes})])
    report = take_releases(lake, raw, run_id="r")
    assert report.reasons == {reason: 1}
    assert (report.n_read, report.n_good, report.n_written) == (2, 1, 1)
    [row] = lake.read("quarantine").to_pylist()
    assert (row["table_name"], row["row_number"]) == ("economic_calendar", 2)


def test_equal_releases_are_duplicates_and_differing_ones_occurrences(lake):
    rows = [release(), release(), release(actual=0.4)]
    report = take_releases(lake, raw_releases(rows), run_id="r")
    assert report.reasons == {"duplicate": 1}
    assert sorted(row["actual"] for row in calendar(lake)) == [0.3, 0.4]
    again = take_releases(lake, raw_releases(rows), run_id="r")
    assert (again.n_good, again.n_written, again.n_corrected) == (2, 0, 0)


def test_when_a_release_could_be_known(lake):
    rows = [release(), release("FOMC Statement"), release("FOMC Member Kohn Speaks")]
    take_releases(lake, raw_releases(rows), run_id="r")
    known = {
        row["event"]: row["ts"] - row["scheduled_known_ts"] for row in calendar(lake)
    }
    assert known == {
        "CPI m/m": timedelta(days=30),
        "FOMC Statement": timedelta(days=365),
        "FOMC Member Kohn Speaks": timedelta(days=30),
    }
    assert all(row["actual_known_ts"] == row["ts"] for row in calendar(lake))


def test_a_release_of_unknown_hour_is_known_when_its_date_has_ended_everywhere(
    tmp_path,
):
    raw = raw_releases([release(is_timed=False, ts=START)])
    moments = {timedelta(hours=30): None, timedelta(hours=36): 0.3}
    for late, actual in moments.items():
        lake = open_at(tmp_path, START + late)
        take_releases(lake, raw, run_id="r")
        [row] = calendar(lake)
        assert row["actual"] == actual
        assert row["actual_known_ts"] == row["ts"] + timedelta(hours=36)


def test_a_release_to_come_is_stored_without_its_value_and_filled_later(tmp_path):
    raw = raw_releases([release(day=3)])
    before = take_releases(open_at(tmp_path, START), raw, run_id="r")
    assert before.n_written == 1
    [row] = calendar(open_at(tmp_path, START))
    assert row["actual"] is None
    assert row["forecast"] == 0.2
    later = open_at(tmp_path, START + timedelta(days=4))
    after = take_releases(later, raw, run_id="r")
    assert (after.n_written, after.n_corrected) == (1, 0)
    assert [row["actual"] for row in calendar(later)] == [0.3]
    assert later.read("quarantine").num_rows == 0


def test_a_demo_holds_back_releases_not_yet_announced(tmp_path):
    lake = open_at(tmp_path, START, "demo")
    rows = [release(day=3), release(day=60), release("FOMC Statement", day=300)]
    report = take_releases(lake, raw_releases(rows), run_id="r")
    assert (report.n_good, report.n_held_back) == (2, 1)
    assert [row["actual"] for row in calendar(lake)] == [None, None]


def test_a_changed_value_is_a_correction_and_an_unknown_one_is_not(lake):
    take_releases(lake, raw_releases([release()]), run_id="r")
    silent = raw_releases([release(actual=None)], window="sha256:d")
    assert take_releases(lake, silent, run_id="r").n_written == 0
    revised = raw_releases([release(actual=0.5)], source="b", window="sha256:e")
    report = take_releases(lake, revised, run_id="r")
    assert (report.n_written, report.n_corrected) == (1, 1)
    assert [row["actual"] for row in calendar(lake)] == [0.5]
    [old] = lake.read("quarantine").to_pylist()
    assert (old["reason"], json.loads(old["row"])["actual"]) == ("superseded", 0.3)
    assert old["detail"] == "replaced by b: actual 0.3 -> 0.5"
    assert take_releases(lake, raw_releases([release()]), run_id="r").n_written == 0
