import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.bars.calendars import known_ts
from lab.errors import TrainingError
from lab.forecasters.kronos.event_rows import SCHEDULED, FixedEvents
from lab.forecasters.kronos.normalise import normalise
from lab.forecasters.kronos.windows import (
    WindowPlan,
    bar_values,
    cut_windows,
    join_windows,
    split_windows,
)
from tests.lab.forecasters.kronos.small_kronos import CUTOFF, PLAN, series, split

ALL = np.arange


def whole(windows):
    return windows.batch(ALL(windows.n_windows))


def test_a_window_has_lookback_predict_and_one_more_rows():
    windows = cut_windows([series()], PLAN, cutoff=CUTOFF)
    assert whole(windows).values.shape == (windows.n_windows, 25, 6)


def test_the_scale_comes_from_the_lookback_alone_as_a_forecast_would_take_it():
    bars = series()
    batch = whole(cut_windows([bars], PLAN, cutoff=CUTOFF))
    expected, _ = normalise(bar_values(bars)[8:24])
    assert np.array_equal(batch.values[2, :16], expected)


@settings(max_examples=25, deadline=None)
@given(row=st.integers(16, 24), factor=st.floats(0.5, 2.0))
def test_rows_after_the_lookback_do_not_move_its_scaled_values(row, factor):
    bars = series(n_obs=25)
    before = whole(cut_windows([bars], PLAN, cutoff=CUTOFF)).values
    bars.close[row] *= factor
    after = whole(cut_windows([bars], PLAN, cutoff=CUTOFF)).values
    assert np.array_equal(before[:, :16], after[:, :16])


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(60, 398), factor=st.floats(0.3, 3.0))
def test_bars_after_the_cutoff_change_no_window(cut, factor):
    bars = series()
    cutoff = known_ts(bars.ts[cut : cut + 1], timeframe="1h", calendar="24x7")[0]
    before = whole(cut_windows([bars], PLAN, cutoff=cutoff))
    for column in (bars.open, bars.high, bars.low, bars.close, bars.volume):
        column[cut + 1 :] *= factor
    after = whole(cut_windows([bars], PLAN, cutoff=cutoff))
    assert np.array_equal(before.values, after.values)
    assert np.array_equal(before.stamps, after.stamps)


def test_a_bar_enters_only_once_it_is_known():
    bars = series(n_obs=25)
    end = known_ts(bars.ts[-1:], timeframe="1h", calendar="24x7")[0]
    assert cut_windows([bars], PLAN, cutoff=end).n_windows == 1
    earlier = end - np.timedelta64(1, "us")
    assert cut_windows([bars], PLAN, cutoff=earlier).n_windows == 0


def test_no_window_crosses_a_break_but_one_may_start_at_it():
    bars = series(n_obs=60, breaks=(30,))
    plan = WindowPlan(16, 8, 1)
    starts = cut_windows([bars], plan, cutoff=CUTOFF).start
    assert set(starts) == {0, 1, 2, 3, 4, 5, *range(30, 36)}


def test_values_that_are_not_finite_keep_windows_away():
    bars = series(n_obs=60)
    bars.close[10] = np.nan
    plan = WindowPlan(16, 8, 1)
    assert cut_windows([bars], plan, cutoff=CUTOFF).start.min() == 11


def test_no_volume_counts_as_zero_volume_and_amount():
    bars = series(n_obs=25)
    bars.volume[:] = np.nan
    assert not whole(cut_windows([bars], PLAN, cutoff=CUTOFF)).values[..., 4:].any()


def test_no_validation_bar_opens_before_the_last_training_bar_is_known():
    bars = [series("A"), series("B", seed=1, n_obs=300)]
    parts = split_windows(bars, PLAN, cutoff=CUTOFF)
    hour = np.timedelta64(1, "h")
    assert parts.train.last_ts().max() + hour <= parts.boundary
    assert parts.validation.first_ts().min() >= parts.boundary


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_an_empty_side_is_refused(share):
    with pytest.raises(TrainingError, match=r"no (training|validation) window of 25"):
        split_windows([series(n_obs=60)], PLAN, cutoff=CUTOFF, share=share)


def test_no_bars_at_all_are_refused():
    with pytest.raises(TrainingError, match="no bars before the cut-off"):
        split_windows([], PLAN, cutoff=CUTOFF)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"lookback": 1}, "at least 2"),
        ({"min_lookback": 20}, "at least 2"),
        ({"predict": 0}, "must be positive"),
    ],
)
def test_windows_that_cannot_be_cut_are_refused(kind, said):
    with pytest.raises(TrainingError, match=said):
        WindowPlan(**{"lookback": 16, "predict": 8, **kind})


def events_of(bars, *flagged):
    tensor = np.full((bars.n_obs, 20), 0.5, dtype=np.float32)
    tensor[:, :5] = 0.0
    tensor[list(flagged), 1] = 1.0
    return FixedEvents(tensor)


def test_event_windows_are_shown_three_times():
    bars = series()
    windows = cut_windows([bars], PLAN, cutoff=CUTOFF, events=[events_of(bars, 100)])
    flagged = np.flatnonzero(windows.is_event)
    assert [int(one) for one in windows.start[flagged]] == [76, 80, 84]
    shown = np.bincount(windows.order(np.random.default_rng(0)))
    assert set(shown[flagged]) == {3}
    assert set(np.delete(shown, flagged)) == {1}


def test_the_predicted_part_shows_only_what_is_scheduled():
    bars = series()
    windows = cut_windows([bars], PLAN, cutoff=CUTOFF, events=[events_of(bars)])
    events = whole(windows).events
    hidden = [one for one in range(20) if one not in SCHEDULED]
    assert not events[:, 16:, hidden].any()
    assert events[:, :16, hidden].all()
    assert events[:, 16:, 8].all()


def test_events_must_belong_to_their_series():
    bars = series()
    with pytest.raises(TrainingError, match="400 bars and 10 event rows"):
        cut_windows(
            [bars], PLAN, cutoff=CUTOFF, events=[FixedEvents(np.zeros((10, 20)))]
        )


def test_lookbacks_vary_within_their_range():
    plan = WindowPlan(16, 8, 1, min_lookback=8)
    found = cut_windows([series()], plan, cutoff=CUTOFF).lookback
    assert set(found) == set(range(8, 17))


def test_joined_windows_are_the_windows_of_their_parts():
    parts = [split(seeds=(k,)).train for k in (0, 1)]
    joined = join_windows(parts)
    expected = np.concatenate([whole(one).values for one in parts])
    assert np.array_equal(whole(joined).values, expected)
