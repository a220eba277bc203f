"""Calendars: pages with 12-hour clocks, their known faults, and our own layout."""

from collections import Counter
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import pytest

from lakehouse.errors import InputError, SourceError
from lakehouse.sources.calendars import read_releases

HEADER = "Date,Time,Currency,Event,Impact,Actual,Forecast,Previous\n"


def read_text(folder, text, *, name="calendar.csv", timezone="+08:00"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (raw,) = read_releases(path, timezone=timezone)
    return raw


def rows(raw):
    return raw.releases.to_pylist()


def test_the_raw_page_equals_the_converted_calendar(market):
    (raw,) = read_releases(
        market / "dirty" / "spoluan_forex_factory_calendar_2020.csv", timezone="+08:00"
    )
    assert raw.releases["reason"].null_count == raw.releases.num_rows == 4793
    for name, is_timed in (
        ("economic_calendar", True),
        ("economic_calendar_untimed", False),
    ):
        mine = raw.releases.filter(pc.field("is_timed") == is_timed)
        span = pc.min_max(mine["ts"]).as_py()
        known = pyarrow.parquet.read_table(
            market / f"{name}.parquet",
            filters=[("ts", ">=", span["min"]), ("ts", "<=", span["max"])],
        )
        fields = ("ts", "currency", "event", "importance", "actual", "forecast")
        ours, theirs = (
            Counter(tuple(row[field] for field in fields) for row in table.to_pylist())
            for table in (mine, known)
        )
        assert (ours & theirs).total() >= 0.999 * max(ours.total(), theirs.total())


def test_the_payrolls_of_january_2020_are_there_once(market):
    (raw,) = read_releases(
        market / "dirty" / "spoluan_forex_factory_calendar_2020.csv", timezone="+08:00"
    )
    found = [
        row
        for row in rows(raw)
        if row["event"] == "Non-Farm Employment Change"
        and row["ts"] == datetime(2020, 1, 10, 13, 30, tzinfo=UTC)
    ]
    assert [(row["currency"], row["event_type"], row["actual"]) for row in found] == [
        ("USD", "nfp", 145_000.0)
    ]


@pytest.mark.parametrize(
    ("name", "n_rows", "is_timed"),
    [("economic_calendar", 63_834, True), ("economic_calendar_untimed", 3_227, False)],
)
def test_our_own_calendars_read_whole(market, name, n_rows, is_timed):
    (raw,) = read_releases(market / f"{name}.parquet")
    assert raw.releases.num_rows == n_rows
    assert raw.releases["reason"].null_count == n_rows
    assert set(raw.releases["is_timed"].to_pylist()) == {is_timed}


def test_figures_keep_points_and_expand_letters(tmp_path):
    cells = [
        "0.3%",
        "222K",
        "-58B",
        "1.5M",
        "2T",
        "<0.25%",
        "0-0-9",
        "2.31|2.4",
        "Pass",
        "N/A",
        "",
        '"1,234.5"',
    ]
    text = HEADER + "".join(
        f"2020-01-02,1:30pm,USD,E{i},High,{cell},,\n" for i, cell in enumerate(cells)
    )
    raw = read_text(tmp_path, text)
    assert [row["actual"] for row in rows(raw)] == [
        0.3, 222e3, -58e9, 1.5e6, 2e12, 0.25, None, None, None, None, None, 1234.5,
    ]  # fmt: skip
    assert "3 figures are not one number (votes, auctions): unknown" in raw.notes


@pytest.mark.parametrize(
    ("clock", "ts"),
    [
        ("12:00am", (2020, 1, 1, 16)),
        ("12:30pm", (2020, 1, 2, 4, 30)),
        ("13:30", (2020, 1, 2, 5, 30)),
    ],
)
def test_twelve_hour_clocks_turn_at_midnight_and_noon(tmp_path, clock, ts):
    raw = read_text(tmp_path, HEADER + f"2020-01-02,{clock},USD,CPI m/m,High,,,\n")
    assert rows(raw)[0]["ts"] == datetime(*ts, tzinfo=UTC)
    assert rows(raw)[0]["event_type"] == "cpi"


@pytest.mark.parametrize("clock", ["All Day", "Tentative", "Day 2", "Dec Data"])
def test_rows_without_a_clock_keep_their_date_and_are_not_timed(tmp_path, clock):
    row = rows(
        read_text(
            tmp_path, HEADER + f"2020-01-02,{clock},EUR,X,Low,,,\n", timezone=None
        )
    )[0]
    assert (row["ts"], row["is_timed"]) == (datetime(2020, 1, 2, tzinfo=UTC), False)


def test_empty_cells_repeat_the_date_and_time_above(tmp_path):
    text = (
        HEADER
        + "2020-01-02,1:30pm,USD,A,High,,,\n,,USD,B,High,,,\n2020-01-03,,USD,C,High,,,\n"
    )
    found = rows(read_text(tmp_path, text, timezone="UTC"))
    assert found[1]["ts"] == datetime(2020, 1, 2, 13, 30, tzinfo=UTC)
    assert (found[2]["is_timed"], found[2]["ts"].day) == (False, 3)


def test_the_year_wrap_is_corrected_and_said(tmp_path):
    text = HEADER + "".join(
        f"2020-{day},1:00pm,USD,X,High,,,\n"
        for day in ("01-02", "12-30", "12-31", "01-01", "01-04")
    )
    raw = read_text(tmp_path, text, timezone="UTC")
    assert [row["ts"].year for row in rows(raw)] == [2020, 2020, 2020, 2021, 2021]
    assert "2 rows at the end dated January 2020 are January 2021" in raw.notes


def test_leap_days_come_from_the_combined_column(tmp_path):
    text = (
        HEADER.strip()
        + ",Combined DateTime\nSat Feb 29,12:15am,GBP,X,High,,,,2020-02-29 00:15:00\n"
    )
    assert rows(read_text(tmp_path, text))[0]["ts"] == datetime(
        2020, 2, 28, 16, 15, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("labels", "importance"),
    [
        (["Low", "Non-economic", "Medium", "High"], [None, 1, 2, 3]),
        (["Non-economic", "Low", "Medium", "High"], [None, 1, 2, 3]),
        (["gray", "yellow", "orange", "red"], [None, 1, 2, 3]),
        (["Holiday", "Low Impact Expected", "Moderate", "3"], [None, 1, 2, 3]),
    ],
)
def test_swapped_labels_are_found_by_the_bank_holidays(tmp_path, labels, importance):
    events = ["Bank Holiday", "PPI m/m", "PMI", "NFP"]
    text = HEADER + "".join(
        f"2020-01-02,1:00pm,USD,{event},{label},,,\n"
        for event, label in zip(events, labels, strict=True)
    )
    raw = read_text(tmp_path, text)
    assert [row["importance"] for row in rows(raw)] == importance
    assert any("swapped" in note for note in raw.notes) == (labels[0] == "Low")


def test_the_weekly_export_with_titles_and_countries_reads(tmp_path):
    text = "Title,Country,Date,Time,Impact,Forecast,Previous\nCPI m/m,EUR,09-05-2026,5:00am,Medium,0.2%,0.1%\n"
    row = rows(read_text(tmp_path, text, timezone="America/New_York"))[0]
    assert (row["ts"], row["currency"], row["forecast"]) == (
        datetime(2026, 9, 5, 9, tzinfo=UTC), "EUR", 0.2,
    )  # fmt: skip


def test_a_plain_calendar_that_states_its_zone_needs_none(tmp_path):
    text = (
        "ts,currency,event,importance,actual\n2020-01-02T13:30:00Z,USD,GDP q/q,3,2.1\n"
    )
    row = rows(read_text(tmp_path, text, timezone=None))[0]
    assert (row["ts"].hour, row["importance"], row["event_type"]) == (13, 3, "gdp")


def test_bad_rows_carry_reasons_and_none_is_lost(tmp_path):
    text = HEADER + (
        "2020-13-45,1:30pm,USD,A,High,,,\n2020-01-02,25:61pm,USD,B,High,,,\n"
        "2020-01-02,1:30pm,,C,High,,,\n2020-01-02,1:30pm,USD,,High,,,\n"
        "2020-01-02,1:30pm,USD\n2020-01-02,1:30pm,USD,D,High,1,2,3,4,5\n"
        "2020-01-02,1:30pm,USD,OK,High,,,\n"
    )
    assert [row["reason"] for row in rows(read_text(tmp_path, text))] == [
        "ts_unparsable", "ts_unparsable", "field_missing", "field_missing",
        "field_missing", "value_unparsable", None,
    ]  # fmt: skip


def test_an_unstated_zone_is_asked_for(tmp_path):
    with pytest.raises(SourceError, match=r"calendar\.csv: its times state no zone"):
        read_text(tmp_path, HEADER + "2020-01-02,1:30pm,USD,A,High,,,\n", timezone=None)


@pytest.mark.parametrize("timezone", ["+8", "UTC+08:00", "+0800", "Asia/Shanghai"])
def test_zones_may_be_written_in_several_ways(tmp_path, timezone):
    raw = read_text(
        tmp_path, HEADER + "2020-01-02,9:30pm,USD,A,High,,,\n", timezone=timezone
    )
    assert rows(raw)[0]["ts"] == datetime(2020, 1, 2, 13, 30, tzinfo=UTC)


def test_a_wrong_zone_and_a_wrong_file_are_refused(tmp_path):
    text = HEADER + "2020-01-02,1:30pm,USD,A,High,,,\n"
    with pytest.raises(InputError, match="no time zone"):
        read_text(tmp_path, text, timezone="Nowhere")
    with pytest.raises(SourceError, match="no calendar"):
        read_text(tmp_path, "a,b,c,d\n1,2,3,4\n")
    with pytest.raises(SourceError, match="no such file"):
        read_releases(tmp_path / "absent.csv", timezone="UTC")


def test_a_calendar_in_parquet_with_local_times_takes_the_given_zone(tmp_path):
    table = pa.table(
        {
            "ts": pa.array([datetime(2020, 1, 2, 21, 30)], pa.timestamp("us")),  # noqa: DTZ001
            "currency": ["USD"],
            "event": ["A"],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "c.parquet")
    (raw,) = read_releases(tmp_path / "c.parquet", timezone="+08:00")
    assert rows(raw)[0]["ts"] == datetime(2020, 1, 2, 13, 30, tzinfo=UTC)


@pytest.mark.parametrize("clock", ["0830", "8.30", "8h30", "8:30", "8:30am"])
def test_clocks_of_every_spelling_are_read(tmp_path, clock):
    text = f"date,time,currency,event\n2023-02-03,{clock},USD,Payrolls\n"
    path = tmp_path / "c.csv"
    path.write_text(text)
    (raw,) = read_releases(path, timezone="UTC")
    (row,) = raw.releases.to_pylist()
    assert (row["ts"], row["is_timed"]) == (
        datetime(2023, 2, 3, 8, 30, tzinfo=UTC),
        True,
    )


def test_the_hour_alone_with_am_or_pm_is_a_clock(tmp_path):
    text = "date,time,currency,event\n2023-02-03,8pm,USD,Payrolls\n"
    path = tmp_path / "c.csv"
    path.write_text(text)
    (raw,) = read_releases(path, timezone="UTC")
    assert raw.releases["ts"][0].as_py() == datetime(2023, 2, 3, 20, tzinfo=UTC)


@pytest.mark.parametrize("clock", ["8 o'clock", "25:99", "830 GMT+", "in 5 min"])
def test_a_clock_nobody_can_read_is_no_untimed_release(tmp_path, clock):
    text = f"date,time,currency,event\n2023-02-03,{clock},USD,Payrolls\n"
    path = tmp_path / "c.csv"
    path.write_text(text)
    (raw,) = read_releases(path, timezone="UTC")
    assert raw.releases["reason"].to_pylist() == ["ts_unparsable"]


def test_a_calendar_without_one_readable_date_is_refused(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("date,time,currency,event\n" + "soon,8:30,USD,Payrolls\n" * 5)
    with pytest.raises(SourceError, match=r"c\.csv: no time can be read.*'soon 8:30'"):
        read_releases(path, timezone="UTC")
