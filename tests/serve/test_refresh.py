"""Refreshing: swap on success, keep on refusal, say so, never go back."""

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pyarrow as pa
import pytest

from lakehouse.clock import Clock
from lakehouse.errors import TrustError
from lakehouse.trust.errors import HashError
from serve.board import Holder
from serve.refresh import Refresher
from serve.staleness import is_stale
from tests.simulators.artefacts import NOW, MemoryProvider, tables

URL = "/showcase/ml-prediction/BTC-USD"


@pytest.fixture
def refresher(provider: MemoryProvider) -> Refresher:
    return Refresher(provider, Holder(), Clock(NOW, "demo"))


def body(refresher: Refresher) -> bytes:
    return refresher.holder.routes[URL][b""].body


def test_a_new_version_is_swapped_in(refresher, provider):
    refresher.refresh()
    first = body(refresher)
    provider.publish(tables(seed=8))
    refresher.refresh()
    assert body(refresher) != first
    assert b'"version":2' in body(refresher)
    assert refresher.n_swaps == 2


def test_an_unchanged_version_keeps_the_very_same_answers(refresher):
    refresher.refresh()
    board = refresher.holder.board
    refresher.refresh()
    assert refresher.holder.board is board


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (HashError("tampered"), "hash"),
        (OSError("gone"), "unreadable"),
        (TrustError("no"), "unreadable"),
    ],
)
def test_a_refusal_keeps_the_last_verified_and_counts(
    refresher, provider, error, reason
):
    refresher.refresh()
    before = refresher.holder.board.view.snapshot
    provider.broken = error
    refresher.refresh()
    refresher.refresh()
    assert refresher.holder.board.view.snapshot is before
    assert refresher.refused_total == {reason: 2}
    assert b'"stale":true' in body(refresher)
    provider.broken = None
    refresher.refresh()
    assert b'"stale":false' in body(refresher)
    assert refresher.refused is None


def test_an_older_version_is_refused(refresher, provider):
    provider.publish(tables(seed=8))
    refresher.refresh()
    provider.version = 0
    provider.publish(tables(seed=7))
    refresher.refresh()
    assert refresher.refused == "rollback"
    assert b'"version":2' in body(refresher)


def test_a_table_made_anew_starts_its_versions_anew(refresher, provider):
    provider.publish(tables(seed=8))
    refresher.refresh()
    provider.version, provider.table_id = 0, "made-again"
    provider.publish(tables(seed=7))
    refresher.refresh()
    assert refresher.refused is None
    assert b'"version":1' in body(refresher)


def test_what_cannot_be_drawn_is_not_accepted(refresher, provider):
    refresher.refresh()
    odd = tables()
    bars = odd["latest_predictions"]
    at = bars.column_names.index("timeframe")
    five = pa.array(["5m"] * bars.num_rows)
    odd["latest_predictions"] = bars.set_column(at, bars.schema.field(at), five)
    provider.publish(odd)
    refresher.refresh()
    assert refresher.refused == "schema"
    assert b'"version":1' in body(refresher)
    assert b'"stale":true' in body(refresher)


def test_a_table_without_its_columns_is_refused(refresher, provider):
    refresher.refresh()
    broken = tables()
    broken["recent_bars"] = broken["recent_bars"].drop_columns(["close"])
    provider.publish(broken)
    refresher.refresh()
    assert refresher.refused == "schema"
    assert b'"version":1' in body(refresher)


def test_what_an_earlier_process_verified_is_served_at_once(provider):
    provider.refresh()
    provider.broken = OSError("gone")
    refresher = Refresher(provider, Holder(), Clock(NOW, "demo"))
    refresher.refresh()
    assert b'"stale":true' in body(refresher)


def test_what_was_recovered_is_as_old_as_its_verification(provider):
    provider.refresh()
    provider.broken = OSError("gone")
    later = Clock(NOW + timedelta(hours=2), "argument")
    refresher = Refresher(provider, Holder(), later)
    refresher.refresh()
    age = time.monotonic() - refresher.holder.verified_mono
    assert 7200 <= age < 7210


def test_an_artefact_is_stale_from_the_moment_it_ends(provider):
    end = NOW + timedelta(days=2)
    for now, expected in ((end - timedelta(seconds=1), False), (end, True)):
        refresher = Refresher(provider, Holder(), Clock(now, "demo"))
        refresher.refresh()
        assert b'"stale":true' in body(refresher)  # the forecasts are two days old
        shown = refresher.holder.routes["/showcase/instruments"][b""].body
        assert (b'"stale":true' in shown) is expected


