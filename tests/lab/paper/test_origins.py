"""A decision counts only if it was taken when its bar was news."""

from datetime import UTC, datetime, timedelta

import pytest

from lab.paper.origins import CADENCE, Witness, origin_of

KNOWN = datetime(2021, 3, 1, tzinfo=UTC)


def witness(late, *, newest_known=KNOWN, seen=None):
    now = KNOWN + late
    return Witness(now, newest_known, now if seen is None else seen)


@pytest.mark.parametrize("timeframe", ["1h", "1d"])
def test_a_decision_within_one_bar_of_its_own_is_live(timeframe):
    late = CADENCE[timeframe]
    assert origin_of(KNOWN, witness(timedelta(0)), timeframe=timeframe) == "live"
    assert origin_of(KNOWN, witness(late), timeframe=timeframe) == "live"
    later = late + timedelta(seconds=1)
    assert origin_of(KNOWN, witness(later), timeframe=timeframe) == "replay"
    early = timedelta(seconds=-1)
    assert origin_of(KNOWN, witness(early), timeframe=timeframe) == "replay"


def test_a_bar_that_is_not_the_newest_is_a_replay():
    seen = witness(timedelta(hours=1), newest_known=KNOWN + timedelta(minutes=30))
    assert origin_of(KNOWN, seen, timeframe="1d") == "replay"


def test_a_clock_that_was_turned_back_counts_for_nothing():
    late = timedelta(hours=7)
    ahead = witness(late, seen=KNOWN + late + timedelta(days=3))
    assert ahead.is_turned_back
    assert origin_of(KNOWN, ahead, timeframe="1d") == "replay"
    skew = witness(late, seen=KNOWN + late + timedelta(seconds=90))
    assert origin_of(KNOWN, skew, timeframe="1d") == "live"
