"""Names of releases are sorted into types as a reader would."""

from collections import Counter
from datetime import UTC, datetime, time, timedelta

import pyarrow.parquet as pq
import pytest

from lab.features.releases import PRIMARY_NAMES
from lakehouse.screening.releases import notice
from lakehouse.sources.event_types import event_type, event_types, is_unscheduled

COUNTS = {
    "cpi": 3958,
    "fomc": 364,
    "fomc_minutes": 117,
    "gdp": 1418,
    "nfp": 175,
    "other": 55460,
    "pce": 174,
    "rate_decision": 2168,
}
HOME_COUNTS = {"cpi": 525, "fomc": 364, "nfp": 175, "gdp": 174, "pce": 174}
PRIMARY_COUNTS = {
    "CPI m/m": 175,
    "Federal Funds Rate": 117,
    "Non-Farm Employment Change": 175,
}


@pytest.mark.market
def test_every_release_of_the_real_calendar_has_its_type(market):
    rows = pq.read_table(market / "economic_calendar.parquet").to_pylist()
    kinds = Counter(event_type(row["event"], row["currency"]) for row in rows)
    assert kinds == COUNTS
    home = [row for row in rows if row["currency"] == "USD"]
    ours = Counter(event_type(row["event"], "USD") for row in home)
    assert {kind: ours[kind] for kind in HOME_COUNTS} == HOME_COUNTS


@pytest.mark.market
def test_one_release_a_month_is_primary_and_its_figures_are_there(market):
    import re

    rows = pq.read_table(market / "economic_calendar.parquet").to_pylist()
    home = [row for row in rows if row["currency"] == "USD"]
    found = Counter(
        row["event"]
        for row in home
        for kind in ("cpi", "nfp", "fomc")
        if event_type(row["event"], "USD") == kind
        and re.search(PRIMARY_NAMES[kind], row["event"], re.IGNORECASE)
    )
    assert found == PRIMARY_COUNTS
    stamps = [(row["event"], row["ts"]) for row in home if row["event"] in found]
    assert len(stamps) == len(set(stamps))
    assert all(row["actual"] is not None for row in home if row["event"] in found)


@pytest.mark.market
def test_decisions_without_a_consensus_came_unscheduled_but_for_seven(market):
    rows = pq.read_table(market / "economic_calendar.parquet").to_pylist()
    primary = event_types().primary()["rate_decision"].split("|")
    assert len(primary) > 7
    kinds = [(row, event_type(row["event"], row["currency"])) for row in rows]
    bare = {
        (row["currency"], row["ts"].date())
        for row, kind in kinds
        if kind in {"fomc", "rate_decision"}
        and row["actual"] is not None
        and row["forecast"] is None
    }
    expected = {
        pair
        for pair in bare
        if is_unscheduled(
            "", "rate_decision", pair[0], datetime.combine(pair[1], time(), UTC)
        )
    }
    # Regular meetings of banks whose new rate nobody had forecast yet.
    assert {code for code, _ in bare - expected} == {"JPY", "CHF"}
    assert len(bare - expected) == 6
    assert len(expected) == 12


@pytest.mark.parametrize(
    ("event", "currency", "kind"),
    [
        ("Federal Funds Rate", "USD", "fomc"),
        ("FOMC Statement", "USD", "fomc"),
        ("FOMC Press Conference", "USD", "fomc"),
        ("FOMC Economic Projections", "USD", "fomc"),
        ("FOMC Meeting Minutes", "USD", "fomc_minutes"),
        ("FOMC Minutes", "USD", "fomc_minutes"),
        ("FOMC Member Powell Speaks", "USD", "other"),
        ("FOMC Financial Stability Report", "USD", "other"),
        ("Fed Chair Powell Testifies", "USD", "other"),
        ("Fed Announcement", "USD", "other"),
        ("Non-Farm Employment Change", "USD", "nfp"),
        ("Nonfarm Payrolls", "USD", "nfp"),
        ("ADP Non-Farm Employment Change", "USD", "other"),
        ("Prelim Nonfarm Productivity q/q", "USD", "other"),
        ("French Final Private Payrolls q/q", "EUR", "other"),
        ("CPI m/m", "USD", "cpi"),
        ("Core CPI m/m", "USD", "cpi"),
        ("CPI y/y", "USD", "cpi"),
        ("German Final CPI m/m", "EUR", "cpi"),
        ("Trimmed Mean CPI q/q", "AUD", "cpi"),
        ("SPPI y/y", "JPY", "other"),
        ("PPI m/m", "USD", "other"),
        ("MI Inflation Gauge m/m", "AUD", "other"),
        ("Cleveland Fed Inflation Expectations", "USD", "other"),
        ("Advance GDP q/q", "USD", "gdp"),
        ("Prelim GDP q/q", "USD", "gdp"),
        ("Final GDP Price Index q/q", "USD", "other"),
        ("GDT Price Index", "NZD", "other"),
        ("NIESR GDP Estimate", "GBP", "other"),
        ("Core PCE Price Index m/m", "USD", "pce"),
        ("Personal Spending m/m", "USD", "other"),
        ("Average Hourly Earnings m/m", "USD", "other"),
        ("Average Cash Earnings y/y", "JPY", "other"),
        ("Average Earnings Index 3m/y", "GBP", "other"),
        ("Bank Stress Test Results", "USD", "other"),
        ("Cash Rate", "AUD", "rate_decision"),
        ("Official Cash Rate", "NZD", "rate_decision"),
        ("Official Bank Rate", "GBP", "rate_decision"),
        ("MPC Official Bank Rate Votes", "GBP", "other"),
        ("Monetary Policy Statement", "EUR", "rate_decision"),
        ("RBA Monetary Policy Statement", "AUD", "other"),
        ("RBNZ Monetary Policy Statement", "NZD", "rate_decision"),
        ("Monetary Policy Meeting Minutes", "JPY", "other"),
        ("BOC Press Conference", "CAD", "other"),
        ("Unemployment Rate", "USD", "other"),
        ("Capacity Utilization Rate", "USD", "other"),
    ],
)
def test_a_name_gets_the_type_a_reader_would_give_it(event, currency, kind):
    assert event_type(event, currency) == kind


def test_only_a_company_has_earnings():
    assert event_type("Q3 Earnings", "USD", "AAPL") == "earnings"
    assert event_type("Earnings Results", "USD", "IBM") == "earnings"
    assert event_type("Q3 Earnings", "USD") == "other"
    assert event_type("Average Hourly Earnings m/m", "USD", "AAPL") == "other"
    assert event_type("Dividend", "USD", "AAPL") == "other"


def test_the_labs_primary_names_are_those_of_the_table():
    primary = event_types().primary()
    assert {kind: primary[kind] for kind in PRIMARY_NAMES} == dict(PRIMARY_NAMES)


def test_nobody_knew_ahead_of_a_cut_between_meetings():
    cut = {"event": "Federal Funds Rate", "event_type": "fomc", "currency": "USD"}
    assert notice({**cut, "ts": datetime(2020, 3, 15, 21, tzinfo=UTC)}) == timedelta(0)
    assert notice({**cut, "ts": datetime(2020, 4, 29, 18, tzinfo=UTC)}).days == 365
    other = {"event": "Retail Sales m/m", "event_type": "other", "currency": "GBP"}
    assert notice({**other, "ts": datetime(2020, 3, 11, 7, tzinfo=UTC)}).days == 30
    surprise = {**other, "event": "Fed Announcement", "currency": "USD"}
    assert notice({**surprise, "ts": datetime(2020, 3, 23, 12, tzinfo=UTC)}).days == 0
