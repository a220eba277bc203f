"""Acceptance figures on made-up forecasts whose figures are known."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from lab.errors import ScoringError
from lab.scoring.acceptance import MIN_EVENTS, judge_acceptance
from lakehouse.schema.market import ECONOMIC_CALENDAR
from tests.simulators.scores import BEGIN, daily_scores

LATER = BEGIN + timedelta(days=5000)
SYMBOLS = ("A", "B", "C")
N_DAYS = 900


def calendar(days, *, importance=3, announced=30):
    """A release 12 hours after the forecast of each day; every second one surprises."""
    rows = [
        {
            "event_id": str(day),
            "ts": (ts := BEGIN + timedelta(days=int(day), hours=12)),
            "currency": "USD",
            "event": "CPI",
            "importance": importance,
            "actual": 1.0 + (day % 2),
            "forecast": 1.0,
            "is_timed": True,
            "scheduled_known_ts": ts - timedelta(days=announced),
            "actual_known_ts": ts,
            "source": "test",
            "ingested_at": ts,
        }
        for day in days
    ]
    return pa.Table.from_pylist(rows, schema=ECONOMIC_CALENDAR.to_arrow())


EVENT_DAYS = np.arange(3, N_DAYS, 4)


def scores(name, known=0.0, width=1.0, seed=1):
    return daily_scores(
        seed,
        symbols=SYMBOLS,
        horizons=(1,),
        n_days=N_DAYS,
        models={name: (known, width)},
    )


def widened(table, factor):
    """The same forecasts with a band `factor` times as wide on event days."""
    is_event = np.isin(
        [(moment - BEGIN).days for moment in table["as_of"].to_pylist()], EVENT_DAYS
    )
    p50 = table["p50"].to_numpy()
    changed = table
    for name in ("p10", "p90"):
        side = table[name].to_numpy()
        wide = np.where(is_event, p50 + factor * (side - p50), side)
        at = changed.column_names.index(name)
        changed = changed.set_column(at, changed.schema.field(at), pa.array(wide))
    return changed


def scaled(table, name, factor):
    at = table.column_names.index(name)
    values = pa.array(table[name].to_numpy() * factor)
    return table.set_column(at, table.schema.field(at), values)


def figures(members, releases=None, as_of=LATER, seed=0):
    found = judge_acceptance(
        members,
        calendar(EVENT_DAYS) if releases is None else releases,
        tuned="kronos-lora",
        base="kronos",
        ensemble="ensemble",
        timeframe="1d",
        as_of=as_of,
        rng=np.random.default_rng(seed),
    )
    return {one.gate: one for one in found}


def test_a_band_wider_before_events_is_measured_as_such():
    members = {"kronos-lora": widened(scores("kronos-lora"), 1.6)}
    one = figures(members)["event_spread"]
    assert one.value == pytest.approx(1.6, rel=0.02)
    assert (one.low, one.high) == pytest.approx((1.6, 1.6), rel=0.02)
    assert (one.n_events, one.n_rows) == (len(EVENT_DAYS), 3 * len(EVENT_DAYS))
    assert (one.verdict, one.distance > 0) == ("PASS", True)
    same = figures({"kronos-lora": scores("kronos-lora")})["event_spread"]
    assert same.verdict == "FAIL"
    assert same.value == pytest.approx(1, rel=0.02)


def test_an_event_that_was_not_announced_is_none_ahead():
    members = {"kronos-lora": widened(scores("kronos-lora"), 1.6)}
    sudden = figures(members, calendar(EVENT_DAYS, announced=0))["event_spread"]
    minor = figures(members, calendar(EVENT_DAYS, importance=2))["event_spread"]
    for one in (sudden, minor):
        assert (one.value, one.n_events, one.verdict) == (None, 0, "NEEDS_MORE_DATA")


def test_direction_is_asked_after_surprises_only():
    table = scores("kronos-lora", known=0.3, width=0.84)
    days = np.array([(moment - BEGIN).days for moment in table["as_of"].to_pylist()])
    surprised = np.isin(days, EVENT_DAYS[EVENT_DAYS % 2 == 1] + 1)
    hits = table["is_direction_hit"].to_numpy(zero_copy_only=False)
    one = figures({"kronos-lora": table})["surprise_direction"]
    assert one.value == pytest.approx(hits[surprised].mean())
    assert one.n_rows == surprised.sum()
    assert one.verdict == "PASS"
    assert 0.5 < one.low < one.value < one.high < 1


def test_quiet_error_leaves_event_days_out():
    base = scores("kronos")
    worse = scaled(scores("kronos-lora"), "absolute_error", 1.05)
    assert figures({"kronos": base, "kronos-lora": worse})["quiet_error"].value == (
        pytest.approx(1.05)
    )
    equal = figures({"kronos": base, "kronos-lora": scores("kronos-lora")})
    assert equal["quiet_error"].value == pytest.approx(1)
    assert equal["quiet_error"].verdict == "PASS"
    assert equal["quiet_error"].n_rows == 3 * (N_DAYS - len(EVENT_DAYS))


def test_the_ensemble_is_held_against_the_best_single():
    members = {
        "kronos": scores("kronos", 0.02),
        "kronos-lora": scores("kronos-lora", 0.05),
        "ensemble": scores("ensemble", 0.4),
    }
    one = figures(members)["ensemble_sharpe"]
    assert one.verdict == "PASS"
    assert one.low < one.value < one.high
    members["chronos2"] = scores("ensemble", 0.4)
    assert figures(members)["ensemble_sharpe"].value == pytest.approx(0)
    assert figures(members)["ensemble_sharpe"].verdict == "FAIL"


def test_under_150_events_nothing_is_decided_but_figures_are_there():
    few = calendar(EVENT_DAYS[: MIN_EVENTS - 1])
    members = {"kronos-lora": widened(scores("kronos-lora"), 3)}
    one = figures(members, few)["event_spread"]
    assert (one.n_events, one.verdict) == (MIN_EVENTS - 1, "NEEDS_MORE_DATA")
    assert one.value > 1
    enough = calendar(EVENT_DAYS[:MIN_EVENTS])
    assert figures(members, enough)["event_spread"].verdict == "PASS"


def test_absent_members_decide_nothing():
    for members in ({}, {"kronos": scores("kronos")}):
        found = figures(members)
        assert {one.verdict for one in found.values()} == {"NEEDS_MORE_DATA"}
        assert {one.distance for one in found.values()} == {None}


def test_later_scores_and_releases_change_nothing():
    as_of = BEGIN + timedelta(days=700)
    members = {
        "kronos": scores("kronos", 0.02),
        "kronos-lora": widened(scores("kronos-lora", 0.1), 1.4),
        "ensemble": scores("ensemble", 0.1),
    }
    before = figures(members, as_of=as_of)
    is_past = {
        name: pa.array([known <= as_of for known in table["known_ts"].to_pylist()])
        for name, table in members.items()
    }
    past = {name: table.filter(is_past[name]) for name, table in members.items()}
    assert figures(past, as_of=as_of) == before
    altered = {
        name: pa.concat_tables(
            [
                past[name],
                scaled(table.filter(pa.compute.invert(is_past[name])), "p90", 2),
            ]
        )
        for name, table in members.items()
    }
    assert figures(altered, as_of=as_of) == before


def test_a_missing_column_is_named():
    table = scores("kronos-lora").drop(["bars_per_year"])
    with pytest.raises(ScoringError, match="column missing: bars_per_year"):
        figures({"kronos-lora": table})
    with pytest.raises(ScoringError, match="economic_calendar: column missing: ts"):
        figures({"kronos-lora": scores("kronos-lora")}, calendar([1]).drop(["ts"]))


def test_intervals_cover_what_they_should():
    # The median is 0.3 of the coming return and independent noise of 0.21 * 0.84²; the
    # signs of two normals agree with probability 1/2 + asin(correlation) / pi.
    correlation = 0.3 / np.sqrt(0.3**2 + 0.21 * 0.84**2)
    truth = 0.5 + np.arcsin(correlation) / np.pi
    hit = 0
    for seed in range(30):
        table = scores("kronos-lora", known=0.3, width=0.84, seed=seed)
        one = figures({"kronos-lora": table}, seed=seed)["surprise_direction"]
        hit += one.low <= truth <= one.high
    assert hit >= 24  # about 95 % of 30; four standard deviations below