def test_a_refresh_that_does_not_come_back_makes_it_stale(start, provider):
    client = start(provider, changes={"refresh_seconds": 0.05})
    refresher = client.app.inner.state.gateway.refresher
    assert client.get(URL).json()["stale"] is False
    refresher.overdue_s = 0.2
    release = threading.Event()
    answer = provider.refresh
    provider.refresh = lambda: (release.wait(20), answer())[1]
    try:
        until(lambda: client.get(URL).json()["stale"])
        assert refresher.refused == "overdue"
    finally:
        release.set()
    until(lambda: not client.get(URL).json()["stale"])


def test_a_restart_serves_what_was_kept_while_the_lab_does_not_answer(start, provider):
    provider.refresh()
    release = threading.Event()
    answer = provider.refresh
    provider.refresh = lambda: (release.wait(20), answer())[1]
    try:
        client = start(provider)
        assert client.get(URL).json()["stale"] is True
    finally:
        release.set()
    until(lambda: not client.get(URL).json()["stale"])


def test_slow_reads_of_the_lake_do_not_hold_up_the_refresh(start, provider):
    client = start(provider, changes={"refresh_seconds": 0.05})
    release = threading.Event()

    async def occupy() -> None:
        for _ in range(40):
            asyncio.get_running_loop().run_in_executor(None, release.wait, 20)

    client._run(occupy())
    try:
        provider.publish(tables(seed=9))
        until(lambda: client.get(URL).json()["artefact"]["version"] == 2)
    finally:
        release.set()


def test_forecasts_grow_stale_while_nothing_is_published(provider):
    moments = {minutes: NOW + timedelta(minutes=minutes) for minutes in (0, 69, 71)}
    seen = {}
    for minutes, now in moments.items():
        refresher = Refresher(provider, Holder(), Clock(now, "demo"))
        refresher.refresh()
        seen[minutes] = b'"stale":true' in body(refresher)
    assert seen == {0: False, 69: False, 71: True}  # as_of is five minutes before NOW


@pytest.mark.parametrize(
    ("calendar", "timeframe", "hours", "expected"),
    [
        ("24x7", "1h", 1.25, False),
        ("24x7", "1h", 1.26, True),
        ("24x7", "1d", 26.0, False),
        ("24x7", "1d", 26.1, True),
        ("fx", "1h", 49.0, False),  # Friday 21:00 to Sunday 22:00: one hour of trading
        ("fx", "1h", 49.5, True),
        ("XNYS", "1d", 72.0, False),  # Friday 21:00 to Monday 21:00: 24 h
        (None, "1d", 27.0, True),
        ("nowhere", "1d", 27.0, True),
    ],
)
def test_age_is_counted_in_trading_time(calendar, timeframe, hours, expected):
    now = NOW + timedelta(hours=hours)
    assert is_stale(NOW, now, timeframe=timeframe, calendar=calendar) is expected


def test_the_gateway_keeps_serving_and_says_why(start: Callable, provider):
    client = start(provider, changes={"refresh_seconds": 0.05})
    fresh = client.get(URL)
    assert fresh.json()["stale"] is False
    provider.broken = HashError("tampered")
    until(lambda: client.get(URL).json()["stale"])
    kept = client.get(URL).json()
    assert {**kept, "stale": False} == fresh.json()
    metrics = client.get("/metrics").text
    assert 'artefact_refused_total{reason="hash"}' in metrics
    assert client.get("/showcase/status").json()["refused"] == "hash"
    assert client.get("/health/ready").status_code == 200
    provider.broken = None
    provider.publish(tables(seed=9))
    until(lambda: client.get(URL).json()["artefact"]["version"] == 2)


def test_a_bug_in_one_round_does_not_stop_the_next(start, provider, caplog):
    client = start(provider, changes={"refresh_seconds": 0.05})
    provider.broken = ZeroDivisionError("bug")
    until(lambda: "internal" in client.get("/metrics").text)
    provider.broken = None
    provider.publish(tables(seed=9))
    until(lambda: client.get(URL).json()["artefact"]["version"] == 2)
    assert "the refresh failed" in caplog.text


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)
