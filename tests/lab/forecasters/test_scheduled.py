"""Counts of announced releases and days to the next one, as known at the decision."""

import numpy as np
import pytest

from lab.errors import FeatureError
from lab.forecasters.scheduled import ScheduledReleases
from tests.lab.forecast_history import calendar, schedule

RELEASES = (
    ("2021-02-01T13:30", "USD", "cpi", 3, 30),
    ("2021-02-03T19:00", "USD", "fomc", 3, 365),
    ("2021-02-04T12:00", "GBP", "rate_decision", 3, 30),
    ("2021-02-05T10:00", "EUR", "gdp", 2, 30),
    ("2021-02-06T10:00", "USD", "fomc", 3, 0),
)


def times(*texts):
    return np.array(texts, dtype="datetime64[us]")


def counted(symbol, as_of, until, **wanted):
    symbols = np.array([symbol], dtype=object)
    return int(
        schedule(*RELEASES).count(symbols, times(as_of), times(until), **wanted)[0]
    )


@pytest.mark.parametrize(
    ("symbol", "until", "wanted", "number"),
    [
        ("BTC", "2021-02-10", {}, 2),
        ("EURUSD", "2021-02-10", {}, 3),
        ("EURUSD", "2021-02-10", {"importance": 3}, 2),
        ("EURUSD", "2021-02-10", {"kind": "cpi"}, 1),
        ("unheard of", "2021-02-10", {}, 2),
        ("BTC", "2021-02-01T13:29:59", {}, 0),
        ("BTC", "2021-02-01T13:30", {}, 1),
    ],
)
def test_announced_releases_of_a_symbols_currencies_count(
    symbol, until, wanted, number
):
    assert counted(symbol, "2021-01-31T21:00", until, **wanted) == number


def test_a_release_at_the_decision_time_is_over():
    assert counted("BTC", "2021-02-01T13:30", "2021-02-02") == 0


def test_a_release_that_is_not_announced_yet_does_not_count():
    assert counted("BTC", "2020-12-31", "2021-02-10") == 1  # the meeting alone
    assert counted("BTC", "2021-02-06T09:00", "2021-02-10") == 0


def test_counting_agrees_with_asking_each_release():
    rng = np.random.default_rng(0)
    base = np.datetime64("2021-01-01", "us")
    hours = np.timedelta64(3_600_000_000, "us")
    rows = [
        (str(base + int(hour) * hours)[:19], currency, "cpi", int(rank), int(lead))
        for hour, currency, rank, lead in zip(
            rng.integers(0, 900, 60),
            rng.choice(["USD", "EUR", "JPY"], 60),
            rng.integers(1, 4, 60),
            rng.choice([0, 5, 30], 60),
            strict=True,
        )
    ]
    symbols = rng.choice(np.array(["BTC", "EURUSD"], dtype=object), 80)
    as_of = base + rng.integers(0, 900, 80) * hours
    until = as_of + rng.integers(0, 300, 80) * hours
    found = schedule(*rows).count(symbols, as_of, until, importance=2)
    own = {"BTC": {"USD"}, "EURUSD": {"EUR", "USD"}}
    slow = [
        sum(
            currency in own[symbol]
            and rank >= 2
            and start < np.datetime64(ts) <= stop
            and np.datetime64(ts) - lead * 24 * hours <= start
            for ts, currency, _, rank, lead in rows
        )
        for symbol, start, stop in zip(symbols, as_of, until, strict=True)
    ]
    assert found.tolist() == slow


def test_days_lead_to_the_next_announced_release_of_the_united_states():
    found = schedule(*RELEASES).days_to(
        "fomc", times("2021-02-01T19:00", "2021-02-03T19:00", "2019-01-01")
    )
    assert found[0] == pytest.approx(2)
    assert np.isnan(found[1:]).all()


def test_an_empty_calendar_counts_nothing():
    none = schedule()
    symbols = np.array(["BTC"], dtype=object)
    assert none.count(symbols, times("2021-01-01"), times("2021-02-01")).tolist() == [0]
    assert np.isnan(none.days_to("cpi", times("2021-01-01"))).all()


def test_a_missing_column_is_named():
    with pytest.raises(FeatureError, match="column missing: scheduled_known_ts"):
        ScheduledReleases.from_table(calendar().drop(["scheduled_known_ts"]), {})
