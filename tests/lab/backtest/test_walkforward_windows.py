"""Windows: where they lie, what is left out between them, and who takes part."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lab.backtest.windows import (
    WalkForwardPlan,
    calendar_of,
    cut_windows,
    of_age,
)
from lab.errors import BacktestError
from tests.lab.sleeves.panels import panel

DAY = np.timedelta64(1, "D")


def flat(n_obs=500, n_assets=2, **more):
    return panel(np.full((n_obs, n_assets), 10.0), **more)


def test_test_spans_tile_the_time_after_the_first_train_span():
    bars, plan = flat(700), WalkForwardPlan()
    windows = cut_windows(bars, plan)
    assert [one.number for one in windows] == list(range(len(windows)))
    for one, following in pairwise(windows):
        assert one.test.stop == following.test.start
        assert one.test.stop - one.test.start == 30
        assert one.train.stop - one.train.start == 179
        assert bars.ts[one.test.start] - bars.ts[one.train.start] == 180 * DAY
        assert one.train.stop == one.test.start - 1
    assert windows[-1].test.stop == bars.n_obs
    assert windows[0].train.start < 30


def test_windows_of_a_later_run_are_the_same_and_one_grows():
    bars, plan = flat(700), WalkForwardPlan()
    whole = cut_windows(bars, plan)
    earlier = cut_windows(bars.until(660), plan)
    n_same = sum(one.is_complete for one in earlier)
    assert earlier[:n_same] == whole[:n_same]
    assert not earlier[-1].is_complete
    assert earlier[-1].test.start == whole[len(earlier) - 1].test.start


def test_days_of_the_same_complete_windows_are_one_family():
    bars, plan = flat(700), WalkForwardPlan()
    stops = range(600, 700)
    families = [
        calendar_of(bars.until(n), cut_windows(bars.until(n), plan)).family
        for n in stops
    ]
    assert len(set(families)) in {4, 5}
    of_run = calendar_of(bars, cut_windows(bars, plan))
    assert len(of_run.ledger_days) == of_run.n_ledger <= len(of_run.days)
    assert of_run.n_ledger % 30 == 0


def test_the_oldest_window_goes_on_the_day_on_which_a_new_one_is_whole():
    bars, plan = flat(1000), WalkForwardPlan(years=1.5)
    cuts = [cut_windows(bars.until(n), plan) for n in range(700, 1000)]
    calendars = [
        calendar_of(bars.until(n), cut)
        for n, cut in zip(range(700, 1000), cuts, strict=True)
    ]
    assert len({one.family for one in calendars}) in {10, 11}
    assert len({sum(one.is_complete for one in cut) for cut in cuts}) == 1
    assert len({one.n_ledger for one in calendars}) == 1


def test_the_years_bound_how_far_back_windows_reach():
    bars = flat(1500)
    windows = cut_windows(bars, WalkForwardPlan(years=2))
    assert bars.ts[-1] - bars.ts[windows[0].train.start] <= 731 * DAY
    assert bars.ts[-1] - bars.ts[windows[0].train.start] >= 700 * DAY


def test_purge_and_embargo_lie_between_train_and_test():
    bars = flat(700)
    for one in cut_windows(bars, WalkForwardPlan(), purge=7):
        assert one.test.start - one.train.stop == 7
    plan = WalkForwardPlan(embargo_days=10)
    for one in cut_windows(bars, plan, purge=7):
        assert one.test.start - one.train.stop == 10
    with pytest.raises(BacktestError, match="purging 400 rows leaves nothing"):
        cut_windows(bars, WalkForwardPlan(), purge=400)


def test_spans_are_calendar_days_whatever_the_bars():
    hours = flat(24 * 300, timeframe="1h")
    plan = WalkForwardPlan(train_days=90, test_days=30)
    windows = cut_windows(hours, plan)
    assert windows[0].test.stop - windows[0].test.start == 720
    weekdays = np.is_busday(flat(900).ts.astype("datetime64[D]"))
    rare = flat(900)
    rare = replace(
        rare,
        ts=rare.ts[weekdays],
        known_ts=rare.known_ts[weekdays],
        surprises=rare.surprises[weekdays],
        **{
            name: getattr(rare, name)[weekdays]
            for name in ("open", "high", "low", "close", "volume", "is_break")
        },
    )
    lengths = {w.test.stop - w.test.start for w in cut_windows(rare, WalkForwardPlan())}
    assert max(lengths) <= 23


def with_hole(bars, row, n_days):
    ts = bars.ts.copy()
    ts[row:] += n_days * DAY
    return replace(bars, ts=ts, known_ts=ts + DAY)


def test_a_gap_of_months_leaves_windows_out():
    bars = with_hole(flat(900), 400, 100)
    windows = cut_windows(bars, WalkForwardPlan())
    assert [one.number for one in windows] == list(range(len(windows)))
    assert calendar_of(bars, windows).rows.stop == 900


@pytest.mark.parametrize("purge", [1, 24])
def test_a_hole_as_long_as_a_train_span_undoes_no_window_before_it(purge):
    bars, plan = with_hole(flat(900), 400, 1200), WalkForwardPlan()
    windows = cut_windows(bars, plan, purge=purge)
    assert [one.number for one in windows] == list(range(len(windows)))
    calendar = calendar_of(bars, windows)
    assert calendar.rows.stop == 900
    before = cut_windows(bars.until(400), plan, purge=purge)
    assert before[:-1] == windows[: len(before) - 1]
    # Test spans lie where they lie, whatever is purged.
    assert [one.test for one in windows] == [o.test for o in cut_windows(bars, plan)]
    empty = [one for one in windows if not one.has_train]
    assert empty[0].number == len(before)
    assert len(empty) <= 2
    assert all(one.train.stop <= one.test.start for one in windows)
    # Nobody has traded through a hole, so nobody takes part after it.
    assert not of_age(bars, windows)[empty[0].test].any()
    assert windows[-1].has_train


def test_a_panel_too_short_for_one_window_is_refused():
    with pytest.raises(BacktestError, match="too short for 180 days of train and 30"):
        cut_windows(flat(205), WalkForwardPlan())
    with pytest.raises(BacktestError, match="no rows"):
        cut_windows(flat().until(0), WalkForwardPlan())


def test_whole_numbers_make_the_plan_of_equal_fractions():
    whole = WalkForwardPlan(years=8, slippages_bps=(0, 10))
    assert repr(whole) == repr(WalkForwardPlan(years=8.0, slippages_bps=(0.0, 10.0)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"train_days": 1}, "train_days = 1: at least 2"),
        ({"test_days": 0}, "test_days = 0: at least 1"),
        ({"embargo_days": -1}, "embargo_days = -1: at least 0"),
        ({"years": 0}, "years = 0: more than 0"),
        ({"fill": "yesterday"}, "fill = 'yesterday': one of next_open"),
        ({"slippages_bps": ()}, "different numbers"),
        ({"slippages_bps": (5.0, 5.0)}, "different numbers"),
        ({"slippages_bps": (-1.0,)}, "different numbers"),
        ({"slippages_bps": (float("nan"),)}, "different numbers"),
    ],
)
def test_plans_that_make_no_sense_are_refused(wrong, words):
    with pytest.raises(BacktestError, match=words):
        WalkForwardPlan(**wrong)


def test_an_instrument_takes_part_once_it_has_traded_through_half_of_the_train_span():
    close = np.full((700, 4), 10.0)
    close[:350, 1] = np.nan  # listed late
    close[400:, 2] = np.nan  # gone
    close[np.arange(700) % 7 >= 5, 3] = np.nan  # weekdays only
    bars = panel(close)
    windows = cut_windows(bars, WalkForwardPlan())
    allowed = of_age(bars, windows)
    assert allowed[:, 0].all()
    assert allowed[:, 3].all()
    for one in windows:
        n_days = one.test.start - one.train.start
        for asset in (1, 2):
            seen = np.isfinite(close[one.train.start : one.test.start, asset]).sum()
            is_enough = seen >= n_days * 0.5 * 5 / 7
            assert (allowed[one.test, asset] == is_enough).all()
    assert not allowed[350:400, 1].any()
    assert allowed[-1, 1]
    assert not allowed[-1, 2]


def test_who_takes_part_does_not_depend_on_what_comes_later():
    rng = np.random.default_rng(3)
    close = np.where(rng.random((800, 5)) < 0.5, 10.0, np.nan)
    close[:, 0] = 10.0
    bars, plan = panel(close), WalkForwardPlan()
    whole = of_age(bars, cut_windows(bars, plan))
    for n_rows in (300, 433, 610):
        part = bars.until(n_rows)
        np.testing.assert_array_equal(
            of_age(part, cut_windows(part, plan)), whole[:n_rows]
        )


def test_what_a_sleeve_holds_is_purged_from_its_train_spans():
    from lab.sleeves.catalogue import sleeves

    spans = {
        name: max(variant.span() for variant in made.variants())
        for name, made in sleeves().items()
    }
    assert spans["event-drift"] == 20
    assert spans["follow-kronos"] == 24
    assert min(spans.values()) == 1
