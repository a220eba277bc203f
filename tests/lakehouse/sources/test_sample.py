import subprocess
import sys
import warnings
from datetime import UTC, datetime

import numpy as np
import pytest

from lakehouse.clock import Clock
from lakehouse.errors import SourceError
from lakehouse.intake import take_bars
from lakehouse.sources import sample
from lakehouse.store import Lake


def test_the_sample_has_two_indices_and_two_leaders():
    found = {raw.instruments[0].symbol: raw for raw in sample.load()}
    sizes = {name: raw.bars.num_rows for name, raw in found.items()}
    assert sizes == {"SP500": 5031, "NASDAQ": 5031, "VIX": 1259, "WTI": 8321}
    leaders = {name for name, raw in found.items() if raw.instruments[0].is_leader}
    assert leaders == {"VIX", "WTI"}
    wti = found["WTI"].bars.to_pylist()[0]
    assert wti["open"] == wti["high"] == wti["low"] == wti["close"] == 25.56
    assert wti["volume"] is None
    assert wti["ts"] == datetime(1986, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("symbol", "module"), [("SP500", "sp500"), ("NASDAQ", "nasdaq")]
)
def test_bars_equal_what_arch_loads_and_close_is_unadjusted(symbol, module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import importlib

        frame = importlib.import_module(f"arch.data.{module}").load()
    [raw] = sample.load(symbols=[symbol])
    names = ["Open", "High", "Low", "Close", "Volume"]
    for name in names:
        ours = raw.bars[name.lower()].to_numpy()
        np.testing.assert_array_equal(ours, frame[name].to_numpy(dtype=np.float64))
    np.testing.assert_array_equal(frame["Close"], frame["Adj Close"])
    days = frame.index.to_numpy().astype("datetime64[us]")
    np.testing.assert_array_equal(
        raw.bars["ts"].to_numpy().astype("datetime64[us]"), days
    )


def test_the_whole_sample_is_good_and_a_demo_holds_back_the_end(tmp_path):
    lake = Lake.open(str(tmp_path), clock=Clock(sample.DEMO_NOW, "demo"))
    for raw in sample.load():
        report = take_bars(lake, raw, run_id="r")
        assert report.n_quarantined == 0
        assert report.n_held_back == sum(
            moment >= sample.DEMO_NOW for moment in raw.bars["ts"].to_pylist()
        )
    assert lake.read("quarantine").num_rows == 0


def test_what_the_sample_lacks_is_refused():
    with pytest.raises(SourceError, match="has daily bars: 1d, not '1h'"):
        sample.load(timeframe="1h")
    with pytest.raises(SourceError, match="no 'DAX'; it has SP500, NASDAQ, VIX, WTI"):
        sample.load(symbols=["DAX"])


def test_arch_is_not_imported():
    code = (
        "import sys; from lakehouse.sources import sample; list(sample.load());"
        "print('arch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
