"""Regimes are called once a day of the reference, and only from what was known."""

from datetime import UTC, datetime

import numpy as np
import pytest

from flows.bodies.events import currencies_of, open_encoder, requests_with_events
from flows.bodies.ingest import ingest_bars
from flows.bodies.regimes import call_regimes
from flows.runs import Run
from flows.wiring import open_workplace
from lab.bars.panel import Panel
from lab.features.events import CHANNELS
from lakehouse.errors import InputError
from tests.flows.conftest import forget_settings, run_plainly

TOP = datetime(2018, 10, 1, tzinfo=UTC)


def stored():
    return open_workplace().lake.read("regimes").sort_by("ts")


@pytest.fixture
def filled(workplace):
    run_plainly("ingest-ohlcv", ingest_bars, source="sample")
    return workplace


@pytest.mark.usefixtures("filled")
def test_every_day_is_called_once_however_often_the_flow_runs(monkeypatch):
    monkeypatch.setenv("ALPHALAKE_NOW", "2004-03-01T00:00:00+00:00")
    forget_settings()
    early = run_plainly("call-regimes", call_regimes)
    first = stored()
    monkeypatch.setenv("ALPHALAKE_NOW", TOP.isoformat())
    forget_settings()
    run_plainly("call-regimes", call_regimes)
    again = run_plainly("call-regimes", call_regimes)
    whole = stored()
    assert early.message.startswith("regimes by SP500: ")
    assert "no day left to call" in again.message
    assert whole["ts"].to_pylist() == sorted(set(whole["ts"].to_pylist()))
    kept = whole.slice(0, first.num_rows)
    assert kept.drop(["run_id"]).equals(first.drop(["run_id"]))
    assert whole.num_rows > 4000 > first.num_rows > 700


@pytest.mark.usefixtures("filled")
def test_a_call_is_known_at_the_close_of_its_day_and_sums_to_one():
    run_plainly("call-regimes", call_regimes)
    rows = {row["ts"]: row for row in stored().to_pylist()}
    crash = rows[datetime(2008, 10, 15, tzinfo=UTC)]
    assert crash["known_ts"] == datetime(2008, 10, 15, 20, tzinfo=UTC)
    assert crash["regime"] == "turbulent"
    assert rows[datetime(2017, 7, 14, tzinfo=UTC)]["regime"] == "calm"
    half_day = rows[datetime(2015, 11, 27, tzinfo=UTC)]
    assert half_day["known_ts"] == datetime(2015, 11, 27, 18, tzinfo=UTC)
    total = [
        row["p_calm"] + row["p_normal"] + row["p_turbulent"] for row in rows.values()
    ]
    assert np.allclose(total, 1.0)


def test_a_lake_without_an_index_has_nothing_to_call(workplace):
    assert workplace.lake.version("regimes") is None
    done = run_plainly("call-regimes", call_regimes)
    assert done.message == "no regime called: there are no bars of a stock index"


def test_hourly_bars_of_the_reference_are_added_up_to_days(workplace):
    run_plainly("ingest-ohlcv", ingest_bars, source="synthetic", timeframe="1h")
    done = run_plainly("call-regimes", call_regimes)
    assert "regimes by US500: " in done.message
    assert "days called" in done.message


def a_run():
    return Run(open_workplace(), "test", "test-run")


@pytest.mark.usefixtures("workplace")
def test_a_lake_with_neither_releases_nor_leaders_has_no_encoder():
    assert open_encoder(a_run(), "1d") is None


@pytest.mark.usefixtures("filled")
def test_requests_carry_the_events_of_context_and_targets():
    run = a_run()
    encoder = open_encoder(run, "1d")
    panel = Panel.from_tables(
        run.read("ohlcv"), run.read("instruments"), timeframe="1d"
    )
    as_of = datetime(2018, 6, 1, 21, tzinfo=UTC)
    series = panel.as_of(as_of, context=300, symbols=["SP500", "NASDAQ"])
    requests = requests_with_events(
        encoder, series, as_of=as_of, horizon=20, context=256
    )
    assert [one.events.shape for one in requests] == [(276, len(CHANNELS))] * 2
    vix = requests[0].events[:, CHANNELS.index("vix_z")]
    assert np.count_nonzero(vix[:256]) > 250
    assert not vix[256:].any()
    bare = requests_with_events(None, series, as_of=as_of, horizon=20, context=256)
    assert [one.events for one in bare] == [None, None]


@pytest.mark.usefixtures("filled")
def test_another_table_of_names_can_be_given(monkeypatch, tmp_path):
    table = tmp_path / "types.csv"
    monkeypatch.setenv("ALPHALAKE_EVENT_TYPES", str(table))
    forget_settings()
    with pytest.raises(InputError, match="cannot be read as event types"):
        open_encoder(a_run(), "1d")
    table.write_text("event_type,currency,primary,pattern\nnfp,USD,yes,^Jobs(\n")
    with pytest.raises(InputError, match=r"line 2: .* is no pattern"):
        open_encoder(a_run(), "1d")
    table.write_text("event_type,currency,primary\nnfp,USD,yes\n")
    with pytest.raises(InputError, match="column missing: pattern"):
        open_encoder(a_run(), "1d")
    table.write_text("event_type,currency,primary,pattern\nnfp,USD,yes,^Jobs\n")
    assert open_encoder(a_run(), "1d") is not None


def test_a_symbols_currencies_are_its_pairs_and_the_dollar():
    assert currencies_of("EURUSD", "USD") == ("EUR", "USD")
    assert currencies_of("EURJPY", "JPY") == ("EUR", "JPY", "USD")
    assert currencies_of("XAUUSD", None) == ("USD",)
    assert currencies_of("DE40", None) == ("EUR", "USD")
    assert currencies_of("AAPL", "USD") == ("USD",)
    assert currencies_of("BTCUSDT", None) == ("USD",)
