import numpy as np

from lab.bars.gaps import find_gaps
from lab.bars.schedules import schedule


def test_a_whole_calendar_has_no_gap():
    ts = schedule("XNYS", "1d").opens[:300]
    assert find_gaps(ts, timeframe="1d", calendar="XNYS") == []
    assert find_gaps(ts[:0], timeframe="1d", calendar="XNYS") == []


def test_missing_bars_are_reported_in_runs():
    ts = schedule("24x7", "1h").opens[:100]
    kept = np.delete(ts, [10, 11, 12, 50])
    gaps = find_gaps(kept, timeframe="1h", calendar="24x7")
    assert [(gap.first, gap.last, gap.n_missing) for gap in gaps] == [
        (ts[10], ts[12], 3),
        (ts[50], ts[50], 1),
    ]
