"""Bands on real prices, and a volatility profile where there is one to find."""

import arch.data.nasdaq
import arch.data.sp500
import numpy as np
import pytest

from lab.bars.calendars import known_ts
from lab.bars.schedules import schedule
from lab.bars.series import Series
from lab.bars.timeframes import to_moment
from lab.forecasters.naive import NaiveForecaster
from lab.forecasters.registry import FORECASTERS
from lab.forecasters.seasonal import SeasonalForecaster, volatility_profile

HORIZONS = (1, 5, 20)


@pytest.fixture(scope="module")
def indices():
    found = []
    for name, data in (("SP500", arch.data.sp500), ("NASDAQ", arch.data.nasdaq)):
        frame = data.load()
        columns = [
            frame[c].to_numpy(np.float64)
            for c in ("Open", "High", "Low", "Close", "Volume")
        ]
        ts = frame.index.to_numpy().astype("datetime64[us]")
        found.append(Series(name, "1d", "XNYS", "index", ts, *columns))
    return found


def coverage(forecaster, indices, every):
    """Share of outcomes inside the 80 % band and mean pinball against persistence."""
    hits = {horizon: [] for horizon in HORIZONS}
    for one in indices:
        known = known_ts(one.ts, timeframe="1d", calendar="XNYS")
        for row in range(1000, one.n_obs - max(HORIZONS) - 1, every):
            (found,) = forecaster.forecast(
                [one], as_of=to_moment(known[row]), horizon=max(HORIZONS), n_samples=0
            )
            assert (
                found.target_ts[: max(HORIZONS)]
                == one.ts[row + 1 : row + 1 + max(HORIZONS)]
            ).all()
            for horizon in HORIZONS:
                actual = one.close[row + horizon]
                hits[horizon].append(
                    found.p10[horizon - 1] <= actual <= found.p90[horizon - 1]
                )
    return {horizon: np.mean(inside) for horizon, inside in hits.items()}


@pytest.mark.parametrize("name", sorted(FORECASTERS))
def test_the_80_percent_band_holds_on_18_years_of_two_indices(name, indices):
    for horizon, share in coverage(FORECASTERS[name](), indices, every=17).items():
        assert 0.70 <= share <= 0.90, (horizon, share)


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(FORECASTERS))
def test_the_band_holds_on_every_day(name, indices):
    for horizon, share in coverage(FORECASTERS[name](), indices, every=1).items():
        assert 0.74 <= share <= 0.88, (horizon, share)


def test_the_profile_finds_a_busy_hour_and_a_busy_day():
    rng = np.random.default_rng(0)
    slots = np.tile(np.arange(168), 40)
    size = np.where(slots % 24 == 14, 3.0, 1.0) * np.where(slots >= 120, 0.5, 1.0)
    profile = volatility_profile(
        size * rng.standard_normal(len(slots)), slots, shrinkage=10
    )
    assert profile[14] / profile[3] == pytest.approx(3, rel=0.25)
    assert profile[123] / profile[3] == pytest.approx(0.5, rel=0.25)


def test_a_flat_price_has_no_profile():
    slots = np.arange(168)
    assert (volatility_profile(np.zeros(168), slots, shrinkage=10) == 1).all()


def hour_of(ts):
    return (ts - ts.astype("datetime64[D]")) // np.timedelta64(1, "h")


def test_seasonal_knows_the_hour_that_naive_does_not():
    ts = schedule("24x7", "1h").opens[:2000]
    rng = np.random.default_rng(0)
    size = np.where(hour_of(ts) == 14, 0.03, 0.005)
    close = 100 * np.exp(np.cumsum(size * rng.standard_normal(len(ts))))
    one = Series("X", "1h", "24x7", "crypto", ts, close, close, close, close, close)
    widths = {}
    for forecaster in (NaiveForecaster(), SeasonalForecaster()):
        (found,) = forecaster.forecast(
            [one], as_of=to_moment(ts[-1] + np.timedelta64(1, "h")), horizon=24
        )
        variance = np.log(found.p90 / found.p10) ** 2
        at_14 = int(np.flatnonzero(hour_of(found.target_ts) == 14)[0])
        widths[forecaster.name] = (variance[at_14] - variance[at_14 - 1]) / variance[-1]
    assert widths["seasonal"] > 0.4
    assert widths["naive"] < 0.2
